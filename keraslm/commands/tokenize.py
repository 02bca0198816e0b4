"""`keraslm tokenize`"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from cyclopts import Parameter

from keraslm.commands.flags import NO_DATA, DataFlags, Json, TableFormat, TextName, given, open_files
from keraslm.config import StrPath
from keraslm.errors import UsageError

if TYPE_CHECKING:
    from keraslm.text.files import TextFiles
    from keraslm.text.store import TextCounts
    from keraslm.text.tokenizer import Tokenizer

Cells = tuple[Any, ...]


def tokenize(
    *files: TextName,
    using: Annotated[Path | None, Parameter(name="--with")] = None,
    output: Path | None = None,
    level: Literal["line", "token", "summary", "oovs"] = "line",
    format: TableFormat = "tsv",
    as_json: Json = False,
    data_flags: DataFlags = NO_DATA,
) -> None:
    """Train a tokenizer, or show how a tokenizer splits a text.

    keraslm tokenize --train train.txt --tokenizer bpe --vocab-size 5000 --output tokenizer.json text.txt

    keraslm tokenize --with runs/latest text.txt

    Without --train, the tokenizer is the one of --with, or the file given as --tokenizer.

    Parameters
    ----------
    files
        Texts to split, plain or compressed: files, folders or patterns; - is standard input. Not needed with --output.
    using
        Run folder, model file or tokenizer file whose tokenizer is used.
    output
        Write the tokenizer to this file, as a tokenizer.json.
    level
        line: one row per line, with its tokens; token: one row per token; summary: the size of the text in every unit;
        oovs: each unknown part of the text with its count, most frequent first.
    format
        tsv or csv: a table; raw: tsv without quotes around cells that contain quotation marks, for cut and awk.
    as_json
        Print the summary as one JSON object.
    """
    from keraslm.system.outputs import check_outputs
    from keraslm.text.encoding import Encoder
    from keraslm.text.rows import row_writer

    if as_json and level != "summary":
        raise UsageError("--json prints the summary: add --level summary.")
    fields = given(data_flags)
    read = fields.get("errors", "strict"), fields.get("encoding", "utf-8")
    text = open_files(files, *read)
    check_outputs({"output": output}, _inputs(using, text, fields) if output else ())
    tokenizer = _tokenizer(using, fields)
    if output is not None:
        _write(output, tokenizer.to_json())
        if not files:
            print(f"done      {output}: {tokenizer.vocab_size:,} tokens")
            return
    if level == "summary":
        facts = _summary(tokenizer, Encoder(fields.get("cache"), show=True).counts(text, tokenizer))
        rows = iter([json.dumps(facts)]) if as_json else _summary_rows(facts)
    else:
        cells = {"line": _line_rows, "token": _token_rows, "oovs": _oov_rows}[level](tokenizer, text)
        rows = map(row_writer(format), cells)
    for row in rows:
        print(row)


def _inputs(using: Path | None, text: TextFiles, fields: dict[str, Any]) -> Iterator[StrPath]:
    from keraslm.config import TOKENIZERS
    from keraslm.runs.files import paths_of
    from keraslm.text.corpus import find_splits
    from keraslm.text.files import TextFiles

    trained_on = TextFiles([*fields.get("train", ()), *fields.get("valid", ())])
    yield from (file.path for file in (*text.files, *trained_on.files))
    if "data" in fields:
        yield from find_splits(fields["data"]).values()
    if fields.get("tokenizer") not in (None, *TOKENIZERS):
        yield fields["tokenizer"]
    if using is not None:
        yield from paths_of(using) if using.is_dir() else [using]


def _tokenizer(using: Path | None, fields: dict[str, Any]) -> Tokenizer:
    from keraslm.config import TOKENIZERS, DataConfig
    from keraslm.text.corpus import open_texts
    from keraslm.text.encoding import Encoder
    from keraslm.text.importing import import_tokenizer

    config = DataConfig(**fields)
    trains = bool(config.train or config.data)
    if using is not None:
        if trains or "tokenizer" in fields:
            raise UsageError("--with names a trained tokenizer; leave out --train, --data and --tokenizer.")
        return _trained_tokenizer(using, fields)
    if config.tokenizer not in TOKENIZERS:
        return import_tokenizer(config)
    if not trains:
        raise UsageError("No tokenizer: use --with RUN_OR_FILE, or --train TEXT to train one.")
    train, _ = open_texts(config)
    return Encoder(config.cache, show=True).tokenizer(train, config)


def _trained_tokenizer(path: Path, fields: dict[str, Any]) -> Tokenizer:
    if path.is_dir():
        from keraslm.runs.run import Run

        return Run.open(path).tokenizer
    if path.suffix == ".onnx":
        from keraslm.scoring.session import ModelSession

        return ModelSession(path, "cpu").tokenizer
    from keraslm.config import DataConfig
    from keraslm.text.importing import import_tokenizer

    return import_tokenizer(DataConfig(**fields | {"tokenizer": str(path)}))


def _write(path: Path, text: str) -> None:
    from keraslm.system.outputs import output_file

    with output_file(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def _line_rows(tokenizer: Tokenizer, text: TextFiles) -> Iterator[Cells]:
    yield "sentence_id", "tokens", "oovs", "text"
    for number, line in enumerate(text, 1):
        ids = tokenizer.encode_lines([line])[0]
        oovs = int((ids == tokenizer.unk_id).sum())
        yield number, len(ids), oovs, " ".join(tokenizer.tokens(ids))


def _token_rows(tokenizer: Tokenizer, text: TextFiles) -> Iterator[Cells]:
    yield "sentence_id", "token_id", "token", "id"
    for number, line in enumerate(text, 1):
        ids = tokenizer.encode_lines([line])[0]
        for place, (token, token_id) in enumerate(zip(tokenizer.tokens(ids), ids, strict=True), 1):
            yield number, place, token, token_id


def _oov_rows(tokenizer: Tokenizer, text: TextFiles) -> Iterator[Cells]:
    counts: Counter[str] = Counter()
    for line in text:
        ids, spans = tokenizer.encode_lines([line])[0], tokenizer.offsets(line)
        counts.update(line[start:end] for start, end in spans[ids == tokenizer.unk_id])
    yield "count", "oov"
    for part, count in sorted(counts.items(), key=lambda item: (-item[1], item[0])):
        yield count, part if part.isprintable() else part.encode("unicode_escape").decode()


def _summary(tokenizer: Tokenizer, counts: TextCounts) -> dict[str, Any]:
    inner = counts.tokens - counts.lines
    return {
        "vocabulary": tokenizer.vocab_size,
        **vars(counts),
        "oovs_per_token": counts.oovs / inner if inner else None,
        "tokens_per_word": inner / counts.words if counts.words else None,
        "bytes_per_token": counts.bytes / counts.tokens if counts.tokens else None,
    }


def _summary_rows(facts: dict[str, Any]) -> Iterator[str]:
    shapes = {int: ",", float: ",.4f"}
    for name, value in facts.items():
        yield f"{name:<15} {'nan' if value is None else format(value, shapes[type(value)])}"
