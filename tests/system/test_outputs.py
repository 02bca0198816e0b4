"""Outputs named by the user: none destroys an input, devices are written, and what killed processes left is removed."""

import os
import stat
import subprocess
import sys
import threading
from collections import Counter
from pathlib import Path

import pytest

from keraslm.errors import UsageError, WriteError
from keraslm.system.atomic import SUFFIX, atomic_folder, atomic_path, remove_abandoned
from keraslm.system.outputs import check_outputs, output_file, write_together
from tests.support.failing_disk import assert_no_strays, assert_reported, trials


@pytest.fixture
def names(tmp_path, monkeypatch):
    """Names of one file: its own, relative, symbolic, hard, and through a linked folder; and an unrelated file."""
    monkeypatch.chdir(tmp_path)
    folder = tmp_path / "folder"
    folder.mkdir()
    (folder / "file").write_text("input")
    (tmp_path / "symbolic").symlink_to("folder/file")
    (tmp_path / "hard").hardlink_to(folder / "file")
    (tmp_path / "linked").symlink_to("folder")
    (tmp_path / "free").write_text("unrelated")
    return ["folder/file", "./folder/../folder/file", "symbolic", "hard", "linked/file", str(folder / "file")]


def test_an_output_never_overwrites_an_input(names, tmp_path):
    for read in names:
        for written in names:
            with pytest.raises(UsageError, match="this output would overwrite the input"):
                check_outputs({"output": tmp_path / written}, ["free", read])
    check_outputs({"output": tmp_path / "free", "html": None, "plot": tmp_path / "new"}, names)


def test_two_outputs_are_never_one_file(names, tmp_path):
    for other in [*names, "linked/new"]:
        first = tmp_path / ("folder/new" if other.endswith("new") else "folder/file")
        with pytest.raises(UsageError, match="`output` and `html` are the same file"):
            check_outputs({"output": first, "html": tmp_path / other}, [])
    check_outputs({"output": tmp_path / "linked" / "one", "html": tmp_path / "linked" / "two"}, [])
    null = Path(os.devnull)
    check_outputs({"output": null, "html": null}, [os.devnull])


def test_standard_input_is_an_input(names, tmp_path):
    program = f"""
from pathlib import Path
from keraslm.system.outputs import check_outputs
check_outputs({{"output": Path({str(tmp_path / "hard")!r})}}, ["-"])"""
    with open("folder/file") as text:
        done = subprocess.run([sys.executable, "-c", program], stdin=text, capture_output=True, text=True, check=False)
    assert "hard: this output would overwrite the input standard input" in done.stderr


@pytest.mark.parametrize("place", [".", "missing/file", "free/file"])
def test_an_output_needs_a_folder(names, tmp_path, place):
    with pytest.raises(UsageError, match="give the name of a file in a folder that exists"):
        check_outputs({"output": tmp_path / place})


def write(path, content="new"):
    with output_file(path) as temporary:
        temporary.write_text(content)


def test_a_link_stays_and_its_file_is_replaced(names, tmp_path):
    write(tmp_path / "symbolic")
    assert (tmp_path / "symbolic").is_symlink() and (tmp_path / "folder" / "file").read_text() == "new"
    assert (tmp_path / "hard").read_text() == "input"


def test_a_replaced_file_keeps_its_permissions(names, tmp_path):
    (tmp_path / "free").chmod(0o600)
    write(tmp_path / "free")
    assert stat.S_IMODE((tmp_path / "free").stat().st_mode) == 0o600


def test_a_pipe_gets_the_bytes(tmp_path):
    pipe, found = tmp_path / "pipe", []
    os.mkfifo(pipe)
    reader = threading.Thread(target=lambda: found.append(pipe.read_text()), daemon=True)
    reader.start()
    write(pipe, "through the pipe")
    reader.join(10)
    assert found == ["through the pipe"] and pipe.is_fifo() and list(tmp_path.iterdir()) == [pipe]


def test_a_device_stays(tmp_path):
    write(Path("/dev/null"))
    assert stat.S_ISCHR(Path("/dev/null").stat().st_mode)
    with pytest.raises(WriteError, match=r"/dev/full: cannot be written \(No space left"):
        write(Path("/dev/full"))


# What killed processes leave

KILLED = """
import os, sys
from pathlib import Path
from keraslm.system.atomic import atomic_folder, atomic_path
with atomic_path(Path("file")) as path, atomic_folder(Path("folder")) as folder:
    path.write_text("half")
    (folder / "inside").write_text("half")
    print("ready", flush=True)
    sys.stdin.read()
"""


def test_temporaries_of_killed_processes_only_are_removed(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    foreign = [".file.swp", ".file.12345678", f".file.123{SUFFIX}", f"file.12345678{SUFFIX}"]
    for name in foreign:
        (tmp_path / name).write_text("mine")
    process = subprocess.Popen([sys.executable, "-c", KILLED], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert process.stdout.readline() == b"ready\n"
    remove_abandoned(tmp_path)
    assert len(list(tmp_path.iterdir())) == len(foreign) + 2  # the process lives
    process.kill()
    process.communicate()
    remove_abandoned(tmp_path, ["another"])
    assert len(list(tmp_path.iterdir())) == len(foreign) + 2
    with atomic_path(tmp_path / "file"), atomic_folder(tmp_path / "folder"):
        remove_abandoned(tmp_path)  # this process has its own temporaries for the same names
        assert len(list(tmp_path.iterdir())) == len(foreign) + 2
    assert {path.name for path in tmp_path.iterdir()} == {*foreign, "file", "folder"}


def test_writing_removes_what_a_killed_process_left_for_the_same_file(tmp_path):
    left, other = tmp_path / f".file.0123abcd{SUFFIX}", tmp_path / f".other.0123abcd{SUFFIX}"
    for path in (left, other):
        path.write_text("half")
    write(tmp_path / "file")
    assert {path.name for path in tmp_path.iterdir()} == {"file", other.name}


OLD, NEW = ({name: f"{age} {name}".encode() for name in ("step.onnx", "encoder.onnx")} for age in ("old", "new"))


def older(folder: Path) -> None:
    write_together(folder, OLD)


def newer(folder: Path) -> None:
    write_together(folder, NEW)


def test_of_files_that_belong_together_only_an_end_between_two_renames_leaves_a_mixture(tmp_path):
    mixed = Counter()
    for trial in trials(older, newer, tmp_path):
        files = {name: data for name, data in trial.files().items() if name in OLD}
        assert files in (OLD, NEW, OLD | {"step.onnx": NEW["step.onnx"]}), trial
        mixed[trial.kind] += files not in (OLD, NEW)
        assert_no_strays(trial)
        assert_reported(trial, "WriteError")
    assert set(mixed.values()) == {1}, mixed
