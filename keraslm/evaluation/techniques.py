"""A text under a run with the techniques of test time that were asked for, each beside the plain cost."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from keraslm.config import StrPath
from keraslm.errors import TextError, UsageError
from keraslm.evaluation.dynamic import DynamicModel, DynamicSettings, gradient_statistics
from keraslm.evaluation.dynamic_tuning import TUNED_TOKENS, tune
from keraslm.evaluation.ensemble import check_members, mean_nats
from keraslm.evaluation.evaluate import Evaluation
from keraslm.evaluation.monte_carlo import monte_carlo_nats
from keraslm.evaluation.neural_cache import WINDOW, CacheSettings, cache_nats, tune_cache
from keraslm.evaluation.options import TUNE, Techniques
from keraslm.evaluation.reader import Reader
from keraslm.evaluation.temperature import temperature_nats, tune_temperature
from keraslm.evaluation.variant import Variant
from keraslm.perplexity import perplexity
from keraslm.runs.run import Run, run_text
from keraslm.text.corpus import Text
from keraslm.text.encoding import Encoder
from keraslm.text.files import TextFiles
from keraslm.text.store import EncodedText

STATISTICS = 200_000  # tokens of the training text whose gradients dynamic evaluation takes: a fifth of PTB's

Log = Callable[[str], None]
Nats = NDArray[np.float64]


def evaluate_with(
    run: Run,
    text: Text,
    techniques: Techniques,
    context: str | None = None,
    cache: StrPath | None = None,
    show: bool = False,
    log: Log = lambda _: None,
) -> Evaluation:
    """Perplexity of a text, every token, with the techniques asked for beside it.

    Args:
        run: the run folder.
        text: what to score.
        techniques: which, and their parameters; what is missing is tuned.
        context: how far the state is carried; None means as in training.
        cache: folder for large texts.
        show: progress bars while large texts are encoded.
        log: takes lines of progress.

    Returns:
        the plain evaluation, with a `Variant` for each technique; a combination follows what it was put on.

    Raises:
        UsageError: runs of two tokenizers, or nothing to tune on.
        TextError: the text, or the one to tune on, cannot be read.
    """
    others = [Run.open(path, run.weights) for path in techniques.with_runs]
    check_members(run, others)
    encoder = Encoder(cache, show)
    encoded = encoder.encode(text, run.tokenizer)
    bench = _Bench(Reader(run, context), encoded.ids, techniques, encoder, log)
    for needed, name in ((techniques.tunes, "tuning"), (techniques.dynamic, "train_ids")):
        if needed:  # now, so that a text that is not there ends the command before hours of computing
            getattr(bench, name)
    plain = bench.reader.evaluation(encoded)
    if techniques.mc_dropout:
        bench.monte_carlo(techniques.mc_dropout, techniques.seed or 0)
    if others:
        bench.ensemble([bench.reader, *(Reader(other, context) for other in others)])
    if techniques.temperature:
        bench.temperature(techniques.temperature)
    if techniques.dynamic:
        bench.dynamic(techniques.dynamic_lr, techniques.dynamic_decay)
    if techniques.neural_cache:
        bench.neural_cache(techniques.cache_window, techniques.cache_theta, techniques.cache_lambda)
    return replace(plain, variants=tuple(bench.variants))


@dataclass
class _Bench:
    """One text, and the techniques tried on it so far.

    Attributes:
        variants: their costs.
        base, tuning_base: cost of each token of the text, and of the one to tune on, under what the cache is put on;
            None: the network's own.
    """

    reader: Reader
    ids: NDArray[Any]
    techniques: Techniques
    encoder: Encoder
    log: Log
    variants: list[Variant] = field(default_factory=list)
    base: Nats | None = None
    tuning_base: Nats | None = None

    def temperature(self, value: float | str) -> None:
        tuned = ("temperature",) if value == TUNE else ()
        heat = tune_temperature(self.reader, self.tuning_ids, self.log) if tuned else float(value)
        self._add("temperature", temperature_nats(self.reader, self.ids, heat), {"temperature": heat}, tuned)
        if self.techniques.tunes_cache:
            self.tuning_base = temperature_nats(self.reader, self.tuning_ids, heat)

    def dynamic(self, learning_rate: float | None, decay: float | None) -> None:
        run, settings = self.reader.run, DynamicSettings()
        self.log(f"dynamic       gradient statistics over {len(self.train_ids):,} tokens of the training text")
        statistics = gradient_statistics(run, self.train_ids, settings)
        model = DynamicModel(run, settings.segment, self.reader.context)
        tuned: tuple[str, ...] = ()
        if learning_rate is None or decay is None:
            tuned = ("lr", "decay")
            settings = tune(model, self.tuning_ids, statistics, settings, self.log)
        else:
            settings = replace(settings, learning_rate=learning_rate, decay=decay)
        parameters = {"segment": settings.segment, "lr": settings.learning_rate, "decay": settings.decay}
        self.log(f"dynamic       evaluating {len(self.ids):,} tokens")
        self._add("dynamic", model.nats(self.ids, settings, statistics), parameters, tuned, TUNED_TOKENS)
        if self.techniques.tunes_cache:
            self.log(f"dynamic       and {len(self.tuning_ids):,} to tune the neural cache on")
            self.tuning_base = model.nats(self.tuning_ids, settings, statistics)

    def neural_cache(self, window: int | None, theta: float | None, share: float | None) -> None:
        settings = CacheSettings(window or WINDOW, theta, share)
        tuned = tuple(name for name, value in (("theta", theta), ("lambda", share)) if value is None)
        if tuned:
            settings = tune_cache(self.reader, self.tuning_ids, settings, self.log, self.tuning_base)
        nats = cache_nats(self.reader, self.ids, settings, self.base)
        parameters = {"window": settings.window, "theta": settings.theta, "lambda": settings.share}
        self._add("neural cache", nats, parameters, tuned)

    def monte_carlo(self, passes: int, seed: int) -> None:
        nats = monte_carlo_nats(self.reader, self.ids, passes, seed)
        self._add("mc dropout", nats, {"passes": passes, "seed": seed})

    def ensemble(self, readers: list[Reader]) -> None:
        members = []
        for reader in readers:
            members.append(reader.nats(self.ids))
            self.variants.append(_variant(f"run {reader.run.path}", members[-1], {}))
        self._add("ensemble", mean_nats(np.stack(members)), {"runs": len(members)})

    @cached_property
    def tuning(self) -> EncodedText:
        """The text to tune on: the one that is named, or the run's validation text."""
        run, paths = self.reader.run, self.techniques.tune_on
        try:
            if paths:
                return self.encoder.encode(TextFiles(paths, run.config.data.errors), run.tokenizer)
            text = run_text(run, "valid", self.encoder)
        except TextError as error:
            raise TextError(f"{error} It is the text to tune on; --tune-on FILE names another.") from error
        if text is None:
            raise UsageError(
                f"{run.path}: it was trained without a validation text. Name one to tune on, --tune-on FILE, or give "
                "every parameter."
            )
        return text

    @property
    def tuning_ids(self) -> NDArray[Any]:
        return self.tuning.ids

    @cached_property
    def train_ids(self) -> NDArray[Any]:
        """The training text, or its beginning where it is long."""
        try:
            text = run_text(self.reader.run, "train", self.encoder)
        except TextError as error:
            raise TextError(f"{error} --dynamic needs the gradients of the run's training text.") from error
        assert text is not None
        return text.ids[:STATISTICS]

    def _add(
        self, name: str, nats: Nats, parameters: dict[str, Any], tuned: tuple[str, ...] = (), most: int | None = None
    ) -> None:
        """Add a variant, on top of the one before where there is one, and make it what the next is put on.

        Args:
            name: of the technique.
            nats: of each token.
            parameters: by name.
            tuned: names of those that were tuned.
            most: tokens that tuning looks at; None means all.
        """
        part = f"the first {most:,} tokens of " if most and tuned and most < len(self.tuning_ids) else ""
        tuned_on = f"{part}{self.tuning.name}" if tuned else ""
        if self.base is not None:
            before = self.variants[-1]
            name = f"{before.name} + {name}"
            parameters, tuned = before.parameters | parameters, before.tuned + tuned
            if before.tuned_on != tuned_on:  # a part of the text, or nothing
                tuned_on = " and all of ".join(filter(None, (before.tuned_on, tuned_on)))
        optimistic = bool(tuned) and one_holds_the_other(self.ids, self.tuning_ids)
        variant = _variant(name, nats, parameters)
        self.variants.append(replace(variant, tuned=tuned, tuned_on=tuned_on, optimistic=optimistic))
        self.base = nats


def one_holds_the_other(one: NDArray[Any], other: NDArray[Any]) -> bool:
    """Whether the shorter of two texts, given by its ids, stands in the other, whole and in one place.

    Example:
        >>> one_holds_the_other(np.array([2, 3]), np.array([1, 2, 3]))
        True
    """
    short, long = sorted((one, other), key=len)
    if not len(short):
        return False
    starts = np.arange(len(long) - len(short) + 1)
    for place in range(min(len(short), 16)):  # after which few are left
        starts = starts[long[starts + place] == short[place]]
    return any(np.array_equal(long[start : start + len(short)], short) for start in starts)


def _variant(name: str, nats: Nats, parameters: dict[str, Any]) -> Variant:
    total = math.fsum(nats)
    return Variant(name, perplexity(total, len(nats)), total, parameters)
