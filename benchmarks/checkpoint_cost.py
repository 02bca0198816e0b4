"""The cost of checkpoints: seconds per checkpoint, and their share of the training time.

    python benchmarks/checkpoint_cost.py ptb.train.txt --backend torch --presets small medium

Each preset trains on the first lines of the text in a process of its own. The time of a save includes waiting for the
device, copies, digests, writing, flushing, and the removal of an old checkpoint. The median and the training speed give
the share at the default: a checkpoint every 10 minutes and one at the end of each epoch over the whole text.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import time
from pathlib import Path

from common import child

EVERY = 600  # seconds, the default of --checkpoint-minutes


def measure(text: Path, backend: str, preset: str, lines: int, saves: int) -> dict[str, float]:
    """Median seconds per save, bytes per checkpoint, tokens per second, tokens of the whole text."""
    from keraslm.config import DataConfig
    from keraslm.system.backend import select_backend
    from keraslm.text.encoding import Encoder
    from keraslm.text.files import TextFile

    select_backend(backend)
    from keraslm import preset as preset_config
    from keraslm import train
    from keraslm.training.checkpoints import SaveCheckpoints

    seconds, save = [], SaveCheckpoints._save

    def timed(self: SaveCheckpoints, epoch: int, window: int) -> None:
        start = time.perf_counter()
        save(self, epoch, window)
        seconds.append(time.perf_counter() - start)

    SaveCheckpoints._save = timed  # type: ignore[method-assign]
    with tempfile.TemporaryDirectory() as folder:
        short = Path(folder) / "short.txt"
        whole = [*TextFile(text)]
        short.write_text("".join(f"{line}\n" for line in whole[:lines]), encoding="utf-8")
        vocabulary = Path(folder) / "tokenizer.json"  # of the whole text, for the full size of the model
        vocabulary.write_text(Encoder().tokenizer(TextFile(text), DataConfig()).to_json(), encoding="utf-8")
        run = train(
            preset_config(preset),
            train=short,
            tokenizer=vocabulary,
            lowercase=False,
            split_punctuation=False,
            min_count=1,
            run=Path(folder) / "run",
            backend=backend,
            epochs=2,
            checkpoint_windows=1000000,
            verbose=0,
            log=lambda line: None,
        )
        speed = run.epochs()[-1]["tokens_per_second"]
        for number in range(saves):
            train(run=run.path, epochs=3 + number, train=short, backend=backend, verbose=0, log=lambda line: None)
        (newest, *_) = sorted(run.checkpoints_path.iterdir(), reverse=True)
        size = sum(file.stat().st_size for file in newest.iterdir())
    tokens = sum(len(line.split()) + 1 for line in whole)
    return {"seconds": statistics.median(seconds), "bytes": size, "speed": speed, "tokens": tokens}


def row(backend: str, preset: str, found: dict[str, float]) -> str:
    epoch = found["tokens"] / found["speed"]
    saves = 1 + int(epoch // EVERY)
    return (
        f"| {preset} | {backend} | {found['bytes'] / 1e6:,.1f} | {found['seconds']:.2f} | {found['speed']:,.0f} | "
        f"{epoch:,.0f} | {saves} | {saves * found['seconds'] / epoch:.2%} |"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("text", type=Path)
    parser.add_argument("--backend", choices=["jax", "tensorflow", "torch"], default="torch")
    parser.add_argument("--presets", nargs="+", default=["small", "medium"])
    parser.add_argument("--lines", type=int, default=1000)
    parser.add_argument("--saves", type=int, default=3)
    parser.add_argument("--child", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        print(json.dumps(measure(options.text, options.backend, options.child, options.lines, options.saves)))
        return
    print(
        "| preset | backend | MB | seconds per save | tokens per second | seconds per epoch | saves per epoch | share |"
    )
    print("|---|---|---|---|---|---|---|---|")
    for preset in options.presets:
        flags = ["--backend", options.backend, "--lines", options.lines, "--saves", options.saves, "--child", preset]
        print(row(options.backend, preset, child(__file__, options.text, *flags)), flush=True)


if __name__ == "__main__":
    main()
