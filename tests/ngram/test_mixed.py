"""Mixtures: worked by hand, compared with NumPy in float64, and that they are distributions."""

from __future__ import annotations

import io
import itertools
import json
import math
import pickle

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import keraslm
from keraslm.config import DataConfig
from keraslm.errors import ArgumentTypeError, UsageError
from keraslm.ngram.mixed import KnownWords, MixedScorer
from keraslm.report.options import ScoreOptions
from keraslm.report.writer import signature, write_scores
from keraslm.scoring.words import boundary, word_scores
from keraslm.text.vocabulary import train_tokenizer
from tests.reference.ngram import Backoff
from tests.support import arpa, fake_model, toy

# The LSTM of `by_id` gives sat 2/21, the 3/21, cat 4/21, dog 5/21, an unknown word 6/21 and the end 1/21, always.
LSTM = {"sat": 2 / 21, "the": 3 / 21, "cat": 4 / 21, "dog": 5 / 21, "<unk>": 6 / 21, "</s>": 1 / 21}
NGRAM = toy.arpa_of(
    {
        1: {
            **{"<s>": (0, 0.5), "</s>": (0.1, 1), "<unk>": (0.05, 0.3), "the": (0.2, 0.4)},
            **{"cat": (0.1, 1), "bird": (0.15, 1), "sat": (0.05, 1)},
        },
        2: {"<s> the": (0.6, 1), "the cat": (0.3, 1), "the bird": (0.25, 1), "<unk> cat": (0.5, 1)},
    }
)
LINES = ["the cat sat", "", "the bird zebra", "dog sat", "sat <unk> the", "the <eos> the cat", "cat </s> <s> cat"]
KINDS = {
    "char": DataConfig(tokenizer="char"),
    "byte": DataConfig(tokenizer="byte"),
    "bpe": DataConfig(tokenizer="bpe", vocab_size=270),
    "unigram": DataConfig(tokenizer="unigram", vocab_size=40),
}


@pytest.fixture(scope="module")
def ngram(tmp_path_factory):
    path = tmp_path_factory.mktemp("ngram") / "model.arpa"
    path.write_text(NGRAM)
    return keraslm.load_ngram(path)


@pytest.fixture
def mixed(by_id, ngram):
    return MixedScorer(by_id, ngram, 0.25)


def made(path, tokenizer, seed=3):
    """A scorer over a table of random distributions for a tokenizer."""
    size = tokenizer.vocab_size
    table = np.log(np.random.default_rng(seed).dirichlet(np.ones(size), size))
    return keraslm.load(fake_model.write(path, table, fake_model.info_of(tokenizer)))


def test_the_words_of_a_line_by_hand(mixed):
    found = mixed.logprobs(["the cat sat"])[0]
    n, m = 0.25, 0.75
    hand = [n * 0.6 + m * 3 / 21, n * 0.3 + m * 4 / 21, n * 0.05 + m * 2 / 21, n * 0.1 + m * 1 / 21]
    np.testing.assert_allclose(np.exp(found), hand, rtol=1e-6)
    assert mixed.score("the cat sat") == pytest.approx(sum(map(math.log, hand)), rel=1e-6)
    assert mixed.perplexity(["the cat sat"]) == pytest.approx(math.exp(-sum(map(math.log, hand)) / 4), rel=1e-6)


