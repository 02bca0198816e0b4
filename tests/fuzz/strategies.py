"""Hypothesis strategies: nearly valid JSON, and files with wrong headers."""

from __future__ import annotations

import copy
import json
import struct
from typing import Any

from hypothesis import strategies as st

ODD = [
    *(None, True, False, 0, 1, -1, 0.5, 1.5, -0.0, 1e999, -1e999, float("nan"), 2**31, 2**63, -(2**64), 10**400),
    *("", " ", "0", "\n", "\x00", "\x1b[31m", "\ud800", "x" * 3000, "1" * 5000, "<unk>", "<eos>"),
    *([], {}, [[]], [None], [1, 2], [0, 2**62], {"": 0}, {"type": "x"}, {"id": 0}),
]
values = st.sampled_from(ODD).map(copy.deepcopy) | st.recursive(  # copies, for what is drawn is changed further
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=6,
)


def places(value: Any, path: tuple = ()) -> list[tuple]:
    found = [path]
    if isinstance(value, dict | list):
        for key, inner in value.items() if isinstance(value, dict) else enumerate(value):
            found += places(inner, (*path, key))
    return found


@st.composite
def changed(draw, value: Any) -> Any:
    """A JSON value with one to three places replaced, removed, repeated, renamed, or nested too deeply."""
    value = copy.deepcopy(value)
    for _ in range(draw(st.integers(1, 3))):
        path = draw(st.sampled_from(places(value)))
        if not path:
            if draw(st.integers(0, 9)) == 0:
                return draw(values)
            continue
        inner: Any = value
        for key in path[:-1]:
            inner = inner[key]
        last, change = path[-1], draw(st.sampled_from(["value", "value", "value", "gone", "other", "deep"]))
        if change == "value":
            inner[last] = draw(values)
        elif change == "gone":
            del inner[last]
        elif change == "deep":
            deep: Any = inner[last]
            for _ in range(draw(st.sampled_from([1, 100, 900]))):
                deep = [deep]
            inner[last] = deep
            return value  # walking through it again would depend on the depth of the stack
        elif isinstance(inner, dict):
            inner[draw(st.text(max_size=4) | st.sampled_from(sorted(inner)))] = draw(values)
        else:
            inner.insert(0, copy.deepcopy(inner[last]))
    return value


@st.composite
def json_texts(draw, value: Any) -> bytes:
    """A changed JSON value as bytes; sometimes with a repeated key, cut short, nested too deeply, or not UTF-8."""
    text = json.dumps(draw(changed(value)))
    wreck = draw(st.sampled_from(["whole"] * 8 + ["twice", "cut", "nested", "bytes"]))
    if wreck == "twice" and isinstance(value, dict):
        key = draw(st.sampled_from(sorted(value)))
        text = "{" + f"{json.dumps(key)}: {json.dumps(draw(values))}, " + text[1:]
    elif wreck == "cut":
        text = text[: draw(st.integers(0, len(text)))]
    elif wreck == "nested":
        return b"[" * draw(st.sampled_from([100, 990, 5000])) + text.encode()
    data = text.encode()
    return data + b"\xff" if wreck == "bytes" else data


@st.composite
def safetensors(draw, tensors: dict[str, Any]) -> bytes:
    """A file of tensors with a changed header, a wrong length, a changed body or a number that is not finite."""
    header: dict[str, Any] = {"__metadata__": {"format": "np"}}
    body = b""
    for name, value in tensors.items():
        start, body = len(body), body + value.tobytes()
        header[name] = {"dtype": "F32", "shape": list(value.shape), "data_offsets": [start, len(body)]}
    change = draw(st.sampled_from(["dtype", "shape", "offsets", "json", "json", "length", "body", "number"]))
    part = header[draw(st.sampled_from(sorted(tensors)))]
    numbers = st.sampled_from([0, 1, 2, 5, 2**31, 2**62, 2**64 - 1, 2**64, -1])
    if change == "dtype":
        part["dtype"] = draw(
            st.sampled_from(("F64", "F16", "I8", "I64", "BOOL", "BF16", "F8_E4M3", "F4", "C64", "XX", ""))
        )
    elif change == "shape":
        part["shape"] = draw(st.lists(numbers, max_size=70))
    elif change == "offsets":
        part["data_offsets"] = draw(st.lists(numbers, max_size=3))
    elif change == "body":
        body = body[: draw(st.integers(0, len(body)))] + draw(st.binary(max_size=8))
    elif change == "number":
        body = struct.pack("<f", draw(st.sampled_from([float("nan"), float("inf")]))) + body[4:]
    text = json.dumps(draw(changed(header)) if change == "json" else header).encode()
    length = draw(st.sampled_from([0, 2, 2**32, 2**63, 2**64 - 1])) if change == "length" else len(text)
    return struct.pack("<Q", length) + text + body
