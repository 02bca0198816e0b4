"""One training step with the optimizers of keraslm and with Keras' own, in turn, on the backend of KERAS_BACKEND.

    KERAS_BACKEND=torch python benchmarks/optimizers.py [--sizes small medium] [--rounds 5] [--steps 10]

Zaremba's network on windows of random ids, 10,000 words, drawn as in a text. Each round trains a few windows with every
optimizer; ratios are taken within a round, and the table in Markdown shows medians over the rounds.
"""

from __future__ import annotations

import argparse
import itertools
import statistics
import time

import keras
import numpy as np
from contestants import VOCAB_SIZE, WARM_UP, windows

from keraslm.config.presets import preset
from keraslm.network.compile import compiled_model
from keraslm.network.metrics import Perplexity
from keraslm.training.machine import keep_freed_memory


def contestants(size: str) -> dict[str, keras.Model]:
    """Compiled models that differ only in their optimizer."""
    models = {}
    for kind, rate in (("sgd", 1.0), ("adamw", 1e-3)):
        config = preset(size, optimizer=kind, learning_rate=rate, clip_norm=5.0)
        for owner in ("keraslm", "keras"):
            model = compiled_model(config, VOCAB_SIZE)
            if owner == "keras":
                for layer in (model.get_layer("embedding"), model.get_layer("cross_entropy").projection):
                    layer.sparse_gradient = False  # Keras' optimizers take dense gradients on torch
                keras_class = keras.optimizers.SGD if kind == "sgd" else keras.optimizers.AdamW
                options = {} if kind == "sgd" else {"weight_decay": 0.0, "epsilon": 1e-8}
                optimizer = keras_class(rate, global_clipnorm=5.0, **options)
                jit = False if keras.backend.backend() == "tensorflow" else "auto"
                model.compile(optimizer, model.loss, metrics=[Perplexity()], jit_compile=jit)
            models[f"{owner} {kind}"] = model
    return models


def seconds_per_step(model: keras.Model, ids: np.ndarray) -> float:
    """Mean time of a step under `fit()`."""
    inputs, targets = (np.concatenate(part) for part in (ids[:, :, :-1], ids[:, :, 1:]))
    start = time.perf_counter()
    model.fit([inputs, targets], targets, batch_size=ids.shape[1], shuffle=False, verbose=0)
    return (time.perf_counter() - start) / len(ids)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", nargs="+", default=["small", "medium"])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--steps", type=int, default=10, help="training steps per optimizer and round")
    arguments = parser.parse_args()
    keep_freed_memory()
    print("| backend | size | optimizer | ms per step, keraslm / Keras | time of Keras / keraslm (lowest, highest) |")
    print("|---|---|---|---|---|")
    for size in arguments.sizes:
        models, train = contestants(size), preset(size).train
        ids = windows(train.batch_size, train.num_steps, arguments.steps + WARM_UP)
        found: dict[str, list[float]] = {name: [] for name in models}
        for model in models.values():
            seconds_per_step(model, ids[:WARM_UP])
        for _, (name, model) in itertools.product(range(arguments.rounds), models.items()):
            found[name].append(seconds_per_step(model, ids[WARM_UP:]))
        for kind in ("sgd", "adamw"):
            ratios = [b / a for a, b in zip(found[f"keraslm {kind}"], found[f"keras {kind}"], strict=True)]
            times = " / ".join(f"{1000 * statistics.median(found[f'{o} {kind}']):.1f}" for o in ("keraslm", "keras"))
            spread = f"{statistics.median(ratios):.2f} ({min(ratios):.2f}, {max(ratios):.2f})"
            print(f"| {keras.backend.backend()} | {size} | {kind} | {times} | {spread} |", flush=True)


if __name__ == "__main__":
    main()
