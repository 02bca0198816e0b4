"""The gain from each technique: one change at a time to one recipe, the same epochs, two seeds.

    python examples/ptb/ablation.py PTB_FOLDER [--work FOLDER] [--seeds 2] [--jobs 2] [--backend torch]

Trains the models that are missing in `ablation.jsonl`, and writes the tables of `docs/how-to/recipes.md`. If all is
recorded, it only writes the tables. The text is the first 4,000 lines of the training text; words that occur once are
read as `<unk>`. A training run then takes a minute or two, and overfits as large models do. It is validated on the
first half of the validation text.

Test-time techniques are applied to the unchanged recipe. They are tuned on the first half of the validation text and
measured on the second half (`ablation-test-time.jsonl`).
"""

from __future__ import annotations

import argparse
import json
import statistics
from pathlib import Path
from typing import Any

import trials
from trials import Trial

from keraslm.runs.metrics import append_row, read_rows
from keraslm.text.files import TextFile

HERE = Path(__file__).resolve().parent
RECORD = HERE / "ablation.jsonl"
TEST_TIME = HERE / "ablation-test-time.jsonl"
PAGE = HERE.parents[1] / "docs" / "how-to" / "recipes.md"
LINES = 4_000
BEGIN, END = "<!-- ablation -->", "<!-- end of ablation -->"

# The unchanged recipe: Zaremba's small network, narrower because the text is a tenth as long, with more dropout.
BASE: dict[str, Any] = {
    "units": 128,
    "epochs": 7,
    "min_count": 2,
    "embedding_dropout": 0.3,
    "output_dropout": 0.3,
    "keep_weights": 3,
}

# Changes by name. The first changes nothing, and the others are compared with it.
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
    "capped input gate": {"input_gate": "capped"},
    "tied input gate": {"input_gate": "tied"},
    "skip connections": {"skip_connections": True},
    "Mogrifier, capped gate, skip connections": {
        "mogrifier_rounds": 4,
        "input_gate": "capped",
        "skip_connections": True,
    },
    "GRU": {"cell": "gru", "learning_rate": 0.3},
    "plain RNN": {"cell": "rnn", "learning_rate": 0.3},
    "activation regularisation": {"activation_regularization": 2.0},
    "temporal activation regularisation": {"temporal_regularization": 1.0},
    "weight decay": {"weight_decay": 1e-5},
    "variable windows": {"variable_windows": True},
    "cosine": {"lr_schedule": "cosine"},
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

# Techniques that react to a validation without improvement need more epochs than a fixed schedule.
LONGER: dict[str, dict[str, Any]] = {
    "16 epochs": {"epochs": 16},
    "constant rate, 16 epochs": {"epochs": 16, "lr_schedule": "constant"},
    "averaged SGD, 16 epochs": {"epochs": 16, "lr_schedule": "constant", "nonmonotone_interval": 2},
    "averaged SGD, 24 epochs": {"epochs": 24, "lr_schedule": "constant", "nonmonotone_interval": 2},
    "fine-tuning, 8 more epochs": {"epochs": 8, "lr_schedule": "constant", "average_from": 1},
    "reduce on plateau, 16 epochs": {"epochs": 16, "lr_schedule": "plateau"},
}
# Trials that start from the best weights of a different one.
AFTER = {"fine-tuning, 8 more epochs": "averaged SGD, 16 epochs"}

# Names of rows, and the flags of the evaluation whose last variants they are. Dynamic evaluation, the slowest
# technique, runs once for both of its rows.
AT_TEST_TIME: list[tuple[list[str], list[str]]] = [
    (["temperature"], ["--temperature", "tune"]),
    (["neural cache"], ["--neural-cache"]),
    (["dynamic evaluation", "dynamic evaluation + neural cache"], ["--dynamic", "--neural-cache"]),
    (["Monte Carlo dropout"], ["--mc-dropout", "20"]),
    (["ensemble"], ["--with"]),
    (["mean of the last 3 epochs' weights"], ["average", "--last", "3"]),
]


