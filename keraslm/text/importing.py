"""Foreign tokenizers with their ids: `tokenizer.json`, `tokens.txt`, sentencepiece `.model`."""

from __future__ import annotations

import importlib
import importlib.util
from pathlib import Path
from typing import Any

import tokenizers
from tokenizers import decoders, models, normalizers, pre_tokenizers

from keraslm.config import TOKENIZERS, DataConfig, user_path
from keraslm.errors import MissingPackageError, TokenizerError
from keraslm.text.encoders import CHARACTERS, at_work
from keraslm.text.tokenizer import EOS, UNK, Tokenizer, end_lines_with, end_symbol, read_backend

END_NAMES = (EOS, "</s>", "<|endoftext|>", "<sos/eos>", "<eos/sos>", "[EOS]", "[SEP]", "<|end_of_text|>")
UNKNOWN_NAMES = (UNK, "<UNK>", "[UNK]", "<oov>", "<OOV>")
LONGEST_PIECE = 1000  # characters; sentencepiece's own limit is 16 unless it is trained otherwise
SPACE_NAMES = (" ", "<space>", "▁", "|")


def import_tokenizer(config: DataConfig) -> Tokenizer:
    """The tokenizer in the file `config.tokenizer`; `eos_token` and `unk_token` select its symbols."""
    path = user_path(config.tokenizer)
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        known = ", ".join(TOKENIZERS)
        raise TokenizerError(f"{path}: no such tokenizer. `tokenizer` expects {known}, or a file.") from None
    except OSError as error:
        raise TokenizerError(f"{path}: cannot be read ({error.strerror or error}).") from error
    try:
        text = "" if path.suffix == ".model" else data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise TokenizerError(
            f"{path}: byte {error.start} is not UTF-8. A tokenizer is a tokenizer.json, a tokens.txt or a "
            "sentencepiece file whose name ends in .model."
        ) from error
    if path.suffix == ".model":
        backend = _sentencepiece(path, data)
    elif data.lstrip()[:1] == b"{":
        backend = read_backend(text, str(path))
        backend.no_padding()
        backend.no_truncation()
    else:
        backend = _symbol_table(path, text, config.unk_token)
    if config.eos_token or end_symbol(backend) is None:
        end_lines_with(backend, _choose(path, backend, config.eos_token, END_NAMES, "end symbol", "`eos_token`"))
    try:
        Tokenizer(backend)  # checks for gaps in the ids, because writing it takes memory up to the largest id
        return Tokenizer(_settled(backend))
    except TokenizerError as error:
        raise TokenizerError(f"{path}: {error}") from error


def _settled(backend: tokenizers.Tokenizer) -> tokenizers.Tokenizer:
    """Write and read a tokenizer until its text no longer changes: the library rounds some scores."""
    for _ in range(4):
        text = backend.to_str()
        backend = read_backend(text, "the tokenizer as it is written")
        if backend.to_str() == text:
            break
    return backend


def _choose(
    path: Path, backend: tokenizers.Tokenizer, requested: str | None, usual: tuple[str, ...], what: str, field: str
) -> str:
    names = (requested,) if requested else usual
    found = next((name for name in names if backend.token_to_id(name) is not None), None)
    if found is None:
        raise TokenizerError(f"{path}: no {what} among {', '.join(names)}. Give the file's own with {field}.")
    return found


def _symbol_table(path: Path, text: str, unk_token: str | None) -> tokenizers.Tokenizer:
    """Lines of `symbol id`, as speech toolkits write them (words.txt of Kaldi, tokens.txt of sherpa-onnx)."""
    vocabulary: dict[str, int] = {}
    for number, line in enumerate(text.removesuffix("\n").split("\n"), 1):
        symbol, _, digits = line.removesuffix("\r").replace("\t", " ").rstrip(" ").rpartition(" ")
        if not digits.isascii() or not digits.isdigit() or len(digits) > 9 or (symbol.strip() == "" and symbol != " "):
            raise TokenizerError(f"{path}:{number}: {line[:40]!r} is not 'symbol id', a symbol and a whole number.")
        if symbol in vocabulary:
            raise TokenizerError(f"{path}:{number}: the symbol {symbol!r} occurs twice.")
        vocabulary[symbol] = int(digits)
    if sorted(vocabulary.values()) != list(range(len(vocabulary))):
        raise TokenizerError(f"{path}: the {len(vocabulary)} ids are not 0 to {len(vocabulary) - 1}, each once.")
    backend = tokenizers.Tokenizer(models.WordLevel(vocabulary, unk_token=UNK))
    unknown = _choose(path, backend, unk_token, UNKNOWN_NAMES, "unknown symbol", "`unk_token`")
    backend.model = models.WordLevel(vocabulary, unk_token=unknown)
    _cut_as_symbols(backend, vocabulary)
    return backend


