"""n-best lists: each prefix scored once (`score_sets`), compared with each hypothesis alone (`score_lines`).

    python benchmarks/rescore_speed.py [model.onnx ...] [--lists 40] [--sizes 10 100 1000] [--rounds 3]

Without a model, two are made with 2 x 200 units, random weights and 10,000 words: one with a full and one with an
adaptive softmax. The lists come from `nbest_lists.py`, with sentences of about 20 words drawn by Zipf's law. Each round
runs both ways once on the same lists, each in a process of its own. The times include tokenizer and network, after a
first list that warms up. The Markdown table shows tokens per distinct prefix (an upper bound of the gain from sharing),
the ratios of wall times and of processor times within a round, median (lowest, highest), and the largest difference of
a score.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from pathlib import Path

import numpy as np
from common import child, median, random_run, run_rounds, spread
from nbest_lists import make_lists, zipf_sentences

WORDS, UNITS = 10_000, 200
WAYS = ("alone", "shared")


def make_model(folder: Path, softmax: str) -> Path:
    """A model file with random weights for the words `w0`, `w1`, ..."""
    import keraslm

    cutoffs = (2000, 6000) if softmax == "adaptive" else None
    config = keraslm.Config().replace(num_layers=2, units=UNITS, embedding_dim=UNITS, softmax=softmax, cutoffs=cutoffs)
    run = random_run(folder / softmax, config, [" ".join(f"w{number}" for number in range(WORDS))])
    keraslm.export(run, folder / f"{softmax}.onnx")
    return folder / f"{softmax}.onnx"


def lists_of(count: int, size: int) -> list[list[str]]:
    """The texts of `count` lists."""
    return [[text for _, text in found] for found in make_lists(zipf_sentences(count, WORDS), size)]


def measure(model: str, way: str, count: int, size: int) -> dict:
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


def row(model: Path, count: int, size: int, rounds: int) -> str:
    """The table row of one model and one size of lists."""

    def run(way: str) -> dict:
        return child(__file__, "--child", model, way, count, size)

    found = run_rounds(f"{model.stem}, lists of {size}", WAYS, rounds, run, required=True)

    def ratios(clock: str) -> str:
        return spread([alone[clock] / shared[clock] for alone, shared in zip(*found.values(), strict=True)])

    lists = lists_of(count, size)
    hypotheses = sum(map(len, lists))
    seconds = {way: median(found[way], "wall") for way in WAYS}
    difference = np.abs(np.subtract(*(found[way][0]["scores"] for way in WAYS))).max()
    return (
        f"| {model.stem} | {count} x {hypotheses / count:.0f} | {_tokens_per_prefix(lists):.2f} "
        f"| {1000 * seconds['alone'] / hypotheses:.2f} | {1000 * seconds['shared'] / hypotheses:.2f} "
        f"| {ratios('wall')} | {ratios('cpu')} | {difference:.0e} |"
    )


def _tokens_per_prefix(lists: list[list[str]]) -> float:
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
        print(json.dumps(measure(model, way, int(count), int(size))))
        return
    with tempfile.TemporaryDirectory() as folder:
        models = arguments.models or [make_model(Path(folder), softmax) for softmax in ("full", "adaptive")]
        print(
            "| model | lists | tokens per prefix | ms per hypothesis, alone | shared | alone / shared | processor "
            "| difference |"
        )
        print("|---|---|---|---|---|---|---|---|")
        for model in models:
            for size in arguments.sizes:
                print(row(model, arguments.lists, size, arguments.rounds), flush=True)


if __name__ == "__main__":
    main()
