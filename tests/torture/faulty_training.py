"""Let each disk operation of a training fail once, in every way, and check that the run can be resumed bit for bit.

    python tests/torture/faulty_training.py --kinds full half kill-after

A small training on torch runs on a disk whose k-th operation in the run folder fails, for every k
(tests/support/failing_disk.c). Then the same command runs on a good disk. A fault is survived if the first process
exited with 1 and one line, or was killed; left no temporary file that it could remove; and the second process wrote the
same weights and checkpoint as a training without a fault. Exits with 1 otherwise. All kinds take about ten minutes.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import sys
import tempfile
from pathlib import Path

sys.path[:0] = [str(Path(__file__).parents[2]), str(Path(__file__).parents[2] / "export")]

from tests.support.failing_disk import DONE, FAULTS, KILLED, Trial, UnavailableError, trials  # noqa: E402

KINDS = ("full", "full-once", "half", "io-once", "read-only", "kill-half", "kill-after")
FLAGS = {
    "preset": "small",
    "backend": "torch",
    "units": 4,
    "num-layers": 1,
    "output-dropout": 0.2,
    "batch-size": 2,
    "num-steps": 5,
    "epochs": 2,
    "checkpoint-windows": "9",
    "progress": "none",
}
TEXT = "the cat sat on the mat\na dog ran\n" * 12


class EndedError(Exception):
    """The exit code of the program was not 0; the message is the code and standard error."""


def prepare(folder: Path) -> None:
    """Write the texts, and import Keras before the first fork."""
    from keraslm.system.backend import select_backend

    select_backend("torch")
    for name in ("train.txt", "valid.txt"):
        (folder / name).write_text(TEXT, encoding="utf-8")


def train(folder: Path) -> None:
    """Train as the command line does."""
    from keraslm.cli import run

    errors = io.StringIO()
    with contextlib.chdir(folder), contextlib.redirect_stderr(errors), contextlib.redirect_stdout(io.StringIO()):
        flags = [f"--{name}={value}" for name, value in FLAGS.items()]
        code = run(["train", "--run=run", "--train=train.txt", "--valid=valid.txt", *flags])
    if code:
        raise EndedError(f"{code} {errors.getvalue().strip()}")


def result(folder: Path) -> dict[str, bytes]:
    """The weights, and the variables of the last checkpoint."""
    from keraslm.runs.checkpoint import CheckpointStore

    run = folder / "run"
    checkpoint, damaged = CheckpointStore(run / "checkpoints").newest()
    assert checkpoint and not damaged, damaged
    weights = {name: (run / name).read_bytes() for name in ("weights.safetensors", "best.safetensors")}
    return weights | {name: value.tobytes() for name, value in checkpoint.variables.items()}


def complaint(trial: Trial, expected: dict[str, bytes]) -> str:
    """The problem after a trial, or ""."""
    if trial.kind in FAULTS:
        reported = trial.ended == "EndedError" and trial.message.startswith("1 keraslm: ")
        if trial.ended != DONE and (not reported or "\n" in trial.message or "unexpected" in trial.message):
            return f"{trial.ended}: {trial.message}"
        if trial.kind != "read-only" and trial.strays():
            return f"left behind: {', '.join(trial.strays())}"
    elif trial.ended != KILLED:
        return f"not killed: {trial.ended}: {trial.message}"
    try:
        train(trial.folder)
        found = result(trial.folder)
    except Exception as error:
        return f"the run cannot be resumed: {type(error).__name__}: {error}"
    different = [name for name in expected if found.get(name) != expected[name]]
    return f"differs: {', '.join(different)}" if different else ""


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--kinds", nargs="+", choices=KINDS, default=KINDS, metavar="KIND", help=", ".join(KINDS))
    options = parser.parse_args()
    # By a name that the process of the trials can import.
    from tests.torture import faulty_training as this

    failed = 0
    with tempfile.TemporaryDirectory(prefix="faulty-training-") as name:
        folder = Path(name)
        (folder / "good").mkdir()
        prepare(folder / "good")
        train(folder / "good")
        expected = result(folder / "good")
        for kind in options.kinds:
            tried = trials(this.prepare, this.train, folder / "trials", (kind,), seconds=3600)
            wrong = [(trial.point, what) for trial in tried if (what := complaint(trial, expected))]
            print(f"train   {kind:<12} {len(tried)} points, {len(tried) - len(wrong)} survived", flush=True)
            for point, what in wrong:
                print(f"        at {point}: {what}", flush=True)
            failed += len(wrong)
    return int(failed > 0)


if __name__ == "__main__":
    try:
        sys.exit(main())
    except UnavailableError as reason:
        sys.exit(str(reason))
