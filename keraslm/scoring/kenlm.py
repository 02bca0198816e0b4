"""The names of KenLM's Python module over a model file: a program changes one import.

    from keraslm.scoring import kenlm

    model = kenlm.Model("model.onnx")
    model.score("the cat sat")           # log10 p(the cat sat </s> | <s>)
    list(model.full_scores("the cat"))   # (log10 p, ngram_length, oov) of each word and of </s>

All numbers are logarithms to base 10. kenlm adds them up in float32; here they are Python floats. What a network does
otherwise than a table of n-grams:

- **Words** are what white space parts (Unicode's; kenlm parts at ASCII's), and the blanks between them count as one. A
  word may be several tokens (subwords, characters, a word and its punctuation): they are those of the word inside a
  line, with the blank before it where the tokenizer has one, and the word's score is their sum. So the steps of
  `BaseScore` add up to `score`, and `score` is that of `keraslm score` for the same line. Only an imported tokenizer
  whose tokens reach across a blank cuts the whole line otherwise than its words.
- **Ends**: `</s>` is the end symbol, whatever it is called in the vocabulary, and a line begins after it. `<s>` is in
  the model, as the context that `BeginSentenceWrite` is; kenlm's rule that it is no part of a sentence holds. Said as
  a word, it is what the tokenizer makes of these three characters, for words mostly `<unk>`.
- **OOV** is a word with a token `<unk>`, and is scored with it. `<unk>` itself is OOV, as in kenlm, and so is what is
  not one word: an empty one (score 0, nothing said), or one with white space in it (scored as the text that it is).
- **Context**: an LSTM sees all that was said since the begin. So `ngram_length` is the number of words since then, the
  word and `<s>` counted, and `order` the largest number that a C int holds. Two states are equal when the same was
  said, never because the last words are the same; hypotheses that differ are not recombined.
- **Null context** (`bos=False`, `NullContextWrite`, a new `State`): a network has no distribution without a context.
  The nearest is what every text begins from, zeros and the end symbol read; so the scores are those after
  `BeginSentenceWrite`, and only `<s>` is not counted in `ngram_length`.

A whole sentence is one run of the network, and a word of `BaseScore` one run; `score` and `full_scores` are the faster
by far. Reference: https://github.com/kpu/kenlm (`python/kenlm.pyx`).
"""

from __future__ import annotations

import functools
import math
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from keraslm.errors import InputError
from keraslm.perplexity import perplexity
from keraslm.scoring.scorer import Context, load
from keraslm.text.pieces import split_words

ORDER = 2**31 - 1

_BEGIN, _END, _UNKNOWN = "<s>", "</s>", "<unk>"
_BEFORE = "a"  # any word: what follows it stands inside a line
_KEPT_WORDS = 1 << 16  # whose tokens are remembered
_LN10 = math.log(10)


class LoadMethod:
    """How kenlm reads its files. Accepted, and without effect: a model file is read whole."""

    LAZY = 0
    POPULATE_OR_LAZY = 1
    POPULATE_OR_READ = 2
    READ = 3
    PARALLEL_READ = 4


class ARPALoadComplain:
    """When kenlm warns of a slow ARPA file. Accepted, and without effect."""

    ALL = 0
    EXPENSIVE = 1
    NONE = 2


@dataclass(slots=True)
class Config:
    """kenlm's settings, with its defaults. Accepted, and without effect."""

    load_method: int = LoadMethod.POPULATE_OR_READ
    show_progress: bool = True
    arpa_complain: int = ARPALoadComplain.ALL


@dataclass(frozen=True, slots=True, repr=False)
class FullScoreReturn:
    """What `BaseFullScore` finds.

    Attributes:
        log_prob: of the word, base 10.
        ngram_length: words since the begin, this one and `<s>` included.
        oov: whether the word is out of vocabulary.
    """

    log_prob: float
    ngram_length: int
    oov: bool

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.log_prob!r}, {self.ngram_length!r}, {self.oov!r})"


class _Place(NamedTuple):
    context: Context
    words: int  # since the begin, <s> included


@functools.total_ordering
class State:
    """Where a text stands; `BaseScore` and its like write into it. A new one is the null context.

    It can be copied (`copy.copy`, `copy.deepcopy`), compared, ordered (by the number of words, then in an order without
    meaning) and hashed; all follow what was last written into it.
    """

    __slots__ = ("_place",)

    def __init__(self) -> None:
        self._place: _Place | None = None

    def __copy__(self) -> State:
        copied = State()
        copied._place = self._place
        return copied

    def __deepcopy__(self, memo: dict[int, Any] | None = None) -> State:
        return self.__copy__()  # a place is a value, and never changes

    def __eq__(self, other: object) -> bool:
        return self._key() == other._key() if isinstance(other, State) else NotImplemented

    def __lt__(self, other: State) -> bool:
        return self._key() < other._key() if isinstance(other, State) else NotImplemented

    def __hash__(self) -> int:
        return hash(self._key())

    def _key(self) -> tuple[Any, ...]:
        if self._place is None:
            return ()
        context, words = self._place
        return words, context.last, context.state.h.tobytes(), context.state.c.tobytes()


