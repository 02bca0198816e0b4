"""Ensembles of model files, compared with the logarithm of the mean probability in NumPy."""

from __future__ import annotations

import copy
import dataclasses
import io
import itertools
import json
import math
import pickle
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import keraslm
from keraslm.bulk import driver
from keraslm.bulk.driver import score_files
from keraslm.config import Config
from keraslm.errors import InputError, ModelFileError, UsageError
from keraslm.report.options import ScoreOptions
from keraslm.report.writer import signature, write_scores
from keraslm.rescoring import prefixes
from keraslm.scoring import kenlm
from keraslm.scoring.ensemble import Ensemble, EnsembleState, logmeanexp, open_models
from keraslm.scoring.scorer import Scorer
from keraslm.text.files import TextFile
from tests.reference.language_model import log_mean_exp
from tests.support import fake_model
from tests.support.bulk import alone, outputs, score_here
from tests.support.fake_model import BY_HISTORY, BY_ID, V
from tests.support.words import train_words

OTHER = np.log(np.random.default_rng(11).dirichlet(np.ones(V) / 3, V))
LINES = ["the cat sat", "", "the bird the dog sat", "dog", "the cat"]
RTOL = 2e-6


lines_of_words = st.lists(
    st.lists(st.sampled_from(["the", "cat", "dog", "sat", "bird"]), max_size=9).map(" ".join), min_size=1, max_size=9
)


@pytest.fixture(scope="module")
def paths(fake_folder) -> list[Path]:
    """Three models: two whose answers depend on the history, and one whose do not."""
    tables = {"history": BY_HISTORY, "other": OTHER, "id": BY_ID}
    return [fake_model.write(fake_folder / f"member-{name}.onnx", table) for name, table in tables.items()]


@pytest.fixture(scope="module")
def alone_each(paths) -> list[Scorer]:
    return [keraslm.load(path) for path in paths]


@pytest.fixture(scope="module")
def three(paths) -> Scorer:
    return keraslm.load(paths)


def means(scorers, lines, context="sentence"):
    """Log of the mean probability of each token of each line, by NumPy in float64, from each member's own scores."""
    each = [scorer.logprobs(lines, context) for scorer in scorers]
    return [log_mean_exp(np.stack(line)) for line in zip(*each, strict=True)]


@pytest.mark.parametrize("context", ["sentence", "paragraph", "document"])
@pytest.mark.parametrize("distributions", [False, True])
def test_logprobs_are_logs_of_mean_probabilities(three, alone_each, context, distributions):
    found = list(three.score_lines(LINES, context, distributions))
    for line, wanted in zip(found, means(alone_each, LINES, context), strict=True):
        np.testing.assert_allclose(line.logprobs, wanted, rtol=RTOL)


def test_distributions_are_means_and_sum_to_one(three, alone_each):
    context, each = three.begin(), [scorer.begin() for scorer in alone_each]
    for token in (2, 3, 1):
        found = three.next_logprobs(context)
        own = [scorer.next_logprobs(place) for scorer, place in zip(alone_each, each, strict=True)]
        np.testing.assert_allclose(found, log_mean_exp(np.stack(own)), rtol=RTOL)
        assert found.dtype == np.float32 and np.exp(found).sum(dtype=np.float64) == pytest.approx(1, abs=1e-6)
        context = three.advance(context, token)[1]
        each = [scorer.advance(place, token)[1] for scorer, place in zip(alone_each, each, strict=True)]


@pytest.mark.parametrize("times", [1, 2, 3])
def test_a_model_with_itself_is_the_model(paths, alone_each, times):
    found = keraslm.load([paths[0]] * times)
    assert len(found.session.members) == times
    for ours, theirs in zip(found.logprobs(LINES), alone_each[0].logprobs(LINES), strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=2e-7)
    if times == 1:
        assert type(found.session) is keraslm.ModelSession


