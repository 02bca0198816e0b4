"""Searches find what enumerating all translations finds, on small models whose probabilities depend on everything."""

from __future__ import annotations

import math
from dataclasses import replace
from functools import cache
from itertools import product

import numpy as np
import pytest

from examples.translation.search import Search, beam_search, greedy, replace_unknown, sample

EOS = 1  # neither the first nor, with more than two tokens, the last id
ALL = 400  # more hypotheses than there are of up to 5 of 4 tokens: 1 + 3 + 9 + 27 + 81 finished and 243 unfinished
PLACES = 3


class Markov:
    """A random model that depends on the sentence (memory) and on all inputs so far (state). It checks its calls."""

    def __init__(self, vocabulary: int, dtype: type = np.float64, attention: bool = True):
        self.vocabulary, self.dtype, self.attention = vocabulary, dtype, attention
        self.calls = 0
        self.distribution = cache(self._distribution)

    def _distribution(self, sentence: int, history: tuple[int, ...]) -> tuple[np.ndarray, np.ndarray]:
        """Log-probabilities (V,) and weights of the source positions."""
        logits, weights = np.split(np.random.default_rng((sentence, *history)).normal(size=20), [self.vocabulary])
        weights = np.exp(weights[:PLACES])
        return (logits - np.log(np.exp(logits).sum())).astype(self.dtype), weights / weights.sum()

    def start(self, sentences: list[int]) -> tuple[tuple, tuple]:
        """Memory and state. The state is the inputs so far, after their number."""
        return (np.array(sentences),), (np.zeros((len(sentences), 1), int), np.zeros((len(sentences), 8), int))

    def __call__(self, tokens, memory, state):
        (sentences,), (number, inputs) = memory, (array.copy() for array in state)
        if self.calls == 0:
            self.sentences = sentences
        self.calls += 1
        assert np.array_equal(sentences, self.sentences) and tokens.shape == sentences.shape == number[:, 0].shape
        assert tokens.dtype == np.int64 and (number == self.calls - 1).all()
        inputs[np.arange(len(tokens)), number[:, 0]] = tokens
        pairs = zip(sentences, inputs[:, : self.calls].tolist(), strict=True)
        log_probs, weights = zip(*(self.distribution(int(n), tuple(history)) for n, history in pairs), strict=True)
        return np.stack(log_probs), (number + 1, inputs), np.stack(weights) if self.attention else None

    def search(self, function, sentences, limits, **options):
        """Search from the start."""
        self.calls = 0
        return function(self, *self.start(sentences), EOS, np.array(limits), **options)

    def hypothesis(self, sentence: int, tokens: tuple[int, ...], finished: bool, alpha: float) -> dict:
        """What `tokens` should give, from the definitions."""
        targets = (*tokens, EOS) if finished else tokens
        steps = [self.distribution(sentence, (EOS, *targets[:place])) for place in range(len(targets))]
        total = math.fsum(log_probs[target] for (log_probs, _), target in zip(steps, targets, strict=True))
        positions = [int(weights.argmax()) for _, weights in steps[: len(tokens)]] if self.attention else []
        score = total / ((5.0 + len(targets)) ** alpha / 6.0**alpha)
        return {"tokens": [*tokens], "score": score, "log_prob": total, "positions": positions, "finished": finished}

    def enumerate(self, sentence: int, limit: int, alpha: float) -> list[dict]:
        """All translations, best first."""
        words = [token for token in range(self.vocabulary) if token != EOS]
        finished = [(tokens, True) for length in range(limit) for tokens in product(words, repeat=length)]
        every = finished + [(tokens, False) for tokens in product(words, repeat=limit)]
        return sorted((self.hypothesis(sentence, *one, alpha) for one in every), key=lambda one: -one["score"])

    def beam(self, sentence: int, limit: int, beam: int, alpha: float) -> list[dict]:
        """A beam search of one sentence, of prefixes that are sorted in full."""
        active, ended = [()], []
        for length in range(1, limit + 1):
            words = [(*prefix, token) for prefix in active for token in range(self.vocabulary) if token != EOS]
            made = [self.hypothesis(sentence, tokens, False, alpha) for tokens in words]
            made += [self.hypothesis(sentence, tokens, True, alpha) for tokens in active]
            made.sort(key=lambda one: -one["log_prob"])
            ended += [one for one in made[:beam] if one["finished"]]
            left = [one for one in made[: 2 * beam] if not one["finished"]][:beam]
            active = [tuple(one["tokens"]) for one in left]
            if length == limit:
                ended += left
            elif len(ended) >= beam:
                break
        return sorted(ended, key=lambda one: -one["score"])[:beam]