@pytest.mark.parametrize(
    ("line", "hand", "oov", "known"),
    [
        # bird: only the n-gram model; zebra, and a written <unk>: neither; dog: only the LSTM
        ("the bird", [0.25 * 0.6 + 0.75 * 3 / 21, 0.25 * 0.25, 0.25 * 0.1 + 0.75 / 21], [0, 0, 0], (2, 0, 1, 0)),
        ("zebra", [0.25 * 0.5 * 0.05 + 0.75 * 6 / 21, 0.25 * 0.3 * 0.1 + 0.75 / 21], [1, 0], (1, 0, 0, 1)),
        ("<unk>", [0.25 * 0.5 * 0.05 + 0.75 * 6 / 21, 0.25 * 0.3 * 0.1 + 0.75 / 21], [1, 0], (1, 0, 0, 1)),
        # a word that the n-gram model does not know is its context <unk>
        ("dog cat", [0.75 * 5 / 21, 0.25 * 0.5 + 0.75 * 4 / 21, 0.25 * 0.1 + 0.75 / 21], [0, 0, 0], (2, 1, 0, 0)),
        ("", [0.25 * 0.5 * 0.1 + 0.75 / 21], [0], (1, 0, 0, 0)),
        # </s> and <s> in a text are words that nobody knows; <eos> is the end, after which everything begins anew
        ("</s>", [0.25 * 0.5 * 0.05 + 0.75 * 6 / 21, 0.25 * 0.3 * 0.1 + 0.75 / 21], [1, 0], (1, 0, 0, 1)),
        (
            "<eos> the",
            [0.25 * 0.05 + 0.75 / 21, 0.25 * 0.6 + 0.75 / 7, 0.25 * 0.4 * 0.1 + 0.75 / 21],
            [0] * 3,
            (3, 0, 0, 0),
        ),
    ],
)
def test_unknown_words_by_hand(mixed, line, hand, oov, known):
    (found,) = mixed.score_lines([line])
    np.testing.assert_allclose(np.exp(found.logprobs), hand, rtol=1e-6)
    assert found.oov.tolist() == oov
    assert mixed.known == KnownWords(*known)
    assert mixed.known.words == len(hand)


def test_without_unk_in_the_file_the_lstm_alone_predicts_what_neither_knows(by_id, text):
    path = text(NGRAM.replace("ngram 1=7", "ngram 1=6").replace("ngram 2=4", "ngram 2=3"), "closed.arpa")
    path.write_text("\n".join(row for row in path.read_text().split("\n") if "<unk>" not in row))
    (found,) = keraslm.mix(by_id, path, 0.25).score_lines(["zebra"])
    np.testing.assert_allclose(np.exp(found.logprobs), [0.75 * 6 / 21, 0.25 * 0.1 + 0.75 / 21], rtol=1e-6)


@pytest.mark.parametrize("weight", [0.0, 0.1, 0.5, 1.0])
@pytest.mark.parametrize("context", ["sentence", "paragraph", "document"])
def test_as_numpy(by_history, ngram, weight, context):
    """The state of the LSTM is carried as `context` says; the n-gram model begins anew at each end."""
    slow = Backoff(NGRAM)
    lstm = list(by_history.score_lines(LINES, context))
    mixed = MixedScorer(by_history, ngram, weight)
    for line, own, found in zip(LINES, lstm, mixed.score_lines(LINES, context), strict=True):
        parts = [part.split() for part in line.replace("</s>", "x").replace("<s>", "x").split("<eos>")]
        p_ngram = np.exp([p for part in parts for p in slow.sentence(part)])
        names = [name for part in parts for name in [*part, "</s>"]]
        p_lstm = np.exp(own.logprobs)
        for place, name in enumerate(names):
            in_lstm, in_ngram = name in LSTM and name != "<unk>", slow.knows(name) or name == "</s>"
            p_lstm[place] *= in_lstm or not in_ngram
            p_ngram[place] *= in_ngram or not in_lstm
        with np.errstate(divide="ignore"):
            np.testing.assert_allclose(found.logprobs, np.log(weight * p_ngram + (1 - weight) * p_lstm), atol=1e-9)
        assert (found.text, found.ids.tolist()) == (line, own.ids.tolist())


def test_weights_0_and_1_are_the_models_alone(by_history, tmp_path):
    lines = ["the cat sat", "dog zebra the", "", "sat sat dog cat the <unk>"]
    path = arpa.write_arpa(tmp_path / "model.arpa", ["the cat sat", "the dog sat"], 3)
    lstm, slow = by_history.logprobs(lines), Backoff(path.read_text())
    for line, own, first, last in zip(
        lines, lstm, *(keraslm.mix(by_history, path, w).logprobs(lines) for w in (0, 1)), strict=True
    ):
        assert first.tolist() == own.tolist()
        np.testing.assert_allclose(last, slow.sentence(line.split()), rtol=1e-12)


