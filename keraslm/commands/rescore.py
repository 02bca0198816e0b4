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
    Separator,
    Switch,
    TextName,
    print_note,
    shows_progress,
)
from keraslm.commands.mixing import NO_NGRAM, MixingFlags, Opening, open_scorer, print_known
from keraslm.commands.rescore_errors import NO_COUNTING, Counting, ErrorFlags, Numbers, error_table, numbers
from keraslm.errors import UsageError


def rescore(
    model: Path,
    nbest: TextName | None = None,
    /,
    *,
    format: Literal["tsv", "csv", "raw", "kaldi", "moses", "jsonl"] = "tsv",
    score_columns: OptionalInteger = None,
    scores: Annotated[tuple[str, ...] | None, Parameter(negative="", consume_multiple=True)] = None,
    best: Switch = False,
    weight: float | None = None,
    word_penalty: float | None = None,
    scales: Numbers | None = None,
    interpolate: str | None = None,
    mix: float | None = None,
    unit: Literal["word", "char"] = "word",
    base: Literal["e", "2", "10"] = "e",
    prefixes: str | None = None,
    context: Literal["sentence", "paragraph", "document"] = "sentence",
    separator: Separator = " ",
    eos: bool = True,
    name: str | None = None,
    others: Others = (),
    output: Path | None = None,
    provider: Provider = "auto",
    errors: Errors = "strict",
    encoding: str = "utf-8",
    progress: Progress = "auto",
    mixing: MixingFlags = NO_NGRAM,
    counting: Counting = NO_COUNTING,
) -> None:
    """Score n-best lists, choose the best hypotheses, or tune the weights; common beginnings are computed once.

    keraslm rescore model.onnx lists.tsv.gz --output scored.tsv

    keraslm rescore model.onnx lists.tsv --best --weight 0.7

    keraslm rescore model.onnx dev.tsv --references dev.txt --tune

    Prints each row with the model's log-probability of the text and its end as an additional score. With --best, prints
    each utterance and the hypothesis with the largest total: sum of scale * first-pass score + weight * LM score + word
    penalty * words. With --references, prints a table of errors. Texts are not changed.

    Parameters
    ----------
    model
        Model file written by keraslm export.
    nbest
        n-best lists, plain or compressed. Default or -: standard input.
    format
        tsv, csv: utterance, scores, text, separated by tabs or commas. raw: tsv without quotes around cells that
        contain quotation marks. kaldi: utterance-k text. moses: id ||| text ||| features ||| total. jsonl:
        {"utterance": ..., "hypotheses": [{"text": ..., "scores": {...}}]}, or one hypothesis per line.
    score_columns
        Number of scores per row of a table. Default: that of the first row.
    scores
        Files of Kaldi's costs (utterance-k number), one per score; costs count negatively.
    best
        Print the best hypothesis of each utterance.
    weight
        Weight of the LM score. Default: 1.
    word_penalty
        Added per word, or per character with --unit char; below 0 it favours short hypotheses. Default: 0.
    scales
        Factor of each first-pass score, such as 1,0.5. Default: 1 for each.
    interpolate
        Name, or number from 1, of the first-pass score to interpolate the LM score with: (1 - mix) * old + mix *
        log-probability. It no longer counts as a first-pass score.
    mix
        Share of the model in the interpolation, 0 to 1. Default: 0.5.
    unit
        What the word penalty and errors count: words between white space, or characters without white space.
    base
        Base of the logarithm of the model's scores.
    prefixes
        Prefixes: utterance and text per line. Each text is scored after the prefix of its utterance.
    context
        How far the state is carried. sentence: a prefix is the beginning of the line that the text continues. document:
        a prefix is the line before, such as the previous sentence of a recording. paragraph: the same, up to a blank
        line.
    separator
        Between the beginning of a line and the text that continues it, unless there is white space. Default: a blank.
    eos
        Score the end symbol after each text.
    name
        Name of the new score, if scores have names. Default: lm_logprob, or KerasLM0 for moses.
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
    from keraslm.rescoring.nbest import check_options, score_name
    from keraslm.system.outputs import check_outputs
    from keraslm.system.progress import progress as shown_progress
    from keraslm.text.files import TextFile, replaced_note
    from keraslm.text.paths import STDIN, find_file

    if best and counting.references:
        raise UsageError("--best prints hypotheses and --references a table: leave out one of them.")
    if nbest is None and scores:
        raise UsageError("--scores takes every file that follows it: name the n-best list before it.")
    counting.check()
    combination: dict[str, Any] = {"weight": weight, "word_penalty": word_penalty, "mix": mix}
    combination |= {"scales": numbers("--scales", scales) if scales else None, "interpolate": interpolate}
    combination = {flag: value for flag, value in combination.items() if value is not None}
    _check_combination(combination, best, counting)
    check_options(format, score_columns, scores or ())
    grid = counting.grid() if counting.tune else []
    nbest, name = find_file(STDIN if nbest is None else nbest), score_name(name, format)
    references = counting.references and find_file(counting.references)
    prefixes, scores = prefixes and find_file(prefixes), scores and tuple(map(find_file, scores))
    texts = [text for text in (nbest, references, prefixes, *(scores or ())) if text]
    check_outputs({"output": output}, [model, *others, *mixing.files, *texts])
    file = TextFile(nbest, errors, encoding)
    said = TextFile(references, errors, encoding) if references else None
    models = [model, *others]
    scorer = open_scorer(models, mixing, Opening(provider, errors, encoding, context)) if mixing.ngram else None
    found = room.rescore(
        scorer or models,
        file,
        format=format,
        score_columns=score_columns,
        scores=scores,
        unit=unit,
        base=base,
        prefixes=prefixes,
        context=context,
        separator=separator,
        eos=eos,
        provider=provider,
        errors=errors,
        encoding=encoding,
        **combination,
    )
    prints = output is None and said is None
    with shown_progress("rescoring", shows_progress(progress, [file], prints), file) as count:
        counted = count(found, tokens=lambda each: each.tokens, lines=lambda each: len(each.hypotheses))
        if said:
            own = room.Weighting(**combination)
            points = grid or [(own.weight, own.word_penalty)]
            rows: Iterator[str] = map(_writer(format), error_table(counted, said, unit, points, counting))
        else:
            rows = _rows(counted, format, name, best)
        with opened_output(output) as out:
            for row in rows:
                print(row, file=out, flush=nbest == STDIN)
    if file.replaced:
        print_note(replaced_note(file.name, file.replaced))
    print_known(scorer)


def _check_combination(combination: dict[str, Any], best: bool, counting: ErrorFlags) -> None:
    """Raise a `UsageError` for flags that combine scores where no scores are combined."""
    flags = [f"--{name.replace('_', '-')}" for name in combination]
    if flags and not (best or counting.references):
        raise UsageError(f"{flags[0]} combines the scores of a hypothesis: add --best or --references FILE.")
    if "mix" in combination and "interpolate" not in combination:
        raise UsageError("--mix is the share of the model in an interpolation: add --interpolate COLUMN.")
    if counting.tune and (tuned := {"--weight", "--word-penalty"} & {*flags}):
        raise UsageError(f"--tune tries a grid of weights and word penalties: leave out {min(tuned)}.")


def _rows(found: Any, format: str, name: str, best: bool) -> Iterator[str]:
    from keraslm.rescoring.nbest import best_row, scored_rows

    header = format not in ("kaldi", "moses", "jsonl")
    for number, each in enumerate(found):
        names = each.hypotheses[0].names
        if best:
            yield best_row(each.best, float(each.totals.max()), format)
            continue
        if header and names is not None and number == 0:
            yield _writer(format)(["utterance", *names, name, "text"])
        yield from scored_rows(each.hypotheses, each.logprobs, format, name)


def _writer(format: str) -> Callable[[Iterable[str]], str]:
    from keraslm.text.rows import ROW_FORMATS, row_writer

    return row_writer(format if format in ROW_FORMATS else "tsv")