class Table:
    """A model of one sentence: a table of probabilities after some prefixes. It attends to the sum of a prefix."""

    def __init__(self, table: dict[tuple[int, ...], list[float]]):
        self.table, self.calls = table, 0
        self.vocabulary = len(table[()])

    def __call__(self, tokens, memory, state):
        """The state is the prefix of each row, as an array of tuples."""
        assert memory == ()
        self.calls += 1
        prefixes = list(*state)
        if self.calls > 1:
            prefixes = [(*prefix, int(token)) for prefix, token in zip(prefixes, tokens, strict=True)]
        after = np.empty(len(tokens), object)
        after[:] = prefixes
        rest = [1 / self.vocabulary] * self.vocabulary
        with np.errstate(divide="ignore"):
            log_probs = np.log([self.table.get(prefix, rest) for prefix in prefixes])
        return log_probs, (after,), np.eye(32)[[sum(prefix) for prefix in prefixes]]

    def search(self, function, limit, **options):
        """Search from the start."""
        self.calls = 0
        start = np.empty(1, object)
        start[0] = ()
        return function(self, (), (start,), EOS, np.array([limit]), **options)[0]


def same(found, expected) -> bool:
    return vars(found) == expected | {
        name: pytest.approx(expected[name], rel=1e-12, abs=1e-12) for name in ("score", "log_prob")
    }


@pytest.mark.parametrize("alpha", [0.0, 0.6, 1.0])
@pytest.mark.parametrize(("vocabulary", "limits"), [(2, [5, 1]), (3, [1, 2, 5]), (4, [3, 5])])
def test_a_beam_for_all_finds_all_in_order(vocabulary, limits, alpha):
    model = Markov(vocabulary)
    sentences = [*range(7, 7 + len(limits))]
    found = model.search(beam_search, sentences, limits, beam=ALL, length_penalty=alpha)
    for sentence, limit, hypotheses in zip(sentences, limits, found, strict=True):
        expected = model.enumerate(sentence, limit, alpha)
        assert len(hypotheses) == len(expected)
        assert all(map(same, hypotheses, expected))
    assert model.calls == max(limits)


@pytest.mark.parametrize("alpha", [0.0, 0.6, 1.0])
@pytest.mark.parametrize("beam", [1, 2, 3, 5])
def test_a_narrow_beam_keeps_the_best_prefixes(beam, alpha):
    model = Markov(4)
    sentences, limits = [*range(30)], [1, 2, 3, 4, 5] * 6
    found = model.search(beam_search, sentences, limits, beam=beam, length_penalty=alpha)
    for sentence, limit, hypotheses in zip(sentences, limits, found, strict=True):
        expected = model.beam(sentence, limit, beam, alpha)
        assert len(hypotheses) == len(expected) and all(map(same, hypotheses, expected))
        bounds = model.enumerate(sentence, limit, alpha)
        assert all(one.score <= bound["score"] + 1e-12 for one, bound in zip(hypotheses, bounds, strict=False))
        assert len({(*one.tokens, one.finished) for one in hypotheses}) == len(hypotheses)
        assert all(one.finished or len(one.tokens) == limit for one in hypotheses)
    assert model.sentences.tolist() == [sentence for sentence in sentences for _ in range(beam)]


