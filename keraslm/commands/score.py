"""`keraslm score`"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from cyclopts import Parameter

from keraslm.commands.flags import Integer, OptionalInteger, Others, TextName
from keraslm.errors import UsageError

if TYPE_CHECKING:
    from keraslm.pictures.page import HtmlReport
    from keraslm.pictures.plot import SurprisalPlot
    from keraslm.report.options import ScoreOptions
    from keraslm.scoring.scorer import Scorer
    from keraslm.text.files import TextFile


def score(
    model: Path,
    /,
    *files: TextName,
    level: Literal["token", "word", "sentence", "summary"] = "token",
    format: Annotated[Literal["tsv", "jsonl", "kenlm", "srilm"], Parameter(name="--format")] = "tsv",
    columns: str | None = None,
    base: Literal["2", "e", "10"] | None = None,
    unk: Literal["include", "exclude"] = "include",
    spaces: Literal["before", "after"] = "before",
    context: Literal["sentence", "paragraph", "document"] = "sentence",
    lines_ahead: Integer = 4096,
    others: Others = (),
    output: Path | None = None,
    html: Path | None = None,
    plot: Path | None = None,
    workers: OptionalInteger = None,
    scheduler: str | None = None,
    resume: Annotated[bool, Parameter(negative="")] = False,
    overwrite: Annotated[bool, Parameter(negative="")] = False,
    gzip: Annotated[bool, Parameter(negative="")] = False,
    signature: Annotated[bool, Parameter(negative="")] = False,
    provider: Literal["cpu", "cuda", "auto"] = "auto",
    errors: Literal["strict", "replace"] = "strict",
    as_json: Annotated[bool, Parameter(name="--json", negative="")] = False,
) -> None:
    """Score text with a model file: log-probability and surprisal of each token, word or line.

    Prints tab-separated rows with a header: logprob in nats, surprisal in bits, ids counted from 1 over all files.
    Every line has its rows, blank ones too (its end symbol alone).

    Parameters
    ----------
    model
        Model file, as keraslm export writes it.
    files
        Texts, one sentence a line, plain or compressed (gz, bz2, xz, zst); - or none reads standard input.
    level
        A row a token, a row a word (between white space), a row a line, or one summary of everything.
    format
        A table as tsv or jsonl; kenlm writes what its query does, srilm what ngram -ppl -debug does.
    columns
        Of the table, with commas between. token: sentence_id, token_id, token, id, logprob, surprisal, rank, entropy,
        entropy_reduction, oov, start, end. word: sentence_id, word_id, word, tokens, logprob, surprisal, oov, start,
        end. sentence: sentence_id, tokens, oovs, words, characters, bytes, logprob, surprisal, perplexity,
        bits_per_character, bits_per_byte.
    base
        Of every logarithm. Default: log-probabilities in nats, surprisal and entropy in bits.
    unk
        exclude leaves the tokens of unknown words out of sums and counts; their rows stay, without a number.
    spaces
        To which word the space between two belongs: before the second, as subword tokenizers write it, or after the
        first, the correction of Pimentel and Meister 2024 (--level word).
    context
        sentence starts each line from nothing; document carries the state from line to line, through each file;
        paragraph does so up to the next blank line.
    lines_ahead
        Number of lines read ahead and scored side by side. Use 1 for interactive input.
    others
        Another model file with the same tokenizer; may be given more than once. Scored is the mean of the probabilities
        that all of them give.
    output
        File for the scores instead of standard output; compressed if its name ends with .gz. It appears when it is
        whole. With --workers or --scheduler: folder in which each text has a file of scores.
    html
        Write a page as well that shows the text coloured by surprisal.
    plot
        Write a picture of surprisal as well, e.g. surprisal.png.
    workers
        Processes that score the texts side by side, each text into a file of its own in --output.
    scheduler
        Address of a Dask scheduler whose workers do that instead, e.g. tcp://host:8786.
    resume
        Leave out the texts in --output that are finished.
    overwrite
        Replace scores in --output that were made before.
    gzip
        Compress the files in --output.
    signature
        Say on standard error, and in a summary, by which model, tokenizer and settings the scores were made.
    provider
        Where onnxruntime computes; auto takes CUDA where it is there.
    errors
        Invalid UTF-8: strict stops with file:line:byte; replace goes on with U+FFFD, counts, and keeps the rows.
    as_json
        Print the summary as one JSON object.
    """
    from keraslm.report.options import ScoreOptions

    if as_json and level != "summary":
        raise UsageError("--json prints the summary: add --level summary. Rows as JSON: --format jsonl.")
    options = ScoreOptions(
        level=level,
        format="jsonl" if as_json else format,
        columns=None if columns is None else tuple(name.strip() for name in columns.split(",")),
        base=base,
        unk=unk,
        context=context,
        lines_ahead=lines_ahead,
        spaces=spaces,
        signature=signature,
    )
    if workers is not None or scheduler is not None:
        if output is None:
            raise UsageError("--workers and --scheduler score each text into a file of its own: add --output FOLDER.")
        if html or plot:
            raise UsageError("--html and --plot show one text: leave out --workers and --scheduler.")
        count = 1 if workers is None else workers
        _in_bulk([model, *others], files, output, options, count, scheduler, resume, overwrite, gzip, errors, provider)
    elif resume or overwrite or gzip:
        raise UsageError("--resume, --overwrite and --gzip belong to --workers or --scheduler.")
    else:
        _one_after_the_other([model, *others], files, output, options, html, plot, errors, provider)


def _one_after_the_other(
    models: Sequence[Path],
    files: Sequence[str],
    output: Path | None,
    options: ScoreOptions,
    html: Path | None,
    plot: Path | None,
    errors: str,
    provider: str,
) -> None:
    from keraslm.report.writer import opened_output, signature, write_scores
    from keraslm.scoring.scorer import load
    from keraslm.system.atomic import checked_place
    from keraslm.text.files import STDIN, TextFile

    for path in (html, plot):
        checked_place(path)
    texts = [TextFile(name, errors) for name in files or (STDIN,)]
    scorer = load(models[0], provider, others=models[1:])
    pictures = _pictures(scorer, texts[0].name, options, html, plot)
    at_once = any(text.path == STDIN for text in texts)  # whoever feeds it may be waiting for the answer
    lines = chain.from_iterable(chain(text, [None]) for text in texts)
    with opened_output(output) as out:
        watchers = [picture.add for picture in pictures.values()]
        write_scores(scorer, lines, options, out, at_once and output is None, watchers, texts[0].name)
    for path, picture in pictures.items():
        picture.write(path)
        if note := getattr(picture, "note", ""):
            print(f"keraslm: {note}", file=sys.stderr)
    if options.signature:
        print(f"keraslm: signature {signature(scorer, options)}", file=sys.stderr)
    _say_replaced(texts)


def _pictures(
    scorer: Scorer, title: str, options: ScoreOptions, html: Path | None, plot: Path | None
) -> dict[Path, HtmlReport | SurprisalPlot]:
    from keraslm import __version__

    found: dict[Path, HtmlReport | SurprisalPlot] = {}
    if html:
        from keraslm.pictures.page import HtmlReport

        members = scorer.session.members
        names, digests = (" + ".join(each) for each in zip(*((m.path.name, m.digest) for m in members), strict=True))
        facts = {"model": names, "sha256": digests, "context": options.context}
        found[html] = HtmlReport(scorer.tokenizer, title, facts | {"keraslm": __version__})
    if plot:
        from keraslm.pictures.plot import SurprisalPlot

        found[plot] = SurprisalPlot(scorer.tokenizer, title)
    return found


def _in_bulk(
    models: Sequence[Path],
    files: Sequence[str],
    output: Path,
    options: ScoreOptions,
    workers: int,
    scheduler: str | None,
    resume: bool,
    overwrite: bool,
    gzip: bool,
    errors: str,
    provider: str,
) -> None:
    from keraslm.bulk.driver import score_files

    result = score_files(
        models[0],
        files,
        output,
        options,
        workers=workers,
        resume=resume,
        overwrite=overwrite,
        scheduler=scheduler,
        gzip=gzip,
        errors=errors,
        provider=provider,
        others=models[1:],
        log=lambda sentence: print(f"keraslm: {sentence}", file=sys.stderr),
    )
    result.check()


def _say_replaced(texts: Sequence[TextFile]) -> None:
    for text in texts:
        if text.replaced:
            print(f"keraslm: {text.name}: {text.replaced} lines held invalid UTF-8, read as U+FFFD", file=sys.stderr)
