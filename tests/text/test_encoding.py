"""Large texts: the same ids through processes and the cache as in memory; no incomplete files."""

import bz2
import gzip
import hashlib
import io
import json
import lzma
import os
import signal
import struct
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from keraslm.config import DataConfig
from keraslm.errors import TextError
from keraslm.text import encoding, files, store
from keraslm.text.encoding import Encoder
from keraslm.text.files import TextFile, TextFiles
from tests.support.program import PEAK
from tests.support.tiny import text_lines
from tests.support.words import encode_text, train_words

KINDS = [
    {},
    {"lowercase": True, "split_punctuation": True},
    {"tokenizer": "char"},
    {"tokenizer": "bpe", "vocab_size": 300},
]
LINES = [*text_lines(400, seed=3), "", "a, B\u2028c  \x00 é", " "]


@pytest.fixture(autouse=True)
def small_blocks(monkeypatch):
    """Many blocks of a small text."""
    monkeypatch.setattr(files, "BLOCK", 512)


@pytest.fixture
def text(tmp_path):
    (tmp_path / "text.txt").write_text("".join(f"{line}\n" for line in LINES), encoding="utf-8")
    return TextFiles([str(tmp_path / "text.txt")])


def entries(tmp_path):
    """Folders of encoded texts in the cache."""
    return set((tmp_path / "cache" / "ids").iterdir())


def large(tmp_path, **options):
    """An encoder to which every text is large."""
    return Encoder(tmp_path / "cache", large=0, **{"workers": 2, **options})


@pytest.mark.parametrize("fields", KINDS, ids=str)
@pytest.mark.parametrize("count", [0, 2])
def test_large_and_small_texts_have_the_same_tokenizer_and_ids(tmp_path, text, fields, count):
    config, encoder = DataConfig(**fields), large(tmp_path, workers=count)
    small = Encoder(tmp_path / "none")
    tokenizer = encoder.tokenizer(text, config)
    assert tokenizer.to_json() == small.tokenizer(text, config).to_json()
    found, expected = encoder.encode(text, tokenizer), small.encode(text, tokenizer)
    assert isinstance(found.ids, np.memmap) and found.ids.dtype == np.uint16
    np.testing.assert_array_equal(found.ids, expected.ids)
    np.testing.assert_array_equal(expected.ids, np.concatenate(tokenizer.encode_lines(LINES)))
    assert found.counts == expected.counts
    assert not (tmp_path / "none").exists()
    (path,) = entries(tmp_path)
    header = json.loads((path / "text.json").read_text())
    assert header["format_version"] == store.FORMAT_VERSION and header["counts"]["lines"] == len(LINES)
    assert sorted(path.name for path in path.iterdir()) == ["ids.bin", "text.json"]


def test_the_text_is_counted_in_every_unit(tmp_path, text):
    encoder = large(tmp_path)
    counts = encoder.encode(text, train_words(LINES, min_count=2)).counts
    assert counts.lines == len(LINES) and counts.words == sum(len(line.split()) for line in LINES)
    assert counts.characters == sum(len(line) + 1 for line in LINES)
    assert counts.bytes == text.size()
    assert counts.tokens == counts.words + counts.lines and counts.oovs >= 40


def test_a_cached_text_is_only_hashed(tmp_path, text, monkeypatch):
    first = large(tmp_path)
    tokenizer = first.tokenizer(text, DataConfig())
    ids = np.array(first.encode(text, tokenizer).ids)
    monkeypatch.setattr(TextFiles, "blocks", None)
    again = large(tmp_path)
    assert again.tokenizer(text, DataConfig()).to_json() == tokenizer.to_json()
    np.testing.assert_array_equal(again.encode(text, tokenizer).ids, ids)


def test_text_tokenizer_and_errors_identify_an_entry(tmp_path, text):
    encoder, tokenizer = large(tmp_path), train_words(LINES)
    encoder.encode(text, tokenizer)
    encoder.encode(text, train_words(LINES[:9]))
    encoder.encode(TextFiles([text.files[0].path], "replace"), tokenizer)
    with open(text.files[0].path, "a") as file:
        file.write("more\n")
    encoder.encode(text, tokenizer)
    assert len(entries(tmp_path)) == 4


def test_a_vocabulary_beyond_16_bits_is_stored_in_32(tmp_path):
    (tmp_path / "wide.txt").write_text(" ".join(f"w{n}" for n in range(70_000)) + "\n")
    text = TextFiles([str(tmp_path / "wide.txt")])
    encoder = large(tmp_path)
    tokenizer = encoder.tokenizer(text, DataConfig(vocab_size=100_000))
    found = encoder.encode(text, tokenizer)
    assert found.ids.dtype == np.int32 and len(set(found.ids.tolist())) == 70_001
    np.testing.assert_array_equal(found.ids[:-1], tokenizer.encode_prompt(" ".join(f"w{n}" for n in range(70_000))))