def test_a_beam_finds_what_greedy_search_misses():
    model = Table({(): [0.6, 0.0, 0.4], (0,): [0.4, 0.3, 0.3], (2,): [0.05, 0.9, 0.05]})
    assert model.search(greedy, 2).tokens == [0, 0]
    best, second = model.search(beam_search, 2, beam=2)
    assert (best.tokens, best.finished, best.log_prob) == ([2], True, pytest.approx(math.log(0.36)))
    assert (second.tokens, second.finished, second.log_prob) == ([0, 0], False, pytest.approx(math.log(0.24)))


def test_an_end_must_be_among_the_best_continuations():
    """The end is the third continuation: out of a beam of 2, in a beam of 3."""
    model = Table({(): [0.4, 0.2, 0.3, 0.1]})
    assert [one.tokens for one in model.search(beam_search, 1, beam=2)] == [[0], [2]]
    assert [one.tokens for one in model.search(beam_search, 1, beam=3)] == [[0], [2], []]


def test_an_end_takes_no_place_of_an_active_hypothesis():
    """The end is the best continuation. The other two stay active in a beam of 2, and the last finishes first."""
    model = Table({(): [0.3, 0.45, 0.25], (0,): [0.5, 0.0, 0.5], (2,): [0.02, 0.96, 0.02]})
    assert [one.tokens for one in model.search(beam_search, 3, beam=2)] == [[], [2]]


def test_an_end_outside_the_beam_takes_no_place_either():
    """In step 2, the end of row 1 is the third continuation. The fourth stays active, and finishes first."""
    table = {(): [0.5, 0.0, 0.5], (0,): [0.46, 0.5, 0.04], (2,): [0.42, 0.44, 0.14], (2, 0): [0.0, 1.0, 0.0]}
    assert [one.tokens for one in Table(table).search(beam_search, 5, beam=2)] == [[0], [2, 0]]


def test_a_sentence_is_done_when_its_beam_is_finished():
    """Two hypotheses are finished after two steps; a third could have been better with a length penalty."""
    model = Table({(): [0.4, 0.5, 0.1], (0,): [0.4, 0.6, 0.0], (0, 0): [0.0, 1.0, 0.0]})
    assert [one.tokens for one in model.search(beam_search, 9, beam=2, length_penalty=9.0)] == [[0], []]
    assert model.calls == 2
    assert model.search(greedy, 9).tokens == [] and model.calls == 1


def test_active_hypotheses_count_only_at_the_limit():
    model = Table({(): [0.3, 0.6, 0.1], (0,): [0.1, 0.9, 0.0]})
    assert [(one.tokens, one.finished) for one in model.search(beam_search, 1, beam=2)] == [([], True), ([0], False)]
    assert [(one.tokens, one.finished) for one in model.search(beam_search, 2, beam=2)] == [([], True), ([0], True)]


def test_equal_scores_are_in_the_order_of_rows_and_tokens():
    model = Table({(): [0.2, 0.2, 0.2, 0.2, 0.2]})
    assert [one.tokens for one in model.search(beam_search, 1, beam=4)] == [[], [0], [2], [3]]
    found = model.search(beam_search, 2, beam=3)
    assert [(one.tokens, one.finished) for one in found] == [([], True), ([0], True), ([0, 0], False)]
    assert model.search(greedy, 3).tokens == [0, 0, 0]


def test_impossible_tokens_are_left_out():
    certain = Table({(): [0.0, 0.0, 1.0], (2,): [0.0, 1.0, 0.0]})
    assert [(one.tokens, one.log_prob) for one in certain.search(beam_search, 9, beam=5)] == [([2], 0.0)]
    assert certain.calls == 2  # nothing is left to extend
    assert [one.tokens for one in Table({(): [0.0, 1.0]}).search(beam_search, 4, beam=3)] == [[]]


def test_a_vocabulary_of_the_end_symbol_only():
    def step(tokens, memory, state):
        return np.zeros((len(tokens), 1)), state, None

    for found in (beam_search(step, (), (), 0, [3], beam=4)[0], greedy(step, (), (), 0, [3])):
        assert [(one.tokens, one.finished) for one in found] == [([], True)]
    assert beam_search(step, (), (), 0, []) == greedy(step, (), (), 0, []) == []


