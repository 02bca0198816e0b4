"""Scores written as options say: the one way from lines of text to lines of output."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator
from typing import TextIO

from keraslm.report.kenlm_format import kenlm_rows
from keraslm.report.options import ScoreOptions
from keraslm.report.signature import signature
from keraslm.report.srilm_format import srilm_rows
from keraslm.report.summary import summarize
from keraslm.report.tables import table
from keraslm.scoring.batching import Line
from keraslm.scoring.measures import LineScore
from keraslm.scoring.scorer import Scorer
from keraslm.scoring.words import boundary

Watcher = Callable[[LineScore], None]


def write_scores(
    scorer: Scorer,
    lines: Iterable[Line],
    options: ScoreOptions,
    out: TextIO,
    flush: bool = False,
    watchers: Iterable[Watcher] = (),
    name: str = "",
) -> None:
    """Score lines and write what the options ask for.

    Args:
        scorer: an open model.
        lines: without line ends; None where a file ends.
        options: level, format and settings.
        out: takes whole lines, each as soon as it is there.
        flush: hand each line on at once, for whoever waits for the answer.
        watchers: see each scored line as well, in order; where there are any, distributions are computed.
        name: of the text, for formats that give one.
    """
    watching = [*watchers]
    scored = scorer.score_lines(
        lines,
        options.context,
        options.needs_distributions or bool(watching),
        options.window,
        boundary(scorer.tokenizer) if options.spaces == "after" else None,
    )
    for row in _rows(scorer, _watched(scored, watching), options, name):
        out.write(f"{row}\n")
        if flush:
            out.flush()


def _rows(scorer: Scorer, scored: Iterable[LineScore], options: ScoreOptions, name: str) -> Iterable[str]:
    if options.format == "kenlm":
        return kenlm_rows(scored, scorer.tokenizer, options)
    if options.format == "srilm":
        return srilm_rows(scored, scorer.tokenizer, options, name)
    if options.level == "summary":
        return _summary(scorer, scored, options)
    return table(scored, scorer.tokenizer, options)


def _summary(scorer: Scorer, scored: Iterable[LineScore], options: ScoreOptions) -> list[str]:
    summary = summarize(scored)
    signed = {"signature": signature(scorer, options)} if options.signature else {}
    if options.format == "jsonl":
        return [json.dumps(summary.to_dict() | signed)]
    return summary.rows() + [f"{key:<25} {value}" for key, value in signed.items()]


def _watched(scored: Iterable[LineScore], watchers: list[Watcher]) -> Iterator[LineScore]:
    for line in scored:
        for watch in watchers:
            watch(line)
        yield line