@pytest.mark.parametrize("history", ["", "the", "bird", "zebra the", "dog"])
def test_the_probabilities_of_all_words_add_up_to_one(by_history, tmp_path, history):
    """Over the words of both models, <unk> and the end, whichever of the models knows them."""
    lines = ["the bird sat", "the worm", "a bird the cat", "the bird sat on a zebra"] * 2
    ngram = keraslm.load_ngram(arpa.write_arpa(tmp_path / "model.arpa", lines, 3))
    mixed = MixedScorer(by_history, ngram, 0.3)
    words = {*ngram.vocabulary, "the", "cat", "dog", "sat", "<unk>", "<eos>"}
    total = sum(math.exp(mixed.logprobs([f"{history} {word}"])[0][len(history.split())]) for word in words)
    assert total == pytest.approx(1, abs=1e-5)


def test_words_of_characters_are_a_distribution_too(tmp_path):
    """After "a": all words of up to six letters, and the end of the line."""
    tokenizer = train_tokenizer(["ab ba a b"], DataConfig(tokenizer="char"))
    letters, blank, end, size = 0.15, 0.3, 0.4, tokenizer.vocab_size
    row = np.full(size, 1e-9)
    row[tokenizer.encode_lines(["ab "])[0]] = [letters, letters, blank, end]
    info = fake_model.info_of(tokenizer)
    lstm = keraslm.load(fake_model.write(tmp_path / "model.onnx", np.log(np.tile(row, (size, 1))), info))
    mixed = keraslm.mix(lstm, arpa.write_arpa(tmp_path / "model.arpa", ["a b", "ab ba", "a ba"], 2), 0.3)
    words = ["".join(word) for length in range(1, 7) for word in itertools.product("ab", repeat=length)]
    found = [line.logprobs[1] for line in mixed.score_lines(["a", *(f"a {word}" for word in words)])]
    total = math.fsum(map(math.exp, found))
    unknown = 0.3 * math.exp(mixed.ngram.logprobs(["a", "c"])[1])  # the n-gram model's <unk>: the LSTM knows all words
    second_blank = 0.7 * blank * (blank + end) / (blank + end)  # is no word
    assert total + unknown + second_blank == pytest.approx(1, abs=1e-4)


@pytest.fixture(scope="module", params=sorted(KINDS))
def subword(request, tmp_path_factory):
    tmp_path = tmp_path_factory.mktemp(request.param)
    text = ["the cat sat on the mat", "the cats sat, on  the mat!", "a cat that sat"] * 5
    lstm = made(tmp_path / "model.onnx", train_tokenizer(text, KINDS[request.param]))
    path = arpa.write_arpa(tmp_path / "model.arpa", text, 3)
    return lstm, MixedScorer(lstm, keraslm.load_ngram(path), 0.4), Backoff(path.read_text())


@given(
    lines=st.lists(
        st.lists(st.sampled_from(["the", "cat", "mat!", "zebra", "日本", "\t", "", "<unk>", "a"])).map(" ".join),
        max_size=4,
    )
)
def test_words_of_several_tokens(subword, lines):
    lstm, mixed, slow = subword
    scored = lstm.score_lines(lines, boundary=boundary(lstm.tokenizer))
    for line, own, found in zip(lines, scored, mixed.score_lines(lines), strict=True):
        words = word_scores(own, lstm.tokenizer)
        p_ngram, names = np.exp(slow.sentence(line.split())), [*line.split(), "</s>"]
        p_lstm = np.exp([word.logprob for word in words])
        for place, (name, word) in enumerate(zip(names, words, strict=True)):
            in_ngram = slow.knows(name) or name in ("</s>", "<unk>")
            p_lstm[place] *= not word.oov or not in_ngram or name == "</s>"
            p_ngram[place] *= in_ngram or word.oov
        with np.errstate(divide="ignore"):
            np.testing.assert_allclose(found.logprobs, np.log(0.4 * p_ngram + 0.6 * p_lstm), atol=1e-9)
        assert found.by_words and len(found.ids) == len(words)
        rows = word_scores(found, mixed.tokenizer)
        assert [(row.word, row.begin, row.end) for row in rows] == [(word.word, word.begin, word.end) for word in words]
        assert [row.logprob for row in rows] == found.logprobs.tolist()
        assert found.cost.tokens == found.words + 1 == found.cost.predicted


