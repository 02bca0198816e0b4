"""Validation perplexity of PTB against minutes of training: presets `small` and `cpu-hour`, and PyTorch's example.

    python benchmarks/time_to_quality.py pytorch PTB_FOLDER pytorch.metrics.jsonl [--epochs 40]
    python benchmarks/time_to_quality.py seconds PTB_FOLDER [--rounds 3]
    python benchmarks/time_to_quality.py picture time_to_quality.png

A perplexity after an epoch does not depend on the machine, but the seconds per epoch do. So the perplexities come from
complete recorded trainings, and the seconds from rounds in which each contestant trains for one epoch, one after the
other; an epoch includes its validation. `pytorch` is the word language model of github.com/pytorch/examples with its
default settings: 2 x 200 units, dropout 0.2, windows of 20 x 35, SGD at rate 20, which is divided by 4 after each epoch
without a better validation loss, gradients clipped to a norm of 0.25.
"""

from __future__ import annotations

import argparse
import gzip
import json
import math
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from common import KERASLM

FOLDER = Path(__file__).resolve().parent
SECONDS = FOLDER / "time_to_quality.json"
RECORDED = {  # contestant: its perplexities
    "keraslm small, bfloat16": FOLDER.parent / "examples/ptb/small-torch-bfloat16.metrics.jsonl",
    "keraslm cpu-hour, bfloat16": FOLDER.parent / "examples/ptb/cpu-hour.metrics.jsonl",
    "PyTorch's word language model": FOLDER / "time_to_quality.pytorch.metrics.jsonl",
}


def corpus(folder: Path):
    """Ids of the training and the validation text, with `<eos>` after each line."""
    import torch

    def words(name: str) -> list[str]:
        path = next(folder.glob(f"*{name}*"))
        text = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
        return [word for line in text.decode().splitlines() for word in [*line.split(), "<eos>"]]

    train, valid = words("train"), words("valid")
    ids = {word: number for number, word in enumerate(dict.fromkeys(train + valid))}
    return len(ids), *(torch.tensor([ids[word] for word in text]) for text in (train, valid))


