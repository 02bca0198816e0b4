"""ARPA files and KenLM binaries: worked by hand, compared with the definition in float64 and with KenLM itself."""

from __future__ import annotations

import bz2
import gzip
import importlib
import importlib.util
import lzma
import math
import pickle
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from keraslm.errors import LONGEST, ArgumentTypeError, MissingPackageError, TextError
from keraslm.ngram.model import NgramModel
from keraslm.ngram.opening import load_ngram
from keraslm.perplexity import BASES
from tests.reference.ngram import Backoff
from tests.support import arpa, toy

GOLDEN = Path(__file__).resolve().parents[1] / "golden" / "kenlm"
LINES = ["the cat sat", "the dog sat on the mat", "a cat and a dog", "the dog ran", "on the mat the cat sat"] * 3
HELD_OUT = [[], ["the"], ["the", "zebra", "sat", "on"], ["zebra", "zebra"], ["on", "the", "mat", "the", "cat", "sat"]]
HELD_OUT += [["a", "the", "a", "dog"], ["<unk>", "the", "<s>", "</s>", "the"]]
with_kenlm = pytest.mark.skipif(importlib.util.find_spec("kenlm") is None, reason="kenlm is not installed")


@pytest.fixture
def opened(text):
    """Open the text of an ARPA file."""
    return lambda content: load_ngram(text(content, "model.arpa"))


def of_sentences(model, sentences):
    return [model.logprobs([*words, None]) for words in sentences]


def test_the_toy_by_hand(opened):
    model = opened(toy.TOY)
    assert (model.order, sorted(model.vocabulary)) == (3, ["a", "b"])
    # p(b | <s> a) is listed; <a b a> is not, nor is <b a>: 0.5 * 1 * 0.4; after <b a>: 1 * 0.25 * 0.2
    assert np.exp(model.logprobs(["a", "b", "a", None])) == pytest.approx([0.6, 0.9, 0.2, 0.05], rel=1e-12)
    # 0.5 * 0.1; after an unknown word 0.4; <unk a> is not listed: 0.7; <a b> is a context: 0.5 * 0.3
    assert np.exp(model.logprobs(["z", "a", "b", "b"])) == pytest.approx([0.05, 0.4, 0.7, 0.15], rel=1e-12)
    assert np.exp(model.logprobs([None])) == pytest.approx([0.5 * 0.2], rel=1e-12)


def test_each_sentence_begins_anew(opened):
    model = opened(toy.TOY)
    whole = model.logprobs(["a", "b", None, None, "a", "b", None])
    parts = [model.logprobs(part) for part in (["a", "b", None], [None], ["a", "b", None])]
    assert whole.tolist() == np.concatenate(parts).tolist()
    assert model.logprobs([]).shape == (0,)


def test_which_words_are_known(opened):
    model = opened(toy.TOY)
    assert [model.knows(word) for word in ("a", None, "z", "<unk>", "<s>", "</s>", "")] == [True, True, *[False] * 5]
    for name in ("<s>", "</s>", "<unk>"):  # in a text: words that are not in the vocabulary
        assert model.logprobs([name, "a"]).tolist() == model.logprobs(["z", "a"]).tolist()


def test_without_unk_an_unknown_word_is_impossible(opened):
    tables = {**toy.PROBABILITIES, 1: {k: v for k, v in toy.PROBABILITIES[1].items() if k != "<unk>"}}
    model = opened(toy.arpa_of(tables))
    assert model.logprobs(["z"]).tolist() == [-np.inf]
    assert np.exp(model.logprobs(["a", "z", "a", "b"])) == pytest.approx([0.6, 0, 0.4, 0.7], rel=1e-12)
    assert model.logprobs(["a", "b", None])[1] == pytest.approx(np.log(0.9))  # the last id is no other word's


def test_the_other_name_of_unk(opened):
    model = opened(toy.TOY.replace("<unk>", "<UNK>"))
    assert np.exp(model.logprobs(["z"])) == pytest.approx([0.05])
    assert not model.knows("<UNK>") and sorted(model.vocabulary) == ["a", "b"]


