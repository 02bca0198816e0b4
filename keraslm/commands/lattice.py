"""`keraslm lattice`"""

import re
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, Literal

from keraslm.commands.flags import (
    Errors,
    Integer,
    OptionalInteger,
    Others,
    Provider,
    TextName,
    open_files,
    print_note,
)
from keraslm.errors import UsageError

NBEST = 100


def lattice(
    model: Path,
    /,
    *files: TextName,
    format: Literal["slf", "kaldi"] = "slf",
    words: Path | None = None,
    fillers: str | None = None,
    lm_scale: float | None = None,
    acoustic_scale: float | None = None,
    word_penalty: float | None = None,
    mix: float = 1.0,
    recombine: Integer = 4,
    beam: float | None = None,
    max_hypotheses: Integer = 100,
    output_format: Literal["best", "nbest", "slf", "kaldi"] | None = None,
    nbest: OptionalInteger = None,
    others: Others = (),
    output: Path | None = None,
    provider: Provider = "auto",
    errors: Errors = "strict",
    encoding: str = "utf-8",
) -> None:
    """Rescore word lattices, and print the best texts, n-best lists or rescored lattices.

    keraslm lattice model.onnx lattices/*.slf.gz > best.tsv

    keraslm lattice model.onnx lats.txt --format kaldi --words words.txt --lm-scale 10 --nbest 100 > lists.tsv

    keraslm lattice model.onnx lattices --mix 0.5 --output-format slf --output rescored

    The total of a path is acoustic scale * acoustic + LM scale * LM score + word penalty * words. Its LM score is (1 -
    mix) * old + mix * log-probability of the model, the end included. All logarithms are natural.

    Parameters
    ----------
    model
        Model file written by keraslm export.
    files
        Lattices, plain or compressed: files, folders or patterns. Default or -: standard input.
    format
        slf: HTK's format, one lattice per file. kaldi: archives as text, of Lattice or CompactLattice.
    words
        Kaldi's words.txt, if the words of its lattices are integers. They are written as integers, too.
    fillers
        Words that are not words of the text, separated by commas, such as '[noise],<sil>'; besides !NULL, <eps>, <s>,
        </s>, !SENT_START, !SENT_END, !ENTER and !EXIT.
    lm_scale
        Factor of the LM score. Default: lmscale in the header of the lattice, otherwise 1.
    acoustic_scale
        Factor of the acoustic score. Default: acscale in the header of the lattice, otherwise 1.
    word_penalty
        Added per word; below 0 it favours short texts. Default: wdpenalty in the header of the lattice, otherwise 0.
    mix
        Share of the model in the LM score, 0 to 1. The rest is the old score: l= in SLF, minus the graph cost in Kaldi.
    recombine
        Join the hypotheses at a node whose last words are equal, this many words. 0: join equal texts only, which is
        exact, but rarely feasible without limits.
    beam
        Drop hypotheses whose total is more than this below the best one at the same node. Default: no limit.
    max_hypotheses
        Largest number of hypotheses per node. 0: no limit.
    output_format
        best: utterance and text. nbest: a table for keraslm rescore. slf, kaldi: the lattice with nodes split by their
        last words and new LM scores on its arcs. Default: best; nbest if --nbest is given.
    nbest
        Largest number of texts per utterance of nbest. Default: 100.
    others
        Another model file with the same tokenizer, to average probabilities with; may be repeated.
    output
        File to write instead of standard output, gzip if its name ends with .gz. It appears when it is complete. For
        slf, a folder, which receives a file UTTERANCE.slf per lattice.
    provider
        Where onnxruntime computes. auto: CUDA if available, else the CPU.
    errors
        Invalid bytes. strict: stop with file:line:byte; replace: read U+FFFD and count the lines.
    encoding
        Encoding of all files, such as latin-1, cp1252, gb18030 or utf-16.
    """
    from keraslm.lattices import rescore as room
    from keraslm.lattices.kaldi import SYMBOLS, read_words
    from keraslm.system.outputs import check_outputs
    from keraslm.text.files import TextFile, replaced_note

    output_format = output_format or ("best" if nbest is None else "nbest")
    if nbest is not None and output_format != "nbest":
        raise UsageError(f"--nbest needs --output-format nbest, but it is {output_format}.")
    if nbest is not None and nbest < 1:
        raise UsageError(f"--nbest is {nbest}, but must be at least 1.")
    if words and "kaldi" not in (format, output_format):
        raise UsageError("--words needs --format kaldi or --output-format kaldi.")
    texts = open_files(files, errors, encoding)
    read = [model, *others, *([words] if words else ()), *(file.path for file in texts.files)]
    if output_format != "slf":
        check_outputs({"output": output}, read)
    table = read_words(TextFile(words, errors, encoding)) if words else SYMBOLS
    found = room.rescore_lattices(
        [model, *others],
        _noted(room.read_lattices(texts.files, format, table), format == "kaldi" and not words),
        fillers=fillers.split(",") if fillers else (),
        lm_scale=lm_scale,
        acoustic_scale=acoustic_scale,
        word_penalty=word_penalty,
        mix=mix,
        recombine=recombine,
        beam=beam,
        max_hypotheses=max_hypotheses,
        provider=provider,
    )
    if output_format == "slf":
        _write_slf(found, output, read)
    else:
        _write(_rows(found, output_format, format, NBEST if nbest is None else nbest, table), output)
    for file in texts.files:
        if file.replaced:
            print_note(replaced_note(file.name, file.replaced))


