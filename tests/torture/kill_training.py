"""Kill a training again and again, and compare it with an undisturbed one.

    python tests/torture/kill_training.py --backend jax --kills 100 --seed 0 [--processes 2]

`keraslm train` runs as a separate process and is killed; the same command resumes the run and is killed again, at a
random moment:

    clock     SIGKILL during or soon after the start
    training  SIGKILL during the training
    disk      SIGKILL before, during or after a write, flush or rename in the run folder
    sigterm   SIGTERM during the training, which must save and exit with 143

After each kill, the newest checkpoint must be intact. A finished run is compared with one that was never killed: every
variable of model, optimizer and metrics, all weight files, and the metrics except for times. The model is small and
has every kind of dropout, a validation text, and a checkpoint every third window.

With several processes, which train together, any one of them is killed; the others must end by themselves, or are
killed after ten seconds, as launchers do. Kills at disk operations hit the first one, which alone writes.
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
from keraslm.system.ranks import local_environments  # noqa: E402
from tests.reference.text import write_text  # noqa: E402
from tests.support.failing_disk import KILLS, UnavailableError, environment, fired, library  # noqa: E402

# Background jobs of a shell ignore SIGINT, and so do their children.
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
    "save-at-words": "1,300,700,1k,1500,2k,2500,3k",
    "progress": "line",
}
SECONDS = 300  # limit for a training of some hundred windows


@dataclass
class Tally:
    """The results."""

    kills: Counter[str] = field(default_factory=Counter)  # by kind
    found: Counter[str] = field(default_factory=Counter)  # by the state of the process when it was killed
    finished: int = 0  # runs
    compared: int = 0  # variables and files
    differing: list[str] = field(default_factory=list)  # each difference, and every other problem
    answers: list[float] = field(default_factory=list)  # seconds from SIGTERM to the end of the process


class Child:
    """A process that trains, with its output."""

    def __init__(self, command: list[str], folder: Path, environ: dict[str, str]):
        self.started = time.monotonic()
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT}
        self.process = subprocess.Popen(command, cwd=folder, env=environ, text=True, **pipes)
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
        """The exit code; None if the process is still running."""
        try:
            code = self.process.wait(seconds)
        except subprocess.TimeoutExpired:
            return None
        self._reader.join()
        return code


class Group:
    """Processes that train together; the first one stands for all of them."""

    def __init__(self, children: list[Child], rng: random.Random):
        self.children, self.victim = children, rng.randrange(len(children))
        self.started, self.training, self.lines = children[0].started, children[0].training, children[0].lines

    @property
    def process(self) -> subprocess.Popen[str]:
        """The first one."""
        return self.children[0].process

    @property
    def runs(self) -> bool:
        return any(child.process.poll() is None for child in self.children)

    def wait(self, seconds: float = SECONDS, victim: int = 0) -> int | None:
        """The exit code of a process after all have ended; None if it is still running."""
        code = self.children[victim].wait(seconds)
        if code is not None:
            for child in self.children:
                if child.wait(SECONDS if code == 0 else 10) is None:
                    child.process.kill()
                    child.wait()
        return code

    def stop(self, number: signal.Signals) -> int | None:
        """Send a signal to one of the processes, and return its exit code."""
        self.children[self.victim].process.send_signal(number)
        return self.wait(victim=self.victim)


class Trainer:
    """Starts the same training in any folder."""

    def __init__(self, folder: Path, backend: str, processes: int = 1, seed: int = 0):
        self.folder, self.backend, self.processes, self.rng = folder, backend, processes, random.Random(seed)
        write_text(folder / "train.txt", lines=200, seed=1)
        write_text(folder / "valid.txt", lines=40, seed=2)
        flags = [f"--{name}={value}" for name, value in FLAGS.items()]
        self.command = [*START, "train", "--preset=small", f"--backend={backend}", *flags]
        self.command += ["--train=train.txt", "--valid=valid.txt"]
        self.environ = {name: value for name, value in os.environ.items() if name != "KERAS_BACKEND"}
        self.environ |= {"PYTHONPATH": os.pathsep.join(sys.path[:2]), "PYTHONUNBUFFERED": "1"}

    def start(self, run: str, extra: dict[str, str] | None = None) -> Group:
        command, children = [*self.command, f"--run={run}"], []
        for rank, place in enumerate(local_environments(self.processes, self.backend)):
            own = {**self.environ, **(extra or {})} if rank == 0 else self.environ
            children.append(Child(command, self.folder, own | place))
        return Group(children, self.rng)

    def undisturbed(self) -> Undisturbed:
        """Train without a kill."""
        extra, counter = {}, self.folder / "counter"
        if _has_disk():
            (self.folder / "undisturbed").mkdir()
            extra = environment(self.folder / "undisturbed", 0, "kill-before", counter)
        child = self.start("undisturbed", {name: extra[name] for name in extra if name != "PYTHONPATH"})
        child.training.wait(SECONDS)
        seconds = time.monotonic() - child.started
        if child.wait() != 0:
            raise SystemExit("".join(child.lines))
        operations = int.from_bytes(counter.read_bytes()[:8], sys.byteorder) if extra else 0
        windows = next(int(line.split()[0]) for line in child.lines if " windows of " in line)
        return Undisturbed(*end_of(self.folder / "undisturbed"), windows, seconds, operations)


@dataclass(frozen=True)
class Undisturbed:
    """A training without a kill."""

    checkpoint: Checkpoint  # the last
    files: dict[str, bytes]
    windows: int  # per epoch
    seconds: float  # until the first epoch
    operations: int  # on the disk; 0 if they cannot be counted


def _has_disk() -> bool:
    try:
        library()
    except UnavailableError:
        return False
    return True


def end_of(run: Path) -> tuple[Checkpoint, dict[str, bytes]]:
    """The last checkpoint of a run, and its files; metrics without times."""
    checkpoint, damaged = CheckpointStore(run / "checkpoints").newest()
    assert checkpoint and not damaged, damaged
    names = sorted(path.name for path in run.glob("*.safetensors"))
    files = {name: (run / name).read_bytes() for name in (*names, "tokenizer.json")}
    rows = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    for row in rows:
        row.pop("seconds", None), row.pop("tokens_per_second", None)
    return checkpoint, {**files, "metrics.jsonl": json.dumps(rows).encode()}


def compare(run: Path, undisturbed: Undisturbed, tally: Tally) -> None:
    """Compare a finished run with the undisturbed one."""
    (found, found_files), (expected, files) = end_of(run), (undisturbed.checkpoint, undisturbed.files)
    pairs = [(name, found.variables.get(name), value) for name, value in expected.variables.items()]
    different = [name for name, one, other in pairs if one is None or one.tobytes() != other.tobytes()]
    different += [name for name in {*files, *found_files} if found_files.get(name) != files.get(name)]
    different += [] if (found.epoch, found.window) == (EPOCHS, 0) else ["position"]
    tally.compared += len(pairs) + len(files)
    tally.differing += [f"{run.name}: {name} differs" for name in different]
    tally.finished += 1


def disturb(trainer: Trainer, run: str, kind: str, rng: random.Random, undisturbed: Undisturbed, tally: Tally) -> bool:
    """Resume a run and kill it; returns whether it was killed before it was finished."""
    counter, folder = trainer.folder / "counter", trainer.folder / run
    stood, total = windows_of(folder, undisturbed.windows), EPOCHS * undisturbed.windows
    extra: dict[str, str] = {}
    if kind == "disk":
        left = undisturbed.operations * (total - stood) // total
        extra = environment(folder, rng.randint(1, max(1, left)), rng.choice(KILLS), counter)
        extra = {name: value for name, value in extra.items() if name != "PYTHONPATH"}
    child = trainer.start(run, extra)
    if kind == "disk":
        code = child.wait()
    elif kind == "clock":
        code = child.wait(rng.uniform(0, undisturbed.seconds))
    else:
        child.training.wait(SECONDS)
        goal = rng.uniform(stood, total)
        while child.runs and windows_of(folder, undisturbed.windows) < goal:
            time.sleep(0.001)
        code = child.wait(rng.uniform(0, 0.05))
    if code is None:
        asked = time.monotonic()
        code = child.stop(signal.SIGTERM if kind == "sigterm" else signal.SIGKILL)
        if kind == "sigterm" and code == 143:
            tally.answers.append(time.monotonic() - asked)
    ended = windows_of(folder, undisturbed.windows) == total
    if code == 0 or (code == -signal.SIGTERM and ended):  # while Python shuts down
        return False
    if code != (143 if kind == "sigterm" else -signal.SIGKILL) or (kind == "disk" and not fired(counter)):
        tally.differing.append(f"{run}: {kind}: exit code {code}: {''.join(child.lines[-3:])}")
    tally.kills[kind] += 1
    _look(folder, child, tally)
    return True


def windows_of(run: Path, windows: int) -> int:
    """Number of finished windows at the newest checkpoint."""
    names = CheckpointStore(run / "checkpoints").names()
    epoch, window = map(int, names[-1].split("-")) if names else (0, 0)
    return epoch * windows + window


def _look(run: Path, child: Group, tally: Tally) -> None:
    """Count the state of a killed process; the newest checkpoint must be intact."""
    writing = any(path.name != ".lock" for path in run.rglob(".*"))
    trains = any(line.startswith("Epoch ") for line in child.lines)
    tally.found["writing" if writing else "training" if trains else "before the first window"] += 1
    damaged = CheckpointStore(run / "checkpoints").newest()[1]
    tally.differing += [f"{run.name}: checkpoint {name}: {what}" for name, what in damaged.items()]


def torture(
    backend: str,
    kills: int,
    seed: int,
    folder: Path,
    log: Callable[[str], None] = lambda line: print(line, flush=True),
    processes: int = 1,
) -> Tally:
    """Kill trainings until the number of kills is reached, and finish the last one."""
    rng, tally, trainer = random.Random(seed), Tally(), Trainer(folder, backend, processes, seed)
    undisturbed = trainer.undisturbed()
    log(f"undisturbed: {EPOCHS} epochs of {undisturbed.windows} windows; {undisturbed.operations} disk operations")
    kinds = ["clock", "training", "training", "disk", "disk", "sigterm"]
    if not undisturbed.operations:
        log("no C compiler, or no LD_PRELOAD: no kills at disk operations")
        kinds = [kind for kind in kinds if kind != "disk"]
    told = 0
    for number in range(10 * kills):
        run, done = f"killed-{number}", False
        while not done:
            at_its_end = windows_of(folder / run, undisturbed.windows) == EPOCHS * undisturbed.windows
            if sum(tally.kills.values()) < kills and not at_its_end:
                done = not disturb(trainer, run, rng.choice(kinds), rng, undisturbed, tally)
            else:
                child = trainer.start(run)
                done = True
                if child.wait() != 0:
                    raise SystemExit("".join(child.lines))
        compare(folder / run, undisturbed, tally)
        shutil.rmtree(folder / run)
        killed = sum(tally.kills.values())
        log(f"{killed} kills, {tally.finished} finished runs, {len(tally.differing)} differences")
        for what in tally.differing[told:]:
            log(f"  {what}")
        told = len(tally.differing)
        if killed >= kills:
            break
    return tally


def report(backend: str, tally: Tally) -> str:
    """The results as text."""
    kills = ", ".join(f"{count} {name}" for name, count in sorted(tally.kills.items()))
    found = ", ".join(f"{count} {name}" for name, count in sorted(tally.found.items()))
    packages = ", ".join(f"{name} {version(name)}" for name in ("keras", backend, "numpy", "safetensors"))
    answers = sorted(tally.answers) or [float("nan")]
    return "\n".join(
        [
            f"{backend}: {sum(tally.kills.values())} kills ({kills}); the process was found: {found}",
            f"  {tally.finished} finished runs; {tally.compared} variables and files compared, "
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
    parser.add_argument("--processes", type=int, default=1)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        tally = torture(arguments.backend, arguments.kills, arguments.seed, Path(folder), processes=arguments.processes)
    print(report(arguments.backend, tally))
    return 1 if tally.differing or not tally.finished else 0


if __name__ == "__main__":
    sys.exit(main())
