"""A training that is killed again and again, and the same training left alone: which variables differ?

    python tests/torture/kill_training.py --backend jax --kills 100 --seed 0

The program `keraslm train` runs as a process of its own and is killed; the same command goes on with the run, and is
killed again. Where it is killed is drawn anew each time:

    clock     SIGKILL at a moment of the start, or a little later
    training  SIGKILL at a moment of the training
    disk      SIGKILL before, in the middle of, or after one of the writes, flushes and renames in the run folder
    sigterm   SIGTERM while it trains: it must save and end with 143

After each kill the newest checkpoint must be whole. A run that reaches its end is compared with one that was never
killed: every variable of model, optimizer and metrics, both weight files, and the metrics but for the clock. The model
is small, has every kind of dropout, a validation text, and a checkpoint every third window.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path

sys.path[:0] = [str(Path(__file__).parents[2]), str(Path(__file__).parents[2] / "export")]

from keraslm.runs.checkpoint import Checkpoint, CheckpointStore  # noqa: E402
from tests.reference.text import write_text  # noqa: E402
from tests.support.failing_disk import KILLS, UnavailableError, environment, fired, library  # noqa: E402

# A shell's background job ignores SIGINT, and what it starts does, too.
START = [
    sys.executable,
    "-c",
    "import signal; signal.signal(signal.SIGINT, signal.default_int_handler); from keraslm.cli import main; main()",
]

EPOCHS = 3
FLAGS = {
    "units": 24,
    "epochs": EPOCHS,
    "embedding-dropout": 0.2,
    "recurrent-dropout": 0.2,
    "output-dropout": 0.2,
    "batch-size": 4,
    "num-steps": 8,
    "lr-decay-from": 2,
    "log-every": 10,
    "checkpoint-windows": "3",
    "progress": "line",
}
SECONDS = 300  # in which a training of some hundred windows must have ended


@dataclass
class Tally:
    """What was seen.

    Attributes:
        kills: by kind.
        found: in what the process was when it died: before its first window, training, or writing.
        finished: runs that reached their end.
        compared: variables and files that were compared.
        differing: what was compared and not equal, and every other fault, in words.
        answers: seconds from SIGTERM to the end of the process.
    """

    kills: Counter[str] = field(default_factory=Counter)
    found: Counter[str] = field(default_factory=Counter)
    finished: int = 0
    compared: int = 0
    differing: list[str] = field(default_factory=list)
    answers: list[float] = field(default_factory=list)


class Child:
    """One process that trains, and how far its output says that it is."""

    def __init__(self, command: list[str], folder: Path, environ: dict[str, str]):
        self.started = time.monotonic()
        self.process = subprocess.Popen(
            command,
            cwd=folder,
            env=environ,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        self.lines: list[str] = []
        self.training = threading.Event()
        self._reader = threading.Thread(target=self._read)
        self._reader.start()

    def _read(self) -> None:
        assert self.process.stdout
        with self.process.stdout:
            for line in self.process.stdout:
                self.lines.append(line)
                if line.startswith("Epoch "):
                    self.training.set()
        self.training.set()

    def wait(self, seconds: float = SECONDS) -> int | None:
        """The exit code; None when it still runs."""
        try:
            code = self.process.wait(seconds)
        except subprocess.TimeoutExpired:
            return None
        self._reader.join()
        return code


class Trainer:
    """Starts the same training in any folder."""

    def __init__(self, folder: Path, backend: str):
        self.folder = folder
        write_text(folder / "train.txt", lines=200, seed=1)
        write_text(folder / "valid.txt", lines=40, seed=2)
        flags = [f"--{name}={value}" for name, value in FLAGS.items()]
        self.command = [*START, "train", "--preset=small", f"--backend={backend}", *flags]
        self.command += ["--train=train.txt", "--valid=valid.txt"]
        self.environ = {name: value for name, value in os.environ.items() if name != "KERAS_BACKEND"}
        self.environ |= {"PYTHONPATH": os.pathsep.join(sys.path[:2]), "PYTHONUNBUFFERED": "1"}

    def start(self, run: str, extra: dict[str, str] | None = None) -> Child:
        return Child([*self.command, f"--run={run}"], self.folder, {**self.environ, **(extra or {})})

    def whole(self) -> Whole:
        """The training that nobody disturbs."""
        extra, counter = {}, self.folder / "counter"
        if _has_disk():
            (self.folder / "whole").mkdir()
            extra = environment(self.folder / "whole", 0, "kill-before", counter)
        child = self.start("whole", {name: extra[name] for name in extra if name != "PYTHONPATH"})
        child.training.wait(SECONDS)
        seconds = time.monotonic() - child.started
        if child.wait() != 0:
            raise SystemExit("".join(child.lines))
        operations = int.from_bytes(counter.read_bytes()[:8], sys.byteorder) if extra else 0
        windows = next(int(line.split()[0]) for line in child.lines if " windows of " in line)
        return Whole(*end_of(self.folder / "whole"), windows, seconds, operations)


@dataclass(frozen=True)
class Whole:
    """A training that nobody disturbed.

    Attributes:
        checkpoint: its end.
        files: of the run.
        windows: of an epoch.
        seconds: until it trains.
        operations: of the disk, in all; 0 where they cannot be counted.
    """

    checkpoint: Checkpoint
    files: dict[str, bytes]
    windows: int
    seconds: float
    operations: int


def _has_disk() -> bool:
    try:
        library()
    except UnavailableError:
        return False
    return True


def end_of(run: Path) -> tuple[Checkpoint, dict[str, bytes]]:
    """The last checkpoint of a run, and its files; of the metrics what no clock tells."""
    checkpoint, damaged = CheckpointStore(run / "checkpoints").newest()
    assert checkpoint and not damaged, damaged
    files = {name: (run / name).read_bytes() for name in ("weights.safetensors", "best.safetensors", "tokenizer.json")}
    rows = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    for row in rows:
        row.pop("seconds", None), row.pop("tokens_per_second", None)
    return checkpoint, {**files, "metrics.jsonl": json.dumps(rows).encode()}


def compare(run: Path, whole: Whole, tally: Tally) -> None:
    """Count what a finished run has in common with the one that was left alone."""
    (found, found_files), (expected, files) = end_of(run), (whole.checkpoint, whole.files)
    pairs = [(name, found.variables.get(name), value) for name, value in expected.variables.items()]
    different = [name for name, one, other in pairs if one is None or one.tobytes() != other.tobytes()]
    different += [name for name, value in files.items() if found_files[name] != value]
    different += [] if (found.epoch, found.window) == (EPOCHS, 0) else ["position"]
    tally.compared += len(pairs) + len(files)
    tally.differing += [f"{run.name}: {name} differs" for name in different]
    tally.finished += 1


def disturb(trainer: Trainer, run: str, kind: str, rng: random.Random, whole: Whole, tally: Tally) -> bool:
    """Go on with a run and kill it; whether it was killed before it reached its end."""
    counter, folder = trainer.folder / "counter", trainer.folder / run
    stood = windows_of(folder, whole.windows)
    extra: dict[str, str] = {}
    if kind == "disk":
        left = whole.operations * (EPOCHS * whole.windows - stood) // (EPOCHS * whole.windows)
        extra = environment(folder, rng.randint(1, max(1, left)), rng.choice(KILLS), counter)
        extra = {name: value for name, value in extra.items() if name != "PYTHONPATH"}
    child = trainer.start(run, extra)
    if kind == "disk":
        code = child.wait()
    elif kind == "clock":
        code = child.wait(rng.uniform(0, whole.seconds))
    else:
        child.training.wait(SECONDS)
        goal = rng.uniform(stood, EPOCHS * whole.windows)
        while child.process.poll() is None and windows_of(folder, whole.windows) < goal:
            time.sleep(0.001)
        code = child.wait(rng.uniform(0, 0.05))
    if code is None:
        asked = time.monotonic()
        child.process.send_signal(signal.SIGTERM if kind == "sigterm" else signal.SIGKILL)
        code = child.wait()
        if kind == "sigterm" and code == 143:
            tally.answers.append(time.monotonic() - asked)
    ended = windows_of(folder, whole.windows) == EPOCHS * whole.windows
    if code == 0 or (code == -signal.SIGTERM and ended):  # while Python shuts down
        return False
    if code != (143 if kind == "sigterm" else -signal.SIGKILL) or (kind == "disk" and not fired(counter)):
        tally.differing.append(f"{run}: {kind}: exit code {code}: {''.join(child.lines[-3:])}")
    tally.kills[kind] += 1
    _look(folder, child, tally)
    return True


def windows_of(run: Path, windows: int) -> int:
    """Windows that are behind at the newest checkpoint."""
    names = CheckpointStore(run / "checkpoints").names()
    epoch, window = map(int, names[-1].split("-")) if names else (0, 0)
    return epoch * windows + window


def _look(run: Path, child: Child, tally: Tally) -> None:
    """What the kill left: the newest checkpoint must be whole."""
    writing = any(path.name != ".lock" for path in run.rglob(".*"))
    trains = any(line.startswith("Epoch ") for line in child.lines)
    tally.found["writing" if writing else "training" if trains else "before the first window"] += 1
    damaged = CheckpointStore(run / "checkpoints").newest()[1]
    tally.differing += [f"{run.name}: checkpoint {name}: {what}" for name, what in damaged.items()]


def torture(
    backend: str, kills: int, seed: int, folder: Path, log: Callable[[str], None] = lambda line: print(line, flush=True)
) -> Tally:
    """Kill trainings until there were so many kills, and bring the last one to its end."""
    rng, tally, trainer = random.Random(seed), Tally(), Trainer(folder, backend)
    whole = trainer.whole()
    log(f"left alone: {EPOCHS} epochs of {whole.windows} windows; {whole.operations} disk operations")
    kinds = ["clock", "training", "training", "disk", "disk", "sigterm"]
    if not whole.operations:
        log("no C compiler, or no LD_PRELOAD: nothing is killed at disk operations")
        kinds = [kind for kind in kinds if kind != "disk"]
    told = 0
    for number in range(10 * kills):
        run, done = f"killed-{number}", False
        while not done:
            at_its_end = windows_of(folder / run, whole.windows) == EPOCHS * whole.windows
            if sum(tally.kills.values()) < kills and not at_its_end:
                done = not disturb(trainer, run, rng.choice(kinds), rng, whole, tally)
            else:
                child = trainer.start(run)
                done = True
                if child.wait() != 0:
                    raise SystemExit("".join(child.lines))
        compare(folder / run, whole, tally)
        shutil.rmtree(folder / run)
        killed = sum(tally.kills.values())
        log(f"{killed} kills, {tally.finished} runs at their end, {len(tally.differing)} differences")
        for what in tally.differing[told:]:
            log(f"  {what}")
        told = len(tally.differing)
        if killed >= kills:
            break
    return tally


def report(backend: str, tally: Tally) -> str:
    """The tally in lines."""
    kills = ", ".join(f"{count} {name}" for name, count in sorted(tally.kills.items()))
    found = ", ".join(f"{count} {name}" for name, count in sorted(tally.found.items()))
    packages = ", ".join(f"{name} {version(name)}" for name in ("keras", backend, "numpy", "safetensors"))
    answers = sorted(tally.answers) or [float("nan")]
    return "\n".join(
        [
            f"{backend}: {sum(tally.kills.values())} kills ({kills}); the process was found: {found}",
            f"  {tally.finished} runs came to their end; {tally.compared} variables and files compared, "
            f"{len(tally.differing)} different",
            f"  seconds from SIGTERM to the end: median {answers[len(answers) // 2]:.2f}, at most {answers[-1]:.2f}",
            f"  Python {sys.version.split()[0]}, {packages}",
            *(f"  {what}" for what in tally.differing),
        ]
    )


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--backend", choices=["jax", "tensorflow", "torch"], required=True)
    parser.add_argument("--kills", type=int, default=100)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        tally = torture(arguments.backend, arguments.kills, arguments.seed, Path(folder))
    print(report(arguments.backend, tally))
    return 1 if tally.differing or not tally.finished else 0


if __name__ == "__main__":
    sys.exit(main())
