"""Score lines of text with a keraslm model file, without keraslm: onnxruntime, NumPy and the standard library.

    python client.py model.onnx < text.txt        # per line: log-probability in nats, number of tokens

docs/reference/onnx-file.md describes the format.
"""

import json
import re
import string
import sys
import unicodedata

import numpy as np
import onnxruntime

# Unicode's White_Space. Python's own `split` also splits at U+001C to U+001F.
SPACE = "\t-\r \x85\xa0\u1680\u2000-\u200a\u2028\u2029\u202f\u205f\u3000"


def split(line: str, tokenizer: dict) -> list[str]:
    """Split a line into words with the rules of the file's tokenizer."""
    if (tokenizer["normalizer"] or {}).get("type") == "Lowercase":
        line = "".join(map(str.lower, line))  # each character on its own, so a final sigma is like any other
    if any(step["type"] == "Split" for step in tokenizer["pre_tokenizer"]["pretokenizers"]):
        marks = {c for c in line if c in string.punctuation or unicodedata.category(c).startswith("P")}
        line = re.sub("<unk>|<eos>|.", lambda m: f" {m[0]} " if len(m[0]) > 1 or m[0] in marks else m[0], line)
    return re.findall(f"[^{SPACE}]+", line)


def main(path: str) -> None:
    session = onnxruntime.InferenceSession(path)
    metadata = session.get_modelmeta().custom_metadata_map
    tokenizer = json.loads(metadata["tokenizer"])
    vocabulary = tokenizer["model"]["vocab"]
    unk, bos, eos = (int(metadata[name]) for name in ("unk_id", "bos_id", "eos_id"))
    zeros = np.zeros((int(metadata["num_layers"]), 1, int(metadata["hidden_size"])), np.float32)
    sys.stdin.reconfigure(encoding="utf-8-sig", newline="\n")  # a CR ends no line
    for line in sys.stdin:
        ids = [vocabulary.get(word, unk) for word in split(line, tokenizer)] + [eos]
        ends = [place + 1 for place, token in enumerate(ids) if token == eos]  # <eos> in the text ends a sentence, too
        nats = 0.0
        for begin, end in zip([0, *ends[:-1]], ends, strict=True):
            targets = ids[begin:end]
            inputs = np.array([[bos, *targets[:-1]]], np.int64)
            feed = {"input_ids": inputs, "h0": zeros, "c0": zeros, "targets": np.array([targets], np.int64)}
            nats += session.run(["target_log_probs"], feed)[0].sum(dtype=float)
        print(f"{nats:.6f}\t{len(ids)}")


if __name__ == "__main__":
    main(*sys.argv[1:])
