"""Scores of prompts: the numbers, tokens, alternatives and offsets of `echo` are those of keraslm and NumPy."""

from __future__ import annotations

import numpy as np
import pytest

import keraslm
from tests.support.made_run import make_run
from tests.support.served_models import KINDS, LINES, SIZES, TEXT, distributions, float32, make_model
from tests.support.serving import serving

ECHO = {"echo": True, "max_tokens": 0, "logprobs": 0}


@pytest.fixture(scope="module", params=["word", "char", "byte", "bpe", "mixture"])
def served(request, tmp_path_factory):
    """A server, and the scorer of its model."""
    model = make_model(tmp_path_factory.mktemp(request.param), request.param)
    with serving(model) as server:
        yield server, keraslm.load(model, "cpu")


def test_log_probabilities_are_those_of_keraslm_to_the_last_bit(served):
    server, scorer = served
    found = server.complete(prompt=[f"{line}\n" for line in LINES], **ECHO)
    assert [choice["index"] for choice in found["choices"]] == [*range(len(LINES))]
    scores = [next(scorer.score_lines([line])) for line in LINES]
    for choice, line, score in zip(found["choices"], LINES, scores, strict=True):
        if len(score.ids) == 1:
            continue  # the end symbol alone is the start of a text
        assert choice["text"] == f"{line}\n" and choice["finish_reason"] == "length"
        own = float32(choice["logprobs"]["token_logprobs"])
        if scorer.session.info.softmax == "mixture":  # its log-probabilities of targets are rounded differently
            assert np.allclose(own, score.logprobs, rtol=0, atol=1e-5), line
        else:
            assert own.tolist() == score.logprobs.tolist(), line
    total = sum(len(score.ids) for score in scores)
    assert found["usage"] == {"prompt_tokens": total, "completion_tokens": 0, "total_tokens": total}


def test_alternatives_are_the_most_probable_tokens_and_the_token_itself(served):
    server, scorer = served
    ids = scorer.tokenizer.encode_prompt(LINES[0]).tolist()
    wanted = distributions(scorer, ids)
    for count in (1, 5):
        fields = {"echo": True, "max_tokens": 0, "logprobs": count, "return_token_ids": True}
        (choice,) = server.complete(prompt=ids, **fields)["choices"]
        assert choice["prompt_token_ids"] == ids
        lists = choice["logprobs"]
        for own, token, row, tops, named in zip(
            lists["token_logprobs"], ids, wanted, lists["top_ids"], lists["top_logprobs"], strict=True
        ):
            best = np.argsort(-row, kind="stable")[:count].tolist()
            assert tops == {str(i): float(row[i]) for i in dict.fromkeys([*best, token])}
            assert own == float(row[token]) and own in named.values() and max(named.values()) == float(row.max())
        assert all(text in named for text, named in zip(lists["tokens"], lists["top_logprobs"], strict=True))


def test_offsets_point_at_the_text_of_each_token(served):
    server, scorer = served
    text = "the cat 🙂 sat\nη οδός\n"
    (choice,) = server.complete(prompt=text, **ECHO)["choices"]
    tokens, offsets = choice["logprobs"]["tokens"], choice["logprobs"]["text_offset"]
    assert choice["text"] == text and offsets[0] == 0 and offsets == sorted(offsets)
    whole = [(token, at) for token, at in zip(tokens, offsets, strict=True) if token.strip() != "<unk>"]
    assert all(text[at:].startswith(token) for token, at in whole if not token.startswith("bytes:"))
    assert tokens.count("\n") == 2
    ids = [*map(int, np.concatenate(scorer.tokenizer.encode_lines(text.splitlines())))]
    (again,) = server.complete(prompt=ids, **ECHO)["choices"]
    assert again["logprobs"]["tokens"] == tokens
    assert again["logprobs"]["token_logprobs"] == choice["logprobs"]["token_logprobs"]
    assert again["logprobs"]["text_offset"] == offsets or scorer.tokenizer.unk_id in ids


def test_an_end_symbol_at_the_beginning_is_the_start_of_the_text(served):
    server, scorer = served
    ids = scorer.tokenizer.encode_lines([LINES[0]])[0].tolist()
    (plain, started) = server.complete(prompt=[ids, [scorer.tokenizer.eos_id, *ids]], **ECHO)["choices"]
    assert started["logprobs"]["token_logprobs"] == [None, *plain["logprobs"]["token_logprobs"]]
    assert started["logprobs"]["top_logprobs"][0] is None and started["logprobs"]["tokens"][0] == "\n"
    assert started["logprobs"]["text_offset"] == [0, *(at + 1 for at in plain["logprobs"]["text_offset"])]


def test_prompts_may_be_empty_and_of_several_shapes(served):
    server, scorer = served
    ids = scorer.tokenizer.encode_prompt("the cat").tolist()
    one = server.complete(prompt="the cat", **ECHO)["choices"][0]["logprobs"]["token_logprobs"]
    for prompt, count in ((ids, 1), ([ids], 1), (["the cat"], 1), ([ids, ids], 2), (["the cat", "the cat"], 2)):
        choices = server.complete(prompt=prompt, **ECHO)["choices"]
        assert [choice["logprobs"]["token_logprobs"] for choice in choices] == [one] * count
    for prompt in ("", [], [[]], [""]):
        (choice,) = server.complete(prompt=prompt, **ECHO)["choices"]
        assert choice["text"] == "" and choice["logprobs"]["tokens"] == []


