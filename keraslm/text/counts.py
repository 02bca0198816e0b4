"""How large a text is, in every unit that a score is divided by."""

from __future__ import annotations

from dataclasses import dataclass, fields


@dataclass(frozen=True)
class TextCounts:
    """The size of a text, or of a part of it.

    Attributes:
        lines: as `wc -l` counts them, and a last one without line end.
        words: what stands between white space, whatever the tokenizer makes of it.
        tokens: of the tokenizer, one end symbol a line.
        characters, bytes: with each line end counted as one; bytes in UTF-8.
        oovs: tokens that are `<unk>`.
    """

    lines: int = 0
    words: int = 0
    tokens: int = 0
    characters: int = 0
    bytes: int = 0
    oovs: int = 0

    def __add__(self, other: TextCounts) -> TextCounts:
        return TextCounts(*(getattr(self, f.name) + getattr(other, f.name) for f in fields(self)))
