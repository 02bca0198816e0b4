"""What each technique buys: one change at a time to one recipe, the same epochs, two seeds.

    python examples/ptb/ablation.py PTB_FOLDER [--work FOLDER] [--seeds 2] [--jobs 2] [--backend torch]

Trains what `ablation.jsonl` does not hold yet and writes the tables of `docs/recipes.md` from it; with everything in
the record it only writes the tables. The text is the first 4,000 lines of the training text, words that they hold once
read as `<unk>`, so that a training takes a minute or two and overfits as the big ones do; it is validated on the first
half of the validation text.

Techniques of test time are put on the unchanged recipe. They are tuned on the first half of the validation text and
measured on the second (`ablation-test-time.jsonl`).
"""

from __future__ import annotations

import argparse
import json
import statistics
from pathlib import Path
from typing import Any

import trials
from trials import Trial

from keraslm.metrics_file import append_row, read_rows
from keraslm.text.files import TextFile

HERE = Path(__file__).resolve().parent
RECORD = HERE / "ablation.jsonl"
TEST_TIME = HERE / "ablation-test-time.jsonl"
PAGE = HERE.parents[1] / "docs" / "recipes.md"
LINES = 4_000
BEGIN, END = "<!-- ablation -->", "<!-- end of ablation -->"

# The recipe that is changed: Zaremba's small one, narrower for a text a tenth as long, with the dropout of `medium`.
BASE: dict[str, Any] = {
    "units": 128,
    "epochs": 7,
    "min_count": 2,
    "embedding_dropout": 0.3,
    "output_dropout": 0.3,
    "keep_weights": 3,
}

CHANGES: dict[str, dict[str, Any]] = {
    "nothing": {},
    "no dropout": {"embedding_dropout": 0.0, "output_dropout": 0.0},
    "tied weights": {"tie_weights": True},
    "layers of 192 and 128 units": {"layer_units": "192,128"},
    "locked dropout": {"locked_dropout": True},
    "embedding-row dropout": {"embedding_row_dropout": 0.1},
    "recurrent dropout": {"recurrent_dropout": 0.2},
    "DropConnect": {"dropconnect": 0.3},
    "mixture of softmaxes": {"softmax": "mixture", "num_experts": 4, "learning_rate": 0.5},
    "Mogrifier": {"mogrifier_rounds": 4},
    "GRU": {"cell": "gru", "learning_rate": 0.3},
    "plain RNN": {"cell": "rnn", "learning_rate": 0.3},
    "activation regularisation": {"activation_regularization": 2.0},
    "temporal activation regularisation": {"temporal_regularization": 1.0},
    "weight decay": {"weight_decay": 1e-5},
    "variable windows": {"variable_windows": True},
    "averaged SGD": {"lr_schedule": "constant", "nonmonotone_interval": 2},
    "reduce on plateau": {"lr_schedule": "plateau"},
    "AdamW, warm-up, cosine": {
        "optimizer": "adamw",
        "learning_rate": 8e-3,
        "weight_decay": 0.05,
        "lr_schedule": "cosine",
        "warmup_epochs": 0.5,
        "clip_norm": 1.0,
        "average_across_timesteps": True,
    },
}

AT_TEST_TIME: dict[str, list[str]] = {
    "temperature": ["--temperature", "tune"],
    "neural cache": ["--neural-cache"],
    "dynamic evaluation": ["--dynamic"],
    "dynamic evaluation + neural cache": ["--dynamic", "--neural-cache"],
    "Monte Carlo dropout": ["--mc-dropout", "20"],
    "ensemble": ["--with"],
    "mean of the last 3 epochs' weights": ["average", "--last", "3"],
}


