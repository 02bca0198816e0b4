"""Text drawn from models whose distributions are known."""

from __future__ import annotations

import math
from collections import Counter
from itertools import islice

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from keraslm import Sampling, generate
from keraslm.errors import UsageError
from keraslm.scoring.sampler import draw, probabilities
from tests.support.fake_model import BY_HISTORY, BY_ID, TOKENIZER, V

HALVES = np.log([0.125, 0.5, 0.125, 0.25])


CASES = [
    (Sampling(), (0.125, 0.5, 0.125, 0.25)),
    (Sampling(0.0), (0, 1, 0, 0)),
    (Sampling(1e-300), (0, 1, 0, 0)),
    (Sampling(top_k=1), (0, 1, 0, 0)),
    (Sampling(top_k=2), (0, 2 / 3, 0, 1 / 3)),
    (Sampling(top_k=3), (1 / 7, 4 / 7, 0, 2 / 7)),  # the first of equal ones
    *((Sampling(top_k=k), (0.125, 0.5, 0.125, 0.25)) for k in (4, 5, 1000)),
    (Sampling(top_p=1e-9), (0, 1, 0, 0)),
    (Sampling(top_p=0.5 - 1e-9), (0, 1, 0, 0)),
    (Sampling(top_p=0.5 + 1e-9), (0, 2 / 3, 0, 1 / 3)),
    (Sampling(top_p=0.75 - 1e-9), (0, 2 / 3, 0, 1 / 3)),
    (Sampling(top_p=0.75 + 1e-9), (1 / 7, 4 / 7, 0, 2 / 7)),
    (Sampling(top_p=0.875 + 1e-9), (0.125, 0.5, 0.125, 0.25)),
    (Sampling(top_k=2, top_p=0.6), (0, 1, 0, 0)),  # of 0.5 and 0.25 the first is two thirds
    # Squared and divided by their sum: 1/22, 16/22, 1/22, 4/22.
    (Sampling(0.5, top_p=0.72), (0, 1, 0, 0)),
    (Sampling(0.5, top_p=0.73), (0, 0.8, 0, 0.2)),
]


@pytest.mark.parametrize(("sampling", "expected"), CASES, ids=[str(sampling) for sampling, _ in CASES])
def test_the_distribution_after_temperature_top_k_and_top_p(sampling, expected):
    np.testing.assert_allclose(probabilities(HALVES, sampling), expected, atol=1e-12)


def test_temperature_0_takes_the_first_of_equal_tokens():
    assert probabilities(np.log([0.2, 0.4, 0.4]), Sampling(temperature=0.0)).tolist() == [0, 1, 0]


@pytest.mark.parametrize("temperature", [0.25, 0.5, 2.0, 10.0])
def test_temperature_is_a_power_of_the_probabilities(temperature):
    powers = np.exp(HALVES) ** (1 / temperature)
    found = probabilities(HALVES, Sampling(temperature))
    np.testing.assert_allclose(found, powers / powers.sum(), rtol=1e-9)


def test_top_p_of_1_keeps_the_least_likely_token():
    assert probabilities(np.array([0.0, -40.0, -45.0]), Sampling(top_p=1.0)).all()


def test_a_forbidden_token_is_never_kept():
    forbidden = np.array([-np.inf, math.log(0.75), math.log(0.25)])
    for sampling in (Sampling(), Sampling(0.0), Sampling(5.0), Sampling(top_k=3), Sampling(top_p=0.99)):
        assert probabilities(forbidden, sampling)[0] == 0.0


@given(
    scores=st.lists(st.floats(-30, 30), min_size=1, max_size=30),
    sampling=st.builds(Sampling, st.floats(0, 10), st.none() | st.integers(1, 40), st.floats(0, 1, exclude_min=True)),
)
def test_every_distribution_sums_to_1_and_keeps_the_most_likely_token(scores, sampling):
    scores = np.array(scores)
    found = probabilities(scores, sampling)
    assert found.shape == scores.shape
    assert found.sum() == pytest.approx(1.0, abs=1e-9)
    assert (found >= 0.0).all()
    assert found[np.argmax(scores)] == found.max() > 0.0
    if sampling.top_k:
        assert (found > 0).sum() <= sampling.top_k


