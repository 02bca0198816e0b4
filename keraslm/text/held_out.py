"""A share of a text that is held out for validation, and the rest, which is trained on.

The text consists of units, through which the state is carried:

    context     unit
    sentence    a line
    paragraph   a paragraph: the lines up to the last blank line before the next text
    document    a file, if there are at least 1 / share files; else the last lines are held out, their number rounded up

With a share of 1/20, one of the units 0 to 19 is held out, one of the units 20 to 39, and so on; which one depends only
on the number of the group. So the number of units held out differs from the share by less than one unit, and the same
text is split in the same way on every machine, whatever the seed of the training. Both parts keep their order.
"""

from __future__ import annotations

import hashlib
import io
import math
from collections.abc import Callable, Iterator
from dataclasses import replace
from fractions import Fraction
from itertools import chain, count, repeat
from pathlib import Path

from keraslm.config import DataConfig
from keraslm.errors import TextError
from keraslm.text.files import Block, TextFiles
from keraslm.text.paths import listed

_UNITS = {"sentence": "lines", "paragraph": "paragraphs", "document": "last lines"}
_BLANK = (b"\n", b"\r\n")


def held_out(share: float) -> Iterator[bool]:
    """Whether each unit of a text is held out, in order, without an end.

    Example:
        >>> [number for number, held in zip(range(80), held_out(0.05)) if held]
        [0, 33, 46, 63]
    """
    size, start = 1 / Fraction(str(share)), 0  # the fraction that the user wrote
    for group in count():
        end = math.ceil(size * (group + 1))
        digest = hashlib.sha256(str(group).encode()).digest()
        chosen = start + int.from_bytes(digest[:8], "big") % (end - start)
        yield from (number == chosen for number in range(start, end))
        start = end


def split_text(text: TextFiles, share: float, config: DataConfig) -> tuple[TextFiles | TextPart, TextFiles | TextPart]:
    """The part of a text that is trained on, and the part that is held out."""
    if config.context == "document" and len(text.files) * Fraction(str(share)) >= 1:
        return _split_files(text, share)
    unit = _UNITS[config.context]
    return TextPart(text, share, unit, False, config.tokenizer), TextPart(text, share, unit, True, config.tokenizer)


def _split_files(text: TextFiles, share: float) -> tuple[TextFiles, TextFiles]:
    files: dict[bool, list[str]] = {True: [], False: []}
    for file, held in zip(text.files, held_out(share), strict=False):
        files[held].append(file.path)
    train, valid = (TextFiles(files[held], text.errors, text.encoding) for held in (False, True))
    train.notes = text.notes
    valid.notes = [f"held out: {listed(files[True])} ({len(files[True])} of {len(text.files)} files)"]
    return train, valid


def _part(share: float, unit: str) -> str:
    """A part in words: `5 % of the lines`, `the last 5 % of the lines`."""
    last, _, units = unit.rpartition(" ")
    return f"{'the last ' if last else ''}{100 * share:g} % of the {units}"


class TextPart:
    """The units of a text that are held out, or the others; methods as of `TextFiles`.

    Args:
        text: all of it; both parts may share it.
        share: that is held out.
        unit: `"lines"`, `"paragraphs"` or `"last lines"`.
        held: whether this is the part that is held out.
        tokenizer: its kind. A line of blanks ends a paragraph if the tokenizer is `"word"`, which reads no token there.
    """

    def __init__(self, text: TextFiles, share: float, unit: str, held: bool, tokenizer: str = "word"):
        self._text, self._share, self._unit, self._held = text, share, unit, held
        self._words = tokenizer == "word"
        self.errors, self.encoding = text.errors, text.encoding
        self.name = f"the held-out {unit} of {text.name}" if held else text.name
        self.notes = [f"held out: {_part(share, unit)} of {text.name}"] if held else text.notes

    def __iter__(self) -> Iterator[str]:
        rest = ""
        for block in self.blocks():
            *lines, rest = (rest + block.decoded(self.errors)[0]).split("\n")
            yield from lines

    def blocks(self, advance: Callable[[int], None] = lambda _: None) -> Iterator[Block]:
        is_held, begins, held, found = self._chooser(), True, not self._held, False
        for block in self._text.blocks(advance):
            if self.errors == "strict":
                block.decoded(self.errors)  # an error names the line in the file, not in the part
            lines = []
            for line in io.BytesIO(block.data):
                if begins:
                    held = is_held(line)
                if held is self._held:
                    lines.append(line)
                begins = line.endswith(b"\n")
            if lines:
                found = True
                yield replace(block, data=b"".join(lines))
        if not found:
            raise TextError(self._nothing_left())

    def size(self) -> int:
        """Bytes of the whole text, which is read for each part."""
        return self._text.size()

    def digest(self) -> str:
        rule = f"{self._text.digest()} {self._share} {self._unit} {self._held} {self._words}"
        return hashlib.sha256(rule.encode()).hexdigest()

    def spool(self, folder: Path) -> None:
        self._text.spool(folder)

    def _chooser(self) -> Callable[[bytes], bool]:
        """A function of each line, in order: whether it is held out."""
        if self._unit == "last lines":
            lines = sum(block.data.count(b"\n") for block in self._text.blocks())
            last = math.ceil(lines * Fraction(str(self._share)))
            tail = chain(repeat(False, lines - last), repeat(True))
            return lambda _: next(tail)
        if self._unit == "lines":
            flags = held_out(self._share)
            return lambda _: next(flags)
        return self._by_paragraph()

    def _by_paragraph(self) -> Callable[[bytes], bool]:
        flags = held_out(self._share)
        held, ended = next(flags), False

        def is_held(line: bytes) -> bool:
            nonlocal held, ended
            blank = line in _BLANK or (self._words and line.endswith(b"\n") and not line.strip())
            if ended and not blank:
                held = next(flags)
            ended = blank
            return held

        return is_held

    def _nothing_left(self) -> str:
        part, unit = ("validation" if self._held else "training"), self._unit.removeprefix("last ")
        hint = " A paragraph ends with a blank line." if unit == "paragraphs" else ""
        return (
            f"{self._text.name}: with `valid_share={self._share:g}` no {part} text is left, because the text has too "
            f"few {unit}.{hint} Use a longer text, a different share, or name a validation text with `valid`."
        )
