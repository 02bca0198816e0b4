"""From the path of an ARPA file or a KenLM binary to an n-gram model."""

from __future__ import annotations

from pathlib import Path

from keraslm import arguments
from keraslm.config import user_path
from keraslm.errors import TextError
from keraslm.ngram.arpa import read_arpa
from keraslm.ngram.kenlm_binary import MAGIC, KenlmBinary
from keraslm.ngram.model import Ngram, NgramModel
from keraslm.text.files import TextFile


def load_ngram(path: str | Path) -> Ngram:
    """Open an n-gram model.

    Args:
        path: of an ARPA file in UTF-8, plain or compressed; or of a binary that KenLM's `build_binary` wrote, for which
            the package kenlm must be installed.

    Raises:
        TextError: the file cannot be read or is malformed, with file and line.
        MissingPackageError: a binary without the package kenlm.

    Example:
        >>> trigrams = keraslm.load_ngram("trigrams.arpa.gz")
        >>> trigrams.logprobs(["the", "cat", None])      # nats; None is the end of the sentence
        array([-3.2, -8.1, -5.9])
    """
    place = user_path(arguments.path(path, "path"))
    file = TextFile(place)
    with file.reading():
        if place.exists() and not place.is_file():  # a pipe, which can be read only once
            raise TextError(f"{place}: no plain file. Write the n-gram model to a file; it may be compressed.")
        with place.open("rb") as opened:
            binary = opened.read(len(MAGIC)) == MAGIC
    digest = file.digest()
    return KenlmBinary(place, digest) if binary else NgramModel(place, digest, *read_arpa(file))
