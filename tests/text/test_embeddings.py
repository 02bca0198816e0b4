"""Pretrained word vectors: word2vec, fastText and GloVe texts, and safetensors."""

from __future__ import annotations

import gzip
import hashlib

import numpy as np
import pytest
from safetensors.numpy import save_file

from keraslm.errors import TextError
from keraslm.text.embeddings import read_vectors

VOCABULARY = {"<eos>": 0, "the": 1, "naïve": 2, "日本": 3, "2": 4, ". .": 5, "cat": 6}


@pytest.fixture
def vectors(tmp_path):
    """Write a text and read its vectors of size 3, as rows by id."""

    def read(data, name="vectors.txt", size=3):
        path = tmp_path / name
        path.write_bytes(data if isinstance(data, bytes) else data.encode())
        found = read_vectors(path, VOCABULARY, size)
        assert found.rows.dtype == np.float32 and found.sha256 == hashlib.sha256(path.read_bytes()).hexdigest()
        rows = {int(number): row.tolist() for number, row in zip(found.ids, found.rows, strict=True)}
        return (rows, found.repeated) if found.repeated else rows

    return read


def test_a_line_is_a_word_and_its_numbers(vectors):
    expected = {1: [1.0, -2.5, 0.125], 2: [4.0, 5.0, 6.0]}
    lines = "the 1 -2.5 1.25e-1\nother 7 8 9\nnaïve 4 5 6\n"
    assert vectors(lines) == expected
    assert vectors(f"3 3\n{lines}") == expected  # the first line of word2vec and fastText
    assert vectors(lines.replace(" ", "\t").replace("\n", " \r\n")) == expected
    assert vectors(f"\ufeff{lines}\n\n") == expected
    assert vectors(gzip.compress(lines.encode()), "vectors.gz") == expected


def test_words_may_be_numbers_or_contain_blanks(vectors):
    assert vectors("the 1 1 1\n2 3 4 5\n. . 6 7 8\n日本 0 0 0\n") == {
        1: [1, 1, 1],
        4: [3, 4, 5],
        5: [6, 7, 8],
        3: [0, 0, 0],
    }
    assert vectors("the 3\n2 3\n", size=1) == {1: [3], 4: [3]}


def test_a_word_that_is_not_utf_8_is_skipped(vectors):
    assert vectors(b"the 1 2 3\nna\xefve 4 5 6\ncat 7 8 9\n") == {1: [1, 2, 3], 6: [7, 8, 9]}


def test_the_first_of_several_vectors_counts(vectors):
    assert vectors("the 1 2 3\nthe 4 5 6\nthe 7 8 9\ncat 1 1 1\ndog 0 0 0\ndog 1 1 1\n") == (
        {1: [1, 2, 3], 6: [1, 1, 1]},
        1,
    )


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ("10 300\n", r"vectors\.txt:1: vectors: 300 numbers per word, but the embeddings of the network have 3"),
        ("the 1 2 3 4\n", r"vectors\.txt:1: the vector of 'the': 4 numbers per word, .* Use `embedding_dim=4`, or"),
        ("the 1 2\n", r"vectors\.txt:1: the vector of 'the': 2 numbers"),
        ("the 1 2 3\ncat 1 2\n", r"vectors\.txt:2: the vector of 'cat': 2 numbers"),
        ("the 1 2 3\ncat\n", r"vectors\.txt:2: the vector of 'cat': 0 numbers"),
        ("the 1 x 3\n", r"vectors\.txt:1: the vector of 'the' contains 'x', which is not a number"),
        ("other 1 2 3\nthe 1 nan 3\n", r"vectors\.txt:2: the vector of 'the' contains NaN, infinity or"),
        ("the 1 1e39 3\n", r"vectors\.txt:1: the vector of 'the' contains NaN, infinity or a number beyond float32"),
        ("", "none of its words is one of the 7 tokens of the vocabulary"),
        ("The 1 2 3\n", "none of its words"),
        (b"2 3\nthe \x00\x00\x80\x3f\x00\x00\x00\x40\x00\x00\x40\x40\n", r"vectors\.txt:2: .*binary form of word2vec"),
        (b"\x89PNG\r\n\x1a\n", r"vectors\.txt: .*picture"),
    ],
)
def test_what_is_wrong_is_said_with_its_line(vectors, data, message):
    with pytest.raises(TextError, match=message):
        vectors(data)


def test_a_missing_file_is_a_text_error(tmp_path):
    with pytest.raises(TextError, match=r"none\.txt: "):
        read_vectors(tmp_path / "none.txt", VOCABULARY, 3)


# safetensors


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
def test_a_matrix_has_its_words_in_a_text_beside_it(tmp_path, dtype):
    matrix = np.arange(12).reshape(4, 3).astype(dtype)
    save_file({"embedding": matrix}, tmp_path / "v.safetensors")
    (tmp_path / "v.txt").write_text("cat\nother\nthe\ncat\n")
    found = read_vectors(tmp_path / "v.safetensors", VOCABULARY, 3)
    assert found.ids.tolist() == [6, 1] and found.rows.tolist() == [[0, 1, 2], [6, 7, 8]] and found.repeated == 1


@pytest.mark.parametrize(
    ("tensors", "words", "message"),
    [
        ({"a": np.ones((2, 4))}, "the\ncat\n", r"v\.safetensors: 4 numbers per word"),
        ({"a": np.ones((2, 3))}, "the\n", r"v\.txt: 1 words, but the matrix in .*v\.safetensors has 2 rows"),
        ({"a": np.ones((2, 3)), "b": np.ones(2)}, "", r"expected one matrix .*, but found \{'a': \(2, 3\), 'b': \(2,"),
        ({"a": np.ones((2, 3), np.int32)}, "", "expected one matrix of floating-point numbers"),
        ({}, "", "expected one matrix"),
        ({"a": np.array([[1, 2, np.inf]])}, "the\n", r"v\.txt:1: the vector of 'the' contains NaN"),
        (None, "the\n", r"v\.safetensors: not a safetensors file"),
        ({"a": np.ones((2, 3))}, None, r"v\.txt: "),
    ],
)
def test_a_matrix_that_cannot_be_used_is_refused(tmp_path, tensors, words, message):
    path = tmp_path / "v.safetensors"
    if tensors is None:
        path.write_bytes(b"no")
    else:
        save_file(tensors, path)
    if words is not None:
        (tmp_path / "v.txt").write_text(words)
    with pytest.raises(TextError, match=message):
        read_vectors(path, VOCABULARY, 3)
