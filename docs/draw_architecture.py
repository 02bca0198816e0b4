"""Draw docs/explanation/network.svg from a configuration, and repository.svg from the imports: `make docs`.

Both are 400 units wide, so that their text is readable on a phone, and follow the reader's light or dark colours.
"""

from __future__ import annotations

import math
import runpy
from itertools import groupby
from pathlib import Path
from typing import NamedTuple
from xml.sax.saxutils import escape

from keraslm.config import ModelConfig, TrainConfig
from keraslm.config.presets import preset
from keraslm.config.shapes import weight_shapes

FOLDER = Path(__file__).parent / "explanation"
IMPORTS = Path(__file__).parents[1] / "tests" / "structure" / "test_imports.py"
WIDTH = 400
STYLE = """
text { font: 12px system-ui, sans-serif; fill: #1f2328 }
.small { font-size: 11px; fill: #57606a }
.column { font-size: 10px; fill: #57606a }
.middle { text-anchor: middle }
.end { text-anchor: end }
.page { fill: #ffffff }
.box { fill: #eef4fb; stroke: #2f6fb2 }
.band { fill: #f3f5f7 }
.line { fill: none; stroke: #57606a }
.state { fill: none; stroke: #b3541e; stroke-width: 1.5 }
.cut { fill: #b3541e; font-size: 11px }
.dot { fill: #2f6fb2 }
@media (prefers-color-scheme: dark) {
text { fill: #e6edf3 }
.small, .column { fill: #a3adb8 }
.page { fill: #14181d }
.box { fill: #1d2b3a; stroke: #6aa9e9 }
.band { fill: #1c2128 }
.line { stroke: #a3adb8 }
.state { stroke: #f0985a }
.cut { fill: #f0985a }
.dot { fill: #6aa9e9 }
}"""
ARROW = (
    '<marker id="{name}" viewBox="0 0 6 6" refX="6" refY="3" markerWidth="6" markerHeight="6" orient="auto">'
    '<path class="{name}" d="M0 0 6 3 0 6"/></marker>'
)


class Part(NamedTuple):
    """A layer of the network as it is drawn."""

    name: str
    output: str  # its shape
    weights: dict[str, tuple[int, ...]]
    state: str = ""  # names and shape of what it carries from window to window


def text(x: float, y: float, words: str, kind: str = "") -> str:
    return f'<text x="{x:g}" y="{y:g}" class="{kind}">{escape(words)}</text>'


def drawing(title: str, height: float, parts: list[str]) -> str:
    """A complete SVG file with a title for screen readers."""
    head = (
        f'<svg xmlns="http://www.w3.org/2000/svg" role="img" width="{WIDTH * 1.5:g}" height="{height * 1.5:g}" '
        f'viewBox="0 0 {WIDTH} {height:g}">'
    )
    markers = "".join(ARROW.format(name=name) for name in ("line", "state"))
    page = f'<rect class="page" width="{WIDTH}" height="{height:g}" rx="6"/>'
    rows = [head, f"<title>{escape(title)}</title>", f"<style>{STYLE}\n</style>", f"<defs>{markers}</defs>", page]
    return "\n".join([*rows, *parts, "</svg>"]) + "\n"


def shape(sizes: tuple[int, ...]) -> str:
    return " × ".join(f"{size:,}" for size in sizes)


def layers(model: ModelConfig, train: TrainConfig, vocab_size: int) -> list[Part]:
    """The layers of a network, lowest first, with the weights that the configuration gives them."""
    window = (train.batch_size, train.num_steps)
    rates = [model.embedding_dropout, *model.dropout_after]
    names = "h, c" if model.cell == "lstm" else "h"
    parts = []
    weights = weight_shapes(model, vocab_size).items()
    for number, (layer, group) in enumerate(groupby(weights, key=lambda item: item[0].partition("/")[0])):
        own = {name.partition("/")[2]: size for name, size in group}
        if layer == "logits":
            parts.append(Part("logits, and the cost of each target", f"nats {shape(window)}", own))
            continue
        units = own["recurrent_kernel"][0] if number else model.embedding_size
        state = f"{names} {shape((train.batch_size, units))}" if number else ""
        parts.append(Part(layer, shape((*window, units)), own, state))
        if rates[number]:
            parts.append(Part(f"dropout {rates[number]:g}", shape((*window, units)), {}))
    return parts


