"""Let each disk operation of an export fail once, in every way, and check the files afterwards.

    python tests/torture/write_faults.py --kinds full half kill-after

Each trial exports over an older file, in a separate process, on a disk whose k-th operation in the folder or in TMPDIR
fails (tests/support/failing_disk.c); k goes from 1 until there is no such operation. A fault is survived if the command
exits with 1 and one line (or was killed, or did not need the operation), `model.onnx` is the older file or the new file
of a good disk, and no temporary file is left that could be removed. Prints one line per kind of fault:

    full        17 points, 17 survived

Exits with 1 if any fault was not survived. A trial takes five to ten seconds, mostly for imports; --step 5 tries every
fifth operation. Standard error shows the progress.
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
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

sys.path[:0] = [str(Path(__file__).parents[2]), str(Path(__file__).parents[2] / "export")]

from tests.support.failing_disk import FAULTS, KILLS, KINDS, UnavailableError, environment, fired  # noqa: E402
from tests.support.made_run import make_run  # noqa: E402
from tests.support.program import START  # noqa: E402

OLD = b"the model file that was there before"
SECONDS = 300


@dataclass(frozen=True)
class Ended:
    """Exit code and standard error of a process."""

    code: int
    err: str


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


def complaint(kind: str, place: Path, ended: Ended, new: bytes) -> str:
    """The problem after a trial, or ""."""
    sentence = ended.err.strip().rpartition("\n")[2]
    if ended.code not in (0, 1, *([-signal.SIGKILL] if kind in KILLS else [])):
        return f"exit code {ended.code}: {sentence}"
    if ended.code == 1 and (not sentence.startswith("keraslm: ") or "unexpected" in sentence):
        return f"not one line of keraslm: {sentence}"
    # TensorFlow leaves its own files in TMPDIR.
    strays = [str(path.relative_to(place)) for path in (*place.glob(".*"), *place.glob("tmp/.*.keraslm"))]
    if strays and kind in FAULTS and kind != "read-only":
        return f"left behind: {', '.join(strays)}"
    found = (place / "model.onnx").read_bytes()
    if found not in (OLD, new):
        return f"model.onnx of {len(found):,} bytes is neither the old nor the new file"
    return "exit code 0 without a new model.onnx" if found == OLD and ended.code == 0 else ""


def attempts(arguments: list[str], new: bytes, kind: str, folder: Path, step: int) -> Iterator[tuple[int, str]]:
    """Each operation that failed, and the problem after it."""
    for point in itertools.count(1, step):
        place, counter = folder / str(point), folder / "counter"
        (place / "tmp").mkdir(parents=True)
        (place / "model.onnx").write_bytes(OLD)
        ended = ended_in(place, arguments, environment(place, point, kind, counter) | {"TMPDIR": str(place / "tmp")})
        if not fired(counter):
            if ended.code:
                yield point, f"without a fault: exit code {ended.code}: {ended.err}"
            return
        print(f"{point} ", end="", file=sys.stderr, flush=True)
        yield point, complaint(kind, place, ended, new)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kinds", nargs="+", choices=KINDS, default=KINDS, metavar="KIND", help=", ".join(KINDS))
    parser.add_argument("--step", type=int, default=1, help="try every STEP-th point")
    options = parser.parse_args()
    failed = 0
    with tempfile.TemporaryDirectory(prefix="write-faults-") as name:
        folder = Path(name)
        arguments = ["export", "model.onnx", "--run", str(make_run(folder, num_layers=1, units=4).path)]
        ended = ended_in(folder, arguments, dict(os.environ))
        if ended.code:
            raise SystemExit(f"export without a fault: {ended.err}")
        new = (folder / "model.onnx").read_bytes()
        for kind in options.kinds:
            found = list(attempts(arguments, new, kind, folder / kind, options.step))
            bad = [(point, problem) for point, problem in found if problem]
            print(file=sys.stderr)
            print(f"{kind:<12} {len(found)} points, {len(found) - len(bad)} survived", flush=True)
            for point, problem in bad:
                print(f"        at {point}: {problem}", flush=True)
            failed += len(bad)
    return int(failed > 0)


if __name__ == "__main__":
    try:
        sys.exit(main())
    except UnavailableError as reason:
        sys.exit(str(reason))
