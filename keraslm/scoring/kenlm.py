"""The names of KenLM's Python module over a model file. Change one import:

    from keraslm import kenlm

    model = kenlm.Model("model.onnx")
    model.score("the cat sat")           # log10 p(the cat sat </s> | <s>)
    list(model.full_scores("the cat"))   # (log10 p, ngram_length, oov) of each word and of </s>

All logarithms have base 10. Differences from n-grams:

- **Words** are separated by Unicode white space (KenLM: ASCII); a line end inside a sentence is a `TextError`. The
  score of a word is the sum over its tokens, so the steps of `BaseScore` add up to `score`, which equals that of
  `keraslm score`.
- **Ends**: `</s>` is the end symbol, whatever its name in the vocabulary; what follows it is a new sentence. As a word,
  `<s>` is usually an `<unk>`.
- **OOV** is a word with a token `<unk>`, `<unk>` itself, an empty word (score 0), and a word that contains white space.
- **Context**: an LSTM reads everything since the start, so `ngram_length` counts all words since then, including the
  word and `<s>`. Two states are equal only if the same words were read.
- **Null context** (`bos=False`, `NullContextWrite`, a new `State`): a network has no distribution without a context, so
  the scores are those after `BeginSentenceWrite`; only `<s>` is not counted in `ngram_length`.

`BaseScore` runs the network once per word, which is much slower than `score` and `full_scores`.
Reference: https://github.com/kpu/kenlm (`python/kenlm.pyx`).
"""

from __future__ import annotations

import functools
import math
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from keraslm.errors import InputError
from keraslm.perplexity import BASES, perplexity
from keraslm.scoring.rows import Context
from keraslm.scoring.scorer import Scorer, load
from keraslm.scoring.words import WordEncoder
from keraslm.text.context import cut_contexts
from keraslm.text.pieces import one_line, split_words
from keraslm.text.tokenizer import UNK

_BEGIN, _END = "<s>", "</s>"
_LN10 = BASES["10"]


class LoadMethod:
    """KenLM's ways to read a file. Accepted, and without effect."""

    LAZY = 0
    POPULATE_OR_LAZY = 1
    POPULATE_OR_READ = 2
    READ = 3
    PARALLEL_READ = 4


class ARPALoadComplain:
    """KenLM's warnings about slow ARPA files. Accepted, and without effect."""

    ALL = 0
    EXPENSIVE = 1
    NONE = 2


@dataclass(slots=True)
class Config:
    """KenLM's settings, with its defaults. Accepted, and without effect."""

    load_method: int = LoadMethod.POPULATE_OR_READ
    show_progress: bool = True
    arpa_complain: int = ARPALoadComplain.ALL


@dataclass(frozen=True, slots=True, repr=False)
class FullScoreReturn:
    """The result of `BaseFullScore`: log10 probability, number of words since the start, out of vocabulary or not."""

    log_prob: float
    ngram_length: int
    oov: bool

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.log_prob!r}, {self.ngram_length!r}, {self.oov!r})"


@functools.total_ordering
class State:
    """A position in a text, compared, ordered and hashed by its value; a new one is the null context."""

    __slots__ = ("_place",)

    def __init__(self) -> None:
        self._place: tuple[Context, int] | None = None  # position, and words since the start, including <s>

    def __eq__(self, other: object) -> bool:
        return self._key() == other._key() if isinstance(other, State) else NotImplemented

    def __lt__(self, other: State) -> bool:
        return self._key() < other._key() if isinstance(other, State) else NotImplemented

    def __hash__(self) -> int:
        return hash(self._key())

    def __repr__(self) -> str:
        return f"<State after {self._place[1] if self._place else 0} words>"

    def _key(self) -> tuple[Any, ...]:
        if self._place is None:
            return ()
        context, words = self._place
        return words, context.last, context.state.key()


