"""Target `hf`: a folder for transformers, which `AutoModelForCausalLM` and `AutoTokenizer` open.

    config.json            sizes of the network, ids of the special tokens, where the classes are
    modeling_keraslm.py    the network in torch, which `trust_remote_code=True` runs
    model.safetensors      the weights, with the names of torch
    tokenizer.json         the tokenizer of the run; its post-processor puts the end symbol first, not last
    tokenizer_config.json, special_tokens_map.json, generation_config.json, README.md

`tokenizer("the cat")` gives `<eos> the cat`: keraslm predicts the first token of a text from the end symbol. So the
end symbol is also the begin symbol and the padding of the folder. A harness that scores a sentence token by token, with
or without special tokens of its own, then starts from the same state as keraslm with `context="sentence"`.
"""

from __future__ import annotations

import tempfile
from pathlib import Path

from keraslm import arguments
from keraslm.config import StrPath, user_path
from keraslm.errors import RunError, UsageError
from keraslm.runs.run import Run
from keraslm.scoring.targets import HF_TYPE
from keraslm.system.backend import require
from keraslm.system.processes import Workers
from keraslm_export.targets import ExportReport, Options
from keraslm_export.targets.folders import check_folder, publish
from keraslm_export.targets.hf_files import folder_files, short_count
from keraslm_export.targets.hf_verify import SHAPES, probes, verifier

INT8 = False


def check(run: Run) -> None:
    if own := run.config.model.own_step:
        raise UsageError(f"{run.path} has {own}, which torch has no layer for; the target hf cannot express it.")


def write(run: Run, path: Path, options: Options = Options()) -> ExportReport:  # noqa: B008, it is frozen
    """Write a run as a folder for transformers. It appears only if its verification passes.

    Args:
        run: with the weights it was opened with.
        path: a new or empty folder, or one that this function has written, whose files are then replaced.
        options: not used.

    Returns:
        a report whose `largest_difference` is that of a logit between Keras and transformers, with and without padding,
        and whose `chunked_difference` is that of the loss, in nats per token.

    Raises:
        UsageError: the network has a Mogrifier, or the folder holds something else.
        RunError: the run is damaged, or its weights are not finite.
        ExportError: the model or the tokenizer of transformers differs from that of keraslm.
        WriteError: the folder cannot be written.
        MissingPackageError: a package of `keraslm[hf]` is missing.
    """
    with verifier() as process:
        return _write(run, user_path(arguments.path(path, "path")), process)


def write_checkpoints(run: Run, folder: StrPath) -> dict[str, ExportReport]:
    """Write a folder for each file of weights that `save_at_words` has kept: `chck_1M`, `chck_2M`, ...

    Args:
        run: any weights of it.
        folder: where these folders are written; it is made if it does not exist.

    Returns:
        the report of each folder, by its name.

    Raises:
        RunError: the run has kept no weights at numbers of words. Other errors as of `write`.
    """
    place, reports = user_path(arguments.path(folder, "folder")), {}
    kept = run.weights_at_words()
    if not kept:
        raise RunError(f"{run.path} has kept no weights at numbers of words. Train with `save_at_words`.")
    with verifier() as process:
        for words in kept:
            name = f"chck_{short_count(words)}"
            reports[name] = _write(Run.open(run.path, words), place / name, process)
    return reports


def _write(run: Run, folder: Path, process: Workers) -> ExportReport:
    check(run)
    for package in ("keras", "torch", "safetensors", "transformers"):
        require(package, extra="hf", purpose="the target hf")
    own = check_folder(folder, "hf", ("config.json", "model_type", HF_TYPE))
    files = folder_files(run, folder.resolve().name)
    with tempfile.TemporaryDirectory(prefix="keraslm-hf-") as made:
        for name, data in files.items():
            (Path(made) / name).write_bytes(data)
        lines = probes(run.tokenizer)
        logits, loss = process.submit((run.path, run.weights, made, lines)).result()
    publish(folder, files, own)
    size = sum(map(len, files.values()))
    return ExportReport(len(SHAPES), logits, loss, "loss", path=folder, bytes=size, target="hf")