def _cut_as_symbols(backend: tokenizers.Tokenizer, vocabulary: dict[str, int]) -> None:
    """Split text at white space; into characters if every ordinary symbol is one."""
    ordinary = [s for s in vocabulary if not (s[0] in "<[#" and len(s) > 1)]
    if not all(len(symbol) == 1 for symbol in ordinary):
        backend.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
        return
    characters = pre_tokenizers.Split(tokenizers.Regex(CHARACTERS), "isolated")
    space = next((name for name in SPACE_NAMES if name in vocabulary), None)
    backend.decoder = decoders.Fuse()
    if space is None:
        backend.pre_tokenizer = pre_tokenizers.Sequence([pre_tokenizers.WhitespaceSplit(), characters])
    else:
        backend.pre_tokenizer = characters
        if space == "<space>":
            raise TokenizerError("A character table with <space> for the blank cannot be read; write it as ▁ or |.")
        if space != " ":
            backend.normalizer = normalizers.Replace(" ", space)
            backend.decoder = decoders.Sequence([decoders.Replace(space, " "), decoders.Fuse()])


def _sentencepiece(path: Path, data: bytes) -> tokenizers.Tokenizer:
    """The `tokenizers` form of a sentencepiece model, with its normalisation rules, blanks and byte pieces."""
    if not (importlib.util.find_spec("sentencepiece") and importlib.util.find_spec("google")):
        raise MissingPackageError(
            "A sentencepiece model needs the packages sentencepiece and protobuf: pip install 'keraslm[sentencepiece]'"
        )
    proto: Any = importlib.import_module("sentencepiece.sentencepiece_model_pb2").ModelProto()
    try:
        proto.ParseFromString(data)
    except Exception as error:  # google.protobuf.message.DecodeError
        raise TokenizerError(f"{path}: not a sentencepiece model ({error}).") from error
    try:
        with at_work():
            return _backend_of(path, proto)
    except TokenizerError:
        raise
    except (TypeError, ValueError, OverflowError) as error:  # a value that the library refuses
        raise TokenizerError(f"{path}: a sentencepiece model that cannot be imported ({error}).") from error


def _backend_of(path: Path, proto: Any) -> tokenizers.Tokenizer:
    kind, scored = proto.trainer_spec.model_type, [(piece.piece, float(f"{piece.score:.9g}")) for piece in proto.pieces]
    if kind not in (1, 2) or not scored:
        raise TokenizerError(f"{path}: a sentencepiece model of type {kind}; unigram (1) and bpe (2) can be imported.")
    unknown = next((i for i, piece in enumerate(proto.pieces) if piece.type == piece.UNKNOWN), None)
    if unknown is None:
        raise TokenizerError(f"{path}: a sentencepiece model without an unknown piece cannot be imported.")
    if any(len(piece.piece) > LONGEST_PIECE for piece in proto.pieces):
        raise TokenizerError(f"{path}: a sentencepiece model with a piece of more than {LONGEST_PIECE} characters.")
    fallback = bool(proto.trainer_spec.byte_fallback)
    if kind == 1:
        model: Any = models.Unigram(scored, unknown, fallback)
    else:
        vocabulary = {piece: number for number, (piece, _) in enumerate(scored)}
        model = models.BPE(
            vocabulary, _merges(proto.pieces), unk_token=scored[unknown][0], fuse_unk=True, byte_fallback=fallback
        )
    backend = tokenizers.Tokenizer(model)
    _normalise_as(proto, backend)
    return backend


def _merges(pieces: Any) -> list[tuple[str, str]]:
    """Every way to join two pieces into a third, in the order in which sentencepiece tries them."""
    ranks = {piece.piece: number for number, piece in enumerate(pieces) if piece.type == piece.NORMAL}
    merges: list[tuple[float, int, int, str, str]] = []
    for piece in pieces:
        for place in range(1, len(piece.piece)):
            left, right = piece.piece[:place], piece.piece[place:]
            if piece.piece in ranks and left in ranks and right in ranks:
                merges.append((-piece.score, ranks[left], ranks[right], left, right))
    return [(left, right) for *_, left, right in sorted(merges)]


def _normalise_as(proto: Any, backend: tokenizers.Tokenizer) -> None:
    spec = proto.normalizer_spec
    steps: list[Any] = [normalizers.Precompiled(spec.precompiled_charsmap)] if spec.precompiled_charsmap else []
    if spec.remove_extra_whitespaces:
        steps += [normalizers.Strip(), normalizers.Replace(tokenizers.Regex(" {2,}"), " ")]
        prefix = "always" if spec.add_dummy_prefix else "never"
        blanks: Any = {"prepend_scheme": prefix, "split": bool(proto.trainer_spec.split_by_whitespace)}
        backend.pre_tokenizer = pre_tokenizers.Metaspace(**blanks)
        ending: list[Any] = [decoders.Metaspace(**blanks), decoders.Fuse()]
    else:
        # The prefix also precedes blanks, and several blanks may be one piece.
        steps += [normalizers.Prepend("▁")] if spec.add_dummy_prefix else []
        steps.append(normalizers.Replace(" ", "▁"))
        ending = [decoders.Replace("▁", " "), decoders.Fuse()]
        ending += [decoders.Strip(" ", 1, 0)] if spec.add_dummy_prefix else []
    backend.normalizer = normalizers.Sequence(steps)
    backend.decoder = decoders.Sequence([decoders.ByteFallback(), *ending])
