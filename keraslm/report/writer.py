"""Score lines and write the results as `ScoreOptions` describes; signatures and output files."""

from __future__ import annotations

import gzip
import io
import json
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TextIO

from keraslm import arguments
from keraslm.errors import ArgumentTypeError, UsageError, shown
from keraslm.ngram.mixed import MixedScorer
from keraslm.perplexity import TextCost
from keraslm.report.kenlm_format import kenlm_rows
from keraslm.report.options import ScoreOptions
from keraslm.report.records import counted_records, record_rows, score_records, table_of
from keraslm.report.scored import scored_lines
from keraslm.report.srilm_format import srilm_rows
from keraslm.report.tables import table
from keraslm.scoring.batching import Line
from keraslm.scoring.cached import parameters_of
from keraslm.scoring.conditional import without_end
from keraslm.scoring.measures import LineScore
from keraslm.scoring.scorer import Scorer
from keraslm.system import VERSION
from keraslm.system.atomic import writing
from keraslm.system.outputs import is_device, output_file
from keraslm.system.progress import UNCOUNTED, Counter
from keraslm.text.files import TextFile
from keraslm.text.records import Records

Watcher = Callable[[LineScore], None]


def write_scores(
    scorer: Scorer | MixedScorer,
    lines: Iterable[Line],
    options: ScoreOptions,
    out: TextIO,
    flush: bool = False,
    watchers: Sequence[Watcher] = (),
    name: str = "",
    count: Counter = UNCOUNTED,
) -> None:
    """Score lines and write the rows.

    Args:
        lines: without line ends; None marks the end of a file.
        out: receives each line of output as soon as it is computed.
        flush: flush `out` after each line, for interactive use.
        watchers: functions that are called with each scored line that the rows show, then with ranks and entropies.
        name: name of the text, for formats that print it.
        count: counts the lines and tokens that have been scored.

    Example:
        >>> write_scores(scorer, ["the cat"], ScoreOptions(level="sentence"), sys.stdout)
        sentence_id     tokens  oovs    logprob surprisal       perplexity
        1       3       0       -6.648661       9.591990        9.1726
    """
    arguments.instance(scorer, Scorer | MixedScorer, "scorer", "a Scorer")
    arguments.instance(options, ScoreOptions, "options", "a ScoreOptions")
    if not hasattr(out, "write"):
        raise ArgumentTypeError(f"`out` is {shown(out)}, but an open text file is expected.")
    _check_level(scorer, options)
    scored = scored_lines(scorer, lines, options, options.needs_distributions or len(watchers) > 0)
    scored = _watched(count(scored), watchers)
    _write(_rows(scorer, scored if options.eos else map(without_end, scored), options, name), out, flush)


def write_records(
    scorer: Scorer | MixedScorer,
    files: Sequence[TextFile],
    options: ScoreOptions,
    out: TextIO,
    flush: bool = False,
    count: Counter = UNCOUNTED,
) -> None:
    """Score the texts in tables or JSON Lines, the columns of which `options.table` names, and write them with scores.

    `out`, `flush` and `count` are as for `write_scores`. With `level="summary"`, the cost of all texts is written.

    Example:
        >>> options = ScoreOptions(level="sentence", format="csv", table=TableInput("csv", "sentence"))
        >>> write_records(scorer, [TextFile("stimuli.csv")], options, sys.stdout)
        item,sentence,tokens,oovs,logprob,surprisal,perplexity
        1,the cat,3,0,-6.648661,9.591990,9.1726
    """
    _check_level(scorer, options)
    records = Records(files, table_of(options).format)
    if options.level != "summary":
        _write(record_rows(records, scorer, options, count), out, flush)
        return
    found = (each.score.cost for each in counted_records(score_records(scorer, records, options), count) if each.score)
    _write(_summary_rows(scorer, sum(found, TextCost()), options), out, flush)


def _check_level(scorer: Scorer | MixedScorer, options: ScoreOptions) -> None:
    if isinstance(scorer, MixedScorer) and scorer.by_words and options.level == "token" and not options.by_words:
        raise UsageError(
            "The tokens of this model are parts of words, but an n-gram model predicts complete words. With `ngram`, "
            'choose `level="word"`, `level="sentence"` or `level="summary"`.'
        )


