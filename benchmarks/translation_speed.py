"""Translation speed of an exported network on onnxruntime, compared with PyTorch eager.

    python benchmarks/translation_speed.py RUN EXPORT SOURCE [--beams 1 5] [--rounds 5]

RUN is a run folder of `examples/translation` with attention, EXPORT the folder of its export, and SOURCE a text with
one sentence per line. Both contestants run the search of `examples/translation/search.py` over the same batches of 64
sentences; only the network differs. That of PyTorch has the weights of the run: `nn.Embedding`, `nn.LSTM` over packed
sentences, `nn.LSTMCell`, and the attention in plain operations, under `torch.inference_mode()`. Each round runs every
contestant once, in a process of its own, after a warm-up of 64 sentences. Ratios are taken within a round.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
from common import child, median, run_rounds, spread

ROOT = Path(__file__).resolve().parents[1]
CONTESTANTS = ("onnxruntime", "pytorch")


def onnxruntime_translator(export: Path) -> Any:
    """A function from lines and a beam to translations."""
    sys.path.insert(0, str(ROOT / "examples" / "translation"))
    from search import Search
    from translate import Translator

    translator = Translator(export)
    return lambda lines, beam: [best[0][0] for best in translator.translate(lines, Search(beam, 1.0))]


def torch_translator(run: Path) -> Any:
    """The same with PyTorch."""
    sys.path.insert(0, str(ROOT))
    import torch
    from torch import nn

    from examples.translation.run import TranslationRun
    from examples.translation.search import Search, search_batches

    opened = TranslationRun.open(run, "best")
    config, tokenizer = opened.config, opened.tokenizer
    weights = {name: torch.from_numpy(value.copy()) for name, value in opened.read_weights().items()}
    if config.model.attention not in ("luong", "scaled_luong") or config.model.num_layers > 1:
        raise SystemExit("this benchmark needs one layer and the attention luong or scaled_luong")

    def cell(target: nn.Module, names: str, suffix: str = "") -> None:
        kernel, recurrent, bias = (weights[names.format(part)] for part in ("kernel", "recurrent_kernel", "bias"))
        for name, value in (("weight_ih", kernel.T), ("weight_hh", recurrent.T), ("bias_ih", bias)):
            getattr(target, name + suffix).data.copy_(value)
        getattr(target, "bias_hh" + suffix).data.zero_()

    units, both = config.model.units, config.model.bidirectional
    source = nn.Embedding.from_pretrained(weights["source_embedding/embeddings"])
    table = nn.Embedding.from_pretrained(weights["target_embedding/embeddings"])
    encoder = nn.LSTM(source.embedding_dim, units // (1 + both), batch_first=True, bidirectional=both)
    decoder = nn.LSTMCell(table.embedding_dim + units, units)
    for direction, suffix in (("forward", "_l0"), ("backward", "_l0_reverse"))[: 1 + both]:
        cell(encoder, f"encoder_0_{direction}/{{}}", suffix)
    cell(decoder, "decoder/{}_0")
    kernel = weights.get("logits/kernel", table.weight.T)

    def encode(ids: np.ndarray, lengths: np.ndarray) -> Any:
        packed = nn.utils.rnn.pack_padded_sequence(
            source(torch.from_numpy(ids)), torch.from_numpy(lengths), batch_first=True, enforce_sorted=False
        )
        outputs, (h, c) = encoder(packed)
        memory, _ = nn.utils.rnn.pad_packed_sequence(outputs, batch_first=True, total_length=ids.shape[1])
        h, c = (part.transpose(0, 1).reshape(len(ids), units) for part in (h, c))
        closed = torch.from_numpy(np.arange(ids.shape[1]) >= lengths[:, None]) * -1e9
        found = (memory @ weights["keys/kernel"], memory, closed.float()), (torch.zeros_like(h), h, c)
        return tuple(tuple(part.numpy() for part in parts) for parts in found)

    def step(tokens: np.ndarray, memory: Any, state: Any) -> Any:
        keys, values, closed = map(torch.from_numpy, memory)
        a, h, c = map(torch.from_numpy, state)
        h, c = decoder(torch.cat([table(torch.from_numpy(tokens)), a], 1), (h, c))
        scores = torch.bmm(keys, h[:, :, None])[:, :, 0] * weights.get("decoder/scale", 1.0)
        attended = torch.softmax(scores + closed, 1)
        context = torch.bmm(attended[:, None], values)[:, 0]
        a = torch.tanh(torch.cat([context, h], 1) @ weights["decoder/combine"])
        log_probs = torch.log_softmax(a @ kernel + weights["logits/bias"], 1)
        return log_probs.numpy(), tuple(part.numpy() for part in (a, h, c)), attended.numpy()

    def translate(lines: list[str], beam: int) -> list[str]:
        sentences = tokenizer.encode_source(lines, config.data.reverse_source)
        with torch.inference_mode():
            found = search_batches(encode, step, sentences, tokenizer.target.eos_id, Search(beam, 1.0))
        return [tokenizer.target.decode(best[0].tokens) for best in found]

    return translate


def contestant(name: str, folder: Path, source: Path, beam: int) -> None:
    """Print the sentences per second of a contestant and its translations."""
    lines = source.read_text(encoding="utf-8").splitlines()
    translate = onnxruntime_translator(folder) if name == "onnxruntime" else torch_translator(folder)
    translate(lines[:64], beam)
    start = time.perf_counter()
    texts = translate(lines, beam)
    print(json.dumps({"rate": len(lines) / (time.perf_counter() - start), "texts": texts}))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path)
    parser.add_argument("export", type=Path)
    parser.add_argument("source", type=Path)
    parser.add_argument("--beams", type=int, nargs="+", default=[1, 5])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--contestant", choices=CONTESTANTS, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.contestant:
        folder = given.export if given.contestant == "onnxruntime" else given.run
        contestant(given.contestant, folder, given.source, given.beams[0])
        return
    for beam in given.beams:
        found = run_rounds(
            f"beam {beam}",
            CONTESTANTS,
            given.rounds,
            lambda name, beam=beam: child(
                __file__, given.run, given.export, given.source, "--beams", beam, "--contestant", name
            ),
            required=True,
        )
        ours, theirs = (found[name] for name in CONTESTANTS)
        same = np.mean([a == b for a, b in zip(ours[0]["texts"], theirs[0]["texts"], strict=True)])
        ratios = [a["rate"] / b["rate"] for a, b in zip(ours, theirs, strict=True)]
        print(
            f"beam {beam}: onnxruntime {median(ours, 'rate'):.0f}, PyTorch {median(theirs, 'rate'):.0f} sentences per "
            f"second; ratio {spread(ratios)}; {100 * same:.1f} % equal translations"
        )


if __name__ == "__main__":
    main()
