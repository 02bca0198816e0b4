"""The program under unusual conditions: closed or narrow standard streams, and not enough memory."""

import os
import subprocess

import pytest

from keraslm.cli import run
from keraslm.errors import ModelFileError
from tests.support.program import START, environment

TEXT = "the “bürd” sat\n"


def in_shell(line, *arguments, **variables):
    command = ["sh", "-c", f'"$@" {line}', "sh", *START, *map(str, arguments)]
    return subprocess.run(command, capture_output=True, env=environment() | variables, timeout=120, check=False)


@pytest.mark.parametrize("closed", ["<&-", ">&-", "2>&-", "<&- >&- 2>&-"])
def test_closed_standard_streams_are_empty_files(fake, text, tmp_path, closed):
    output = tmp_path / "scores.tsv"
    done = in_shell(closed, "score", fake, text(TEXT), "--output", output)
    assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"")
    assert len(output.read_text().splitlines()) == 5
    done = in_shell(closed, "score", fake, "--level", "sentence")
    assert done.returncode == 0 and done.stderr == b""


@pytest.mark.parametrize(("encoding", "shown"), [("ascii", b"\\u201cb\\xfcrd\\u201d"), ("cp1252", b"\x93b\xfcrd\x94")])
def test_characters_that_the_output_cannot_encode_are_escaped(fake, text, encoding, shown):
    for line in (["tokenize", "--with", fake, "--level", "oovs"], ["score", fake, "--level", "word"]):
        done = in_shell("", *line, text(TEXT), PYTHONIOENCODING=encoding, PYTHONUTF8="0")
        assert done.returncode == 0 and shown in done.stdout, done
    done = in_shell("", "score", fake, "“gone”", PYTHONIOENCODING=encoding, PYTHONUTF8="0")
    assert done.returncode == 2 and "“gone”".encode(encoding, "backslashreplace") in done.stderr


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (MemoryError(), "MemoryError"),
        (MemoryError("Unable to allocate 4 GiB for an array"), "MemoryError: Unable to allocate 4 GiB for an array"),
        (RuntimeError("RESOURCE_EXHAUSTED: Out of memory allocating 9 bytes."), "RESOURCE_EXHAUSTED: Out of memory"),
        (RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory"), "DefaultCPUAllocator"),
        (RuntimeError("OOM when allocating tensor with shape[1,2]"), "OOM when allocating tensor"),
    ],
)
@pytest.mark.parametrize("kind", [ValueError, ModelFileError])
def test_a_lack_of_memory_is_no_bug(monkeypatch, capsys, fake, error, said, kind):
    def raise_inside(*_, **__):
        try:
            raise error
        except Exception as cause:
            raise kind("it cannot be opened") from cause

    monkeypatch.setattr("keraslm.scoring.scorer.load", raise_inside)
    assert run(["score", str(fake)]) == 1
    message = capsys.readouterr().err
    assert (
        message.startswith("keraslm: Not enough memory (") and said in message and "a smaller --batch-size" in message
    )


@pytest.mark.parametrize("error", ["ImportError('libx.so: no such file')", "RuntimeError('two versions')"])
@pytest.mark.parametrize(
    ("package", "line"),
    [
        ("onnxruntime", ["score", "MODEL", "TEXT"]),
        ("onnxruntime", ["score", "MODEL", "TEXT", "--workers", "1", "--output", "out"]),
        ("tokenizers", ["score", "MODEL", "TEXT"]),
        ("zstandard", ["score", "MODEL", "ZST"]),
        ("jiwer", ["rescore", "MODEL", "TEXT", "--references", "TEXT"]),
    ],
)
def test_a_broken_package_is_named(fake, text, tmp_path, package, line, error):
    (tmp_path / f"{package}.py").write_text(f"raise {error}\n")
    names = {"MODEL": fake, "TEXT": text("u1\t1\tthe cat\n"), "ZST": text(b"\x28\xb5\x2f\xfd" + bytes(9), "t.zst")}
    path = {"PYTHONPATH": os.pathsep.join([str(tmp_path), environment()["PYTHONPATH"]])}
    done = in_shell("", *(names.get(part, part) for part in line), **path)
    said = f"keraslm: MissingPackageError: The package {package} cannot be imported ({error.partition('(')[0]}: "
    assert done.returncode == 2 and done.stderr.decode().startswith(said), done.stderr.decode()
    assert done.stderr.decode().endswith(f"pip install --force-reinstall {package}\n")
