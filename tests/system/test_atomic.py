"""Files and folders after the k-th disk operation fails, for every k and every kind of fault; and their errors."""

from __future__ import annotations

import stat
from contextlib import ExitStack
from pathlib import Path

import pytest

from keraslm.errors import RunError, WriteError
from keraslm.system.atomic import (
    atomic_folder,
    atomic_path,
    make_folder,
    replace_all,
    sync_file,
    sync_folder,
    temporary_file,
    writing,
)
from tests.support.failing_disk import FAULTS, KINDS, assert_no_strays, assert_reported, nothing, trials

OLD, NEW = b"old" * 1000, b"new" * 2000

# The failing disk itself


def by_hand(folder: Path) -> None:
    (folder / "kept").read_bytes()
    with (folder / "a").open("wb", buffering=0) as file:  # 1
        file.write(NEW)  # 2
    sync_file(folder / "a")  # 3
    (folder / "a").rename(folder / "b")  # 4
    (folder / "c").mkdir()  # 5
    (folder / "d").symlink_to("b")  # 6
    (folder / "b").chmod(0o600)  # 7
    sync_folder(folder)  # 8
    (folder / "d").unlink()  # 9, for a read-only disk and for SIGKILL


def keep(folder: Path) -> None:
    (folder / "kept").write_bytes(OLD)


def test_the_failing_disk_counts_what_changes_the_folder(tmp_path):
    found = trials(keep, by_hand, tmp_path)
    points = {kind: max(trial.point for trial in found if trial.kind == kind) for kind in KINDS}
    assert points == {kind: 8 if kind in FAULTS and kind != "read-only" else 9 for kind in KINDS}
    names = [set(), {"a"}, {"a"}, {"a"}, {"b"}, {"b", "c"}, {"b", "c", "d"}, {"b", "c", "d"}]
    for trial in found:
        left = {path.name for path in trial.folder.iterdir()} - {"kept"}
        if trial.kind in FAULTS:
            assert trial.kind == "half" or trial.ended == "OSError", trial
        if trial.point <= 8 and trial.kind in ("full", "io-once", "read-only", "kill-before"):
            assert left == names[trial.point - 1], trial
        if trial.point < 8 and trial.kind == "kill-after":
            assert left == names[trial.point], trial
        if trial.point == 2 and trial.kind in ("half", "kill-half"):
            assert len(trial.files()["a"]) == len(NEW) // 2, trial


# Files


def old_file(folder: Path) -> None:
    (folder / "file").write_bytes(OLD)


def replace_file(folder: Path) -> None:
    with atomic_path(folder / "file") as path:
        path.write_bytes(NEW)


def test_a_file_has_the_usual_permissions(tmp_path):
    (tmp_path / "plain").write_text("")
    replace_file(tmp_path)
    modes = {stat.S_IMODE((tmp_path / name).stat().st_mode) for name in ("plain", "file")}
    assert len(modes) == 1


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt, OSError])
def test_the_old_file_is_kept_if_the_block_raises(tmp_path, error):
    old_file(tmp_path)
    with pytest.raises(error), atomic_path(tmp_path / "file") as path:
        path.write_text("half")
        raise error
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == {"file": OLD}


@pytest.mark.parametrize("before", [nothing, old_file])
def test_a_file_is_either_the_old_or_the_new_one(tmp_path, before):
    found = trials(before, replace_file, tmp_path)
    assert len(found) == 7 * len(KINDS)  # open twice, write, chmod, fsync, rename, fsync of the folder
    for trial in found:
        assert_reported(trial)
        assert_no_strays(trial)
        content = (trial.folder / "file").read_bytes() if (trial.folder / "file").exists() else None
        assert content in (NEW, OLD if before == old_file else None), trial
        in_place = content == NEW  # after the rename, the last operation but one
        last = max(other.point for other in found if other.kind == trial.kind)
        assert in_place == (trial.point >= last - (trial.kind == "kill-after")), trial


def replace_three(folder: Path) -> None:
    records, outputs = [folder / "one.json", folder / "two.json"], [folder / "out"]
    with ExitStack() as stack:
        pairs = [(stack.enter_context(temporary_file(path)), path) for path in (*records, *outputs)]
        for temporary, _ in pairs:
            temporary.write_bytes(NEW)
        replace_all(pairs[:2], pairs[2:])


def test_files_are_replaced_in_stages_after_all_are_on_the_disk(tmp_path):
    ends = set()
    for trial in trials(nothing, replace_three, tmp_path):
        assert_reported(trial)
        assert_no_strays(trial)
        there = {name for name in ("one.json", "two.json", "out") if (trial.folder / name).exists()}
        assert all((trial.folder / name).read_bytes() == NEW for name in there), trial
        assert "out" not in there or len(there) == 3, trial
        ends.add(len(there))
    assert ends == {0, 1, 2, 3}


def test_an_error_during_cleanup_does_not_hide_the_first_one(tmp_path, monkeypatch):
    def fail(*_, **__):
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(Path, "unlink", fail)
    with pytest.raises(KeyError, match="first"), atomic_path(tmp_path / "file"):
        raise KeyError("first")


# Folders


def fill_folder(folder: Path) -> None:
    with atomic_folder(folder / "deep" / "folder") as path:
        (path / "one").write_bytes(NEW)
        (path / "two").write_bytes(OLD)


def test_a_folder_appears_complete_or_not_at_all(tmp_path):
    for trial in trials(nothing, fill_folder, tmp_path):
        assert_reported(trial)
        assert_no_strays(trial)
        target = trial.folder / "deep" / "folder"
        if target.exists():
            assert {path.name: path.read_bytes() for path in target.iterdir()} == {"one": NEW, "two": OLD}, trial


def make_folders(folder: Path) -> None:
    make_folder(folder / "a" / "b")
    make_folder(folder / "a")


def test_a_new_folder_is_flushed_in_its_parent(tmp_path):
    found = trials(nothing, make_folders, tmp_path, ("io-once",))
    assert len(found) == 4  # two folders made, two flushed; the second call finds both


# Errors


def test_the_error_names_the_file_the_reason_and_the_remedy():
    with pytest.raises(WriteError) as caught, writing(Path("model.onnx"), "The older file is untouched."):
        raise OSError(28, "No space left on device", ".model.onnx.abcd")
    assert str(caught.value) == (
        "model.onnx: cannot be written (No space left on device). The older file is untouched. "
        "Free some space and try again."
    )
    assert caught.value.exit_code == 1


@pytest.mark.parametrize("error", [RunError("no"), BrokenPipeError(), KeyboardInterrupt()])
def test_other_errors_are_not_changed(error):
    with pytest.raises(type(error)) as caught, writing(Path("file")):
        raise error
    assert caught.value is error