class Model:
    """A model file with KenLM's methods; the docstring of this module describes their numbers.

    Args:
        path: of a model file, or a list of paths of files with the same tokenizer, whose probabilities are averaged.
        config: accepted, and without effect.
        provider, threads: as for `keraslm.load`; not in KenLM.

    Attributes:
        path: of the (first) file, absolute; bytes.

    Raises:
        OSError: the file cannot be read, or is not a keraslm model.
        TypeError: a path that is not a string, or a config of a different class.
        UsageError: as for `keraslm.load`.

    Example:
        >>> state, after = State(), State()
        >>> model.BeginSentenceWrite(state)
        >>> model.BaseScore(state, "the", after) + model.BaseScore(after, "cat", state)
        -3.31
    """

    def __init__(
        self,
        path: str | bytes | Sequence[str | bytes],
        config: Config | None = None,
        provider: str = "auto",
        threads: int | None = None,
    ) -> None:
        if config is not None and not isinstance(config, Config):
            raise TypeError(f"config is a {type(config).__name__}, but a keraslm.scoring.kenlm.Config is expected.")
        paths: Any = path if isinstance(path, list | tuple) else [path]
        names = [_text(each) for each in paths]
        try:
            scorer = load(names, provider, threads)
        except InputError as error:
            reason = str(error).replace("\n", " ").removeprefix(f"{Path(names[0])}: ").removesuffix(".")
            raise OSError(f"Cannot read model '{names[0]}' ({reason})") from error
        self.__setstate__((os.path.abspath(os.fsencode(names[0])), scorer))  # noqa: PTH100  (bytes are no Path)

    def __getstate__(self) -> tuple[bytes, Scorer]:
        return self.path, self._scorer

    def __setstate__(self, state: tuple[bytes, Scorer]) -> None:
        self.path, self._scorer = state
        self._begin = self._scorer.begin()
        self._tokens_of = WordEncoder(self._scorer.tokenizer)
        self._encode = functools.lru_cache(1 << 16)(self._encode_word)

    @property
    def order(self) -> int:
        """Largest number of words that a score can depend on: no limit."""
        return 2**31 - 1  # the largest C int

    def score(self, sentence: str | bytes, bos: bool = True, eos: bool = True) -> float:
        """Logarithm to base 10 of the probability of a sentence, after `<s>` if `bos`, with `</s>` if `eos`."""
        return math.fsum(found[0] for found in self._scores(sentence, bos, eos))

    def full_scores(
        self, sentence: str | bytes, bos: bool = True, eos: bool = True
    ) -> Iterator[tuple[float, int, bool]]:
        """`(log10 probability, ngram_length, oov)` of each word, and of `</s>`; the arguments are those of `score`."""
        yield from self._scores(sentence, bos, eos)

    def perplexity(self, sentence: str | bytes) -> float:
        """`10 ** (-score / (words + 1))`: `</s>` counts as a word."""
        return perplexity(-self.score(sentence) * _LN10, len(split_words(_text(sentence))) + 1)

    def BeginSentenceWrite(self, state: State) -> None:  # noqa: N802
        """Write the start of a sentence into a state."""
        _checked(state, "state")._place = self._begin, 1

    def NullContextWrite(self, state: State) -> None:  # noqa: N802
        """Write the empty context into a state."""
        _checked(state, "state")._place = None

    def BaseScore(self, in_state: State, word: str, out_state: State) -> float:  # noqa: N802
        """Logarithm to base 10 of the probability of a word after `in_state`; `</s>` ends the sentence.

        The state after the word is written to `out_state`, which may be the same object.
        """
        return self._step(in_state, word, out_state)[0]

    def BaseFullScore(self, in_state: State, word: str, out_state: State) -> FullScoreReturn:  # noqa: N802
        """`BaseScore`, with the number of words and whether the word is out of vocabulary."""
        return FullScoreReturn(*self._step(in_state, word, out_state))

    def __contains__(self, word: str | bytes) -> bool:
        text = _text(word)
        return text == _BEGIN or (split_words(text) == [text] and not self._encode(text, True)[1])

    def __repr__(self) -> str:
        return f"<Model from {os.path.basename(self.path)!r}>"  # noqa: PTH119

    def _step(self, in_state: State, word: str, out_state: State) -> tuple[float, int, bool]:
        if not isinstance(word, str):
            raise TypeError(f"word is a {type(word).__name__}, but a str is expected.")
        _checked(out_state, "out_state")
        word = one_line(word)
        context, words = _checked(in_state, "in_state")._place or (self._begin, 0)
        ids, oov = self._encode(word, context.last == self._scorer.session.info.eos_id)
        found, context = self._scorer.advance_all(context, ids)
        if context.last == self._begin.last:  # the end symbol; the next sentence starts from the beginning
            context = self._begin
        out_state._place = context, words + 1
        return math.fsum(found) / _LN10, words + 1, oov

    def _scores(self, sentence: str | bytes, bos: bool, eos: bool) -> list[tuple[float, int, bool]]:
        end = self._scorer.session.info.eos_id
        words: list[tuple[int, int, bool]] = []
        ids: list[int] = []
        for word in [*split_words(one_line(_text(sentence))), *([_END] if eos else [])]:
            found, oov = self._encode(word, not ids or ids[-1] == end)
            words.append((len(ids), len(ids) + len(found), oov))
            ids += found
        sentences = cut_contexts(np.array(ids, np.int32), end, end, "sentence")
        nats = [nat for part in sentences for nat in self._scorer.advance_all(self._begin, part)[0].tolist()]
        return [
            (math.fsum(nats[start:stop]) / _LN10, number, oov)
            for number, (start, stop, oov) in enumerate(words, 2 if bos else 1)
        ]

    def _encode_word(self, word: str, begins: bool) -> tuple[tuple[int, ...], bool]:
        """Tokens of a word at the start of a line or inside a line, and whether it is out of vocabulary."""
        info = self._scorer.session.info
        if word == _END:
            return (info.eos_id,), False
        ids = self._tokens_of(word, not begins)
        return ids, word == UNK or info.unk_id in ids or split_words(word) != [word]


LanguageModel = Model  # KenLM's old name


def _checked(state: Any, name: str) -> State:
    if not isinstance(state, State):
        raise TypeError(f"{name} is a {type(state).__name__}, but a keraslm.scoring.kenlm.State is expected.")
    return state


def _text(data: str | bytes) -> str:
    if isinstance(data, bytes):
        return data.decode("utf-8", "replace")
    if isinstance(data, str):
        return data
    raise TypeError(f"Cannot convert {type(data)} to string")