def _noted(lattices: Iterable[Any], symbols: bool) -> Iterator[Any]:
    """The lattices; a note if all words of one are integers, where words are expected."""
    for each in lattices:
        spoken = [word for word in each.words if word]
        if symbols and spoken and all(map(str.isdecimal, spoken)):
            print_note(f"{each.utterance}: all words are integers; if they are those of a words.txt, add --words FILE")
            symbols = False
        yield each


def _rows(found: Iterable[Any], output_format: str, format: str, nbest: int, words: Any) -> Iterator[str]:
    """The lines of all utterances."""
    from keraslm.lattices.kaldi import kaldi_rows
    from keraslm.rescoring.hypothesis import Hypothesis
    from keraslm.rescoring.nbest import LM, best_row
    from keraslm.text.rows import row_writer

    row = row_writer("tsv")
    if output_format == "nbest":
        yield row(["utterance", "acoustic", "old_lm", LM, "text"])
    for each in found:
        if output_format == "kaldi":
            yield from kaldi_rows(each, words)
        elif output_format == "best":
            best = Hypothesis(each.utterance, each.best.text)
            yield best_row(best, each.best.total, "kaldi" if format == "kaldi" else "tsv")
        else:
            for path in each.nbest(nbest):
                numbers = (f"{value:.6f}" for value in (path.acoustic, path.old, path.logprob))
                yield row([each.utterance, *numbers, path.text])


def _write(rows: Iterable[str], output: Path | None) -> None:
    from keraslm.report.writer import opened_output

    with opened_output(output) as out:
        for row in rows:
            print(row, file=out)


def _write_slf(found: Iterator[Any], folder: Path | None, read: Sequence[Any]) -> None:
    """Write a file per lattice into a folder, or print the only one."""
    from keraslm.lattices.slf import slf_rows
    from keraslm.system.atomic import make_folder, writing
    from keraslm.system.outputs import check_outputs

    if folder is None:
        first, second = next(found, None), next(found, None)
        if second:
            raise UsageError("There are several lattices, but SLF has one per file: name a folder with --output.")
        _write(slf_rows(first) if first else (), None)
        return
    if folder.exists() and not folder.is_dir():
        raise UsageError(f"{folder}: a file; with --output-format slf, --output is a folder.")
    with writing(folder):
        make_folder(folder)
    written: dict[str, str] = {}
    for each in found:
        name = re.sub(r"[^\w.+-]", "_", each.utterance).lstrip(".") or "_"
        other = written.setdefault(name, each.utterance)
        if other != each.utterance:
            raise UsageError(f"Utterances {other!r} and {each.utterance!r} have the same file name, {name}.slf.")
        path = folder / f"{name}.slf"
        check_outputs({"output": path}, read)
        _write(slf_rows(each), path)
