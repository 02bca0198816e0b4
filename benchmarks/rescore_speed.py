"""n-best lists: every prefix once (`score_sets`) against every hypothesis alone (`score_lines`), processes in turn.

    python benchmarks/rescore_speed.py [model.onnx ...] [--lists 40] [--sizes 10 100 1000] [--rounds 3]

Without a model, two are made: 2 x 200 units of random weights and 10,000 words, with a full and with an adaptive
softmax. The lists are those of `nbest_lists.py`, of sentences of some 20 words drawn by Zipf's law. Each round runs
both ways once, one after the other, on the same lists; the clock runs over tokenizer and network, after a first list
that warms up. Printed is a table in Markdown: tokens a fed prefix (what sharing can bring at most), the ratios of wall
times and of processor times within a round, median (lowest, highest), and the largest difference of a score.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from nbest_lists import make_lists, zipf_sentences

WORDS, UNITS = 10_000, 200
WAYS = ("alone", "shared")


def make_model(folder: Path, softmax: str) -> Path:
    """A model file of random weights whose words are `w0`, `w1`, ..."""
    import keraslm
    from keraslm.config import Config, DataConfig
    from keraslm.config.shapes import weight_shapes
    from keraslm.runs.create import create_run
    from keraslm.runs.run import Run
    from keraslm.runs.weights import write_weights
    from keraslm.text.vocabulary import train_tokenizer

    changes = {"cutoffs": (2000, 6000)} if softmax == "adaptive" else {}
    config = Config().replace(num_layers=2, units=UNITS, embedding_dim=UNITS, softmax=softmax, **changes)
    tokenizer = train_tokenizer([" ".join(f"w{number}" for number in range(WORDS))], DataConfig())
    with contextlib.chdir(folder):  # runs/latest is made there
        run = Run(folder / softmax, config, tokenizer)
        create_run(run, "tensorflow", overwrite=False)
    rng, shapes = np.random.default_rng(0), weight_shapes(config.model, tokenizer.vocab_size)
    weights = {name: rng.uniform(-0.1, 0.1, shape).astype(np.float32) for name, shape in shapes.items()}
    write_weights(run.weights_path, weights)
    keraslm.export(run, folder / f"{softmax}.onnx")
    return folder / f"{softmax}.onnx"


def lists_of(count: int, size: int) -> list[list[str]]:
    """The texts of `count` lists."""
    return [[text for _, text in found] for found in make_lists(zipf_sentences(count, WORDS), size)]


def contestant(model: str, way: str, count: int, size: int) -> dict:
    """Score the lists in this process."""
    import keraslm

    lists = lists_of(count, size)
    scorer = keraslm.load(model, "cpu")
    list(scorer.score_lines(lists[0]))
    wall, processor = time.perf_counter(), time.process_time()
    if way == "alone":
        scores = [line.logprob for line in scorer.score_lines(text for texts in lists for text in texts)]
    else:
        scores = [line.logprob for lines in keraslm.score_sets(scorer, lists) for line in lines]
    return {"wall": time.perf_counter() - wall, "cpu": time.process_time() - processor, "scores": scores}


def run(*child: object) -> dict:
    """What a process of its own measured."""
    command = [sys.executable, __file__, "--child", *map(str, child)]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    return json.loads(done.stdout.splitlines()[-1])


def row(model: Path, count: int, size: int, rounds: int) -> str:
    """The row of one model and one size of lists."""
    found: dict[str, list[dict]] = {way: [] for way in WAYS}
    for number in range(rounds):
        for way in WAYS:
            print(f"{model.stem}, lists of {size}, round {number + 1} of {rounds}: {way}", file=sys.stderr)
            found[way].append(run(model, way, count, size))

    def ratios(clock: str) -> str:
        each = [alone[clock] / shared[clock] for alone, shared in zip(*found.values(), strict=True)]
        return f"{statistics.median(each):.2f} ({min(each):.2f}, {max(each):.2f})"

    lists = lists_of(count, size)
    hypotheses = sum(map(len, lists))
    seconds = {way: statistics.median(each["wall"] for each in found[way]) for way in WAYS}
    difference = np.abs(np.subtract(*(found[way][0]["scores"] for way in WAYS))).max()
    return (
        f"| {model.stem} | {count} x {hypotheses / count:.0f} | {_tokens_a_prefix(lists):.2f} "
        f"| {1000 * seconds['alone'] / hypotheses:.2f} | {1000 * seconds['shared'] / hypotheses:.2f} "
        f"| {ratios('wall')} | {ratios('cpu')} | {difference:.0e} |"
    )


def _tokens_a_prefix(lists: list[list[str]]) -> float:
    words = [[text.split() for text in texts] for texts in lists]
    tokens = sum(len(text) + 1 for texts in words for text in texts)
    prefixes = ({tuple(text[:end]) for text in texts for end in range(len(text) + 1)} for texts in words)
    return tokens / sum(map(len, prefixes))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", nargs="*", type=Path)
    parser.add_argument("--lists", type=int, default=40)
    parser.add_argument("--sizes", nargs="+", type=int, default=[10, 100, 1000])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--child", nargs=4, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.child:
        model, way, count, size = arguments.child
        print(json.dumps(contestant(model, way, int(count), int(size))))
        return
    with tempfile.TemporaryDirectory() as folder:
        models = arguments.models or [make_model(Path(folder), softmax) for softmax in ("full", "adaptive")]
        print(
            "| model | lists | tokens a prefix | ms a hypothesis alone | shared | alone / shared | processor | differ |"
        )
        print("|---|---|---|---|---|---|---|---|")
        for model in models:
            for size in arguments.sizes:
                print(row(model, arguments.lists, size, arguments.rounds), flush=True)


if __name__ == "__main__":
    main()
