"""A recurrent language model trained with keraslm, for transformers.

This file is copied into the folder of each model, and needs torch and transformers only. Shapes: `B` rows, `T` steps,
`H` units of the last layer, `V` vocabulary.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import linear, pad
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence
from torch.utils._pytree import tree_map
from transformers import GenerationMixin, PretrainedConfig, PreTrainedModel
from transformers.utils.generic import ModelOutput

CELLS = {"lstm": nn.LSTM, "gru": nn.GRU, "rnn": nn.RNN}


class KeraslmConfig(PretrainedConfig):
    """The sizes of a network, which `config.json` sets."""

    model_type = "keraslm"
    vocab_size, embedding_size, layer_sizes, cell, skip_connections = 2, 1, [1], "lstm", False
    softmax, tied = "full", False  # full, adaptive or mixture; tied: the embedding table is the kernel
    cutoffs, tail_sizes = [1], [1]  # of an adaptive softmax: ids at which clusters begin, and their widths
    num_experts = 1  # of a mixture


@dataclass
class KeraslmOutput(ModelOutput):
    """What both models return; logits of an adaptive softmax or a mixture are log-probabilities."""

    loss: Tensor | None = None
    logits: Tensor | None = None  # (B, T, V)
    last_hidden_state: Tensor | None = None  # (B, T, H)
    state: tuple[Tensor, list[Any]] | None = None  # all ids so far; of each layer h, or h and c, (1, B, units)


class KeraslmPreTrainedModel(PreTrainedModel):
    config_class, base_model_prefix = KeraslmConfig, "model"
    _is_stateful, _input_embed_layer = True, "embedding"


class KeraslmModel(KeraslmPreTrainedModel):
    """Embedding and recurrent layers. A token with `attention_mask` 0 changes neither the state nor other outputs."""

    def __init__(self, config: KeraslmConfig) -> None:
        super().__init__(config)
        self.embedding = nn.Embedding(config.vocab_size, config.embedding_size)
        sizes = pairwise([config.embedding_size, *config.layer_sizes])
        self.layers = nn.ModuleList(CELLS[config.cell](inputs, units) for inputs, units in sizes)
        self.post_init()

    def forward(
        self, input_ids: Tensor, attention_mask: Tensor | None = None, state: Any = None, **kwargs: Any
    ) -> KeraslmOutput:
        """Hidden states of ids `(B, T)`; at a masked position that of the token before it, or zeros at the start."""
        mask = torch.ones_like(input_ids) if attention_mask is None else attention_mask[:, -input_ids.shape[1] :].long()
        known, starts = state or (input_ids[:, :0], [None] * len(self.layers))
        order = mask.argsort(dim=1, descending=True, stable=True)  # the tokens of each row first, in their order
        counts = mask.sum(1).clamp(min=1).cpu()  # a row without tokens is read as one of padding
        embedded = self.embedding(input_ids.gather(1, order))
        packed, ends = pack_padded_sequence(embedded, counts, batch_first=True, enforce_sorted=False), []
        outputs: list[Tensor] = []
        for layer, start in zip(self.layers, starts, strict=True):
            packed, end = layer(packed, start)
            ends.append(end)
            outputs.append(packed.data)
        if self.config.skip_connections:
            packed = packed._replace(data=torch.stack(outputs).sum(0))
        hidden, _ = pad_packed_sequence(packed, batch_first=True)  # (B, most tokens of a row, H)
        places = mask.cumsum(1)[:, :, None].expand(-1, -1, hidden.shape[2])  # after zeros at place 0
        hidden = pad(hidden, (0, 0, 1, 0)).gather(1, places)  # (B, T, H)
        return KeraslmOutput(last_hidden_state=hidden, state=(torch.cat([known, input_ids], 1), ends))


class KeraslmForCausalLM(KeraslmPreTrainedModel, GenerationMixin):
    """The model with its softmax. Generation carries the state from step to step."""

    def __init__(self, config: KeraslmConfig) -> None:
        super().__init__(config)
        self.model = KeraslmModel(config)
        units, size, words = config.layer_sizes[-1], config.embedding_size, config.vocab_size
        if config.softmax == "adaptive":
            widths, ends = config.tail_sizes, pairwise([*config.cutoffs, words])
            self.head = nn.Linear(units, config.cutoffs[0] + len(widths))  # the last entries stand for the clusters
            self.projections = nn.ModuleList(nn.Linear(units, width, bias=False) for width in widths)
            self.tails = nn.ModuleList(nn.Linear(w, end - start) for w, (start, end) in zip(widths, ends, strict=True))
        else:
            if config.softmax == "mixture":
                self.prior = nn.Linear(units, config.num_experts, bias=False)
                self.latent = nn.Linear(units, config.num_experts * size)
            if not config.tied:
                self.kernel = nn.Parameter(torch.zeros(words, size if config.softmax == "mixture" else units))
            self.bias = nn.Parameter(torch.zeros(words))
        self.post_init()

    def forward(
        self,
        input_ids: Tensor,
        attention_mask: Tensor | None = None,
        labels: Any = None,
        state: Any = None,
        **kwargs: Any,
    ) -> KeraslmOutput:
        """Logits `(B, T, V)` of ids `(B, T)`, and the mean cost of labels, which are shifted here; -100 is left out."""
        found = self.model(input_ids, attention_mask, state)
        logits, loss = self.logits_of(found.last_hidden_state), None
        if labels is not None:
            loss = self.loss_function(logits=logits, labels=labels, vocab_size=self.config.vocab_size, **kwargs)
        return KeraslmOutput(loss, logits, found.last_hidden_state, found.state)

    def logits_of(self, hidden: Tensor) -> Tensor:
        """Logits or log-probabilities `(B, T, V)` from hidden states `(B, T, H)`."""
        if self.config.softmax == "adaptive":
            head, parts = self.head(hidden).log_softmax(-1), zip(self.projections, self.tails, strict=True)
            tails = [tail(projection(hidden)).log_softmax(-1) for projection, tail in parts]
            frequent, *entries = head.split([self.config.cutoffs[0], *([1] * len(tails))], -1)
            return torch.cat([frequent, *(entry + tail for entry, tail in zip(entries, tails, strict=True))], -1)
        kernel = self.model.embedding.weight if self.config.tied else self.kernel
        if self.config.softmax == "full":
            return linear(hidden, kernel, self.bias)
        priors = self.prior(hidden).log_softmax(-1).split(1, -1)
        latents = self.latent(hidden).tanh().chunk(self.config.num_experts, -1)
        mixed = hidden.new_tensor(-torch.inf)
        for prior, latent in zip(priors, latents, strict=True):  # all at once would need more memory
            mixed = mixed.logaddexp(prior + linear(latent, kernel, self.bias).log_softmax(-1))
        return mixed

    def prepare_inputs_for_generation(
        self, input_ids: Tensor, attention_mask: Any = None, state: Any = None, use_cache: bool = True, **kwargs: Any
    ) -> dict[str, Any]:
        """The last token and the state, if it is that of exactly the tokens before; else all tokens."""
        if use_cache and state is not None and torch.equal(state[0], input_ids[:, :-1]):
            return {"input_ids": input_ids[:, -1:], "attention_mask": attention_mask, "state": state}
        return {"input_ids": input_ids, "attention_mask": attention_mask}

    def _update_model_kwargs_for_generation(self, outputs: Any, model_kwargs: Any, *args: Any, **kwargs: Any) -> Any:
        model_kwargs["state"] = outputs.state
        return super()._update_model_kwargs_for_generation(outputs, model_kwargs, *args, **kwargs)

    def _reorder_cache(self, state: Any, beam_idx: Tensor) -> Any:
        """The state of the beams that are kept; rows are the first axis of the ids, and the second of h and c."""
        return tree_map(lambda part: part.index_select(part.ndim - 2, beam_idx), state)

    @classmethod
    def _supports_default_dynamic_cache(cls) -> bool:
        return False  # the state has its own name
