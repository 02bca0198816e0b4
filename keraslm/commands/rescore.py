"""`keraslm rescore`"""

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, Literal

from cyclopts import Parameter

from keraslm.commands.flags import OptionalInteger, Others, TextName
from keraslm.errors import UsageError

Numbers = Annotated[str, Parameter(allow_leading_hyphen=True)]  # -1,0,1


def rescore(
    model: Path,
    nbest: TextName = "-",
    /,
    *,
    format: Literal["tsv", "kaldi", "jsonl"] = "tsv",
    score_columns: OptionalInteger = None,
    scores: Annotated[tuple[str, ...] | None, Parameter(negative="", consume_multiple=True)] = None,
    best: Annotated[bool, Parameter(negative="")] = False,
    weight: float = 1.0,
    word_penalty: float = 0.0,
    scales: Numbers | None = None,
    interpolate: str | None = None,
    mix: float = 0.5,
    base: Literal["e", "2", "10"] = "e",
    name: str = "lm_logprob",
    references: str | None = None,
    tune: Annotated[bool, Parameter(negative="")] = False,
    weights: Numbers = "0:2:0.1",
    word_penalties: Numbers = "-2:2:0.5",
    others: Others = (),
    output: Path | None = None,
    provider: Literal["cpu", "cuda", "auto"] = "auto",
    errors: Literal["strict", "replace"] = "strict",
) -> None:
    """Score n-best lists: what hypotheses of an utterance have in common at their start is computed once.

    keraslm rescore model.onnx lists.tsv.gz --output scored.tsv

    keraslm rescore model.onnx lists.tsv --best --weight 0.7

    keraslm rescore model.onnx dev.tsv --references dev.txt --tune

    Prints each row with the model's log-probability of the text and its end as one more score. With --best, prints each
    utterance and the hypothesis with the largest total: sum of scales * first-pass scores, + weight * LM score, + word
    penalty * words. With --references, prints a table of word errors instead. Texts are taken as they are.

    Parameters
    ----------
    model
        Model file, as keraslm export writes it.
    nbest
        The lists, plain or compressed; - or none reads standard input.
    format
        tsv: utterance, scores, text, tabs between them. kaldi: utterance-k text. jsonl: {"utterance": ...,
        "hypotheses": [{"text": ..., "scores": {...}}]}, or one hypothesis a line.
    score_columns
        Scores in a row of tsv; not given, as many as in the first row.
    scores
        Files of kaldi's costs (utterance-k number), one for each score; costs count negatively.
    best
        Print the best hypothesis of each utterance.
    weight
        Of the LM score.
    word_penalty
        Added for each word; below 0 it favours short hypotheses.
    scales
        Factors of the first-pass scores, one each: 1,0.5; 1 each when not given.
    interpolate
        First-pass score, by name or by number from 1, that the LM score is interpolated with: (1 - mix) * old + mix *
        log-probability. It no longer counts as a first-pass score then.
    mix
        Share of the model in it.
    base
        Of the logarithm of the model's scores.
    name
        Of the new score, where scores have names.
    references
        What was said: utterance and text. Prints word error rates of first pass, oracle, and rescored lists.
    tune
        Search the grid of --weights and --word-penalties for the fewest word errors, and print it.
    weights
        To try: first:last:step, or numbers with commas between them.
    word_penalties
        To try.
    others
        Another model file with the same tokenizer; may be given more than once. Scored is the mean of the probabilities
        that all of them give.
    output
        File to write instead of printing, gzip where its name ends with .gz; it appears when it is whole.
    provider
        Where onnxruntime computes; auto takes CUDA where it is there.
    errors
        Invalid UTF-8: strict stops with file:line:byte; replace goes on with U+FFFD, and counts.
    """
    from keraslm.report.output import opened_output
    from keraslm.rescoring.nbest import read_nbest
    from keraslm.rescoring.rescore import Weighting, score_lists
    from keraslm.scoring.scorer import load
    from keraslm.system.atomic import checked_place
    from keraslm.text.files import TextFile

    if tune and not references:
        raise UsageError("--tune counts word errors: add --references FILE.")
    if best and references:
        raise UsageError("--best prints hypotheses and --references a table: leave one of them out.")
    checked_place(output)
    weighting = Weighting(weight, word_penalty, _numbers("--scales", scales or ""), interpolate, mix)
    points = [(w, p) for w in _numbers("--weights", weights) for p in _numbers("--word-penalties", word_penalties)]
    file = TextFile(nbest, errors)
    lists = read_nbest(file, format, score_columns, [TextFile(path, errors) for path in scores or ()])
    if references:
        from keraslm.system.backend import require

        require("jiwer", extra="wer", purpose="Counting word errors")
    scored = score_lists(load([model, *others], provider), lists, base)
    if references:
        rows = _error_rows(scored, weighting, TextFile(references, errors), points if tune else [])
    else:
        rows = _best_rows(scored, weighting, format) if best else _scored_rows(scored, format, name)
    with opened_output(output) as out:
        for row in rows:
            print(row, file=out, flush=nbest == "-")
    if file.replaced:
        print(f"keraslm: {file.name}: {file.replaced} lines held invalid UTF-8, read as U+FFFD", file=sys.stderr)


def _scored_rows(scored: Any, format: str, name: str) -> Iterator[str]:
    from keraslm.rescoring.nbest import scored_rows

    header = format == "tsv"
    for utterance, scores in scored:
        if header and utterance[0].names:
            yield "\t".join(["utterance", *utterance[0].names, name, "text"])
        header = False
        yield from scored_rows(utterance, scores, format, name)


def _best_rows(scored: Any, weighting: Any, format: str) -> Iterator[str]:
    from keraslm.rescoring.nbest import best_row
    from keraslm.rescoring.rescore import parts

    for utterance, scores in scored:
        totals = parts(utterance, scores, weighting).totals(weighting.weight, weighting.word_penalty)
        chosen = int(totals.argmax())
        yield best_row(utterance[chosen], float(totals[chosen]), format)


def _error_rows(scored: Any, weighting: Any, file: Any, points: list[tuple[float, float]]) -> Iterator[str]:
    from keraslm.rescoring import word_errors
    from keraslm.rescoring.rescore import parts

    references, lists = word_errors.read_references(file), word_errors.ListErrors()
    for utterance, scores in scored:
        lists.add(utterance, parts(utterance, scores, weighting), references)
    if len(lists) < len(references):
        missing = len(references) - len(lists)
        print(f"keraslm: {file.name}: {missing} utterances have no hypotheses and are not counted", file=sys.stderr)

    def row(setting: str, weight: str, penalty: str, found: Any) -> str:
        counts = f"{found.errors}\t{found.substitutions}\t{found.deletions}\t{found.insertions}\t{found.words}"
        return f"{setting}\t{weight}\t{penalty}\t{100 * found.rate:.2f}\t{counts}"

    yield "setting\tweight\tword_penalty\twer\terrors\tsubstitutions\tdeletions\tinsertions\twords"
    yield row("first-pass", "-", "-", lists.first_pass())
    yield row("oracle", "-", "-", lists.oracle())
    found = word_errors.grid(lists, points or [(weighting.weight, weighting.word_penalty)])
    weight, penalty, errors = word_errors.best_setting(found)
    yield row("best" if points else "rescored", f"{weight:g}", f"{penalty:g}", errors)
    if points:
        yield from (row("grid", f"{weight:g}", f"{penalty:g}", errors) for weight, penalty, errors in found)


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
        raise UsageError(
            f"{flag} {text}: numbers with commas between them, or first:last:step, are expected."
        ) from None