def test_ranks_and_entropies_are_of_the_mean(three, alone_each):
    (line,) = three.score_lines(["the"], distributions=True)
    starts = [scorer.next_logprobs(scorer.begin()) for scorer in alone_each]
    mean = log_mean_exp(np.stack(starts))
    assert line.entropies[0] == pytest.approx(-(np.exp(mean) * mean).sum(), rel=1e-5)
    assert line.ranks[0] == 1 + (mean > mean[2]).sum()


@given(sets=st.lists(lines_of_words, max_size=5), rows=st.integers(1, 4), lone=st.integers(0, 3))
def test_sets_with_common_beginnings_have_the_scores_of_each_text_alone(three, alone_each, sets, rows, lone):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(prefixes, "_ROWS", rows)
        patch.setattr(prefixes, "_LONE", lone)
        found = [line for lines in keraslm.score_sets(three, sets) for line in lines]
    wanted = means(alone_each, [text for texts in sets for text in texts])
    for line, own in zip(found, wanted, strict=True):
        np.testing.assert_allclose(line.logprobs, own, rtol=RTOL)


def test_a_member_may_have_an_adaptive_softmax(paths, alone_each, fake_folder):
    config = Config().replace(num_layers=1, units=1, softmax="adaptive", cutoffs=(2,))
    info = fake_model.model_info(softmax="adaptive", config=json.dumps(config.to_dict()))
    adaptive = fake_model.write(fake_folder / "member-adaptive.onnx", OTHER, info)
    both = keraslm.load([paths[0], adaptive])
    assert both.session.adaptive
    assert both.session.logits_per_token == sum(member.logits_per_token for member in both.session.members)
    (found,) = keraslm.score_sets(both, [LINES])
    for line, wanted in zip(found, means(alone_each[:2], LINES), strict=True):
        np.testing.assert_allclose(line.logprobs, wanted, rtol=RTOL)


def test_states_are_values(three, alone_each):
    session, zero = three.session, three.session.zero_state(3)
    _, state = session.run([[2], [3], [2]], zero)
    assert isinstance(state, EnsembleState) and len(state) == 3
    assert state == state.select([0, 1, 0]) != zero
    assert hash(state) == hash(state.select([0, 1, 0])) and {state: "it"}[state.select([2, 1, 2])] == "it"
    assert state.select([0]).join([state.select([0]), state.select([1, 2])]) == state
    for same in (copy.deepcopy(state), pickle.loads(pickle.dumps(state))):
        assert same == state
    members = [scorer.session.run([[2], [3], [2]], scorer.session.zero_state(3))[1] for scorer in alone_each]
    assert state == EnsembleState(tuple(members))
    assert repr(state) == f"EnsembleState(members=({', '.join(['ModelState(layers=1, rows=3, units=1)'] * 3)}))"


def test_the_kenlm_interface_accepts_an_ensemble(paths, three):
    model = kenlm.Model([str(path) for path in paths])
    assert model.score("the cat sat") * math.log(10) == pytest.approx(three.score("the cat sat"), rel=1e-6)
    one, other, total = kenlm.State(), kenlm.State(), 0.0
    model.BeginSentenceWrite(one)
    for word in ("the", "cat", "sat", "</s>"):
        total += model.BaseScore(one, word, other)
        one, other = other, one
    assert total == pytest.approx(model.score("the cat sat"), rel=1e-6)
    again, begin = kenlm.State(), kenlm.State()
    model.BeginSentenceWrite(begin)
    model.BaseScore(begin, "the", one)
    model.BaseScore(begin, "the", again)
    assert one == again and hash(one) == hash(again) and one != begin
    assert pickle.loads(pickle.dumps(model)).score("the cat") == model.score("the cat")


def test_a_signature_names_every_member(three, paths):
    digests = [keraslm.load(path).session.digest for path in paths]
    assert [member.digest for member in three.session.members] == digests
    found = dict(part.split(":") for part in signature(three, ScoreOptions()).split("|"))
    assert found["model"] == "+".join(digest[:12] for digest in digests)


