"""Lattices rescored by partial hypotheses, compared with every path scored alone."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import keraslm
from keraslm.errors import ArgumentTypeError, TextError, UsageError
from keraslm.lattices import expansion, histories
from keraslm.lattices.expansion import Expansion, Search
from keraslm.lattices.histories import Histories
from keraslm.lattices.lattice import FILLERS, Arc, Header, sorted_lattice
from keraslm.lattices.rescore import rescore_lattices
from keraslm.lattices.rescored import KnownWeights
from keraslm.scoring.scorer import Scorer
from keraslm.scoring.words import WordEncoder
from tests.support import enumerated, fake_model
from tests.support.lattices import (
    WORDS,
    TrigramSession,
    best_of_each_text,
    exhaustive,
    expanded_paths,
    random_lattice,
    sausage,
)
from tests.support.limits import small_limits

PLAIN = KnownWeights(1.0, 1.0, 0.0, 1.0)
weights = st.builds(
    KnownWeights,
    st.sampled_from([1.0, 0.3, 9.0]),
    st.sampled_from([1.0, 0.1]),
    st.sampled_from([0.0, -2.0, 1.5]),
    st.sampled_from([1.0, 0.4, 0.0]),
)
seeds = st.integers(0, 10**6)
limits = st.fixed_dictionaries({"MAX_LOGITS": st.integers(1, 60), "_ROWS": st.integers(1, 5)})
EXACT = Search(recombine=0, max_hypotheses=0)


def expanded(scorer, lattice, weights=PLAIN, search=EXACT, fillers=FILLERS):
    return Expansion(lattice, scorer.session, WordEncoder(scorer.tokenizer), weights, search, fillers).run()


def assert_same(found, wanted, tolerance=1e-4):
    assert [text for text, _ in sorted(found)] == [text for text, _ in sorted(wanted)]
    for own, other in zip(sorted(found), sorted(wanted), strict=True):
        assert own[1] == pytest.approx(other[1], abs=tolerance)


@given(seeds, weights, limits)
def test_every_path_has_the_score_of_its_text(by_history, seed, weights, values):
    lattice = random_lattice(seed, words=[*WORDS, "<eos>", "</s>", "!SENT_START"])
    with small_limits(histories, values):
        found = expanded(by_history, lattice, weights)
    wanted = exhaustive(by_history, lattice, weights)
    assert_same(expanded_paths(found), wanted)
    assert found.best.total == pytest.approx(wanted[0][1], abs=1e-4)


@given(seeds, weights)
def test_the_best_texts_are_those_of_all_paths(by_history, seed, weights):
    lattice = random_lattice(seed)
    found = expanded(by_history, lattice, weights).nbest(10**6)
    totals = [path.total for path in found]
    assert totals == pytest.approx(sorted(totals, reverse=True), abs=1e-9)
    assert_same(
        [(path.text, path.total) for path in found], best_of_each_text(exhaustive(by_history, lattice, weights))
    )
    for path in found:
        assert path.logprob == pytest.approx(by_history.score(path.text), abs=1e-4)
        mixed = weights.mix * path.logprob + (1 - weights.mix) * path.old
        total = weights.acoustic_scale * path.acoustic + weights.lm_scale * mixed
        assert path.total == pytest.approx(total + weights.word_penalty * len(path.text.split()), abs=1e-6)


@pytest.mark.parametrize("seed", range(8))
def test_an_lstm_is_exact_without_recombination_and_never_better_with_it(tiny_model, seed):
    scorer = keraslm.load(tiny_model)
    words = ["the", "a", "cat", "日本", "sat", "rare", "zebra", ""]
    lattice = random_lattice(seed, 9, words, 9)
    wanted = exhaustive(scorer, lattice, PLAIN)
    exact = expanded(scorer, lattice)
    assert_same(expanded_paths(exact), wanted)
    for order in range(1, 10):
        found = expanded(scorer, lattice, search=Search(order))
        assert found.best.total <= exact.best.total + 1e-4
        assert found.best.logprob == pytest.approx(scorer.score(found.best.text), abs=1e-4)
        assert len(found.lattice) <= len(exact.lattice)
    assert_same(expanded_paths(found), wanted)  # no text has more than nine words


@given(seeds, weights, st.integers(2, 4))
def test_recombination_is_exact_for_a_model_that_looks_back_no_further(seed, weights, order):
    scorer, lattice = Scorer(TrigramSession()), random_lattice(seed, 9, arcs=8)
    found = expanded(scorer, lattice, weights, Search(order, max_hypotheses=0))
    assert_same(expanded_paths(found), exhaustive(scorer, lattice, weights))


def test_recombination_makes_few_nodes_of_many_texts():
    scorer = Scorer(TrigramSession())
    lattice = sausage([["the", "cat", "dog", "sat"]] * 12)
    found = expanded(scorer, lattice, search=Search(2))
    assert len(found.lattice) == 1 + 4 + 11 * 16 + 1
    table, ids, bonus = scorer.session.table, [2, 3, 4, 1], -0.1 * np.arange(4)
    first = table[0, 0, ids] + bonus
    score = first[:, None] + table[0, ids][:, ids] + bonus  # of the best text with these last two words
    for _ in range(10):
        score = (score[:, :, None] + table[np.ix_(ids, ids, ids)]).max(axis=0) + bonus
    assert found.best.total == pytest.approx((score + table[np.ix_(ids, ids)][..., 0]).max(), abs=1e-4)
    assert found.best.logprob == pytest.approx(scorer.score(found.best.text), abs=1e-4)


@given(seeds, st.integers(1, 4), st.sampled_from([0.0, 0.5, 2.0, 8.0]))
def test_limits_never_find_a_better_path(by_history, seed, most, beam):
    lattice = random_lattice(seed, 9, arcs=8)
    best = expanded(by_history, lattice).best.total
    for search in (Search(0, None, most), Search(0, beam, 0), Search(1, beam, most)):
        found = expanded(by_history, lattice, search=search)
        assert found.best.total <= best + 1e-4
        assert found.best.logprob == pytest.approx(by_history.score(found.best.text), abs=1e-4)
    assert expanded(by_history, lattice, search=Search(0, 1e6, 10**6)).best.total == pytest.approx(best, abs=1e-9)


def test_limits_keep_the_best_hypotheses_of_each_node(by_id):
    lattice = sausage([["the", "cat", "dog"], ["the", "cat", "dog"]])  # dog 5/21, cat 4/21, the 3/21
    assert len(expanded(by_id, lattice).lattice) == 1 + 3 + 9 + 1
    found = expanded(by_id, lattice, search=Search(0, None, 2))
    assert {path.text for path in found.nbest(9)} in ({"dog dog", "dog cat"}, {"dog dog", "cat dog"})
    assert len(found.lattice) in (5, 6)  # without the first words that lead to no end
    # Totals of the first words: ln 3, ln 4 - 0.1 and ln 5 - 0.2, so that the margins are 0.31 and 0.12.
    assert {*expanded(by_id, lattice, search=Search(0, 0.13, 0)).spoken} == {"cat", "dog", ""}
    assert {*expanded(by_id, lattice, search=Search(0, 0.11, 0)).spoken} == {"dog", ""}


def test_texts_that_begin_alike_share_their_steps(by_history, monkeypatch):
    made = []
    real = Histories.__init__
    monkeypatch.setattr(Histories, "__init__", lambda self, *args: made.append(self) or real(self, *args))
    slots = [["the", "cat"], ["dog", "sat", "the"], ["cat"]]
    lattice = sausage(slots)
    assert len(expanded(by_history, lattice).nbest(9)) == 6
    assert made[-1].steps == 1 + 2 + 6 + 6  # the start, and every beginning of a text
    expanded(by_history, lattice, search=Search(1))
    assert made[-1].steps == 1 + 2 + 3 + 1


def tokenizer_of(kind, cache={}):  # noqa: B006
    return cache.setdefault(kind, enumerated.KINDS[kind][0]())


@pytest.fixture
def by_tokens(request, tmp_path):
    """A model with the tokenizer of this kind, in which every token has a probability."""
    tokenizer = tokenizer_of(request.param)
    size = tokenizer.vocab_size
    table = np.log(np.random.default_rng(1).dirichlet(np.ones(size), size))
    return keraslm.load(fake_model.write(tmp_path / "model.onnx", table, fake_model.info_of(tokenizer)))


LETTERS = ["cat", "at", "a", "the", "tea,", "η", ""]


@pytest.mark.parametrize("by_tokens", [kind for kind in enumerated.KINDS if kind != "blanks"], indirect=True)
def test_words_of_several_tokens(by_tokens):
    for seed in range(6):
        lattice = random_lattice(seed, 6, LETTERS)
        assert_same(expanded_paths(expanded(by_tokens, lattice)), exhaustive(by_tokens, lattice, PLAIN), 2e-4)


@pytest.mark.parametrize("by_tokens", ["blanks"], indirect=True)
def test_words_that_a_tokenizer_would_join_are_scored_one_by_one(by_tokens):
    encode = WordEncoder(by_tokens.tokenizer)
    for path in expanded(by_tokens, sausage([["c", "cat"], ["a", "at"], ["a"]])).nbest(9):
        first, *others = path.text.split()
        ids = [*encode(first, False), *(token for word in others for token in encode(word, True))]
        assert by_tokens.tokenizer.decode(ids) == path.text
        logprobs, _ = by_tokens.advance_all(by_tokens.begin(), [*ids, by_tokens.session.info.eos_id])
        assert path.logprob == pytest.approx(logprobs.sum(), abs=1e-4)
    assert by_tokens.tokenizer.encode_prompt("c a").tolist() != [*encode("c", False), *encode("a", True)]


@pytest.mark.parametrize("kind", [kind for kind in enumerated.KINDS if kind != "blanks"])
@given(
    st.lists(st.sampled_from(["cat", "at", "ΑΣ", "🙂", "tea,", "é", "x" * 30, "ο\u0301δός"]), min_size=1, max_size=5)
)
def test_tokens_of_words_are_those_of_their_text(kind, words):
    tokenizer = tokenizer_of(kind)
    encode = WordEncoder(tokenizer)
    ids = [token for place, word in enumerate(words) for token in encode(word, place > 0)]
    assert ids == tokenizer.encode_prompt(" ".join(words)).tolist()


def test_weights_of_the_header_hold_unless_others_are_given(by_id):
    header = Header("u1", lm_scale=2.0, acoustic_scale=0.5, word_penalty=-1.0)
    lattice = sorted_lattice(
        header, dict.fromkeys(range(3), "x:1"), [Arc(0, 1, "dog", -8.0, -3.0), Arc(1, 2, "", 0, -1)]
    )
    lm = np.log(5 / 21 / 21)
    for options, total in (
        ({}, 2 * lm - 4 - 1),
        ({"mix": 0.25}, 2 * (0.25 * lm - 3) - 4 - 1),
        ({"lm_scale": 1, "acoustic_scale": 1.0, "word_penalty": 0.0}, lm - 8),
        ({"lm_scale": 0.0, "word_penalty": 3.0}, -4 + 3),
    ):
        (found,) = rescore_lattices(by_id, [lattice], **options)
        assert (found.best.text, found.best.acoustic, found.best.old) == ("dog", -8.0, -4.0)
        assert found.best.total == pytest.approx(total, rel=1e-6)


def test_fillers_are_not_words_of_the_text(by_id):
    lattice = sausage([["[noise]"], ["the"], ["!NULL", "</s>", "<s>", "!SENT_END"], ["<sil>"], ["dog"], ["the dog"]])
    (found,) = rescore_lattices(by_id, [lattice], fillers=["[noise]", "<sil>"], word_penalty=1.0)
    assert [path.text for path in found.nbest(9)] == ["the dog the dog"]
    assert found.best.logprob == pytest.approx(np.log(3 * 5 * 3 * 5 / 21**5), rel=1e-6)
    assert found.best.total == pytest.approx(found.best.logprob + 4)
    assert {"[noise]", "<sil>"} < {*found.lattice.words}


def test_a_lattice_of_no_words_is_the_end_alone(by_id):
    (found,) = rescore_lattices(by_id, [sausage([])])
    assert (found.best.text, found.best.logprob) == ("", pytest.approx(np.log(1 / 21)))


def test_too_many_hypotheses_are_refused(by_id, monkeypatch):
    monkeypatch.setattr(expansion, "_MOST", 30)
    lattice = sausage([["the", "cat", "dog", "sat"]] * 3)
    with pytest.raises(UsageError, match=r"u1 has more than 30 hypotheses side by side. Set `recombine`, `beam` or"):
        list(rescore_lattices(by_id, [lattice], recombine=0, max_hypotheses=0))
    assert len(list(rescore_lattices(by_id, [lattice], recombine=0, max_hypotheses=7))) == 1


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"format": "htk"}, "`format` is 'htk', but must be one of slf, kaldi"),
        ({"words": "words.txt"}, '`words` needs `format="kaldi"`'),
        ({"mix": 1.5}, r"`mix` is 1\.5, but must be between 0 and 1"),
        ({"lm_scale": float("nan")}, "`lm_scale` is nan, but must be a finite number"),
        ({"beam": -1}, "`beam` is -1, but must be 0 or more"),
        ({"recombine": -1}, "`recombine` is -1"),
        ({"max_hypotheses": 1.5}, r"`max_hypotheses` is 1\.5, but an integer"),
        ({"fillers": "sil"}, "`fillers` is 'sil', but an iterable of strings is expected"),
        ({"errors": "ignore"}, "`errors` is 'ignore'"),
    ],
)
def test_wrong_arguments_are_refused_at_once(by_id, options, message):
    with pytest.raises(UsageError, match=message):
        rescore_lattices(by_id, [sausage([["the"]])], **options)


def test_wrong_lattices_are_refused(by_id):
    with pytest.raises(ArgumentTypeError, match=r"`files\[0\]` is 3, but a path is expected"):
        list(rescore_lattices(by_id, [3]))
    with pytest.raises(TextError, match="Utterance 'u1' comes a second time; each lattice needs its own"):
        list(rescore_lattices(by_id, [sausage([["the"]])] * 2))
    with pytest.raises(UsageError, match="`count` is 0, but must be at least 1"):
        next(rescore_lattices(by_id, [sausage([["the"]])])).nbest(0)


NODES = {0: "f:1", 1: "f:2", 2: "f:3", 3: "f:4"}


@pytest.mark.parametrize(
    ("arcs", "message"),
    [
        ([(0, 1), (1, 2), (2, 1), (2, 3)], r"f:1[12]: the arc from [12] to [12] is in a cycle; a lattice has none"),
        ([(0, 1), (1, 1), (1, 2), (2, 3)], "f:11: the arc from 1 to 1 is in a cycle"),
        ([(0, 1), (1, 2), (2, 3), (3, 0)], "is in a cycle"),
        ([(0, 1), (2, 3)], "f:1: no path leads from node 0, the start, to an end"),
        ([(0, 1), (1, 3), (0, 2)], "f:3: no path leads from node 2 to an end"),
        ([(0, 1), (1, 3), (2, 3)], "f:3: no path leads from the start to node 2"),
        ([(0, 1), (1, 3)], "f:3: no path leads from the start to node 2"),
    ],
)
def test_graphs_that_are_no_lattices(arcs, message):
    made = [Arc(start, end, "a", where=f"f:{10 + place}") for place, (start, end) in enumerate(arcs)]
    with pytest.raises(TextError, match=message):
        sorted_lattice(Header("u1"), NODES, made)


def test_nodes_are_sorted_by_the_longest_path_before_them():
    arcs = [Arc(0, 3), Arc(2, 3, "c"), Arc(0, 1, "a"), Arc(1, 2, "b"), Arc(0, 2, "d")]
    lattice = sorted_lattice(Header("u1"), {0: "", 2: "", 1: "", 3: ""}, arcs, {2: "t=2", 1: "t=1"})
    assert lattice.levels.tolist() == [0, 1, 2, 3] and lattice.node_fields == ("", "t=1", "t=2", "")
    assert [(lattice.starts[i], lattice.ends[i], lattice.words[i]) for i in range(5)] == [
        (0, 3, ""),
        (0, 1, "a"),
        (0, 2, "d"),
        (1, 2, "b"),
        (2, 3, "c"),
    ]
    assert [*lattice.arcs_of(0)] == [0, 1, 2] and [*lattice.arcs_of(3)] == []
