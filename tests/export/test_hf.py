"""The folder for transformers: its model, its tokenizer, and what is refused."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import keraslm
from keraslm.config import DataConfig
from keraslm.errors import ExportError, RunError, UsageError
from keraslm.runs.weights import digest_of, write_weights
from keraslm.text.importing import import_tokenizer
from keraslm.text.vocabulary import train_tokenizer
from keraslm_export.targets import hf, hf_files, hf_verify
from tests.support.made_run import KINDS, make_run, random_weights
from tests.support.tiny import text_lines

torch = pytest.importorskip("torch", reason="torch is not installed")
_modules = tempfile.TemporaryDirectory()
os.environ |= {"HF_HUB_OFFLINE": "1", "HF_MODULES_CACHE": _modules.name}  # read when transformers is imported
transformers = pytest.importorskip("transformers", reason="transformers is not installed")

LINES = text_lines(150, seed=1)
NETWORKS = {"full": {"layer_units": (9, 5, 7)}, **KINDS}
TOKENIZERS = {
    "word": {},
    "punctuation": {"split_punctuation": True, "lowercase": True},
    "char": {"tokenizer": "char"},
    "byte": {"tokenizer": "byte"},
    "bpe": {"tokenizer": "bpe", "vocab_size": 300},
    "unigram": {"tokenizer": "unigram", "vocab_size": 80, "lowercase": True},
}
# U+010A is the name of the line end in the vocabulary of bytes.
TRICKY = [
    "",
    "the cat",
    " the  cat ",
    "the <eos> cat <unk>",
    "\u010a \u010aaqda",
    "Ġ the",
    "日本 naïve",
    "THE Cat, sat.",
    "a\tb",
]


def opened(folder: Path) -> Any:
    return transformers.AutoModelForCausalLM.from_pretrained(folder, trust_remote_code=True).eval()


def tokenizer_of(folder: Path) -> Any:
    return transformers.AutoTokenizer.from_pretrained(folder, trust_remote_code=True)


def tokenizer_from(files: dict[str, str], folder: Path) -> Any:
    for name, text in files.items():
        (folder / name).write_text(text, encoding="utf-8")
    return tokenizer_of(folder)


class Made:
    def __init__(self, folder: Path, kind: str):
        fields = {"units": 8, "embedding_dim": 6, "num_layers": 2} | NETWORKS[kind]
        self.run = make_run(folder, LINES, **fields)
        self.report = hf.write(self.run, folder / "hf")
        self.model, self.tokenizer = opened(folder / "hf"), tokenizer_of(folder / "hf")
        self.eos = self.run.tokenizer.eos_id

    def ids(self, rows: int, steps: int) -> Any:
        return torch.tensor(np.random.default_rng(steps).integers(0, self.run.tokenizer.vocab_size, (rows, steps)))

    def logits(self, ids: Any, **named: Any) -> Any:
        with torch.no_grad():
            return self.model(input_ids=ids, **named).logits


@pytest.fixture(scope="module", params=sorted(NETWORKS))
def made(request, tmp_path_factory) -> Made:
    return Made(tmp_path_factory.mktemp(request.param), request.param)


@pytest.fixture(scope="module")
def full(tmp_path_factory) -> Made:
    return Made(tmp_path_factory.mktemp("full"), "full")


# The model


def test_the_folder_agrees_with_keras(made):
    report = made.report
    assert (report.cases, report.path) == (4, made.run.path.parent / "hf")
    assert 0 <= report.largest_difference < 1e-5 and 0 <= report.chunked_difference < 1e-5
    assert report.bytes == sum(path.stat().st_size for path in report.path.iterdir())


def test_rows_with_padding_have_the_logits_of_rows_alone(made):
    """On either side, or inside a row."""
    ids = made.ids(3, 9)
    mask = torch.tensor([[1] * 9, [1] * 4 + [0] * 5, [0, 0, 1, 1, 0, 1, 1, 1, 1]])
    found = made.logits(torch.where(mask == 1, ids, made.eos), attention_mask=mask)
    for row in range(3):
        real = mask[row] == 1
        torch.testing.assert_close(found[row][real], made.logits(ids[row][real][None])[0], rtol=0, atol=1e-5)


def test_the_loss_is_the_mean_cost_of_the_next_token(made):
    ids = made.ids(2, 6)
    labels = ids.clone()
    labels[1, 3:] = -100
    log_probs = made.logits(ids).log_softmax(-1)[:, :-1].gather(2, ids[:, 1:, None])[:, :, 0]
    with torch.no_grad():
        loss = made.model(input_ids=ids, labels=labels).loss
    torch.testing.assert_close(loss, -log_probs[labels[:, 1:] != -100].mean(), rtol=0, atol=1e-5)


def test_greedy_generation_is_that_of_the_logits_of_all_tokens(made):
    ids = made.ids(2, 4)
    found = made.model.generate(
        ids, attention_mask=torch.ones_like(ids), max_new_tokens=6, do_sample=False, eos_token_id=None
    )
    expected = ids
    for _ in range(6):
        expected = torch.cat([expected, made.logits(expected)[:, -1].argmax(-1, keepdim=True)], 1)
    assert found.tolist() == expected.tolist()


@pytest.mark.parametrize("options", [{"do_sample": True}, {"num_beams": 3}, {"num_beams": 2, "do_sample": True}])
def test_generation_with_state_is_that_without(full, options):
    found = []
    ids = full.ids(2, 4)
    for use_cache in (True, False):
        torch.manual_seed(0)
        found.append(
            full.model.generate(
                ids, attention_mask=torch.ones_like(ids), max_new_tokens=9, use_cache=use_cache, **options
            )
        )
    assert found[0].tolist() == found[1].tolist()


def test_generation_reads_one_token_per_step(full, monkeypatch):
    lengths, forward = [], full.model.model.forward
    monkeypatch.setattr(
        full.model.model, "forward", lambda ids, *more: lengths.append(ids.shape[1]) or forward(ids, *more)
    )
    full.model.generate(full.ids(1, 4), max_new_tokens=5, eos_token_id=None)
    assert lengths == [4, 1, 1, 1, 1]


@pytest.mark.parametrize("side", ["left", "right"])
def test_padded_prompts_generate_what_each_alone_does(full, side):
    prompts = ["the cat sat here", "a", "big dog"]
    options = {"max_new_tokens": 5, "eos_token_id": None}
    batch = full.tokenizer(prompts, return_tensors="pt", padding=True, padding_side=side)
    together = full.model.generate(**batch, **options)[:, -5:].tolist()
    alone = [full.model.generate(**full.tokenizer(p, return_tensors="pt"), **options)[0, -5:].tolist() for p in prompts]
    assert together == alone


def test_the_body_alone_and_a_saved_copy_open_too(made, tmp_path):
    ids = made.ids(2, 5)
    body = transformers.AutoModel.from_pretrained(made.report.path, trust_remote_code=True).eval()
    with torch.no_grad():
        hidden = body(input_ids=ids).last_hidden_state
    assert hidden.shape == (2, 5, made.run.config.model.sizes[-1])
    torch.testing.assert_close(made.model.logits_of(hidden), made.logits(ids), rtol=0, atol=1e-6)
    made.model.save_pretrained(tmp_path / "copy")
    with torch.no_grad():
        assert torch.equal(opened(tmp_path / "copy")(input_ids=ids).logits, made.logits(ids))


def test_it_can_be_trained_further(made):
    model = opened(made.report.path).train()
    ids = made.ids(2, 5)
    model(input_ids=ids, labels=ids).loss.backward()
    assert all(
        p.grad is not None and p.grad.abs().sum() > 0 for name, p in model.named_parameters() if "tails" not in name
    )


# The tokenizer


@pytest.fixture(params=sorted(TOKENIZERS))
def tokenizers(request, tmp_path):
    """A tokenizer of keraslm, and that of transformers."""
    own = train_tokenizer([*LINES, "Ta, la."], DataConfig(**TOKENIZERS[request.param]))
    return own, tokenizer_from(hf_files.tokenizer_files(own), tmp_path)


def test_ids_are_those_of_keraslm_with_the_end_symbol_first(tokenizers):
    own, other = tokenizers
    lines = [*TRICKY, *LINES[:20], other.eos_token, f"a {other.eos_token}b"]
    lines = [line for line in lines if "\n" not in line]
    for line, ids in zip(lines, own.encode_lines(lines), strict=True):
        assert [*other(line, add_special_tokens=False)["input_ids"], other.eos_token_id] == ids.tolist(), line
        assert other(line)["input_ids"] == [own.eos_id, *ids[:-1]]
        assert other.decode(ids, skip_special_tokens=False) == own.decode(ids)


def test_special_tokens_have_the_ids_of_keraslm(tokenizers):
    own, other = tokenizers
    assert (other.bos_token_id, other.eos_token_id, other.pad_token_id) == (own.eos_id,) * 3
    assert other.unk_token_id == (own.unk_id if own.unk_id >= 0 else None)
    assert len(other) == own.vocab_size
    pair = other("the cat", "a dog")["input_ids"]
    assert pair == [own.eos_id, *own.encode_prompt("the cat"), own.eos_id, *own.encode_prompt("a dog")]


def test_a_batch_is_padded_on_the_right_with_a_mask(full):
    batch = full.tokenizer(["the cat sat", "a"], padding=True, return_tensors="pt")
    assert set(batch) == {"input_ids", "attention_mask"}
    assert batch["attention_mask"].tolist() == [[1, 1, 1, 1], [1, 1, 0, 0]]
    assert batch["input_ids"][1, 2:].tolist() == [full.eos, full.eos]
    processor = transformers.AutoProcessor.from_pretrained(
        full.report.path, padding_side="right", trust_remote_code=True
    )
    assert processor(text="a")["input_ids"] == batch["input_ids"][1, :2].tolist()


def test_a_tokenizer_with_added_tokens_is_read_in_the_same_way(tmp_path):
    from tokenizers import Tokenizer, models, pre_tokenizers

    backend = Tokenizer(models.WordLevel({"<unk>": 0, "the": 1, "cat": 2, "</s>": 3}, unk_token="<unk>"))
    backend.pre_tokenizer = pre_tokenizers.Whitespace()
    backend.add_special_tokens(["</s>", "<unk>"])
    backend.add_tokens(["catfish"])
    backend.save(str(tmp_path / "foreign.json"))
    own = import_tokenizer(DataConfig(tokenizer=str(tmp_path / "foreign.json"), eos_token="</s>"))
    other = tokenizer_from(hf_files.tokenizer_files(own), tmp_path)
    hf_verify.check_ids(own, other, ["the catfish</s>the", "cat <unk> the", "<eos>"])


# Minimal pairs


@pytest.fixture(scope="module")
def tiny(tiny_run, tmp_path_factory):
    folder = tmp_path_factory.mktemp("tiny") / "hf"
    hf.write(tiny_run, folder)
    return opened(folder), tokenizer_of(folder)


PAIRS = [(good, bad) for good, bad in zip(text_lines(40, seed=5), text_lines(40, seed=6), strict=True) if good != bad]


def phrase_scores(model, tokenizer, lines: list[str]) -> list[float]:
    """As BabyLM's pipeline scores sentences: padded on the right, the tokens with characters in the sentence."""
    batch = tokenizer(lines, padding=True, return_tensors="pt", return_offsets_mapping=True)
    ids, mask, phrase = batch["input_ids"], batch["attention_mask"], batch["offset_mapping"][:, 1:, 1] > 0
    with torch.no_grad():
        log_probs = model(input_ids=ids[:, :-1], attention_mask=mask[:, :-1])["logits"].log_softmax(-1)
    return (log_probs.gather(2, ids[:, 1:, None])[:, :, 0] * phrase).sum(1).tolist()


