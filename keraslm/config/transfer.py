"""What a run takes over: weights and vocabulary of a trained run, pretrained embeddings, and what stays as it is."""

from __future__ import annotations

import re
from dataclasses import dataclass

from keraslm.config.fields import check, check_at_least, check_types, option, user_path
from keraslm.errors import ConfigError

_WORDS = re.compile(r"([1-9][0-9]{0,17})([kM]?)", re.ASCII)
_FACTORS = {"": 1, "k": 1000, "M": 1_000_000}


@dataclass(frozen=True)
class TransferConfig:
    """Where the initial weights come from, which of them are trained, and a second validation text.

    Example:
        >>> TransferConfig(init_from="runs/a/", freeze="embedding,lstm_0")
        TransferConfig(init_from='runs/a', ..., freeze=('embedding', 'lstm_0'), also_valid=None)
    """

    init_from: str | None = option(
        None,
        "Run folder whose network, weights and tokenizer a new run starts from. Settings that are not given are those "
        "of that run too, and so are the texts if none is given.",
    )
    init_weights: str = option(
        "last",
        "Weights of `init_from`: last, best by validation, or a number of trained words at which `save_at_words` has "
        "kept them, such as 1M. Default: last.",
    )
    extend_vocab: int = option(
        0,
        "Largest number of words of the training text, the most frequent first, that are added to the vocabulary of "
        "`init_from`. Their weights start as the mean of those of all other words. For word and char tokenizers. "
        "Source: Hewitt 2021.",
    )
    embeddings: str | None = option(
        None,
        "Pretrained word vectors for the embeddings of a new run: text as word2vec and GloVe write it, or a "
        "safetensors file with one matrix, and its words in a .txt of the same name. Other words keep random vectors.",
    )
    freeze: tuple[str, ...] | None = option(
        None, "Layers whose weights are not trained, e.g. embedding,lstm_0; names as in keraslm show."
    )
    also_valid: tuple[str, ...] | None = option(
        None,
        "Second validation text, whose perplexity is only reported. Default: with `init_from` the validation text of "
        "that run, if it can still be read.",
    )

    def __post_init__(self) -> None:
        check_types(self)
        check_at_least(self, 0, "extend_vocab")
        if self.init_from:
            object.__setattr__(self, "init_from", str(user_path(self.init_from)))  # without a slash at the end
        if self.freeze:
            names = (name.strip() for names in self.freeze for name in names.split(","))
            object.__setattr__(self, "freeze", tuple(dict.fromkeys(filter(None, names))) or None)
        if self.init_weights not in ("last", "best"):
            found = _WORDS.fullmatch(self.init_weights)
            check(self, "init_weights", found is not None, "last, best or a number of words, such as 1M")
            assert found
            object.__setattr__(self, "init_weights", str(int(found[1]) * _FACTORS[found[2]]))
        self._check_combinations()

    def _check_combinations(self) -> None:
        if not self.init_from:
            for name, given in (("extend_vocab", self.extend_vocab), ("init_weights", self.init_weights != "last")):
                if given:
                    raise ConfigError(f"`{name}` needs `init_from`, the run to start from.")
        elif self.embeddings:
            raise ConfigError(
                "`embeddings` would replace the trained embeddings of `init_from`. Leave one of the two out."
            )

    @property
    def weights(self) -> str | int:
        """`init_weights` as `keraslm.load_run` takes it."""
        return self.init_weights if self.init_weights in ("last", "best") else int(self.init_weights)
