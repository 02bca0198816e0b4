"""Let each disk operation of a command fail once, in every way, and check the files afterwards.

    python tests/torture/write_faults.py export train --kinds full half kill-after

Each trial is a process of its own, on a disk whose k-th operation in the trial's folder fails, TMPDIR of an export
included (tests/support/failing_disk.c); k goes from 1 until the command has no such operation. A fault is survived if
the command exits with 1 and one line (or was killed, or did not need the operation), no incomplete file has its final
name, and no temporary file is left that could be removed. Prints one line per kind of fault:

    export  full        9 points, 9 survived

The exit code is 1 if any fault was not survived. A trial takes five to ten seconds, mostly for imports, and all faults
of a command an hour or more; --step 5 tries every fifth operation. Standard error shows the progress.
"""

from __future__ import annotations

import argparse
import contextlib
import itertools
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

sys.path[:0] = [str(Path(__file__).parents[2]), str(Path(__file__).parents[2] / "export")]

from keraslm.errors import KeraslmError  # noqa: E402
from keraslm.runs.run import Run  # noqa: E402
from keraslm.runs.weights import read_weights  # noqa: E402
from tests.support.failing_disk import FAULTS, KILLS, KINDS, UnavailableError, environment, fired  # noqa: E402
from tests.support.program import START  # noqa: E402

OLD = b"the model file that was there before"
SECONDS = 300


@dataclass(frozen=True)
class Ended:
    """Exit code and standard error of a process."""

    code: int
    err: str


@dataclass(frozen=True)
class Subject:
    """A command to test.

    Attributes:
        arguments: command line; the command runs in the folder of the trial.
        prepare: fills that folder.
        complaint: a problem with the files in it, or "".
        temporary: whether TMPDIR is in that folder, too.
    """

    arguments: list[str]
    prepare: Callable[[Path], object]
    complaint: Callable[[Path, Ended], str]
    temporary: bool = False


def run_folder(path: Path) -> str:
    """A problem with a folder that holds either no run or an intact one, or ""."""
    if not (path / "config.json").exists():
        return ""
    try:
        run = Run.open(path)
        run.epochs()
        if run.weights_path.exists():
            read_weights(run.weights_path, run.config.model, run.tokenizer.vocab_size)
    except KeraslmError as error:
        return str(error)
    return ""


def export_subject(folder: Path) -> Subject:
    """Export over an older file: it is untouched, or replaced by the same file as on a good disk."""
    from tests.support.made_run import make_run

    run = make_run(folder, num_layers=1, units=4, embedding_dim=4)
    arguments = ["export", "model.onnx", "--run", str(run.path)]
    good = folder / "good"
    good.mkdir()
    ended = ended_in(good, arguments, dict(os.environ))
    if ended.code:
        raise SystemExit(f"export without a fault: {ended.err}")
    new = (good / "model.onnx").read_bytes()

    def complaint(place: Path, ended: Ended) -> str:
        found = (place / "model.onnx").read_bytes()
        if found not in (OLD, new):
            return f"model.onnx of {len(found):,} bytes is neither the old nor the new file"
        return "exit code 0 without a new model.onnx" if found == OLD and ended.code == 0 else ""

    return Subject(arguments, lambda place: (place / "model.onnx").write_bytes(OLD), complaint, temporary=True)


def train_subject(folder: Path) -> Subject:
    """Train over a previous run: the folder holds the previous run, the new one or none."""
    from tests.support.made_run import make_run

    text = folder / "text.txt"
    text.write_text("the cat sat on the mat\na dog ran\n" * 30, encoding="utf-8")
    sizes = {"units": 4, "embedding-dim": 4, "num-layers": 1, "batch-size": 2, "num-steps": 5, "epochs": 2}
    flags = [part for name, value in sizes.items() for part in (f"--{name}", str(value))]
    arguments = ["train", "--run", "run", "--overwrite", "--train", str(text), "--progress", "none", *flags]
    return Subject(arguments, lambda place: make_run(place, units=3), lambda place, _: run_folder(place / "run"))


SUBJECTS = {"export": export_subject, "train": train_subject}


