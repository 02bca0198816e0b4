"""Shared by the benchmarks: Zipf's law, models with random weights, rounds of child processes, medians."""

from __future__ import annotations

import contextlib
import json
import os
import statistics
import subprocess
import sys
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

import numpy as np

KERASLM = (sys.executable, "-c", "from keraslm.cli import main; main()")


def zipf(size: int) -> np.ndarray:
    """Probabilities of `size` words by Zipf's law: proportional to 1 / (rank + 1.7), ranks from 1."""
    share = 1.0 / np.arange(2.7, size + 2.7)
    return share / share.sum()


def random_words(rng: np.random.Generator, count: int, shortest: int, longest: int) -> np.ndarray:
    """Words of `shortest` to `longest` random letters."""
    letters = np.array(list("etaoinshrdlucmfwypvbgkjqxz"))
    return np.array(["".join(rng.choice(letters, n)) for n in rng.integers(shortest, longest + 1, count)])


def random_run(path: Path, config, lines: Iterable[str]):
    """A run with weights drawn from [-0.1, 0.1) and a word tokenizer trained on the lines."""
    from keraslm.config.shapes import weight_shapes
    from keraslm.runs.create import create_run
    from keraslm.runs.run import Run
    from keraslm.runs.weights import write_weights
    from keraslm.text.vocabulary import train_tokenizer

    tokenizer = train_tokenizer(lines, config.data)
    with contextlib.chdir(path.parent):  # the link runs/latest is made in the current folder
        run = Run(path, config, tokenizer)
        create_run(run, "torch", overwrite=False)
    rng, shapes = np.random.default_rng(0), weight_shapes(config.model, tokenizer.vocab_size)
    write_weights(run.weights_path, {name: rng.uniform(-0.1, 0.1, s).astype(np.float32) for name, s in shapes.items()})
    return run


def child(program: str | Path, *arguments: object, **environment: str) -> dict:
    """The JSON object on the last line that a Python program prints.

    Raises:
        SystemExit: the program failed; with the last line of its error.
    """
    command = [sys.executable, str(program), *map(str, arguments)]
    environment = {**os.environ, "TF_CPP_MIN_LOG_LEVEL": "2", **environment}
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    if done.returncode:
        reason = (done.stderr.strip() or f"exit code {done.returncode}").splitlines()[-1]
        raise SystemExit(f"{' '.join(map(str, arguments))}: {reason}")
    return json.loads(done.stdout.splitlines()[-1])


def run_rounds(
    label: str, names: Sequence[str], count: int, run: Callable[[str], dict], required: bool = False
) -> dict[str, list[dict]]:
    """The results of each contestant, one per round; in a round every contestant runs once.

    A contestant that fails is reported on standard error, does not run again, and is left out. With `required` it ends
    the program.
    """
    found: dict[str, list[dict]] = {name: [] for name in names}
    for number in range(count):
        for name in names:
            if len(found[name]) < number:
                continue
            print(f"{label}, round {number + 1} of {count}: {name}", file=sys.stderr)
            try:
                found[name].append(run(name))
            except SystemExit as error:
                if required:
                    raise
                print(error, file=sys.stderr)
    return {name: results for name, results in found.items() if len(results) == count}


def median(results: Iterable[dict], key: str) -> float:
    """The median of one value of the results."""
    return statistics.median(result[key] for result in results)


def spread(values: Sequence[float], digits: int = 2) -> str:
    """`median (lowest, highest)`."""
    return "{:.{d}f} ({:.{d}f}, {:.{d}f})".format(statistics.median(values), min(values), max(values), d=digits)
