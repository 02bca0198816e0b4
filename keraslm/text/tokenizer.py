"""Words to ids and back, in one `tokenizer.json` of the `tokenizers` library.

The rules, the same in training and in scoring:

- A line is cut into words at Unicode white space; optionally it is lowercased first, and every punctuation character
  becomes a word.
- `<eos>` follows each line. There is no other begin or end symbol: the first word of a text is predicted from `<eos>`.
- A word that is not in the vocabulary becomes `<unk>`. A literal `<unk>` in the text is that same word, as in the PTB
  files, and counts as out of vocabulary; a literal `<eos>` is the end symbol.
- Ids follow the order (-count, word) over the training text, `<eos>` once a line, as in the PTB tutorial's reader.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import tokenizers
from numpy.typing import NDArray
from tokenizers import models, normalizers, pre_tokenizers, processors

from keraslm.errors import TokenizerError

EOS = "<eos>"
UNK = "<unk>"

# Every punctuation character of Unicode and of ASCII, but the special words stay whole.
_MARKS = rf"{UNK}|{EOS}|[\p{{P}}$+<=>^`|~]"

Ids = NDArray[np.int32]


class WordTokenizer:
    """A fixed vocabulary of words.

    Args:
        backend: the `tokenizers.Tokenizer` that does the work; it must know `<eos>` and `<unk>`.

    Attributes:
        vocab_size: number of words, `<eos>` and `<unk>` included.
        eos_id, unk_id: their ids.

    Example:
        >>> tokenizer = WordTokenizer.train(["the cat sat", "the dog sat"])
        >>> tokenizer.encode_lines(["the bird sat"])
        [array([2, 5, 1, 0], dtype=int32)]
    """

    def __init__(self, backend: tokenizers.Tokenizer):
        self._backend = backend
        self.vocab_size: int = backend.get_vocab_size()
        self.eos_id = self._special(EOS)
        self.unk_id = self._special(UNK)
        ids = sorted(backend.get_vocab().values())
        if ids != list(range(len(ids))):
            raise TokenizerError(f"The tokenizer's {len(ids)} ids are not 0 to {len(ids) - 1} without gaps.")

    @classmethod
    def train(
        cls,
        lines: Iterable[str],
        vocab_size: int = 10000,
        min_count: int = 1,
        lowercase: bool = False,
        split_punctuation: bool = False,
    ) -> WordTokenizer:
        """Build the vocabulary of a text.

        Args:
            lines: the training text.
            vocab_size: keep at most so many words; the rarest become `<unk>`.
            min_count: words seen fewer times become `<unk>`.
            lowercase: lowercase the text before anything else.
            split_punctuation: make every punctuation character a word.
        """
        backend = tokenizers.Tokenizer(models.WordLevel({EOS: 0, UNK: 1}, unk_token=UNK))
        if lowercase:
            backend.normalizer = normalizers.Lowercase()
        cut: list[Any] = [pre_tokenizers.WhitespaceSplit()]
        if split_punctuation:
            cut.append(pre_tokenizers.Split(tokenizers.Regex(_MARKS), "isolated"))
        backend.pre_tokenizer = pre_tokenizers.Sequence(cut)
        vocabulary = _ordered_vocabulary(_count_words(backend, lines), vocab_size, min_count)
        backend.model = models.WordLevel(vocabulary, unk_token=UNK)
        backend.post_processor = processors.TemplateProcessing(
            single=f"$A {EOS}", special_tokens=[(EOS, vocabulary[EOS])]
        )
        return cls(backend)

    @classmethod
    def from_json(cls, text: str, where: str = "tokenizer") -> WordTokenizer:
        """Read a tokenizer back.

        Raises:
            TokenizerError: when the JSON is not a tokenizer with `<eos>` and `<unk>`.
        """
        try:
            backend = tokenizers.Tokenizer.from_str(text)
        except BaseException as error:  # the Rust side raises Exception, and PanicException past it
            if isinstance(error, KeyboardInterrupt | SystemExit):
                raise
            raise TokenizerError(f"{where}: not a tokenizer.json of the tokenizers library ({error}).") from error
        try:
            return cls(backend)
        except TokenizerError as error:
            raise TokenizerError(f"{where}: {error}") from error

    def to_json(self) -> str:
        """The whole tokenizer as the text of a `tokenizer.json`."""
        return self._backend.to_str(pretty=True)

    @property
    def digest(self) -> str:
        """SHA-256 of the JSON, in hexadecimal."""
        return hashlib.sha256(self.to_json().encode()).hexdigest()

    def encode_lines(self, lines: Sequence[str]) -> list[Ids]:
        """Ids of each line, `<eos>` at its end.

        Returns:
            one int32 array a line, shape `(words + 1,)`.
        """
        return [np.array(e.ids, np.int32) for e in self._backend.encode_batch_fast(list(lines))]

    def encode_text(self, lines: Iterable[str], block: int = 4096) -> Ids:
        """Ids of a whole text as one stream, `<eos>` after each line.

        Returns:
            int32 array of shape `(tokens,)`.
        """
        parts: list[Ids] = []
        pending: list[str] = []
        for line in lines:
            pending.append(line)
            if len(pending) == block:
                parts += self.encode_lines(pending)
                pending.clear()
        parts += self.encode_lines(pending)
        return np.concatenate(parts) if parts else np.zeros(0, np.int32)

    def encode_prompt(self, text: str) -> Ids:
        """Ids of an unfinished line: no `<eos>` at the end. Shape `(words,)`."""
        return np.array(self._backend.encode(text, add_special_tokens=False).ids, np.int32)

    def tokens(self, ids: Iterable[int]) -> list[str]:
        """The word of each id."""
        return [str(self._backend.id_to_token(int(i))) for i in ids]

    def _special(self, token: str) -> int:
        number = self._backend.token_to_id(token)
        if number is None:
            raise TokenizerError(f"The tokenizer has no token {token!r}, which keraslm needs.")
        return int(number)


def _count_words(backend: tokenizers.Tokenizer, lines: Iterable[str]) -> Counter[str]:
    counts: Counter[str] = Counter({EOS: 0})
    for line in lines:
        normal = backend.normalizer.normalize_str(line) if backend.normalizer else line
        counts.update(word for word, _ in backend.pre_tokenizer.pre_tokenize_str(normal))
        counts[EOS] += 1
    return counts


def _ordered_vocabulary(counts: Counter[str], vocab_size: int, min_count: int) -> dict[str, int]:
    """Ids by (-count, word); words that are dropped count as `<unk>`."""
    words = sorted((w for w in counts if w not in (EOS, UNK)), key=lambda w: (-counts[w], w))
    kept = [w for w in words if counts[w] >= min_count][: vocab_size - 2]
    dropped = sum(counts[w] for w in words) - sum(counts[w] for w in kept)
    order = {w: counts[w] for w in kept} | {EOS: counts[EOS], UNK: counts[UNK] + dropped}
    return {w: i for i, w in enumerate(sorted(order, key=lambda w: (-order[w], w)))}
