"""How a network is trained: truncated backpropagation through time, optimizer, schedule, regularisation of training."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal

from keraslm.config.fields import check, check_types, option
from keraslm.errors import ConfigError

OPTIMIZERS = ("sgd", "adamw")
SCHEDULES = ("decay", "cosine", "plateau", "constant")


@dataclass(frozen=True)
class TrainConfig:
    """Truncated backpropagation through time: windows, optimizer, learning rate, what is averaged and kept."""

    batch_size: int = option(20, "Rows of the stream that are trained side by side. Source: Zaremba.")
    num_steps: int = option(20, "Tokens of a row in one window; the gradient is cut there. Source: Zaremba, 20 and 35.")
    epochs: int = option(13, "Passes over the training text. Source: PTB tutorial, small 13, medium 39, large 55.")
    variable_windows: bool = option(
        False,
        "Draw the length of each window anew, around num_steps with a deviation of 5, one in twenty around half of it, "
        "and scale the learning rate along, where the loss is no sum over steps. Source: Merity, section 4.1.",
    )
    optimizer: Literal["sgd", "adamw"] = option(
        "sgd", "Plain SGD, or AdamW. Source: Zaremba; Loshchilov and Hutter 2019."
    )
    learning_rate: float = option(
        1.0,
        "Step size: 1 is that of SGD on the loss summed over steps, AdamW needs some 0.001. "
        "Source: Zaremba; Kingma and Ba 2015.",
    )
    beta_1: float = option(0.9, "AdamW's decay of the mean of gradients. Source: Kingma and Ba 2015.")
    beta_2: float = option(0.999, "AdamW's decay of the mean of squared gradients. Source: Kingma and Ba 2015.")
    weight_decay: float = option(
        0.0,
        "Share of every weight that is taken off at a step, times the learning rate; apart from gradient and clipping. "
        "Source: Loshchilov and Hutter 2019; Merity (1.2e-6 at rate 30).",
    )
    lr_schedule: Literal["decay", "cosine", "plateau", "constant"] = option(
        "decay",
        "How the rate falls: decay multiplies it by lr_decay once an epoch, from lr_decay_from on; plateau does so "
        "after lr_patience epochs that did not validate better; cosine falls to lr_final over all epochs. "
        "Source: Zaremba; Loshchilov and Hutter 2017.",
    )
    warmup_epochs: float = option(
        0.0, "Epochs, or part of one, over which the learning rate rises from 0 in a straight line, in any schedule."
    )
    lr_final: float = option(0.0, "Share of the learning rate that --lr-schedule cosine ends at.")
    lr_patience: int = option(1, "Epochs without a better validation after which --lr-schedule plateau decays.")
    lr_decay: float = option(0.5, "Factor on the learning rate, once an epoch. Source: Zaremba.")
    lr_decay_from: int = option(
        4, "Epochs at full learning rate; the decay sets in after them. Source: PTB tutorial, max_epoch."
    )
    clip_norm: float = option(5.0, "Largest global norm of the gradient; 0 means no clipping. Source: Zaremba.")
    activation_regularization: float = option(
        0.0,
        "Factor of the mean square of the last layer's output, after dropout, in the loss of a token. "
        "Source: Merity et al. 2017 (2).",
    )
    temporal_regularization: float = option(
        0.0,
        "Factor of the mean square of its change from step to step, before dropout. Source: Merity et al. 2017 (1).",
    )
    nonmonotone_interval: int = option(
        0,
        "Weights are averaged once a validation is worse than the best of all but so many before it; 0 means never. "
        "Source: Merity, algorithm 1 (5).",
    )
    early_stopping: int = option(0, "Epochs without a better validation after which training ends; 0 means never.")
    keep_weights: int = option(0, "Last epochs whose weights are kept, for `keraslm average`.")
    average_across_timesteps: bool = option(
        False, "Average the loss over the steps of a window instead of summing. Source: sequence_loss of TensorFlow 1."
    )
    average_across_batch: bool = option(
        True, "Average the loss over rows instead of summing. Source: PTB tutorial, sequence_loss."
    )
    dtype: Literal["float32", "bfloat16"] = option(
        "float32",
        "Type of the operands of matrix products; state, loss, weights and updates stay float32. bfloat16 needs torch "
        "on a CPU with bfloat16 instructions, or a GPU.",
    )
    seed: int = option(0, "Seed of initial weights and dropout; initial weights are the same on every backend.")
    log_every: int = option(0, "Windows between loss rows in metrics.jsonl; 0 means epochs only.")
    checkpoint_every: str = option(
        "10m",
        "Minutes or windows between checkpoints inside an epoch, such as 10m or 500w; each epoch ends with one too.",
    )

    def __post_init__(self) -> None:
        check_types(self)
        for name in ("batch_size", "num_steps", "epochs"):
            check(self, name, getattr(self, name) >= 1, "at least 1")
        check(self, "learning_rate", self.learning_rate > 0.0, "above 0")
        check(self, "optimizer", self.optimizer in OPTIMIZERS, "sgd or adamw")
        check(self, "lr_schedule", self.lr_schedule in SCHEDULES, "decay, cosine, plateau or constant")
        for name in ("beta_1", "beta_2"):
            check(self, name, 0.0 <= getattr(self, name) < 1.0, "at least 0 and below 1")
        check(self, "lr_final", 0.0 <= self.lr_final <= 1.0, "at least 0 and at most 1")
        check(self, "lr_patience", self.lr_patience >= 1, "at least 1")
        if self.optimizer == "adamw" and self.learning_rate >= 1.0:
            raise ConfigError(
                "--optimizer adamw moves each weight by about the learning rate at every step, but learning_rate is "
                f"{self.learning_rate:g}, a rate of SGD. Give, for example, --learning-rate 0.001."
            )
        if self.lr_final and self.lr_schedule != "cosine":
            raise ConfigError(f"--lr-final belongs to --lr-schedule cosine, not {self.lr_schedule}.")
        check(self, "warmup_epochs", 0.0 <= self.warmup_epochs <= self.epochs, "between 0 and the number of epochs")
        check(self, "lr_decay", 0.0 < self.lr_decay <= 1.0, "above 0 and at most 1")
        for name in (
            *("lr_decay_from", "clip_norm", "log_every", "weight_decay", "nonmonotone_interval", "early_stopping"),
            *("keep_weights", "activation_regularization", "temporal_regularization"),
        ):
            check(self, name, getattr(self, name) >= 0, "0 or more")
        check(self, "dtype", self.dtype in ("float32", "bfloat16"), "float32 or bfloat16")
        check(self, "seed", 0 <= self.seed < 2**32, "between 0 and 2**32 - 1")
        every = re.fullmatch(r"([0-9]+(?:\.[0-9]+)?)m|([0-9]+)w", self.checkpoint_every, re.ASCII)
        number = float(every[1] or every[2]) if every else 0.0
        check(self, "checkpoint_every", number > 0.0, "minutes or windows above 0, such as 10m or 500w")

    @property
    def rate_follows_lengths(self) -> bool:
        """Whether a longer window takes a larger step.

        Merity's gradient is that of a mean over steps. A sum grows with the window by itself, but Adam's step does not.
        """
        return self.variable_windows and (self.optimizer == "adamw" or self.average_across_timesteps)

    @property
    def rate_varies_within_epoch(self) -> bool:
        """Whether the learning rate changes from window to window."""
        return self.lr_schedule == "cosine" or self.warmup_epochs > 0 or self.rate_follows_lengths
