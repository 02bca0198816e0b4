"""`keraslm pairs`"""

from itertools import chain
from pathlib import Path
from typing import Annotated, Literal

from cyclopts import Parameter

from keraslm.commands.flags import Others, TextName


def pairs(
    model: Path,
    /,
    *files: TextName,
    by: Literal["all", "field", "term", "uid"] = "all",
    rows: Annotated[bool, Parameter(negative="")] = False,
    others: Others = (),
    provider: Literal["cpu", "cuda", "auto"] = "auto",
    errors: Literal["strict", "replace"] = "strict",
) -> None:
    """Count the minimal pairs whose good sentence is more probable than the bad one.

    keraslm pairs model.onnx blimp/*.jsonl --by term

    Prints tab-separated rows with a header. Accuracy is the share of right pairs; a tie counts as wrong. Sentences are
    compared by their probability, their end included.

    Parameters
    ----------
    model
        Model file, as keraslm export writes it.
    files
        Pairs in BLiMP's format (JSONL: sentence_good, sentence_bad, field, linguistics_term, UID, pairID), or two
        columns separated by a tab, the good sentence first; plain or compressed. Default or -: standard input.
    by
        Print one row per field, linguistics term or UID, and one for all pairs.
    rows
        Print one row per pair instead: log-probabilities in nats, their difference, and right, wrong or tie.
    others
        Further model file with the same tokenizer; can be repeated. The probabilities of all models are averaged.
    provider
        Device that onnxruntime computes on; auto takes CUDA if available.
    errors
        Invalid UTF-8: strict fails with file:line:byte; replace reads U+FFFD.
    """
    from keraslm.rescoring import pairs as room
    from keraslm.rescoring.prefixes import opened
    from keraslm.text.files import STDIN, TextFile

    sentences = chain.from_iterable(room.read_pairs(TextFile(name, errors)) for name in files or (STDIN,))
    scorer = opened([model, *others], provider)
    if rows:
        print(room.HEADER)
        for score in room.score_pairs(scorer, sentences):
            print(score.row())
        return
    found = room.pairs(scorer, sentences)
    print(f"{by}\tpairs\tright\tties\taccuracy\toovs\toov_pairs")
    for name, results in [*(found.by(by).items() if by != "all" else ()), ("all", found)]:
        print(f"{name}\t{results.row()}")
