"""The neural cache on a model file whose answers are formulas, compared with a loop over tokens in float64."""

from __future__ import annotations

import math
import pickle

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import keraslm
from keraslm.errors import ConfigError, InputTypeError, ModelFileError, TextError, UsageError
from keraslm.report.options import ScoreOptions
from keraslm.report.writer import signature
from keraslm.scoring import rows as engine
from keraslm.scoring import session as sessions
from keraslm.scoring.cached import CachedSession
from keraslm.scoring.rows import MAX_STEPS
from keraslm.testtime import neural_cache
from keraslm.testtime.grid import finer
from keraslm.testtime.tuning import LAMBDAS, THETAS
from tests.reference.testtime import cached_nats
from tests.scoring.test_scorer import contexts, limits, lines_of_files, texts_of
from tests.support import arpa, fake_model
from tests.support.fake_model import BY_HISTORY, V, ids_of
from tests.support.limits import small_limits

PARAMETERS = {"cache_theta": 3.0, "cache_lambda": 0.25, "cache_window": 5}
LINES = [
    "the cat sat",
    "",
    "the <eos> bird the cat",
    "dog",
    "cat cat <unk> cat sat the dog",
    "the cat sat",
    "",
    "",
    "sat",
]


@pytest.fixture(scope="module")
def cached(by_history):
    return keraslm.with_cache(by_history, **PARAMETERS)


def states_of(inputs):
    return np.cumsum(np.asarray(inputs, int) + 1) % V


def brute(text, theta=3.0, share=0.25, window=5, bos=True):
    """Log-probability of each token of one text of ids, by the formulas; with `bos=False` the first is only read."""
    inputs, targets = ([0, *text[:-1]], text) if bos else (text[:-1], text[1:])
    states = states_of(inputs)
    nats = -BY_HISTORY[states, targets]
    return -cached_nats(np.array(targets), states[:, None] / V, nats, window, theta, share)


def brute_distributions(text):
    """Log-probabilities of all V tokens at each place of a text, by the formulas."""
    return np.stack([[brute([*text[:place], word])[-1] for word in range(V)] for place in range(len(text))])


def logprobs(scorer, lines, context, **options):
    found = [line.logprobs for line in scorer.score_lines(lines, context, **options)]
    return np.concatenate([np.zeros(0), *found])


@given(lines=lines_of_files, context=contexts, ahead=st.integers(1, 8), limits=limits, products=st.integers(1, 100))
def test_scores_equal_a_loop_over_tokens(by_history, lines, context, ahead, limits, products):
    """Whatever is read ahead, side by side or in one call: the cache of a text starts empty and has its own tokens."""
    scorer = keraslm.with_cache(by_history, **PARAMETERS)
    with small_limits(engine, limits), small_limits(neural_cache, {"_PRODUCTS": products}):
        found = logprobs(scorer, lines, context, lines_ahead=ahead)
    expected = [brute(text) for text in texts_of(lines, context)]
    np.testing.assert_allclose(found, np.concatenate([np.zeros(0), *expected]), rtol=1e-5)


@pytest.mark.parametrize("context", keraslm.config.CONTEXTS)
@pytest.mark.parametrize("window", [1, 4, 500])
def test_windows_and_blocks(by_history, context, window):
    scorer = keraslm.with_cache(by_history, 1.5, 0.4, window)
    alone, together = (logprobs(scorer, LINES * 3, context, lines_ahead=ahead) for ahead in (1, 4096))
    np.testing.assert_allclose(alone, together, rtol=1e-5)
    expected = [brute(text, 1.5, 0.4, window) for text in texts_of(LINES * 3, context)]
    np.testing.assert_allclose(together, np.concatenate(expected), rtol=1e-5)


def test_a_text_longer_than_a_call_keeps_a_bounded_history(cached, monkeypatch):
    monkeypatch.setattr(engine, "MAX_LOGITS", 7 * V)
    text = "the cat dog sat <unk> " * 100
    (found,) = cached.logprobs([text], "document")
    np.testing.assert_allclose(found, brute(ids_of(text)), rtol=1e-5)
    _, after = cached.advance_all(cached.begin(), ids_of(text))
    (history,) = after.state.histories
    assert len(history._keys) <= 2 * 5 < MAX_STEPS


@pytest.mark.parametrize("context", keraslm.config.CONTEXTS)
def test_without_the_first_token(cached, context):
    """A token that is only read has no hidden state before it: the cache does not have it."""
    found = logprobs(cached, LINES, context, bos=False)
    expected = [np.append(np.nan, brute(text, bos=False)) for text in texts_of(LINES, context)]
    np.testing.assert_allclose(found, np.concatenate(expected), rtol=1e-5)


