"""Target `rasr`: a recurrent language model for RASR (type `onnx`, state manager `lstm`), and its vocabulary.

    inputs    word           int32    [B, T]      token ids after the state, padded with 0
              word-length    int32    [B]         tokens of each row
              h_0, c_0, ...  float32  [B, H]      state of each layer before them; zeros at the start of a sentence
    outputs   nn-output      float32  [B, T, V]   distribution after each token, natural logarithm
              next_h_0, ...  float32  [B, H]      state of each layer after the last token of the row

`B` histories, `T` tokens of the longest, `H` units of the layer, `V` vocabulary. The metadata have one entry
`STATE_<input>` = `<output>` per state. The vocabulary, lines of `word id`, is written beside the file; its
`<s>`, and its `</s>` if there is no such token, are the end symbol, which a sentence starts from too. RASR wants costs:
set `transform-output-negate`. A GRU or RNN layer has no c.

Written after `src/Lm/OnnxRecurrentLanguageModel.cc`, `src/Nn/LstmStateManager.hh` and `src/Onnx/Session.cc` of
https://github.com/rwth-i6/rasr (8fe741b1, August 2026); not tried in RASR itself, of which there is no package.
"""

from __future__ import annotations

from itertools import chain, pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from keraslm.config import ModelConfig
from keraslm.runs.run import Run
from keraslm.scoring import contract
from keraslm.scoring import targets as known
from keraslm.system import VERSION
from keraslm_export import targets, verify
from keraslm_export.convert import write_graph
from keraslm_export.targets.requirements import check_sentences, refuse

if TYPE_CHECKING:
    from onnx import ModelProto

    from keraslm_export.graph import Softmax, Writer

NAME = "rasr"
INT8 = False  # RASR scores histories in batches of its own choice, on which 8-bit scores would depend
WORD, LENGTH, OUTPUT = "word", "word-length", "nn-output"
WAYS = "alone - in a batch"
_BLANKS = set(" \t\n\v\f\r")  # what ends a word in C++


def check(run: Run) -> None:
    check_sentences(run, NAME)
    for name in run.tokenizer.tokens(range(run.tokenizer.vocab_size)):
        if not name or _BLANKS & set(name):
            reason = f"a word of its vocabulary file ends at white space, but the run has the token {name!r}."
            raise refuse(run, NAME, reason)


def write(run: Run, path: Path, options: targets.Options) -> targets.ExportReport:
    return write_graph(targets.graph_of(NAME), run, path, options)


def states(config: ModelConfig) -> dict[str, int]:
    """Name and size of the inputs that are states, lowest layer first."""
    parts = ("h", "c") if config.cell == "lstm" else ("h",)
    return {f"{part}_{number}": units for number, units in enumerate(config.sizes) for part in parts}


def names(run: Run) -> tuple[tuple[str, ...], tuple[str, ...]]:
    inputs = states(run.config.model)
    return (WORD, LENGTH, *inputs), (OUTPUT, *(f"next_{name}" for name in inputs))


def build(run: Run, softmax: Softmax, writer: Writer) -> ModelProto:
    from onnx import TensorProto, helper

    from keraslm_export.graph import Before, add_embedding, add_layers, add_softmax, assemble, state_names

    config, weights, inputs = run.config.model, run.read_weights(), states(run.config.model)
    writer.constant(contract.TARGETS, np.zeros((1, 0), np.int64))  # no known targets: distributions of every step
    layer_axis, parts = writer.constant("layer_axis", [0]), len(state_names(config))

    def before(number: int) -> Before:
        own = list(inputs)[parts * number : parts * (number + 1)]
        return Before([writer.node("Unsqueeze", [name, layer_axis], f"{name}_layer") for name in own], LENGTH)

    x, last = add_layers(writer, config, weights, add_embedding(writer, weights, WORD), before)
    for name, state in zip(inputs, chain.from_iterable(last), strict=True):
        writer.node("Squeeze", [state, layer_axis], f"next_{name}")
    add_softmax(writer, config, weights, x, softmax)
    writer.node("Identity", [contract.LOG_PROBS], OUTPUT)
    value, vocab_size = helper.make_tensor_value_info, run.tokenizer.vocab_size
    ids = [value(WORD, TensorProto.INT32, ["B", "T"]), value(LENGTH, TensorProto.INT32, ["B"])]
    before_all = [value(name, TensorProto.FLOAT, ["B", units]) for name, units in inputs.items()]
    after_all = [value(f"next_{name}", TensorProto.FLOAT, ["B", units]) for name, units in inputs.items()]
    output = value(OUTPUT, TensorProto.FLOAT, ["B", "T", vocab_size])
    return assemble(writer, [*ids, *before_all], [output, *after_all])