def network(model: ModelConfig, train: TrainConfig, vocab_size: int, name: str) -> str:
    """The layers of a network with the shapes of weights, outputs and states."""
    left, right, middle, y = 92, 308, 200, 30
    rows = [text(middle, 20, f"ids {shape((train.batch_size, train.num_steps))}", "middle")]
    for part in layers(model, train, vocab_size):
        height = 24 + 15 * len(part.weights)
        rows.append(f'<path class="line" marker-end="url(#line)" d="M{middle} {y} V{y + 20}"/>')
        y += 22
        rows.append(f'<rect class="box" x="{left}" y="{y}" width="{right - left}" height="{height}" rx="4"/>')
        rows.append(text(middle, y + 16, part.name, "middle"))
        for number, (weight, size) in enumerate(part.weights.items()):
            rows.append(text(middle, y + 33 + 15 * number, f"{weight} {shape(size)}", "small middle"))
        if part.state:
            rows += _carried(part.state, left, right, y + height / 2)
        y += height
        rows.append(text(middle + 8, y + 15, part.output, "small"))
    rows.append(f'<path class="line" marker-end="url(#line)" d="M{middle} {y} V{y + 20}"/>')
    total = sum(math.prod(size) for size in weight_shapes(model, vocab_size).values())
    rows.append(text(middle, y + 42, f"{total:,} weights", "middle"))
    return drawing(f"The network of preset {name} with {vocab_size:,} words", y + 56, rows)


def _carried(state: str, left: int, right: int, y: float) -> list[str]:
    return [
        f'<path class="state" marker-end="url(#state)" d="M8 {y:g} H{left}"/>',
        f'<path class="state" marker-end="url(#state)" d="M{right} {y:g} H392"/>',
        f'<path class="state" d="M46 {y - 7:g} v14 m4 -14 v14"/>',
        text(4, y - 12, state, "small"),
        text(4, y + 22, "no gradient", "cut"),
        text(396, y - 12, state, "small end"),
        text(396, y + 22, "next window", "cut end"),
    ]


def imports() -> tuple[dict[str, set[str]], dict[str, int]]:
    """The rooms that each room imports, and its level: 0 without imports, else one above the highest of them."""
    found = runpy.run_path(str(IMPORTS))
    room, module_of = found["room"], found["module_of"]
    used: dict[str, set[str]] = {name: set() for name in found["LEVELS"]}
    for path in found["PATHS"]:
        own = room(module_of(path))
        others = {room(name) for name in found["imports_of"](path)} & set(used)
        if own:
            used[own] |= others - {own}
    levels: dict[str, int] = {}
    for name in used:  # lowest first
        levels[name] = 1 + max((levels[other] for other in used[name]), default=-1)
    return used, levels


def repository() -> str:
    """A table with a row and a column for each room, and a dot where the room of the row imports that of the column."""
    used, levels = imports()
    rooms = sorted(used, key=lambda name: levels[name])  # stable: the order of the table within a level
    x, y, step = 112, 96, 10.8
    rows: list[str] = []
    for level, group in groupby(rooms, key=lambda name: levels[name]):
        names = list(group)
        top, height = y + step * rooms.index(names[0]) * 1.6, step * 1.6 * len(names)
        if level % 2 == 0:
            rows.append(f'<rect class="band" x="4" y="{top:g}" width="{WIDTH - 8}" height="{height:g}"/>')
        rows.append(text(10, top + 13, str(level), "small"))
    for number, name in enumerate(rooms):
        center = y + step * 1.6 * (number + 0.5)
        rows.append(text(x - 8, center + 4, name, "end"))
        column = x + step * (number + 0.5)
        rows.append(f'<text class="column" transform="translate({column + 4:g} {y - 6}) rotate(-90)">{name}</text>')
        rows.append(f'<path class="line" d="M{column - 3:g} {center:g} h6"/>')
        rows += [
            f'<circle class="dot" cx="{x + step * (rooms.index(other) + 0.5):g}" cy="{center:g}" r="3.6"/>'
            for other in sorted(used[name], key=rooms.index)
        ]
    return drawing("Which room imports which", y + step * 1.6 * len(rooms) + 8, rows)


def drawings() -> dict[str, str]:
    """The content of each file by its name."""
    config = preset("medium")
    return {
        "network.svg": network(config.model, config.train, 10_000, "medium"),
        "repository.svg": repository(),
    }


if __name__ == "__main__":
    for name, content in drawings().items():
        (FOLDER / name).write_text(content, encoding="utf-8")
        print(f"written explanation/{name}")