@given(
    scores=st.lists(st.floats(-5, 0), min_size=2, max_size=20),
    top_p=st.floats(0.01, 0.99),
)
def test_top_p_keeps_a_set_that_reaches_it_and_would_not_without_its_last(scores, top_p):
    whole = np.exp(scores) / np.exp(scores).sum()
    kept = np.sort(whole[probabilities(np.array(scores), Sampling(top_p=top_p)) > 0])
    assert kept.sum() >= top_p - 1e-9
    assert kept[1:].sum() < top_p + 1e-9


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"temperature": -0.1}, "`temperature` is -0.1, but must be 0 or more and finite"),
        ({"temperature": math.nan}, "`temperature` is nan"),
        ({"temperature": math.inf}, "`temperature` is inf"),
        ({"top_k": -1}, "`top_k` is -1"),
        ({"top_p": 0.0}, "`top_p` is 0.0, but must be above 0 and at most 1"),
        ({"top_p": 1.1}, "`top_p` is 1.1"),
        ({"top_p": math.nan}, "`top_p` is nan"),
        ({"seed": -1}, "`seed` is -1"),
    ],
)
def test_bad_settings_are_refused(values, message):
    with pytest.raises(UsageError, match=message):
        Sampling(**values)


def test_no_tokens_are_drawn_for_a_maximum_of_0(by_id):
    assert list(generate(by_id.session, max_tokens=0)) == []
    sampling = Sampling(seed=3)
    assert [*generate(by_id, "the", 9, sampling)] == [*generate(by_id.session, "the", 9, sampling)]
    with pytest.raises(UsageError, match="`max_tokens` is -1, but must be 0 or more"):
        generate(by_id.session, max_tokens=-1)


@pytest.mark.parametrize(("seeds", "same"), [((5, 5), True), ((5, 6), False), ((None, None), False)])
def test_the_same_seed_gives_the_same_text(by_id, seeds, same):
    first, again = (list(generate(by_id.session, "the", 200, Sampling(seed=seed), False)) for seed in seeds)
    assert (first == again) is same


def test_frequencies_are_those_of_the_distribution(by_id):
    count = 4000
    drawn = Counter(generate(by_id.session, "", count, Sampling(seed=1), stop_at_eos=False, allow_unk=True))
    due = {token: count * math.exp(BY_ID[0, i]) for i, token in enumerate(TOKENIZER.tokens(range(V)))}
    # Chi square with 5 degrees of freedom: above 20.5 once in a thousand seeds, and the seed is fixed.
    assert sum((drawn[token] - n) ** 2 / n for token, n in due.items()) < 20.5


def test_unk_is_not_drawn_unless_allowed(by_id):
    without = Counter(generate(by_id.session, "", 1500, Sampling(seed=2), stop_at_eos=False))
    assert set(without) == {"<eos>", "sat", "the", "cat", "dog"}
    # The rest shares what <unk> had: dog has 5/15.
    assert without["dog"] / 1500 == pytest.approx(5 / 15, abs=0.05)
    assert list(generate(by_id.session, "", 1, Sampling(temperature=0.0), allow_unk=True)) == ["<unk>"]
    assert list(generate(by_id.session, "", 1, Sampling(temperature=0.0))) == ["dog"]


def test_a_text_ends_with_its_line_unless_it_continues(by_id):
    tokens = list(generate(by_id.session, "", 10_000, Sampling(seed=3)))
    assert tokens.index("<eos>") == len(tokens) - 1 < 9_999
    tokens = list(generate(by_id.session, "", 300, Sampling(seed=3), stop_at_eos=False))
    assert len(tokens) == 300 and "<eos>" in tokens[:-1]


def test_text_is_that_of_the_tokens(by_id):
    sampling = Sampling(seed=3)
    tokens = list(generate(by_id.session, "the", 50, sampling, stop_at_eos=False))
    text = "".join(generate(by_id.session, "the", 50, sampling, stop_at_eos=False, as_text=True))
    assert [line.split() for line in f"the{text}".split("\n")] == [
        line.split() for line in " ".join(["the", *tokens]).split("<eos>")
    ]


def likeliest(prompt, count):
    """The tokens at temperature 0, by the formula of `BY_HISTORY`."""
    state = sum(i + 1 for i in [0, *prompt]) % V
    for _ in range(count):
        token = int(np.argmax(np.where(np.arange(V) == TOKENIZER.unk_id, -np.inf, BY_HISTORY[state])))
        yield TOKENIZER.tokens([token])[0]
        state = (state + token + 1) % V