def metadata(run: Run, precision: str) -> dict[str, str]:
    model, tokenizer = run.config.model, run.tokenizer
    described = {
        known.KEY: NAME,
        "keraslm_version": VERSION,
        "precision": precision,
        "cell": model.cell,
        "eos_id": str(tokenizer.eos_id),
        "unk_id": str(tokenizer.unk_id),
        "vocab_size": str(tokenizer.vocab_size),
        "tokenizer_sha256": tokenizer.digest,
    }
    return described | {f"STATE_{name}": f"next_{name}" for name in states(model)}


def compare(run: Run, data: bytes) -> verify.Verification:
    """Two calls with rows of different length, the state carried, together and alone, against one pass of Keras."""
    session, rng = verify.open_graph(data), np.random.default_rng(0)
    largest, alone = [], []
    for rows, steps in verify.SHAPES:
        ids = rng.integers(0, run.tokenizer.vocab_size, (rows, 2 * steps))
        cuts = rng.integers(1, 2 * steps, rows)  # tokens of each row in the first call
        expected = verify.keras_log_probs(run, ids)
        found = _log_probs(session, run, ids, cuts)
        largest.append(np.abs(found - expected).max())
        single = [_log_probs(session, run, ids[row : row + 1], cuts[row : row + 1]) for row in range(rows)]
        alone.append(np.abs(found - np.concatenate(single)).max())
    return verify.accepted(largest, alone, WAYS)


def _log_probs(session: Any, run: Run, ids: NDArray[np.int64], cuts: NDArray[np.int64]) -> NDArray[np.float32]:
    """Log-probabilities `(B, T, V)` after each of the ids `(B, T)`, in two calls that end at `cuts` and at T."""
    inputs, outputs = names(run)
    rows, steps = ids.shape
    state = [np.zeros((rows, size), np.float32) for size in states(run.config.model).values()]
    found = np.zeros((rows, steps, run.tokenizer.vocab_size), np.float32)
    for start, stop in pairwise((np.zeros_like(cuts), cuts, np.full_like(cuts, steps))):
        lengths = (stop - start).astype(np.int32)
        word = np.zeros((rows, lengths.max()), np.int32)
        for row, length in enumerate(lengths):
            word[row, :length] = ids[row, start[row] : stop[row]]
        output, *state = session.run(list(outputs), dict(zip(inputs, (word, lengths, *state), strict=True)))
        for row, length in enumerate(lengths):
            found[row, start[row] : stop[row]] = output[row, :length]
    return found


def companions(run: Run, path: Path) -> dict[Path, bytes]:
    """The vocabulary: `model.vocab.txt` beside `model.onnx`."""
    end, tokens = run.tokenizer.eos_id, run.tokenizer.tokens(range(run.tokenizer.vocab_size))
    ids = {name: number for number, name in enumerate(tokens)}
    ids.setdefault("</s>", end)
    ids["<s>"] = end  # also if the vocabulary has a begin symbol, which the model has never seen
    return {path.with_suffix(".vocab.txt"): "".join(f"{name} {number}\n" for name, number in ids.items()).encode()}
