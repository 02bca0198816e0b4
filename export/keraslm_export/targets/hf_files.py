"""The files of target `hf`: configuration, weights, tokenizer and model card of a run, as transformers reads them."""

from __future__ import annotations

import json
import shlex
from pathlib import Path
from typing import Any

import numpy as np
import tokenizers
from numpy.typing import NDArray

from keraslm.config import ModelConfig
from keraslm.config.clusters import tail_size
from keraslm.runs.run import Run
from keraslm.runs.weights import Weights, layer_weights
from keraslm.scoring.targets import HF_TYPE
from keraslm.system import VERSION
from keraslm.text.tokenizer import NO_ID, Tokenizer

MODELING = "modeling_keraslm.py"

# Gates in the order of torch, as numbers of the gates of Keras: i, f, c, o stay; z, r, h become r, z, n.
_GATES = {"lstm": (0, 1, 2, 3), "gru": (1, 0, 2), "rnn": (0,)}


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
        "model_type": HF_TYPE,
        "architectures": ["KeraslmForCausalLM"],
        "auto_map": {auto: f"{Path(MODELING).stem}.Keraslm{own}" for auto, own in classes.items()},
        "vocab_size": run.tokenizer.vocab_size,
        "embedding_size": model.embedding_size,
        "layer_sizes": list(model.sizes),
        "hidden_size": model.sizes[-1],
        "num_hidden_layers": len(model.sizes),
        "cell": model.cell,
        "skip_connections": model.skip_connections,
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
        own, target = layer_weights(model, weights, number), f"model.layers.{number}"
        bias = np.atleast_2d(own["bias"])  # (1 or 2, gates * units)
        pairs = {
            "weight_ih_l0": own["kernel"].T,
            "weight_hh_l0": own["recurrent_kernel"].T,
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
