"""What a new run starts with: random weights, those of a trained run, or random ones with pretrained word vectors."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import keras
import numpy as np

from keraslm.config import Config
from keraslm.errors import TokenizerError
from keraslm.runs.averaging import described
from keraslm.runs.initial import grown, open_source, source_facts
from keraslm.runs.run import Run
from keraslm.runs.weights import Weights
from keraslm.system import Log
from keraslm.text.corpus import Text
from keraslm.text.embeddings import Vectors, read_vectors
from keraslm.text.encoding import Encoder
from keraslm.text.store import token_counts
from keraslm.text.tokenizer import Tokenizer
from keraslm.training.corpus import TrainingCorpus

TABLE = "embedding/embeddings"


@dataclass(frozen=True)
class Start:
    """What a new run starts with, besides random weights.

    Attributes:
        weights: of a trained run, for the vocabulary of the new run; empty without `init_from`.
        vectors: pretrained word vectors; None without `embeddings`.
        origin: what the new run records of them.
    """

    weights: Weights = field(default_factory=dict, repr=False)
    vectors: Vectors | None = field(default=None, repr=False)
    origin: Mapping[str, Any] = field(default_factory=dict)

    def assign(self, model: keras.Model) -> None:
        """Assign these weights to the variables of a model."""
        for variable in model.variables:
            if variable.path in self.weights:
                variable.assign(self.weights[variable.path])
            if variable.path == TABLE and self.vectors:
                table = np.array(keras.ops.convert_to_numpy(variable))
                table[self.vectors.ids] = self.vectors.rows
                variable.assign(table)


def initial_tokenizer(config: Config, train: Text, show: bool) -> tuple[Tokenizer, str] | None:
    """The tokenizer of `init_from`, with new words of the training text, and a phrase about it; None without a run.

    Raises:
        TokenizerError: the tokenizer or the softmax cannot take more words, or the text has none.
    """
    transfer = config.transfer
    if not transfer.init_from:
        return None
    source = open_source(transfer)
    if not transfer.extend_vocab:
        return source.tokenizer, f"from {source.path}"
    if config.model.softmax == "adaptive":
        raise TokenizerError(
            "An adaptive softmax has its words in clusters by frequency, so that none can be added at the end. Leave "
            "`extend_vocab` out, or train a new run."
        )
    encoder = Encoder(config.data.cache, show)
    tokenizer = encoder.extended(source.tokenizer, train, config.data, transfer.extend_vocab)
    new = tokenizer.vocab_size - source.tokenizer.vocab_size
    return tokenizer, f"from {source.path}, and {new:,} new ones of {train.name}"


def start_of(config: Config, corpus: TrainingCorpus, log: Log) -> Start:
    """Read what a configuration lets a new run start with; a line in the log for each file.

    Raises:
        RunError: the weights of the run are missing or damaged.
        TextError: the file of word vectors cannot be used.
    """
    transfer, tokenizer = config.transfer, corpus.tokenizer
    if transfer.init_from:
        source = open_source(transfer)
        facts = source_facts(source)
        log(f"initial   weights of {described(facts)}")
        new = tokenizer.vocab_size - source.tokenizer.vocab_size
        shapes = Run(source.path, source.config, tokenizer).shapes()
        origin = {"weights": facts} | ({"new_words": new} if new else {})
        return Start(grown(source.read_weights(), shapes), None, origin)
    if not transfer.embeddings:
        return Start()
    vocabulary = {word: number for number, word in enumerate(tokenizer.tokens(range(tokenizer.vocab_size)))}
    vectors = read_vectors(transfer.embeddings, vocabulary, config.model.embedding_size)
    counts = token_counts(corpus.text.ids, tokenizer.vocab_size)
    counts[tokenizer.eos_id] = 0
    share = counts[vectors.ids].sum() / max(1, counts.sum())
    repeated = f"; {vectors.repeated:,} of them are repeated, and the first counts" if vectors.repeated else ""
    log(
        f"initial   embeddings of {len(vectors.ids):,} of {tokenizer.vocab_size:,} tokens from {transfer.embeddings}, "
        f"{share:.1%} of the tokens in the lines of {corpus.text.name}{repeated}"
    )
    facts = {"file": transfer.embeddings, "sha256": vectors.sha256, "words": len(vectors.ids)}
    return Start({}, vectors, {"embeddings": facts})
