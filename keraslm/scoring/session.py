"""Open models: token ids and a state come in, log-probabilities and the next state go out."""

from __future__ import annotations

import ctypes
import hashlib
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol
from weakref import WeakSet

import numpy as np
from numpy.typing import NDArray

from keraslm import arguments
from keraslm.config import user_path
from keraslm.errors import InputError, InputTypeError, KeraslmError, ModelFileError, shown
from keraslm.scoring import contract
from keraslm.scoring.contract import ModelInfo, Vocabulary
from keraslm.scoring.opening import first_line, open_session, read_model
from keraslm.scoring.state import FLOAT32, DeviceState, Floats32, ModelState, State
from keraslm.text.tokenizer import Tokenizer


class Session(Protocol):
    """An open model: a `ModelSession` or an `Ensemble`. Dimensions: `N` rows, `T` steps, `V` vocabulary.

    Attributes:
        adaptive: whether the log-probability of a target costs less than a distribution (adaptive softmax).
        logits_per_token: estimated numbers in memory per token of a call; mostly logits.
        state_size: numbers per row in h; c has as many.
    """

    tokenizer: Tokenizer
    info: Vocabulary
    adaptive: bool
    logits_per_token: int
    state_size: int

    @property
    def members(self) -> tuple[ModelSession, ...]:
        """The model files whose probabilities are averaged; a `ModelSession` is its only member."""

    def zero_state(self, rows: int) -> State:
        """The state at the start of a text, for `rows` texts side by side."""

    def run(self, ids: Any, state: Any) -> tuple[Floats32, State]:
        """As `target_logprobs`, but return the distribution after each token, float32 `(N, T, V)`."""

    def target_logprobs(self, ids: Any, targets: Any, state: Any) -> tuple[Floats32, State]:
        """Feed tokens and return the log-probability of one token after each.

        Args:
            ids, targets: integers of shape `(N, T)`, at least one row and one step.
            state: of N rows, from `zero_state` or a previous call.

        Returns:
            Log-probabilities (natural logarithm), float32 `(N, T)`, and the state after the last step.

        Raises:
            InputError: a wrong shape, no tokens, or an id outside the vocabulary.
        """


