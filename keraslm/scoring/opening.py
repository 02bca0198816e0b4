"""From a path to an onnxruntime session: read, checked, and only then handed to native code.

The checks in order, the cheap ones first: the file is there and is a file; its first bytes are not those of another
format; its last bytes are a seal, and the seal fits; it is a well-formed ONNX message of our parts; every weight is
finite; no value could become larger than those of our exports.
"""

from __future__ import annotations

import stat
import sys
from pathlib import Path
from typing import Any

import onnxruntime

from keraslm.errors import ModelFileError, UsageError
from keraslm.scoring.admission import admit
from keraslm.scoring.contract import ModelInfo
from keraslm.scoring.onnx_messages import Model
from keraslm.scoring.seal import check_seal, has_seal
from keraslm.scoring.sniff import looks_like
from keraslm.scoring.wire import read

MAX_BYTES = (1 << 31) - 1  # what one protocol-buffer message can be

_PROVIDERS = {"cpu": "CPUExecutionProvider", "cuda": "CUDAExecutionProvider"}


def read_model(path: Path) -> tuple[bytes, str]:
    """Read a model file and let it in.

    Returns:
        the file, and its SHA-256, hexadecimal.

    Raises:
        ModelFileError: there is no such file, or it is not one of keraslm's, damaged, or unsafe to run.
    """
    data = _read(path)
    return data, check_model(data, str(path))


def check_model(data: bytes, where: str) -> str:
    """Let a model in, or say why not, before anything runs it.

    Args:
        data: a sealed model file.
        where: the file, for errors.

    Returns:
        SHA-256 of the file, hexadecimal.

    Raises:
        ModelFileError: it is not one of keraslm's, damaged, or unsafe to run.
    """
    if not has_seal(data):
        _refuse_unsealed(data, where)
    digest = check_seal(data, where)
    admit(read(Model, data, where), where)
    return digest


def _read(path: Path) -> bytes:
    try:
        found = path.stat()
        if not stat.S_ISREG(found.st_mode) and not path.is_dir():
            raise ModelFileError(f"{path}: not a regular file. Give the path of a model file.")
        with path.open("rb") as file:
            seen = looks_like(file.read(65536))
            if seen:
                raise ModelFileError(
                    f"{path}: not an ONNX model; it looks like {seen}. Make a model with: keraslm export"
                )
            if found.st_size > MAX_BYTES:
                raise ModelFileError(f"{path}: {found.st_size:,} bytes; an ONNX file has at most {MAX_BYTES:,}.")
            file.seek(0)
            return file.read(MAX_BYTES + 1)
    except OSError as error:
        hint = " A run folder is not a model; make one with: keraslm export model.onnx --run" if path.is_dir() else ""
        raise ModelFileError(
            f"{path}: cannot be read ({error.strerror or error}).{hint and f'{hint} {path}'}"
        ) from error


def _refuse_unsealed(data: bytes, where: str) -> None:
    """Say whether it is no ONNX model, another program's, an older keraslm's, or one that was changed."""
    ModelInfo.from_metadata(read(Model, data, where).metadata, where)
    raise ModelFileError(
        f"{where}: has no checksum at its end: it was exported by an earlier keraslm, cut short, or changed by another "
        "program. Export the run again: keraslm export"
    )


def open_session(path: Path, data: bytes, provider: str, threads: int) -> tuple[Any, str]:
    """An onnxruntime session of a model that was let in.

    Args:
        path: for errors.
        data: the file.
        provider: `"cpu"`, `"cuda"` or `"auto"`.
        threads: that compute one operation; 0 takes one a core.

    Returns:
        the session, and what it really runs on, `"cpu"` or `"cuda"`.

    Raises:
        ModelFileError: onnxruntime cannot open it.
        UsageError: an unknown provider, or CUDA was asked for and is not there.
    """
    if provider not in ("auto", *_PROVIDERS):
        raise UsageError(f"Unknown provider {provider!r}. Known are: cpu, cuda, auto.")
    cuda = _PROVIDERS["cuda"] in onnxruntime.get_available_providers()
    if provider == "cuda" and not cuda:
        raise UsageError(
            "--provider cuda was asked for, but this onnxruntime has no CUDA. "
            "Install onnxruntime-gpu, or use cpu or auto."
        )
    wanted = "cuda" if cuda and provider in ("cuda", "auto") else "cpu"
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    options.intra_op_num_threads = threads
    # Threads that wait for each other by spinning make one token a call 1.2 to 1.6 times as fast. Work that shares its
    # cores (keraslm.bulk) has one thread a session, and nothing to wait for.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0" if threads == 1 else "1")
    providers = list(dict.fromkeys([_PROVIDERS[wanted], _PROVIDERS["cpu"]]))
    try:
        session = onnxruntime.InferenceSession(data, options, providers=providers)
    except Exception as error:  # onnxruntime raises a dozen unrelated classes
        raise ModelFileError(f"{path}: not a model that onnxruntime can open ({_first_line(error)}).") from error
    # onnxruntime replaces a provider that fails by the CPU with no more than a log line.
    used = "cuda" if session.get_providers()[0] == _PROVIDERS["cuda"] else "cpu"
    if used != wanted:
        if provider == "cuda":
            raise UsageError("--provider cuda was asked for, but onnxruntime could not start CUDA on this machine.")
        print("keraslm: CUDA could not be started; scoring runs on the CPU.", file=sys.stderr)
    return session, used


def _first_line(error: Exception) -> str:
    return str(error).split("\n", 1)[0][:200]
