"""`keraslm pairs`"""

from pathlib import Path
from typing import Literal

from keraslm.commands.flags import (
    Errors,
    Others,
    Progress,
    Provider,
    Separator,
    Switch,
    TableFormat,
    TextName,
    open_files,
    print_note,
    shows_progress,
)


def pairs(
    model: Path,
    /,
    *files: TextName,
    method: Literal["sentence", "one-prefix", "two-prefix"] = "sentence",
    by: Literal["all", "field", "term", "uid"] = "all",
    rows: Switch = False,
    format: TableFormat = "tsv",
    eos: bool | None = None,
    separator: Separator = " ",
    others: Others = (),
    provider: Provider = "auto",
    errors: Errors = "strict",
    encoding: str = "utf-8",
    progress: Progress = "auto",
) -> None:
    """Count the minimal pairs whose good sentence is more probable than the bad one.

    keraslm pairs model.onnx blimp/*.jsonl --by term

    keraslm pairs model.onnx blimp/*.jsonl --method one-prefix

    Prints a table with a header. Accuracy is the share of right pairs; a tie counts as wrong. Sentences are
    compared by their probability, their end included.

    Parameters
    ----------
    model
        Model file written by keraslm export.
    files
        Pairs in BLiMP's format (JSONL: sentence_good, sentence_bad, field, linguistics_term, UID, pairID), or two
        columns separated by a tab, the good sentence first; plain or compressed. Default or -: standard input.
    method
        sentence: compare two sentences. one-prefix: two words after the same prefix (JSONL or columns: prefix,
        word_good, word_bad). two-prefix: one word after two prefixes (prefix_good, prefix_bad, word). BLiMP's names,
        such as one_prefix_word_good, are read, too; pairs whose one_prefix_method is false are left out.
    by
        Print one row per field, linguistics term or UID, and one for all pairs.
    rows
        Print one row per pair instead: log-probabilities in nats, their difference, and right, wrong or tie.
    format
        tsv or csv: a table; raw: tsv without quotes around cells that contain quotation marks, for cut and awk.
    eos
        Include the end symbol after each text, or not. Default: include it after sentences, not after words.
    separator
        Between prefix and word, unless there is white space. Default: a blank.
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
    from keraslm.rescoring.pair_files import PairReader
    from keraslm.rescoring.prefixes import opened
    from keraslm.system.progress import progress as shown_progress
    from keraslm.text.rows import row_writer

    row = row_writer(format)
    texts = open_files(files, errors, encoding)
    reader = PairReader(texts.files, method)
    scorer = opened([model, *others], provider)
    with shown_progress("scoring", shows_progress(progress, texts.files, rows), texts) as count:
        scores = count(room.score_pairs(scorer, reader, method, eos, separator), tokens=lambda score: score.tokens)
        if rows:
            print(row(room.HEADER))
            for score in scores:
                print(row(score.cells()))
        else:
            found = room.PairResults([*scores])
    if not rows:
        print(row([by, "pairs", "right", "ties", "accuracy", "oovs", "oov_pairs"]))
        for name, results in [*(found.by(by).items() if by != "all" else ()), ("all", found)]:
            print(row([name, *results.cells()]))
    if reader.left_out:
        print_note(f"{reader.left_out} pairs were left out: they say that the method {method} does not apply to them")