class ModelSession(Session):
    """An open model file.

    It can be pickled and used after a fork: the other process opens the file again, and fails if it has changed.

    Args:
        provider: `"cpu"`, `"cuda"`, or `"auto"`: CUDA if onnxruntime has it, otherwise the CPU.
        threads: number of threads that compute one operation; None means one per core.

    Attributes:
        digest: SHA-256 of the file, hexadecimal.
        info: the file's metadata.
        provider: the provider in use, `"cpu"` or `"cuda"`.

    Raises:
        ModelFileError: the file cannot be read, is not a keraslm model, or is damaged.
        UsageError: CUDA was requested but is not available.

    Example:
        >>> session = ModelSession("model.onnx")
        >>> log_probs, state = session.run([[0]], session.zero_state(1))     # (1, 1, V), the first word of a text
    """

    info: ModelInfo

    def __init__(self, path: str | Path, provider: str = "auto", threads: int | None = None):
        self.path = user_path(arguments.path(path, "path"))
        self._opened_with = self.path.absolute(), provider, threads
        data, self.digest = read_model(self.path)
        self._onnx, self.provider = open_session(self.path, data, provider, threads)
        _OPEN.add(self)
        self.info = ModelInfo.from_metadata(self._onnx.get_modelmeta().custom_metadata_map, str(self.path))
        self.tokenizer = Tokenizer.from_json(self.info.tokenizer, f"{self.path}: metadata tokenizer")
        self._check_contract()
        self.adaptive = self.info.softmax == "adaptive"
        self.logits_per_token = self.info.vocab_size
        if self.adaptive:  # the head for every token, and the clusters for a few
            (first, *_) = self.info.configuration(str(self.path)).model.cutoffs or ()
            self.logits_per_token = min(self.info.vocab_size, 4 * first)
        self.state_size = self.info.num_layers * self.info.hidden_size

    def __repr__(self) -> str:
        info = self.info
        return (
            f"ModelSession({str(self.path)!r}, vocabulary={info.vocab_size}, layers={info.num_layers}, "
            f"units={info.hidden_size}, precision={info.precision!r}, provider={self.provider!r})"
        )

    def __reduce__(self) -> tuple[Any, ...]:
        return _reopened, (self.digest, *self._opened_with)

    @property
    def members(self) -> tuple[ModelSession, ...]:
        return (self,)

    def zero_state(self, rows: int) -> State:
        count = arguments.integer(rows, "rows", 0)
        zeros = np.zeros((self.info.num_layers, count, self.info.hidden_size), np.float32)
        return ModelState(zeros, zeros)

    def run(self, ids: Any, state: Any) -> tuple[Floats32, State]:
        (found,), after = self._call((contract.LOG_PROBS,), ids, None, state)
        return found, after

    def target_logprobs(self, ids: Any, targets: Any, state: Any) -> tuple[Floats32, State]:
        (found,), after = self._call((contract.TARGET_LOG_PROBS,), ids, targets, state)
        return found, after

    def hidden_states(self, ids: Any, targets: Any | None, state: Any) -> tuple[Floats32, Floats32, State]:
        """As `target_logprobs`, or as `run` if `targets` is None; return also the hidden states of the last layer.

        Returns:
            Log-probabilities, hidden states after each token, float32 `(N, T, U)`, and the state after the last step.

        Raises:
            ModelFileError: a file of version 3 or 4, which does not return hidden states.
        """
        self.check_hidden()
        log_probs = contract.LOG_PROBS if targets is None else contract.TARGET_LOG_PROBS
        (found, hidden), after = self._call((log_probs, contract.HIDDEN), ids, targets, state)
        return found, hidden, after

    def check_hidden(self) -> None:
        """Raise a `ModelFileError` unless the file returns hidden states."""
        if not self.info.has_hidden:
            raise ModelFileError(
                f"{self.path}: format version {self.info.format_version}, which does not return the hidden states that "
                "a neural cache needs. Export the run again: keraslm export"
            )

    def _call(self, wanted: Sequence[str], ids: Any, targets: Any, state: Any) -> tuple[list[Floats32], State]:
        """The outputs `wanted` of the graph, and the next state; targets are checked only if they are used."""
        ids = self._ids(ids, "ids")
        if contract.TARGET_LOG_PROBS not in wanted:
            targets = np.zeros((len(ids), 0))
        else:
            targets = self._ids(targets, "targets")
            if targets.shape != ids.shape:
                raise InputError(
                    f"Targets of shape {targets.shape} for token ids of shape {ids.shape}; they must be equal."
                )
        self._check_state(ids, state)
        if self._onnx is None:  # after a fork
            again = _reopened(self.digest, *self._opened_with)
            self._onnx, self.provider = again._onnx, again.provider
        ids, targets = ids.astype(np.int64, copy=False), targets.astype(np.int64, copy=False)
        try:
            if self.provider == "cuda":
                return run_bound(self._onnx, self.provider, wanted, ids, targets, state)
            feed = dict(zip(contract.INPUTS, (ids, state.h, state.c, targets), strict=True))
            *found, h, c = self._onnx.run([*wanted, contract.NEXT_H0, contract.NEXT_C0], feed)
        except Exception as error:  # onnxruntime raises a dozen unrelated classes
            raise KeraslmError(f"{self.path}: onnxruntime failed to run the model ({first_line(error)}).") from error
        return found, ModelState(h, c)

    def _ids(self, values: Any, name: str) -> NDArray[Any]:
        ids = id_array(values, name)
        check_ids(ids, self.info.vocab_size, name)
        return ids

    def _check_state(self, ids: NDArray[Any], state: Any) -> None:
        if not isinstance(state, ModelState):
            raise InputTypeError(f"The state is {state!r}, but one from the model's zero_state or a call is expected.")
        expected = (self.info.num_layers, len(ids), self.info.hidden_size)
        for name, (kind, shape) in zip((contract.H0, contract.C0), state.layout, strict=True):
            if (kind, shape) != (FLOAT32, expected):
                raise InputError(
                    f"State {name} is {kind} of shape {shape}, but {len(ids)} rows need float32 {expected}: (layers, "
                    "rows, units)."
                )

    def _check_contract(self) -> None:
        info, tokenizer = self.info, self.tokenizer
        found = {
            value.name: (value.type, tuple(size if isinstance(size, int) else None for size in value.shape))
            for value in (*self._onnx.get_inputs(), *self._onnx.get_outputs())
        }
        if tuple(found) != info.names:
            raise ModelFileError(
                f"{self.path}: inputs and outputs {', '.join(found)} are not those of a keraslm model."
            )
        for name, kind, shape in info.layout(str(self.path)):
            if found[name] != (kind, shape):
                own = f"{found[name][0]} of shape {found[name][1]}"
                raise ModelFileError(
                    f"{self.path}: {name} is {own}, but the metadata say {kind} of shape {shape}; export the run again."
                )
        ids = (tokenizer.vocab_size, tokenizer.unk_id, tokenizer.eos_id, tokenizer.eos_id)
        if ids != (info.vocab_size, info.unk_id, info.bos_id, info.eos_id):
            raise ModelFileError(
                f"{self.path}: vocab_size, unk_id, bos_id and eos_id in the metadata are not the tokenizer's {ids}; "
                "export the run again."
            )
        if hashlib.sha256(info.tokenizer.encode()).hexdigest() != info.tokenizer_sha256:
            raise ModelFileError(f"{self.path}: the tokenizer does not match tokenizer_sha256; the file is damaged.")


