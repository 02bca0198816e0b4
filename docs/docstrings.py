"""What mkdocstrings needs to know of our docstrings: an extension of griffe, named in zensical.toml.

- A section `Example:` is code, as `Examples:` is for griffe.
- An entry for several arguments, `a, b: see c`, is one entry for each.
- A public name or a class of `keraslm.errors` in backquotes is a link.
"""

from __future__ import annotations

import ast
import re
from pathlib import Path
from typing import Any

import griffe

ROOT = Path(__file__).resolve().parents[1]
_SEVERAL = re.compile(r"( +)(\w+(?:, \w+)+): (.*)")


def _linked_names() -> dict[str, str]:
    """The address of each name that becomes a link."""
    sources = {
        name: ast.parse((ROOT / "keraslm" / name).read_text(encoding="utf-8")) for name in ("__init__.py", "errors.py")
    }
    lists = [node.value for node in sources["__init__.py"].body if isinstance(node, ast.Assign | ast.AugAssign)]
    public = [each.value for node in lists if isinstance(node, ast.List) for each in node.elts]
    errors = [node.name for node in sources["errors.py"].body if isinstance(node, ast.ClassDef)]
    return {name: f"keraslm.{name}" for name in public} | {name: f"keraslm.errors.{name}" for name in errors}


def split_entries(lines: list[str]) -> list[str]:
    """Repeat an entry for several arguments for each of them, with its continuation lines.

    Example:
        >>> split_entries(["    a, b: see", "        c."])
        ['    a: see', '        c.', '    b: see', '        c.']
    """
    out, place = [], 0
    while place < len(lines):
        found, end = _SEVERAL.fullmatch(lines[place]), place + 1
        if found:
            while end < len(lines) and lines[end].startswith(f"{found[1]} "):
                end += 1
            for name in found[2].split(", "):
                out += [f"{found[1]}{name}: {found[3]}", *lines[place + 1 : end]]
        else:
            out.append(lines[place])
        place = end
    return out


class Docstrings(griffe.Extension):
    """Rewrites each docstring before it is parsed."""

    def __init__(self) -> None:
        names = _linked_names()
        self._links = names
        self._pattern = re.compile(rf"(?<!\[)`(?:keraslm\.)?(?:errors\.)?({'|'.join(names)})`(?!\])")

    def on_object(self, *, obj: griffe.Object, **_: Any) -> None:
        if not obj.docstring:
            return
        lines = re.sub(r"^Example:$", "Examples:", obj.docstring.value, flags=re.MULTILINE).split("\n")
        code = False
        for place, line in enumerate(lines):
            code = line.startswith(("Examples:", "    ")) and (code or line == "Examples:")
            if not code:
                lines[place] = self._pattern.sub(lambda found: f"[`{found[1]}`][{self._links[found[1]]}]", line)
        obj.docstring.value = "\n".join(split_entries(lines))
