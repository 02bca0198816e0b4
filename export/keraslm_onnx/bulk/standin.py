"""Stands where `keraslm_onnx.report.options` and `.writer` will stand: their names, and two tables."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TextIO

from keraslm_onnx.batching import WINDOW, Line
from keraslm_onnx.report import sentence_rows, token_rows
from keraslm_onnx.scorer import Scorer


@dataclass(frozen=True)
class ScoreOptions:
    """What is scored and how it is written; plain values."""

    level: str = "token"
    format: str = "tsv"
    columns: tuple[str, ...] = ()
    base: str = ""
    unk: str = "include"
    context: str = "sentence"
    window: int = WINDOW
    spaces: str = "before"
    signature: bool = False


def write_scores(scorer: Scorer, lines: Iterable[Line], options: ScoreOptions, out: TextIO, *, name: str = "") -> None:
    """Score lines and write a table of tokens or of sentences."""
    scored = scorer.score_lines(lines, options.context, window=options.window)
    rows = token_rows(scored, scorer.tokenizer) if options.level == "token" else sentence_rows(scored)
    for row in rows:
        out.write(f"{row}\n")