def test_a_share_of_0_is_the_model_alone(by_history):
    scorer = keraslm.with_cache(by_history, 2.0, 0.0)
    for distributions in (False, True):
        for own, plain in zip(
            *(each.score_lines(LINES, "document", distributions) for each in (scorer, by_history)), strict=True
        ):
            np.testing.assert_allclose(own.logprobs, plain.logprobs, rtol=1e-6)


def test_distributions_are_those_of_the_mixture(cached, monkeypatch):
    """Ranks, entropies and the corrections of `spaces` come from complete distributions."""
    monkeypatch.setattr(engine, "MAX_LOGITS", 4 * V)
    text = ids_of("the cat the cat <unk> the dog cat")
    expected = brute_distributions(text)
    np.testing.assert_allclose(np.exp(expected).sum(axis=1), 1.0, rtol=1e-9)
    (line,) = cached.score_lines(["the cat the cat <unk> the dog cat"], distributions=True)
    own = expected[np.arange(len(text)), text]
    np.testing.assert_allclose(line.logprobs, own, rtol=1e-5)
    np.testing.assert_array_equal(line.ranks, 1 + (expected > own[:, None] + 1e-6).sum(axis=1))
    np.testing.assert_allclose(line.entropies, -(np.exp(expected) * expected).sum(axis=1), rtol=1e-5)
    marks = np.arange(V) % 2 == 0
    (line,) = cached.score_lines(["the cat the cat <unk> the dog cat"], boundary=marks)
    np.testing.assert_allclose(line.boundaries[0], np.log(np.exp(expected)[:, marks].sum(axis=1)), rtol=1e-5)
    position = cached.begin()
    for place, token in enumerate(text):
        np.testing.assert_allclose(cached.next_logprobs(position), expected[place], rtol=1e-5)
        logprob, position = cached.advance(position, token)
        assert logprob == pytest.approx(own[place], rel=1e-5)


def test_long_distributions_are_computed_in_parts(cached, monkeypatch):
    text = "the cat dog sat <unk> " * 9
    (whole,) = cached.score_lines([text], distributions=True)
    np.testing.assert_allclose(whole.logprobs, cached.logprobs([text])[0], rtol=1e-5)
    monkeypatch.setattr(neural_cache, "_PRODUCTS", 20)
    (parts,) = cached.score_lines([text], distributions=True)
    np.testing.assert_allclose(parts.entropies, whole.entropies, rtol=1e-5)


def test_states_are_values(cached):
    session, ids = cached.session, np.array([[2, 3, 1], [4, 4, 2], [2, 3, 1]])
    zero = session.zero_state(3)
    first, state = session.target_logprobs(ids, ids, zero)
    again, same = session.target_logprobs(ids.tolist(), ids, zero)
    np.testing.assert_array_equal(first, again)
    assert (len(state), state == same, hash(state) == hash(same), state == zero) == (3, True, True, False)
    assert state.select([0]) == state.select(slice(2, 3)) != state.select([1])
    assert zero.join([state.select([1]), state.select([0])]) == state.select([1, 0])
    assert pickle.loads(pickle.dumps(state)) == state
    chosen = [2, 0, 1, 1]
    expected, _ = session.target_logprobs(ids[chosen], ids[chosen], state.select(chosen))
    np.testing.assert_array_equal(expected, session.target_logprobs(ids, ids, state)[0][chosen])
    # One more token: the same model state may follow a different history.
    states = [session.target_logprobs([row], [row], session.zero_state(1))[1] for row in ([3, 0], [0, 3])]
    assert states[0].model == states[1].model and states[0] != states[1]
    with pytest.raises(InputTypeError, match="one with a history is expected"):
        session.run([[0]], session.members[0].zero_state(1))


