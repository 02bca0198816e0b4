"""Lines scored as `ScoreOptions` describes."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from keraslm.report.options import ScoreOptions
from keraslm.scoring.batching import Line
from keraslm.scoring.measures import Flags, LineScore
from keraslm.scoring.texts import LineScorer
from keraslm.scoring.words import boundary


def scored_lines(
    scorer: LineScorer, lines: Iterable[Line], options: ScoreOptions, distributions: bool
) -> Iterator[LineScore]:
    """Score lines, with ranks and entropies if `distributions`; errors are those of `Scorer.score_lines`."""
    ends = boundary_of(scorer, options)
    scored = scorer.score_lines(lines, options.context, distributions, options.lines_ahead, ends)
    return map(LineScore.without_oovs, scored) if options.unk == "exclude" else scored


def boundary_of(scorer: LineScorer, options: ScoreOptions) -> Flags | None:
    """The tokens that can follow a complete word, if `options` count the space between two words with the first."""
    return boundary(scorer.tokenizer) if options.spaces == "after" else None
