"""Word lattices rescored with a recurrent model: from files or values to expanded lattices."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import chain
from pathlib import Path
from typing import Any

from keraslm import arguments
from keraslm.errors import UsageError
from keraslm.lattices.expansion import MAX_HYPOTHESES, RECOMBINE, Expansion, Search
from keraslm.lattices.kaldi import SYMBOLS, Words, read_kaldi, read_words
from keraslm.lattices.lattice import FILLERS, Lattice, once
from keraslm.lattices.rescored import RescoredLattice, Weights
from keraslm.lattices.slf import read_slf
from keraslm.rescoring.prefixes import Model, opened
from keraslm.scoring.scorer import Scorer
from keraslm.scoring.words import WordEncoder
from keraslm.text.files import ERRORS, TextFile, TextFiles
from keraslm.text.paths import find_file

FORMATS = ("slf", "kaldi")


def rescore_lattices(
    model: Model,
    files: str | Path | Iterable[str | Path | TextFile | Lattice],
    *,
    format: str = "slf",
    words: str | Path | None = None,
    fillers: Iterable[str] = (),
    lm_scale: float | None = None,
    acoustic_scale: float | None = None,
    word_penalty: float | None = None,
    mix: float = 1.0,
    recombine: int = RECOMBINE,
    beam: float | None = None,
    max_hypotheses: int = MAX_HYPOTHESES,
    provider: str = "auto",
    errors: str = "strict",
    encoding: str = "utf-8",
) -> Iterator[RescoredLattice]:
    """Rescore word lattices; the state of the model is kept per path.

    Args:
        model: a model file, several with the same tokenizer (their probabilities are averaged), or a `Scorer`.
        files: files, folders or patterns; or lattices.
        format: `"slf"`, HTK's format with one lattice per file, or `"kaldi"`, archives as text.
        words: Kaldi's `words.txt`, if words are integers.
        fillers: words that are no words of the text, such as `"[noise]"`; besides `!NULL`, `<eps>`, `<s>`, `</s>`,
            `!SENT_START`, `!SENT_END`, `!ENTER` and `!EXIT`.
        lm_scale, acoustic_scale, word_penalty: factors of the LM score and of the acoustic score, and what is added
            per word. None means those in the header of the lattice; without them 1, 1 and 0.
        mix: share of the model in the LM score, 0 to 1; the rest is the old score.
        recombine: hypotheses at a node whose last words are equal are joined; this many words. 0 joins equal texts
            only, which is exact, but rarely feasible without limits.
        beam: drop hypotheses whose total is this much below the best one at the same node. None means no limit.
        max_hypotheses: largest number of hypotheses per node. 0 means no limit.
        provider: `"cpu"`, `"cuda"` or `"auto"`.
        errors: `"strict"` fails at invalid bytes; `"replace"` reads them as U+FFFD.
        encoding: of the files.

    Yields:
        One `RescoredLattice` per lattice, in order.

    Raises:
        UsageError: an argument is out of range, or there are more hypotheses than memory can hold.
        TextError: a malformed lattice, with file and line.

    Example:
        >>> for found in keraslm.rescore_lattices("model.onnx", "lattices/*.slf.gz", mix=0.5):
        ...     print(found.utterance, found.best.text, found.best.total)
    """
    arguments.choice(errors, "errors", ERRORS)
    arguments.choice(format, "format", FORMATS)
    arguments.not_empty(files=files, words=words)
    weights, search = Weights(lm_scale, acoustic_scale, word_penalty, mix), Search(recombine, beam, max_hypotheses)
    silent = FILLERS | {*arguments.texts(fillers, "fillers")}
    if words is not None and format != "kaldi":
        raise UsageError('`words` needs `format="kaldi"`; the words of SLF are no integers.')
    table = SYMBOLS if words is None else read_words(TextFile(find_file(words), errors, encoding))
    own: Iterable[Any] = [files] if isinstance(files, str | Path) else files
    each = arguments.each(own, "files", "paths or lattices")
    parts = (_lattices(file, place, format, table, errors, encoding) for file, place in each)
    scorer = opened(model, provider)
    if not isinstance(scorer, Scorer):
        raise UsageError("`model` is a mixture with an n-gram model, which cannot rescore lattices. Pass its `scorer`.")
    session = scorer.session
    encode = WordEncoder(session.tokenizer)
    return (
        Expansion(lattice, session, encode, weights.of(lattice), search, silent).run()
        for lattice in once(chain.from_iterable(parts))
    )


def _lattices(file: Any, place: str, format: str, words: Words, errors: str, encoding: str) -> Iterable[Lattice]:
    if isinstance(file, Lattice):
        return [file]
    files = [file] if isinstance(file, TextFile) else TextFiles([arguments.path(file, place)], errors, encoding).files
    return read_lattices(files, format, words)


def read_lattices(files: Iterable[TextFile], format: str = "slf", words: Words = SYMBOLS) -> Iterator[Lattice]:
    """The lattices of files, in order."""
    for file in files:
        yield from read_kaldi(file, words) if format == "kaldi" else [read_slf(file)]
