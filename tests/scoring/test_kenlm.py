"""KenLM's names over a model file, compared with KenLM itself and with the scorer."""

from __future__ import annotations

import copy
import importlib.util
import math
import pickle
import random
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from keraslm.config import DataConfig
from keraslm.scoring import kenlm
from keraslm.text.vocabulary import train_tokenizer
from tests.support import fake_model

PROGRAM = Path(__file__).resolve().parents[1] / "support" / "kenlm_program.py"
SENTENCES = ["the cat sat", "", "the zebra sat", "dog dog <unk> the", "sat", "quagga zebra"]
LN10 = math.log(10)

# A unigram model with the probabilities of BY_ID. KenLM needs one bigram; it has the same probability.
ARPA = r"""\data\
ngram 1=7
ngram 2=1

\1-grams:
{unigrams}
-99	<s>	0

\2-grams:
{cat}	the cat

\end\
"""


@pytest.fixture(scope="module")
def arpa(tmp_path_factory):
    """Token i has probability (i + 1) / 21, as in `by_id`."""
    names = {"<eos>": "</s>"}
    order = ["<eos>", "sat", "the", "cat", "dog", "<unk>"]
    costs = [math.log10((number + 1) / 21) for number in range(6)]
    unigrams = "\n".join(f"{cost:.9f}\t{names.get(w, w)}\t0" for w, cost in zip(order, costs, strict=True))
    path = tmp_path_factory.mktemp("arpa") / "model.arpa"
    path.write_text(ARPA.format(unigrams=unigrams, cat=f"{costs[3]:.9f}"))
    return path


@pytest.fixture(scope="module")
def model(bulk_model):
    """Each distribution depends on every token since the start of the text."""
    return kenlm.Model(str(bulk_model))


def run_program(path, change_import):
    source = PROGRAM.read_text(encoding="utf-8")
    if change_import:
        assert source.count("\nimport kenlm\n") == 1
        source = source.replace("\nimport kenlm\n", "\nfrom keraslm import kenlm\n")
    names = {"__name__": "program"}
    exec(compile(source, str(PROGRAM), "exec"), names)
    return names["main"](str(path), SENTENCES)


@pytest.fixture(scope="module")
def ours(fake):
    return run_program(fake, change_import=True)


@pytest.fixture(scope="module")
def theirs(arpa):
    if importlib.util.find_spec("kenlm") is None:
        pytest.skip("kenlm is not installed: pip install kenlm")
    return run_program(arpa, change_import=False)


def without_names(values, path):
    """Check and remove the entries that contain the path."""
    kept = dict(values)
    assert kept.pop("path") == (str(path).encode(),) * 3
    assert kept.pop("repr") == (f"<Model from {path.name.encode()!r}>",) * 3
    return kept


def test_names_and_states_equal_those_of_kenlm(ours, theirs, fake, arpa):
    assert without_names(ours["names"], fake) == without_names(theirs["names"], arpa)
    assert ours["states"] == theirs["states"]
    assert ours["errors"] == theirs["errors"]


@pytest.mark.parametrize("sentence", SENTENCES)
def test_scores_equal_those_of_kenlm(ours, theirs, sentence):
    found, expected = ours["scores"][sentence], theirs["scores"][sentence]
    assert found.keys() == expected.keys()
    for name in ("score", "without", "bytes", "explicit", "spaced", "perplexity", "steps", "steps without"):
        assert found[name] == pytest.approx(expected[name], rel=1e-5), name
        assert type(found[name]) is type(expected[name])
    assert found["generator"] == expected["generator"]
    for mine, other in zip(
        [found["full"], *found["full without"]], [expected["full"], *expected["full without"]], strict=True
    ):
        assert [(type(a), type(b), type(c)) for a, b, c in mine] == [(type(a), type(b), type(c)) for a, b, c in other]
        assert [value for value, _, _ in mine] == pytest.approx([value for value, _, _ in other], rel=1e-5)
        assert [oov for _, _, oov in mine] == [oov for _, _, oov in other]


