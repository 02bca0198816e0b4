"""Several model files as one, against NumPy's log of the mean of what each of them says alone."""

from __future__ import annotations

import copy
import io
import itertools
import json
import math
import pickle
import re
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import keraslm
from keraslm.bulk import driver
from keraslm.bulk.driver import score_files
from keraslm.bulk.job import score_shard
from keraslm.config import Config
from keraslm.errors import InputError, ModelFileError, UsageError
from keraslm.report.options import ScoreOptions
from keraslm.report.writer import signature, write_scores
from keraslm.rescoring import prefixes
from keraslm.rescoring.pairs import Pair, score_pairs
from keraslm.scoring import kenlm
from keraslm.scoring.ensemble import Ensemble, EnsembleState, logmeanexp, open_models
from keraslm.scoring.sampler import Sampling, generate
from keraslm.scoring.scorer import Scorer
from keraslm.text.files import TextFile
from tests.reference.mean import log_mean_exp
from tests.support import fake_model
from tests.support.bulk import alone, outputs
from tests.support.fake_model import BY_HISTORY, BY_ID, TOKENIZER, V
from tests.support.words import train_words

OTHER = np.log(np.random.default_rng(11).dirichlet(np.ones(V) / 3, V))
LINES = ["the cat sat", "", "the bird the dog sat", "dog", "the cat"]
RTOL = 2e-6
NUMBER = re.compile(r"-?[0-9]+[.][0-9]+(?:e[-+]?[0-9]+)?")

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
    return keraslm.load(paths[0], others=paths[1:])


def means(scorers, lines, context="sentence"):
    """Log of the mean probability of each token of each line, by NumPy in float64, from each member's own scores."""
    each = [scorer.logprobs(lines, context) for scorer in scorers]
    return [log_mean_exp(np.stack(line)) for line in zip(*each, strict=True)]


def written(scorer, lines, **options):
    out = io.StringIO()
    write_scores(scorer, [*lines, None], ScoreOptions(**options), out)
    return out.getvalue()


@pytest.mark.parametrize("context", ["sentence", "paragraph", "document"])
@pytest.mark.parametrize("distributions", [False, True])
def test_each_token_has_the_mean_of_the_members_probabilities(three, alone_each, context, distributions):
    found = list(three.score_lines(LINES, context, distributions))
    for line, wanted in zip(found, means(alone_each, LINES, context), strict=True):
        np.testing.assert_allclose(line.logprobs, wanted, rtol=RTOL)


@given(lines=lines_of_words, window=st.integers(1, 5), context=st.sampled_from(["sentence", "document"]))
def test_no_window_changes_them(three, alone_each, lines, window, context):
    found = np.concatenate([line.logprobs for line in three.score_lines(lines, context, window=window)])
    np.testing.assert_allclose(found, np.concatenate(means(alone_each, lines, context)), rtol=RTOL)


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
    found = keraslm.load(paths[0], others=[paths[0]] * (times - 1))
    assert len(found.session.members) == times
    for ours, theirs in zip(found.logprobs(LINES), alone_each[0].logprobs(LINES), strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=2e-7)
    if times == 1:
        assert type(found.session) is keraslm.ModelSession


def test_an_ensemble_is_at_least_the_geometric_mean(three, alone_each):
    assert three.perplexity(LINES) < math.prod(scorer.perplexity(LINES) for scorer in alone_each) ** (1 / 3)


@pytest.mark.parametrize(
    ("format", "level"),
    [*itertools.product(("tsv", "jsonl", "kenlm", "srilm"), ("token", "word", "sentence", "summary"))],
)
def test_every_format_and_level_writes_what_one_model_of_the_means_would(fake_folder, format, level):
    """Of models without a memory the mean is a model without one, which a file can hold."""
    tables = [np.tile(row, (V, 1)) for row in (BY_ID[0], OTHER[0])]
    members = [fake_model.write(fake_folder / f"flat-{n}.onnx", table) for n, table in enumerate(tables)]
    mean = np.log(np.exp(tables).mean(axis=0))
    one = keraslm.load(fake_model.write(fake_folder / "flat-mean.onnx", mean))
    both = keraslm.load(members[0], others=members[1:])
    ours, theirs = (written(scorer, LINES, format=format, level=level) for scorer in (both, one))
    assert NUMBER.sub("#", ours) == NUMBER.sub("#", theirs)
    numbers = [[float(number) for number in NUMBER.findall(rows)] for rows in (ours, theirs)]
    assert numbers[0] == pytest.approx(numbers[1], rel=1e-5) and len(numbers[0]) > 1


