"""`python -m keraslm.bulk.worker` is a worker: a process with one model session on one thread.

It reads a pickled job and then shards from standard input, and answers each shard with a pickled outcome or exception
on standard output; both ends are ours. When its input closes, whoever asked has gone, and it ends at once, whatever it
is doing: what it has not finished is a temporary file.
"""

from __future__ import annotations

import os
import pickle
import sys
import threading
from queue import SimpleQueue
from typing import Any, BinaryIO

from keraslm.bulk.job import Job, score_shard
from keraslm.bulk.shards import Shard


def _serve() -> None:
    requests, answers = sys.stdin.buffer, os.fdopen(os.dup(sys.stdout.fileno()), "wb")
    sys.stdout = sys.stderr  # nothing else may write between the answers
    job = pickle.load(requests)
    inbox: SimpleQueue[Shard] = SimpleQueue()
    threading.Thread(target=_listen, args=(requests, inbox), daemon=True).start()
    while True:
        shard = inbox.get()
        answers.write(_answer(job, shard))
        answers.flush()


def _answer(job: Job, shard: Shard) -> bytes:
    answer: Any
    try:
        answer = score_shard(job, shard)
    except Exception as error:
        answer = error
    try:
        return pickle.dumps(answer, protocol=5)
    except Exception:  # of a library; its text is what can be told
        return pickle.dumps(RuntimeError(f"{type(answer).__name__}: {answer}"), protocol=5)


def _listen(requests: BinaryIO, inbox: SimpleQueue[Shard]) -> None:
    try:
        while True:
            inbox.put(pickle.load(requests))
    finally:
        os._exit(0)


if __name__ == "__main__":
    try:
        _serve()
    except (EOFError, BrokenPipeError, KeyboardInterrupt):
        os._exit(0)
