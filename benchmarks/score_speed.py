"""Scoring speed: keraslm in float32 and int8 against PyTorch eager, whole processes in turn.

    python benchmarks/score_speed.py TEXT [--units 200 650] [--rounds 5]
    python benchmarks/score_speed.py TEXT --workers        # tokens a second of bulk scoring with 1 and with 2 processes

TEXT is a validation text, one sentence a line. Zaremba's network with random weights and a vocabulary of the text's
most frequent 10,000 words. Two tasks:

    batch    every line of the text, each from a state of zeros. keraslm starts from the text, so that splitting,
             sorting and adding up are in its time; PyTorch gets ready ids, in the batches that keraslm makes.
    stream   one line after the other, one token a call, the state carried: what shallow fusion and keyboards do.

PyTorch is `nn.Embedding`, `nn.LSTM`, `nn.Linear`, log-softmax and the choice of the targets under
`torch.inference_mode()`. Each round runs every contestant once; ratios are taken within a round, and the table shows
medians with the lowest and the highest.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

CONTESTANTS = ("keraslm", "keraslm-int8", "pytorch")
VOCAB_SIZE, STREAMED = 10_000, 600


def make_models(text: Path, units: int, folder: Path) -> None:
    """A run of random weights on the text's words, and its model files."""
    import keraslm
    from keraslm.config import Config
    from keraslm.config.shapes import weight_shapes
    from keraslm.runs.create import create_run
    from keraslm.runs.run import Run
    from keraslm.runs.weights import write_weights
    from keraslm.text.files import TextFile
    from keraslm.text.vocabulary import train_tokenizer

    config = Config().replace(units=units, vocab_size=VOCAB_SIZE)
    words = [f"word{number}" for number in range(VOCAB_SIZE)]  # fill the vocabulary up; they are in no text
    tokenizer = train_tokenizer([*TextFile(text), " ".join(words)], config.data)
    run = Run(folder / "run", config, tokenizer)
    create_run(run, "torch", overwrite=False)
    rng = np.random.default_rng(0)
    scale = config.model.init_scale
    shapes = weight_shapes(config.model, tokenizer.vocab_size)
    weights = {name: rng.uniform(-scale, scale, shape).astype(np.float32) for name, shape in shapes.items()}
    write_weights(run.weights_path, weights)
    keraslm.export(run, folder / "float32.onnx")
    keraslm.export(run, folder / "int8.onnx", int8=True, text=text, tolerance=1.0)


def keraslm_times(model: Path, text: Path, provider: str) -> dict[str, float]:
    import keraslm
    from keraslm.text.files import TextFile

    scorer = keraslm.load(model, provider)
    lines = [*TextFile(text)]
    found = {"batch": _rate(lambda part: sum(len(line.ids) for line in scorer.score_lines(part)), lines)}

    def stream(tokens: list[int]) -> int:
        context = scorer.begin()
        for token in tokens:
            _, context = scorer.advance(context, token)
        return len(tokens)

    return found | {"stream": _rate(stream, [*map(int, scorer.tokenizer.encode_text(lines)[:STREAMED])])}


def pytorch_times(model: Path, text: Path, device: str) -> dict[str, float]:
    import torch

    import keraslm
    from keraslm.scoring import scorer as ours
    from keraslm.text.files import TextFile

    scorer = keraslm.load(model, "cpu")
    info, lines = scorer.session.info, [*TextFile(text)]
    network = _network(info.vocab_size, info.hidden_size, info.num_layers, device)
    tokenizer, eos_id = scorer.tokenizer, info.eos_id
    rows = sorted(tokenizer.encode_lines(lines), key=len, reverse=True)
    size = ours._ROWS
    groups = [rows[start : start + size] for start in range(0, len(rows), size)]

    def batch(part: list) -> int:
        count = 0
        for group in part:
            targets = np.full((len(group), len(group[0])), eos_id, np.int64)
            for row, ids in zip(targets, group, strict=True):
                row[: len(ids)] = ids
            inputs = np.roll(targets, 1, axis=1)
            inputs[:, 0] = eos_id
            found, _ = network(torch.from_numpy(inputs), torch.from_numpy(targets), None)
            scores = found.cpu().numpy()
            count += sum(len(scores[i, : len(ids)]) for i, ids in enumerate(group))
        return count

    def stream(tokens: list[int]) -> int:
        state, last = None, eos_id
        for token in tokens:
            found, state = network(torch.tensor([[last]]), torch.tensor([[token]]), state)
            float(found[0, 0])
            last = token
        return len(tokens)

    stream_ids = [*map(int, tokenizer.encode_text(lines)[:STREAMED])]
    return {"batch": _rate(batch, groups), "stream": _rate(stream, stream_ids)}


