"""`keraslm rescore`"""

from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Annotated, Any, Literal

from cyclopts import Parameter

from keraslm.commands.flags import (
    Errors,
    OptionalInteger,
    Others,
    Progress,
    Provider,
    Switch,
    TextName,
    print_note,
    shows_progress,
)
from keraslm.errors import UsageError

Numbers = Annotated[str, Parameter(allow_leading_hyphen=True)]  # -1,0,1


def rescore(
    model: Path,
    nbest: TextName | None = None,
    /,
    *,
    format: Literal["tsv", "csv", "raw", "kaldi", "jsonl"] = "tsv",
    score_columns: OptionalInteger = None,
    scores: Annotated[tuple[str, ...] | None, Parameter(negative="", consume_multiple=True)] = None,
    best: Switch = False,
    weight: float = 1.0,
    word_penalty: float = 0.0,
    scales: Numbers | None = None,
    interpolate: str | None = None,
    mix: float = 0.5,
    base: Literal["e", "2", "10"] = "e",
    name: str = "lm_logprob",
    references: str | None = None,
    tune: Switch = False,
    weights: Numbers = "0:2:0.1",
    word_penalties: Numbers = "-2:2:0.5",
    others: Others = (),
    output: Path | None = None,
    provider: Provider = "auto",
    errors: Errors = "strict",
    encoding: str = "utf-8",
    progress: Progress = "auto",
) -> None:
    """Score n-best lists, choose the best hypotheses, or tune the weights; common beginnings are computed once.

    keraslm rescore model.onnx lists.tsv.gz --output scored.tsv

    keraslm rescore model.onnx lists.tsv --best --weight 0.7

    keraslm rescore model.onnx dev.tsv --references dev.txt --tune

    Prints each row with the model's log-probability of the text and its end as an additional score. With --best, prints
    each utterance and the hypothesis with the largest total: sum of scale * first-pass score + weight * LM score + word
    penalty * words. With --references, prints a table of word errors. Texts are not changed.

    Parameters
    ----------
    model
        Model file written by keraslm export.
    nbest
        n-best lists, plain or compressed. Default or -: standard input.
    format
        tsv, csv: utterance, scores, text, separated by tabs or commas. raw: tsv without quotes around cells that
        contain quotation marks. kaldi: utterance-k text. jsonl: {"utterance": ..., "hypotheses": [{"text": ...,
        "scores": {...}}]}, or one hypothesis per line.
    score_columns
        Number of scores per row of a table. Default: that of the first row.
    scores
        Files of Kaldi's costs (utterance-k number), one per score; costs count negatively.
    best
        Print the best hypothesis of each utterance.
    weight
        Weight of the LM score.
    word_penalty
        Added per word; below 0 it favours short hypotheses.
    scales
        Factor of each first-pass score, such as 1,0.5. Default: 1 for each.
    interpolate
        Name, or number from 1, of the first-pass score to interpolate the LM score with: (1 - mix) * old + mix *
        log-probability. It no longer counts as a first-pass score.
    mix
        Share of the model in the interpolation, 0 to 1.
    base
        Base of the logarithm of the model's scores.
    name
        Name of the new score, if scores have names.
    references
        References: utterance and text per line. Prints word error rates of the first pass, the oracle and the rescored
        lists.
    tune
        Search the grid of --weights and --word-penalties for the fewest word errors, and print the grid.
    weights
        Weights to try: first:last:step, or numbers separated by commas.
    word_penalties
        Word penalties to try.
    others
        Another model file with the same tokenizer, to average probabilities with; may be repeated.
    output
        File to write instead of standard output, gzip if its name ends with .gz. It appears when it is complete.
    provider
        Where onnxruntime computes. auto: CUDA if available, else the CPU.
    errors
        Invalid bytes. strict: stop with file:line:byte; replace: read U+FFFD and count the lines.
    encoding
        Encoding of all files, such as latin-1, cp1252, gb18030 or utf-16.
    progress
        auto: show progress on standard error if it is a terminal without rows on it; none: never.
    """
    from keraslm.report.writer import opened_output
    from keraslm.rescoring import rescore as room
    from keraslm.system.backend import require
    from keraslm.system.outputs import check_outputs
    from keraslm.system.progress import progress as shown_progress
    from keraslm.text.files import TextFile, replaced_note
    from keraslm.text.paths import STDIN, find_file

    if tune and not references:
        raise UsageError("--tune counts word errors: add --references FILE.")
    if best and references:
        raise UsageError("--best prints hypotheses and --references a table: leave out one of them.")
    if nbest is None and scores:
        raise UsageError("--scores takes every file that follows it: name the n-best list before it.")
    nbest = STDIN if nbest is None else nbest
    read = [model, *others, nbest, *(scores or ()), *([references] if references else ())]
    check_outputs({"output": output}, read)
    if references:
        require("jiwer", extra="wer", purpose="Counting word errors")
    file = TextFile(find_file(nbest), errors, encoding)
    said = TextFile(find_file(references), errors, encoding) if references else None
    tried = [(w, p) for w in _numbers("--weights", weights) for p in _numbers("--word-penalties", word_penalties)]
    found = room.rescore(
        [model, *others],
        file,
        format=format,
        score_columns=score_columns,
        scores=scores,
        weight=weight,
        word_penalty=word_penalty,
        scales=_numbers("--scales", scales or ""),
        interpolate=interpolate,
        mix=mix,
        base=base,
        provider=provider,
        errors=errors,
        encoding=encoding,
    )
    prints = output is None and said is None
    with shown_progress("rescoring", shows_progress(progress, [file], prints), file) as count:
        counted = count(found, tokens=lambda each: each.tokens, lines=lambda each: len(each.hypotheses))
        if said:
            points = tried if tune else [(weight, word_penalty)]
            rows: Iterator[str] = map(_writer(format), _error_rows(counted, said, points, tune))
        else:
            rows = _rows(counted, format, name, best)
        with opened_output(output) as out:
            for row in rows:
                print(row, file=out, flush=nbest == STDIN)
    if file.replaced:
        print_note(replaced_note(file.name, file.replaced))


