"""`keraslm pairs`"""

from collections.abc import Iterator
from itertools import chain
from pathlib import Path
from typing import Annotated, Any, Literal

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
    """Minimal pairs: how often is the good sentence more probable than the bad one?

    keraslm pairs model.onnx blimp/*.jsonl --by term

    Prints tab-separated rows with a header. Accuracy is the share of right pairs; a tie counts as wrong. Compared are
    the probabilities of the whole sentences, their ends included.

    Parameters
    ----------
    model
        Model file, as keraslm export writes it.
    files
        Pairs as BLiMP has them (JSONL: sentence_good, sentence_bad, field, linguistics_term, UID, pairID), or two
        columns with a tab between them, the good sentence first; plain or compressed; - or none reads standard input.
    by
        A row for each field, linguistics term or UID, and one for all.
    rows
        A row a pair instead: log-probabilities in nats, their difference, and right, wrong or tie.
    others
        Another model file with the same tokenizer; may be given more than once. Scored is the mean of the probabilities
        that all of them give.
    provider
        Where onnxruntime computes; auto takes CUDA where it is there.
    errors
        Invalid UTF-8: strict stops with file:line:byte; replace goes on with U+FFFD.
    """
    from keraslm.rescoring.pairs import read_pairs, score_pairs
    from keraslm.scoring.scorer import load
    from keraslm.text.files import STDIN, TextFile

    texts = [TextFile(name, errors) for name in files or (STDIN,)]
    scores = score_pairs(load([model, *others], provider), chain.from_iterable(map(read_pairs, texts)))
    for row in _pair_rows(scores) if rows else _tally_rows(scores, by):
        print(row)


def _pair_rows(scores: Any) -> Iterator[str]:
    yield "field\tterm\tuid\tpair\tgood_logprob\tbad_logprob\tdifference\tresult\toovs\tgood\tbad"
    for score in scores:
        pair = score.pair
        good, bad = (text.replace("\t", " ").replace("\n", " ") for text in (pair.good, pair.bad))
        yield (
            f"{pair.field}\t{pair.term}\t{pair.uid}\t{pair.number}\t{score.good.logprob:.6f}\t{score.bad.logprob:.6f}"
            f"\t{score.difference:.6f}\t{score.result}\t{score.oovs}\t{good}\t{bad}"
        )


def _tally_rows(scores: Any, by: str) -> Iterator[str]:
    from keraslm.rescoring.pairs import Tally

    total, tallies = Tally(), dict[str, Tally]()
    for score in scores:
        total.add(score)
        if by != "all":
            tallies.setdefault(getattr(score.pair, by), Tally()).add(score)
    yield f"{by}\tpairs\tright\tties\taccuracy\toovs\toov_pairs"
    for name, tally in [*tallies.items(), ("all", total)]:
        yield (
            f"{name}\t{tally.pairs}\t{tally.right}\t{tally.ties}\t{tally.accuracy:.4f}\t{tally.oovs}\t{tally.oov_pairs}"
        )
