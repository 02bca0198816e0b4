"""Damaged model files, opened by the thousand: what becomes of them?

    python tests/torture/model_files.py --count 10000 --seed 0 --jobs 2

Model files of each kind (full and adaptive softmax and a mixture, and all of them quantised to int8; GRU layers) are
changed, one change a file. Half of the files keep their old seal or none (raw); the other half are sealed again, so
that what stands behind the seal meets them. Each is opened and asked in a process of its own, with a limit of time and
of memory. Outcomes:

    refused        with a sentence of ours
    answered       a sealed file opened, and its answers are finite distributions (a bit of a weight flipped, say)
    accepted       a raw file opened, or a sealed one answered with anything else: must not happen
    crashed, hung  the process ended by itself, or had to be ended: must not happen
    foreign        an error that is none of ours: must not happen
"""

from __future__ import annotations

import argparse
import multiprocessing
import resource
import sys
import tempfile
import threading
from collections import Counter
from pathlib import Path

import numpy as np

sys.path[:0] = [str(Path(__file__).parents[2]), str(Path(__file__).parents[2] / "export")]

from keraslm.errors import KeraslmError  # noqa: E402
from keraslm.scoring.scorer import load  # noqa: E402
from keraslm.scoring.seal import sealed  # noqa: E402
from tests.torture.mutations import mutate, unsealed  # noqa: E402

GOOD = ("refused", "answered")
SECONDS = 20
MEMORY = 6 << 30  # bytes of address space, of which onnxruntime's libraries take the most


def damaged(models: list[bytes], seed: int, number: int) -> tuple[str, bool, bytes]:
    """The number-th file: what was changed, whether it is sealed again, and its bytes."""
    rng = np.random.default_rng([seed, number])
    seal = bool(rng.integers(2))
    while True:
        original = models[rng.integers(len(models))]
        name, data = mutate(rng, unsealed(original) if seal or rng.integers(2) else original)
        data = sealed(data) if seal else data
        if data != original:
            return name, seal, data


def outcome(path: Path, seal: bool) -> tuple[str, str]:
    """What becomes of a file, and why."""
    try:
        scorer = load(path, "cpu", threads=1)
        scores = scorer.logprobs(["the cat sat on", "", "a dog"])
        distribution = scorer.next_logprobs(scorer.begin())
    except KeraslmError as error:
        return "refused", str(error)
    except BaseException as error:
        return "foreign", f"{type(error).__name__}: {error}"
    found = np.concatenate([*scores, distribution])
    sound = np.isfinite(found).all() and found.max() <= 1e-3 and abs(np.exp(distribution).sum() - 1) < 1e-3
    return ("answered" if seal and sound else "accepted"), f"sound: {sound}"


def _work(pipe, folder: str) -> None:
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    path = Path(folder) / f"{multiprocessing.current_process().pid}.onnx"
    while True:
        seal, data = pipe.recv()
        path.write_bytes(data)
        pipe.send(outcome(path, seal))


class Worker:
    """A process that opens files, and a new one where it dies."""

    def __init__(self, folder: str):
        self.folder = folder
        self._start()

    def _start(self) -> None:
        context = multiprocessing.get_context("spawn")
        self.pipe, other = context.Pipe()
        self.process = context.Process(target=_work, args=(other, self.folder), daemon=True)
        self.process.start()
        other.close()

    def ask(self, seal: bool, data: bytes) -> tuple[str, str]:
        self.pipe.send((seal, data))
        try:
            if self.pipe.poll(SECONDS):
                return self.pipe.recv()
            found = "hung", f"more than {SECONDS} s"
        except EOFError:
            self.process.join()
            found = "crashed", f"exit code {self.process.exitcode}"
        self.process.kill()
        self._start()
        return found


def torture(models: list[bytes], numbers: range, seed: int, folder: str, save: Path | None) -> Counter:
    """Open the files of `numbers`; print each bad one. Counts by kind of file, change and outcome."""
    counts: Counter = Counter()
    worker = Worker(folder)
    for number in numbers:
        name, seal, data = damaged(models, seed, number)
        found, reason = worker.ask(seal, data)
        counts["sealed" if seal else "raw", name, found] += 1
        if found not in GOOD:
            print(f"{found}: seed {seed} number {number}, {name}, {'sealed' if seal else 'raw'}: {reason}", flush=True)
            if save:
                (save / f"{found}-{seed}-{number}.onnx").write_bytes(data)
    worker.process.kill()
    return counts


def make_models(folder: Path) -> list[bytes]:
    """Exports of random runs, in float32 and with 8-bit weights."""
    import keraslm
    from tests.support.made_run import make_run

    text, paths = folder / "text.txt", []
    text.write_text("the cat sat\n", encoding="utf-8")
    kinds = {
        "full": {},
        "adaptive": {"softmax": "adaptive", "cutoffs": (4, 7)},
        "mixture": {"softmax": "mixture", "num_experts": 2, "tie_weights": True, "layer_units": (5, 8)},
        "gru": {"cell": "gru", "layer_units": (8, 5)},
    }
    for name, fields in kinds.items():
        (folder / name).mkdir()
        run = make_run(folder / name, **{"num_layers": 2, "units": 8, "embedding_dim": 6} | fields)
        paths.append(folder / f"{name}.onnx")
        keraslm.export(run, paths[-1])
        if run.config.model.cell != "lstm":
            continue
        paths.append(folder / f"{name}.int8.onnx")
        keraslm.export(run, paths[-1], int8=True, text=text, tolerance=1.0)
    return [path.read_bytes() for path in paths]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--count", type=int, default=10000, help="files")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--jobs", type=int, default=2, help="processes")
    parser.add_argument("--models", type=Path, nargs="*", help="model files to start from; none makes some")
    parser.add_argument("--save", type=Path, help="folder for the files that were not dealt with well")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        models = [path.read_bytes() for path in options.models or ()] or make_models(Path(folder))
        results: list[Counter] = []

        def part(job: int) -> None:
            numbers = range(job, options.count, options.jobs)
            results.append(torture(models, numbers, options.seed, folder, options.save))

        threads = [threading.Thread(target=part, args=(job,)) for job in range(options.jobs)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    counts = sum(results, Counter())
    for key, count in sorted(counts.items()):
        print(*key, count, sep="\t")
    for seal in ("raw", "sealed"):
        outcomes = Counter()
        for (kind, _, found), count in counts.items():
            outcomes[found] += count * (kind == seal)
        print(f"{seal}:", ", ".join(f"{found} {count}" for found, count in sorted(outcomes.items()) if count))
    return int(len(results) < options.jobs or any(found not in GOOD for _, _, found in counts))


if __name__ == "__main__":
    sys.exit(main())