@pytest.mark.parametrize("function", [greedy, beam_search])
def test_a_batch_gives_the_same_as_its_sentences(function):
    model = Markov(4)
    sentences, limits = [3, 1, 4, 1, 5, 9], [2, 5, 1, 3, 4, 5]
    together = model.search(function, sentences, limits)
    alone = [model.search(function, [one], [limit])[0] for one, limit in zip(sentences, limits, strict=True)]
    assert together == alone and together[0] != together[1]


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_greedy_search_is_a_beam_of_one(dtype):
    model = Markov(4, dtype)
    sentences, limits = [*range(40)], [1, 2, 3, 4, 5] * 8
    found = model.search(greedy, sentences, limits)
    assert [[one] for one in found] == model.search(beam_search, sentences, limits, beam=1)
    for sentence, limit, one in zip(sentences, limits, found, strict=True):
        tokens = []
        while len(tokens) < limit and EOS not in tokens:
            tokens.append(int(model.distribution(sentence, (EOS, *tokens))[0].argmax()))
        finished = tokens[-1] == EOS
        assert same(one, model.hypothesis(sentence, tuple(tokens[: len(tokens) - finished]), finished, 0.0))
    assert {one.finished for one in found} == {True, False}
    assert {type(number) for one in found for number in one.tokens + one.positions} == {int}


@pytest.mark.parametrize("temperature", [0.5, 1.0, 2.0])
def test_samples_have_the_probabilities_of_the_model(temperature):
    model, draws, limit = Markov(3), 4000, 2
    found = model.search(sample, [5] * draws, [limit] * draws, temperature=temperature, seed=1)

    def probability(one: dict) -> float:
        targets = [*one["tokens"], EOS][: len(one["tokens"]) + one["finished"]]
        logits = [model.distribution(5, (EOS, *targets[:place]))[0] / temperature for place in range(len(targets))]
        return math.prod(np.exp(x)[target] / np.exp(x).sum() for x, target in zip(logits, targets, strict=True))

    every = model.enumerate(5, limit, 0.0)
    assert sum(map(probability, every)) == pytest.approx(1)
    for one in every:
        p, drawn = probability(one), [h for h in found if (h.tokens, h.finished) == (one["tokens"], one["finished"])]
        assert abs(len(drawn) - draws * p) < 4 * math.sqrt(draws * p * (1 - p))
        assert all(same(h, one) for h in drawn)  # with the log-probability at temperature 1


def test_samples_depend_on_the_seed():
    model, sentences, limits = Markov(4), [3] * 20, [5] * 20
    draws = [model.search(sample, sentences, limits, seed=seed) for seed in (1, 1, 2)]
    assert draws[0] == draws[1] != draws[2]
    assert draws[0] == model.search(sample, sentences, limits, temperature=1.0, seed=1)
    assert any(one != draws[0][0] for one in draws[0])  # rows are drawn independently


def test_cold_samples_are_greedy():
    model, sentences, limits = Markov(4), [*range(9)], [5] * 9
    assert model.search(sample, sentences, limits, temperature=1e-4) == model.search(greedy, sentences, limits)


def test_positions_are_empty_without_attention():
    model = Markov(4, attention=False)
    for one in (*model.search(beam_search, [2], [3])[0], *model.search(greedy, [2], [3])):
        assert one.positions == [] and one.tokens


def test_positions_follow_their_rows():
    """The best translation begins in row 1 and continues in row 0, then in row 1 again."""
    model = Table({(): [0.6, 0.0, 0.4], (0,): [0.5, 0.0, 0.5], (2,): [0.0, 0.0, 1.0], (2, 2): [1.0, 0.0, 0.0]})
    found = model.search(beam_search, 3, beam=2)
    assert [(one.tokens, one.positions) for one in found] == [([2, 2, 0], [0, 2, 4]), ([0, 0, 0], [0, 0, 0])]


