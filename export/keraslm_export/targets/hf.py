"""Target `hf`: a folder for transformers, which `AutoModelForCausalLM` and `AutoTokenizer` open.

    config.json            sizes of the network, ids of the special tokens, where the classes are
    modeling_keraslm.py    the network in torch, which `trust_remote_code=True` runs
    model.safetensors      the weights, with the names of torch
    tokenizer.json         the tokenizer of the run; its post-processor puts the end symbol first, not last
    tokenizer_config.json, special_tokens_map.json, generation_config.json, README.md

`tokenizer("the cat")` gives `<eos> the cat`: keraslm predicts the first token of a text from the end symbol. So the
end symbol is also the begin symbol and the padding of the folder. A harness that scores a sentence token by token, with
or without special tokens of its own, then starts from the same state as keraslm with `context="sentence"`.
"""

from __future__ import annotations

import json
import os
import shlex
import tempfile
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import tokenizers
from numpy.typing import NDArray

from keraslm import arguments
from keraslm.config import ModelConfig, StrPath, user_path
from keraslm.config.clusters import tail_size
from keraslm.errors import ExportError, RunError, UsageError
from keraslm.runs.run import Run
from keraslm.runs.weights import Weights
from keraslm.system import VERSION
from keraslm.system.backend import require, select_backend
from keraslm.system.processes import Workers
from keraslm.text.tokenizer import NO_ID, Tokenizer
from keraslm_export.targets import ExportReport, Options
from keraslm_export.targets.folders import check_folder, publish

INT8 = False
MODEL_TYPE = "keraslm"
MODELING = "modeling_keraslm.py"
TOLERANCE = 1e-4  # of a logit, and of the loss in nats; float32 differences are near 1e-6
SHAPES = ((1, 1), (1, 40), (3, 7), (8, 20))  # rows x steps

# Gates in the order of torch, as numbers of the gates of Keras: i, f, c, o stay; z, r, h become r, z, n.
_GATES = {"lstm": (0, 1, 2, 3), "gru": (1, 0, 2), "rnn": (0,)}


def check(run: Run) -> None:
    if run.config.model.mogrifier_rounds:
        raise UsageError(f"{run.path} has a Mogrifier, which torch has no layer for; the target hf cannot express it.")


def write(run: Run, path: Path, options: Options = Options()) -> ExportReport:  # noqa: B008, it is frozen
    """Write a run as a folder for transformers. It appears only if its verification passes.

    Args:
        run: with the weights it was opened with.
        path: a new or empty folder, or one that this function has written, whose files are then replaced.
        options: not used.

    Returns:
        a report whose `largest_difference` is that of a logit between Keras and transformers, with and without padding,
        and whose `chunked_difference` is that of the loss, in nats per token.

    Raises:
        UsageError: the network has a Mogrifier, or the folder holds something else.
        RunError: the run is damaged, or its weights are not finite.
        ExportError: the model or the tokenizer of transformers differs from that of keraslm.
        WriteError: the folder cannot be written.
        MissingPackageError: a package of `keraslm[hf]` is missing.
    """
    with _verifier() as verifier:
        return _write(run, user_path(arguments.path(path, "path")), verifier)


def write_checkpoints(run: Run, folder: StrPath) -> dict[str, ExportReport]:
    """Write a folder for each file of weights that `save_at_words` has kept: `chck_1M`, `chck_2M`, ...

    Args:
        run: any weights of it.
        folder: where these folders are written; it is made if it does not exist.

    Returns:
        the report of each folder, by its name.

    Raises:
        RunError: the run has kept no weights at numbers of words. Other errors as of `write`.
    """
    place, reports = user_path(arguments.path(folder, "folder")), {}
    kept = run.weights_at_words()
    if not kept:
        raise RunError(f"{run.path} has kept no weights at numbers of words. Train with `save_at_words`.")
    with _verifier() as verifier:
        for words in kept:
            name = f"chck_{short_count(words)}"
            reports[name] = _write(Run.open(run.path, words), place / name, verifier)
    return reports


def short_count(number: int) -> str:
    """A number with `M` for millions or `k` for thousands, if it is a multiple of them.

    Example:
        >>> short_count(20_000_000), short_count(500_000), short_count(1234)
        ('20M', '500k', '1234')
    """
    for factor, letter in ((1_000_000, "M"), (1000, "k")):
        if number % factor == 0:
            return f"{number // factor}{letter}"
    return str(number)


