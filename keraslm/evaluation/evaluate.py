"""Perplexity of a text under a run, plain and with the requested test-time techniques."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from keraslm.config import StrPath
from keraslm.errors import TextError, UsageError
from keraslm.evaluation.dynamic import TUNED_TOKENS, DynamicModel, DynamicSettings, gradient_statistics, tune_dynamic
from keraslm.evaluation.ensemble import check_tokenizers, mean_nats, monte_carlo_nats
from keraslm.evaluation.neural_cache import cache_nats, tune_cache
from keraslm.evaluation.options import TUNE, Techniques
from keraslm.evaluation.reader import Reader, evaluate_encoded
from keraslm.evaluation.result import Evaluation, Variant
from keraslm.evaluation.temperature import temperature_nats, tune_temperature
from keraslm.perplexity import perplexity
from keraslm.runs.run import Run, run_text
from keraslm.system import Log
from keraslm.testtime.neural_cache import Floats
from keraslm.testtime.settings import HISTORY, CacheSettings
from keraslm.text.corpus import Text
from keraslm.text.encoding import Encoder
from keraslm.text.files import TextFiles
from keraslm.text.store import EncodedText

STATISTICS = 200_000  # tokens of the training text for the gradient statistics: a fifth of PTB's


def evaluate_run(
    run: Run,
    text: Text | None,
    techniques: Techniques | None = None,
    tutorial: bool = False,
    context: str | None = None,
    cache: StrPath | None = None,
    show: bool = False,
    log: Log = lambda _: None,
    errors: str = "strict",
    encoding: str = "utf-8",
) -> Evaluation:
    """Evaluate a text, plain and with each requested technique. Other arguments and errors as in `keraslm.evaluate`.

    Args:
        text: None: the validation text of the run.
        techniques: the techniques and their parameters; missing parameters are tuned.
        tutorial: count as the PTB tutorial does: cut the text into the rows and windows of training and leave out the
            rest (of the 73,760 tokens of PTB's validation text, 73,600 are counted at 20 x 20). Without techniques.
        errors, encoding: of the text to tune on.

    Returns:
        the plain evaluation, with one `Variant` per technique; a combination follows its first technique.

    Raises:
        UsageError: runs with different tokenizers, no text to tune on, or no validation text.
    """
    encoder = Encoder(cache, show)
    if not techniques:
        return evaluate_encoded(run, _encoded(run, text, encoder), tutorial, context, show)
    others = [Run.open(path, run.weights) for path in techniques.with_runs]
    check_tokenizers(run, others)
    evaluator = _Evaluator(Reader(run, context), text, techniques, encoder, log)
    if techniques.tunes:
        evaluator.tuning = _tuning_text(run, techniques.tune_on, errors, encoding, encoder)
    plain = evaluator.reader.evaluation(evaluator.text, show)
    if techniques.mc_dropout:
        evaluator.monte_carlo(techniques.mc_dropout, techniques.seed or 0)
    if others:
        evaluator.ensemble([Reader(other, context) for other in others])
    if techniques.temperature:
        evaluator.temperature(techniques.temperature)
    if techniques.dynamic:
        evaluator.dynamic()
    if techniques.neural_cache:
        evaluator.neural_cache()
    return replace(plain, variants=tuple(evaluator.variants))


class _Evaluator:
    """A text and its variants so far. All texts are read first, to report a missing one before hours of computing."""

    tuning: EncodedText  # only if something is tuned
    train_ids: NDArray[Any]  # only for dynamic evaluation
    base: Floats | None = None  # cost of each token with the technique that the cache is added to; None: the plain cost
    tuning_base: Floats | None = None  # the same for the text to tune on

    def __init__(self, reader: Reader, text: Text | None, techniques: Techniques, encoder: Encoder, log: Log):
        self.reader, self.techniques, self.log = reader, techniques, log
        self.text = _encoded(reader.run, text, encoder)
        self.ids = self.text.ids
        if techniques.dynamic:
            self.train_ids = _train_ids(reader.run, encoder)
        self.variants: list[Variant] = []

    def monte_carlo(self, passes: int, seed: int) -> None:
        self._add("mc dropout", monte_carlo_nats(self.reader, self.ids, passes, seed), {"passes": passes, "seed": seed})

    def ensemble(self, others: list[Reader]) -> None:
        members = []
        for reader in (self.reader, *others):
            members.append(reader.nats(self.ids))
            self.variants.append(_variant(f"run {reader.run.path}", members[-1], {}))
        self._add("ensemble", mean_nats(np.stack(members)), {"runs": len(members)})

    def temperature(self, value: float | str) -> None:
        tuned = ("temperature",) if value == TUNE else ()
        divisor = tune_temperature(self.reader, self.tuning.ids, self.log) if tuned else float(value)
        self._add("temperature", temperature_nats(self.reader, self.ids, divisor), {"temperature": divisor}, tuned)
        if self.techniques.tunes_cache:
            self.tuning_base = temperature_nats(self.reader, self.tuning.ids, divisor)

    def dynamic(self) -> None:
        run, settings = self.reader.run, DynamicSettings()
        self.log(f"dynamic       gradient statistics over {len(self.train_ids):,} tokens of the training text")
        statistics = gradient_statistics(run, self.train_ids, settings)
        model = DynamicModel(run, settings.segment, self.reader.context)
        rate, decay = self.techniques.dynamic_lr, self.techniques.dynamic_decay
        tuned: tuple[str, ...] = ()
        if rate is None or decay is None:
            tuned = ("lr", "decay")
            settings = tune_dynamic(model, self.tuning.ids, statistics, settings, self.log)
        else:
            settings = replace(settings, learning_rate=rate, decay=decay)
        parameters = {"segment": settings.segment, "lr": settings.learning_rate, "decay": settings.decay}
        self.log(f"dynamic       evaluating {len(self.ids):,} tokens")
        self._add("dynamic", model.nats(self.ids, settings, statistics), parameters, tuned, TUNED_TOKENS)
        if self.techniques.tunes_cache:
            self.log(f"dynamic       evaluating {len(self.tuning.ids):,} tokens to tune the neural cache on")
            self.tuning_base = model.nats(self.tuning.ids, settings, statistics)

    def neural_cache(self) -> None:
        given = {"theta": self.techniques.cache_theta, "lambda": self.techniques.cache_lambda}
        settings = CacheSettings(self.techniques.cache_window or HISTORY, *given.values())
        tuned = tuple(name for name, value in given.items() if value is None)
        if tuned:
            settings = tune_cache(self.reader, self.tuning.ids, settings, self.log, self.tuning_base)
        parameters = {name.removeprefix("cache_"): value for name, value in vars(settings).items()}
        self._add("neural cache", cache_nats(self.reader, self.ids, settings, self.base), parameters, tuned)

    def _add(
        self, name: str, nats: Floats, parameters: dict[str, Any], tuned: tuple[str, ...] = (), limit: int | None = None
    ) -> None:
        """Add a variant, combined with the previous technique if there is one; tuning used at most `limit` tokens."""
        part = f"the first {limit:,} tokens of " if limit and tuned and limit < len(self.tuning.ids) else ""
        tuned_on = f"{part}{self.tuning.name}" if tuned else ""
        if self.base is not None:
            previous = self.variants[-1]
            name = f"{previous.name} + {name}"
            parameters, tuned = previous.parameters | parameters, previous.tuned + tuned
            if previous.tuned_on != tuned_on:  # a part of the text, or empty
                tuned_on = " and all of ".join(filter(None, (previous.tuned_on, tuned_on)))
        optimistic = bool(tuned) and one_contains_the_other(self.ids, self.tuning.ids)
        self.variants.append(_variant(name, nats, parameters, tuned, tuned_on, optimistic))
        self.base = nats


def _encoded(run: Run, text: Text | None, encoder: Encoder) -> EncodedText:
    if text is not None:
        return encoder.encode(text, run.tokenizer)
    found = run_text(run, "valid", encoder)
    if found is None:
        raise UsageError(f"{run.path}: trained without a validation text. Name a text to evaluate.")
    return found


def _tuning_text(run: Run, paths: tuple[str, ...], errors: str, encoding: str, encoder: Encoder) -> EncodedText:
    try:
        if paths:
            return encoder.encode(TextFiles(paths, errors, encoding), run.tokenizer)
        text = run_text(run, "valid", encoder)
    except TextError as error:
        raise TextError(f"{error} It is the text to tune on; choose a different one with `tune_on`.") from error
    if text is None:
        raise UsageError(
            f"{run.path}: trained without a validation text. Name a text to tune on with `tune_on`, or give every "
            "parameter."
        )
    return text


def _train_ids(run: Run, encoder: Encoder) -> NDArray[Any]:
    try:
        text = run_text(run, "train", encoder)
    except TextError as error:
        raise TextError(f"{error} `dynamic` needs the gradients of the run's training text.") from error
    assert text is not None  # every run has a training text
    return text.ids[:STATISTICS]


def one_contains_the_other(one: NDArray[Any], other: NDArray[Any]) -> bool:
    """Whether the ids of one text are a contiguous part of the ids of the other."""
    short, long = (f" {' '.join(map(str, ids.tolist()))} " for ids in sorted((one, other), key=len))
    return bool(short.strip()) and short in long


def _variant(name: str, nats: Floats, parameters: dict[str, Any], *tuning: Any) -> Variant:
    total = math.fsum(nats)
    return Variant(name, perplexity(total, len(nats)), total, parameters, *tuning)
