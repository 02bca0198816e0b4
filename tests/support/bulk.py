"""Bulk scoring that can be stopped in the middle: a writer controlled by files in a folder, and a driver to be killed.

In the folder named by the environment, for a text `a.txt`:

    hold-a.txt      the writer waits in the middle of the text while this file exists
    die-a.txt       the writer kills its process in the middle, once: it removes the file first
    poison-a.txt    the same, each time
    commit-a.txt    holds k: driver and worker are killed before the k-th renaming of a file after the text, once
    held-a.txt      written by the writer while it waits: its process id
    log             written by the writer: the name of each text that it started
"""

from __future__ import annotations

import io
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from itertools import chain
from pathlib import Path

import keraslm
from keraslm.bulk.driver import score_files
from keraslm.bulk.job import Job, Outcomes, score_shards
from keraslm.bulk.shards import Shard
from keraslm.errors import KeraslmError
from keraslm.report.options import ScoreOptions
from keraslm.report.writer import write_scores
from keraslm.system import atomic
from keraslm.text.files import TextFile

FOLDER = "KERASLM_TEST_FOLDER"
MIDDLE = 5  # rows
PATIENCE = 60  # seconds until a test that waits for something gives up


def alone(models: Path | Sequence[Path], text: Path, options: ScoreOptions | None = None) -> bytes:
    """The scores of one text, written by one process."""
    out = io.StringIO()
    lines = chain(TextFile(text, "replace"), [None])
    write_scores(keraslm.load(models, threads=1), lines, options or ScoreOptions(), out, name=str(text))
    return out.getvalue().encode()


def expected(model: Path, texts: Sequence[Path]) -> dict[str, bytes]:
    """The files of scores that bulk scoring must write."""
    return {f"{path.name.removesuffix('.gz')}.tsv": alone(model, path) for path in texts}


def outputs(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}


def score_here(job: Job, shards: Sequence[Shard], _: int) -> Outcomes:
    """Score shards in this process, one at a time."""
    for shard in shards:
        yield from score_shards(job, [shard])


def temporaries(folder: Path) -> list[str]:
    return [path.name for path in folder.rglob(".*.*") if path.is_file()]


def begun(watched: Path) -> list[str]:
    log = watched / "log"
    return sorted(log.read_text().split()) if log.exists() else []


def obedient(scorer, lines, options, out, *, name):
    """Write scores; in the middle, do what the files in the folder say."""
    folder, text = Path(os.environ[FOLDER]), Path(name).name
    with (folder / "log").open("a") as log:
        log.write(f"{text}\n")
    rows = io.StringIO()
    write_scores(scorer, lines, options, rows, name=name)
    for number, row in enumerate(rows.getvalue().splitlines(keepends=True)):
        if number == MIDDLE:
            out.flush()
            obey(folder, text)
        out.write(row)
    last = folder / f"commit-{text}"
    if last.exists():
        kill_at_renaming(int(last.read_text()))
        last.unlink()


def kill_at_renaming(count: int) -> None:
    """Kill both processes before the `count`-th file is renamed, or after the second."""
    done, replace, sync = [], Path.replace, atomic.sync_folder

    def die() -> None:
        os.kill(os.getppid(), signal.SIGKILL)
        os.kill(os.getpid(), signal.SIGKILL)

    def counted(self: Path, target: Path) -> Path:
        done.append(target)
        if len(done) == count:
            die()
        return replace(self, target)

    def last(path: Path) -> None:
        if len(done) == 2:
            die()
        sync(path)

    Path.replace, atomic.sync_folder = counted, last


def obey(folder: Path, text: str) -> None:
    once = folder / f"die-{text}"
    if once.exists() or (folder / f"poison-{text}").exists():
        once.unlink(missing_ok=True)
        os.kill(os.getpid(), signal.SIGKILL)
    if (folder / f"hold-{text}").exists():
        (folder / f"making-{text}").write_text(str(os.getpid()))
        (folder / f"making-{text}").rename(folder / f"held-{text}")
        wait_until(lambda: not (folder / f"hold-{text}").exists())


def wait_until(happened) -> None:
    end = time.monotonic() + PATIENCE
    while not happened():
        assert time.monotonic() < end, "timeout"
        time.sleep(0.005)


def is_running(number: int) -> bool:
    """Whether a process exists and is not a zombie."""
    try:
        return Path(f"/proc/{number}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def driver(models, files, output, folder: Path, **arguments) -> subprocess.Popen[str]:
    """Start `score_files` in a separate process."""
    from tests.support.program import environment  # with pytest, which workers do not need

    values = {"models": str(models), "files": [*map(str, files)], "output": str(output), **arguments}
    command = [sys.executable, "-c", "from tests.support.bulk import main; main()", json.dumps(values)]
    return subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=environment() | {FOLDER: str(folder)})


def main() -> None:
    values = json.loads(sys.argv[1])
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a background job of a shell ignores it
    try:
        score_files(options=ScoreOptions(), write=obedient, log=lambda _: None, **values).check()
    except KeraslmError as error:
        print(error, file=sys.stderr)
        sys.exit(error.exit_code)
    except KeyboardInterrupt:
        sys.exit(130)
