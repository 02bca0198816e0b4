"""What each technique buys: one change at a time to one recipe, the same epochs, two seeds.

    python examples/ptb/ablation.py PTB_FOLDER [--work FOLDER] [--seeds 2] [--jobs 2] [--backend torch]

Trains what `ablation.jsonl` does not hold yet and writes the table of `docs/recipes.md` from it; with everything in the
record it only writes the table. The text is the first 10,000 lines of the training text, so that a training takes a
minute or two and overfits as the big ones do; validation is the whole validation text.
"""

from __future__ import annotations

import argparse
import gzip
import statistics
from itertools import islice
from pathlib import Path
from typing import Any

import trials
from trials import Trial

HERE = Path(__file__).resolve().parent
RECORD = HERE / "ablation.jsonl"
TEST_TIME = HERE / "ablation-test-time.jsonl"
PAGE = HERE.parents[1] / "docs" / "recipes.md"
LINES = 10_000
BEGIN, END = "<!-- ablation -->", "<!-- end of ablation -->"

# The recipe that is changed: Zaremba's small one, narrower for a text a quarter as long, with the dropout of `medium`.
BASE: dict[str, Any] = {"units": 128, "epochs": 10, "embedding_dropout": 0.3, "output_dropout": 0.3}

CHANGES: dict[str, dict[str, Any]] = {
    "nothing": {},
    "no dropout": {"embedding_dropout": 0.0, "output_dropout": 0.0},
    "tied weights": {"tie_weights": True},
    "layers of 192 and 128 units": {"layer_units": "192,128"},
    "locked dropout": {"locked_dropout": True},
    "embedding-row dropout": {"embedding_row_dropout": 0.1},
    "recurrent dropout": {"recurrent_dropout": 0.2},
    "DropConnect": {"dropconnect": 0.3},
    "mixture of softmaxes": {"softmax": "mixture", "num_experts": 4},
    "Mogrifier": {"mogrifier_rounds": 4},
    "GRU": {"cell": "gru"},
    "plain RNN": {"cell": "rnn", "learning_rate": 0.2},
    "activation regularisation": {"activation_regularization": 2.0},
    "temporal activation regularisation": {"temporal_regularization": 1.0},
    "weight decay": {"weight_decay": 1e-5},
    "variable windows": {"variable_windows": True},
    "averaged SGD": {"lr_schedule": "constant", "nonmonotone_interval": 2},
    "reduce on plateau": {"lr_schedule": "plateau"},
    "AdamW, warm-up, cosine": {
        "optimizer": "adamw",
        "learning_rate": 4e-3,
        "weight_decay": 0.05,
        "lr_schedule": "cosine",
        "warmup_epochs": 0.5,
        "clip_norm": 1.0,
        "average_across_timesteps": True,
    },
}


def texts(data: Path, work: Path) -> list[str]:
    """Arguments that name the two texts; the first is written into the work folder."""
    train, valid = (next(data.glob(f"*{name}*")) for name in ("train", "valid"))
    shorter = work / f"first-{LINES}-lines.txt"
    opener = gzip.open if train.suffix == ".gz" else open
    with opener(train, "rt", encoding="utf-8") as lines:
        shorter.write_text("".join(islice(lines, LINES)), encoding="utf-8")
    return ["--train", str(shorter), "--valid", str(valid)]


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


def write_page(rows: list[dict[str, Any]]) -> None:
    """Put the table between the marks of the page."""
    page = PAGE.read_text(encoding="utf-8")
    before, _, rest = page.partition(BEGIN)
    _, _, after = rest.partition(END)
    PAGE.write_text("\n".join([before + BEGIN, "", *table(rows), "", END]) + after, encoding="utf-8")


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
    write_page(trials.read(RECORD))


if __name__ == "__main__":
    main()
