"""Text to ids and back, in one `tokenizer.json` of the `tokenizers` library.

An end symbol follows each line: `<eos>` after words, the line end itself after characters, bytes and subwords. There is
no begin symbol: the first token of a text is predicted from the end symbol. What the vocabulary cannot represent
becomes `<unk>`; byte and BPE tokenizers have none.

A word tokenizer reads a literal `<unk>` or `<eos>` in the text as that token, as the PTB files use them; an imported
tokenizer does so with its added tokens; for all others they are ordinary text. Such a token counts as any other:
`<unk>` as out of vocabulary, and the end symbol ends a sentence (`keraslm.text.context`), but no line.

In the file, the end symbol is the token that the post-processor adds, and `<unk>` is the model's `unk_token`.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Sequence
from functools import cached_property

import numpy as np
import tokenizers
from numpy.typing import NDArray
from tokenizers import processors

from keraslm.errors import TokenizerError
from keraslm.text.encoders import BlockEncoder, Ids, at_work, block_encoder, byte_names, kind_of
from keraslm.text.pieces import PIECE, one_line, pieces, without_surrogates
from keraslm.text.surfaces import Surfaces

EOS = "<eos>"
UNK = "<unk>"
NO_ID = -1  # the unk_id of a vocabulary that can represent everything

_LINE_ENDS = ("\n", byte_names()[ord("\n")])
_SHOWN = {"\n": "\\n", "\r": "\\r", "\t": "\\t"}


class Tokenizer:
    """A fixed vocabulary of words, characters, bytes or subwords.

    Args:
        backend: the `tokenizers.Tokenizer` that does the work; its post-processor must add one end symbol.

    Attributes:
        vocab_size: number of tokens, including the special ones.
        eos_id: id of the end symbol.
        unk_id: id of `<unk>`, or -1 if every text can be represented without it.

    Example:
        >>> from keraslm.text.vocabulary import train_tokenizer
        >>> tokenizer = train_tokenizer(["the cat sat", "the dog sat"])
        >>> tokenizer.encode_lines(["the bird sat"])
        [array([2, 5, 1, 0], dtype=int32)]
    """

    def __init__(self, backend: tokenizers.Tokenizer):
        self._backend = backend
        for name in ("truncation", "padding"):
            if getattr(backend, name) is not None:
                raise TokenizerError(f"The tokenizer has {name}, but keraslm scores exactly the tokens of a text.")
        if getattr(backend.model, "dropout", None):
            raise TokenizerError(f"The tokenizer merges at random, with a dropout of {backend.model.dropout}.")
        self.vocab_size: int = backend.get_vocab_size()
        end = end_symbol(backend)
        if end is None:
            raise TokenizerError(
                f"The tokenizer's post-processor does not end each line with one token such as {EOS!r}, which keraslm "
                "needs. To adapt a foreign tokenizer, train with its file as `tokenizer`."
            )
        self.eos_id = end
        self.unk_id = _unknown(backend)
        ids = sorted(backend.get_vocab().values())
        if ids != list(range(len(ids))):
            raise TokenizerError(f"The tokenizer's {len(ids)} ids are not 0 to {len(ids) - 1} without gaps.")

    def __repr__(self) -> str:
        special = [("eos", self.eos_id), ("unk", self.unk_id)]
        named = "".join(f", {name}={self.tokens([number])[0]!r}" for name, number in special if number != NO_ID)
        return f"Tokenizer({kind_of(self._backend).lower()}, {self.vocab_size:,} tokens{named})"

    @classmethod
    def from_json(cls, text: str, where: str = "tokenizer") -> Tokenizer:
        """Read a tokenizer, called `where` in messages; a TokenizerError if it has no end symbol or is damaged."""
        backend = read_backend(text, where)
        try:
            return cls(backend)
        except TokenizerError as error:
            raise TokenizerError(f"{where}: {error}") from error

    @property
    def joins_words(self) -> bool:
        """Whether a text is the names of its tokens, separated by blanks."""
        return self._backend.decoder is None

    @property
    def reads_words(self) -> bool:
        """Whether each token is a word of a list, perhaps cut from punctuation: no part of a word, no character."""
        return self.joins_words and type(self._backend.model).__name__ == "WordLevel"

    def lowered(self, text: str) -> str:
        """The text in lower case, if the tokenizer reads it so."""
        normalizer = self._backend.normalizer
        return str(normalizer.normalize_str(text)) if type(normalizer).__name__ == "Lowercase" else text

    def to_json(self) -> str:
        """The tokenizer as the text of a `tokenizer.json`."""
        return self._backend.to_str(pretty=True)

    @cached_property
    def digest(self) -> str:
        """SHA-256 of the JSON, in hexadecimal."""
        return hashlib.sha256(self.to_json().encode()).hexdigest()

    @cached_property
    def encode_block(self) -> BlockEncoder:
        """A function from a block of text, with LF after each line, to its ids `(tokens,)`."""
        return block_encoder(self._backend, self.eos_id, self.unk_id)

    @cached_property
    def surfaces(self) -> Surfaces:
        """What each token writes into a text, with an index; a TokenizerError if that cannot be told."""
        return Surfaces(self._backend, self.eos_id, self.unk_id)

    @cached_property
    def space_marks(self) -> NDArray[np.bool_] | None:
        """Which tokens begin with white space, bool `(vocab_size,)`; None if no token does, as in a word vocabulary."""
        names = [str(self._backend.id_to_token(number)) for number in range(self.vocab_size)]
        kind = type(self._backend.decoder).__name__
        if kind in ("Metaspace", "ByteLevel"):
            spaces = ["\u2581"] if kind == "Metaspace" else [byte_names()[ord(c)] for c in "\t\v\f\r "]
            marks = np.array([name[:1] in spaces for name in names], np.bool_)
        else:
            marks = np.array([name[:1].isspace() for name in names], np.bool_)
        marks[self.eos_id] = False
        return marks if marks.any() else None

    def encode_lines(self, lines: Sequence[str]) -> list[Ids]:
        """Ids of each line, followed by the end symbol: one int32 array per line, `(tokens + 1,)`.

        A line end at the end of a line changes nothing; a `TextError` if there is one inside. The same holds for the
        other methods that take a line.
        """
        lines = [one_line(line) for line in lines]
        if any(len(line) > PIECE // 16 for line in lines):
            return [np.append(self.encode_prompt(line), np.int32(self.eos_id)) for line in lines]
        return [np.array(e.ids, np.int32) for e in self._encode(lines, True)]

    def encode_prompt(self, text: str) -> Ids:
        """Ids of an unfinished line, int32 `(tokens,)`, without an end symbol."""
        return np.concatenate([np.array(e.ids, np.int32) for e in self._encode(list(pieces(one_line(text))), False)])

    def offsets(self, line: str) -> NDArray[np.int32]:
        """Start and end of each token in the characters of a line, int32 `(tokens, 2)`; neither ever decreases.

        The rows are those of `encode_lines([line])[0]`. The tokens of one character (its bytes, or its normalised form)
        all span it; the end symbol, and a token that corresponds to nothing in the line, span nothing.

        Example:
            >>> tokenizer.offsets("the  bird").tolist()
            [[0, 3], [5, 9], [9, 9]]
        """
        spans, start = [], 0
        for piece in pieces(one_line(line)):
            encoded = self._encode([piece], False, offsets=True)[0]
            spans.append(start + np.array(encoded.offsets, np.int32).reshape(-1, 2))
            start += len(piece)
        spans.append(np.full((1, 2), start, np.int32))
        # A normaliser that reorders marks reports their spans in the new order.
        return np.maximum.accumulate(np.concatenate(spans), axis=0)

    def decode(self, ids: Iterable[int]) -> str:
        """The text of the tokens of one line; a blank separates words, and an incomplete character is U+FFFD."""
        with at_work():
            return str(self._backend.decode([int(i) for i in ids], skip_special_tokens=False))

    def tokens(self, ids: Iterable[int]) -> list[str]:
        """The name of each id in the vocabulary, with tab, LF and CR escaped, and `<eos>` for the end symbol."""
        return [self._name(int(i)) for i in ids]

    def _encode(self, lines: list[str], end: bool, offsets: bool = False) -> list[tokenizers.Encoding]:
        encode = self._backend.encode_batch if offsets else self._backend.encode_batch_fast
        with at_work():
            try:
                return list(encode(lines, add_special_tokens=end))
            except TypeError:
                return list(encode([without_surrogates(line) for line in lines], add_special_tokens=end))

    def _name(self, number: int) -> str:
        name = str(self._backend.id_to_token(number))
        if number == self.eos_id and name in _LINE_ENDS:
            return EOS
        return "".join(_SHOWN.get(c, c) for c in name) if set(name) & _SHOWN.keys() else name


def read_backend(text: str, where: str) -> tokenizers.Tokenizer:
    """The `tokenizers.Tokenizer` of a JSON text; a TokenizerError if the library cannot read it."""
    try:
        return tokenizers.Tokenizer.from_str(text)
    except BaseException as error:  # the Rust side raises Exception, and PanicException, which is not one
        if isinstance(error, KeyboardInterrupt | SystemExit):
            raise
        raise TokenizerError(f"{where}: not a tokenizer.json of the tokenizers library ({error}).") from error


def end_lines_with(backend: tokenizers.Tokenizer, token: str) -> None:
    """Make a tokenizer add one token of its vocabulary after each line, and nothing else."""
    number = backend.token_to_id(token)
    backend.post_processor = processors.TemplateProcessing(single=f"$A {token}", special_tokens=[(token, number)])


def end_symbol(backend: tokenizers.Tokenizer) -> int | None:
    """The id of the one token that the post-processor adds at the end; None if it does something else."""
    state = {} if backend.post_processor is None else json.loads(backend.post_processor.__getstate__())
    special = state.get("special_tokens", {})
    single = [part.get("SpecialToken", {}).get("id") for part in state.get("single", [])]
    name = single[-1] if len(single) == 2 and single[0] is None else None
    if name is None or list(special) != [name] or special[name]["ids"] != [backend.token_to_id(name)]:
        return None
    return int(special[name]["ids"][0])


def _unknown(backend: tokenizers.Tokenizer) -> int:
    named = getattr(backend.model, "unk_token", UNK)  # a unigram model does not say; the name is a convention
    number = None if named is None else backend.token_to_id(named)
    if number is None and type(backend.model).__name__ == "WordLevel":
        raise TokenizerError(f"The tokenizer has no token {named!r} for unknown words, which keraslm needs.")
    return NO_ID if number is None else int(number)