def pytorch(folder: Path, log: Path, epochs: int) -> None:
    """Train PyTorch's example and append one line per epoch to the log."""
    import torch
    from torch import nn

    size, train, valid = corpus(folder)
    torch.manual_seed(1111)

    class Network(nn.Module):
        def __init__(self):
            super().__init__()
            self.drop, self.encoder = nn.Dropout(0.2), nn.Embedding(size, 200)
            self.rnn, self.decoder = nn.LSTM(200, 200, 2, dropout=0.2), nn.Linear(200, size)
            for table in (self.encoder.weight, self.decoder.weight):
                nn.init.uniform_(table, -0.1, 0.1)
            nn.init.zeros_(self.decoder.bias)

        def forward(self, ids, state):
            outputs, state = self.rnn(self.drop(self.encoder(ids)), state)
            return nn.functional.log_softmax(self.decoder(self.drop(outputs)).view(-1, size), dim=1), state

    network, loss_of, rate, best = Network(), nn.NLLLoss(), 20.0, math.inf
    rows = {
        True: train[: len(train) // 20 * 20].view(20, -1).t(),
        False: valid[: len(valid) // 10 * 10].view(10, -1).t(),
    }

    def windows(training: bool):
        """Loss and number of steps of each window; `state` goes from one to the next."""
        ids = rows[training].contiguous()
        state = tuple(torch.zeros(2, ids.shape[1], 200) for _ in range(2))
        for start in range(0, len(ids) - 1, 35):
            length = min(35, len(ids) - 1 - start)
            log_p, state = network(ids[start : start + length], state)
            state = tuple(part.detach() for part in state)
            yield loss_of(log_p, ids[start + 1 : start + 1 + length].reshape(-1)), length

    for epoch in range(1, epochs + 1):
        begun = time.perf_counter()
        network.train()
        for loss, _ in windows(True):
            network.zero_grad()
            loss.backward()
            nn.utils.clip_grad_norm_(network.parameters(), 0.25)
            with torch.no_grad():
                for weights in network.parameters():
                    weights.add_(weights.grad, alpha=-rate)
        network.eval()
        with torch.no_grad():
            costs = [(float(loss) * length, length) for loss, length in windows(False)]
        cost = sum(cost for cost, _ in costs) / sum(length for _, length in costs)
        row = {"epoch": epoch, "val_perplexity": math.exp(cost), "learning_rate": rate}
        with log.open("a") as file:
            file.write(json.dumps({**row, "seconds": round(time.perf_counter() - begun, 3)}) + "\n")
        best, rate = (cost, rate) if cost < best else (best, rate / 4.0)


def one_epoch(name: str, folder: Path) -> float:
    """The seconds of one epoch, in a process of its own."""
    with tempfile.TemporaryDirectory() as work:
        log = Path(work, "metrics.jsonl")
        if name.startswith("keraslm"):
            preset = name.split()[1].rstrip(",")
            options = ["--preset", preset, "--dtype", "bfloat16", "--backend", "torch", "--epochs", "1"]
            command = [*KERASLM, "train", "--data", str(folder), "--run", f"{work}/run", *options]
            log = Path(work, "run/metrics.jsonl")
        else:
            command = [sys.executable, __file__, "pytorch", str(folder), str(log), "--epochs", "1"]
        subprocess.run(command, check=True, capture_output=True, cwd=work)
        return read(log)[0]["seconds"]


def seconds(folder: Path, rounds: int) -> None:
    """Measure the seconds per epoch of every contestant and write them to `SECONDS`."""
    found: dict[str, list[float]] = {name: [] for name in RECORDED}
    for number in range(rounds):
        for name, values in found.items():
            values.append(one_epoch(name, folder))
            print(f"round {number + 1}: {name}: {values[-1]:.1f} s", file=sys.stderr)
    SECONDS.write_text(json.dumps(found, indent=1) + "\n")


def read(path: Path) -> list[dict]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def picture(path: Path) -> None:
    """Draw the best perplexity so far of each contestant, and print the minutes that it needs for some perplexities."""
    from keraslm.runs.metrics import perplexity_axes

    figure, axes = perplexity_axes()
    marks = (150, 130, 120, 110, 100, 90, 80)
    print("| | seconds per epoch | " + " | ".join(map(str, marks)) + " | best |")
    print("|---" * (len(marks) + 3) + "|")
    for name, log in RECORDED.items():
        own = json.loads(SECONDS.read_text())[name]
        minutes = statistics.median(own) / 60.0
        values = [row["val_perplexity"] for row in read(log)]
        best = [min(values[: n + 1]) for n in range(len(values))]
        axes.plot([minutes * (n + 1) for n in range(len(best))], best, "o-", markersize=3, label=name)
        reached = [next((n + 1 for n, value in enumerate(best) if value <= mark), None) for mark in marks]
        cells = [f"{minutes * n:.1f}" if n else "" for n in reached]
        print(f"| {name} | {statistics.median(own):.0f} | {' | '.join(cells)} | {best[-1]:.1f} |")
    axes.set_xlabel("minutes on two cores")
    axes.legend(frameon=False)
    figure.savefig(path, dpi=150, format="png")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    actions = parser.add_subparsers(dest="action", required=True)
    train = actions.add_parser("pytorch")
    train.add_argument("folder", type=Path)
    train.add_argument("log", type=Path)
    train.add_argument("--epochs", type=int, default=40)
    measure = actions.add_parser("seconds")
    measure.add_argument("folder", type=Path)
    measure.add_argument("--rounds", type=int, default=3)
    actions.add_parser("picture").add_argument("path", type=Path)
    arguments = parser.parse_args()
    if arguments.action == "pytorch":
        pytorch(arguments.folder.resolve(), arguments.log.resolve(), arguments.epochs)
    elif arguments.action == "seconds":
        seconds(arguments.folder.resolve(), arguments.rounds)
    else:
        picture(arguments.path)


if __name__ == "__main__":
    main()