def test_scores_have_ranks_entropies_words_and_alternatives(served):
    server, scorer = served
    lines = ["the cat 🙂 sat", "", "naïve fish"]
    context = server.get("/v1/models").json["data"][0]["meta"]["context"]
    found = server.post("/score", text="\n".join(lines), alternatives=3).json
    scores = [*scorer.score_lines(lines, context, distributions=True)]
    tokens = found["tokens"]
    assert [t["id"] for t in tokens] == [int(i) for score in scores for i in score.ids]
    assert [t["logprob"] for t in tokens] == [x for score in scores for x in score.logprobs]
    assert [t["rank"] for t in tokens] == [int(x) for score in scores for x in score.ranks]
    bits = np.log(2)
    assert np.allclose([t["entropy"] for t in tokens], np.concatenate([s.entropies for s in scores]) / bits, atol=1e-6)
    assert np.isclose(found["bits"], -sum(score.logprob for score in scores) / bits)
    assert np.isclose(found["perplexity"], scorer.perplexity(lines, context))
    assert all(len(t["alternatives"]) == 3 for t in tokens)
    assert [w["word"] for w in found["words"]] == [
        "the",
        "cat",
        "🙂",
        "sat",
        "<eos>",
        "<eos>",
        "naïve",
        "fish",
        "<eos>",
    ]
    assert np.isclose(sum(word["surprisal"] for word in found["words"]), found["bits"])
    text = "\n".join(lines)
    assert all(text[w["start"] : w["end"]] == w["word"] for w in found["words"] if w["word"] != "<eos>")
    assert [text[t["start"] : t["end"]] for t in tokens if t["token"] == "\n"] == ["\n", "\n", ""]


def test_predictions_are_those_of_keraslm(served):
    server, scorer = served
    for text in ("", "the ", "the c", "the cat sat\nthe "):
        found, wanted = server.post("/predict", text=text, count=5).json, keraslm.predict(scorer, text, 5)
        assert (found["begun"], found["start"]) == (wanted.begun, wanted.start)
        assert [word["word"] for word in found["words"]] == [word.word for word in wanted.words]
        probabilities = [word.probability for word in wanted.words]
        assert np.allclose([word["probability"] for word in found["words"]], probabilities, rtol=1e-5)


def test_tokens_are_those_of_the_tokenizer(served):
    server, scorer = served
    text = "the cat 🙂\nnaïve"
    ids = [*map(int, np.concatenate(scorer.tokenizer.encode_lines(text.split("\n"))))][:-1]
    for name in ("prompt", "content"):
        found = server.post("/tokenize", **{name: text}, add_special_tokens=True, return_token_strs=True).json
        assert found["tokens"] == ids and found["count"] == len(found["token_strs"]) == len(ids)
    back = server.post("/detokenize", tokens=ids).json
    assert back["prompt"] == back["content"] and (back["prompt"] == text or scorer.tokenizer.unk_id in ids)
    end = server.get("/tokenizer_info").json["eos_token"]
    assert server.post("/tokenize", prompt=end).json["tokens"] == [scorer.tokenizer.eos_id]


@pytest.mark.parametrize("context", ["sentence", "paragraph", "document"])
def test_the_state_is_carried_as_the_context_says(tmp_path, context):
    model = make_model(tmp_path, "word", context=context)
    lines = ["the cat sat", "a dog <eos> ran", "", "the bird", "", "", "now then"]
    scores = [*keraslm.load(model, "cpu").score_lines(lines, context)]
    wanted = [x for score in scores for x in score.logprobs]
    with serving(model) as server:  # the context of the training
        (choice,) = server.complete(prompt="\n".join(lines) + "\n", **ECHO)["choices"]
        assert choice["logprobs"]["token_logprobs"] == wanted
    with serving(model, context="document") as server:
        (choice,) = server.complete(prompt="\n".join(lines) + "\n", **ECHO)["choices"]
        assert (choice["logprobs"]["token_logprobs"] == wanted) is (context == "document")


def test_an_ensemble_is_served_under_the_name_of_its_first_file(tmp_path):
    paths = []
    for name, seed in (("one", 1), ("two", 2)):
        (tmp_path / name).mkdir()
        run = make_run(tmp_path / name, TEXT, **(SIZES | KINDS["word"] | {"seed": seed}))
        keraslm.export(run, tmp_path / name / f"{name}.onnx")
        paths.append(tmp_path / name / f"{name}.onnx")
    score = next(keraslm.load(paths, "cpu").score_lines([LINES[0]]))
    with serving(paths[0], "--with", str(paths[1])) as server:
        found = server.complete(prompt=f"{LINES[0]}\n", model="one", **ECHO)
        assert found["choices"][0]["logprobs"]["token_logprobs"] == score.logprobs.tolist()
        described = server.get("/v1/models").json["data"][0]
        assert (described["id"], described["object"], described["owned_by"]) == ("one", "model", "keraslm")
        sizes = {"vocab_size": 52, "layers": 2, "units": [16, 12], "cell": "lstm", "models": 2, "context": "document"}
        limits = {"max_tokens": 262144, "max_prompts": 1024, "max_logprobs": 100}
        assert described["meta"].items() >= (sizes | limits).items()
        parameters = 52 * 8 + 4 * 16 * (8 + 16 + 1) + 4 * 12 * (16 + 12 + 1) + 52 * (12 + 1)
        assert described["meta"]["parameters"] == 2 * parameters