def _write(run: Run, folder: Path, verifier: Workers) -> ExportReport:
    check(run)
    for package in ("keras", "torch", "safetensors", "transformers"):
        require(package, extra="hf", purpose="the target hf")
    own = check_folder(folder, "hf", ("config.json", "model_type", MODEL_TYPE))
    files = folder_files(run, folder.resolve().name)
    with tempfile.TemporaryDirectory(prefix="keraslm-hf-") as made:
        for name, data in files.items():
            (Path(made) / name).write_bytes(data)
        lines = _probes(run.tokenizer)
        logits, loss = verifier.submit((run.path, run.weights, made, lines)).result()
    publish(folder, files, own)
    size = sum(map(len, files.values()))
    return ExportReport(len(SHAPES), logits, loss, "loss", path=folder, bytes=size, target="hf")


def folder_files(run: Run, name: str) -> dict[str, bytes]:
    """The files of the folder of a run, by name; `name` is the title of the model card."""
    from safetensors.numpy import save

    ids = dict.fromkeys(("bos_token_id", "eos_token_id", "pad_token_id"), run.tokenizer.eos_id)
    weights = torch_weights(run.config.model, run.read_weights())
    texts = {
        "config.json": _json(model_config(run) | ids),
        "generation_config.json": _json(ids),
        **tokenizer_files(run.tokenizer),
        "README.md": _card(run, name),
    }
    return {
        **{file: text.encode() for file, text in texts.items()},
        MODELING: Path(__file__).with_name(MODELING).read_bytes(),
        "model.safetensors": save(weights, {"format": "pt"}),
    }


def _json(value: dict[str, Any]) -> str:
    return json.dumps(value, indent=2, ensure_ascii=False) + "\n"


def model_config(run: Run) -> dict[str, Any]:
    """The fields of `KeraslmConfig`, and where transformers finds the classes."""
    model = run.config.model
    cutoffs = model.cutoffs or ()
    classes = {"AutoConfig": "Config", "AutoModel": "Model", "AutoModelForCausalLM": "ForCausalLM"}
    return {
        "model_type": MODEL_TYPE,
        "architectures": ["KeraslmForCausalLM"],
        "auto_map": {auto: f"{Path(MODELING).stem}.Keraslm{own}" for auto, own in classes.items()},
        "vocab_size": run.tokenizer.vocab_size,
        "embedding_size": model.embedding_size,
        "layer_sizes": list(model.sizes),
        "hidden_size": model.sizes[-1],
        "num_hidden_layers": len(model.sizes),
        "cell": model.cell,
        "softmax": "full" if model.softmax == "sampled" else model.softmax,
        "tied": model.tie_weights,
        "cutoffs": list(cutoffs),
        "tail_sizes": [tail_size(model.sizes[-1], cluster) for cluster in range(len(cutoffs))],
        "num_experts": model.num_experts,
        "tie_word_embeddings": False,  # the model itself uses the table twice
        "unk_token_id": None if run.tokenizer.unk_id == NO_ID else run.tokenizer.unk_id,
        "keraslm_version": VERSION,
    }


def torch_weights(model: ModelConfig, weights: Weights) -> Weights:
    """The weights of a run with the names, shapes and order of gates of `modeling_keraslm.py`.

    A matrix is `(outputs, inputs)` in torch. A layer has two biases there, which are added; for an LSTM and an RNN the
    second is zero.
    """
    found = {"model.embedding.weight": weights["embedding/embeddings"]}
    for number in range(len(model.sizes)):
        source, target = f"{model.cell}_{number}", f"model.layers.{number}"
        bias = np.atleast_2d(weights[f"{source}/bias"])  # (1 or 2, gates * units)
        pairs = {
            "weight_ih_l0": weights[f"{source}/kernel"].T,
            "weight_hh_l0": weights[f"{source}/recurrent_kernel"].T,
            "bias_ih_l0": bias[0],
            "bias_hh_l0": bias[1] if len(bias) == 2 else np.zeros_like(bias[0]),
        }
        found |= {f"{target}.{name}": _gates(model.cell, value) for name, value in pairs.items()}
    for name, value in weights.items():
        if name.startswith("logits/"):
            found[_softmax_name(name.removeprefix("logits/"))] = value.T if model.softmax != "sampled" else value
    return {name: np.ascontiguousarray(value) for name, value in found.items()}


def _gates(cell: str, value: NDArray[np.float32]) -> NDArray[np.float32]:
    """The blocks of gates, which follow each other on the first axis, in the order of torch."""
    blocks = np.split(value, len(_GATES[cell]))
    return np.concatenate([blocks[number] for number in _GATES[cell]])