def written(scorer, lines, **options):
    out = io.StringIO()
    write_scores(scorer, lines, ScoreOptions(**options), out)
    return out.getvalue()


def test_reports_of_a_mixture(mixed):
    rows = written(mixed, ["the bird zebra"], level="word", columns=("word", "logprob", "oov"), format="jsonl")
    found = [json.loads(row) for row in rows.splitlines()]
    assert [(row["word"], row["oov"]) for row in found] == [
        *[("the", False), ("bird", False), ("zebra", True), ("<eos>", False)]
    ]
    assert found[1]["logprob"] == pytest.approx(math.log(0.25 * 0.25), abs=1e-6)
    assert [row.split("\t")[2] for row in written(mixed, ["the bird"]).splitlines()[1:]] == ["the", "<unk>", "<eos>"]
    summary = json.loads(written(mixed, ["the bird zebra", ""], level="summary", format="jsonl"))
    assert (summary["tokens"], summary["oovs"]) == (5, 1)
    assert summary["perplexity"] == pytest.approx(mixed.perplexity(["the bird zebra", ""]), abs=1e-4)
    assert "p( bird | the ...) \t= [3gram] 0.06249999" in written(mixed, ["the bird"], format="srilm")
    assert "the=3 2 " in written(mixed, ["the bird"], format="kenlm")


def test_reports_of_words_of_several_tokens(subword):
    _, mixed, _ = subword
    table = written(mixed, ["the cats zebra"], level="word", columns=("word", "tokens", "start", "end"))
    assert table.splitlines()[1:] == ["the\t1\t0\t3", "cats\t1\t4\t8", "zebra\t1\t9\t14", "<eos>\t1\t14\t14"]
    summary = json.loads(written(mixed, ["the cats zebra", ""], level="summary", format="jsonl"))
    assert summary["tokens"] == 5 and summary["perplexity"] == summary["perplexity_per_word"]
    assert "p( cats | the ...)" in written(mixed, ["the cats"], format="srilm")
    with pytest.raises(UsageError, match="parts of words, but an n-gram model predicts complete words"):
        written(mixed, ["the"])


def test_a_mixture_does_not_rescore_lattices(mixed, tmp_path):
    (tmp_path / "u1.slf").write_text("VERSION=1.0\nN=2 L=1\nI=0\nI=1\nJ=0 S=0 E=1 W=the\n")
    assert len(list(keraslm.rescore_lattices(mixed.scorer, tmp_path / "u1.slf"))) == 1
    with pytest.raises(UsageError, match=r"a mixture with an n-gram model, .* Pass its `scorer`\."):
        keraslm.rescore_lattices(mixed, tmp_path / "u1.slf")


def test_what_a_mixture_does_not_have(mixed):
    with pytest.raises(UsageError, match="Ranks and entropies need complete distributions"):
        written(mixed, ["the"], columns=("token", "rank"))
    with pytest.raises(UsageError, match="complete distributions"):
        mixed.score_lines(["the"], distributions=True)


def test_signatures_name_file_and_weight(by_id, mixed, subword):
    plain, own = signature(by_id, ScoreOptions()), signature(mixed, ScoreOptions())
    mixture = f"|ngram:{mixed.ngram.digest[:12]}|ngram_weight:0.25"
    assert own.replace(mixture, "") == plain and mixture in own
    assert "|spaces:after|" in signature(subword[1], ScoreOptions()) or subword[1].boundary is None


