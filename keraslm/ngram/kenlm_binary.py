"""KenLM's binary files, read by KenLM itself: `pip install kenlm`.

The numbers are those of the ARPA file that the binary was made of, as float32.
"""

from __future__ import annotations

import importlib
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from keraslm.errors import TextError
from keraslm.ngram.model import BEGIN, END, END_OF_SENTENCE, Floats, Ngram, Word, nats
from keraslm.system.backend import require
from keraslm.text.files import TextFile
from keraslm.text.pieces import without_surrogates
from keraslm.text.tokenizer import UNK

MAGIC = b"mmap lm http://kheafield.com/code"  # the first bytes of a binary
_MISSING = -100.0  # log10 probability that KenLM gives to <unk> if the file has none


class KenlmBinary(Ngram):
    """A binary of KenLM, of any kind; see `keraslm.ngram.load_ngram`."""

    def __init__(self, path: Path, digest: str):
        require("kenlm", extra="kenlm", purpose="A binary of KenLM")
        self._kenlm: Any = importlib.import_module("kenlm")
        try:
            self._model = self._kenlm.Model(str(path))
        except (OSError, RuntimeError) as error:
            reason = " ".join(str(error).split())
            raise TextError(f"{path}: KenLM cannot read it ({reason}). Make the binary again from the ARPA.") from error
        self.path, self.digest, self.order = path, digest, self._model.order
        self._begin = self._kenlm.State()
        self._model.BeginSentenceWrite(self._begin)
        empty, after = self._kenlm.State(), self._kenlm.State()
        self._model.NullContextWrite(empty)
        self._closed = self._model.BaseScore(empty, UNK, after) <= _MISSING

    def __repr__(self) -> str:
        return f"KenlmBinary({str(self.path)!r}, order={self.order})"

    def __reduce__(self) -> tuple[Any, ...]:
        return _reopened, (self.path.absolute(), self.digest)

    @property
    def vocabulary(self) -> Collection[str] | None:
        return None

    def knows(self, word: Word) -> bool:
        if word is END_OF_SENTENCE:
            return True
        readable = word == without_surrogates(word) and "\0" not in word  # by KenLM, which is written in C++
        return readable and word not in (BEGIN, END) and word in self._model

    def logprobs(self, words: Sequence[Word]) -> Floats:
        state, found = self._begin, []
        for word in words:
            known, after = self.knows(word), self._kenlm.State()
            name = END if word is END_OF_SENTENCE else word if known else UNK
            found.append(self._model.BaseScore(state, name, after) if known or not self._closed else -np.inf)
            state = self._begin if word is END_OF_SENTENCE else after
        return nats(np.array(found, np.float64))


def _reopened(path: Path, digest: str) -> KenlmBinary:
    if TextFile(path).digest() != digest:
        raise TextError(f"{path}: the file has changed since it was opened. Load it again.")
    return KenlmBinary(path, digest)