def id_array(values: Any, name: str) -> NDArray[Any]:
    """An array of anything; `name` is the argument."""
    try:
        return np.asarray(values)
    except (TypeError, ValueError) as error:  # rows of different lengths
        raise InputTypeError(f"`{name}` is {shown(values)}, but an array of integers is expected.") from error


def check_ids(ids: NDArray[Any], vocab_size: int, name: str) -> None:
    """Raise an error unless `ids` are integers of shape `(rows, steps)` of the vocabulary; `name` is the argument."""
    # onnxruntime aborts the process on an empty batch, and reads id -1 as the last id of the vocabulary.
    if ids.ndim != 2 or ids.size == 0 or ids.dtype.kind not in "iu":
        raise InputTypeError(
            f"Token ids of type {ids.dtype} and shape {ids.shape} in `{name}`; integers of shape (rows, steps), at "
            "least (1, 1), are expected."
        )
    low, high = (ids.item(),) * 2 if ids.size == 1 else (int(ids.min()), int(ids.max()))
    if low < 0 or high >= vocab_size:
        bad = low if low < 0 else high
        raise InputError(f"Token id {bad} is outside the vocabulary of 0 to {vocab_size - 1}.")


def run_bound(
    session: Any,
    device: str,
    wanted: Sequence[str],
    ids: NDArray[np.int64],
    targets: NDArray[np.int64],
    state: ModelState,
) -> tuple[list[Floats32], DeviceState]:
    """Run an `onnxruntime.InferenceSession`, copy the outputs `wanted` back, and keep the next state on the device."""
    binding = session.io_binding()
    binding.bind_cpu_input(contract.INPUT_IDS, np.ascontiguousarray(ids))
    binding.bind_cpu_input(contract.TARGETS, np.ascontiguousarray(targets))
    if isinstance(state, DeviceState):
        for name, value in zip((contract.H0, contract.C0), state.values, strict=True):
            binding.bind_ortvalue_input(name, value)
    else:
        binding.bind_cpu_input(contract.H0, np.ascontiguousarray(state.h))
        binding.bind_cpu_input(contract.C0, np.ascontiguousarray(state.c))
    for name in wanted:
        binding.bind_output(name, "cpu")
    for name in (contract.NEXT_H0, contract.NEXT_C0):
        binding.bind_output(name, device)
    session.run_with_iobinding(binding)
    *found, h, c = binding.get_outputs()
    return [np.asarray(value.numpy()) for value in found], DeviceState(h, c)


_OPEN: WeakSet[ModelSession] = WeakSet()


def _forget_sessions() -> None:
    # The threads of the sessions do not exist after a fork. Freeing a session would wait for them forever.
    for session in list(_OPEN):
        ctypes.pythonapi.Py_IncRef(ctypes.py_object(session._onnx))
        session._onnx = None


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_sessions)


def _reopened(digest: str, path: Path, provider: str, threads: int | None) -> ModelSession:
    session = ModelSession(path, provider, threads)
    if session.digest != digest:
        raise ModelFileError(
            f"{path}: the file has changed since it was opened (SHA-256 {digest[:12]}… then, {session.digest[:12]}… "
            "now). Load it again."
        )
    return session
