"""Sets of texts after prefixes, compared with each text alone and with the table of the fake model."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from keraslm import load, score_sets
from keraslm.errors import ArgumentTypeError, TextError, UsageError
from keraslm.rescoring import prefixes
from keraslm.scoring.session import ModelSession
from keraslm.text.vocabulary import train_tokenizer
from tests.scoring.test_words import KINDS, TEXT
from tests.support import fake_model
from tests.support.fake_model import BY_HISTORY, V, ids_of
from tests.support.limits import small_limits

lines = st.lists(st.sampled_from(["the", "cat", "dog", "bird", "<eos>", " "]), max_size=4).map(" ".join)
befores = st.lists(lines, max_size=3).map("\n".join)
sets = st.lists(st.lists(st.one_of(lines, st.tuples(befores, lines)), max_size=4), max_size=5)
contexts = st.sampled_from(["sentence", "paragraph", "document"])
limits = st.fixed_dictionaries({"MAX_LOGITS": st.integers(1, 200), "_TOKENS": st.integers(1, 60)})


@given(sets, st.booleans(), contexts, st.sampled_from([" ", "", "\t"]), limits, st.integers(1, 9))
def test_scores_are_those_of_each_text_alone(by_history, groups, eos, context, separator, values, texts_ahead):
    with small_limits(prefixes, values):
        found = [*score_sets(by_history, groups, texts_ahead, eos=eos, separator=separator, context=context)]
    assert [len(own) for own in found] == [len(own) for own in groups]
    texts = itertools.chain.from_iterable(groups)
    alone = by_history.score_texts(texts, eos=eos, separator=separator, context=context)
    for own, wanted in zip(itertools.chain.from_iterable(found), alone, strict=True):
        (line,) = wanted.lines
        assert (own.text, own.given, own.bos, own.eos) == (line.text, line.given, line.bos, line.eos)
        np.testing.assert_array_equal(own.ids, line.ids)
        np.testing.assert_array_equal(own.oov, line.oov)
        np.testing.assert_allclose(own.logprobs, line.logprobs, atol=1e-5)
        assert own.cost.tokens == line.cost.tokens


@pytest.fixture(scope="module", params=sorted(KINDS))
def model(request, tmp_path_factory):
    """A scorer over a table of random distributions, for each kind of tokenizer."""
    tokenizer = train_tokenizer(TEXT, KINDS[request.param])
    table = np.log(np.random.default_rng(5).dirichlet(np.ones(tokenizer.vocab_size), tokenizer.vocab_size))
    info = fake_model.info_of(tokenizer)
    return load(fake_model.write(tmp_path_factory.mktemp(request.param) / "model.onnx", table, info))


words = st.lists(st.sampled_from(["the", "cats", "mat!", "zebra", "日本", "a"]), max_size=4).map(" ".join)


@given(words, st.lists(words, min_size=1, max_size=4), st.booleans())
def test_every_kind_of_tokenizer_gives_the_scores_of_the_scorer(model, prefix, texts, eos):
    (found,) = score_sets(model, [[(prefix, text) for text in texts]], eos=eos)
    expected = [model.score(text, prefix=prefix, eos=eos) for text in texts]
    np.testing.assert_allclose([line.logprob for line in found], expected, atol=2e-6, rtol=1e-6)


def test_scores_by_hand(by_history):
    def after(inputs, target):
        return float(BY_HISTORY[sum(i + 1 for i in inputs) % V, target])

    (the, cat, sat, end), dog = ids_of("the cat sat"), ids_of("dog")[0]
    ((one, other, alone),) = score_sets(by_history, [[("the cat", "sat"), ("the cat\n", "dog"), "dog"]], eos=False)
    assert one.logprob == pytest.approx(after([end, the, cat], sat), abs=1e-6)
    assert other.logprob == alone.logprob == pytest.approx(after([end], dog), abs=1e-6)
    ((whole,),) = score_sets(by_history, [[("the cat\n", "dog")]], context="document")
    before = [end, the, cat, end]
    assert whole.logprob == pytest.approx(after(before, dog) + after([*before, dog], end), abs=1e-6)
    ((nothing,),) = score_sets(by_history, [[("the cat", "")]], eos=False)
    assert (nothing.logprob, len(nothing.ids)) == (0.0, 0)


@pytest.mark.parametrize(("eos", "fed"), [(True, 7), (False, 4)])
def test_a_common_prefix_is_fed_once_and_the_last_token_only_before_an_end(by_history, monkeypatch, eos, fed):
    sizes = []
    for name in ("run", "target_logprobs"):
        real = getattr(ModelSession, name)
        monkeypatch.setattr(
            ModelSession, name, lambda self, ids, *rest, real=real: sizes.append(np.size(ids)) or real(self, ids, *rest)
        )
    texts = [("the cat sat", text) for text in ("the", "cat", "dog")]
    (found,) = score_sets(by_history, [texts], eos=eos)
    assert sum(sizes) == fed  # <eos> the cat sat, and each of the three words to predict the end after it
    assert len({line.logprob for line in found}) == 3


def test_faults_name_their_place(by_history):
    for wrong in (3, None, ("the",), ("the", 3), b"the"):
        with pytest.raises(ArgumentTypeError, match=r"`sets\[1\]\[0\]`"):
            [*score_sets(by_history, [["the"], [wrong]])]
    with pytest.raises(TextError, match=r"sets\[0\]\[1\]: a line end inside a line"):
        [*score_sets(by_history, [["the", ("a\nb", "the\ncat")]])]
    with pytest.raises(ArgumentTypeError, match="`eos` is 0"):
        score_sets(by_history, [], eos=0)
    with pytest.raises(UsageError, match="`context` is 'line', but must be one of sentence, paragraph, document"):
        score_sets(by_history, [], context="line")
