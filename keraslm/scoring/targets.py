"""The targets of `keraslm export` and the programs that read them; how a file of a different program is recognised.

A file for a different program has its target in the metadata. A model file of keraslm has none.
"""

from __future__ import annotations

import re
from typing import Literal, get_args

Target = Literal["onnx", "sherpa-rescoring", "sherpa-streaming", "rasr", "hf", "web"]

ONNX: Target = "onnx"
HF: Target = "hf"  # a folder
HF_TYPE = "keraslm"  # `model_type` in its config.json
WEB: Target = "web"  # a folder with a model file of keraslm in it
TARGETS: tuple[Target, ...] = get_args(Target)
KEY = "keraslm_target"  # in the metadata

READERS: dict[str, str] = {  # as the object of a sentence
    "onnx": "keraslm and onnxruntime",
    "sherpa-rescoring": "sherpa-onnx, as the language model of an OfflineRecognizer",
    "sherpa-streaming": "sherpa-onnx, as the language model of an OnlineRecognizer",
    "rasr": "RASR, as a language model of type onnx",
    "hf": "transformers, with trust_remote_code=True",
    "web": "a web browser, through the page in the folder",
}

# StringStringEntryProto.key (1) and .value (2), up to the length of the value, which is below 128.
_ENTRY = re.compile(b"\x0a%c%s\x12(.)" % (len(KEY), KEY.encode()), re.DOTALL)


def target_of(data: bytes) -> str:
    """The target of a model file, from its bytes."""
    found = _ENTRY.search(data)
    return data[found.end() : found.end() + found[1][0]].decode(errors="replace") if found else ONNX


def reader_of(target: str) -> str:
    """The program that reads a target; a later version of keraslm may have more."""
    return READERS.get(target, "a different program")
