"""By which model, on what context and in which base a score was made: a line that travels with the numbers."""

from __future__ import annotations

from keraslm import __version__
from keraslm.report.options import ScoreOptions
from keraslm.scoring.scorer import Scorer


def signature(scorer: Scorer, options: ScoreOptions) -> str:
    """Settings as `key:value`, parted by `|`, as sacrebleu does it; digests are the first 12 digits of SHA-256.

    Those of the members of an ensemble stand in their order, with `+` between them.

    Example:
        >>> signature(scorer, ScoreOptions(context="document"))
        'model:1f0c5a2b7d9e|tokenizer:9a3b52c1d0e4|context:document|base:e,2|unk:include|spaces:before|keraslm:0.1.0'
    """
    parts = {
        "model": "+".join(member.digest[:12] for member in scorer.session.members),
        "tokenizer": scorer.session.info.tokenizer_sha256[:12],
        "context": options.context,
        "base": options.base or ("10" if options.format in ("kenlm", "srilm") else "e,2"),
        "unk": options.unk,
        "spaces": options.spaces,
        "keraslm": __version__,
    }
    return "|".join(f"{key}:{value}" for key, value in parts.items())
