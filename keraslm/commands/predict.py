"""`keraslm predict`"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import Parameter

from keraslm.commands.flags import (
    Errors,
    Integer,
    Json,
    Others,
    Provider,
    Switch,
    TableFormat,
    TextName,
    open_files,
    print_note,
)
from keraslm.errors import UsageError

if TYPE_CHECKING:
    from keraslm.scoring.scorer import Scorer

Lists = dict[str, frozenset[str]]  # of words: `allowed` and `exclude`, if they are given


def predict(
    model: Path,
    /,
    *contexts: TextName,
    input: Annotated[str | None, Parameter(allow_leading_hyphen=True)] = None,
    count: Annotated[Integer, Parameter(alias="-k")] = 5,
    tokens: Switch = False,
    only: Path | None = None,
    exclude: Path | None = None,
    interactive: Switch = False,
    format: TableFormat = "tsv",
    others: Others = (),
    provider: Provider = "auto",
    errors: Errors = "strict",
    encoding: str = "utf-8",
    as_json: Json = False,
) -> None:
    """Predict the next word after a text, or complete the word at its end.

    keraslm predict model.onnx "the comp"

    keraslm predict model.onnx --input contexts.txt --exclude profanity.txt

    keraslm predict model.onnx --interactive

    Prints the most probable words of each context with their probabilities, as a table with a header. A blank at the
    end of a context asks for the next word; without one, the last word is completed.

    In a terminal and without a context, the words are shown while you type, and Tab or their number accepts one.

    Parameters
    ----------
    model
        Model file written by keraslm export.
    contexts
        Texts to continue, each in quotes. - or none: one per line from standard input.
    input
        File with one context per line, plain or compressed (gz, bz2, xz, zst); - is standard input.
    count
        Number of words per context.
    tokens
        Predict tokens of the tokenizer instead of words, <eos> and <unk> included. Nothing is completed.
    only
        File with one word per line: predict these words only.
    exclude
        File with one word per line: never predict these words.
    interactive
        Show the words while you type in this terminal. Tab or a number accepts one, Ctrl-V types the next key as it is,
        Enter begins a new line, Ctrl-D ends.
    format
        tsv or csv: a table; raw: tsv without quotes around cells that contain quotation marks, for cut and awk.
    others
        Another model file with the same tokenizer, to average probabilities with; may be repeated.
    provider
        Where onnxruntime computes. auto: CUDA if available, else the CPU.
    errors
        Invalid bytes. strict: stop with file:line:byte; replace: read U+FFFD.
    encoding
        Encoding of all files, such as latin-1, cp1252, gb18030 or utf-16.
    as_json
        Print one JSON object per context instead of the table: begun is the part of a word at the end of the context,
        and start its position, from which a word replaces it.
    """
    from keraslm.scoring.scorer import load
    from keraslm.system.terminal import is_interactive
    from keraslm.text.paths import STDIN

    if contexts and input is not None:
        raise UsageError("Give contexts as arguments or with --input, not both.")
    if interactive and (contexts or input is not None or as_json or tokens):
        raise UsageError("--interactive reads keys and shows words: leave out contexts, --input, --tokens and --json.")
    if tokens and (only or exclude):
        raise UsageError("--only and --exclude name words: leave out --tokens.")
    lists = {
        name: _words(path, flag, errors, encoding)
        for name, flag, path in (("allowed", "--only", only), ("exclude", "--exclude", exclude))
        if path
    }
    texts: Any = contexts
    if contexts in ((), (STDIN,)) and not interactive:
        interactive = not contexts and input is None and not (as_json or tokens) and is_interactive()
        texts = None if interactive else open_files([input or STDIN], errors, encoding)
    scorer = load([model, *others], provider)
    if interactive:
        _type(scorer, count, lists)
        return
    at_once = any(file.path == STDIN for file in getattr(texts, "files", ()))  # its writer may wait for an answer
    found = ((text, _predictions(scorer, text, count, tokens, lists)) for text in texts)
    for row in _json_rows(found) if as_json else _table_rows(found, format, tokens):
        print(row, flush=at_once)


def _words(path: Path, flag: str, errors: str, encoding: str) -> frozenset[str]:
    """The words of a file, one per line."""
    words = frozenset(line.strip() for line in open_files([str(path)], errors, encoding)) - {""}
    if flag == "--only" and not words:
        raise UsageError(f"{flag} {path}: no words, so that nothing could be predicted.")
    if several := [word for word in words if len(word.split()) > 1]:
        print_note(f"{path}: {len(several)} lines with several words have no effect, such as {min(several)!r}")
    return words


def _predictions(scorer: Scorer, text: str, count: int, tokens: bool, lists: Lists) -> Any:
    from keraslm.scoring import predict

    if tokens:
        return predict.Predictions("", len(text), predict.next_tokens(scorer, text, count))
    return predict.predict(scorer, text, count, **lists)  # type: ignore[arg-type]


def _table_rows(found: Any, format: str, tokens: bool) -> Iterator[str]:
    from keraslm.text.rows import row_writer

    row = row_writer(format)
    yield row(["context_id", "rank", "token" if tokens else "word", "probability"])
    for number, (_, predictions) in enumerate(found, 1):
        for rank, item in enumerate(predictions.words, 1):
            yield row([number, rank, item.word, f"{item.probability:.6g}"])


def _json_rows(found: Any) -> Iterator[str]:
    import json

    for text, predictions in found:
        words = [vars(item) for item in predictions.words]
        record = {"context": text, "begun": predictions.begun, "start": predictions.start, "words": words}
        yield json.dumps(record, ensure_ascii=False)


def _type(scorer: Scorer, count: int, lists: Lists) -> None:
    """Show words while a person types."""
    from keraslm.scoring.keyboard import END, ENTER, INTERRUPT, Suggestions, Typed, press
    from keraslm.system.terminal import key_terminal, printable

    suggestions, typed = Suggestions(scorer, count, **lists), Typed()
    with key_terminal() as terminal:
        terminal.say(f"Tab or 1 to {min(count, 9)}: accept a word. Ctrl-V 1: type 1. Enter: new line. Ctrl-D: end.")
        keys = terminal.keys()
        while typed.done not in (END, INTERRUPT):
            if typed.done == ENTER:
                terminal.leave()
                suggestions.end_line(typed.text)
                typed = Typed()
            found = suggestions.after(typed.text)
            typed = Typed(typed.text, tuple(item.word for item in found.words), found.start, typed.literal)
            numbered = "  ".join(f"{number} {word}" for number, word in enumerate(typed.words, 1))
            terminal.show(f"> {printable(typed.text)}", f"  {printable(numbered)}")
            typed = press(typed, next(keys, END))
    if typed.done == INTERRUPT:
        raise KeyboardInterrupt
