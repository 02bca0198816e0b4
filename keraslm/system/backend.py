"""Which Keras backend this process uses: chosen once, before Keras is imported; and in which versions."""

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
    """Fix the backend of this process and import Keras on it.

    Args:
        requested: `"jax"`, `"tensorflow"` or `"torch"`; None takes the environment's `KERAS_BACKEND`, and without that
            the first of the three that is installed.

    Returns:
        the backend's name.

    Raises:
        ConfigError: unknown name, or Keras already runs on another backend in this process.
        MissingPackageError: the backend or Keras is not installed.
    """
    name = requested or os.environ.get("KERAS_BACKEND") or _first_installed()
    if name not in BACKENDS:
        raise ConfigError(f"Unknown backend {name!r}. Known are: {', '.join(BACKENDS)}.")
    for package in ("keras", name):
        require(package, extra=name, purpose=f"the {name} backend")
    if "keras" in sys.modules:
        current = sys.modules["keras"].backend.backend()
        if current != name:
            raise ConfigError(
                f"Keras already runs on {current} in this process, but {name} was asked for. "
                "A process has one backend: start a new one."
            )
        return name
    os.environ["KERAS_BACKEND"] = name
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    with _stderr_held_back():
        importlib.import_module("keras")
        if name == "tensorflow":  # it looks for a GPU, and reports that there is none, when it is first used
            importlib.import_module("tensorflow").config.list_physical_devices()
    return name


def require(package: str, extra: str, purpose: str) -> None:
    """Raise `MissingPackageError` with the pip line when a package is not installed."""
    if importlib.util.find_spec(package) is None:
        raise MissingPackageError(
            f'{purpose} needs the package {package}, which is not installed. Run: pip install "keraslm[{extra}]"'
        )


def versions(backend: str) -> dict[str, str]:
    """Versions of what takes part in a training."""
    found = {"python": platform.python_version(), "backend": backend}
    for package in ("keraslm", "keras", backend, "numpy", "tokenizers"):
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            found[package] = "unknown"
    return found


def _first_installed() -> str:
    for name in BACKENDS:
        if importlib.util.find_spec(name):
            return name
    raise MissingPackageError(
        'No Keras backend is installed. Run: pip install "keraslm[jax]" (or [tensorflow], or [torch])'
    )


@contextmanager
def _stderr_held_back() -> Iterator[None]:
    """Hold file descriptor 2 back: TensorFlow's start-up notices come from C++ and obey no Python switch.

    What was held back is printed after all when the block raises.
    """
    sys.stderr.flush()
    saved = os.dup(2)
    with tempfile.TemporaryFile() as held:
        os.dup2(held.fileno(), 2)
        try:
            yield
        except BaseException:
            held.seek(0)
            os.write(saved, held.read())
            raise
        finally:
            os.dup2(saved, 2)
            os.close(saved)