@pytest.mark.parametrize(("prompt", "ids"), [("", []), ("the", [2]), ("the cat", [2, 3]), ("a zebra sat", [5, 5, 1])])
def test_the_next_token_depends_on_the_prompt_and_all_drawn_tokens(by_history, prompt, ids):
    found = list(generate(by_history.session, prompt, 12, Sampling(temperature=0.0), stop_at_eos=False))
    assert found == list(likeliest(ids, 12))


def test_tokens_are_drawn_lazily(by_id):
    assert len(list(islice(generate(by_id.session, "", 10**9, stop_at_eos=False), 5))) == 5


def test_a_prompt_needs_no_distributions_except_the_last(by_history, monkeypatch):
    shapes, run = [], by_history.session.run
    monkeypatch.setattr(by_history.session, "run", lambda ids, state: shapes.append(np.shape(ids)) or run(ids, state))
    list(generate(by_history.session, "the cat sat " * 500, 2, stop_at_eos=False))
    assert shapes == [(1, 1), (1, 1)]


def test_any_number_of_tokens_is_a_maximum(by_id):
    assert len(list(islice(generate(by_id.session, "", 10**30, stop_at_eos=False), 5))) == 5


@pytest.mark.parametrize("temperature", [5e-324, 1e-310, 1e-307, 1e38, 1e308])
def test_extreme_temperatures_raise_no_warning(temperature):
    with np.errstate(all="raise", under="ignore"):
        found = probabilities(np.array([-np.inf, -1.0, -1.0, -700.0]), Sampling(temperature))
    expected = [0, 1, 0, 0] if temperature < 1e-308 else [0, 0.5, 0.5, 0] if temperature < 1 else [0, *[1 / 3] * 3]
    np.testing.assert_allclose(found, expected)


def plain(scores, sampling: Sampling):
    """The distribution by full sorts, as it is written in papers."""
    values = np.exp((scores - scores.max()) / sampling.temperature)
    order = sorted(range(len(values)), key=lambda token: (-values[token], token))
    order = order[: sampling.top_k]
    values = values / values[order].sum()
    kept, total = [], 0.0
    for token in order:
        if kept and total >= sampling.top_p < 1.0:
            break
        kept.append(token)
        total += values[token]
    kept = [token for token in kept if values[token] >= sampling.min_p * values[order[0]]]
    result = np.zeros(len(values))
    result[kept] = values[kept] / values[kept].sum()
    return result


@pytest.mark.parametrize("size", [5, 700])
@pytest.mark.parametrize("ties", [False, True])
@pytest.mark.parametrize(
    "settings",
    [
        *({}, {"temperature": 0.5}, {"top_k": 3}, {"top_k": 1000}, {"top_p": 0.3}, {"top_p": 0.999}, {"min_p": 0.2}),
        *({"min_p": 1.0}, {"top_k": 400, "top_p": 0.9, "min_p": 0.01, "temperature": 2.0}),
    ],
)
def test_the_fast_distribution_is_the_plain_one(size, ties, settings):
    rng, sampling = np.random.default_rng(size), Sampling(**settings)
    for _ in range(20):
        scores = rng.normal(size=size) * 3
        scores = np.log(np.exp(scores) / np.exp(scores).sum())
        scores = np.round(scores) if ties else scores
        found = probabilities(scores, sampling)
        assert np.array_equal(found > 0, plain(scores, sampling) > 0)
        assert np.allclose(found, plain(scores, sampling), rtol=1e-9, atol=0)


def test_draws_are_those_of_numpy_with_one_number_each():
    scores = np.log(np.random.default_rng(0).dirichlet(np.ones(50)))
    for settings in ({}, {"top_k": 5}, {"top_p": 0.7}, {"temperature": 0}, {"min_p": 0.3}):
        own, numpys, counted = (np.random.default_rng(3) for _ in range(3))
        sampling = Sampling(**settings)
        found = [draw(scores, sampling, own) for _ in range(200)]
        assert found == [int(numpys.choice(50, p=probabilities(scores, sampling))) for _ in range(200)]
        counted.random(200)
        assert own.random() == counted.random()


@pytest.mark.parametrize("value", [-0.1, 1.1])
def test_min_p_is_a_share(value):
    with pytest.raises(UsageError, match=rf"`min_p` is {value}, but must be from 0 to 1"):
        Sampling(min_p=value)