def _network(vocab_size: int, units: int, num_layers: int, device: str):
    import torch

    embedding, lstm = torch.nn.Embedding(vocab_size, units), torch.nn.LSTM(units, units, num_layers, batch_first=True)
    linear = torch.nn.Linear(units, vocab_size)
    for part in (embedding, lstm, linear):
        part.to(device)

    @torch.inference_mode()
    def call(ids, targets, state):
        ids, targets = ids.to(device), targets.to(device)
        hidden, state = lstm(embedding(ids), state)
        log_probs = torch.log_softmax(linear(hidden), -1)
        return log_probs.gather(2, targets[..., None])[..., 0], state

    return call


def _rate(work, items: list) -> float:
    """Tokens a second, after a tenth of the work to warm up."""
    work(items[: max(1, len(items) // 10)])
    start = time.perf_counter()
    count = work(items)
    return count / (time.perf_counter() - start)


def child(contestant: str, text: Path, folder: Path, provider: str) -> dict[str, float]:
    model = folder / ("int8.onnx" if contestant == "keraslm-int8" else "float32.onnx")
    return (pytorch_times if contestant == "pytorch" else keraslm_times)(model, text, provider)


def run(*arguments: object) -> str:
    environment = {**os.environ, "TF_CPP_MIN_LOG_LEVEL": "2"}
    line = [sys.executable, __file__, *map(str, arguments)]
    done = subprocess.run(line, capture_output=True, text=True, env=environment, check=False)
    if done.returncode:
        raise SystemExit(done.stderr)
    return done.stdout.splitlines()[-1] if done.stdout else ""


def table(units: int, rounds: list[dict[str, dict[str, float]]]) -> list[str]:
    lines = []
    for name in rounds[0]:
        row = f"| 2 x {units} | {name} "
        for task in ("batch", "stream"):
            ratios = [found[name][task] / found["pytorch"][task] for found in rounds]
            rate = statistics.median(found[name][task] for found in rounds)
            row += f"| {rate:,.0f} | {statistics.median(ratios):.2f} ({min(ratios):.2f}, {max(ratios):.2f}) "
        lines.append(row + "|")
    return lines


def workers(text: Path, units: int, rounds: int) -> None:
    """Tokens a second of bulk scoring with one and with two processes, on eight shards of the text."""
    from keraslm.text.files import TextFile

    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        run(text, "--make", units, folder)
        lines = [*TextFile(text)]
        shards = []
        for number in range(8):
            shards.append(folder / f"shard-{number}.txt")
            shards[-1].write_text("".join(f"{line}\n" for line in lines[number::8]), encoding="utf-8")
        ratios = []
        for number in range(rounds):
            seconds = {}
            for count in (1, 2):
                line = [sys.executable, "-c", "from keraslm.cli import main; main()", "score", folder / "float32.onnx"]
                line += ["--workers", count, "--output", folder / f"out-{number}-{count}", *shards]
                start = time.perf_counter()
                subprocess.run([*map(str, line)], check=True, capture_output=True)
                seconds[count] = time.perf_counter() - start
            ratios.append(seconds[1] / seconds[2])
            print(f"2 x {units}, round {number + 1}: 1 worker {seconds[1]:.1f} s, 2 workers {seconds[2]:.1f} s")
        print(
            f"2 x {units}: 2 workers against 1: {statistics.median(ratios):.2f} ({min(ratios):.2f}, {max(ratios):.2f})"
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("text", type=Path)
    parser.add_argument("--units", nargs="+", type=int, default=[200, 650])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--provider", choices=("cpu", "cuda"), default="cpu", help="of every contestant; cuda: no int8")
    parser.add_argument("--workers", action="store_true")
    parser.add_argument("--make", nargs=2, help=argparse.SUPPRESS)
    parser.add_argument("--child", nargs=2, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.make:
        make_models(arguments.text, int(arguments.make[0]), Path(arguments.make[1]))
    elif arguments.child:
        print(json.dumps(child(arguments.child[0], arguments.text, Path(arguments.child[1]), arguments.provider)))
    elif arguments.workers:
        for units in arguments.units:
            workers(arguments.text, units, arguments.rounds)
    else:
        print("| model | | batch, tokens/s | against PyTorch | stream, tokens/s | against PyTorch |")
        print("|---|---|---|---|---|---|")
        for units in arguments.units:
            with tempfile.TemporaryDirectory() as folder:
                run(arguments.text, "--make", units, folder)
                names = [name for name in CONTESTANTS if arguments.provider == "cpu" or name != "keraslm-int8"]
                line = (arguments.text, "--provider", arguments.provider, "--child")
                rounds = [
                    {name: json.loads(run(*line, name, folder)) for name in names} for _ in range(arguments.rounds)
                ]
            print("\n".join(table(units, rounds)), flush=True)


if __name__ == "__main__":
    main()
