"""Weights on disk: one safetensors file, with names, shapes and digest checked."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from keraslm.config import ModelConfig
from keraslm.config.shapes import cell_shapes
from keraslm.errors import RunError
from keraslm.system.atomic import atomic_path, writing

Weights = dict[str, NDArray[np.float32]]


def write_weights(path: Path, weights: Mapping[str, NDArray[np.float32]], epoch: int | None = None) -> None:
    """Write weights atomically, with their SHA-256 and their epoch, counted from 1, in the metadata of the file.

    Raises:
        WriteError: the file cannot be written; the previous one is untouched.
    """
    from safetensors.numpy import save

    with writing(path, "Previous weights, if any, are untouched."), atomic_path(path) as temporary:
        # Not save_file: its own temporary file survives SIGKILL, and it hides the error of the system.
        tensors = {name: np.ascontiguousarray(value) for name, value in weights.items()}
        note = ({} if epoch is None else {"epoch": str(epoch)}) | {"sha256": digest_of(tensors)}
        data = save(tensors, note)
        end = 8 + int.from_bytes(data[:8], "little")
        header = json.loads(data[8:end]) | {"__metadata__": note}  # safetensors writes metadata in a random order
        packed = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode().ljust(end - 8)
        with temporary.open("wb") as file:
            file.write(len(packed).to_bytes(8, "little") + packed)
            file.write(memoryview(data)[end:])


def read_note(path: Path) -> dict[str, str]:
    """The metadata of a file: `sha256`, and `epoch` if it is known; empty if there is no such file, or it has none."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, "numpy") as file:
            return dict(file.metadata() or {})
    except (SafetensorError, OSError):
        return {}


def read_weights(path: Path, shapes: Mapping[str, tuple[int, ...]]) -> Weights:
    """Read weights and check them against the names and shapes of the network.

    Raises:
        RunError: the file is damaged; or a tensor is missing, unexpected, not finite, or has a wrong shape or type.
    """
    from safetensors import SafetensorError, safe_open

    if not path.is_file():
        raise RunError(f"{path}: no weights. No epoch was finished since the training began or was resumed.")
    try:
        with safe_open(path, "numpy") as file:
            written = (file.metadata() or {}).get("sha256")  # None: written by a different program
            weights = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118, not a dict
    except (SafetensorError, OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise RunError(f"{path}: damaged, not a complete safetensors file ({error}).") from error
    if weights.keys() != shapes.keys():
        odd = sorted(weights.keys() ^ shapes.keys())
        raise RunError(f"{path}: does not match config.json; missing or unexpected tensors: {', '.join(odd)}.")
    for name, shape in shapes.items():
        value, where = weights[name], f"{path}: tensor {name}"
        if value.shape != shape or value.dtype != np.float32:
            raise RunError(f"{where} is {value.dtype} {value.shape}, but config.json requires float32 {shape}.")
        if bad := int(value.size - np.isfinite(value).sum()):
            raise RunError(
                f"{where} contains NaN or infinity ({bad:,} of {value.size:,} values). The training diverged; train "
                "again with a lower `learning_rate` or `clip_norm`."
            )
    if written not in (None, digest_of(weights)):
        raise RunError(f"{path}: damaged, its weights do not have the SHA-256 in its metadata.")
    return weights


def digest_of(tensors: Mapping[str, NDArray[Any]]) -> str:
    """SHA-256 of the names and values of all tensors, in the order of their names."""
    digest = hashlib.sha256()
    for name in sorted(tensors):
        digest.update(name.encode())
        digest.update(np.ascontiguousarray(tensors[name]).data)
    return digest.hexdigest()


def layer_weights(config: ModelConfig, weights: Weights, number: int) -> Weights:
    """The weights of a recurrent layer by name; those of an LSTM have four gates, i, f, g and o."""
    name = f"{config.cell}_{number}"
    found = {own: weights[f"{name}/{own}"] for own in cell_shapes(config, 1, config.sizes[number])}
    if config.input_gate == "tied":  # sigmoid(-f) = 1 - sigmoid(f)
        for own in ("kernel", "recurrent_kernel", "bias"):
            forget, *_ = np.split(found[own], 3, axis=-1)
            found[own] = np.concatenate([-forget, found[own]], axis=-1)
    return found
