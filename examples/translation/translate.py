"""Translate lines of text with an exported network: NumPy, onnxruntime, tokenizers, and search.py beside this file.

    python translate.py FOLDER < source.txt > target.txt
    python translate.py FOLDER --beam 10 --n-best 3 < source.txt        # number of the line ||| translation ||| score

Standard input is UTF-8; LF or CR LF ends a line. An empty line has an empty translation. The translation of n source
tokens has at most 2 * n + 10 tokens; both numbers include the end symbol.
"""

import argparse
import hashlib
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import onnxruntime
import tokenizers
from search import Arrays, Hypothesis, Search, replace_unknown, search_batches

SEAL = 81  # bytes of the last metadata entry of a file, which ends with the SHA-256 of all bytes before the entry


class Translator:
    """An exported network.

    Args:
        folder: with encoder.onnx and step.onnx.
        threads: number of threads; None means one per core.

    Raises:
        ValueError: a file cannot be read or is damaged, or the files are of two exports.

    Example:
        >>> Translator("exported").translate(["Two dogs play ."], Search(beam=2))
        [[('Zwei Hunde spielen .', -0.31), ('Zwei Hunde .', -0.58)]]
    """

    def __init__(self, folder: str | Path, threads: int | None = None):
        files = [_read(Path(folder, name)) for name in ("encoder.onnx", "step.onnx")]
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads or 0
        self._encoder, self._step = (onnxruntime.InferenceSession(data, options) for data in files)
        metadata = self._encoder.get_modelmeta().custom_metadata_map
        if metadata.get("step_sha256") != hashlib.sha256(files[1]).hexdigest():
            raise ValueError(f"{folder}: encoder.onnx and step.onnx are not of one export. Export the network again.")
        texts = (metadata[f"{name}_tokenizer"] for name in ("source", "target"))
        self._source, self._target = map(tokenizers.Tokenizer.from_str, texts)
        self._eos, self._unknown = int(metadata["eos_id"]), metadata["target_unk"]
        self._reverse, self._attention = metadata["reverse_source"] == "true", metadata["attention"] != "none"
        self._inputs = [x.name for x in self._step.get_inputs()]

    def translate(
        self, lines: Sequence[str], search: Search, batch_size: int = 64, keep_unknown: bool = False
    ) -> list[list[tuple[str, float]]]:
        """Return the translations of each line and their scores, best first: at most `search.beam`.

        Args:
            batch_size: number of sentences that are searched at once.
            keep_unknown: whether to keep unknown words. Otherwise each is replaced by the source word with the largest
                weight, if the network has attention. A vocabulary of subwords has no unknown words.
        """
        found, kept = [[("", 0.0)] for _ in lines], [n for n, line in enumerate(lines) if line.strip()]
        encoded = self._source.encode_batch([lines[n] for n in kept])  # with the end symbol
        sentences = [np.array(e.ids[-2::-1] + e.ids[-1:] if self._reverse else e.ids) for e in encoded]
        size = max(1, min(batch_size, len(kept)))
        results = search_batches(self._encode, self._call, sentences, self._eos, search, size)
        for n, encoding, hypotheses in zip(kept, encoded, results, strict=True):
            words = [lines[n][start:end] for start, end in encoding.offsets[:-1]]
            words = [] if keep_unknown else words[::-1] if self._reverse else words
            found[n] = [(self._text(hypothesis, words), hypothesis.score) for hypothesis in hypotheses]
        return found

    def _encode(self, source: np.ndarray, lengths: np.ndarray) -> tuple[Arrays, Arrays]:
        found = tuple(self._encoder.run(None, {"source": source.astype(np.int64), "lengths": lengths}))
        return (found[:3], found[3:]) if self._attention else ((), found)

    def _call(self, tokens: np.ndarray, memory: Arrays, state: Arrays) -> tuple[np.ndarray, Arrays, np.ndarray | None]:
        inputs = dict(zip(self._inputs, (tokens, *memory, *state), strict=True))
        log_probs, *after = self._step.run(None, inputs)
        return log_probs, tuple(after[: len(state)]), after[-1] if self._attention else None

    def _text(self, hypothesis: Hypothesis, source: list[str]) -> str:
        if self._target.decoder is not None:  # subwords
            return self._target.decode(hypothesis.tokens, skip_special_tokens=False)
        words = [str(self._target.id_to_token(token)) for token in hypothesis.tokens]
        return " ".join(replace_unknown(words, hypothesis.positions, source, self._unknown))


def _read(path: Path) -> bytes:
    try:
        data = path.read_bytes()
    except OSError as error:
        raise ValueError(f"{path}: cannot be read ({error.strerror}). Give the folder of an export.") from error
    if data[-64:] != hashlib.sha256(data[:-SEAL]).hexdigest().encode():
        raise ValueError(
            f"{path}: damaged, or not of an export: its checksum does not match. Export the network again."
        )
    return data


def read_lines(data: bytes) -> list[str]:
    """The lines of a UTF-8 text, without their ends; a ValueError names the first line that is not UTF-8."""
    try:
        lines = data.decode("utf-8-sig").split("\n")
    except UnicodeDecodeError as error:
        number = error.object.count(b"\n", 0, error.start) + 1
        raise ValueError(f"standard input, line {number}: not UTF-8. Convert the text to UTF-8.") from error
    return [line.removesuffix("\r") for line in (lines if lines[-1] else lines[:-1])]


def at_least_1(text: str) -> int:
    if int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text}, but must be at least 1")
    return int(text)


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Translate standard input, one sentence per line.")
    add = parser.add_argument
    add("folder", help="folder with encoder.onnx and step.onnx")
    add("--beam", type=at_least_1, help="hypotheses per sentence; 1: greedy search (default 5; with --sample 1)")
    add("--length-penalty", type=float, default=1.0, help="larger values favour long translations (default 1)")
    add("--n-best", type=at_least_1, help="write the best N per line as: number ||| translation ||| score")
    add("--sample", action="store_true", help="draw a translation at random instead of searching for the best")
    add("--temperature", type=float, default=1.0, help="with --sample: smaller values draw likelier words (default 1)")
    add("--seed", type=int, default=0, help="with --sample: seed of the draws (default 0)")
    add("--batch-size", type=at_least_1, default=64, help="sentences that are searched at once (default 64)")
    add("--keep-unknown", action="store_true", help="keep unknown words instead of copying words of the source")
    found = parser.parse_args(arguments)
    found.beam = found.beam or (1 if found.sample else 5)
    if found.sample and not found.temperature > 0:
        parser.error(f"argument --temperature: {found.temperature:g}, but must be above 0")
    if (found.n_best or 1) > found.beam:
        parser.error(f"argument --n-best: {found.n_best}, but must be at most --beam, {found.beam}")
    return found


def main(arguments: Sequence[str] | None = None) -> int:
    given = parse(arguments)
    try:
        search = Search(given.beam, given.length_penalty, given.temperature if given.sample else 0.0, given.seed)
        translator, lines = Translator(given.folder), read_lines(sys.stdin.buffer.read())
        found = translator.translate(lines, search, given.batch_size, given.keep_unknown)
        with open(sys.stdout.fileno(), "w", encoding="utf-8", newline="\n", closefd=False) as output:
            for number, best in enumerate(found):
                for text, score in best[: given.n_best or 1]:
                    output.write(f"{number} ||| {text} ||| {score:.6f}\n" if given.n_best else f"{text}\n")
    except (OSError, ValueError) as error:
        print(f"translate.py: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