def _write(rows: Iterable[str], out: TextIO, flush: bool) -> None:
    for row in rows:
        out.write(f"{row}\n")
        if flush:
            out.flush()


def summarize(lines: Iterable[LineScore]) -> TextCost:
    """Add up the costs of scored lines.

    Example:
        >>> summarize(scorer.score_lines(["the cat", "sat"])).perplexity
        10.2959
    """
    items = arguments.each(lines, "lines", "LineScores")
    return sum((arguments.instance(line, LineScore, place, "a LineScore").cost for line, place in items), TextCost())


def signature(scorer: Scorer | MixedScorer, options: ScoreOptions) -> str:
    """Settings as `key:value`, separated by `|`, as in sacrebleu; digests are the first 12 digits of SHA-256.

    After the tokenizer, a mixture has `ngram` and `ngram_weight`, and a neural cache its parameters.

    Example:
        >>> signature(scorer, ScoreOptions(context="document"))
        'model:1f0c5a2b7d9e|tokenizer:9a3b52c1d0e4|context:document|base:e,2|unk:include|spaces:before|keraslm:0.1.0'
    """
    mixture, spaces = {}, str(options.spaces)
    if isinstance(scorer, MixedScorer):
        spaces = "before" if scorer.boundary is None else "after"
        mixture = {"ngram": scorer.ngram.digest[:12], "ngram_weight": f"{scorer.weight:.6g}"}
    parts = {
        "model": "+".join(member.digest[:12] for member in scorer.session.members),
        "tokenizer": scorer.session.info.tokenizer_sha256[:12],
        **mixture,
        **parameters_of(scorer.session),
        "context": options.context,
        "base": ",".join(dict.fromkeys(options.bases)),
        "unk": options.unk,
        "spaces": spaces,
        **({} if options.eos else {"eos": "no"}),
        "keraslm": VERSION,
    }
    return "|".join(f"{key}:{value}" for key, value in parts.items())


@contextmanager
def opened_output(path: Path | None) -> Iterator[TextIO]:
    """A text file for scores, gzip if named `.gz`; replaces `path` if the block succeeds.

    None is standard output. A device or a pipe gets the scores as they are written.
    """
    if path is None:
        yield sys.stdout
        return
    place = writing(path) if is_device(path) else output_file(path)
    with place as temporary, score_file(temporary or path, packed=path.suffix == ".gz") as out:
        yield out


@contextmanager
def score_file(path: Path, packed: bool) -> Iterator[TextIO]:
    """A text file in UTF-8 with LF, gzip if `packed`. Equal scores give equal bytes: gzip stores no time or name."""
    with path.open("wb") as raw:
        binary = gzip.GzipFile("", "wb", fileobj=raw, mtime=0) if packed else raw
        with io.TextIOWrapper(io.BufferedWriter(binary), encoding="utf-8", newline="\n") as out:
            yield out


def _rows(scorer: Scorer | MixedScorer, scored: Iterable[LineScore], options: ScoreOptions, name: str) -> Iterable[str]:
    if options.format == "kenlm":
        return kenlm_rows(scored, scorer.tokenizer, options)
    if options.format == "srilm":
        return srilm_rows(scored, scorer.tokenizer, options, name)
    if options.level != "summary":
        return table(scored, scorer.tokenizer, options)
    return _summary_rows(scorer, summarize(scored), options)


def _summary_rows(scorer: Scorer | MixedScorer, cost: TextCost, options: ScoreOptions) -> list[str]:
    signed = {"signature": signature(scorer, options)} if options.signature else {}
    if options.format == "jsonl":
        return [json.dumps(cost.to_dict() | signed)]
    return cost.rows() + [f"{key:<25} {value}" for key, value in signed.items()]


def _watched(scored: Iterable[LineScore], watchers: Sequence[Watcher]) -> Iterator[LineScore]:
    for line in scored:
        for watch in watchers:
            watch(line)
        yield line
