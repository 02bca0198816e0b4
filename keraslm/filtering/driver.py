"""Documents through a filter: read, scored in batches, judged in order, written."""

from __future__ import annotations

import math
import time
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from keraslm import arguments
from keraslm.bulk.batches import costs_in_order
from keraslm.config import user_path
from keraslm.errors import KeraslmError
from keraslm.filtering.criteria import ALL, Criteria, Rule, Scores
from keraslm.filtering.documents import Document, Documents
from keraslm.filtering.outputs import Outputs
from keraslm.filtering.result import FilterResult
from keraslm.perplexity import TextCost
from keraslm.pictures.histogram import draw_histogram
from keraslm.scoring.batching import blocks
from keraslm.scoring.opening import read_model
from keraslm.system import Log
from keraslm.system.backend import require
from keraslm.system.outputs import check_outputs
from keraslm.system.processes import ProcessDiedError
from keraslm.system.progress import progress
from keraslm.system.signals import ended_by_sigterm
from keraslm.text.files import ERRORS, TextFiles, replaced_note
from keraslm.text.paths import STDIN

BATCH = 256  # documents in a batch, at most; `keraslm.scoring.batching` bounds its characters, too
GROWTH = 8  # from 1 document in the first batch, so that a slow stream is answered at once


@dataclass(frozen=True)
class Judged:
    """A document, its scores (None if its text is missing), and whether and in which bucket it is kept."""

    document: Document
    scores: Scores | None
    kept: bool
    bucket: str


Scored = tuple[Document, Scores | None]


def filter_documents(
    models: str | Path | Sequence[str | Path],
    files: Sequence[str | Path],
    output: str | Path | None = None,
    criteria: Criteria = ALL,
    *,
    field: str = "text",
    input_format: str = "auto",
    paragraphs: bool = False,
    format: str | None = None,
    label: str | None = None,
    histogram: str | Path | None = None,
    workers: int = 1,
    scheduler: str | None = None,
    errors: str = "strict",
    encoding: str = "utf-8",
    provider: str = "auto",
    seen: Callable[[Judged], None] = lambda _: None,
    show: bool = False,
    log: Log = lambda _: None,
) -> FilterResult:
    """Filter documents, or divide them into buckets, by their perplexity; what is written does not depend on `workers`.

    A document is scored from the start of a text, its state carried through all of its lines, as by
    `Scorer.score_texts`. Documents are read and written in order, in memory that does not grow with their number.

    Args:
        models: path of the model file, or of several with the same tokenizer, whose probabilities are averaged.
        files: texts, folders, patterns, or `"-"`, standard input.
        output: file, compressed if its name ends in .gz, which appears when it is complete; with `{bucket}` in its
            name, one file per bucket. None: standard output.
        criteria: what is kept.
        field, input_format, paragraphs: see `keraslm.filtering.documents.Documents`.
        format: of the output; None means that of the input.
        label: is put before the names of added fields, with an underscore.
        histogram: picture of the perplexities, PNG.
        workers: processes on this machine, each with one session on one thread; 1 is this process.
        scheduler: use the workers of the Dask scheduler at this address, such as `"tcp://host:8786"`.
        errors: `"strict"` or `"replace"`, for invalid bytes.
        encoding: of the texts.
        provider: `"cpu"`, `"cuda"` or `"auto"`.
        seen: called with each document, in order, after it is written.
        show: show progress on standard error if it is a terminal.
        log: called with one line of text per remark.

    Returns:
        counts, thresholds and the distribution of perplexity.

    Raises:
        UsageError: settings that contradict each other, or an output that would overwrite an input.
        TextError: documents that cannot be read, with file and line; those before it are written first.
        ModelFileError: a model cannot be used.
        KeraslmError: processes died, or the output cannot be written.

    Example:
        >>> result = filter_documents("model.onnx", ["docs.jsonl.gz"], "good.jsonl.gz", Criteria(max_perplexity=300))
        >>> result.documents, result.kept, result.missing
        (5000, 3817, 12)
    """
    start = time.monotonic()
    arguments.integer(workers, "workers", 1)
    arguments.choice(errors, "errors", ERRORS)
    arguments.instance(criteria, Criteria, "criteria", "Criteria")
    paths = [user_path(path).absolute() for path in arguments.paths(models, "models")]
    files = arguments.paths(files, "files")
    place, picture = (None if path is None else user_path(path) for path in (output, histogram))
    arguments.not_empty(models=paths, files=files or None, output=output, histogram=histogram, label=label)
    if picture:
        require("matplotlib", extra="plot", purpose="`histogram`")
    texts = TextFiles(files or (STDIN,), errors, encoding)
    for note in texts.notes:
        log(note)
    for text in texts.files:
        text.check()
    documents = Documents(texts.files, input_format, field, paragraphs)
    outputs = Outputs(documents, place, format, label, criteria)
    check_outputs({**outputs.named, "histogram": picture}, [*paths, *(text.path for text in texts.files)])
    opened = tuple((path, read_model(path)[1]) for path in paths)
    scored = _scored(documents, lambda batches: costs_in_order(opened, batches, provider, workers, scheduler))
    with ended_by_sigterm(), closing(scored), progress("filtering", show, texts) as count:
        counted = count(scored, tokens=_tokens, lines=len)
        result = _filter(counted, criteria, outputs, seen)
    result.seconds = time.monotonic() - start
    for text in texts.files:
        if text.replaced:
            log(replaced_note(text.name, text.replaced))
    for line in result.lines():
        log(line)
    if picture:
        draw_histogram(picture, *result.perplexities.histogram(), result.rule.marks())
    return result