def texts(data: Path, work: Path) -> list[str]:
    """Arguments that name the two texts, parts of the corpus that are written into the work folder."""
    train, valid = (next(data.glob(f"*{name}*")) for name in ("train", "valid"))
    shorter = trials.first_lines(train, LINES, work / f"first-{LINES}-lines.txt")
    whole = [f"{line}\n" for line in TextFile(valid)]
    for name, part in (("first", whole[: len(whole) // 2]), ("second", whole[len(whole) // 2 :])):
        (work / f"{name}-half.txt").write_text("".join(part), encoding="utf-8")
    return ["--train", str(shorter), "--valid", str(work / "first-half.txt")]


def measure_test_time(work: Path, seeds: int, backend: str) -> None:
    """Put every technique of test time on the unchanged recipe of each seed, unless the record holds it."""
    known = {(row["name"], row["seed"]) for row in read_rows(TEST_TIME)}
    for seed in range(seeds):
        run, other = (work / Trial("nothing", number % seeds).folder for number in (seed, seed + 1))
        for name, flags in AT_TEST_TIME.items():
            if (name, seed) in known:
                continue
            plain, found, description = evaluated(work, run, other, flags, backend)
            row = {"name": name, "seed": seed, "flags": flags, "plain": plain, "found": found, "of": description}
            append_row(TEST_TIME, row)
            print(f"{name:<40} seed {seed}  {plain:8.2f} -> {found:8.2f}  {description}", flush=True)


def evaluated(work: Path, run: Path, other: Path, flags: list[str], backend: str) -> tuple[float, float, str]:
    """Perplexity of the second half without and with a technique, and how that was tuned."""
    text, on_backend = str(work / "second-half.txt"), ["--backend", backend]
    if flags[0] == "average":
        mean = work / f"{run.name}-mean"
        trials.keraslm("average", str(run), *flags[1:], "--output", str(mean), "--overwrite", *on_backend)
        plain, found = (
            json.loads(trials.keraslm("evaluate", str(folder), text, "--json", *on_backend)) for folder in (run, mean)
        )
        return plain["perplexity"], found["perplexity"], ""
    extra = [str(other)] if flags == ["--with"] else ["--tune-on", str(work / "first-half.txt")]
    extra = [] if "--mc-dropout" in flags else extra
    report = json.loads(trials.keraslm("evaluate", str(run), text, *flags, *extra, "--json", *on_backend))
    last = report["variants"][-1]
    parameters = ", ".join(f"{name} {value:g}" for name, value in last["parameters"].items())
    return report["perplexity"], last["perplexity"], parameters


def table(rows: list[dict[str, Any]]) -> list[str]:
    """Lines of Markdown: validation perplexity of each technique, and its ratio to the recipe of the same seed."""
    by_name: dict[str, dict[int, dict[str, Any]]] = {}
    for row in rows:
        by_name.setdefault(row["name"], {})[row["seed"]] = row
    plain = by_name["nothing"]
    lines = [
        "| one change | flags | validation, by seed | against no change | training |",
        "|---|---|---|---|---|",
    ]
    for name in CHANGES:
        found = by_name.get(name, {})
        if not found:
            continue
        final = {seed: row["valid"][-1] for seed, row in sorted(found.items())}
        change = statistics.mean(value / plain[seed]["valid"][-1] - 1 for seed, value in final.items())
        training = statistics.mean(row["train"][-1] for row in found.values())
        flags = " ".join(Trial("", 0, CHANGES[name]).arguments[:-2])
        shown = ", ".join(f"{value:.1f}" for value in final.values())
        lines.append(f"| {name} | {f'`{flags}`' if flags else ''} | {shown} | {change:+.1%} | {training:.1f} |")
    return lines


def test_time_table(rows: list[dict[str, Any]]) -> list[str]:
    """Lines of Markdown: perplexity of the second half with each technique, and its ratio to the plain number."""
    lines = ["| at test time | by seed | against the plain number | parameters, by seed |", "|---|---|---|---|"]
    for name in AT_TEST_TIME:
        found = sorted((row for row in rows if row["name"] == name), key=lambda row: row["seed"])
        if found:
            change = statistics.mean(row["found"] / row["plain"] - 1 for row in found)
            shown = ", ".join(f"{row['plain']:.1f} -> {row['found']:.1f}" for row in found)
            lines.append(
                f"| {name} | {shown} | {change:+.1%} | {' / '.join(row['of'] for row in found if row['of'])} |"
            )
    return lines


def write_page(rows: list[dict[str, Any]], at_test_time: list[dict[str, Any]]) -> None:
    """Put the tables between the marks of the page."""
    page = PAGE.read_text(encoding="utf-8")
    before, _, rest = page.partition(BEGIN)
    _, _, after = rest.partition(END)
    tables = [*table(rows), "", *test_time_table(at_test_time)]
    PAGE.write_text("\n".join([before + BEGIN, "", *tables, "", END]) + after, encoding="utf-8")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("--work", type=Path, default=Path("ptb-work/ablation"))
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--backend", default="torch")
    asked = parser.parse_args()
    asked.work.mkdir(parents=True, exist_ok=True)
    common = [*texts(asked.data, asked.work), "--preset", "small", "--backend", asked.backend]
    todo = [Trial(name, seed, BASE | flags) for name, flags in CHANGES.items() for seed in range(asked.seeds)]
    trials.run_all(todo, common, RECORD, asked.work, asked.jobs)
    measure_test_time(asked.work, asked.seeds, asked.backend)
    write_page(read_rows(RECORD), read_rows(TEST_TIME))


if __name__ == "__main__":
    main()