def _softmax_name(name: str) -> str:
    """`head_kernel` becomes `head.weight`, `tail_0_projection` becomes `projections.0.weight`; `bias` stays."""
    if name in ("kernel", "bias"):
        return name
    owner, _, part = name.rpartition("_")
    if owner.startswith("tail_"):
        number = owner.removeprefix("tail_")
        owner = f"projections.{number}" if part == "projection" else f"tails.{number}"
    return f"{owner}.{'bias' if part == 'bias' else 'weight'}"


def tokenizer_files(tokenizer: Tokenizer) -> dict[str, str]:
    """The files of a tokenizer that puts the end symbol before a line instead of after it.

    Two texts, as in a classification of pairs, are two lines. A name of a special token in a text is read as keraslm
    reads it: as a word of the vocabulary, or as ordinary text, unless the tokenizer was imported with added tokens.
    """
    from tokenizers.processors import TemplateProcessing

    backend = tokenizers.Tokenizer.from_str(tokenizer.to_json())
    end = str(backend.id_to_token(tokenizer.eos_id))
    template: dict[str, Any] = {"single": [end, "$A"], "pair": [end, "$A", end, "$B"]}
    backend.post_processor = TemplateProcessing(**template, special_tokens=[(end, tokenizer.eos_id)])
    special = dict.fromkeys(("bos_token", "eos_token", "pad_token"), end)
    if tokenizer.unk_id != NO_ID:
        special["unk_token"] = str(backend.id_to_token(tokenizer.unk_id))
    config = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        **special,
        "clean_up_tokenization_spaces": False,
        "model_input_names": ["input_ids", "attention_mask"],
        "padding_side": "right",
        "split_special_tokens": not backend.get_added_tokens_decoder(),
    }
    return {
        "tokenizer.json": str(backend.to_str(pretty=True)),
        "tokenizer_config.json": _json(config),
        "special_tokens_map.json": _json(special),
    }


def _card(run: Run, name: str) -> str:
    model, row = run.config.model, run.trained_epoch()
    perplexity = f"{row['val_perplexity']:.2f} per token" if "val_perplexity" in row else "unknown"
    sizes = ", ".join(map(str, model.sizes))
    place = shlex.quote(run.path.name if run.path.is_absolute() else str(run.path))
    weights = short_count(run.weights) if isinstance(run.weights, int) else run.weights
    which = "" if weights == "last" else f" --weights {weights}"
    return f"""---
library_name: transformers
pipeline_tag: text-generation
tags: [keraslm, {model.cell}]
---

# {name}

A recurrent language model, trained with keraslm {VERSION}.

| | |
|---|---|
| layers | {model.cell}, units {sizes}; embeddings of {model.embedding_size} |
| softmax | {model.softmax}{", tied to the embeddings" if model.tie_weights else ""} |
| vocabulary | {run.tokenizer.vocab_size:,} tokens |
| state carried through | the {run.config.data.context} |
| validation perplexity | {perplexity} |

Written with:

    keraslm export {shlex.quote(name)} --target hf --run {place}{which}

## Use

    from transformers import AutoModelForCausalLM, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained("{name}", trust_remote_code=True)
    model = AutoModelForCausalLM.from_pretrained("{name}", trust_remote_code=True)
    inputs = tokenizer(["the cat", "a dog"], return_tensors="pt", padding=True)
    print(tokenizer.batch_decode(model.generate(**inputs, max_new_tokens=20)))

The tokenizer puts the end symbol before a text, because the first token is predicted from it, and not after it. For the
probability of a complete sentence, add `tokenizer.eos_token_id` to its ids. Padding is the end symbol too: pass the
attention mask. The state starts from zeros with each call, unless the `state` of an earlier output is passed.
"""


Job = tuple[Path, str | int, str, Sequence[str]]  # run, its weights, folder, lines to tokenize


@contextmanager
def _verifier() -> Iterator[Workers]:
    """A process with the torch backend, on the CPU, that compares folders with their runs."""
    with tempfile.TemporaryDirectory(prefix="keraslm-hf-") as cache, Workers(1, _comparer, cache) as workers:
        yield workers


def _comparer(cache: str) -> Callable[[Job], tuple[float, float]]:
    """Prepare a new process, whose own output is not shown. transformers copies the code that it runs to `cache`."""
    os.environ |= {"CUDA_VISIBLE_DEVICES": "-1", "HF_HUB_OFFLINE": "1", "HF_MODULES_CACHE": cache}
    null = os.open(os.devnull, os.O_WRONLY)
    for standard in (1, 2):
        os.dup2(null, standard)
    select_backend("torch")
    from tqdm import tqdm

    tqdm.set_lock(threading.RLock())  # its own lock would be left in the system when this process is killed
    return lambda job: compare(Run.open(job[0], job[1]), Path(job[2]), job[3])


