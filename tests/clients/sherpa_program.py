"""Runs in an environment with sherpa-onnx and without keraslm: recognises with a language model.

    python sherpa_program.py streaming FOLDER LM CHUNKS      the tokens found, and the score of each in the LM
    python sherpa_program.py rescoring FOLDER LM SCALE ...   the tokens found with each weight of the LM

FOLDER has the transducer of `tests/clients/acoustic.py` and `tokens.txt`. Prints JSON.
"""

from __future__ import annotations

import json
import sys

import numpy as np
import sherpa_onnx

RATE = 16000


def streaming(folder: str, lm: str, chunks: int) -> dict[str, object]:
    recognizer = sherpa_onnx.OnlineRecognizer.from_transducer(**files(folder), lm=lm, lm_scale=0.5, **SEARCH)
    stream = recognizer.create_stream()
    # Ten milliseconds per frame, four frames per chunk, and a few more than are needed.
    stream.accept_waveform(RATE, np.zeros(RATE // 100 * 4 * (chunks + 4), np.float32))
    stream.input_finished()
    for _ in range(chunks):
        assert recognizer.is_ready(stream)
        recognizer.decode_stream(stream)
    return {"tokens": recognizer.tokens(stream), "lm_probs": recognizer.lm_probs(stream)}


def rescoring(folder: str, lm: str, scale: float) -> list[str]:
    recognizer = sherpa_onnx.OfflineRecognizer.from_transducer(**files(folder), lm=lm, lm_scale=scale, **SEARCH)
    stream = recognizer.create_stream()
    stream.accept_waveform(RATE, np.zeros(RATE, np.float32))
    recognizer.decode_stream(stream)
    return list(stream.result.tokens)


SEARCH = {"decoding_method": "modified_beam_search", "max_active_paths": 4, "num_threads": 1}


def files(folder: str) -> dict[str, str]:
    names = {"encoder": "encoder.onnx", "decoder": "decoder.onnx", "joiner": "joiner.onnx", "tokens": "tokens.txt"}
    return {name: f"{folder}/{file}" for name, file in names.items()}


if __name__ == "__main__":
    mode, folder, lm, *rest = sys.argv[1:]
    found = (
        streaming(folder, lm, int(rest[0])) if mode == "streaming" else [rescoring(folder, lm, float(s)) for s in rest]
    )
    print(json.dumps({"version": sherpa_onnx.version, "found": found}))
