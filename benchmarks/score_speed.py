"""Scoring speed of keraslm in float32 and int8, compared with PyTorch eager.

    python benchmarks/score_speed.py TEXT [--units 200 650] [--rounds 5]
    python benchmarks/score_speed.py TEXT --workers        # bulk scoring with 1 and with 2 processes
    python benchmarks/score_speed.py TEXT --threads 1 2    # sizes of the files, and one text at a time, by threads

TEXT is a validation text with one sentence per line. The network is Zaremba's with random weights and a vocabulary of
the 10,000 most frequent words of the text. Three tasks:

    batch    every line of the text, each from a state of zeros. The time of keraslm includes splitting, sorting and
             summing; PyTorch gets ids in the same batches as the network of keraslm.
    line     200 lines, one per call.
    stream   one line after the other, one token per call, with the state carried, as in shallow fusion and keyboards.
             Beside it stands the rate at which the weights of a token could be read.

PyTorch is `nn.Embedding`, `nn.LSTM`, `nn.Linear`, log-softmax and a gather of the targets under
`torch.inference_mode()`. Each round runs every contestant once, in a process of its own. Ratios are taken within a
round; the table shows median, lowest and highest.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import tempfile
import time
from pathlib import Path

import numpy as np
from common import KERASLM, child, median, random_run, run_rounds, spread

CONTESTANTS = ("keraslm", "keraslm-int8", "pytorch")
VOCAB_SIZE, STREAMED, LINES = 10_000, 600, 200
ROWS = 64  # lines per batch, as in keraslm


def make_models(text: Path, units: int, folder: Path) -> None:
    """Write the two model files of a run with random weights for the words of the text."""
    import keraslm
    from keraslm.text.files import TextFile

    config = keraslm.Config().replace(units=units, vocab_size=VOCAB_SIZE)
    words = [f"word{number}" for number in range(VOCAB_SIZE)]  # fill the vocabulary; they are in no text
    run = random_run(folder / "run", config, [*TextFile(text), " ".join(words)])
    keraslm.export(run, folder / "float32.onnx")
    keraslm.export(run, folder / "int8.onnx", int8=True, text=text, tolerance=1.0)


def keraslm_times(model: Path, text: Path, provider: str) -> dict[str, float]:
    import keraslm
    from keraslm.text.files import TextFile

    scorer = keraslm.load(model, provider)
    lines = [*TextFile(text)]
    batch = _rate(lambda part: sum(len(line.ids) for line in scorer.score_lines(part)), lines)
    return {"batch": batch, **_alone(scorer, lines), "bound": streaming_bound(model)}


def threaded_times(model: Path, text: Path, threads: int) -> dict[str, float]:
    import keraslm
    from keraslm.text.files import TextFile

    return _alone(keraslm.load(model, "cpu", threads), [*TextFile(text)])


def _alone(scorer, lines: list[str]) -> dict[str, float]:
    """The tasks `line` and `stream`."""

    def stream(tokens: list[int]) -> int:
        context = scorer.begin()
        for token in tokens:
            _, context = scorer.advance(context, token)
        return len(tokens)

    ids = scorer.tokenizer.encode_block("".join(f"{line}\n" for line in lines))[:STREAMED]
    line_by_line = _rate(lambda part: sum(len(scorer.logprobs([line])[0]) for line in part), lines[:LINES])
    return {"stream": _rate(stream, [*map(int, ids)]), "line": line_by_line}


def streaming_bound(model: Path) -> float:
    """Tokens per second at which every weight that a token needs is read once, all but the embedding table.

    The rate of reading is that of a dot product, with all threads, of arrays with as many bytes as the weights.
    """
    import onnx

    graph = onnx.load(model).graph
    looked_up = {node.input[0] for node in graph.node if node.op_type == "Gather"}
    size = sum(len(weight.raw_data) for weight in graph.initializer if weight.name not in looked_up)
    array, times = np.ones(size // 4, np.float32), []
    for _ in range(100):
        start = time.perf_counter()
        array.dot(array)
        times.append(time.perf_counter() - start)
    return 1.0 / float(np.median(times))


def pytorch_times(model: Path, text: Path, device: str) -> dict[str, float]:
    import torch

    import keraslm
    from keraslm.text.files import TextFile

    scorer = keraslm.load(model, "cpu")
    info, lines = scorer.session.info, [*TextFile(text)]
    network = _network(info.vocab_size, info.hidden_size, info.num_layers, device)
    tokenizer, eos_id = scorer.tokenizer, info.eos_id
    rows = sorted(tokenizer.encode_lines(lines), key=len, reverse=True)
    groups = [rows[start : start + ROWS] for start in range(0, len(rows), ROWS)]

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

    stream_ids = [*map(int, tokenizer.encode_block("".join(f"{line}\n" for line in lines))[:STREAMED])]
    single = [[ids] for ids in tokenizer.encode_lines(lines[:LINES])]
    return {"batch": _rate(batch, groups), "stream": _rate(stream, stream_ids), "line": _rate(batch, single)}


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
    """Tokens per second, after a warm-up with a tenth of the items."""
    work(items[: max(1, len(items) // 10)])
    start = time.perf_counter()
    count = work(items)
    return count / (time.perf_counter() - start)


def measure(contestant: str, text: Path, folder: Path, provider: str) -> dict[str, float]:
    precision, _, threads = contestant.rpartition(" x ")
    if precision:
        return threaded_times(folder / f"{precision}.onnx", text, int(threads))
    model = folder / ("int8.onnx" if contestant == "keraslm-int8" else "float32.onnx")
    return (pytorch_times if contestant == "pytorch" else keraslm_times)(model, text, provider)


def rows(text: Path, units: int, rounds: int, provider: str) -> list[str]:
    """The table rows of one size of network."""
    names = [name for name in CONTESTANTS if provider == "cpu" or name != "keraslm-int8"]
    with tempfile.TemporaryDirectory() as folder:
        child(__file__, text, "--make", units, folder)

        def run(name: str) -> dict:
            return child(__file__, text, "--provider", provider, "--child", name, folder)

        found = run_rounds(f"2 x {units}", names, rounds, run, required=True)
    lines = []
    for name, results in found.items():
        row = f"| 2 x {units} | {name} "
        for task in ("batch", "line", "stream"):
            ratios = [own[task] / other[task] for own, other in zip(results, found["pytorch"], strict=True)]
            row += f"| {median(results, task):,.0f} | {spread(ratios)} "
        bound = f"{median(results, 'bound'):,.0f}" if "bound" in results[0] else ""
        lines.append(f"{row}| {bound} |")
    return lines


def threads_rows(text: Path, units: int, rounds: int, threads: list[int]) -> list[str]:
    """The table rows of one size of network, by precision and number of threads."""
    names = [f"{precision} x {count}" for precision in ("float32", "int8") for count in threads]
    with tempfile.TemporaryDirectory() as folder:
        child(__file__, text, "--make", units, folder)
        sizes = {path.stem: path.stat().st_size / 1e6 for path in Path(folder).glob("*.onnx")}
        found = run_rounds(
            f"2 x {units}", names, rounds, lambda name: child(__file__, text, "--child", name, folder), required=True
        )
    lines = []
    for name, results in found.items():
        precision, _, count = name.rpartition(" x ")
        rates = " | ".join(f"{median(results, task):,.0f}" for task in ("stream", "line"))
        lines.append(f"| 2 x {units} | {precision} | {sizes[precision]:.1f} | {count} | {rates} |")
    return lines


def workers(text: Path, units: int, rounds: int) -> None:
    """Bulk scoring of eight shards of the text, with one and with two processes."""
    from keraslm.text.files import TextFile

    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        child(__file__, text, "--make", units, folder)
        lines = [*TextFile(text)]
        shards = []
        for number in range(8):
            shards.append(folder / f"shard-{number}.txt")
            shards[-1].write_text("".join(f"{line}\n" for line in lines[number::8]), encoding="utf-8")
        ratios = []
        for number in range(rounds):
            seconds = {}
            for count in (1, 2):
                command = [*KERASLM, "score", folder / "float32.onnx", "--workers", count]
                command += ["--output", folder / f"out-{number}-{count}", *shards]
                start = time.perf_counter()
                subprocess.run([*map(str, command)], check=True, capture_output=True)
                seconds[count] = time.perf_counter() - start
            ratios.append(seconds[1] / seconds[2])
            print(f"2 x {units}, round {number + 1}: 1 worker {seconds[1]:.1f} s, 2 workers {seconds[2]:.1f} s")
        print(f"2 x {units}: 2 workers relative to 1: {spread(ratios)}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("text", type=Path)
    parser.add_argument("--units", nargs="+", type=int, default=[200, 650])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--provider", choices=("cpu", "cuda"), default="cpu", help="device; cuda: without int8")
    parser.add_argument("--workers", action="store_true")
    parser.add_argument("--threads", nargs="+", type=int, help="numbers of threads to measure one text at a time with")
    parser.add_argument("--make", nargs=2, help=argparse.SUPPRESS)
    parser.add_argument("--child", nargs=2, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.make:
        make_models(arguments.text, int(arguments.make[0]), Path(arguments.make[1]))
        print("{}")
    elif arguments.child:
        print(json.dumps(measure(arguments.child[0], arguments.text, Path(arguments.child[1]), arguments.provider)))
    elif arguments.workers:
        for units in arguments.units:
            workers(arguments.text, units, arguments.rounds)
    elif arguments.threads:
        print("| model | | MB | threads | stream, tokens/s | lines, tokens/s |\n|---|---|---|---|---|---|")
        for units in arguments.units:
            print("\n".join(threads_rows(arguments.text, units, arguments.rounds, arguments.threads)), flush=True)
    else:
        head = "".join(f"| {task}, tokens/s | relative to PyTorch " for task in ("batch", "line", "stream"))
        print(f"| model | | {head[2:]}| stream, bound by memory |")
        print("|---" * 9 + "|")
        for units in arguments.units:
            print("\n".join(rows(arguments.text, units, arguments.rounds, arguments.provider)), flush=True)


if __name__ == "__main__":
    main()
