"""One contestant of `train_speed.py`: train for a few windows and print one line of JSON.

    python benchmarks/contestants.py keraslm-torch small [--batch-size B] [--num-steps T] [--windows N]

All contestants train Zaremba's network on the same windows of random ids, drawn by Zipf's law: embedding, dropout, two
LSTM layers with dropout after each, projection to 10,000 words, SGD with clipping by the global norm.
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
from common import zipf

VOCAB_SIZE = 10_000
WARM_UP = 3  # windows before the measurement: compilation, caches, memory pools
WINDOWS = {"small": 200, "medium": 24, "large": 10}


def windows(batch_size: int, num_steps: int, number: int) -> np.ndarray:
    """Ids of shape `(number, B, T + 1)`, drawn by Zipf's law."""
    shape = (number, batch_size, num_steps + 1)
    return np.random.default_rng(0).choice(VOCAB_SIZE, shape, p=zipf(VOCAB_SIZE)).astype(np.int32)


def on_keras(model, ids, targets_too: bool, callback_list, timed: bool) -> tuple[float, float | None]:
    """Seconds per window under `fit()`, and the share spent outside the step (None unless `timed`)."""
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
                float(logs["loss"])  # wait for the device
                times.append(time.perf_counter())

    times: list[float] = []  # after the warm-up and at the end
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
    model.fit(Dataset(), shuffle=False, verbose=0, callbacks=callback_list(model, Clock()))
    seconds = (times[1] - times[0]) / (len(ids) - WARM_UP)
    return seconds, 1 - statistics.fmean(inside[WARM_UP:]) / seconds if timed else None


def keraslm_model(config, ids, timed: bool, vocab_size: int = VOCAB_SIZE) -> tuple[float, float | None]:
    """The model of keraslm, compiled and called as in `keraslm train`."""
    from keraslm.network.compile import compiled_model
    from keraslm.training.machine import keep_freed_memory
    from keraslm.training.progress import UnreadLogs

    keep_freed_memory()

    def callback_list(model, clock):
        return UnreadLogs([clock], add_history=True, model=model, epochs=1, steps=len(ids))

    return on_keras(compiled_model(config, vocab_size), ids, True, callback_list, timed)


def stock_keras(config, ids, timed: bool) -> tuple[float, float | None]:
    """Stock layers. Only TensorFlow carries their state; on JAX and torch each window starts from zeros."""
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
    """Seconds per window of PyTorch's word language model: `nn.LSTM`, log-softmax, SGD written out."""
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
    """Operations per second of the model's largest matrix product, as keraslm computes it: the median of 15 runs."""
    import torch

    from keraslm.layers.kernels.product_torch import mm

    device = "cuda" if torch.cuda.is_available() else "cpu"
    rows, units = config.train.batch_size * config.train.num_steps, config.model.units
    kind = torch.bfloat16 if bfloat16 else torch.float32
    a, b = (torch.randn(*shape, device=device, dtype=kind) for shape in ((rows, units), (units, VOCAB_SIZE)))
    times = []
    for _ in range(15):
        start = time.perf_counter()
        mm(a, b)
        if device == "cuda":
            torch.cuda.synchronize()
        times.append(time.perf_counter() - start)
    return 2.0 * rows * units * VOCAB_SIZE / statistics.median(times)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument(
        "name", help="keraslm-BACKEND, keras-BACKEND, pytorch or matrix, each also with the suffix -bfloat16"
    )
    parser.add_argument("size", choices=list(WINDOWS))
    parser.add_argument("--batch-size", type=int)
    parser.add_argument("--num-steps", type=int)
    parser.add_argument("--windows", type=int)
    parser.add_argument("--outside", action="store_true", help="also measure the share of time outside the step")
    arguments = parser.parse_args()
    name = arguments.name.removesuffix("-bfloat16")
    bfloat16 = name != arguments.name
    kind, _, backend = name.partition("-")
    if backend:
        os.environ["KERAS_BACKEND"] = backend
        if backend != "jax":
            sys.modules["jax"] = None  # otherwise Keras imports JAX if it is installed

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
