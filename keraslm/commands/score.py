"""`keraslm score`"""

import json
import sys
from itertools import chain
from pathlib import Path
from typing import Annotated, Literal

from cyclopts import Parameter

from keraslm.commands.flags import TextName
from keraslm.errors import UsageError


def score(
    model: Path,
    /,
    *files: TextName,
    level: Literal["token", "sentence", "summary"] = "token",
    context: Literal["sentence", "paragraph", "document"] = "sentence",
    provider: Literal["cpu", "cuda", "auto"] = "auto",
    errors: Literal["strict", "replace"] = "strict",
    as_json: Annotated[bool, Parameter(name="--json", negative="")] = False,
) -> None:
    """Score text with a model file: log-probability and surprisal of each token.

    Prints tab-separated rows with a header: logprob in nats, surprisal in bits, ids counted from 1 over all files.
    Every line has its rows, blank ones too (its end symbol alone).

    Parameters
    ----------
    model
        Model file, as keraslm export writes it.
    files
        Texts, one sentence a line, plain or compressed (gz, bz2, xz, zst); - or none reads standard input.
    level
        A row a token, a row a line, or one summary of everything.
    context
        sentence starts each line from nothing; document carries the state from line to line, through each file;
        paragraph does so up to the next blank line.
    provider
        Where onnxruntime computes; auto takes CUDA where it is there.
    errors
        Invalid UTF-8: strict stops with file:line:byte; replace goes on with U+FFFD, counts, and keeps the rows.
    as_json
        Print the summary as one JSON object.
    """
    from keraslm.text.files import STDIN, TextFile
    from keraslm_onnx import report
    from keraslm_onnx.scorer import load

    if as_json and level != "summary":
        raise UsageError("--json prints the summary: add --level summary.")
    texts = [TextFile(name, errors) for name in files or (STDIN,)]
    scorer = load(model, provider)
    lines = scorer.score_lines(chain.from_iterable(chain(text, [None]) for text in texts), context)
    if level == "summary":
        summary = report.summarize(lines)
        print(json.dumps(summary.to_dict()) if as_json else "\n".join(summary.rows()))
    else:
        rows = report.token_rows(lines, scorer.tokenizer) if level == "token" else report.sentence_rows(lines)
        at_once = any(text.path == STDIN for text in texts)  # whoever feeds it may be waiting for the answer
        for row in rows:
            print(row, flush=at_once)
    for text in texts:
        if text.replaced:
            print(f"keraslm: {text.name}: {text.replaced} lines held invalid UTF-8, read as U+FFFD", file=sys.stderr)