def _tokens(batch: list[Scored]) -> int:
    return sum(scores.tokens for _, scores in batch if scores)


def _filter(
    scored: Iterator[list[Scored]], criteria: Criteria, outputs: Outputs, seen: Callable[[Judged], None]
) -> FilterResult:
    with outputs.opened() as sink:
        rule, batches = _with_rule(criteria, scored)
        result = FilterResult(rule)
        for batch in batches:
            for document, scores in batch:
                kept = scores is not None and rule.keeps(scores)
                bucket = rule.bucket_of(scores) if scores and kept else ""
                if scores and kept:
                    sink.write(document.record, scores, bucket)
                result.add(scores, kept, bucket)
                seen(Judged(document, scores, kept, bucket))
            if outputs.at_once:
                sink.flush()
    return result


def _with_rule(criteria: Criteria, scored: Iterator[list[Scored]]) -> tuple[Rule, Iterator[list[Scored]]]:
    """The rule, for which the sample is read if it needs one, and all documents."""
    ahead: deque[list[Scored]] = deque()
    sample: list[Scores] = []
    while criteria.needs_sample and len(sample) < criteria.sample and (batch := next(scored, None)):
        ahead.append(batch)
        sample += [scores for _, scores in batch if scores]

    def replayed() -> Iterator[list[Scored]]:
        while ahead:
            yield ahead.popleft()
        yield from scored

    return criteria.rule(sample[: criteria.sample]), replayed()


def _scored(
    documents: Iterable[Document], costs_of: Callable[[Iterator[list[str]]], Iterator[list[TextCost]]]
) -> Generator[list[Scored], None, None]:
    """Batches of documents with their scores, in order; an error of reading is raised after those before it."""
    waiting: deque[list[Document]] = deque()
    failures: list[KeraslmError] = []

    def batches() -> Iterator[list[str]]:
        try:
            for batch in blocks(documents, BATCH, GROWTH, lambda document: [document.text]):
                waiting.append(batch)
                yield [document.text for document in batch if document.text]
        except KeraslmError as error:
            failures.append(error)

    try:
        for costs in costs_of(batches()):
            found = iter(costs)
            yield [
                (document, _scores(document, next(found)) if document.text else None) for document in waiting.popleft()
            ]
    except ProcessDiedError as error:
        first, *more = waiting[0]
        what = f"the {len(more) + 1} documents from here on" if more else "this document"
        raise KeraslmError(f"{first.record.where}: {what} cannot be scored. {error}") from error
    for failure in failures:
        raise failure


def _scores(document: Document, cost: TextCost) -> Scores:
    if math.isnan(cost.nats):
        raise KeraslmError(f"{document.record.where}: the model gives NaN instead of a probability. Export it again.")
    return Scores.of(cost)
