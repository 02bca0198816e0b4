"""The result of an evaluation."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any

from keraslm.perplexity import TextCost

_LABELS = {"perplexity": "perplexity per token", "predicted": "predicted tokens"}
_WIDTH = 25  # of a label


@dataclass(frozen=True, repr=False)
class Variant:
    """The cost of a text with a technique.

    Attributes:
        name: name of the technique or combination, e.g. `"temperature + neural cache"`.
        perplexity: per token, over every token of the text.
        nats: negative log-likelihood of the text.
        parameters: values by name.
        tuned: names of the parameters that were tuned.
        tuned_on: the text used for tuning, or the part of it; empty if nothing was tuned.
        optimistic: whether the tuning text contains the evaluated text, or is a part of it.
    """

    name: str
    perplexity: float
    nats: float
    parameters: dict[str, Any] = field(default_factory=dict)
    tuned: tuple[str, ...] = ()
    tuned_on: str = ""
    optimistic: bool = False

    def __repr__(self) -> str:
        return f"<Variant {self.name!r}: perplexity {self.perplexity:,.4f} per token; {self.description}>"

    @property
    def description(self) -> str:
        """The given parameters, the tuned parameters and the text they were tuned on."""
        texts = {k: f"{k} {v:g}" if isinstance(v, float) else f"{k} {v}" for k, v in self.parameters.items()}
        given = ", ".join(text for name, text in texts.items() if name not in self.tuned)
        tuned = ", ".join(texts[name] for name in self.tuned)
        return "; ".join(filter(None, (given, f"{tuned} tuned on {self.tuned_on}" if tuned else "")))

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON; None stands for infinity."""
        values = vars(self) | {"tuned": list(self.tuned), "tuned_on": self.tuned_on or None}
        return {k: None if isinstance(v, float) and not math.isfinite(v) else v for k, v in values.items()}


@dataclass(frozen=True, repr=False, kw_only=True)
class Evaluation(TextCost):
    """The cost of a text under a trained run.

    Attributes:
        text: its name.
        counting: `"every token"`, or `"tutorial"` for rows x steps.
        context: how far the state was carried: `"sentence"`, `"paragraph"` or `"document"`.
        variants: the cost with each requested test-time technique.
    """

    text: str
    counting: str
    context: str
    variants: tuple[Variant, ...] = ()

    def __repr__(self) -> str:
        best = min(self.variants, key=lambda variant: variant.perplexity, default=None)
        suffix = f"; {best.name} {best.perplexity:,.4f}" if best else ""
        return f"<Evaluation of {self.text!r}: perplexity {self.perplexity:,.4f} per token{suffix}>"

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON; None stands for NaN and infinity."""
        return super().to_dict() | {"variants": [variant.to_dict() for variant in self.variants]}

    def rows(self) -> list[str]:
        """Lines to print: one value per line, and the perplexity of each variant."""
        rows = [f"{_label(row[:_WIDTH].rstrip()):<{_WIDTH}}{row[_WIDTH:]}" for row in super().rows()]
        return rows + self._variant_rows()

    def _values(self) -> dict[str, Any]:
        return {name: value for name, value in super()._values().items() if name != "variants"}

    def _variant_rows(self) -> list[str]:
        if not self.variants:
            return []
        lines = [("plain", self.perplexity, ""), *((v.name, v.perplexity, v.description) for v in self.variants)]
        width = max(_WIDTH, *(len(name) for name, _, _ in lines))
        digits = max(len(f"{value:,.4f}") for _, value, _ in lines)
        rows = ["", f"{'test time':<{width}} {'perplexity':>{digits}}"]
        rows += [f"{name:<{width}} {value:>{digits},.4f}  {text}".rstrip() for name, value, text in lines]
        names = [f"{variant.name!r}" for variant in self.variants if variant.optimistic]
        if names:
            was, number = ("was", "this number is") if len(names) == 1 else ("were", "these numbers are")
            rows.append(f"note: {' and '.join(names)} {was} tuned on the evaluated text; {number} optimistic")
        return rows


def _label(name: str) -> str:
    """The label of a field, e.g. `perplexity excluding OOVs` for `perplexity_excluding_oovs`."""
    return _LABELS.get(name, name.replace("_", " ").replace("oov", "OOV"))