def test_ranks_and_entropies_are_of_the_mean(three, alone_each):
    (line,) = three.score_lines(["the"], distributions=True)
    starts = [scorer.next_logprobs(scorer.begin()) for scorer in alone_each]
    mean = log_mean_exp(np.stack(starts))
    assert line.entropies[0] == pytest.approx(-(np.exp(mean) * mean).sum(), rel=1e-5)
    assert line.ranks[0] == 1 + (mean > mean[2]).sum()


@given(sets=st.lists(lines_of_words, max_size=5), rows=st.integers(1, 4), lone=st.integers(0, 3))
def test_sets_that_begin_alike_have_the_scores_of_each_text_alone(three, alone_each, sets, rows, lone):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(prefixes, "_ROWS", rows)
        patch.setattr(prefixes, "_LONE", lone)
        found = [line for lines in keraslm.score_sets(three, sets) for line in lines]
    wanted = means(alone_each, [text for texts in sets for text in texts])
    for line, own in zip(found, wanted, strict=True):
        np.testing.assert_allclose(line.logprobs, own, rtol=RTOL)


def test_a_member_with_an_adaptive_softmax_takes_part(paths, alone_each, fake_folder):
    config = Config().replace(num_layers=1, units=1, softmax="adaptive", cutoffs=(2,))
    info = fake_model.model_info(softmax="adaptive", config=json.dumps(config.to_dict()))
    adaptive = fake_model.write(fake_folder / "member-adaptive.onnx", OTHER, info)
    both = keraslm.load(paths[0], others=[adaptive])
    assert both.session.info.softmax == "adaptive"
    assert both.session.cells == sum(member.cells for member in both.session.members)
    (found,) = keraslm.score_sets(both, [LINES])
    for line, wanted in zip(found, means(alone_each[:2], LINES), strict=True):
        np.testing.assert_allclose(line.logprobs, wanted, rtol=RTOL)


def test_pairs_compare_the_means(three, alone_each):
    pair = Pair("the cat sat", "the dog sat")
    (found,) = score_pairs(three, [pair])
    good, bad = (math.fsum(line) for line in means(alone_each, [pair.good, pair.bad]))
    assert found.difference == pytest.approx(good - bad, rel=1e-5)


def test_text_is_drawn_from_the_mean(three):
    def reference(seed):
        rng, tokens, context = np.random.default_rng(seed), [], three.begin()
        for _ in range(20):
            scores = three.next_logprobs(context).astype(np.float64)
            p = np.exp(scores - scores.max())
            order = np.argsort(-scores, kind="stable")
            kept = np.zeros(V)
            kept[order] = p[order] / p[order].sum()
            tokens.append(int(rng.choice(V, p=kept / kept.sum())))
            context = three.advance(context, tokens[-1])[1]
        return TOKENIZER.tokens(np.array(tokens))

    drawn = generate(three.session, "", 20, Sampling(seed=5), stop_at_eos=False, allow_unk=True)
    assert list(drawn) == list(reference(5))


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
    np.testing.assert_array_equal(state.h, np.concatenate([member.h for member in members], axis=2))
    assert state.shapes == (state.h.shape, state.c.shape) == (zero.h.shape,) * 2
    assert state.h.shape == (session.info.num_layers, 3, session.info.hidden_size)


def test_layers_of_a_row_stand_side_by_side():
    one = keraslm.State(np.arange(12, dtype=np.float32).reshape(2, 3, 2), np.zeros((2, 3, 2), np.float32))
    other = keraslm.State(np.full((1, 3, 1), 20, np.float32), np.zeros((1, 3, 1), np.float32))
    state = EnsembleState([one, other])
    assert state.h[0].tolist() == [[0, 1, 6, 7, 20], [2, 3, 8, 9, 20], [4, 5, 10, 11, 20]]
    assert state.shapes == ((1, 3, 5), (1, 3, 5))


def test_kenlms_names_work_on_it(paths, three):
    model = kenlm.Model(str(paths[0]), others=[str(path) for path in paths[1:]])
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