class Model:
    """A model file with kenlm's methods; see the head of this module for what their numbers are.

    Args:
        path: of a file that `keraslm export` wrote; str or bytes.
        config: accepted, and without effect.
        provider: `"cpu"`, `"cuda"` or `"auto"`; kenlm has no such argument.
        threads: that compute one operation; 0 takes one a core. kenlm has no such argument.
        others: more files with the same tokenizer; all numbers are of the mean of their probabilities. kenlm has no
            such argument.

    Attributes:
        path: of the file, absolute; bytes.
        order: `ORDER`, which no sentence reaches: the context is not limited.

    Raises:
        OSError: the file is not there or not a keraslm model.
        TypeError: a path that is no string, or a config that is none.
        UsageError: an unknown provider, or CUDA where there is none.

    Example:
        >>> model = Model("model.onnx")
        >>> state, after = State(), State()
        >>> model.BeginSentenceWrite(state)
        >>> model.BaseScore(state, "the", after) + model.BaseScore(after, "cat", state)
        -3.31
        >>> model.score("the cat", eos=False)
        -3.31
    """

    def __init__(
        self,
        path: str | bytes,
        config: Config | None = None,
        provider: str = "auto",
        threads: int = 0,
        others: Sequence[str] = (),
    ) -> None:
        if config is not None and not isinstance(config, Config):
            raise TypeError(f"config is a {type(config).__name__}, but a keraslm.scoring.kenlm.Config is expected.")
        name = _text(path)
        self.path: bytes = os.path.abspath(os.fsencode(name))  # noqa: PTH100  (a name in bytes is no Path)
        try:
            self._scorer = load(name, provider, threads, others)
        except InputError as error:
            reason = str(error).replace("\n", " ").removeprefix(f"{Path(name)}: ").removesuffix(".")
            raise OSError(f"Cannot read model '{name}' ({reason})") from error
        self._opened = (provider, threads, tuple(os.path.abspath(other) for other in others))  # noqa: PTH100
        self._null = _Place(self._scorer.begin(), 0)
        self._begin = _Place(self._scorer.begin(), 1)
        self._encode = functools.lru_cache(_KEPT_WORDS)(self._encode_word)

    @property
    def order(self) -> int:
        """Words that a score can depend on, itself included: no limit."""
        return ORDER

    def score(self, sentence: str | bytes, bos: bool = True, eos: bool = True) -> float:
        """Logarithm to base 10 of the probability of a sentence.

        Args:
            sentence: words; neither `<s>` nor `</s>` at its ends.
            bos: begin from `<s>`; see the module for what a network does without it.
            eos: add `</s>`.
        """
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
        """Write the begin of a sentence into a state."""
        state._place = self._begin

    def NullContextWrite(self, state: State) -> None:  # noqa: N802
        """Write the empty context into a state."""
        state._place = None

    def BaseScore(self, in_state: State, word: str, out_state: State) -> float:  # noqa: N802
        """Say a word.

        Args:
            in_state: what was said before; it stays as it is, unless it is `out_state`, too.
            word: one word; `</s>` ends the sentence.
            out_state: written: what was said, the word included.

        Returns:
            logarithm to base 10 of the word's probability.
        """
        return self._step(in_state, word, out_state)[0]

    def BaseFullScore(self, in_state: State, word: str, out_state: State) -> FullScoreReturn:  # noqa: N802
        """`BaseScore`, with the number of words and whether the word is out of vocabulary."""
        return FullScoreReturn(*self._step(in_state, word, out_state))

    def __contains__(self, word: str | bytes) -> bool:
        text = _text(word)
        return text == _BEGIN or not self._encode(text, True)[1]

    def __repr__(self) -> str:
        return f"<Model from {os.path.basename(self.path)!r}>"  # noqa: PTH119

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.path, None, *self._opened)

    def _step(self, in_state: State, word: str, out_state: State) -> tuple[float, int, bool]:
        if not isinstance(word, str):
            raise TypeError(f"word is a {type(word).__name__}, but a str is expected.")
        context, words = in_state._place or self._null
        ids, oov = self._encode(word, context.last == self._scorer.session.info.eos_id)
        if len(ids) == 1:
            nats, context = self._scorer.advance(context, ids[0])
        else:
            found, context = self._scorer.advance_all(context, ids)
            nats = math.fsum(found)
        out_state._place = _Place(context, words + 1)
        return nats / _LN10, words + 1, oov

    def _scores(self, sentence: str | bytes, bos: bool, eos: bool) -> list[tuple[float, int, bool]]:
        context, before = self._begin if bos else self._null
        end, last = self._scorer.session.info.eos_id, context.last
        words: list[tuple[int, int, bool]] = []
        ids: list[int] = []
        for word in [*split_words(_text(sentence)), *([_END] if eos else [])]:
            found, oov = self._encode(word, last == end)
            words.append((len(ids), len(ids) + len(found), oov))
            ids += found
            last = ids[-1]
        nats = self._scorer.advance_all(context, ids)[0].tolist()
        return [
            (math.fsum(nats[start:stop]) / _LN10, number, oov)
            for number, (start, stop, oov) in enumerate(words, before + 1)
        ]

    def _encode_word(self, word: str, begins: bool) -> tuple[tuple[int, ...], bool]:
        """Tokens of a word at the begin of a line or inside one, and whether it is out of vocabulary."""
        info = self._scorer.session.info
        if word == _END:
            return (info.eos_id,), False
        encode = self._scorer.tokenizer.encode_prompt
        ids = encode(word) if begins else encode(f"{_BEFORE} {word}")[len(encode(_BEFORE)) :]
        return tuple(ids.tolist()), word == _UNKNOWN or info.unk_id in ids or split_words(word) != [word]


class LanguageModel(Model):
    """kenlm's older name of `Model`."""


def _text(data: str | bytes) -> str:
    if isinstance(data, bytes):
        return data.decode("utf-8", "replace")
    if isinstance(data, str):
        return data
    raise TypeError(f"Cannot convert {type(data)} to string")