def ended_in(place: Path, arguments: list[str], environ: dict[str, str]) -> Ended:
    """Run the program in a folder, and kill its whole process group at the end."""
    search = os.pathsep.join(entry for entry in sys.path if entry)
    with tempfile.TemporaryFile("w+") as errors:
        process = subprocess.Popen(
            [*START, *arguments],
            cwd=place,
            env=environ | {"PYTHONPATH": search, "PYTHONDONTWRITEBYTECODE": "1"},
            stdout=subprocess.DEVNULL,
            stderr=errors,
            start_new_session=True,
        )
        try:
            code = process.wait(SECONDS)
        except subprocess.TimeoutExpired:
            code = 124
        with contextlib.suppress(ProcessLookupError):
            while True:
                os.killpg(process.pid, signal.SIGKILL)
                process.poll()
                time.sleep(0.01)
        errors.seek(0)
        return Ended(code, errors.read())


def complaint(subject: Subject, kind: str, place: Path, ended: Ended) -> str:
    """The problem after a trial, or ""."""
    sentence = ended.err.strip().rpartition("\n")[2]
    if ended.code not in (0, 1, *([-signal.SIGKILL] if kind in KILLS else [])):
        return f"exit code {ended.code}: {sentence}"
    if ended.code == 1 and (not sentence.startswith("keraslm: ") or "unexpected" in sentence):
        return f"not one line of keraslm: {sentence}"
    # TensorFlow and torch leave their own files in TMPDIR.
    ours = (*place.glob(".*"), *place.glob("run/.*"), *place.glob("runs/.*"), *place.glob("tmp/keraslm-*"))
    strays = [str(p.relative_to(place)) for p in ours]
    if strays and kind in FAULTS and kind != "read-only":
        return f"left behind: {', '.join(strays)}"
    return subject.complaint(place, ended)


def attempts(subject: Subject, kind: str, folder: Path, step: int) -> Iterator[tuple[int, str]]:
    """Each operation that failed, and the problem after it."""
    for point in itertools.count(1, step):
        place, counter = folder / str(point), folder / "counter"
        (place / "tmp").mkdir(parents=True)
        subject.prepare(place)
        environ = environment(place, point, kind, counter)
        environ |= {"TMPDIR": str(place / "tmp")} if subject.temporary else {}
        ended = ended_in(place, subject.arguments, environ)
        if not fired(counter):
            if ended.code:
                yield point, f"without a fault: exit code {ended.code}: {ended.err}"
            return
        print(f"{point} ", end="", file=sys.stderr, flush=True)
        yield point, complaint(subject, kind, place, ended)


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, usage="write_faults.py [OPTIONS]"
    )
    parser.add_argument("commands", nargs="*", metavar="COMMAND", help=f"{', '.join(SUBJECTS)}; default: all")
    parser.add_argument("--kinds", nargs="+", choices=KINDS, default=KINDS, metavar="KIND", help=", ".join(KINDS))
    parser.add_argument("--step", type=int, default=1, help="try every STEP-th point")
    options = parser.parse_args()
    unknown = set(options.commands) - set(SUBJECTS)
    if unknown:
        parser.error(f"no command {', '.join(sorted(unknown))}: choose from {', '.join(SUBJECTS)}")
    failed = 0
    for name in options.commands or SUBJECTS:
        with tempfile.TemporaryDirectory(prefix="write-faults-") as folder:
            (Path(folder) / "start").mkdir()
            subject = SUBJECTS[name](Path(folder) / "start")
            for kind in options.kinds:
                found = list(attempts(subject, kind, Path(folder) / kind, options.step))
                bad = [(point, wrong) for point, wrong in found if wrong]
                print(file=sys.stderr)
                print(f"{name:<7} {kind:<12} {len(found)} points, {len(found) - len(bad)} survived", flush=True)
                for point, wrong in bad:
                    print(f"        at {point}: {wrong}", flush=True)
                failed += len(bad)
    return int(failed > 0)


if __name__ == "__main__":
    try:
        sys.exit(main())
    except UnavailableError as reason:
        sys.exit(str(reason))