@pytest.mark.parametrize("function", [greedy, beam_search])
def test_rows_of_completed_sentences_are_ignored(function):
    """Sentence 0 ends at once, and 1 at its limit of 2. After that, their rows are NaN."""

    def step(tokens, sentences, state):
        length = state[0][0]
        log_probs = np.log([[[0.0, 1.0, 0.0], [0.7, 0.0, 0.3], [0.3, 0.0, 0.7]][n] for n in sentences[0]])
        log_probs[sentences[0] < length] = np.nan
        return log_probs, (state[0] + 1,), None

    with np.errstate(divide="ignore"):
        found = function(step, (np.arange(3),), (np.zeros(3, int),), EOS, [9, 2, 3])
        best = [one[0] if isinstance(one, list) else one for one in found]
        assert [one.tokens for one in best] == [[], [0, 0], [2, 2, 2]]
        with pytest.raises(ValueError, match=r"^The model returned NaN as a log-probability after 2 tokens\.$"):
            function(step, (np.arange(3),), (np.zeros(3, int),), EOS, [9, 3, 3])


@pytest.mark.parametrize("function", [greedy, beam_search])
def test_log_probabilities_are_summed_in_double_precision(function):
    log_probs = np.array([math.log(0.7), -math.inf, math.log(0.3)], np.float32)

    def step(tokens, memory, state):
        return np.tile(log_probs, (len(tokens), 1)), state, None

    (found,) = function(step, (), (), EOS, [500])
    best = found[0] if isinstance(found, list) else found
    assert best.tokens == [0] * 500 and best.log_prob == pytest.approx(500 * float(log_probs[0]), rel=1e-12)


@pytest.mark.parametrize(
    "search", [Search(), Search(beam=3, length_penalty=0.6), Search(temperature=0.7, seed=5)], ids=["1", "3", "sample"]
)
def test_settings_choose_the_search(search):
    model, sentences, limits = Markov(4), [*range(9)], [5] * 9
    found = model.search(search.run, sentences, limits, batch=2)
    if search.temperature:
        one_each = model.search(sample, sentences, limits, temperature=0.7, seed=(5, 2))
        assert found == [[one] for one in one_each]
        assert found != model.search(search.run, sentences, limits, batch=3)
        assert found != model.search(replace(search, seed=6).run, sentences, limits, batch=2)
    elif search.beam == 1:
        assert found == [[one] for one in model.search(greedy, sentences, limits)]
    else:
        assert found == model.search(beam_search, sentences, limits, beam=3, length_penalty=0.6)


def test_limits_grow_with_the_source():
    assert Search().limits(np.array([0, 1, 20])).tolist() == [10, 12, 50]
    assert Search(max_ratio=1.5).limits([1, 2]).tolist() == [12, 13]


@pytest.mark.parametrize(
    "settings",
    [{"beam": 0}, {"temperature": -1.0}, {"max_ratio": -1.0}, {"length_penalty": -0.1}, {"seed": -1}],
    ids=lambda settings: next(iter(settings)),
)
def test_wrong_settings_are_refused(settings):
    with pytest.raises(ValueError, match=r"^`beam` must be at least 1, and no other setting may be negative: Search\("):
        Search(**settings)


def test_samples_need_a_beam_of_one():
    with pytest.raises(ValueError, match=r"^Samples are one per sentence: set `beam` to 1 or `temperature` to 0: Sea"):
        Search(beam=2, temperature=1.0)


@pytest.mark.parametrize(
    ("tokens", "positions", "expected"),
    [
        (["das", "<unk>", "ist", "<unk>"], [0, 1, 2, 0], ["das", "Bonn", "ist", "the"]),
        (["<unk>", "<unk>"], [3, 2], ["<unk>", "is"]),  # position 3 is the end symbol
        (["das", "<unk>"], [], ["das", "<unk>"]),  # no attention
        ([], [], []),
    ],
)
def test_unknown_tokens_are_replaced_by_their_source(tokens, positions, expected):
    assert replace_unknown(tokens, positions, ["the", "Bonn", "is"], "<unk>") == expected