def texts(data: Path, work: Path) -> list[str]:
    """Write the parts of the corpus into the work folder; the arguments that name the two texts."""
    train, valid = (next(data.glob(f"*{name}*")) for name in ("train", "valid"))
    shorter = trials.first_lines(train, LINES, work / f"first-{LINES}-lines.txt")
    whole = [f"{line}\n" for line in TextFile(valid)]
    for name, part in (("first", whole[: len(whole) // 2]), ("second", whole[len(whole) // 2 :])):
        (work / f"{name}-half.txt").write_text("".join(part), encoding="utf-8")
    return ["--train", str(shorter), "--valid", str(work / "first-half.txt")]


def test_time_rows() -> list[dict[str, Any]]:
    """The recorded rows of the present recipe."""
    return [row for row in read_rows(TEST_TIME) if row["recipe"] == BASE]


def measure_test_time(common: list[str], work: Path, seeds: int, backend: str) -> None:
    """Evaluate every test-time technique on the unchanged recipe with each seed, unless it is recorded."""
    known = {(row["name"], row["seed"]) for row in test_time_rows()}
    for seed in range(seeds):
        pair = [Trial("nothing", number % seeds, BASE) for number in (seed, seed + 1)]
        run, other = (work / trial.folder for trial in pair)
        for names, flags in AT_TEST_TIME:
            if all((name, seed) in known for name in names):
                continue
            for trial in pair:  # a recorded trial may have no run folder here
                trials.train(trial, common, work)
            plain, variants = evaluated(work, run, other, flags, backend)
            for name, (found, of) in zip(names, variants[-len(names) :], strict=True):
                if (name, seed) not in known:
                    row = {"name": name, "seed": seed, "flags": flags, "plain": plain, "found": found, "of": of}
                    append_row(TEST_TIME, row | {"recipe": BASE})
                    print(f"{name:<40} seed {seed}  {plain:8.2f} -> {found:8.2f}  {of}", flush=True)


def evaluated(
    work: Path, run: Path, other: Path, flags: list[str], backend: str
) -> tuple[float, list[tuple[float, str]]]:
    """Plain perplexity of the second half; perplexity and tuned parameters of each technique in the report."""
    text, on_backend = str(work / "second-half.txt"), ["--backend", backend]
    if flags[0] == "average":
        mean = work / f"{run.name}-mean"
        trials.keraslm("average", str(run), *flags[1:], "--output", str(mean), "--overwrite", *on_backend)
        plain, found = (
            json.loads(trials.keraslm("evaluate", str(folder), text, "--json", *on_backend)) for folder in (run, mean)
        )
        return plain["perplexity"], [(found["perplexity"], "")]
    extra = [str(other)] if flags == ["--with"] else ["--tune-on", str(work / "first-half.txt")]
    extra = [] if "--mc-dropout" in flags else extra
    report = json.loads(trials.keraslm("evaluate", str(run), text, *flags, *extra, "--json", *on_backend))
    return report["perplexity"], [
        (variant["perplexity"], ", ".join(f"{name} {value:g}" for name, value in variant["parameters"].items()))
        for variant in report["variants"]
    ]


def trial_of(name: str, changes: dict[str, dict[str, Any]], seed: int) -> Trial:
    after = trial_of(AFTER[name], changes, seed) if name in AFTER else None
    return Trial(name, seed, BASE | changes[name], after)


def recorded(name: str, flags: dict[str, Any]) -> dict[int, dict[str, Any]]:
    """The recorded rows of a change to the recipe, by seed."""
    rows = [row for row in read_rows(RECORD) if Trial(name, row["seed"], BASE | flags).is_in(row)]
    return {row["seed"]: row for row in sorted(rows, key=lambda row: row["seed"])}


def table(changes: dict[str, dict[str, Any]]) -> list[str]:
    """Lines of Markdown: validation perplexity of each change, and its difference from no change with the same seed."""
    plain = recorded(*next(iter(changes.items())))
    lines = [
        "| one change | flags | validation, by seed | against no change | training |",
        "|---|---|---|---|---|",
    ]
    for name, changed in changes.items():
        found = recorded(name, changed)
        if not found:
            continue
        final = {seed: row["valid"][-1] for seed, row in found.items()}
        change = statistics.mean(value / plain[seed]["valid"][-1] - 1 for seed, value in final.items())
        training = statistics.mean(row["train"][-1] for row in found.values())
        flags = " ".join(Trial("", 0, changed).arguments[:-2])
        shown = ", ".join(f"{value:.1f}" for value in final.values())
        lines.append(f"| {name} | {f'`{flags}`' if flags else ''} | {shown} | {change:+.1%} | {training:.1f} |")
    return lines


def test_time_table() -> list[str]:
    """Lines of Markdown: perplexity of the second half with each technique, and its difference from the plain one."""
    rows = test_time_rows()
    lines = ["| at test time | by seed | against the plain number | parameters, by seed |", "|---|---|---|---|"]
    for name in (name for names, _ in AT_TEST_TIME for name in names):
        found = sorted((row for row in rows if row["name"] == name), key=lambda row: row["seed"])
        if found:
            change = statistics.mean(row["found"] / row["plain"] - 1 for row in found)
            shown = ", ".join(f"{row['plain']:.1f} -> {row['found']:.1f}" for row in found)
            lines.append(
                f"| {name} | {shown} | {change:+.1%} | {' / '.join(row['of'] for row in found if row['of'])} |"
            )
    return lines


def page_with_tables(page: str) -> str:
    """The page with the tables of the records between its markers."""
    before, _, rest = page.partition(BEGIN)
    _, _, after = rest.partition(END)
    tables = [*table(CHANGES), "", *table(LONGER), "", *test_time_table()]
    return "\n".join([before + BEGIN, "", *tables, "", END]) + after


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("--work", type=Path, default=Path("ptb-work/ablation"))
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--backend", default="torch")
    arguments = parser.parse_args()
    if arguments.seeds < 2:
        parser.error(
            f"--seeds {arguments.seeds}: an ensemble needs two seeds, and a single one does not show a difference."
        )
    arguments.work.mkdir(parents=True, exist_ok=True)
    common = [*texts(arguments.data, arguments.work), "--preset", "small", "--backend", arguments.backend]
    changes = {**CHANGES, **LONGER}
    todo = [trial_of(name, changes, seed) for name in changes for seed in range(arguments.seeds)]
    trials.run_all(todo, common, RECORD, arguments.work, arguments.jobs)
    measure_test_time(common, arguments.work, arguments.seeds, arguments.backend)
    PAGE.write_text(page_with_tables(PAGE.read_text(encoding="utf-8")), encoding="utf-8")


if __name__ == "__main__":
    main()
