"""The program under unusual conditions: closed or narrow standard streams, and not enough memory."""

import subprocess

import pytest

from keraslm.cli import run
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
def test_a_lack_of_memory_is_no_bug(monkeypatch, capsys, fake, error, said):
    def raise_inside(*_, **__):
        try:
            raise error
        except Exception as cause:
            raise ValueError("something else failed") from cause

    monkeypatch.setattr("keraslm.scoring.scorer.load", raise_inside)
    assert run(["score", str(fake)]) == 1
    message = capsys.readouterr().err
    assert (
        message.startswith("keraslm: Not enough memory (") and said in message and "a smaller --batch-size" in message
    )
