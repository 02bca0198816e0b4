"""The catalogue of errors: every message of the sources, by class, with its cause and remedy."""

from __future__ import annotations

import ast
import contextlib
import io
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

from keraslm.cli import run

ROOT = Path(__file__).resolve().parents[2]
INTRODUCTION = """\
# Errors

Written by `make docs` from the sources; a test holds the two equal.

The command line prints the kind of error, which is a heading of this page, and one sentence:

```console
$ keraslm show nothere.onnx
{example}
```

The exit code is 1 for a failure at run time, 2 for wrong use or bad input, 130 after SIGINT and 143 after SIGTERM.
`--debug` shows the traceback. An error of no kind is a lack of memory, a full disk, or a bug in keraslm, and says so.
In Python, every kind is a class of [`keraslm.errors`](api/errors.md) and a subclass of
`keraslm.KeraslmError`; errors of arguments and input are also `ValueError`s. Messages of the library name arguments in
backquotes, and the command line shows them as flags: `` `num_steps` `` becomes `--num-steps`.

Each section says what usually causes the error and what to do, and lists the messages with `{...}` for what varies.
Search this page for a part of yours that does not vary."""

# What usually causes an error, and what to do.
ADVICE = {
    "KeraslmError": "A worker process, a folder or a helper failed while the command ran. The message names it. Solve "
    "what it names, such as a full disk or too little memory, and run the same command again: finished work is kept.",
    "ProcessDiedError": "The system killed a worker process several times over the same piece of work, usually for "
    "lack of memory. Use fewer workers or smaller batches.",
    "NonFiniteLossError": "The training diverged. The message has the step and the size of the gradients. Lower "
    "`learning_rate`, set `clip_norm`, or use `float32`; then resume from the last checkpoint.",
    "ExportError": "The exported file did not give the probabilities of the network, so no file was kept. Pass a "
    "larger `tolerance` only if the reported difference is acceptable; otherwise export without 8-bit weights.",
    "Interrupted": "You, or the system, stopped the training with a signal. Everything is saved; the same command "
    "resumes it.",
    "WriteError": "The disk is full or fails, or the folder is read-only. Files that existed before are intact. Free "
    "some space or choose a different folder, and run the command again. The message is `FILE: cannot be written "
    "(REASON).`",
    "UsageError": "A flag or argument is missing, misspelled, out of range, or does not go together with a different "
    "one. `keraslm COMMAND --help` lists what is accepted.",
    "ArgumentTypeError": "A function got an argument of a different type, often one string where a list of strings is "
    "expected. The message shows the value and its position.",
    "ConfigError": "A field of the [configuration](configuration.md) is out of range, or two fields contradict each "
    "other. The message names both; change one of them.",
    "MissingPackageError": "An optional package is not installed. The message contains the `pip install` command.",
    "InputError": "A file cannot be used in the way that was asked. The message says what was found in it.",
    "InputTypeError": "Token ids or a state have the wrong type or shape, for example ids of a different model, or "
    "a state of a different batch size.",
    "TextError": "A text or table is missing, not in the given encoding, empty, too short, or has a malformed line; "
    "the message has the file and the line. Correct the line, or name the format and `encoding` of the file.",
    "TokenizerError": "A tokenizer file, or the vocabulary of two models that are used together, does not fit. Use "
    "the file that belongs to the model, or models with the same vocabulary.",
    "RunError": "A run folder is missing, damaged, locked by a different process, or of a newer format. Check the "
    "path; for a locked run wait or stop the other process.",
    "DamagedCheckpointError": "A checkpoint is not what was written, usually after a failing disk. keraslm takes the "
    "newest intact checkpoint by itself; you see this error only if you name the checkpoint.",
    "ModelFileError": "A model file is missing, incomplete, changed, or not made by `keraslm export`. Copy it again, "
    "or export the run again.",
}


class Sources:
    """All error classes and the calls that make an error, found in the sources without importing them.

    Attributes:
        bases: the base of each class that derives from `KeraslmError`.
        docs: the first paragraph of the docstring of each class.
        messages: for each class, pairs of a file and a message.
    """

    def __init__(self, root: Path = ROOT):
        paths = sorted([*root.glob("keraslm/**/*.py"), *root.glob("export/keraslm_export/**/*.py")])
        trees = {str(path.relative_to(root)): ast.parse(path.read_text(encoding="utf-8")) for path in paths}
        self.bases: dict[str, str] = {"KeraslmError": "Exception"}
        self.docs: dict[str, str] = {}
        classes = [node for tree in trees.values() for node in ast.walk(tree) if isinstance(node, ast.ClassDef)]
        while found := [c for c in classes if c.name not in self.bases and self._base(c)]:
            self.bases.update({c.name: self._base(c) for c in found})
        for c in classes:
            if c.name in self.bases:
                self.docs[c.name] = (ast.get_docstring(c) or "").split("\n\n")[0].replace("\n", " ")
        self.messages: dict[str, set[tuple[str, str]]] = defaultdict(set)
        for name, tree in trees.items():
            for kind, message in self._raised(tree):
                self.messages[kind].add((name, message))

    def _base(self, node: ast.ClassDef) -> str:
        return next((b.id for b in node.bases if isinstance(b, ast.Name) and b.id in self.bases), "")

    def _raised(self, tree: ast.Module) -> Iterator[tuple[str, str]]:
        for node in ast.walk(tree):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in self.bases:
                message = template(node.args[0]) if node.args else ""
                if message.strip("{}. "):
                    yield node.func.id, message


def template(node: ast.expr) -> str:
    """A message with `{name}` for what varies, `{...}` if that is no plain name.

    Example:
        >>> template(ast.parse('f"{path}: " + "no " * n + f"{len(x)} files."').body[0].value)
        '{path}: {...}{...} files.'
    """
    if isinstance(node, ast.Constant):
        return str(node.value)
    if isinstance(node, ast.JoinedStr):
        return "".join(map(template, node.values))
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Add):
        return template(node.left) + template(node.right)
    if isinstance(node, ast.FormattedValue):
        node = node.value
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "shown":
        node = node.args[0]
    plain = isinstance(node, ast.Name) or (isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name))
    return f"{{{ast.unparse(node)}}}" if plain else "{...}"


def code(text: str) -> str:
    """A text as inline code of Markdown, which may contain backquotes.

    Example:
        >>> code("`a` is 1")
        '`` `a` is 1 ``'
    """
    text = " ".join(text.split())
    return f"`` {text} ``" if "`" in text else f"`{text}`"


def section(sources: Sources, kind: str) -> str:
    """One class of errors: what it is, causes and remedies, and its messages by file."""
    base = sources.bases[kind]
    derived = f" A kind of [{base}](#{base.lower()})." if base in sources.bases else ""
    parts = [f"## {kind}", f"{sources.docs[kind]}{derived}", ADVICE[kind]]
    by_file = defaultdict(list)
    for name, message in sorted(sources.messages[kind]):
        by_file[name].append(f"- {code(message)}")
    parts += [f"`{name}`:\n\n" + "\n".join(lines) for name, lines in by_file.items()]
    return "\n\n".join(parts)


def page() -> str:
    """The whole of docs/reference/errors.md."""
    sources = Sources()
    with contextlib.redirect_stderr(io.StringIO()) as printed:
        run(["show", "nothere.onnx"])
    introduction = INTRODUCTION.replace("{example}", printed.getvalue().strip())
    return "\n\n".join([introduction, *(section(sources, kind) for kind in ADVICE)]) + "\n"
