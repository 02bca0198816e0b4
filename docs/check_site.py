"""Checks of the built site: it loads nothing from other hosts, and its inventory leads to the public names."""

from __future__ import annotations

import re
import zlib
from collections.abc import Collection
from pathlib import Path

_LOADED = re.compile(  # by a browser, without a click; mermaid diagrams are drawn by a script from unpkg.com
    r"<(?:script|img|iframe|source|video|audio|embed)\b[^>]*\ssrc=[\"']?(?:https?:)?//[^\"'> ]+"
    r"|<link\b(?![^>]*rel=[\"']?(?:canonical|alternate|next|prev))[^>]*\shref=[\"']?(?:https?:)?//[^\"'> ]+"
    r"|@import\s+[\"'](?:https?:)?//[^\"']+|url\([\"']?(?:https?:)?//[^)]+|class=[\"']?mermaid"
)


def loaded_from_elsewhere(site: Path) -> list[str]:
    """Scripts, styles, fonts and pictures that a page would load from a different host."""
    found = []
    for path in sorted([*site.rglob("*.html"), *site.rglob("*.css")]):
        text = path.read_text(encoding="utf-8")
        found += [f"{path.relative_to(site)}: {match[0]}" for match in _LOADED.finditer(text)]
    return found


def read_inventory(data: bytes) -> dict[str, str]:
    """The address of each name in a Sphinx inventory, version 2: four lines, then compressed rows.

    Example of a row:
        keraslm.load py:function 1 reference/api/scoring.html#$ -
    """
    *head, rows = data.split(b"\n", 4)
    if head[0] != b"# Sphinx inventory version 2" or b"zlib" not in head[3]:
        raise ValueError("not a Sphinx inventory of version 2")
    found = {}
    for row in zlib.decompress(rows).decode().splitlines():
        match = re.fullmatch(r"(.+?) (\S+:\S+) (-?\d+) (\S*) (.*)", row)
        if not match:
            raise ValueError(f"not a row of an inventory: {row!r}")
        address = match[4]
        found[match[1]] = f"{address[:-1]}{match[1]}" if address.endswith("$") else address
    return found


def missing_names(site: Path, names: Collection[str]) -> list[str]:
    """Names that the inventory lacks, or whose address is no anchor of a page."""
    inventory = read_inventory((site / "objects.inv").read_bytes())
    missing = []
    for name in names:
        page, _, anchor = inventory.get(name, "").partition("#")
        if not page or f'id="{anchor}"' not in (site / page).read_text(encoding="utf-8"):
            missing.append(name)
    return missing