@pytest.mark.parametrize("order", [1, 2, 3, 5])
@pytest.mark.parametrize("unknown", [True, False])
def test_any_order_as_defined(opened, order, unknown):
    text = arpa.arpa(LINES, order, unknown)
    model, slow = opened(text), Backoff(text)
    assert model.order == order
    for words, found in zip(HELD_OUT, of_sentences(model, HELD_OUT), strict=True):
        np.testing.assert_allclose(found, slow.sentence(words), rtol=1e-12)


def test_the_maker_writes_distributions(opened):
    """What the tests rely on: after each context the probabilities of all words add up to 1."""
    slow = Backoff(arpa.arpa(LINES, 3))
    words = ["</s>", "<unk>", *{word for line in LINES for word in line.split()}]
    for context in [(), ("the",), ("<s>", "the"), ("the", "cat"), ("zebra", "the"), ("mat", "mat")]:
        assert sum(slow.p(word, context) for word in words) == pytest.approx(1, abs=1e-5)


@with_kenlm
@pytest.mark.parametrize("order", [2, 3, 5])
@given(
    sentences=st.lists(st.lists(st.sampled_from(["the", "cat", "dog", "sat", "on", "zebra", "<unk>"]), max_size=9)),
    pruned=st.integers(0, 9),
)
def test_as_kenlm(tmp_path_factory, order, sentences, pruned):
    """Also with n-grams with <unk>, and where suffixes of n-grams are missing, as in pruned models of SRILM."""
    lines = [line.replace("mat", "<unk>") for line in LINES]
    rows = arpa.arpa(lines, order).split("\n")
    start = rows.index("\\2-grams:")
    prefixes = {" ".join(row.split("\t")[1].split(" ")[:-1]) for row in rows if row.count("\t")}
    removable = [n for n in range(start, len(rows)) if "\t" in rows[n] and rows[n].split("\t")[1] not in prefixes]
    for number in reversed(removable[::3][:pruned]):
        size = len(rows[number].split("\t")[1].split(" "))
        del rows[number]
        count = next(n for n, row in enumerate(rows) if row.startswith(f"ngram {size}="))
        rows[count] = f"ngram {size}={int(rows[count].split('=')[1]) - 1}"
    path = tmp_path_factory.mktemp("kenlm") / "model.arpa"
    path.write_text("\n".join(rows))
    kenlm = importlib.import_module("kenlm")
    config = kenlm.Config()
    config.show_progress, config.arpa_complain = False, kenlm.ARPALoadComplain.NONE
    other, model = kenlm.Model(str(path), config), load_ngram(path)
    for words in sentences:
        expected = [found[0] for found in other.full_scores(" ".join(words))]
        np.testing.assert_allclose(model.logprobs([*words, None]) / BASES["10"], expected, rtol=1e-6, atol=1e-6)
        assert [model.knows(word) for word in words] == [
            not oov for *_, oov in list(other.full_scores(" ".join(words)))[:-1]
        ]


@with_kenlm
@pytest.mark.parametrize("kind", ["probing", "trie"])
def test_a_binary_of_kenlm_gives_the_numbers_of_its_arpa(kind):
    binary, plain = load_ngram(GOLDEN / f"model.{kind}.bin"), load_ngram(GOLDEN / "model.arpa")
    assert (binary.order, binary.vocabulary) == (2, None)
    sentences = [
        "the cat sat on the mat",
        "sure sure zebra the",
        "",
        "<unk> <s> the </s> cat",
        "\ud800 the\0cat naïve 日本",
    ]
    for words in map(str.split, sentences):
        for given_words in ([*words, None], words, [*words, None, "the", None]):
            np.testing.assert_allclose(binary.logprobs(given_words), plain.logprobs(given_words), rtol=1e-6, atol=1e-6)
        assert [binary.knows(word) for word in words] == [plain.knows(word) for word in words]
    again = pickle.loads(pickle.dumps(binary))
    assert again.logprobs(["the", None]).tolist() == binary.logprobs(["the", None]).tolist()


@with_kenlm
def test_a_damaged_binary(tmp_path):
    data = (GOLDEN / "model.probing.bin").read_bytes()
    path = tmp_path / "cut.bin"
    path.write_bytes(data[:200])
    with pytest.raises(TextError, match=r"cut\.bin: KenLM cannot read it \(.*Make the binary again from the ARPA"):
        load_ngram(path)
    path.write_bytes(data)
    model = load_ngram(path)
    pickled = pickle.dumps(model)
    path.write_bytes((GOLDEN / "model.trie.bin").read_bytes())
    with pytest.raises(TextError, match="has changed since it was opened"):
        pickle.loads(pickled)


