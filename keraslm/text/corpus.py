"""The texts that a configuration names: files, a folder of splits, or the corpus that comes with Python."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Iterator, Sequence
from itertools import chain
from pathlib import Path

from keraslm.config import DataConfig, StrPath, user_path
from keraslm.errors import TextError
from keraslm.text.files import Block, TextFile, TextFiles, name_of
from keraslm.text.held_out import TextPart, split_text
from keraslm.text.paths import STDIN, is_clutter

_SPLITS = {"train": "train", "test": "test"} | dict.fromkeys(("valid", "val", "validation", "dev"), "valid")


def find_splits(folder: StrPath) -> dict[str, str]:
    """Paths of the train, valid and test files of a folder, by split; valid and test may be missing.

    A file belongs to a split if a part of its name, split at `.`, `_` and `-`, is the name of the split: `train.txt`,
    `ptb.valid.txt.gz`, `wiki.test.tokens`. `val`, `validation` and `dev` mean `valid`. Files of editors and the system
    are left out. A TextError if there is no train file, or two files for one split.
    """
    root = user_path(folder)
    if not root.is_dir():
        raise TextError(f"{root}: no such folder. `data` expects a folder with train, valid and test files.")
    found: dict[str, str] = {}
    files = sorted(path for path in root.iterdir() if path.is_file() and not is_clutter(path))
    for path in files:
        for split in _splits_of(path):
            if split in found:
                raise TextError(
                    f"{root}: both {Path(found[split]).name} and {path.name} look like the {split} text. Remove one of "
                    "them, or name the texts with `train` and `valid` instead of `data`."
                )
            found[split] = str(path)
    if "train" not in found:
        names = ", ".join(sorted(p.name for p in root.iterdir())[:8]) or "nothing"
        raise TextError(f"{root}: no training text (train.txt, ptb.train.txt.gz, ...). The folder holds: {names}.")
    return found


def _splits_of(path: Path) -> set[str]:
    return {_SPLITS[part] for part in re.split(r"[._-]", path.name.lower()) if part in _SPLITS}


class EmbeddedText:
    """The language reference that CPython ships for `help()`, without blank lines: a corpus on every machine.

    The text differs slightly between Python versions. The last tenth of each topic's lines is the split `"valid"`, the
    rest is `"train"`.
    """

    replaced = 0
    errors, encoding = "strict", "utf-8"
    notes: Sequence[str] = ()

    def __init__(self, split: str):
        from pydoc_data.topics import topics

        self.name = f"pydoc_data.topics ({split})"
        self._lines: list[str] = []
        for topic in sorted(topics):
            lines = [line.strip() for line in topics[topic].split("\n") if line.strip()]
            cut = len(lines) - len(lines) // 10
            self._lines += lines[:cut] if split == "train" else lines[cut:]
        self._data = "".join(f"{line}\n" for line in self._lines).encode()

    def __iter__(self) -> Iterator[str]:
        return iter(self._lines)

    def blocks(self, advance: Callable[[int], None] = lambda _: None) -> Iterator[Block]:
        yield Block(self._data, self.name, 1, 0)

    def size(self) -> int:
        return len(self._data)

    def digest(self) -> str:
        return hashlib.sha256(self._data).hexdigest()


class JoinedTexts:
    """Several texts as one, in the given order, whose sizes stay known: those of `train_weights`."""

    def __init__(self, texts: Sequence[TextFiles | TextPart]):
        self.texts = texts
        self.name = name_of(texts)
        self.errors, self.encoding = texts[0].errors, texts[0].encoding
        self.notes = [note for text in texts for note in text.notes]

    def __iter__(self) -> Iterator[str]:
        return chain.from_iterable(self.texts)

    def blocks(self, advance: Callable[[int], None] = lambda _: None) -> Iterator[Block]:
        return chain.from_iterable(text.blocks(advance) for text in self.texts)

    def size(self) -> int:
        return sum(text.size() for text in self.texts)

    def digest(self) -> str:
        return hashlib.sha256(" ".join(text.digest() for text in self.texts).encode()).hexdigest()

    def spool(self, folder: Path) -> None:
        for text in self.texts:
            text.spool(folder)


Text = TextFile | TextFiles | TextPart | JoinedTexts | EmbeddedText
Texts = tuple[Text, Text | None]  # for training and for validation


def open_texts(config: DataConfig) -> Texts:
    """The training text and the validation text that a configuration names; a TextError if one does not exist."""
    if (*(config.train or ()), *(config.valid or ())).count(STDIN) > 1:
        raise TextError("Standard input (-) can be read only once; it was given more than once.")
    if config.valid_share:
        return _split(config)
    train = open_text(config, "train")
    assert train is not None
    return train, open_text(config, "valid")


def open_text(config: DataConfig, split: str) -> Text | None:
    """The text `"train"` or `"valid"` that a configuration names, or None; the other one may be missing."""
    if not config.train and not config.data:
        return EmbeddedText(split)
    if config.valid_share:
        return _split(config)[split == "valid"]
    if split == "train":
        return _joined(_training_texts(config))
    names = config.valid or ()
    if config.data:
        splits = find_splits(config.data)
        names = (splits[split],) if split in splits else ()
    return TextFiles(names, config.errors, config.encoding) if names else None


def _split(config: DataConfig) -> tuple[Text, Text]:
    assert config.valid_share
    if config.data and "valid" in (splits := find_splits(config.data)):
        raise TextError(
            f"{config.data}: the folder holds a validation text, {Path(splits['valid']).name}, and `valid_share` would "
            "hold out a second one. Leave `valid_share` out, or name the training text with `train`."
        )
    parts = [split_text(text, config.valid_share, config) for text in _training_texts(config)]
    train, valid = zip(*parts, strict=True)
    return _joined(train), _joined(valid)


def _training_texts(config: DataConfig) -> list[TextFiles]:
    """The training text; with `train_weights`, each of the training texts."""
    names = (find_splits(config.data)["train"],) if config.data else config.train or ()
    groups = [(name,) for name in names] if config.train_weights else [names]
    texts = [TextFiles(group, config.errors, config.encoding) for group in groups]
    texts[0].notes = [*texts[0].notes, *filter(None, map(_splits_note, names))]
    return texts


def _splits_note(name: str) -> str:
    """A sentence about a training text that is a folder with a validation text; else empty."""
    folder = user_path(name)
    files = [path for path in folder.iterdir() if path.is_file()] if folder.is_dir() else []
    if not {"train", "valid"} <= {split for path in files for split in _splits_of(path)}:
        return ""
    return f"{name} seems to hold a validation text too, which is trained on; `data` names a folder of both"


def _joined(texts: Sequence[TextFiles | TextPart]) -> Text:
    return texts[0] if len(texts) == 1 else JoinedTexts(texts)
