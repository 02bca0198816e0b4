"""From a path to an onnxruntime session.

onnxruntime receives the bytes of a file, not its path, after the seal has been checked. It has no custom operators and
may not read weights from other files.
"""

from __future__ import annotations

import re
import stat
import sys
from pathlib import Path
from typing import Any

import onnxruntime

from keraslm import arguments
from keraslm.errors import ModelFileError, UsageError
from keraslm.scoring import contract
from keraslm.scoring.seal import check_seal, has_seal
from keraslm.scoring.sniff import is_like_onnx, looks_like
from keraslm.scoring.targets import ONNX, reader_of, target_of

MAX_BYTES = (1 << 31) - 1  # the largest protocol buffer

_PROVIDERS = {"cpu": "CPUExecutionProvider", "cuda": "CUDAExecutionProvider"}

# onnxruntime reads the external data of a model from bytes in the working directory, or in this folder. No folder can
# exist below a file.
_NO_FOLDER = str(Path(__file__).resolve() / "external-data")


def read_model(path: Path) -> tuple[bytes, str]:
    """Read a model file and check its seal: the bytes of the file and their SHA-256, hexadecimal."""
    data, digest = read_sealed(path)
    if (target := target_of(data)) != ONNX:
        raise ModelFileError(
            f"{path}: export target {target}, which is read by {reader_of(target)}, and not by keraslm. "
            "Make a model for keraslm with: keraslm export"
        )
    return data, digest


def read_sealed(path: Path) -> tuple[bytes, str]:
    """As `read_model`, for a file of any target."""
    data = _read(path)
    if not has_seal(data):
        raise ModelFileError(f"{path}: {_describe_unsealed(data, path)}")
    digest = check_seal(data, str(path))
    if _has_external_data(data):
        raise ModelFileError(
            f"{path}: keeps weights in a different file (external data), which keraslm does not read. "
            "Make a model with: keraslm export"
        )
    return data, digest


def open_session(path: Path, data: bytes, provider: str, threads: int | None) -> tuple[Any, str]:
    """An onnxruntime session on the bytes of a file, and the provider in use, `"cpu"` or `"cuda"`."""
    if provider not in ("auto", *_PROVIDERS):
        raise UsageError(f"Unknown provider {provider!r}. Known are: cpu, cuda, auto.")
    if threads is not None and arguments.integer(threads, "threads", 0) < 1:
        raise UsageError(f"`threads` is {threads}, but must be at least 1, or None for one per core.")
    has_cuda = _PROVIDERS["cuda"] in onnxruntime.get_available_providers()
    if provider == "cuda" and not has_cuda:
        raise UsageError(
            '`provider="cuda"` was requested, but this onnxruntime has no CUDA. '
            "Install onnxruntime-gpu, or use cpu or auto."
        )
    wanted = "cuda" if has_cuda and provider != "cpu" else "cpu"
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    options.intra_op_num_threads = threads or 0
    options.add_session_config_entry("session.load_model_format", "ONNX")
    options.add_session_config_entry("session.model_external_initializers_file_folder_path", _NO_FOLDER)
    # Threads that spin while they wait make small calls 1.2 to 1.5 times as fast, but take the time of other processes
    # if they spin for long (benchmarks/README.md). A single thread never waits.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0" if threads == 1 else "1")
    options.add_session_config_entry("session.intra_op.spin_duration_us", "20")
    providers = list(dict.fromkeys([_PROVIDERS[wanted], _PROVIDERS["cpu"]]))
    try:
        session = onnxruntime.InferenceSession(data, options, providers=providers)
    except Exception as error:  # onnxruntime raises a dozen unrelated classes
        raise ModelFileError(f"{path}: not a model that onnxruntime can open ({first_line(error)}).") from error
    # If a provider fails to start, onnxruntime uses the CPU and only logs the failure.
    used = "cuda" if session.get_providers()[0] == _PROVIDERS["cuda"] else "cpu"
    if used != wanted:
        if provider == "cuda":
            raise UsageError('`provider="cuda"` was requested, but onnxruntime could not start CUDA on this machine.')
        print("keraslm: CUDA could not be started; scoring runs on the CPU.", file=sys.stderr)
    return session, used


def first_line(error: Exception) -> str:
    return str(error).split("\n", 1)[0][:200]


def _read(path: Path) -> bytes:
    try:
        found = path.stat()
        if not stat.S_ISREG(found.st_mode) and not path.is_dir():
            raise ModelFileError(f"{path}: not a regular file. Give the path of a model file.")
        with path.open("rb") as file:
            if kind := looks_like(file.read(65536)):
                raise ModelFileError(
                    f"{path}: not an ONNX model; it looks like {kind}. Make a model with: keraslm export"
                )
            if found.st_size > MAX_BYTES:
                raise ModelFileError(f"{path}: {found.st_size:,} bytes; an ONNX file has at most {MAX_BYTES:,}.")
            file.seek(0)
            return file.read(MAX_BYTES + 1)
    except OSError as error:
        hint = f" A run folder is not a model; make one with: keraslm export model.onnx --run {path}"
        hint = hint if path.is_dir() else ""
        raise ModelFileError(f"{path}: cannot be read ({error.strerror or error}).{hint}") from error


def _describe_unsealed(data: bytes, path: Path) -> str:
    version = re.search(rb"format_version\x12.([0-9]{1,9})", data, re.DOTALL)
    if version:
        contract.check_version(version[1].decode(), str(path))
    if version or b"keraslm_version" in data:
        return (
            "has no checksum at its end: it was cut short, or changed by a different program. "
            "Export the run again: keraslm export"
        )
    if is_like_onnx(data):
        return (
            "an ONNX model, but not one made by keraslm, or only the beginning of one (it has no checksum at its end). "
            "Make one with: keraslm export model.onnx"
        )
    return "not an ONNX model. Make one with: keraslm export model.onnx"


def _has_external_data(data: bytes) -> bool:
    """Whether a protocol buffer holds the string "location", the key of the file name of external data.

    The byte before it is the last byte of its length: 8, or 0 in a longer form. JSON contains neither byte.
    """
    return any(data[found.start() - 1] in (0, 8) for found in re.finditer(b"location", data))