def test_what_scores_with_a_scorer_has_the_cache(cached, fake_folder):
    texts = ["the cat the cat", "the cat the dog", "the cat", "cat cat cat"]
    alone = [brute(ids_of(text)).sum() for text in texts]
    (found,) = keraslm.score_sets(cached, [texts])
    assert [line.logprob for line in found] == pytest.approx(alone, rel=1e-5)
    before, whole = brute(ids_of("the cat the"))[:-1].sum(), brute(ids_of("the cat the cat")).sum()
    assert cached.score("cat", prefix="the cat the") == pytest.approx(whole - before, rel=1e-5)
    assert keraslm.summarize(cached.score_lines(texts)).nats == pytest.approx(-sum(alone), rel=1e-5)
    assert cached.table(texts, "sentence")["logprob"].tolist() == pytest.approx(alone, rel=1e-5)
    assert pickle.loads(pickle.dumps(cached)).score(texts[0]) == cached.score(texts[0])
    best = max(range(1, V - 1), key=lambda word: brute([*ids_of("the cat cat")[:-1], word])[-1])
    assert cached.predict("the cat cat ", k=1)[0].word == {1: "sat", 2: "the", 3: "cat", 4: "dog"}[best]
    ngram = arpa.write_arpa(fake_folder / "cached.arpa", ["the cat sat", "the dog"], 2)
    mixed = keraslm.mix(cached, ngram, 0.3)
    expected = np.log(
        0.7 * np.exp(brute(ids_of("the cat cat"))) + 0.3 * np.exp(mixed.ngram.logprobs(["the", "cat", "cat", None]))
    )
    np.testing.assert_allclose(mixed.logprobs(["the cat cat"])[0], expected, rtol=1e-5)


def test_signatures_name_the_parameters(by_history, cached):
    plain, own = (signature(each, ScoreOptions()) for each in (by_history, cached))
    assert own.replace("|cache_window:5|cache_theta:3|cache_lambda:0.25", "") == plain != own
    assert repr(cached).startswith("Scorer(CachedSession(ModelSession(") and "cache_theta=3.0" in repr(cached)


def test_a_state_on_a_device(tmp_path, monkeypatch, cached):
    run = sessions.run_bound
    monkeypatch.setattr(sessions, "run_bound", lambda onnx, device, *rest: run(onnx, "cpu", *rest))
    loaded = keraslm.load(fake_model.write(tmp_path / "model.onnx", BY_HISTORY), "cpu")
    loaded.session.provider = "cuda"
    found = keraslm.with_cache(loaded, **PARAMETERS)
    for distributions in (False, True):
        for ours, theirs in zip(
            *(each.score_lines(LINES, "document", distributions, 2) for each in (found, cached)), strict=True
        ):
            np.testing.assert_allclose(ours.logprobs, theirs.logprobs, rtol=1e-6)


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"cache_theta": -1}, "`cache_theta` is -1, but must be a number of at least 0"),
        ({"cache_theta": math.nan}, "`cache_theta` is nan"),
        ({"cache_theta": "1"}, "`cache_theta` is '1'"),
        ({"cache_lambda": 1.0}, "`cache_lambda` is 1.0, but must be at least 0 and below 1"),
        ({"cache_lambda": True}, "`cache_lambda` is True"),
        ({"cache_window": 0}, "`cache_window` is 0, but must be an integer of at least 1"),
        ({"cache_window": None}, "`cache_window` is None, but must be an integer of at least 1"),
        ({"cache_lambda": None}, "needs `cache_theta` and `cache_lambda`; tune_cache finds the best ones"),
    ],
)
def test_wrong_parameters(by_history, parameters, message):
    with pytest.raises((ConfigError, UsageError), match=message):
        keraslm.with_cache(by_history, **PARAMETERS | parameters)


def test_several_models_are_refused(fake, bulk_model):
    with pytest.raises(UsageError, match=r"compares the hidden states of one model, but there are 2\. Leave out"):
        keraslm.with_cache([fake, bulk_model], 1.0, 0.5)
    with pytest.raises(UsageError, match="but there are 2"):
        keraslm.tune_cache([fake, bulk_model], ["the"])


@pytest.mark.parametrize("version", ["3", "4"])
def test_files_without_hidden_states(tmp_path, by_history, version):
    info = fake_model.model_info(format_version=version)
    old = keraslm.load(fake_model.write(tmp_path / "old.onnx", BY_HISTORY, info))
    assert old.logprobs(LINES)[4].tolist() == by_history.logprobs(LINES)[4].tolist()
    message = rf"old\.onnx: format version {version}, which does not return the hidden states .* Export the run again"
    for call in (lambda: keraslm.with_cache(old, 1.0, 0.5), lambda: keraslm.tune_cache(old, ["the"])):
        with pytest.raises(ModelFileError, match=message):
            call()
    with pytest.raises(ModelFileError, match=message):
        old.session.hidden_states([[0]], [[0]], old.session.zero_state(1))


