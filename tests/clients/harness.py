"""Runs lm-evaluation-harness against a server, and reads what it wrote."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path
from typing import Any

Sample = dict[str, Any]


class Results:
    """The files of one run of the harness."""

    def __init__(self, folder: Path):
        self._folder = folder
        (path,) = folder.rglob("results_*.json")
        self._metrics = json.loads(path.read_text(encoding="utf-8"))["results"]

    def metric(self, task: str, name: str) -> float:
        return self._metrics[task][f"{name},none"]

    def samples(self, task: str) -> list[Sample]:
        """What was asked and answered, in the order of the data."""
        (path,) = self._folder.rglob(f"samples_{task}_*.jsonl")
        lines = path.read_text(encoding="utf-8").splitlines()
        return sorted(map(json.loads, lines), key=lambda sample: sample["doc_id"])

    def choices(self, task: str) -> list[list[tuple[float, bool]]]:
        """Log-likelihood of the choices of each sample, and whether they are greedy."""
        found = [sample["filtered_resps"] for sample in self.samples(task)]
        return [[(float(value), str(greedy) == "True") for value, greedy in choices] for choices in found]

    def texts(self, task: str) -> list[str]:
        return [sample["resps"][0][0] for sample in self.samples(task)]


def command(python: Path | str, address: str, tasks: list[str], include: Path | str, **model_args: Any) -> list[str]:
    """The command line; `batch_size` is a flag, and the rest of `model_args` are the model's."""
    batch_size = model_args.pop("batch_size", 1)
    model_args = {"model": "made", "base_url": f"{address}v1/completions", "tokenized_requests": True} | model_args
    line = [python, "-m", "lm_eval", "run", "--model", "local-completions", "--model_args"]
    line += [",".join(f"{name}={value}" for name, value in model_args.items())]
    line += ["--tasks", ",".join(tasks), "--include_path", include, "--batch_size", batch_size]
    return list(map(str, [*line, "--log_samples", "--output_path", "out"]))


def run(line: list[str], folder: Path, key: str = "") -> Results:
    """Run the harness in a folder with the data of the tasks, without a network."""
    offline = {"HF_DATASETS_OFFLINE": "1", "HF_HUB_OFFLINE": "1", "HF_HOME": str(folder / "cache")}
    variables = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"} | offline
    variables |= {"OPENAI_API_KEY": key} if key else {}
    done = subprocess.run(line, cwd=folder, env=variables, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    assert "Retrying" not in done.stderr, done.stderr[-3000:]
    assert "Using remote tokenizer" in done.stderr, done.stderr[-3000:]
    return Results(folder / "out")