# Shards and compression


def pack(kind, data):
    if kind == "zst":
        return pytest.importorskip("zstandard", reason="the extra zstd is not installed").compress(data)
    return {"gz": gzip.compress, "bz2": bz2.compress, "xz": lzma.compress, "plain": bytes}[kind](data)


PACKED = ["plain", "gz", "bz2", "xz", "zst"]


def test_shards_are_read_in_order_with_any_compression(tmp_path, text):
    """Each has a different compression, detected by its first bytes and not by its name."""
    data = [line.encode() + b"\n" for line in LINES]
    for number, kind in enumerate(PACKED):
        part = b"".join(data[number * 80 : (number + 1) * 80 if number < 4 else None])
        (tmp_path / f"shard-{number}.txt").write_bytes(pack(kind, part))
    shards = TextFiles([str(tmp_path / "shard-*.txt")])
    assert list(shards) == list(text) and len(shards.files) == 5
    encoder, tokenizer = large(tmp_path), train_words(LINES)
    np.testing.assert_array_equal(encoder.encode(shards, tokenizer).ids, encoder.encode(text, tokenizer).ids)


def test_a_file_always_ends_a_line(tmp_path):
    (tmp_path / "a").write_text("one two")
    (tmp_path / "b").write_text("three\n")
    texts = TextFiles([str(tmp_path / "a"), str(tmp_path / "b")])
    assert list(texts) == ["one two", "three"]
    assert b"".join(block.data for block in texts.blocks()) == b"one two\nthree\n"


@pytest.mark.parametrize("kind", PACKED[1:])
def test_a_truncated_file_yields_its_good_lines_and_then_an_error(tmp_path, kind):
    lines = [f"{number} {number * 2654435761 % 2**32}" for number in range(30_000)]
    whole = pack(kind, "\n".join(lines).encode())
    (tmp_path / "cut").write_bytes(whole[: len(whole) // 2])
    read = []
    with pytest.raises(TextError, match=r"cut: the (gzip|bzip2|xz|zstandard) data are damaged or cut short"):
        for line in TextFile(tmp_path / "cut"):
            read.append(line)  # noqa: PERF402
    assert read == lines[: len(read)]
    with pytest.raises(TextError, match="damaged or cut short"):
        large(tmp_path).encode(TextFiles([str(tmp_path / "cut")]), train_words(["a"]))
    assert not list((tmp_path / "cache").rglob("*.bin"))


@pytest.mark.parametrize("kind", ["gz", "bz2", "xz", "zst"])
def test_a_decompression_bomb_needs_little_memory(tmp_path, kind):
    """128 MiB in one line, in a separate process whose memory is measured."""
    if kind == "zst":
        pytest.importorskip("zstandard", reason="the extra zstd is not installed")
    (tmp_path / "bomb").write_bytes(pack(kind, bytes(1 << 27)))
    assert (tmp_path / "bomb").stat().st_size < 1 << 20
    script = (
        "import sys; from keraslm.text.files import TextFile\n"
        f"before = {PEAK}\n"
        "size = sum(len(block.data) for block in TextFile(sys.argv[1]).blocks())\n"
        f"print(size, {PEAK} - before)"
    )
    done = subprocess.run([sys.executable, "-c", script, tmp_path / "bomb"], capture_output=True, text=True, check=True)
    size, growth = map(int, done.stdout.split())
    assert size == (1 << 27) + 1 and growth < 1 << 16  # KiB: half of what is unpacked


# Lines


@pytest.mark.parametrize("ending", ["\n", "\r\n"])
@pytest.mark.parametrize("mark", [b"", b"\xef\xbb\xbf"])
@pytest.mark.parametrize("last", [True, False])
def test_line_ends_byte_order_mark_and_missing_last_line_end_change_nothing(tmp_path, ending, mark, last):
    data = ending.join(LINES) + (ending if last else "")
    (tmp_path / "text").write_bytes(mark + data.encode())
    text = TextFiles([str(tmp_path / "text")])
    assert list(text) == LINES
    tokenizer = train_words(LINES)
    found = large(tmp_path).encode(text, tokenizer)
    np.testing.assert_array_equal(found.ids, np.concatenate(tokenizer.encode_lines(LINES)))
    assert found.counts.bytes == sum(len(line.encode()) + 1 for line in LINES)
    assert found.counts.characters == sum(len(line) + 1 for line in LINES)


@pytest.mark.parametrize("fields", KINDS, ids=str)
def test_a_very_long_line_is_encoded_in_the_pieces_of_the_scorer(tmp_path, monkeypatch, fields):
    monkeypatch.setattr(files, "BLOCK", 1 << 17)
    words = np.random.default_rng(0).integers(0, 900, 60_000)
    lines = [" ".join(f"w{word}" for word in words), "short", "日本" * 70_000, "end"]
    (tmp_path / "long").write_text("\n".join(lines) + "\n", encoding="utf-8")
    text, encoder = TextFiles([str(tmp_path / "long")]), large(tmp_path)
    tokenizer = encoder.tokenizer(text, DataConfig(**fields))
    assert max(len(block.data) for block in text.blocks()) <= 1 << 18
    np.testing.assert_array_equal(encoder.encode(text, tokenizer).ids, np.concatenate(tokenizer.encode_lines(lines)))


def test_a_line_beyond_the_limit_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(files, "LONGEST", 1 << 20)
    (tmp_path / "long").write_text("ok\n" + "x" * (1 << 20) + "y\n")
    with pytest.raises(TextError, match=r"long:2: the line is longer than 1 MiB"):
        list(TextFile(tmp_path / "long"))


# Faults


@pytest.mark.parametrize("count", [0, 2])
def test_an_invalid_byte_is_reported_with_line_and_place(tmp_path, count):
    good = "".join(f"{line}\n" for line in LINES).encode()
    (tmp_path / "bad").write_bytes(good + b"ab\xffc\n" + good)
    text, encoder = TextFiles([str(tmp_path / "bad")]), large(tmp_path, workers=count)
    place = rf"bad:{len(LINES) + 1}:3: byte 0xff is not valid UTF-8 \(byte {len(good) + 2} of the text\)"
    with pytest.raises(TextError, match=place):
        encoder.encode(text, train_words(LINES))
    with pytest.raises(TextError, match=place):
        encoder.tokenizer(text, DataConfig())
    with pytest.raises(TextError, match=place):
        list(text)
    replacing = TextFiles([str(tmp_path / "bad")], "replace")
    assert encoder.encode(replacing, train_words(LINES)).replaced == 1


def test_standard_input_is_spooled_and_vanishes(tmp_path, monkeypatch):
    data = gzip.compress("".join(f"{line}\n" for line in LINES).encode())
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(data)))
    text = TextFiles(["-"])
    text.spool(tmp_path / "cache")
    assert list(text) == LINES and list(text) == LINES and text.name == "standard input"
    (spooled,) = (tmp_path / "cache").iterdir()
    del text
    assert not spooled.exists()


