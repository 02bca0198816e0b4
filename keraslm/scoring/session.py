"""A model file, opened and checked: NumPy and onnxruntime only."""

from __future__ import annotations

import hashlib
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from keraslm.errors import InputError, KeraslmError, ModelFileError
from keraslm.scoring import contract
from keraslm.scoring.contract import ModelInfo
from keraslm.scoring.device import run_bound
from keraslm.scoring.opening import open_session, read_model
from keraslm.scoring.state import Floats, State
from keraslm.text.tokenizer import Tokenizer


class ModelSession:
    """An open model file.

    Args:
        path: of the file.
        provider: `"cpu"`, `"cuda"`, or `"auto"`: CUDA where onnxruntime has it, the CPU elsewhere.
        threads: that compute one operation; 0 takes one a core.

    Attributes:
        digest: SHA-256 of the file, hexadecimal.
        info: the file's metadata.
        tokenizer: the tokenizer inside the file.
        provider: what onnxruntime really runs on, `"cpu"` or `"cuda"`.

    Raises:
        ModelFileError: no such file, not an ONNX model of keraslm's, or one that contradicts itself.
        UsageError: CUDA was asked for and is not there.

    Example:
        >>> session = ModelSession("model.onnx")
        >>> log_probs, state = session.run([[0]], session.zero_state(1))     # (1, 1, V), the first word of a text
    """

    def __init__(self, path: str | Path, provider: str = "auto", threads: int = 0):
        self.path = Path(path)
        data, self.digest = read_model(self.path)
        self._session, self.provider = open_session(self.path, data, provider, threads)
        self.info = ModelInfo.from_metadata(self._session.get_modelmeta().custom_metadata_map, str(self.path))
        self.tokenizer = Tokenizer.from_json(self.info.tokenizer, f"{self.path}: metadata tokenizer")
        self._check_contract()
        self._check_answers()

    def zero_state(self, rows: int) -> State:
        """The state at the start of a text, for `rows` texts side by side."""
        zeros = np.zeros((self.info.num_layers, rows, self.info.hidden_size), np.float32)
        return State(zeros, zeros)

    def run(self, ids: Any, state: State) -> tuple[Floats, State]:
        """Feed tokens and get the distribution after each.

        Args:
            ids: integers of shape `(N, T)`, at least one row and one step.
            state: of N rows, from `zero_state` or an earlier call.

        Returns:
            log-probabilities (natural logarithm), float32 `(N, T, V)`, and the state after the last step.

        Raises:
            InputError: a wrong shape, no tokens, or an id outside the vocabulary.
        """
        ids = np.asarray(ids)
        self._check_input(ids, state)
        return self._call(contract.LOG_PROBS, ids, np.zeros((len(ids), 0)), state)

    def target_logprobs(self, ids: Any, targets: Any, state: State) -> tuple[Floats, State]:
        """Feed tokens and get the log-probability of one token after each.

        Args:
            ids: integers of shape `(N, T)`, at least one row and one step.
            targets: of the same shape.
            state: of N rows, from `zero_state` or an earlier call.

        Returns:
            log-probabilities (natural logarithm), float32 `(N, T)`, and the state after the last step.

        Raises:
            InputError: a wrong shape, no tokens, or an id outside the vocabulary.
        """
        ids, targets = np.asarray(ids), np.asarray(targets)
        self._check_input(ids, state)
        self._check_ids(targets)
        if targets.shape != ids.shape:
            raise InputError(
                f"Targets of shape {targets.shape} for token ids of shape {ids.shape}; they must be equal."
            )
        return self._call(contract.TARGET_LOG_PROBS, ids, targets, state)

    @property
    def members(self) -> tuple[ModelSession, ...]:
        """The model files whose probabilities this session gives the mean of: itself; see `scoring.ensemble`."""
        return (self,)

    @cached_property
    def cells(self) -> int:
        """Numbers that a token of a call is reckoned to take in memory: a row of logits, by far the most."""
        if self.info.softmax != "adaptive":
            return self.info.vocab_size
        ends = self.info.configuration(str(self.path))[1].model.cutoffs or ()
        return min(self.info.vocab_size, 4 * ends[0])  # the head for each, and the clusters for the few

    def _call(self, wanted: str, ids: NDArray[Any], targets: NDArray[Any], state: State) -> tuple[Floats, State]:
        ids, targets = ids.astype(np.int64), targets.astype(np.int64)
        try:
            if self.provider == "cuda":
                return run_bound(self._session, self.provider, wanted, ids, targets, state)
            feed = dict(zip(contract.INPUTS, (ids, state.h, state.c, targets), strict=True))
            found, h, c = self._session.run([wanted, contract.NEXT_H0, contract.NEXT_C0], feed)
        except Exception as error:  # onnxruntime raises a dozen unrelated classes
            reason = str(error).split("\n", 1)[0][:200]
            raise KeraslmError(f"{self.path}: onnxruntime failed to run the model ({reason}).") from error
        return found, State(h, c)

    def _check_ids(self, ids: NDArray[Any]) -> None:
        # onnxruntime aborts the process on an empty batch, and reads id -1 as the vocabulary's last word.
        if ids.ndim != 2 or ids.size == 0 or ids.dtype.kind not in "iu":
            raise InputError(
                f"Token ids of type {ids.dtype} and shape {ids.shape}; integers of shape (rows, steps), at least "
                "(1, 1), are expected."
            )
        low, high = int(ids.min()), int(ids.max())
        if low < 0 or high >= self.info.vocab_size:
            bad = low if low < 0 else high
            raise InputError(f"Token id {bad} is outside the vocabulary of 0 to {self.info.vocab_size - 1}.")

    def _check_input(self, ids: NDArray[Any], state: State) -> None:
        self._check_ids(ids)
        expected = (self.info.num_layers, len(ids), self.info.hidden_size)
        for name, shape, kind in zip((contract.H0, contract.C0), state.shapes, state.kinds, strict=True):
            if (shape, kind) != (expected, "float32"):
                raise InputError(
                    f"State {name} is {kind} of shape {shape}, but {len(ids)} rows need float32 {expected}: (layers, "
                    "rows, units)."
                )

    def _check_contract(self) -> None:
        info, shapes = self.info, {}
        for value in (*self._session.get_inputs(), *self._session.get_outputs()):
            shapes[value.name] = value.shape
        if tuple(shapes) != contract.INPUTS + contract.OUTPUTS:
            raise ModelFileError(
                f"{self.path}: inputs and outputs {', '.join(shapes)} are not those of a keraslm model."
            )
        graph_size = shapes[contract.LOG_PROBS][-1] if shapes[contract.LOG_PROBS] else None
        if not self.tokenizer.vocab_size == info.vocab_size == graph_size:
            raise ModelFileError(
                f"{self.path}: the tokenizer has {self.tokenizer.vocab_size} tokens, the model {graph_size} "
                f"(metadata: {info.vocab_size}). The file was put together from two models; export it again."
            )
        ids = (self.tokenizer.unk_id, self.tokenizer.eos_id, self.tokenizer.eos_id)
        if ids != (info.unk_id, info.bos_id, info.eos_id):
            raise ModelFileError(
                f"{self.path}: unk_id, bos_id and eos_id in the metadata are not the tokenizer's {ids}; export again."
            )
        if hashlib.sha256(info.tokenizer.encode()).hexdigest() != info.tokenizer_sha256:
            raise ModelFileError(f"{self.path}: the tokenizer is not that of tokenizer_sha256; the file is damaged.")
        state = [info.num_layers, contract.BATCH, info.hidden_size]
        if shapes[contract.H0] != state or shapes[contract.C0] != state:
            raise ModelFileError(f"{self.path}: the state has shape {shapes[contract.H0]}, metadata say {state}.")

    def _check_answers(self) -> None:
        """Ask a few tokens from all over the vocabulary: distributions, and the same numbers on both ways to them."""
        ids = np.linspace(0, self.info.vocab_size - 1, 8).astype(np.int64).reshape(2, 4)
        try:
            log_probs, end = self.run(ids, self.zero_state(2))
            of_targets, same_end = self.target_logprobs(ids, ids, self.zero_state(2))
        except KeraslmError as error:
            raise ModelFileError(str(error)) from error
        total = np.exp(log_probs).sum(-1, dtype=np.float64)
        state = np.stack([end.h, end.c, same_end.h, same_end.c])
        if not (np.isfinite(log_probs).all() and np.isfinite(state).all() and np.allclose(total, 1, atol=1e-3)):
            raise ModelFileError(f"{self.path}: the model's answers are not probabilities; export the run again.")
        # int8 rounds by what else is computed in a call, so that the two are not quite equal.
        known = np.take_along_axis(log_probs, ids[..., None], axis=2)[..., 0]
        if not np.allclose(of_targets, known, rtol=0.05, atol=0.05):
            raise ModelFileError(
                f"{self.path}: the model's log-probabilities of targets are not those of its distributions; "
                "export the run again."
            )