@pytest.mark.parametrize("weight", [-0.1, 1.5, math.nan, math.inf])
def test_weights_out_of_range(by_id, ngram, weight):
    with pytest.raises(UsageError, match=r"`ngram_weight` is .*, but must be between 0 and 1"):
        MixedScorer(by_id, ngram, weight)


def test_wrong_types(by_id, ngram):
    with pytest.raises(ArgumentTypeError, match="`ngram_weight` is 'half', but a number"):
        keraslm.mix(by_id, ngram, "half")
    with pytest.raises(ArgumentTypeError, match="`ngram` is 3, but an n-gram model"):
        MixedScorer(by_id, 3)
    with pytest.raises(ArgumentTypeError, match="`scorer` is 3, but a Scorer"):
        MixedScorer(3, ngram)
    with pytest.raises(ArgumentTypeError, match="`path` is 3"):
        keraslm.mix(by_id, 3)
    with pytest.raises(ArgumentTypeError, match=r"`texts\[1\]` is None"):
        MixedScorer(by_id, ngram).logprobs(["the", None])


def test_lower_case_and_punctuation_are_read_as_the_tokenizer_does(tmp_path):
    tokenizer = train_tokenizer(["the cat, sat."], DataConfig(lowercase=True, split_punctuation=True))
    lstm = made(tmp_path / "model.onnx", tokenizer)
    mixed = keraslm.mix(lstm, arpa.write_arpa(tmp_path / "model.arpa", ["the cat , bird ."], 2), 1.0)
    (found,) = mixed.score_lines(["The CAT, Bird."])
    assert found.logprobs.tolist() == mixed.ngram.logprobs(["the", "cat", ",", "bird", ".", None]).tolist()
    assert mixed.known == KnownWords(both=5, ngram=1)
    lowered = train_tokenizer(["the cat"] * 9, DataConfig(tokenizer="bpe", vocab_size=260, lowercase=True))
    other = keraslm.mix(made(tmp_path / "bpe.onnx", lowered), mixed.ngram, 1.0)
    assert other.logprobs(["The CAT"])[0].tolist() == mixed.ngram.logprobs(["the", "cat", None]).tolist()


def test_ensembles_are_mixed_as_one_model(fake, bulk_model, ngram):
    both, lines = keraslm.load([fake, bulk_model]), ["the cat", "dog"]
    found = keraslm.mix([fake, bulk_model], ngram, 0.25).logprobs(lines)
    for line, own in zip(found, MixedScorer(both, ngram, 0.25).logprobs(lines), strict=True):
        assert line.tolist() == own.tolist()


def test_sets_of_texts_are_those_of_lines(mixed, subword):
    sets = [["the cat sat", "the cat", "dog"], [], ["the bird", "the bird"]]
    for scorer in (mixed, subword[1]):
        alone = [[scorer.score(each) for each in texts] for texts in sets]
        for ahead in (1, 100):
            found = [[line.logprob for line in lines] for lines in keraslm.score_sets(scorer, sets, ahead)]
            assert found == [pytest.approx(each, abs=1e-5) for each in alone]


def test_pairs_and_lists_are_ranked_by_the_mixture(mixed, subword, by_id):
    (found,) = keraslm.rescore(mixed, [["the bird", "the dog"]])
    assert found.logprobs == pytest.approx([mixed.score("the bird"), mixed.score("the dog")], abs=1e-5)
    assert (found.best.text, next(keraslm.rescore(by_id, [["the bird", "the dog"]])).best.text) == (
        "the dog",
        "the bird",
    )
    results = keraslm.pairs(subword[1], [("the cat", "the cats"), ("the", "the")])
    assert [score.result for score in results.scores][1] == "tie"
    assert results.scores[0].difference != 0


def test_a_mixture_can_be_pickled(mixed):
    again = pickle.loads(pickle.dumps(mixed))
    assert again.score("the bird") == mixed.score("the bird") and again.weight == 0.25
    assert repr(mixed).startswith("MixedScorer(Scorer(") and repr(mixed).endswith("weight=0.25)")
