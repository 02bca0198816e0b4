"""Pretrained word vectors: the text formats of word2vec, fastText and GloVe, and safetensors."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from keraslm.config import StrPath, user_path
from keraslm.errors import TextError, shown
from keraslm.text.files import TextFile
from keraslm.text.paths import reading

SAFETENSORS = ".safetensors"


@dataclass(frozen=True)
class Vectors:
    """The vectors of the words of a vocabulary that a file has.

    Attributes:
        ids: of these words, int64 `(N,)`, each once.
        rows: their vectors, float32 `(N, E)`.
        repeated: number of words of the vocabulary that the file has more than once; the first vector counts.
        sha256: of the file on the disk, hexadecimal.
    """

    ids: NDArray[np.int64]
    rows: NDArray[np.float32]
    repeated: int
    sha256: str


def read_vectors(path: StrPath, vocabulary: Mapping[str, int], size: int) -> Vectors:
    """The vectors of a file for the words of a vocabulary; other words of the file are skipped.

    A text has a word and E numbers per line, separated by blanks or tabs, perhaps after a line with the number of words
    and E; it may be compressed. A `.safetensors` file has one matrix `(words, E)`, and a `.txt` of the same name beside
    it one word per line.

    Args:
        path: of the file.
        vocabulary: id of each word.
        size: E, the size of the embedding.

    Raises:
        TextError: the file cannot be read, has vectors of a different size or a number that is not finite, or has none
            of the words.
    """
    file = user_path(path)
    with reading(str(path)), file.open("rb") as opened:
        digest = hashlib.file_digest(opened, "sha256").hexdigest()
    is_matrix = file.suffix == SAFETENSORS
    pairs = _in_matrix(file, vocabulary, size) if is_matrix else _in_text(file, vocabulary, size)
    found: dict[int, NDArray[np.float32]] = {}
    repeated = set()
    for number, row in pairs:
        if number in found:
            repeated.add(number)
        else:
            found[number] = row
    if not found:
        raise TextError(f"{path}: none of its words is one of the {len(vocabulary):,} tokens of the vocabulary.")
    rows = np.stack(list(found.values()))
    return Vectors(np.array(list(found), np.int64), rows, len(repeated), digest)


def _in_text(path: Path, vocabulary: Mapping[str, int], size: int) -> Iterator[tuple[int, NDArray[np.float32]]]:
    fits = False  # whether a line had a word and E numbers
    for number, line in enumerate(TextFile(path, errors="replace"), 1):  # some words of word2vec end within a character
        line = line.rstrip(" \t")
        if not line:
            continue
        where = f"{path}:{number}"
        blanks = line.count(" ") + line.count("\t")
        if blanks == size:  # as nearly every line
            word, fits = line.replace("\t", " ").partition(" ")[0], True
        else:
            parts = line.split()
            if number == 1 and len(parts) == 2 and all(part.isdecimal() for part in parts):
                _check_size(f"{where}: vectors", int(parts[1]), size)
                continue
            if len(parts) <= size or not (fits or len(parts) == size + 1):
                if "\0" in line:
                    raise TextError(f"{where}: not text, perhaps the binary form of word2vec. Convert it to text.")
                _check_size(f"{where}: the vector of {shown(parts[0])}", len(parts) - 1, size)
            word = " ".join(parts[:-size])  # GloVe has words such as ". . ."
        if word in vocabulary:
            yield vocabulary[word], _vector(line.split()[-size:], where, word)


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def _vector(parts: list[str], where: str, word: str) -> NDArray[np.float32]:
    try:
        row = np.array(parts, np.float64)
    except ValueError:
        bad = next(part for part in parts if not _is_number(part))
        raise TextError(f"{where}: the vector of {shown(word)} contains {shown(bad)}, which is not a number.") from None
    return _finite(row, f"{where}: the vector of {shown(word)}")


def _finite(row: NDArray[Any], what: str) -> NDArray[np.float32]:
    with np.errstate(over="ignore"):
        row = row.astype(np.float32)
    if not np.isfinite(row).all():
        raise TextError(f"{what} contains NaN, infinity or a number beyond float32.")
    return row


def _check_size(what: str, found: int, size: int) -> None:
    if found != size:
        raise TextError(
            f"{what}: {found} numbers per word, but the embeddings of the network have {size}. Use "
            f"`embedding_dim={found}`, or vectors of size {size}."
        )


def _in_matrix(path: Path, vocabulary: Mapping[str, int], size: int) -> Iterator[tuple[int, NDArray[np.float32]]]:
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, "numpy") as file:
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118, not a dict
    except (SafetensorError, OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise TextError(f"{path}: not a safetensors file that NumPy can read ({error}).") from error
    shapes = {name: tensor.shape for name, tensor in tensors.items()}
    matrix: NDArray[Any] = next(iter(tensors.values())) if len(tensors) == 1 else np.zeros(0)
    if matrix.ndim != 2 or matrix.dtype.kind != "f":
        raise TextError(f"{path}: expected one matrix of floating-point numbers, but found {shown(shapes)}.")
    _check_size(str(path), matrix.shape[1], size)
    listed = path.with_suffix(".txt")
    words = list(TextFile(listed))
    if len(words) != len(matrix):
        raise TextError(f"{listed}: {len(words):,} words, but the matrix in {path} has {len(matrix):,} rows.")
    for number, word in enumerate(words):
        if word in vocabulary:
            yield vocabulary[word], _finite(matrix[number], f"{listed}:{number + 1}: the vector of {shown(word)}")