@pytest.mark.parametrize("theta", [1e6, 1e300])
def test_a_large_theta_leaves_the_most_similar_states(by_history, theta):
    text = ids_of("the cat dog the <unk> sat cat the the dog")
    scorer = keraslm.with_cache(by_history, theta, 0.5)
    expected = brute(text, 1e6, 0.5, 500)
    np.testing.assert_allclose(scorer.advance_all(scorer.begin(), text)[0], expected, rtol=1e-5)
    (line,) = scorer.score_lines(["the cat dog the <unk> sat cat the the dog"], distributions=True)
    np.testing.assert_allclose(line.logprobs, expected, rtol=1e-5)


def test_wrong_ids_are_refused(cached):
    session, zero = cached.session, cached.session.zero_state(1)
    for bad in (None, "12", [[1.5]], [[1], [1, 2]], [1], [[V]]):
        with pytest.raises((TypeError, ValueError), match=r"oken id|array of integers"):
            session.run(bad, zero)
        with pytest.raises((TypeError, ValueError), match=r"oken id|array of integers|must be equal"):
            session.target_logprobs([[1]], bad, zero)
    with pytest.raises(InputTypeError, match="The state is None"):
        session.run([[1]], None)


def test_parameters_of_a_cache_are_replaced(cached, by_history):
    again = keraslm.with_cache(cached, 1.0, 0.5)
    assert isinstance(again.session, CachedSession)
    assert again.score("the the the") == keraslm.with_cache(by_history, 1.0, 0.5).score("the the the")


@pytest.mark.parametrize("context", keraslm.config.CONTEXTS)
@pytest.mark.parametrize("given", [{}, {"cache_theta": 0.123456}, {"cache_lambda": 0.123456}])
def test_tuned_parameters_equal_a_brute_force_search(by_history, context, given):
    texts = texts_of(LINES, context)
    states = [states_of([0, *text[:-1]]) for text in texts]
    targets, all_states = np.concatenate(texts), np.concatenate(states)
    numbers = np.repeat(np.arange(len(texts)), list(map(len, texts)))
    nats = -BY_HISTORY[all_states, targets]

    def search(thetas, shares):
        tried = [(t, s) for t in thetas for s in shares]
        costs = [cached_nats(targets, all_states[:, None] / V, nats, 6, t, s, numbers).sum() for t, s in tried]
        return divmod(int(np.argmin(costs)), len(shares)), min(costs)

    thetas = [given["cache_theta"]] if "cache_theta" in given else list(THETAS)
    shares = [given["cache_lambda"]] if "cache_lambda" in given else list(LAMBDAS)
    best, _ = search(thetas, shares)
    thetas, shares = finer(thetas, best[0]), finer(shares, best[1])
    best, cost = search(thetas, shares)
    lines = []
    found = keraslm.tune_cache(by_history, LINES, context, 6, **given, log=lines.append)
    assert (found.cache_theta, found.cache_lambda, found.cache_window) == (thetas[best[0]], shares[best[1]], 6)
    assert found.tokens == len(targets) and len(lines) == 2
    assert found.perplexity == pytest.approx(math.exp(cost / len(targets)), rel=1e-5)
    assert found.model_perplexity == pytest.approx(by_history.perplexity(LINES, context), rel=1e-6)
    parameters = (found.cache_theta, found.cache_lambda, found.cache_window)
    tuned = keraslm.with_cache(by_history, *parameters).perplexity(LINES, context)
    assert tuned == pytest.approx(found.perplexity, rel=1e-5)


def test_a_file_and_its_lines_give_the_same(by_history, bulk_model, text):
    file = text("\n".join(LINES) + "\n", "valid.txt")
    lines = keraslm.tune_cache(by_history, iter(LINES))
    assert keraslm.tune_cache(bulk_model, str(file)) == keraslm.tune_cache(by_history, file) == lines
    two = keraslm.tune_cache(by_history, [*LINES, None, *LINES, None], "document")
    assert two.tokens == 2 * lines.tokens


def test_texts_that_cannot_be_tuned_on(by_history, text):
    with pytest.raises(TextError, match=r"empty\.txt: no lines, but the neural cache is tuned on them"):
        keraslm.tune_cache(by_history, text("", "empty.txt"))
    with pytest.raises(TextError, match="the text: no lines"):
        keraslm.tune_cache(by_history, [None])
    with pytest.raises(TypeError, match=r"`lines\[1\]` is 3"):
        keraslm.tune_cache(by_history, ["the", 3])
    with pytest.raises(UsageError, match="`context` is 'book'"):
        keraslm.tune_cache(by_history, ["the"], "book")
    one = keraslm.tune_cache(by_history, [""])  # the end alone, before which the cache is empty
    assert (one.tokens, one.perplexity) == (1, one.model_perplexity)
