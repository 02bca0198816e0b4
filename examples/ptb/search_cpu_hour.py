"""The search behind preset `cpu-hour`: the configuration with the best validation perplexity after one hour.

    python examples/ptb/search_cpu_hour.py PTB_FOLDER speed    # on an idle machine: tokens per second of each size
    python examples/ptb/search_cpu_hour.py PTB_FOLDER search   # train what is not recorded, one round after the other
    python examples/ptb/search_cpu_hour.py PTB_FOLDER table

This is a coordinate search. A round is a list of changes to a recipe, all trained within the same budget, and the next
round starts from the best of this one. A budget is a number of minutes on two idle cores. The speed of each size is
measured first, so a budget becomes a number of epochs, and other programs may run during the search. The cosine
schedule ends with the budget. Rounds 1 and 2 have the budgets of float32, later ones those of bfloat16 with the faster
kernels of that time; all trials use bfloat16.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import trials
from trials import Trial

from keraslm import load_run
from keraslm.runs.metrics import append_row, read_rows

HERE = Path(__file__).resolve().parent
RECORD = HERE / "search-cpu-hour.jsonl"
SPEED = HERE / "search-cpu-hour-speed.jsonl"
TOKENS = 929_589  # in PTB's training text
DTYPE = "bfloat16"

START: dict[str, Any] = {
    "layer_units": "400,200",
    "tie_weights": True,
    "locked_dropout": True,
    "embedding_dropout": 0.2,
    "embedding_row_dropout": 0.1,
    "output_dropout": 0.2,
    "last_dropout": 0.3,
    "batch_size": 32,
    "num_steps": 35,
    "optimizer": "adamw",
    "learning_rate": 4e-3,
    "weight_decay": 0.05,
    "lr_schedule": "cosine",
    "warmup_epochs": 0.5,
    "average_across_timesteps": True,
    "clip_norm": 1.0,
    "init_scale": 0.05,
    "embedding_init_scale": 0.1,
}


@dataclass(frozen=True)
class Round:
    """Changes to the best recipe so far, compared within one budget.

    The first round of a budget includes the unchanged recipe. `speed` is the type of the products in which the speeds
    were measured.
    """

    minutes: float
    changes: dict[str, dict[str, Any]]
    speed: str = "bfloat16"


ROUNDS = [
    Round(10, {"start": {}, "rate 8e-3": {"learning_rate": 8e-3}}, "float32"),
    Round(
        10,
        {
            "rate 1.6e-2": {"learning_rate": 1.6e-2},
            "300, 300 units": {"layer_units": "300,300"},
            "400, 400 units": {"layer_units": "400,400"},
            "200, 200 units": {"layer_units": "200,200"},
        },
        "float32",
    ),
    Round(
        60,
        {
            "unchanged": {},
            "skip connections, more dropout": {
                "skip_connections": True,
                "embedding_dropout": 0.25,
                "output_dropout": 0.25,
                "last_dropout": 0.35,
                "dropconnect": 0.2,
            },
        },
    ),
]
OF_SPEED = ("layer_units", "batch_size")  # the fields that determine the time of a step


def rate_of(flags: dict[str, Any], dtype: str) -> float | None:
    """Measured tokens per second of a size, or None."""
    wanted = {name: flags[name] for name in OF_SPEED} | {"dtype": dtype}
    return next((row["tokens_per_second"] for row in read_rows(SPEED) if row["of"] == wanted), None)


def measure_speeds(data: Path, work: Path, common: list[str]) -> None:
    """Measure tokens per second of each size on the first 1,500 lines, with the vocabulary of the whole text."""
    train = next(data.glob("*train*"))
    shorter = trials.first_lines(train, 1500, work / "first-1500-lines.txt")
    words = ["--train", str(shorter), *common, "--tokenizer", str(work / "tokenizer.json")]
    trials.keraslm("tokenize", "--train", str(train), "--output", str(work / "tokenizer.json"))
    for each, recipes in zip(ROUNDS, rounds_so_far(), strict=False):
        for flags in recipes.values():
            if rate_of(flags, each.speed):
                continue
            run, own = work / "speed", Trial("", 0, flags | {"epochs": 1, "dtype": each.speed})
            trials.keraslm("train", *words, *own.arguments, "--run", str(run), "--overwrite")
            rate = load_run(run).epochs()[0]["tokens_per_second"]
            of = {name: own.flags[name] for name in (*OF_SPEED, "dtype")}
            append_row(SPEED, {"of": of, "tokens_per_second": rate})
            print(f"{of}: {rate:,.0f} tokens per second", flush=True)


def trial_of(number: int, name: str, flags: dict[str, Any]) -> Trial:
    """One candidate of a round. Its epochs take nine tenths of the budget; the rest is for validation and start-up."""
    minutes, rate = ROUNDS[number].minutes, rate_of(flags, ROUNDS[number].speed)
    if rate is None:
        raise SystemExit(
            f"{SPEED.name} has no speed for {flags['layer_units']}; run: search_cpu_hour.py PTB_FOLDER speed"
        )
    epochs = max(1, int(0.9 * minutes * 60 * rate / TOKENS))
    return Trial(f"round {number + 1}, {name}", 0, flags | {"epochs": epochs, "dtype": DTYPE})


def rounds_so_far() -> Iterator[dict[str, dict[str, Any]]]:
    """The recipes of each round by name, up to the first round that is not completely recorded."""
    best, perplexity, minutes = START, float("inf"), 0.0
    for number, each in enumerate(ROUNDS):
        recipes = {name: best | change for name, change in each.changes.items()}
        yield recipes
        found = [
            (row["valid"][-1], name) for name in recipes for row in recorded(trial_of(number, name, recipes[name]))
        ]
        if len(found) < len(recipes):
            return
        lowest, name = min(found)
        if lowest < perplexity or each.minutes != minutes:
            best, perplexity, minutes = recipes[name], lowest, each.minutes


def recorded(trial: Trial) -> list[dict[str, Any]]:
    return [row for row in read_rows(RECORD) if trial.is_in(row)]


def table() -> list[str]:
    """Lines of Markdown, one row per training run."""
    lines = ["| round | change | minutes | epochs | training | validation |", "|---|---|---|---|---|---|"]
    for number, recipes in enumerate(rounds_so_far()):
        for name, recipe in recipes.items():
            flags = " ".join(Trial("", 0, ROUNDS[number].changes[name]).arguments[:-2])
            for row in recorded(trial_of(number, name, recipe)):
                shown = f"{name}{f' `{flags}`' if flags else ''}"
                figures = f"{len(row['valid'])} | {row['train'][-1]:.1f} | {row['valid'][-1]:.1f}"
                lines.append(f"| {number + 1} | {shown} | {ROUNDS[number].minutes:g} | {figures} |")
    return lines


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("what", choices=("speed", "search", "table"))
    parser.add_argument("--work", type=Path, default=Path("ptb-work/search"))
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--backend", default="torch")
    arguments = parser.parse_args()
    arguments.work.mkdir(parents=True, exist_ok=True)
    common = ["--preset", "small", "--backend", arguments.backend]
    if arguments.what == "speed":
        measure_speeds(arguments.data, arguments.work, common)
    elif arguments.what == "search":
        common += ["--data", str(arguments.data)]
        for number, recipes in enumerate(rounds_so_far()):
            todo = [trial_of(number, name, recipe) for name, recipe in recipes.items()]
            trials.run_all(todo, common, RECORD, arguments.work, arguments.jobs)
    print("\n".join(table()))


if __name__ == "__main__":
    main()
