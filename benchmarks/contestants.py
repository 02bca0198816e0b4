"""One contestant of `train_speed.py` in a process of its own: trains a few windows, prints one line of JSON.

    python benchmarks/contestants.py keraslm-torch small [--batch-size B] [--num-steps T] [--windows N]

All train Zaremba's network on the same windows of random ids, distributed as words are: embedding, dropout, two LSTM
layers with dropout after each, projection to 10,000 words, SGD with the gradient clipped by its global norm.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import json
import os
import resource
import statistics
import sys
import time

import numpy as np

VOCAB_SIZE = 10_000
WARM_UP = 3  # windows before the clock starts: compilation, caches, memory pools
WINDOWS = {"small": 200, "medium": 24, "large": 10}


def windows(batch_size: int, num_steps: int, number: int) -> np.ndarray:
    """Ids `(number, B, T + 1)`, frequent and rare ones as in a text (Zipf's law)."""
    weights = 1.0 / np.arange(2.7, VOCAB_SIZE + 2.7)
    shape = (number, batch_size, num_steps + 1)
    return np.random.default_rng(0).choice(VOCAB_SIZE, shape, p=weights / weights.sum()).astype(np.int32)


def on_keras(model, ids, targets_too: bool, callback_list, timed: bool) -> tuple[float, float | None]:
    """Seconds a window under `fit()`, and the share of them that is spent outside the step (None if not asked)."""
    import keras

    class Dataset(keras.utils.PyDataset):
        def __len__(self):
            return len(ids)

        def __getitem__(self, index):
            inputs, targets = ids[index, :, :-1], ids[index, :, 1:]
            return ((inputs, targets) if targets_too else inputs), targets

    class Clock(keras.callbacks.Callback):
        def on_train_batch_end(self, batch, logs=None):
            if batch + 1 in (WARM_UP, len(ids)):
                float(logs["loss"])  # the device has done all windows so far
                self.begin, self.end = (
                    (time.perf_counter(), 0.0) if batch + 1 == WARM_UP else (self.begin, time.perf_counter())
                )

    inside: list[float] = []
    if timed:
        model.make_train_function()
        step = model.train_function

        def timed_step(*arguments):
            start = time.perf_counter()
            result = step(*arguments)
            if keras.backend.backend() == "jax":
                import jax

                jax.block_until_ready(result)
            inside.append(time.perf_counter() - start)
            return result

        model.train_function = timed_step
    clock = Clock()
    model.fit(Dataset(), shuffle=False, verbose=0, callbacks=callback_list(model, clock))
    seconds = (clock.end - clock.begin) / (len(ids) - WARM_UP)
    return seconds, 1 - statistics.fmean(inside[WARM_UP:]) / seconds if timed else None


def keraslm_model(config, ids, timed: bool) -> tuple[float, float | None]:
    """Our own model, compiled and called as `keraslm train` does."""
    from keraslm.network.compile import compiled_model
    from keraslm.training.machine import keep_freed_memory
    from keraslm.training.progress import UnreadLogs

    keep_freed_memory()
    model = compiled_model(config, VOCAB_SIZE)
    return on_keras(
        model,
        ids,
        True,
        lambda m, clock: UnreadLogs([clock], add_history=True, model=m, epochs=1, steps=len(ids)),
        timed,
    )


def stock_keras(config, ids, timed: bool) -> tuple[float, float | None]:
    """Stock layers. Only TensorFlow carries their state; elsewhere each window starts from zero, which costs less."""
    import keras

    model, batch_size = config.model, config.train.batch_size
    stateful = keras.backend.backend() == "tensorflow"
    x = inputs = keras.Input(batch_shape=(batch_size, config.train.num_steps), dtype="int32")
    x = keras.layers.Embedding(VOCAB_SIZE, model.units)(x)
    x = keras.layers.Dropout(model.embedding_dropout)(x)
    for _ in range(model.num_layers):
        x = keras.layers.LSTM(model.units, return_sequences=True, stateful=stateful)(x)
        x = keras.layers.Dropout(model.output_dropout)(x)
    network = keras.Model(inputs, keras.layers.Dense(VOCAB_SIZE)(x))
    network.compile(
        keras.optimizers.SGD(0.1, global_clipnorm=config.train.clip_norm),
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
    )
    return on_keras(network, ids, False, lambda _, clock: [clock], timed)


def pytorch(config, ids, bfloat16: bool) -> float:
    """PyTorch's word language model: `nn.LSTM`, log-softmax, SGD written out; seconds a window."""
    import torch
    from torch import nn

    device = "cuda" if torch.cuda.is_available() else "cpu"
    units, layers, rate = config.model.units, config.model.num_layers, config.model.output_dropout

    class Network(nn.Module):
        def __init__(self):
            super().__init__()
            self.dropout, self.encoder = nn.Dropout(rate), nn.Embedding(VOCAB_SIZE, units)
            self.lstm, self.decoder = nn.LSTM(units, units, layers, dropout=rate), nn.Linear(units, VOCAB_SIZE)

        def forward(self, ids, state):
            outputs, state = self.lstm(self.dropout(self.encoder(ids)), state)
            logits = self.decoder(self.dropout(outputs)).view(-1, VOCAB_SIZE)
            return nn.functional.log_softmax(logits, dim=1), state

    network, loss_of = Network().to(device), nn.NLLLoss()
    zeros = torch.zeros(layers, config.train.batch_size, units, device=device)
    state = (zeros, zeros)
    times = []
    for window in torch.as_tensor(ids).transpose(1, 2).long().to(device):
        start = time.perf_counter()
        network.zero_grad()
        state = tuple(part.detach() for part in state)
        with torch.autocast(device, torch.bfloat16, enabled=bfloat16):
            log_p, state = network(window[:-1], state)
            loss = loss_of(log_p, window[1:].reshape(-1))
        loss.backward()
        nn.utils.clip_grad_norm_(network.parameters(), config.train.clip_norm)
        with torch.no_grad():
            for weights in network.parameters():
                weights.add_(weights.grad, alpha=-0.1)
        loss.item()
        times.append(time.perf_counter() - start)
    return statistics.fmean(times[WARM_UP:])


def matrix_rate(config, bfloat16: bool) -> float:
    """Operations a second of this machine in the largest product of the model, by PyTorch: the median of 15."""
    import torch

    device = "cuda" if torch.cuda.is_available() else "cpu"
    rows, units = config.train.batch_size * config.train.num_steps, config.model.units
    kind = torch.bfloat16 if bfloat16 else torch.float32
    a, b = (
        torch.randn(rows, units, device=device, dtype=kind),
        torch.randn(units, VOCAB_SIZE, device=device, dtype=kind),
    )
    out, times = torch.mm(a, b), []
    for _ in range(15):
        start = time.perf_counter()
        torch.mm(a, b, out=out)
        if device == "cuda":
            torch.cuda.synchronize()
        times.append(time.perf_counter() - start)
    return 2.0 * rows * units * VOCAB_SIZE / statistics.median(times)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("name", help="keraslm-BACKEND, keras-BACKEND, pytorch, matrix; with -bfloat16 behind it")
    parser.add_argument("size", choices=list(WINDOWS))
    parser.add_argument("--batch-size", type=int)
    parser.add_argument("--num-steps", type=int)
    parser.add_argument("--windows", type=int)
    parser.add_argument("--outside", action="store_true", help="measure the share of time outside the step too")
    arguments = parser.parse_args()
    name = arguments.name.removesuffix("-bfloat16")
    bfloat16 = name != arguments.name
    kind, _, backend = name.partition("-")
    if backend:
        os.environ["KERAS_BACKEND"] = backend
        if backend != "jax":
            sys.modules["jax"] = None  # Keras imports JAX where it is installed; a user of one backend has no other

    from keraslm.config.presets import preset

    changes = {k: v for k in ("batch_size", "num_steps") if (v := getattr(arguments, k))}
    config = preset(arguments.size, **changes, dtype="bfloat16" if bfloat16 else "float32")
    train = config.train
    ids = windows(train.batch_size, train.num_steps, WARM_UP + (arguments.windows or WINDOWS[arguments.size]))
    outside, rate = None, None
    if kind == "matrix":
        seconds, rate = 0.0, matrix_rate(config, bfloat16)
    elif kind == "pytorch":
        seconds = pytorch(config, ids, bfloat16)
    else:
        seconds, outside = (keraslm_model if kind == "keraslm" else stock_keras)(config, ids, arguments.outside)
    packages = ("keras", "jax", "tensorflow", "torch", "numpy")
    result = {
        "seconds": seconds,
        "tokens": train.batch_size * train.num_steps,
        "outside": outside,
        "matrix_rate": rate,
        "peak_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
        "versions": {package: importlib.metadata.version(package) for package in packages},
    }
    print(json.dumps(result))


if __name__ == "__main__":
    main()