def test_a_pipe_is_read_once_and_used_twice(tmp_path, text):
    os.mkfifo(tmp_path / "pipe")
    with subprocess.Popen(["cp", text.name, tmp_path / "pipe"]):
        pipe, encoder = TextFiles([tmp_path / "pipe"]), Encoder(tmp_path / "cache", workers=0)
        tokenizer = encoder.tokenizer(pipe, DataConfig())
        np.testing.assert_array_equal(encoder.encode(pipe, tokenizer).ids, encoder.encode(text, tokenizer).ids)
    assert pipe.name == str(tmp_path / "pipe")


@pytest.mark.parametrize("name", ["ids.bin", "text.json"])
def test_a_damaged_entry_is_named_and_not_used(tmp_path, text, capsys, name):
    encoder, tokenizer = large(tmp_path), train_words(LINES)
    expected = encoder.encode(text, tokenizer)
    (path,) = entries(tmp_path)
    (path / name).write_bytes((path / name).read_bytes()[:-1])
    found = encoder.encode(text, tokenizer)
    np.testing.assert_array_equal(found.ids, encode_text(tokenizer, LINES))
    assert found.counts == expected.counts
    assert f"{path}: the cache of ids is not used (the entry is damaged, remove it: " in capsys.readouterr().err


def test_a_cache_that_cannot_be_written_is_not_used(tmp_path, text, monkeypatch, capsys):
    encoder, tokenizer = large(tmp_path), train_words(LINES)

    def fail(_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("keraslm.system.atomic.os.fsync", fail)
    np.testing.assert_array_equal(encoder.encode(text, tokenizer).ids, encode_text(tokenizer, LINES))
    assert encoder.tokenizer(text, DataConfig()).digest == tokenizer.digest
    first, second = capsys.readouterr().err.splitlines()
    assert first.endswith(": the cache of ids is not used (No space left on device)")
    assert second.endswith(": the cache of tokenizer is not used (No space left on device)")
    assert [path for path in (tmp_path / "cache").rglob("*") if path.is_file()] == []


def test_standard_input_is_read_where_no_cache_can_be_written(tmp_path, monkeypatch):
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BufferedReader(io.BytesIO(b"the cat\n"))))
    (tmp_path / "file").touch()
    text = TextFiles(["-"])
    text.spool(tmp_path / "file" / "cache")
    assert [*text] == [*text] == ["the cat"]


