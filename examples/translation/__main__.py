"""The command line: python -m examples.translation toy | train | evaluate | export | picture | curves."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Literal

from cyclopts import App, CycloptsError

from examples.translation.config import UNUSED, TranslationConfig
from examples.translation.toy import write_toy
from keraslm.commands.flags import Backend, Switch, flags_of, given, print_line, usage_message, with_flags
from keraslm.errors import KeraslmError
from keraslm.system.backend import select_backend

app = App(name="python -m examples.translation", help="Neural machine translation on the layers of keraslm.")
DEFAULT = TranslationConfig()
DataFlags, NO_DATA = flags_of(DEFAULT.data, "Data", 1, "Default")
ModelFlags, NO_MODEL = flags_of(DEFAULT.model, "Model", 2, "Default")
TrainFlags, NO_TRAIN = flags_of(DEFAULT.train, "Training", 3, "Default", UNUSED)
TOY = {
    **{"source": "in", "target": "out", "vocabulary": "word", "min_count": 1, "bucket_width": 10, "bleu": "none"},
    **{"units": 128, "embedding_dropout": 0.0, "encoder_dropout": 0.1, "decoder_dropout": 0.1, "label_smoothing": 0.0},
    **{"batch_size": 64, "epochs": 5, "learning_rate": 0.002},
}


@app.command
def toy(
    task: Literal["reverse", "numbers"] = "reverse", *, backend: Backend = "jax", run: Path = Path("runs/toy")
) -> None:
    """Train on a task without data, and count exact translations of its test text."""
    select_backend(backend)
    from examples.translation.run import evaluate_run
    from examples.translation.train import train as train_run

    folder = run.parent / f"{run.name}-{task}-texts"
    write_toy(folder, task)
    config = DEFAULT.replace(train=str(folder / "train"), valid=str(folder / "valid"), **TOY)
    trained = train_run(config, run, overwrite=True, log=print_line)
    evaluate_run(trained, folder / "test", beam=1, length_penalty=0.0)


@app.command
def train(
    *,
    run: Path,
    backend: Backend = "jax",
    resume: Literal["auto", "never", "must"] = "auto",
    overwrite: Switch = False,
    data_flags: DataFlags = NO_DATA,
    model_flags: ModelFlags = NO_MODEL,
    train_flags: TrainFlags = NO_TRAIN,
) -> None:
    """Train a translation system into the folder --run, or resume one that was stopped."""
    select_backend(backend)
    from examples.translation.run import TranslationRun
    from examples.translation.train import train as train_run
    from keraslm.runs.files import state_of

    own = TranslationRun.open(run).config if state_of(run)[0] == "run" and not overwrite else DEFAULT
    train_run(own.replace(**given(data_flags, model_flags, train_flags)), run, resume, overwrite, log=print_line)


@app.command
def evaluate(
    run: Path,
    text: Path,
    *,
    weights: Literal["best", "last"] = "best",
    beam: int = 5,
    length_penalty: float = 1.0,
    backend: Backend = "jax",
    output: Path | None = None,
) -> None:
    """Translate TEXT.source with a run and compare with TEXT.target: BLEU, its signature, and exact translations."""
    select_backend(backend)
    from examples.translation.run import TranslationRun, evaluate_run

    evaluate_run(TranslationRun.open(run, weights), text, beam, length_penalty, output)


@app.command
def export(run: Path, folder: Path, *, weights: Literal["best", "last"] = "best", backend: Backend = "jax") -> None:
    """Write encoder.onnx and step.onnx, verified against Keras, to FOLDER; translate.py needs nothing else."""
    select_backend(backend)
    from examples.translation.export import export as export_run
    from examples.translation.run import TranslationRun

    opened = TranslationRun.open(run, weights)
    difference = export_run(opened.network, opened.config, opened.tokenizer, folder)
    print(f"exported  {folder}: the largest difference from Keras is {difference:.1e}")


@app.command
def picture(run: Path, sentence: str, image: Path, *, weights: Literal["best", "last"] = "best") -> None:
    """Translate a sentence and draw the attention of each target token as a PNG."""
    select_backend("jax")
    from examples.translation.pictures import draw_attention
    from examples.translation.run import TranslationRun

    draw_attention(TranslationRun.open(run, weights), sentence, image)


@app.command
def curves(*metrics: Path, image: Path) -> None:
    """Draw the validation BLEU by epoch of several metrics.jsonl as a PNG."""
    from examples.translation.pictures import draw_curves

    draw_curves(metrics, image)


if __name__ == "__main__":
    try:
        app(sys.argv[1:], exit_on_error=False, print_error=False)
    except (CycloptsError, KeraslmError) as error:
        known = isinstance(error, KeraslmError)
        print(f"translation: {with_flags(str(error)) if known else usage_message(error)}", file=sys.stderr)
        sys.exit(error.exit_code if known else 2)
