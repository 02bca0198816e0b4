"""`keraslm pairs`"""

from itertools import chain
from pathlib import Path
from typing import Literal

from keraslm.commands.flags import (
    Errors,
    Others,
    Progress,
    Provider,
    Switch,
    TableFormat,
    TextName,
    open_files,
    shows_progress,
)


def pairs(
    model: Path,
    /,
    *files: TextName,
    by: Literal["all", "field", "term", "uid"] = "all",
    rows: Switch = False,
    format: TableFormat = "tsv",
    others: Others = (),
    provider: Provider = "auto",
    errors: Errors = "strict",
    encoding: str = "utf-8",
    progress: Progress = "auto",
) -> None:
    """Count the minimal pairs whose good sentence is more probable than the bad one.

    keraslm pairs model.onnx blimp/*.jsonl --by term

    Prints a table with a header. Accuracy is the share of right pairs; a tie counts as wrong. Sentences are
    compared by their probability, their end included.

    Parameters
    ----------
    model
        Model file written by keraslm export.
    files
        Pairs in BLiMP's format (JSONL: sentence_good, sentence_bad, field, linguistics_term, UID, pairID), or two
        columns separated by a tab, the good sentence first; plain or compressed. Default or -: standard input.
    by
        Print one row per field, linguistics term or UID, and one for all pairs.
    rows
        Print one row per pair instead: log-probabilities in nats, their difference, and right, wrong or tie.
    format
        tsv or csv: a table; raw: tsv without quotes around cells that contain quotation marks, for cut and awk.
    others
        Another model file with the same tokenizer, to average probabilities with; may be repeated.
    provider
        Where onnxruntime computes. auto: CUDA if available, else the CPU.
    errors
        Invalid bytes. strict: stop with file:line:byte; replace: read U+FFFD.
    encoding
        Encoding of the files, such as latin-1, cp1252, gb18030 or utf-16.
    progress
        auto: show progress on standard error if it is a terminal without rows on it; none: never.
    """
    from keraslm.rescoring import pairs as room
    from keraslm.rescoring.prefixes import opened
    from keraslm.system.progress import progress as shown_progress
    from keraslm.text.rows import row_writer

    row = row_writer(format)
    texts = open_files(files, errors, encoding)
    sentences = chain.from_iterable(map(room.read_pairs, texts.files))
    scorer = opened([model, *others], provider)
    with shown_progress("scoring", shows_progress(progress, texts.files, rows), texts) as count:
        scores = count(room.score_pairs(scorer, sentences), tokens=lambda score: score.tokens)
        if rows:
            print(row(room.HEADER))
            for score in scores:
                print(row(score.cells()))
            return
        found = room.PairResults([*scores])
    print(row([by, "pairs", "right", "ties", "accuracy", "oovs", "oov_pairs"]))
    for name, results in [*(found.by(by).items() if by != "all" else ()), ("all", found)]:
        print(row([name, *results.cells()]))