class Terminal(io.TextIOWrapper):
    def isatty(self):
        return True


@pytest.mark.parametrize("spooled", [True, False])
def test_a_terminal_as_standard_input_is_noted(tmp_path, monkeypatch, capsys, spooled):
    monkeypatch.setattr("sys.stdin", Terminal(io.BufferedReader(io.BytesIO(b"the cat\n"))))
    text = TextFiles(["-"])
    if spooled:
        text.spool(tmp_path)
    assert [*text] == ["the cat"]
    assert capsys.readouterr().err == "keraslm: reading standard input, which is this terminal; end it with Ctrl-D\n"


def test_a_user_without_a_home_has_a_cache(tmp_path, monkeypatch):
    def no_home():
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.setattr(Path, "home", no_home)
    for name in ("KERASLM_CACHE", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    assert store.default_cache() == tmp_path / ".cache" / "keraslm"


def test_a_killed_encoding_leaves_no_complete_entry_and_the_next_one_cleans_up(tmp_path, text):
    script = (
        "import sys, time; from keraslm.text import store; from keraslm.text.encoding import Encoder\n"
        "from keraslm.text.files import TextFiles; from keraslm.text.vocabulary import train_tokenizer\n"
        "parts = store.json.dumps\n"
        "store.json.dumps = lambda *a, **k: (print('written', flush=True), time.sleep(60)) if 'dtype' in a[0] else "
        "parts(*a, **k)\n"
        "text = TextFiles([sys.argv[1]])\n"
        "Encoder(sys.argv[2], large=0, workers=1).encode(text, train_tokenizer(text))"
    )
    arguments = [sys.executable, "-c", script, text.files[0].path, str(tmp_path / "cache")]
    process = subprocess.Popen(arguments, stdout=subprocess.PIPE)
    assert process.stdout.readline() == b"written\n"
    process.kill()
    process.wait()
    process.stdout.close()
    (left,) = (tmp_path / "cache" / "ids").iterdir()
    assert left.name.startswith(".") and (left / "ids.bin").stat().st_size
    mine = left.parent / ".python.999999999"  # not of keraslm, although no process has this number
    mine.mkdir()
    encoder = large(tmp_path)
    tokenizer = train_words(LINES)
    np.testing.assert_array_equal(encoder.encode(text, tokenizer).ids, encode_text(tokenizer, LINES))
    assert not left.exists() and mine.exists()


class KillOnce(encoding._EncodeBlock):
    """Kills its process in the middle of a text, once."""

    def __call__(self, block):
        mark = Path(os.environ["KERASLM_TEST_KILL"])
        if block.line > 100 and mark.exists():
            mark.unlink()
            os.kill(os.getpid(), signal.SIGKILL)
        return super().__call__(block)


def test_the_death_of_a_worker_changes_nothing(tmp_path, text, monkeypatch):
    monkeypatch.setenv("KERASLM_TEST_KILL", str(tmp_path / "kill"))
    monkeypatch.setattr(encoding, "_EncodeBlock", KillOnce)
    (tmp_path / "kill").touch()
    tokenizer = train_words(LINES)
    np.testing.assert_array_equal(large(tmp_path).encode(text, tokenizer).ids, encode_text(tokenizer, LINES))
    assert not (tmp_path / "kill").exists()


# Fingerprints


@pytest.mark.parametrize("dtype", ["uint16", "int32", ">i8"])
@pytest.mark.parametrize("chunk", [1, 3, 100])
def test_a_fingerprint_depends_on_the_tokens_alone(monkeypatch, dtype, chunk):
    monkeypatch.setattr(store, "_CHUNK", chunk)
    ids = [5, 0, 65535, 7, 7, 258, 1]
    digest = hashlib.sha256(struct.pack("<7i", *ids)).hexdigest()
    assert store.fingerprint(np.array(ids, dtype)) == {"tokens": 7, "sha256": digest}


@pytest.mark.parametrize(
    ("found", "words"),
    [
        ({"tokens": 73760, "sha256": "0123456789abcdef"}, "73,760 tokens with SHA-256 0123456789ab"),
        (None, "none"),
        ({}, "None tokens with SHA-256 None"),
        ({"tokens": "many", "sha256": "x"}, "'many' tokens with SHA-256 x"),
    ],
)
def test_a_fingerprint_is_described(found, words):
    assert store.described(found) == words