def test_a_binary_without_the_package(monkeypatch):
    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name, *rest: None if name == "kenlm" else find(name, *rest))
    with pytest.raises(MissingPackageError, match=r'A binary of KenLM needs .* pip install "keraslm\[kenlm\]"'):
        load_ngram(GOLDEN / "model.probing.bin")


@pytest.mark.parametrize("pack", [gzip.compress, bz2.compress, lzma.compress])
def test_compressed_files(text, pack):
    path = text(pack(toy.TOY.encode()), "model.arpa.packed")
    assert np.exp(load_ngram(path).logprobs(["a"])) == pytest.approx([0.6])


@pytest.mark.parametrize(
    "change",
    [
        lambda arpa: arpa.replace("\n", "\r\n"),
        lambda arpa: "\ufeff" + arpa,
        lambda arpa: arpa.replace("\t", "  "),
        lambda arpa: f"# made by hand\n\n{arpa}\nwhat follows is skipped\n",
        lambda arpa: arpa.replace("\n\n", "\n"),
        lambda arpa: arpa.replace("\n\n", "\n\n\n"),
        lambda arpa: arpa.replace("<s> a b", "<s> a b\t0"),  # a weight that nothing uses
        lambda arpa: arpa.replace("ngram 1=5", "ngram  1 = 5"),
        lambda arpa: arpa.removesuffix("\n"),
        lambda arpa: arpa.replace("-99", "-inf"),
        lambda arpa: arpa.replace("-99", "-1e308"),
    ],
)
def test_variants_of_the_format(opened, change):
    changed = change(toy.TOY)
    assert changed != toy.TOY
    model = opened(changed)
    assert np.exp(model.logprobs(["a", "b", "a", None])) == pytest.approx([0.6, 0.9, 0.2, 0.05], rel=1e-12)


def test_minus_99_is_zero(opened):
    model = opened(toy.TOY.replace(f"{math.log10(0.3)!r}\tb", "-99\tb"))
    assert model.logprobs(["b", "a"])[0] == -np.inf


def line_of(row: str) -> int:
    return toy.TOY.split("\n").index(row) + 1


UNIGRAM = toy.rows(toy.PROBABILITIES[1])[3]  # of a
TRIGRAM = toy.rows(toy.PROBABILITIES[3])[0]


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("\\data\\", "data", r"model\.arpa: no ARPA file of an n-gram model: no line is \\data\\\."),
        ("ngram 2=2", "ngram 2=3", r":17: 2 2-grams end here, but \\data\\ announces 3; the file is incomplete"),
        ("ngram 3=1", "ngram 3=0", r":20: 1 3-grams end here, but \\data\\ announces 0"),
        ("ngram 2=2\n", "", r":3: 'ngram 3=1' instead of 'ngram 2=' and a number or '\\1-grams:'"),
        ("ngram 1=5", "ngram 1=x", r":2: 'ngram 1=x' instead of 'ngram 1=' and a number\."),
        ("\\1-grams:", "\\2-grams:", r":6: '\\2-grams:' instead of 'ngram 4=' and a number or '\\1-grams:'"),
        ("\\2-grams:", "\\3-grams:", r":13: '\\3-grams:' instead of '\\2-grams:'"),
        ("\n\\3-grams:\n" + TRIGRAM + "\n", "", r":17: '\\end\\' instead of '\\3-grams:'"),
        ("\\end\\", "", r"model\.arpa: ends without the line \\end\\; the file is incomplete"),
        ("\\end\\", "\\4-grams:", r":20: '\\4-grams:' instead of '\\end\\'"),
        (UNIGRAM, UNIGRAM.replace("-", "x", 1), f":{line_of(UNIGRAM)}: 'x.*' does not have numbers where they belong"),
        (UNIGRAM, "nan\ta", f":{line_of(UNIGRAM)}: the log10 probability is not a number of 0 or less"),
        (UNIGRAM, "0.5\ta", f":{line_of(UNIGRAM)}: the log10 probability is not a number of 0 or less"),
        (UNIGRAM, "-1\ta\tinf", f":{line_of(UNIGRAM)}: the log10 back-off weight is not a finite number"),
        (UNIGRAM, "-1\ta\t1e300", f":{line_of(UNIGRAM)}: the log10 back-off weight is not a finite number"),
        (UNIGRAM, "-1\ta\tnan", f":{line_of(UNIGRAM)}: the log10 back-off weight is not a finite number"),
        (UNIGRAM, "-1\ta\t-1\t-1", f":{line_of(UNIGRAM)}: 4 fields, but a 1-gram has 2 or 3"),
        ("\t<unk>", "\tb", r":11: the same 1-gram as in a previous line"),
        (UNIGRAM, "-1\tc", r":14: 'a' is not among the 1-grams"),
        ("\t<s> a\t", "\t<s> z\t", r":14: 'z' is not among the 1-grams"),
        ("\ta b\t", "\t<s> a\t", r":15: the same 2-gram as in a previous line"),
        ("\t<s> a b", "\tb a b", r":18: its first words are not among the 2-grams"),
        ("\t<s> a b", "\t<s> a", r":18: 3 fields, but a 3-gram has 4 or 5"),
        ("</s>", "</S>", r"model\.arpa: no 1-gram </s>\. An n-gram model of sentences has <s> and </s>"),
        ("<s>", "<S>", r"model\.arpa: no 1-gram <s>\."),
    ],
)
def test_malformed_files(opened, old, new, message):
    content = toy.TOY.replace(old, new)
    assert content != toy.TOY
    with pytest.raises(TextError, match=message):
        opened(content)


