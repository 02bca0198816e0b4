"""What tells a text from another, whatever file it lies in: its tokens."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any

from numpy.typing import NDArray

from keraslm.errors import shown

_CHUNK = 1 << 22  # tokens


def fingerprint(ids: NDArray[Any]) -> dict[str, Any]:
    """Number and SHA-256 of the tokens of a text, as int32, little-endian.

    Example:
        >>> fingerprint(np.array([1, 2]))["tokens"]
        2
    """
    digest = hashlib.sha256()
    for start in range(0, len(ids), _CHUNK):
        digest.update(ids[start : start + _CHUNK].astype("<i4").tobytes())
    return {"tokens": len(ids), "sha256": digest.hexdigest()}


def described(found: Any) -> str:
    """A fingerprint in words, or whatever a damaged file has in its place.

    Example:
        >>> described({"tokens": 929589, "sha256": "c0ffee" * 10})
        '929,589 tokens with SHA-256 c0ffeec0ffee'
    """
    if not isinstance(found, Mapping):
        return "none"
    tokens = found.get("tokens")
    size = f"{tokens:,}" if type(tokens) is int and tokens < 2**63 else shown(tokens)
    return f"{size} tokens with SHA-256 {str(found.get('sha256'))[:12]}"
