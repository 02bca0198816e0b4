"""The Keras backend of this process, chosen once before Keras is imported, and the versions of the packages."""

from __future__ import annotations

import importlib
import importlib.util
import os
import platform
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import PackageNotFoundError, version

from keraslm.config import BACKENDS
from keraslm.errors import ConfigError, MissingPackageError


def select_backend(requested: str | None = None) -> str:
    """Choose the backend of this process and import Keras with it; returns its name.

    Args:
        requested: `"jax"`, `"tensorflow"` or `"torch"`. Default: the environment's `KERAS_BACKEND`, or else the first
            of the three that is installed.

    Raises:
        ConfigError: an unknown name, or Keras already runs on a different backend in this process.
        MissingPackageError: the backend or Keras is not installed.
    """
    name = requested or os.environ.get("KERAS_BACKEND") or next(filter(importlib.util.find_spec, BACKENDS), None)
    if name is None:
        raise MissingPackageError(
            'No Keras backend is installed. Run: pip install "keraslm[jax]" (or [tensorflow], or [torch])'
        )
    if name not in BACKENDS:
        raise ConfigError(f"Unknown backend {name!r}. Known backends: {', '.join(BACKENDS)}.")
    for package in ("keras", name):
        require(package, extra=name, purpose=f"the {name} backend")
    if "keras" in sys.modules:
        current = sys.modules["keras"].backend.backend()
        if current != name:
            raise ConfigError(
                f"Keras already runs on {current} in this process, but {name} was requested. "
                "A process has one backend: start a new process."
            )
        return name
    os.environ["KERAS_BACKEND"] = name
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    with _quiet_stderr():
        importlib.import_module("keras")
        if name == "tensorflow":  # at its first use it looks for a GPU and reports if there is none
            importlib.import_module("tensorflow").config.list_physical_devices()
    return name


def require(package: str, extra: str, purpose: str) -> None:
    """Raise `MissingPackageError` with the pip line if a package is not installed."""
    if importlib.util.find_spec(package) is None:
        raise MissingPackageError(
            f'{purpose} needs the package {package}, which is not installed. Run: pip install "keraslm[{extra}]"'
        )


def versions(backend: str) -> dict[str, str]:
    """Versions of Python and of the packages that take part in training."""
    found = {"python": platform.python_version(), "backend": backend}
    for package in ("keraslm", "keras", backend, "numpy", "tokenizers"):
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            found[package] = "unknown"
    return found


@contextmanager
def _quiet_stderr() -> Iterator[None]:
    """Hide TensorFlow's start-up notices, which C++ writes to file descriptor 2, unless the block fails."""
    sys.stderr.flush()
    saved = os.dup(2)
    with tempfile.TemporaryFile() as output:
        os.dup2(output.fileno(), 2)
        try:
            yield
        except BaseException:
            output.seek(0)
            os.write(saved, output.read())
            raise
        finally:
            os.dup2(saved, 2)
            os.close(saved)
