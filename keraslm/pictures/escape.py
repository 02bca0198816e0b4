"""Text of others in HTML and JSON: nothing of it becomes markup, script or a change of the writing direction."""

from __future__ import annotations

import html
import json
import re
from typing import Any

# Controls but the tab; marks, embeddings, overrides and isolates of the bidirectional algorithm; line and paragraph
# separator; halves of surrogate pairs; U+FFFE and U+FFFF. HTML cannot hold some, others would rearrange the page.
_ODD = re.compile(
    "[\x00-\x08\x0a-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff\ufdd0-\ufdef\ufffe\uffff]"
)


def shown(text: str) -> str:
    """The text as a page can show it: a picture such as `␀`, or the number, for each character that it cannot.

    Example:
        >>> shown("a\\0b\\u202ec")
        'a␀b[U+202E]c'
    """
    return _ODD.sub(lambda found: _picture(found[0]), text)


def markup(text: str) -> str:
    """The text as HTML, those characters in elements of their own.

    Example:
        >>> markup("a<b>\\0")
        'a&lt;b&gt;<u>␀</u>'
    """
    escaped = html.escape(text)
    return _ODD.sub(lambda found: f"<u>{_picture(found[0])}</u>", escaped)


def script_data(value: Any) -> str:
    """JSON that may stand in a script element: ASCII, without `<`, `>` and `&`."""
    text = json.dumps(value, separators=(",", ":"), allow_nan=False)
    return re.sub("[<>&]", lambda found: f"\\u{ord(found[0]):04x}", text)


def _picture(character: str) -> str:
    number = ord(character)
    if number < 0x20:
        return chr(0x2400 + number)
    return "␡" if number == 0x7F else f"[U+{number:04X}]"