def _rows(found: Any, format: str, name: str, best: bool) -> Iterator[str]:
    from keraslm.rescoring.nbest import best_row, scored_rows

    header = format not in ("kaldi", "jsonl")
    for number, each in enumerate(found):
        names = each.hypotheses[0].names
        if best:
            yield best_row(each.best, float(each.totals.max()), format)
            continue
        if header and names and number == 0:
            yield _writer(format)(["utterance", *names, name, "text"])
        yield from scored_rows(each.hypotheses, each.logprobs, format, name)


def _error_rows(found: Any, references: Any, points: list[tuple[float, float]], tune: bool) -> Iterator[list[str]]:
    from keraslm.rescoring.word_errors import ListErrors, error_rows, read_references

    errors = ListErrors(read_references(references))
    for each in found:
        errors.add(each)
    if errors.missing:
        note = f"{errors.missing} utterances have no hypotheses and are not counted"
        print_note(f"{references.name}: {note}")
    yield from error_rows(errors, points, tune)


def _writer(format: str) -> Callable[[Iterable[str]], str]:
    from keraslm.text.rows import ROW_FORMATS, row_writer

    return row_writer(format if format in ROW_FORMATS else "tsv")


def _numbers(flag: str, text: str) -> tuple[float, ...]:
    """`"0:1:0.5"` or `"0,0.5,1"` as numbers."""
    try:
        if ":" not in text:
            return tuple(float(part) for part in text.split(",")) if text else ()
        first, last, step = (float(part) for part in text.split(":"))
        count = round((last - first) / step * (1 + 1e-9)) if step else -1
        if not 0 <= count <= 10_000:
            raise ValueError
        return tuple(round(first + number * step, 10) for number in range(count + 1))
    except (ValueError, OverflowError):
        raise UsageError(f"{flag} {text}: expected numbers separated by commas, or first:last:step.") from None
