"""What a text costs under a run with a technique of test time, beside what it costs without one."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Variant:
    """The cost of a text with a technique.

    Attributes:
        name: of the technique, or of what is combined, e.g. `"temperature + neural cache"`.
        perplexity: a token, over every token of the text.
        nats: negative log-likelihood of the text.
        parameters: by name.
        tuned: names of those that were tuned; the others were given.
        tuned_on: the text that they were tuned on, or what part of it; empty where nothing was tuned.
        optimistic: whether that is the text whose cost this is, or holds it, or is a part of it.

    Example:
        >>> Variant("temperature", 98.5, 459.0, {"temperature": 1.1}, ("temperature",), "valid.txt").description
        'temperature 1.1 tuned on valid.txt'
    """

    name: str
    perplexity: float
    nats: float
    parameters: dict[str, Any] = field(default_factory=dict)
    tuned: tuple[str, ...] = ()
    tuned_on: str = ""
    optimistic: bool = False

    @property
    def description(self) -> str:
        """Parameters, and what was tuned on what, in words."""
        given = [name for name in self.parameters if name not in self.tuned]
        parts = [
            ", ".join(f"{name} {_plain(self.parameters[name])}" for name in names) for names in (given, self.tuned)
        ]
        if self.tuned:
            parts[1] += f" tuned on {self.tuned_on}"
        return "; ".join(part for part in parts if part)

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON, which has no infinity: None stands for it."""
        values = vars(self) | {"tuned": list(self.tuned), "tuned_on": self.tuned_on or None}
        return {k: None if isinstance(v, float) and not math.isfinite(v) else v for k, v in values.items()}


def variant_rows(plain: float, variants: tuple[Variant, ...]) -> list[str]:
    """Lines for people: the plain perplexity and under it that of each variant; nothing without variants."""
    if not variants:
        return []
    lines = [("plain", plain, ""), *((v.name, v.perplexity, v.description) for v in variants)]
    width = max(25, *(len(name) for name, _, _ in lines))
    figures = max(len(f"{value:,.4f}") for _, value, _ in lines)
    rows = ["", f"{'test time':<{width}} {'perplexity':>{figures}}"]
    rows += [f"{name:<{width}} {value:>{figures},.4f}  {text}".rstrip() for name, value, text in lines]
    names = [f"{v.name!r}" for v in variants if v.optimistic]
    if names:
        were, are = ("was", "number is") if len(names) == 1 else ("were", "numbers are")
        rows.append(f"note: {' and '.join(names)} {were} tuned on text that is evaluated; the {are} optimistic")
    return rows


def _plain(value: Any) -> str:
    return f"{value:g}" if isinstance(value, float) else f"{value}"