def test_pairs_have_the_scores_of_keraslm_pairs(tiny, tiny_model):
    """With the end symbol after each sentence, which `keraslm pairs` scores too."""
    model, tokenizer = tiny
    results = keraslm.pairs(tiny_model, PAIRS)
    for score in results.scores:
        found = []
        for line in (score.pair.good, score.pair.bad):
            ids = torch.tensor([[*tokenizer(line)["input_ids"], tokenizer.eos_token_id]])
            with torch.no_grad():
                found.append(-float(model(input_ids=ids, labels=ids).loss) * (ids.shape[1] - 1))
        assert found == pytest.approx([score.good, score.bad], abs=1e-3)
        assert score.result == ("right" if found[0] > found[1] else "wrong")


def test_a_harness_that_scores_the_words_alone_has_the_scores_of_context_sentence(tiny, tiny_model):
    model, tokenizer = tiny
    lines = [line for pair in PAIRS for line in pair]
    expected = [float(logprobs[:-1].sum()) for logprobs in keraslm.load(tiny_model).logprobs(lines, "sentence")]
    assert phrase_scores(model, tokenizer, lines) == pytest.approx(expected, abs=1e-3)


# Weights at numbers of words


def test_each_number_of_words_has_a_folder(tmp_path, run):
    with pytest.raises(RunError, match=r"has kept no weights at numbers of words\. Train with `save_at_words`"):
        hf.write_checkpoints(run, tmp_path / "hf")
    for number, scale in ((1000, 0.1), (1500, 0.5), (2_000_000, 1.0)):
        weights = random_weights(run.config.model, run.tokenizer.vocab_size, scale=scale)
        write_weights(run.at_words_path(number), weights)
        run.append({"epoch": 1, "window": number, "words": number, "weights": digest_of(weights)})
    reports = hf.write_checkpoints(run, tmp_path / "hf")
    assert list(reports) == ["chck_1k", "chck_1500", "chck_2M"]
    assert {path.name for path in (tmp_path / "hf").iterdir()} == set(reports)
    assert "--weights 2M" in (tmp_path / "hf" / "chck_2M" / "README.md").read_text(encoding="utf-8")
    sizes = [float(opened(report.path).model.embedding.weight.detach().abs().max()) for report in reports.values()]
    assert sizes[0] < 0.1 < sizes[1] < 0.5 < sizes[2]