def test_members_with_different_tokenizers_are_refused(paths, fake_folder):
    tokenizer = train_words(["the bird sat on the mat"])
    size = tokenizer.vocab_size
    table = np.log(np.full((size, size), 1 / size))
    odd = fake_model.write(fake_folder / "odd.onnx", table, fake_model.info_of(tokenizer))
    with pytest.raises(ModelFileError) as caught:
        keraslm.load([*paths[:2], odd])
    for part in (f"{odd}: a different tokenizer than that of {paths[0]}: {size} tokens", f"instead of {V} tokens"):
        assert part in str(caught.value)


def test_wrong_input_is_refused(three, alone_each, paths):
    with pytest.raises(UsageError, match="An ensemble needs at least one model file"):
        Ensemble([])
    with pytest.raises(InputError, match=r"The state is ModelState\(.*\), but one of 3 models is expected"):
        three.session.run([[0]], alone_each[0].session.zero_state(1))
    with pytest.raises(InputError, match="Token id 6 is outside the vocabulary"):
        three.session.run([[6]], three.session.zero_state(1))
    with pytest.raises(InputError, match="State h0 is float32 of shape"):
        three.session.run([[0]], three.session.zero_state(2))
    with pytest.raises(InputError, match=r"The state is EnsembleState\(.*\), but one from the model's zero_state"):
        alone_each[0].session.run([[0]], three.session.zero_state(1))
    with pytest.raises(ModelFileError, match=r"gone\.onnx: cannot be read"):
        open_models([paths[0], "gone.onnx"])


def test_only_the_vocabulary_is_metadata_of_an_ensemble(three, alone_each):
    own = dataclasses.asdict(alone_each[0].session.info)
    assert dataclasses.asdict(three.session.info).items() <= own.items()
    assert repr(three) == f"Scorer(Ensemble([{', '.join(repr(scorer.session) for scorer in alone_each)}]))"


def test_the_mean_does_not_underflow():
    rows = np.array([[-800.0, 0.0, -1e-3, -np.inf], [-810.0, -1e4, -7.0, -np.inf]], np.float32)
    found = logmeanexp(list(rows))
    np.testing.assert_allclose(found, log_mean_exp(rows), rtol=1e-6)
    assert found.dtype == np.float32


@pytest.fixture
def in_this_process(monkeypatch):
    monkeypatch.setattr(driver, "score_in_processes", score_here)


def test_bulk_scoring_records_its_members(paths, texts, tmp_path, in_this_process):
    options, out = ScoreOptions(level="sentence"), tmp_path / "out"
    score_files(paths, texts[:2], out, options)
    assert score_files(paths, texts[:2], out, options, resume=True).finished == 2
    shown = [f"{keraslm.load(path).session.digest[:12]}…" for path in paths[1:]]
    with pytest.raises(UsageError, match=f"was made of something else: with {shown[0]},{shown[1]}, now none"):
        score_files(paths[0], texts[:2], out, options, resume=True)
    with pytest.raises(UsageError, match=f"with {shown[0]},{shown[1]}, now {shown[0]}"):
        score_files(paths[:2], texts[:2], out, options, resume=True)
    score_files(paths[0], texts[:1], out, options, overwrite=True)
    assert outputs(out)["a.txt.tsv"] == alone(paths[0], texts[0], options)


def test_bulk_scoring_in_processes_opens_every_member(paths, texts, tmp_path):
    score_files(paths, texts[:3], tmp_path / "out", ScoreOptions(), workers=2)
    three = keraslm.load(paths, threads=1)
    for path in texts[:3]:
        rows = io.StringIO()
        write_scores(three, itertools.chain(TextFile(path), [None]), ScoreOptions(), rows, name=str(path))
        assert outputs(tmp_path / "out")[f"{path.name}.tsv"] == rows.getvalue().encode()


def test_a_member_that_changed_meanwhile_is_named(paths, texts, tmp_path, monkeypatch):
    member = fake_model.write(tmp_path / "member.onnx", BY_ID)

    def changed(job, todo, _):
        fake_model.write(member, OTHER)
        return score_here(job, todo, 1)

    monkeypatch.setattr(driver, "score_in_processes", changed)
    with pytest.raises(ModelFileError, match=r"member\.onnx: the file has changed since the job began"):
        score_files([paths[0], member], texts[:1], tmp_path / "out", ScoreOptions())
