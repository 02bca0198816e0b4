"""Where a training step spends its time: its parts measured alone, beside their bounds.

    python benchmarks/step_budget.py [--sizes small medium large] [--contestants jax tensorflow torch torch-bfloat16]

The network is Zaremba's at three sizes with a vocabulary of 10,000. Each contestant runs in a process of its own. It
measures the operations that keraslm uses for a step, one at a time, and a whole step under `fit()`. The parts:

    input products        x @ kernel for all steps; in the backward pass the gradients of x and of the kernel
    recurrent products    h @ recurrent_kernel and its transpose, one product of few rows per step
    recurrent gradient    the gradient of the recurrent kernel, one product for all steps
    element-wise, loops   the LSTM operation without its products and casts
    softmax products      logits, and the gradients of the hidden states and of the kernel
    softmax passes        the cross entropy operation without its products and casts
    casts                 weights to bfloat16 and their gradients back
    embedding             looking up the rows, and their gradient
    norm, clip, update    one call of the optimizer
    rest                  the step without all of this: Keras, dropout, loss, metrics

The bound by arithmetic is the number of operations divided by the rate of the best product of this contestant. The
bound by memory is the number of bytes that must be read and written at least once, weights at every step of a loop,
divided by the rate at which a large array is copied; an array that stays in a cache is faster.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from common import child
from measure import Measure

SIZES = {"small": (200, 20), "medium": (650, 35), "large": (1500, 35)}  # units, steps
BATCH, VOCAB, LAYERS = 20, 10_000, 2
REPEATS = {"small": 30, "medium": 10, "large": 5}
CONTESTANTS = ["jax", "tensorflow", "torch", "torch-bfloat16"]


def products(backend: str, low: str) -> tuple[Callable, Callable]:
    """The functions `a @ b`, and `many(b, xs)` for one product per step of a loop, that the kernels use."""
    from keras import ops

    if backend == "torch":
        import torch

        from keraslm.layers.kernels.product_torch import mm, multiplier

        def many(b: Any, xs: Any) -> Any:
            with torch.no_grad():
                times = multiplier(b)
                for x in xs.unbind(0):
                    times(x)

        return torch.no_grad()(mm), many

    def product(a: Any, b: Any) -> Any:
        return ops.matmul(a, b)

    def loop(b: Any, xs: Any) -> Any:
        def step(last: Any, x: Any) -> Any:  # a product depends on the previous one, as in the LSTM
            out = ops.matmul(x + last, b)
            return out[0, 0] * 1e-9, None

        return ops.scan(step, ops.zeros((), low), xs)[0]

    return product, loop


def measured(size: str, dtype: str) -> dict[str, float]:
    """Milliseconds of every part of a step."""
    from keras import ops

    from keraslm.layers.embedding import look_up
    from keraslm.layers.kernels import dispatch
    from keraslm.training.machine import keep_freed_memory

    keep_freed_memory()
    units, steps = SIZES[size]
    measure, rows = Measure(REPEATS[size]), BATCH * steps
    rng = np.random.default_rng(0)

    def random(*shape: int) -> np.ndarray:
        return rng.normal(0.0, 0.05, shape).astype(np.float32)

    def low(*shape: int) -> Any:
        return ops.cast(random(*shape), dtype)

    mm, many = products(measure.backend, dtype)
    transposed = ops.transpose
    x, dz, w = low(rows, units), low(rows, 4 * units), low(units, 4 * units)
    back = measure(lambda dz, w: mm(dz, transposed(w)), dz, w)
    gradient = measure(lambda x, dz: mm(transposed(x), dz), x, dz)
    forward = measure(mm, x, w)
    recurrent = measure(many, w, low(steps, BATCH, units))
    recurrent += measure(lambda w, dzs: many(transposed(w), dzs), w, low(steps, BATCH, 4 * units))

    def lstm(x: Any, h: Any, c: Any, kernel: Any, recurrent_kernel: Any, bias: Any) -> Any:
        return dispatch.lstm(x, h, c, kernel, recurrent_kernel, bias, product_dtype=dtype)[0]

    state = random(BATCH, units)
    weights = random(units, 4 * units), random(units, 4 * units), random(4 * units)
    whole = measure(measure.with_gradient(lstm), random(BATCH, steps, units), state, state, *weights)

    hidden, kernel, bias = random(BATCH, steps, units), random(units, VOCAB), random(VOCAB)
    ids = rng.integers(0, VOCAB, (BATCH, steps), dtype=np.int32)

    def nats(hidden: Any, kernel: Any, bias: Any) -> Any:
        return dispatch.cross_entropy(hidden, kernel, bias, ops.convert_to_tensor(ids), dtype)

    softmax = measure(measure.with_gradient(nats), hidden, kernel, bias)
    wide, low_kernel = low(rows, VOCAB), low(units, VOCAB)
    softmax_products = measure(mm, x, low_kernel)
    softmax_products += measure(lambda d, k: mm(d, transposed(k)), wide, low_kernel)
    softmax_products += measure(lambda x, d: mm(transposed(x), d), x, wide)

    casts_lstm = casts_softmax = 0.0
    if dtype != "float32":
        casts_lstm = 2 * (
            measure(lambda w: ops.cast(w, dtype), weights[0]) + measure(lambda w: ops.cast(w, "float32"), w)
        )
        casts_softmax = measure(lambda w: ops.cast(w, dtype), kernel)
        casts_softmax += measure(lambda w: ops.cast(w, "float32"), low_kernel)

    sparse = measure.backend == "torch"
    embedding = measure(
        measure.with_gradient(lambda table: look_up(table, ops.convert_to_tensor(ids), sparse)), random(VOCAB, units)
    )
    update = measured_update(measure, size)
    return {
        "input products": LAYERS * (forward + back + gradient),
        "recurrent products": LAYERS * recurrent,
        "recurrent gradient": LAYERS * gradient,
        "element-wise, loops": LAYERS * (whole - forward - back - 2 * gradient - recurrent - casts_lstm),
        "softmax products": softmax_products,
        "softmax passes": softmax - softmax_products - casts_softmax,
        "casts": LAYERS * casts_lstm + casts_softmax,
        "embedding": embedding,
        "norm, clip, update": update,
    }


def measured_update(measure: Measure, size: str) -> float:
    """Milliseconds of one call of the optimizer with the gradients of a step."""
    import keras

    from keraslm.optimizers.clipped import ClippedSGD

    units, steps = SIZES[size]
    shapes = [(units, 4 * units), (units, 4 * units), (4 * units,)] * LAYERS + [
        (units, VOCAB),
        (VOCAB,),
        (VOCAB, units),
    ]
    variables = [keras.Variable(np.zeros(shape, np.float32)) for shape in shapes]
    optimizer = ClippedSGD(1e-3, clip_norm=5.0)
    optimizer.build(variables)
    rng = np.random.default_rng(1)
    gradients: list[Any] = [keras.ops.convert_to_tensor(rng.normal(size=s).astype(np.float32)) for s in shapes]
    ids = rng.choice(VOCAB, BATCH * steps)
    rows = rng.normal(size=(len(ids), units)).astype(np.float32)
    if measure.backend == "torch":
        import torch

        gradients[-1] = torch.sparse_coo_tensor(
            torch.tensor(ids)[None], torch.tensor(rows), shapes[-1], check_invariants=False
        )
        return measure(lambda: optimizer.apply(gradients, variables))
    if measure.backend == "tensorflow":
        import tensorflow as tf

        gradients[-1] = tf.IndexedSlices(tf.constant(rows), tf.constant(ids), tf.constant(shapes[-1]))
        return measure(lambda: optimizer.apply(gradients, variables))
    import jax

    step = jax.jit(
        lambda state, gradients: optimizer.stateless_apply(state[1], gradients, state[0]), donate_argnums=(0,)
    )
    states = [([v.value for v in variables], [v.value for v in optimizer.variables])]
    return measure.time(lambda: states.append(jax.block_until_ready(step(states.pop(), gradients))))


def copy_rate() -> float:
    """Bytes read and written per second by copying 256 MB with two threads."""
    import torch

    source = torch.zeros(2**26)
    target = torch.empty_like(source)
    return 2 * source.numel() * 4 / (Measure(9).time(lambda: target.copy_(source)) / 1000)


def bounds(size: str) -> dict[str, tuple[float, float]]:
    """Operations of every part, and bytes in float32."""
    units, steps = SIZES[size]
    rows, gates = BATCH * steps, 4 * units
    matrix, table = units * gates, units * VOCAB
    one = 2.0 * rows * matrix
    trained = LAYERS * 2 * matrix + table
    logits = rows * VOCAB
    return {
        "input products": (LAYERS * 3 * one, LAYERS * 3 * 4 * (rows * units + rows * gates + matrix)),
        "recurrent products": (LAYERS * 2 * one, LAYERS * 2 * steps * 4 * (matrix + BATCH * (units + gates))),
        "recurrent gradient": (LAYERS * one, LAYERS * 4 * (rows * units + rows * gates + matrix)),
        "element-wise, loops": (0.0, LAYERS * 4 * rows * (3 * gates + 8 * units)),
        "softmax products": (3 * 2.0 * rows * table, 3 * 4 * (rows * units + table + logits)),
        "softmax passes": (0.0, 2 * 4 * logits),
        "casts": (0.0, 0.0),
        "embedding": (0.0, 4 * 4 * rows * units),
        "norm, clip, update": (0.0, 4 * 4 * trained),
    }


def rate(size: str, dtype: str) -> float:
    """Operations per second of the best of the products of a step."""
    import keras

    units, steps = SIZES[size]
    measure, rows = Measure(15), BATCH * steps
    mm, _ = products(measure.backend, dtype)
    best = 0.0
    for m, k, n in ((rows, units, VOCAB), (rows, VOCAB, units), (rows, units, 4 * units)):
        a, b = (keras.ops.cast(np.random.default_rng(0).normal(size=s), dtype) for s in ((m, k), (k, n)))
        best = max(best, 2.0 * m * k * n / (measure(mm, a, b) / 1000))
    return best


def one(name: str, size: str) -> dict[str, Any]:
    """What a child process measures."""
    dtype = "bfloat16" if name.endswith("bfloat16") else "float32"
    from contestants import WARM_UP, WINDOWS, keraslm_model, windows

    from keraslm.config.presets import preset

    parts, best, copied = measured(size, dtype), rate(size, dtype), copy_rate()
    config = preset(size, dtype=dtype)
    ids = windows(BATCH, SIZES[size][1], WARM_UP + WINDOWS[size])
    step = 1000 * keraslm_model(config, ids, False)[0]
    return {"parts": parts, "rest": step - sum(parts.values()), "step": step, "rate": best, "copy_rate": copied}


def table(size: str, found: dict[str, dict[str, Any]]) -> str:
    copied = statistics.median(each["copy_rate"] for each in found.values())
    names = list(found)
    lines = [f"| {size}: ms | " + " | ".join(names) + " | GFLOP | MB float32 | ms to copy it |"]
    lines.append("|---" * (len(names) + 4) + "|")
    for part, (work, size_in_bytes) in bounds(size).items():
        cells = [f"{found[name]['parts'][part]:.1f}" for name in names]
        own = [
            f"{work / 1e9:.1f}" if work else "",
            f"{size_in_bytes / 1e6:.0f}",
            f"{1000 * size_in_bytes / copied:.1f}",
        ]
        lines.append(f"| {part} | {' | '.join(cells + own)} |")
    lines.append("| rest | " + " | ".join(f"{found[name]['rest']:.1f}" for name in names) + " | | | |")
    lines.append("| **step** | " + " | ".join(f"**{found[name]['step']:.1f}**" for name in names) + " | | | |")
    work = sum(work for work, _ in bounds(size).values())
    arithmetic = [f"{1000 * work / found[name]['rate']:.1f}" for name in names]
    lines.append(f"| all products at the rate of the best | {' | '.join(arithmetic)} | {work / 1e9:.1f} | | |")
    rates = [f"{found[name]['rate'] / 1e9:.0f}" for name in names]
    lines.append(f"| rate of the best product, GFLOP/s | {' | '.join(rates)} | | | |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", nargs="+", choices=list(SIZES), default=list(SIZES))
    parser.add_argument("--contestants", nargs="+", choices=CONTESTANTS, default=CONTESTANTS)
    parser.add_argument("--child", nargs=2, metavar=("CONTESTANT", "SIZE"), help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.child:
        name, size = arguments.child
        os.environ["KERAS_BACKEND"] = name.partition("-")[0]
        if not name.startswith("jax"):
            sys.modules["jax"] = None  # type: ignore[assignment]
        print(json.dumps(one(name, size)))
        return
    for size in arguments.sizes:
        found = {name: child(Path(__file__), "--child", name, size) for name in arguments.contestants}
        print(table(size, found), end="\n\n", flush=True)


if __name__ == "__main__":
    main()