# Refusals


@pytest.fixture
def run(tmp_path):
    return make_run(tmp_path, units=3, num_layers=1)


@pytest.mark.parametrize(
    ("fields", "step"),
    [({"mogrifier_rounds": 2}, "a Mogrifier"), ({"input_gate": "capped"}, "a capped input gate")],
)
def test_a_step_that_torch_lacks_is_refused(tmp_path, fields, step):
    run = make_run(tmp_path, units=3, **fields)
    with pytest.raises(UsageError, match=f"has {step}, which torch has no layer for"):
        hf.write(run, tmp_path / "hf")
    assert not (tmp_path / "hf").exists()


def test_a_folder_with_something_else_is_not_touched(run, tmp_path):
    for place in (run.path, tmp_path / "mine"):
        place.mkdir(exist_ok=True)
        (place / "notes.txt").write_text("mine")
        before = {path: path.read_bytes() for path in place.iterdir()}
        with pytest.raises(UsageError, match=r"but no model that the target hf has written"):
            hf.write(run, place)
        assert {path: path.read_bytes() for path in place.iterdir()} == before
    with pytest.raises(UsageError, match="is a file"):
        hf.write(run, tmp_path / "mine" / "notes.txt")


def test_an_own_folder_is_replaced_and_other_files_in_it_stay(run, tmp_path):
    hf.write(run, tmp_path / "hf")
    before = {path.name: path.read_bytes() for path in (tmp_path / "hf").iterdir()}
    (tmp_path / "hf" / ".gitattributes").write_text("mine")
    (tmp_path / "hf" / "model.safetensors").write_bytes(b"")
    hf.write(run, tmp_path / "hf")
    assert {path.name: path.read_bytes() for path in (tmp_path / "hf").iterdir()} == before | {
        ".gitattributes": b"mine"
    }


def test_a_folder_that_differs_does_not_appear(run, tmp_path, monkeypatch):
    weights = hf_files.torch_weights
    monkeypatch.setattr(hf_files, "torch_weights", lambda *given: {k: v + 0.01 for k, v in weights(*given).items()})
    with pytest.raises(ExportError, match=r"differs from Keras: logits by .*at most 0\.0001 is allowed"):
        hf.write(run, tmp_path / "hf")
    monkeypatch.undo()
    other = train_tokenizer(["the cat sat on the mat", "a bird ran"])
    monkeypatch.setattr(hf_files, "tokenizer_files", lambda _, made=hf_files.tokenizer_files: made(other))
    with pytest.raises(ExportError, match=r"transformers gives .* the ids .*, but keraslm .*\. Not published"):
        hf.write(run, tmp_path / "hf")
    assert {path.name for path in tmp_path.iterdir()} == {"run", "runs"}
