"""The Keras backend of this process, chosen once before Keras is imported, and the versions of the packages."""

from __future__ import annotations

import importlib
import importlib.util
import os
import platform
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from importlib.metadata import PackageNotFoundError, version
from traceback import walk_tb
from typing import Any

from keraslm.config import BACKENDS
from keraslm.errors import ConfigError, MissingPackageError
from keraslm.system.ranks import Ranks

_SETTINGS = (
    *("KERAS_MAX_EPOCHS", "KERAS_MAX_STEPS_PER_EPOCH", "KERAS_NNX_ENABLED"),
    *("JAX_ENABLE_X64", "JAX_DEFAULT_DTYPE_BITS", "JAX_NUMPY_DTYPE_PROMOTION", "JAX_NUMPY_RANK_PROMOTION"),
    *("JAX_DEFAULT_PRNG_IMPL", "JAX_THREEFRY_PARTITIONABLE"),
)


def select_backend(requested: str | None = None, devices: int | None = None, ranks: Ranks | None = None) -> str:
    """Choose the backend of this process and import Keras with it; returns its name.

    Args:
        requested: `"jax"`, `"tensorflow"` or `"torch"`. Default: the environment's `KERAS_BACKEND`, or else the first
            of the three that is installed.
        devices: number of devices that a training needs. JAX and TensorFlow divide a CPU into so many.
        ranks: the processes that train together, which JAX connects before it looks for devices.

    Settings of the surroundings that would change the results, such as `floatx` in `~/.keras/keras.json` or
    `JAX_ENABLE_X64`, are ignored. If the process has already made them, they are refused.

    Raises:
        ConfigError: an unknown name, Keras already runs on a different backend or not in float32 in this process, or
            the backend fails to start.
        MissingPackageError: the backend or Keras is not installed.
    """
    name = default_backend(requested)
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
    else:
        os.environ["KERAS_BACKEND"] = name
        os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
        if "OMP_WAIT_POLICY" not in os.environ:
            # Beside a busy process, threads of torch that spin for long halve the speed; see benchmarks/README.md.
            os.environ.setdefault("GOMP_SPINCOUNT", "1000")
        try:
            with _quiet_stderr() if name == "tensorflow" else nullcontext(), _without_settings():
                _start(name, devices, ranks)
        except ConfigError:
            raise
        except Exception as error:
            reason = " ".join(f"{type(error).__name__}: {error}".split()).rstrip(".: ")
            variables = ("JAX_PLATFORMS", "XLA_FLAGS", "CUDA_VISIBLE_DEVICES")
            given = ", ".join(f"{each}={os.environ[each]}" for each in variables if each in os.environ)
            raise ConfigError(
                f"The {name} backend does not start ({reason}). Check its installation and the environment variables "
                f"({given or 'none of its own is set'}), or choose a different `backend`."
            ) from error
    _check_float32(name)
    return name


def default_backend(requested: str | None = None) -> str | None:
    """The name of the backend that `select_backend` would choose; None if none is installed."""
    return requested or os.environ.get("KERAS_BACKEND") or next(filter(importlib.util.find_spec, BACKENDS), None)


def _start(name: str, devices: int | None, ranks: Ranks | None) -> None:
    """Import Keras and the backend, and let it look for its devices, which may fail."""
    importlib.import_module("keras")
    if name == "jax":
        jax = importlib.import_module("jax")
        if ranks and not jax.distributed.is_initialized():
            _connect(jax, ranks)
        elif devices:
            jax.config.update("jax_num_cpu_devices", devices)
        jax.devices()
    elif name == "tensorflow":
        config = importlib.import_module("tensorflow").config
        gpus, (cpu, *_) = config.list_physical_devices("GPU"), config.list_physical_devices("CPU")
        if devices and not gpus:
            config.set_logical_device_configuration(cpu, [config.LogicalDeviceConfiguration() for _ in range(devices)])


def _connect(jax: Any, ranks: Ranks) -> None:
    """Connect the processes of JAX. srun starts one for each GPU of a machine."""
    if ranks.launcher == "torchrun":
        raise ConfigError(
            "torchrun holds the port that JAX needs. Start the processes by srun, or set JAX_COORDINATOR_ADDRESS, "
            "JAX_NUM_PROCESSES and JAX_PROCESS_ID for each, or use torch."
        )
    local = [ranks.local_rank] if ranks.launcher == "srun" else None
    jax.distributed.initialize(ranks.address, ranks.size, ranks.rank, local, cluster_detection_method="deactivate")


@contextmanager
def _without_settings() -> Iterator[None]:
    """Hide settings that change the results of a training from Keras and JAX, which read them when they are imported.

    `KERAS_HOME` is the folder of Keras' configuration file.
    """
    hidden = {name: os.environ.pop(name) for name in ("KERAS_HOME", *_SETTINGS) if name in os.environ}
    os.environ["KERAS_HOME"] = f"{os.devnull}/keras"  # no such folder, and it cannot be created
    try:
        yield
    finally:
        del os.environ["KERAS_HOME"]
        os.environ.update(hidden)


def _check_float32(name: str) -> None:
    """Raise `ConfigError` if the program that called keraslm has changed the types of Keras or of the backend."""
    keras = importlib.import_module("keras")
    found = {
        'keras.config.set_floatx("float32")': keras.config.floatx() == "float32",
        'keras.config.set_dtype_policy("float32")': keras.config.dtype_policy().name == "float32",
    }
    if name == "jax":
        config = importlib.import_module("jax").config
        found |= {
            'jax.config.update("jax_enable_x64", False)': not config.jax_enable_x64,
            'jax.config.update("jax_numpy_dtype_promotion", "standard")': config.jax_numpy_dtype_promotion
            == "standard",
            'jax.config.update("jax_numpy_rank_promotion", "allow")': config.jax_numpy_rank_promotion != "raise",
        }
    elif name == "torch":
        torch = importlib.import_module("torch")
        found["torch.set_default_dtype(torch.float32)"] = torch.get_default_dtype() == torch.float32
    for remedy, is_set in found.items():
        if not is_set:
            raise ConfigError(f"This process has changed the types that keraslm computes with. Call first: {remedy}")


def require(package: str, extra: str, purpose: str) -> None:
    """Raise `MissingPackageError` with the pip line if a package is not installed."""
    if importlib.util.find_spec(package) is None:
        raise MissingPackageError(
            f'{purpose} needs the package {package}, which is not installed. Run: pip install "keraslm[{extra}]"'
        )


def broken_package(error: Exception) -> MissingPackageError | None:
    """An error with a remedy, if `error` was raised while keraslm imported an installed package; else None."""
    frames = [frame for frame, _ in walk_tb(error.__traceback__)]
    modules = [str(frame.f_globals.get("__name__")) for frame in frames]
    own = max((place for place, name in enumerate(modules) if name.startswith("keraslm")), default=-1)
    package = error.name or "" if isinstance(error, ImportError) else ""
    for name, frame in zip(modules[own + 1 :], frames[own + 1 :], strict=True):
        if name.partition(".")[0] != "importlib":
            package = name if frame.f_code.co_name == "<module>" else ""
            break
    package, reason = package.partition(".")[0], " ".join(f"{type(error).__name__}: {error}".split())
    if not package:
        return None
    remedy = f"Install it again: pip install --force-reinstall {package}"
    return MissingPackageError(f"The package {package} cannot be imported ({reason}). {remedy}")


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
