"""The search behind the preset `cpu-hour`: which configuration buys the best validation perplexity in an hour?

    python examples/ptb/search_cpu_hour.py PTB_FOLDER speed                # on a quiet machine: tokens a second of each
    python examples/ptb/search_cpu_hour.py PTB_FOLDER rung --minutes 10    # every candidate, epochs for 10 minutes
    python examples/ptb/search_cpu_hour.py PTB_FOLDER rung --minutes 25 --best 3
    python examples/ptb/search_cpu_hour.py PTB_FOLDER table

Successive halving (Jamieson and Talwalkar 2016, arXiv:1502.07943): candidates are drawn at random from the space below,
all of them get a small budget, the best of them a larger one. A budget is minutes on two cores that do nothing else. As
the speed of each candidate is measured first, a budget is a number of epochs, and it does not matter what else the
machine does while they run. The cosine schedule ends with the budget, whatever it is.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import numpy as np
import trials
from trials import Trial

from keraslm import load_run
from keraslm.metrics_file import append_row, read_rows

HERE = Path(__file__).resolve().parent
RECORD = HERE / "search-cpu-hour.jsonl"
SPEED = HERE / "search-cpu-hour-speed.jsonl"
TOKENS = 929_589  # of PTB's training text
CANDIDATES = 12

COMMON: dict[str, Any] = {
    "tie_weights": True,
    "locked_dropout": True,
    "num_steps": 35,
    "optimizer": "adamw",
    "lr_schedule": "cosine",
    "warmup_epochs": 0.5,
    "average_across_timesteps": True,
    "clip_norm": 1.0,
    "init_scale": 0.05,
    "embedding_init_scale": 0.1,
}
SPACE: dict[str, list[Any]] = {
    "layer_units": ["200,200", "400,200", "650,200", "300,300", "400,400", "650,320"],
    "batch_size": [20, 32],
    "learning_rate": [2e-3, 4e-3, 8e-3],
    "weight_decay": [0.0, 0.05],
    "embedding_dropout": [0.1, 0.25, 0.4],
    "output_dropout": [0.1, 0.25],
    "last_dropout": [0.2, 0.35, 0.5],
    "dropconnect": [0.0, 0.2],
    "embedding_row_dropout": [0.0, 0.1],
}
OF_SPEED = ("layer_units", "batch_size", "dropconnect", "embedding_row_dropout")  # what a step's time depends on


def candidates() -> list[Trial]:
    """The same each time: drawn by one seed, each size at least once."""
    rng = np.random.default_rng(0)
    drawn = []
    for number in range(CANDIDATES):
        flags = {name: values[int(rng.integers(len(values)))] for name, values in SPACE.items()}
        flags["layer_units"] = SPACE["layer_units"][number % len(SPACE["layer_units"])]
        drawn.append(Trial(f"candidate {number + 1}", 0, COMMON | flags))
    return drawn


def speed_key(trial: Trial) -> dict[str, Any]:
    return {name: trial.flags[name] for name in OF_SPEED}


def measure_speeds(data: Path, work: Path, common: list[str]) -> None:
    """Tokens a second of each candidate, one after the other, on the first 1,500 lines."""
    train = next(data.glob("*train*"))
    shorter = trials.first_lines(train, 1500, work / "first-1500-lines.txt")
    words = ["--train", str(shorter), *common, "--tokenizer", str(work / "tokenizer.json")]
    trials.keraslm("tokenize", "--train", str(train), "--output", str(work / "tokenizer.json"))
    for trial in candidates():
        if any(row["of"] == speed_key(trial) for row in read_rows(SPEED)):
            continue
        flags = trial.flags | {"epochs": 1}
        run = work / "speed"
        trials.keraslm("train", *words, *Trial("", 0, flags).arguments, "--run", str(run), "--overwrite")
        rate = load_run(run).epochs()[0]["tokens_per_second"]
        append_row(SPEED, {"of": speed_key(trial), "tokens_per_second": rate})
        print(f"{speed_key(trial)}: {rate:,.0f} tokens a second", flush=True)


def within(trial: Trial, minutes: float) -> Trial:
    """The trial with the epochs that fit the budget, one tenth of it left for validation and start."""
    rate = next(row["tokens_per_second"] for row in read_rows(SPEED) if row["of"] == speed_key(trial))
    epochs = max(1, int(0.9 * minutes * 60 * rate / TOKENS))
    return Trial(f"{trial.name}, {minutes:g} minutes", trial.seed, trial.flags | {"epochs": epochs})


def best_of(minutes: float, count: int) -> list[Trial]:
    """The candidates that were best at the budget before, best first."""
    found = {row["name"]: row["valid"][-1] for row in read_rows(RECORD)}
    ranked = [(found[within(t, minutes).name], t) for t in candidates() if within(t, minutes).name in found]
    return [trial for _, trial in sorted(ranked, key=lambda pair: pair[0])[:count]]


def table() -> list[str]:
    """Lines of Markdown: what varied, and the validation perplexity at each budget."""
    rows = read_rows(RECORD)
    budgets = sorted({float(row["name"].split(", ")[1].split()[0]) for row in rows})
    lines = [
        f"| | {' | '.join(SPACE)} | {' | '.join(f'{b:g} min (epochs)' for b in budgets)} |",
        "|---" * (1 + len(SPACE) + len(budgets)) + "|",
    ]
    for trial in candidates():
        cells = []
        for budget in budgets:
            found = [row for row in rows if row["name"] == f"{trial.name}, {budget:g} minutes"]
            cells.append(f"{found[0]['valid'][-1]:.1f} ({len(found[0]['valid'])})" if found else "")
        values = (str(trial.flags[name]) for name in SPACE)
        lines.append(f"| {trial.name.split()[1]} | {' | '.join(values)} | {' | '.join(cells)} |")
    return lines


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("what", choices=("speed", "rung", "table"))
    parser.add_argument("--minutes", type=float, default=10.0)
    parser.add_argument("--before", type=float, default=10.0, help="budget by which --best ranks")
    parser.add_argument("--best", type=int, default=0, help="only the best so many; 0 means all")
    parser.add_argument("--work", type=Path, default=Path("ptb-work/search"))
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--backend", default="torch")
    asked = parser.parse_args()
    asked.work.mkdir(parents=True, exist_ok=True)
    common = ["--preset", "small", "--backend", asked.backend]
    if asked.what == "speed":
        measure_speeds(asked.data, asked.work, common)
    elif asked.what == "rung":
        chosen = best_of(asked.before, asked.best) if asked.best else candidates()
        todo = [within(trial, asked.minutes) for trial in chosen]
        trials.run_all(todo, ["--data", str(asked.data), *common], RECORD, asked.work, asked.jobs)
    print("\n".join(table()))


if __name__ == "__main__":
    main()
