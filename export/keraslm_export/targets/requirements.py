"""What programs for speech recognition need of a run, whichever graph they read."""

from __future__ import annotations

from keraslm.config import TOKENIZERS
from keraslm.errors import UsageError
from keraslm.runs.run import Run


def refuse(run: Run, target: str, reason: str) -> UsageError:
    return UsageError(f"{run.path} cannot become a file for target {target}: {reason}")


def check_sentences(run: Run, target: str) -> None:
    """A recogniser starts each sentence from a state of zeros, so the training must have done so too."""
    context = run.config.data.context
    if context != "sentence":
        raise refuse(
            run,
            target,
            f"each sentence starts from a state of zeros, but in the training the state was carried (context {context})"
            '. Train with `context="sentence"`.',
        )


def check_symbols(run: Run, target: str) -> None:
    """The ids are those of the speech model, whose blank has id 0."""
    if (name := run.config.data.tokenizer) in TOKENIZERS:
        raise refuse(
            run,
            target,
            "token ids must be those of the speech model, but the training made a vocabulary of its own (tokenizer "
            f"{name}). Train with the file tokens.txt of the speech model as `tokenizer`.",
        )
    if run.tokenizer.eos_id == 0:
        (end,) = run.tokenizer.tokens([0])
        raise refuse(
            run,
            target,
            f"id 0 is the blank of the speech model, but the end symbol of the run, {end!r}, has it. Choose a "
            "different one with `eos_token`.",
        )


def check_stacked(run: Run, target: str) -> None:
    """The state is one tensor of h and one of c for all layers."""
    model = run.config.model
    if model.cell != "lstm":
        raise refuse(run, target, f"its state is that of an LSTM, but the cell is {model.cell}.")
    if len(set(model.sizes)) > 1:
        sizes = ", ".join(map(str, model.sizes))
        raise refuse(run, target, f"all layers must have the same number of units, but have {sizes}.")
