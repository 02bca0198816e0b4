"""The comparison of a folder of target `hf` with Keras and with the tokenizer of its run, in a process of its own."""

from __future__ import annotations

import os
import tempfile
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from keraslm.errors import ExportError
from keraslm.runs.run import Run
from keraslm.system.backend import select_backend
from keraslm.system.processes import Workers
from keraslm.text.tokenizer import Tokenizer

TOLERANCE = 1e-4  # of a logit, and of the loss in nats; float32 differences are near 1e-6
SHAPES = ((1, 1), (1, 40), (3, 7), (8, 20))  # rows x steps

Job = tuple[Path, str | int, str, Sequence[str]]  # run, its weights, folder, lines to tokenize


@contextmanager
def verifier() -> Iterator[Workers]:
    """A process with the torch backend, on the CPU, that compares folders with their runs."""
    with tempfile.TemporaryDirectory(prefix="keraslm-hf-") as cache, Workers(1, _comparer, cache) as workers:
        yield workers


def _comparer(cache: str) -> Callable[[Job], tuple[float, float]]:
    """Prepare a new process, whose own output is not shown. transformers copies the code that it runs to `cache`."""
    os.environ |= {"CUDA_VISIBLE_DEVICES": "-1", "HF_HUB_OFFLINE": "1", "HF_MODULES_CACHE": cache}
    null = os.open(os.devnull, os.O_WRONLY)
    for standard in (1, 2):
        os.dup2(null, standard)
    select_backend("torch")
    from tqdm import tqdm

    tqdm.set_lock(threading.RLock())  # its own lock would be left in the system when this process is killed
    return lambda job: compare(Run.open(job[0], job[1]), Path(job[2]), job[3])


def compare(run: Run, folder: Path, lines: Sequence[str]) -> tuple[float, float]:
    """Compare a folder with Keras on random ids, and with the tokenizer of the run; needs the torch backend.

    Each shape is read in one call, padded, and in two calls with the state carried.

    Returns:
        the largest difference of a logit and of a loss.

    Raises:
        ExportError: a difference is above `TOLERANCE` or not a number, or a line has different ids.
    """
    import transformers

    # Without trust, transformers would ask on the terminal whether the configuration may be read.
    check_ids(run.tokenizer, transformers.AutoTokenizer.from_pretrained(folder, trust_remote_code=True), lines)
    model = transformers.AutoModelForCausalLM.from_pretrained(folder, trust_remote_code=True).eval()
    rng = np.random.default_rng(0)
    found = np.array([_differences(run, model, rng, *shape) for shape in SHAPES])
    logits, loss = (float(x) for x in found.max(axis=0))  # NaN if one of them is
    if not np.maximum(logits, loss) <= TOLERANCE:
        raise ExportError(
            f"The model of transformers differs from Keras: logits by {logits:.3g}, loss by {loss:.3g} nats; at most "
            f"{TOLERANCE:g} is allowed. Not published."
        )
    return logits, loss


def _differences(run: Run, model: Any, rng: np.random.Generator, rows: int, steps: int) -> tuple[float, float]:
    """Largest differences of a logit and of the loss for random ids of one shape."""
    import keras
    import torch

    from keraslm.evaluation.reader import load_model

    ids = rng.integers(0, run.tokenizer.vocab_size, (rows, steps + 1))
    lengths = rng.integers(1, steps + 2, rows)
    lengths[0] = steps + 1
    real = np.arange(steps + 1) < lengths[:, None]  # (rows, steps + 1)
    expected = keras.ops.convert_to_numpy(load_model(run, rows)(ids))
    logprobs = keras.ops.convert_to_numpy(keras.ops.log_softmax(expected))[:, :-1]
    costs = -np.take_along_axis(logprobs, ids[:, 1:, None], 2)[:, :, 0]
    padded = torch.tensor(np.where(real, ids, run.tokenizer.eos_id))
    labels = torch.tensor(np.where(real, ids, -100))
    with torch.no_grad():
        masked = model(input_ids=padded, attention_mask=torch.tensor(real.astype(np.int64)), labels=labels)
        whole = torch.tensor(ids)
        first = model(input_ids=whole[:, :steps])
        second = model(input_ids=whole[:, steps:], state=first.state)
    together = torch.cat([first.logits, second.logits], 1).numpy()
    differences = [np.abs(together - expected).max(), np.abs(masked.logits.numpy() - expected)[real].max()]
    return float(np.max(differences)), abs(float(masked.loss) - float(costs[real[:, 1:]].mean()))


def check_ids(own: Tokenizer, other: Any, lines: Sequence[str]) -> None:
    """Raise `ExportError` unless both tokenizers give each line the same ids, the other with the end symbol first."""
    with_end, without = other(list(lines))["input_ids"], other(list(lines), add_special_tokens=False)["input_ids"]
    for line, *found in zip(lines, with_end, without, strict=True):
        ids = own.encode_prompt(line).tolist()
        if found != [[own.eos_id, *ids], ids]:
            raise ExportError(f"transformers gives {line!r} the ids {found[1]}, but keraslm {ids}. Not published.")


def probes(tokenizer: Tokenizer) -> list[str]:
    """Lines of random tokens of the vocabulary, with the names of its special tokens, and with unusual characters."""
    rng = np.random.default_rng(0)
    names = tokenizer.tokens([tokenizer.eos_id, max(tokenizer.unk_id, 0)])
    made = [tokenizer.decode(rng.integers(0, tokenizer.vocab_size, 12)) for _ in range(50)]
    unusual = [
        "",
        " ",
        "  two  blanks ",
        "ΌΣΟΣ İstanbul ǅ",
        "\u010a ċ \u0120",
        "e\u0301 日本 🙂",
        "a\tb\u00a0c",
        "<eos><unk>",
    ]
    lines = [*made, *unusual, *names, *(f"a {name} b{name}" for name in names)]
    return [" ".join(line.splitlines()) for line in lines]