def test_the_program_runs_without_kenlm(ours, fake):
    names = without_names(ours["names"], fake)
    assert names["known"] == {
        "the": True, "zebra": False, "<unk>": False, "<s>": True, "</s>": True, "": False, "the cat": False,
        b"the": True, b"zebra": False,
    }  # fmt: skip
    assert names["defaults"] == (2, True, 0)
    assert ours["states"]["null and begin"] == (False, True, True, True, False, False)
    assert ours["states"]["made"] == "FullScoreReturn(-1.5, 2, True)"
    assert ours["errors"]["score"] == ("TypeError", "Cannot convert <class 'int'> to string")


def test_scores_equal_the_table(model):
    ids = fake_model.ids_of("the bird sat")
    (expected,) = fake_model.expected(fake_model.BY_HISTORY, [ids])
    assert model.score("the bird sat") == pytest.approx(expected.sum() / LN10, rel=1e-6)
    full = list(model.full_scores("the bird sat"))
    assert [value for value, _, _ in full] == pytest.approx(expected / LN10, rel=1e-6)
    assert [(length, oov) for _, length, oov in full] == [(2, False), (3, True), (4, False), (5, False)]
    null = list(model.full_scores("the bird sat", bos=False))
    assert [found[0] for found in null] == [found[0] for found in full]
    assert [found[1] for found in null] == [1, 2, 3, 4] and model.order > 10**9
    assert "<s>" in model and [oov for *_, oov in model.full_scores("<s> the", eos=False)] == [True, False]


def test_an_empty_text_has_score_0(model):
    assert model.score("", eos=False) == 0.0
    assert list(model.full_scores(" ", eos=False)) == []
    state, after = kenlm.State(), kenlm.State()
    assert model.BaseFullScore(state, "", after) == kenlm.FullScoreReturn(0.0, 1, True)


def test_a_word_after_the_end_symbol_starts_a_line(models):
    model = models["char"]
    inside = model.score("ab cd </s>", eos=False)
    assert inside == pytest.approx(model.score("ab cd"))
    state = kenlm.State()
    model.BeginSentenceWrite(state)
    values = [model.BaseScore(state, word, state) for word in ("ab", "</s>", "cd")]
    assert math.fsum(values) == pytest.approx(model.score("ab") + model.score("cd", eos=False), rel=1e-6)
    assert model.score("ab </s> cd", eos=False) == pytest.approx(math.fsum(values), rel=1e-6)


def test_invalid_utf8_is_unknown(model):
    assert model.score(b"the \xff") == model.score("the zebra")
    assert b"\xff" not in model


TEXT = ["the cat's nest, at the old oak!", "the thin man: then (and there) the end.", "naïve 日本 thé"] * 5
KINDS = {
    "word": {},
    "punctuation": {"split_punctuation": True},
    "lowercase": {"lowercase": True, "split_punctuation": True},
    "char": {"tokenizer": "char"},
    "byte": {"tokenizer": "byte"},
    "bpe": {"tokenizer": "bpe", "vocab_size": 280},
    "unigram": {"tokenizer": "unigram", "vocab_size": 50},
}


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    """A model for each kind of tokenizer; each distribution depends on all previous tokens."""
    found = {}
    for kind, fields in KINDS.items():
        tokenizer = train_tokenizer(TEXT, DataConfig(**fields))
        size, info = tokenizer.vocab_size, fake_model.info_of(tokenizer)
        table = np.log(np.random.default_rng(3).dirichlet(np.ones(size), size))
        found[kind] = kenlm.Model(str(fake_model.write(tmp_path_factory.mktemp(kind) / "model.onnx", table, info)))
    return found