@pytest.mark.parametrize(
    "content", ["", "\n", "the cat sat\n" * 9, "\\data\\\n", "\\data\\\nngram 1=0\n\\1-grams:\n\\end\\\n"]
)
def test_files_without_ngrams(opened, content):
    with pytest.raises(TextError, match=r"model\.arpa: "):
        opened(content)


def test_words_that_are_not_utf8(text):
    content = toy.TOY.encode().replace(b"\ta\t", b"\t\xff\t").replace(b"a b", b"\xff b").replace(b"<s> a", b"<s> \xff")
    with pytest.raises(TextError, match=r"model\.arpa:10: the word .* is not valid UTF-8"):
        load_ngram(text(content, "model.arpa"))


def test_files_that_cannot_be_read(tmp_path, text):
    with pytest.raises(TextError, match=r"none\.arpa: cannot be read \(No such file"):
        load_ngram(tmp_path / "none.arpa")
    with pytest.raises(TextError, match=r"no plain file\. Write the n-gram model to a file"):
        load_ngram(tmp_path)
    with pytest.raises(ArgumentTypeError, match="`path` is 3"):
        load_ngram(3)
    with pytest.raises(TextError, match="the gzip data are damaged or cut short"):
        load_ngram(text(gzip.compress(toy.TOY.encode())[:-20], "model.arpa.gz"))


@given(
    st.lists(st.tuples(st.integers(0, len(toy.TOY)), st.sampled_from(["\n", "\t", " ", "-", "\\", "9", "a", "\udcff"])))
)
def test_changed_files_are_refused_or_valid(tmp_path_factory, changes):
    content = toy.TOY
    for place, new in changes:
        content = content[:place] + new + content[place + 1 :]
    path = tmp_path_factory.getbasetemp() / "changed.arpa"
    path.write_bytes(content.encode("utf-8", "surrogateescape"))
    try:
        model = load_ngram(path)
    except TextError as error:
        assert "\n" not in str(error) and len(str(error)) <= LONGEST
        return
    assert isinstance(model, NgramModel)
    assert not np.isnan(model.logprobs(["a", "b", "z", None])).any()


def test_a_model_can_be_pickled(opened):
    model = opened(toy.TOY)
    again = pickle.loads(pickle.dumps(model))
    assert again.logprobs(["a", "b", None]).tolist() == model.logprobs(["a", "b", None]).tolist()
    assert (again.path, again.digest, len(again.digest)) == (model.path, model.digest, 64)
    assert repr(model).startswith("NgramModel('") and repr(model).endswith("order=3, words=2)")