def compare(run: Run, folder: Path, lines: Sequence[str]) -> tuple[float, float]:
    """Compare a folder with Keras on random ids, and with the tokenizer of the run; needs the torch backend.

    Each shape is read in one call, padded, and in two calls with the state carried.

    Returns:
        the largest difference of a logit and of a loss.

    Raises:
        ExportError: a difference is above `TOLERANCE` or not a number, or a line has different ids.
    """
    import transformers

    # Without trust, transformers would ask on the terminal whether the configuration may be read.
    check_ids(run.tokenizer, transformers.AutoTokenizer.from_pretrained(folder, trust_remote_code=True), lines)
    model = transformers.AutoModelForCausalLM.from_pretrained(folder, trust_remote_code=True).eval()
    rng = np.random.default_rng(0)
    found = np.array([_differences(run, model, rng, *shape) for shape in SHAPES])
    logits, loss = (float(x) for x in found.max(axis=0))  # NaN if one of them is
    if not np.maximum(logits, loss) <= TOLERANCE:
        raise ExportError(
            f"The model of transformers differs from Keras: logits by {logits:.3g}, loss by {loss:.3g} nats; at most "
            f"{TOLERANCE:g} is allowed. Not published."
        )
    return logits, loss


def _differences(run: Run, model: Any, rng: np.random.Generator, rows: int, steps: int) -> tuple[float, float]:
    """Largest differences of a logit and of the loss for random ids of one shape."""
    import keras
    import torch

    from keraslm.evaluation.reader import load_model

    ids = rng.integers(0, run.tokenizer.vocab_size, (rows, steps + 1))
    lengths = rng.integers(1, steps + 2, rows)
    lengths[0] = steps + 1
    real = np.arange(steps + 1) < lengths[:, None]  # (rows, steps + 1)
    expected = keras.ops.convert_to_numpy(load_model(run, rows)(ids))
    logprobs = keras.ops.convert_to_numpy(keras.ops.log_softmax(expected))[:, :-1]
    costs = -np.take_along_axis(logprobs, ids[:, 1:, None], 2)[:, :, 0]
    padded = torch.tensor(np.where(real, ids, run.tokenizer.eos_id))
    labels = torch.tensor(np.where(real, ids, -100))
    with torch.no_grad():
        masked = model(input_ids=padded, attention_mask=torch.tensor(real.astype(np.int64)), labels=labels)
        whole = torch.tensor(ids)
        first = model(input_ids=whole[:, :steps])
        second = model(input_ids=whole[:, steps:], state=first.state)
    together = torch.cat([first.logits, second.logits], 1).numpy()
    differences = [np.abs(together - expected).max(), np.abs(masked.logits.numpy() - expected)[real].max()]
    return float(np.max(differences)), abs(float(masked.loss) - float(costs[real[:, 1:]].mean()))


def check_ids(own: Tokenizer, other: Any, lines: Sequence[str]) -> None:
    """Raise `ExportError` unless both tokenizers give each line the same ids, the other with the end symbol first."""
    with_end, without = other(list(lines))["input_ids"], other(list(lines), add_special_tokens=False)["input_ids"]
    for line, *found in zip(lines, with_end, without, strict=True):
        ids = own.encode_prompt(line).tolist()
        if found != [[own.eos_id, *ids], ids]:
            raise ExportError(f"transformers gives {line!r} the ids {found[1]}, but keraslm {ids}. Not published.")


def _probes(tokenizer: Tokenizer) -> list[str]:
    """Lines of random tokens of the vocabulary, with the names of its special tokens, and with unusual characters."""
    rng = np.random.default_rng(0)
    names = tokenizer.tokens([tokenizer.eos_id, max(tokenizer.unk_id, 0)])
    made = [tokenizer.decode(rng.integers(0, tokenizer.vocab_size, 12)) for _ in range(50)]
    unusual = [
        "",
        " ",
        "  two  blanks ",
        "ΌΣΟΣ İstanbul ǅ",
        "\u010a ċ \u0120",
        "e\u0301 日本 🙂",
        "a\tb\u00a0c",
        "<eos><unk>",
    ]
    lines = [*made, *unusual, *names, *(f"a {name} b{name}" for name in names)]
    return [" ".join(line.splitlines()) for line in lines]
