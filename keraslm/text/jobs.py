"""What is done with a block of a text, in this process or in a worker: count its tokens, or encode it.

`python -m keraslm.text.jobs` is a worker. It reads pickled requests from standard input and writes pickled answers to
standard output; both ends are ours. A worker is a process of its own that imports nothing but NumPy and `tokenizers`:
a fork would copy the threads and locks of the framework that trains, and `multiprocessing`'s other ways run the user's
main program again.
"""

from __future__ import annotations

import os
import pickle
import sys
from collections import Counter
from typing import Any

import numpy as np

from keraslm.config import DataConfig
from keraslm.text.counts import TextCounts
from keraslm.text.encoders import Ids
from keraslm.text.pieces import split_words
from keraslm.text.tokenizer import Tokenizer
from keraslm.text.vocabulary import TokenCounter

Answer = tuple[Ids, TextCounts, int]


class EncodeJob:
    """Encodes blocks.

    Args:
        tokenizer: as JSON.
        errors: `"strict"` or `"replace"`.
    """

    def __init__(self, tokenizer: str, errors: str):
        self._tokenizer, self._errors = Tokenizer.from_json(tokenizer), errors

    def __call__(self, data: bytes) -> Answer:
        """Ids of a block, its size, and how many of its lines were not UTF-8.

        Raises:
            UnicodeDecodeError: under `"strict"`, with the place in `start`.
        """
        text, replaced = decoded(data, self._errors)
        ids = self._tokenizer.encode_block(text)
        counts = TextCounts(
            lines=text.count("\n"),
            words=len(split_words(text)),
            tokens=len(ids),
            characters=len(text),
            bytes=len(text.encode()) if replaced else len(data) - data.count(b"\r\n"),
            oovs=int(np.count_nonzero(ids == self._tokenizer.unk_id)),
        )
        return ids, counts, replaced

    def finish(self) -> None:
        return None


class CountJob:
    """Counts the words or characters of blocks, for the vocabulary of `config`; `finish` gives the counts."""

    def __init__(self, config: DataConfig):
        self._counter, self._errors = TokenCounter(config), config.errors

    def __call__(self, data: bytes) -> None:
        self._counter.add(decoded(data, self._errors)[0], ends_line=False)

    def finish(self) -> Counter[str]:
        return self._counter.counts


def decoded(data: bytes, errors: str) -> tuple[str, int]:
    """The text of a block with CR LF as LF, and how many of its lines are not UTF-8.

    Raises:
        UnicodeDecodeError: under `"strict"`.
    """
    replaced = 0
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError:
        if errors != "replace":
            raise
        text = data.decode("utf-8", "replace")
        replaced = sum(1 for line in data.split(b"\n") if not _is_utf8(line))
    return text.replace("\r\n", "\n") if "\r" in text else text, replaced


def _is_utf8(line: bytes) -> bool:
    try:
        line.decode("utf-8")
    except UnicodeDecodeError:
        return False
    return True


def _serve() -> None:
    """Answer requests until the pipe closes: first `(job class, arguments)`, then blocks, None at the end."""
    requests, answers = sys.stdin.buffer, os.fdopen(os.dup(sys.stdout.fileno()), "wb")
    sys.stdout = sys.stderr  # nothing else may write between the answers
    kind, arguments = pickle.load(requests)
    job = {"encode": EncodeJob, "count": CountJob}[kind](*arguments)
    while True:
        data = pickle.load(requests)
        answer: Any
        try:
            answer = job.finish() if data is None else job(data)
        except Exception as error:
            answer = error
        pickle.dump(answer, answers, protocol=5)
        answers.flush()


if __name__ == "__main__":
    try:
        _serve()
    except (EOFError, BrokenPipeError, KeyboardInterrupt):
        os._exit(0)  # whoever asked has gone
