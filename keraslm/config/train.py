"""How a network is trained: windows, optimizer, learning rate, regularization, what is averaged and kept."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import Literal

from keraslm.config.fields import check, check_at_least, check_types, option
from keraslm.errors import ConfigError


@dataclass(frozen=True)
class TrainConfig:
    """Truncated backpropagation through time, and everything else that `fit()` needs.

    Example:
        >>> TrainConfig(optimizer="adamw", learning_rate=1e-3).clip_norm
        5.0
    """

    batch_size: int = option(20, "Rows of the stream that are trained side by side. Source: Zaremba.")
    accumulate: int = option(
        1,
        "Parts of the rows of a window, computed one after the other: the update is that of the whole window, with the "
        "memory of a part. Dropout draws other masks.",
    )
    num_steps: int = option(20, "Tokens per row in one window; the gradient is cut there. Source: Zaremba, 20 and 35.")
    epochs: int = option(13, "Passes over the training text. Source: PTB tutorial, small 13, medium 39, large 55.")
    variable_windows: bool = option(
        False,
        "Draw the length of each window: around num_steps with a standard deviation of 5, one window in twenty around "
        "half of it. The learning rate is scaled with the length unless the loss is a sum over steps. "
        "Source: Merity, section 4.1.",
    )
    optimizer: Literal["sgd", "adamw"] = option(
        "sgd", "Plain SGD or AdamW. Source: Zaremba; Loshchilov and Hutter 2019."
    )
    learning_rate: float = option(
        1.0,
        "Step size. 1 suits SGD on a loss that is summed over steps; AdamW needs about 0.001. "
        "Source: Zaremba; Kingma and Ba 2015.",
    )
    beta_1: float = option(0.9, "AdamW: decay of the mean of gradients. Source: Kingma and Ba 2015.")
    beta_2: float = option(0.999, "AdamW: decay of the mean of squared gradients. Source: Kingma and Ba 2015.")
    weight_decay: float = option(
        0.0,
        "Share of each weight that is subtracted per step, times the learning rate; separate from gradient and "
        "clipping. Source: Loshchilov and Hutter 2019; Merity (1.2e-6 at rate 30).",
    )
    lr_schedule: Literal["decay", "cosine", "luong234", "plateau", "constant"] = option(
        "decay",
        "decay: multiply the rate by lr_decay once per epoch after the first lr_decay_from epochs; plateau: multiply "
        "after lr_patience epochs without a better validation; cosine: fall to lr_final over all epochs; luong234: "
        "multiply after 3/4, 5/6 and 11/12 of all windows. "
        "Source: Zaremba; Loshchilov and Hutter 2017; NMT tutorial.",
    )
    warmup_epochs: float = option(
        0.0, "Epochs, or a fraction of one, over which the learning rate rises linearly from 0; in any schedule."
    )
    lr_final: float = option(0.0, "Final learning rate of the cosine schedule, as a fraction of learning_rate.")
    lr_patience: int = option(1, "Epochs without a better validation before the plateau schedule decays.")
    lr_decay: float = option(0.5, "Factor on the learning rate, once per epoch. Source: Zaremba.")
    lr_decay_from: int = option(
        4, "Epochs at the full learning rate before the decay begins. Source: PTB tutorial, max_epoch."
    )
    clip_norm: float | None = option(
        5.0, "Largest global norm of the gradient; 0: no clipping. Source: Zaremba.", zero_is_none=True
    )
    activation_regularization: float = option(
        0.0,
        "Factor of the mean square of the last layer's output, after dropout, added to the loss per token. "
        "Source: Merity et al. 2017 (2).",
    )
    temporal_regularization: float = option(
        0.0,
        "Factor of the mean square of that output's change from step to step, before dropout. "
        "Source: Merity et al. 2017 (1).",
    )
    nonmonotone_interval: int | None = option(
        None,
        "Start averaging the weights when a validation is worse than the best value from more than this many epochs "
        "ago; 0: never. Source: Merity, algorithm 1 (5).",
        zero_is_none=True,
    )
    average_from: int | None = option(
        None,
        "First epoch whose weights are averaged, without waiting for a worse validation; 0: never. With init_from, 1 "
        "is the fine-tuning of Merity's second program.",
        zero_is_none=True,
    )
    early_stopping: int | None = option(
        None, "Stop after this many epochs without a better validation; 0: never.", zero_is_none=True
    )
    keep_weights: int = option(0, "Number of last epochs whose weights are kept, for keraslm average.")
    save_at_words: tuple[int, ...] | None = option(
        None,
        "Numbers of trained words at which weights are kept, e.g. 1M,2M,10M: after the window that reaches the number, "
        "where an epoch counts all words of the training text. Default: none.",
    )
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
    seed: int = option(0, "Seed of initial weights and dropout. Initial weights are the same on every backend.")
    log_every: int | None = option(
        None, "Windows between rows of loss in metrics.jsonl; 0: one row per epoch only.", zero_is_none=True
    )
    checkpoint_minutes: float | None = option(
        10.0, "Minutes between checkpoints within an epoch; 0: only after each epoch.", zero_is_none=True
    )
    checkpoint_windows: int | None = option(
        None, "Windows between checkpoints within an epoch, instead of minutes.", zero_is_none=True
    )

    def __post_init__(self) -> None:
        check_types(self)
        check_at_least(
            self, 1, "batch_size", "accumulate", "num_steps", "epochs", "lr_patience", "nonmonotone_interval"
        )
        check_at_least(self, 1, "average_from", "early_stopping", "log_every", "checkpoint_windows")
        check_at_least(self, 0, "lr_decay_from", "weight_decay", "keep_weights")
        check_at_least(self, 0, "activation_regularization", "temporal_regularization")
        for name in ("learning_rate", "clip_norm", "checkpoint_minutes"):
            value = getattr(self, name)
            check(self, name, value is None or value > 0.0, "above 0")
        for name in ("beta_1", "beta_2"):
            check(self, name, 0.0 <= getattr(self, name) < 1.0, "at least 0 and below 1")
        increasing = all(a < b for a, b in pairwise((0, *(self.save_at_words or (1,)))))
        expected = "increasing integers above 0, e.g. (1000000, 2000000)"
        check(self, "save_at_words", increasing and self.save_at_words != (), expected)
        check(self, "lr_final", 0.0 <= self.lr_final <= 1.0, "at least 0 and at most 1")
        check(self, "warmup_epochs", 0.0 <= self.warmup_epochs <= self.epochs, "between 0 and the number of epochs")
        check(self, "lr_decay", 0.0 < self.lr_decay <= 1.0, "above 0 and at most 1")
        check(self, "seed", 0 <= self.seed < 2**32, "between 0 and 2**32 - 1")
        if self.batch_size % self.accumulate:
            raise ConfigError(
                f"`accumulate` is {self.accumulate}, which does not divide `batch_size`, {self.batch_size}: every part "
                "of a window must have the same number of rows."
            )
        if self.optimizer == "adamw" and self.learning_rate >= 1.0:
            raise ConfigError(
                f"`learning_rate` is {self.learning_rate:g}, a rate for SGD, but `optimizer` is adamw, which moves "
                "each weight by about the learning rate per step. Use, for example, `learning_rate=0.001`."
            )
        if self.average_from and self.nonmonotone_interval:
            raise ConfigError(
                "`average_from` and `nonmonotone_interval` both say when averaging starts; leave one out."
            )
        if self.lr_final and self.lr_schedule != "cosine":
            raise ConfigError(f'`lr_final` needs `lr_schedule="cosine"`, but the schedule is {self.lr_schedule}.')

    @property
    def averages(self) -> bool:
        """Whether the weights may be averaged."""
        return self.average_from is not None or self.nonmonotone_interval is not None

    @property
    def rate_follows_lengths(self) -> bool:
        """Whether a longer window takes a larger step.

        Merity's gradient is the mean over steps. A sum over steps grows with the window already, but Adam's step does
        not.
        """
        return self.variable_windows and (self.optimizer == "adamw" or self.average_across_timesteps)

    @property
    def rate_varies_within_epoch(self) -> bool:
        """Whether the learning rate changes from window to window."""
        return self.rate_depends_on_epochs or self.warmup_epochs > 0 or self.rate_follows_lengths

    @property
    def rate_depends_on_epochs(self) -> bool:
        """Whether the rates depend on the number of epochs, which then cannot change when a run is resumed."""
        return self.lr_schedule in ("cosine", "luong234")