# Words of the text, of its letters and marks, and of anything that is not white space.
words = st.one_of(
    st.sampled_from(["the", "The", "cat's", "oak!", "日本", "<unk>", "<eos>", "...", "a\u0301", "\u0301"]),
    st.text("aethn',.!é日", min_size=1, max_size=5),
    st.text(st.characters(codec="utf-8", exclude_categories=["Z", "Cc"]), min_size=1, max_size=4),
).filter(lambda word: word != "</s>")


@pytest.mark.parametrize("kind", KINDS)
@given(st.lists(words, max_size=6))
@settings(max_examples=40, deadline=None)
def test_words_add_up_to_the_line(models, kind, line_words):
    model = models[kind]
    line = " ".join(line_words)
    expected = model._scorer.score(line) / LN10
    assert model.score(line) == pytest.approx(expected, rel=1e-5)
    assert math.fsum(value for value, *_ in model.full_scores(line)) == pytest.approx(expected, rel=1e-5)
    state = kenlm.State()
    model.BeginSentenceWrite(state)
    single = [model.BaseFullScore(state, word, state) for word in [*line_words, "</s>"]]
    assert math.fsum(found.log_prob for found in single) == pytest.approx(expected, rel=1e-5)
    assert [(found.ngram_length, found.oov) for found in single] == [each[1:] for each in model.full_scores(line)]


def test_unk_is_unknown_even_if_every_text_can_be_encoded(models):
    model = models["byte"]
    assert "zebra" in model and b"\xff" in model
    assert [word in model for word in ("<unk>", "", "the cat")] == [False] * 3
    assert [oov for *_, oov in model.full_scores("the <unk>")] == [False, True, False]


def test_a_state_is_a_mutable_value(model):
    state, kept = kenlm.State(), kenlm.State()
    model.BeginSentenceWrite(state)
    model.BaseScore(state, "the", kept)
    copies = [copy.copy(kept), copy.deepcopy(kept), pickle.loads(pickle.dumps(kept))]
    before = model.BaseScore(kept, "cat", state)
    model.BaseScore(kept, "dog", kept)
    for each in copies:
        assert each != kept
        assert model.BaseScore(each, "cat", each) == before
        assert each == state and hash(each) == hash(state)
    assert kept != "a state"


def test_states_are_ordered_by_their_number_of_words(model):
    states = [kenlm.State() for _ in range(5)]
    model.BeginSentenceWrite(states[1])
    for before, after, word in zip(states[1:-1], states[2:], ["the", "cat", "the"], strict=True):
        model.BaseScore(before, word, after)
    shuffled = random.Random(1).sample(states, len(states))
    assert sorted(shuffled) == states
    assert len(set(shuffled)) == 5
    other = kenlm.State()
    model.BaseScore(states[1], "dog", other)
    assert other != states[2] and (other < states[2]) != (states[2] < other)


def test_a_pickled_model_opens_its_file_again(fake):
    model = kenlm.LanguageModel(str(fake), provider="cpu", threads=1)
    again = pickle.loads(pickle.dumps(model))
    assert type(again) is kenlm.LanguageModel
    assert again.path == str(fake).encode()
    assert again.score("the cat") == model.score("the cat")


def test_a_file_that_is_not_a_model_is_an_os_error(tmp_path):
    path = tmp_path / "model.arpa"
    path.write_text("\\data\\\nngram 1=3\n")
    with pytest.raises(OSError) as caught:
        kenlm.Model(str(path))
    assert str(caught.value).startswith(f"Cannot read model '{path}' (not ")
    with pytest.raises(
        OSError, match=r"^Cannot read model '.*nothing.onnx' \(cannot be read \(No such file or directory\)\)$"
    ):
        kenlm.Model(str(tmp_path / "nothing.onnx").encode())


def test_arguments_of_wrong_types_are_refused(model, fake):
    state = kenlm.State()
    with pytest.raises(TypeError, match=r"^word is a bytes, but a str is expected.$"):
        model.BaseScore(state, b"the", state)
    with pytest.raises(TypeError, match=r"^config is a int, but a keraslm.scoring.kenlm.Config is expected.$"):
        kenlm.Model(str(fake), 3)