def test_members_of_two_tokenizers_are_refused(paths, fake_folder):
    tokenizer = train_words(["the bird sat on the mat"])
    size = tokenizer.vocab_size
    table = np.log(np.full((size, size), 1 / size))
    odd = fake_model.write(fake_folder / "odd.onnx", table, fake_model.info_of(tokenizer))
    with pytest.raises(ModelFileError) as caught:
        keraslm.load(paths[0], others=[paths[1], odd])
    for part in (f"{odd}: another tokenizer than that of {paths[0]}: {size} tokens", f"instead of {V} tokens"):
        assert part in str(caught.value)


def test_what_is_no_ensemble_is_refused(three, alone_each, paths):
    with pytest.raises(UsageError, match="An ensemble needs at least one model file"):
        Ensemble([])
    with pytest.raises(InputError, match="A state of 1 models was given to an ensemble of 3"):
        three.session.run([[0]], alone_each[0].session.zero_state(1))
    with pytest.raises(InputError, match="Token id 6 is outside the vocabulary"):
        three.session.run([[6]], three.session.zero_state(1))
    with pytest.raises(InputError, match="State h0 is float32 of shape"):
        three.session.run([[0]], three.session.zero_state(2))
    with pytest.raises(ModelFileError, match=r"gone\.onnx: cannot be read"):
        open_models([paths[0], "gone.onnx"])


def test_the_mean_is_found_where_probabilities_underflow():
    rows = np.array([[-800.0, 0.0, -1e-3, -np.inf], [-810.0, -1e4, -7.0, -np.inf]], np.float32)
    found = logmeanexp(list(rows))
    np.testing.assert_allclose(found, log_mean_exp(rows), rtol=1e-6)
    assert found.dtype == np.float32


@pytest.fixture
def in_this_process(monkeypatch):
    monkeypatch.setattr(driver, "score_in_processes", lambda job, todo, _: (score_shard(job, shard) for shard in todo))


def test_bulk_scoring_writes_what_one_process_writes_and_knows_its_members(
    paths, three, texts, tmp_path, in_this_process
):
    options, out = ScoreOptions(level="sentence"), tmp_path / "out"
    score_files(paths[0], texts[:2], out, options, others=paths[1:])
    for path in texts[:2]:
        rows = io.StringIO()
        write_scores(three, itertools.chain(TextFile(path), [None]), options, rows, name=str(path))
        assert outputs(out)[f"{path.name}.tsv"] == rows.getvalue().encode()
    assert score_files(paths[0], texts[:2], out, options, others=paths[1:], resume=True).finished == 2
    shown = [f"{keraslm.load(path).session.digest[:12]}…" for path in paths[1:]]
    with pytest.raises(UsageError, match=f"was made of something else: with {shown[0]},{shown[1]}, now none"):
        score_files(paths[0], texts[:2], out, options, resume=True)
    with pytest.raises(UsageError, match=f"with {shown[0]},{shown[1]}, now {shown[0]}"):
        score_files(paths[0], texts[:2], out, options, others=paths[1:2], resume=True)
    score_files(paths[0], texts[:1], out, options, overwrite=True)
    assert outputs(out)["a.txt.tsv"] == alone(paths[0], texts[0], options)


def test_bulk_scoring_in_processes_opens_every_member(paths, texts, tmp_path):
    score_files(paths[0], texts[:3], tmp_path / "out", ScoreOptions(), others=paths[1:], workers=2)
    three = keraslm.load(paths[0], threads=1, others=paths[1:])
    for path in texts[:3]:
        rows = io.StringIO()
        write_scores(three, itertools.chain(TextFile(path), [None]), ScoreOptions(), rows, name=str(path))
        assert outputs(tmp_path / "out")[f"{path.name}.tsv"] == rows.getvalue().encode()


def test_a_member_that_changed_meanwhile_is_named(paths, texts, tmp_path, monkeypatch):
    member = fake_model.write(tmp_path / "member.onnx", BY_ID)

    def changed(job, todo, _):
        fake_model.write(member, OTHER)
        return (score_shard(job, shard) for shard in todo)

    monkeypatch.setattr(driver, "score_in_processes", changed)
    with pytest.raises(ModelFileError, match=r"member\.onnx: not the file that the job began with"):
        score_files(paths[0], texts[:1], tmp_path / "out", ScoreOptions(), others=[member])
