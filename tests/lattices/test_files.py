"""Lattices in the formats of HTK and Kaldi: known arcs, round trips, and a sentence for each fault."""

from __future__ import annotations

import gzip
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from keraslm.errors import TextError
from keraslm.lattices.kaldi import SYMBOLS, kaldi_rows, read_kaldi, read_words
from keraslm.lattices.rescore import rescore_lattices
from keraslm.lattices.slf import read_slf, slf_rows
from keraslm.text.files import TextFile
from tests.support.lattices import expanded_paths, paths, random_lattice, text_of

# In the style of the HTK book: words on nodes, so that both links into node 3 have the same word.
ON_NODES = """\
# An example
VERSION=1.0
UTTERANCE=testf1.mfc
lmname=bigram
lmscale=12.0  wdpenalty=-5.0 acscale=0.5
vocab=dict tscale=0.01
N=6 L=6
I=0 t=0.00
I=1 t=36 W=!SENT_START v=1
I=2 t=40 W=the
I=3 t=75 W=cat v=1   # a comment
I=4 t=71 W=dog
I=5 t=90 W=!SENT_END

J=0 S=0 E=1 a=-100.5 l=0.000
J=1 S=1 E=2 a=-200 l=-1.5
J=2 S=2 E=3 a=-300 l=-2.5 d=:k,0.1:ae,0.2:
J=3 S=2 E=4 a=-310 l=-2
J=4 S=3 E=5 a=-50 l=-0.5
J=5 S=4 E=5 a=-40 l=-0.25
"""

# Words on links, long names, and the nodes in any order.
ON_LINKS = r"""VERSION=1.1
UTTERANCE="my talk"
base=10.000
wdpenalty=-1 start=4 end=2
NODES=4 LINKS=4
I=2
I=4 time=0.5
I=0
I=7
J=0 START=4 END=0 WORD="say \"a\" or 'b'" acoustic=-2 language=-1
J=1 START=0 END=7 WORD=caf\303\251 v=3 a=-1 n=-0.5 r=-2
J=2 START=0 END=7 W='em a=-1.25 x1=3
J=3 START=7 END=2 W=\"end\\ a=-1
"""


@pytest.fixture
def slf(text):
    return lambda content, name="lat.slf": read_slf(TextFile(text(content, name), name=name))


@pytest.fixture
def kaldi(text):
    def read(content, words=SYMBOLS):
        return list(read_kaldi(TextFile(text(content, "lats.txt"), name="lats.txt"), words))

    return read


def rows_of(lattice):
    columns = (lattice.starts, lattice.ends, lattice.words, lattice.acoustic, lattice.old)
    return [tuple(row) for row in zip(*(map(_plain, column) for column in columns), strict=True)]


def _plain(value):
    return value if isinstance(value, str) else value.item()


def test_words_on_nodes(slf):
    lattice = slf(ON_NODES)
    assert rows_of(lattice) == [
        (0, 1, "!SENT_START", -100.5, 0.0),
        (1, 2, "the", -200.0, -1.5),
        (2, 3, "cat", -300.0, -2.5),
        (2, 4, "dog", -310.0, -2.0),
        (3, 5, "!SENT_END", -50.0, -0.5),
        (4, 5, "!SENT_END", -40.0, -0.25),
    ]
    header = lattice.header
    assert (header.utterance, header.lm_scale, header.acoustic_scale, header.word_penalty) == (
        "testf1.mfc",
        12.0,
        0.5,
        -5.0,
    )
    assert header.fields == "vocab=dict tscale=0.01"
    assert lattice.node_fields == ("t=0.00", "t=36 v=1", "t=40", "t=75 v=1", "t=71", "t=90")
    assert lattice.arc_fields == ("", "", "d=:k,0.1:ae,0.2:", "", "", "")


def test_words_on_links_quotes_and_bases(slf):
    lattice = slf(ON_LINKS)
    ten = math.log(10)
    wanted = [
        (0, 1, "say \"a\" or 'b'", -2 * ten, -ten),
        (1, 2, "café", -ten, 0.0),
        (1, 2, "'em", -1.25 * ten, 0.0),
        (2, 3, '"end\\', -ten, 0.0),
        (3, 4, "", 0.0, 0.0),  # added, as a word leads into node 2
    ]
    for own, other in zip(rows_of(lattice), wanted, strict=True):
        assert own == pytest.approx(other) if not isinstance(own[2], str) else own[:3] == other[:3]
        assert own[3:] == pytest.approx(other[3:])
    assert lattice.utterance == "my talk" and lattice.header.word_penalty == pytest.approx(-ten)
    assert lattice.arc_fields[1:3] == (f"v=3 n={-0.5 * ten:.9g} r={-2 * ten:.9g}", "x1=3")


@pytest.mark.parametrize(
    ("base", "value", "wanted"),
    [
        ("", "-3", -3.0),
        ("base=1.00\n", "-3", -3.0),
        ("base=0\n", "0.25", math.log(0.25)),
        ("base=1.0003\n", "-5", -5 * math.log(1.0003)),
    ],
)
def test_bases(slf, base, value, wanted):
    lattice = slf(f"{base}N=2 L=1\nI=0\nI=1\nJ=0 S=0 E=1 W=a a={value} l={value}\n")
    assert lattice.acoustic[0] == lattice.old[0] == pytest.approx(wanted)


def test_names_of_utterances_without_one(text):
    content = b"N=1 L=0\r\nI=0\r\n"
    assert read_slf(TextFile(text(gzip.compress(b"\xef\xbb\xbf" + content), "a.b.slf.gz"))).utterance == "a.b"
    assert read_slf(TextFile(text(content, "u2"))).utterance == "u2"
    assert rows_of(read_slf(TextFile(text(content, "u2")))) == [(0, 1, "", 0.0, 0.0)]


def test_what_follows_a_period_is_not_read(slf):
    assert len(slf("N=1 L=0\nI=0\n.\nI=0\n")) == 2


LINKED = "N=3 L=2\nI=0\nI=1\nI=2\n"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", r"lat.slf:1: no N=, the number of nodes, before the nodes. A lattice of Kaldi needs `format=\"kaldi\"`"),
        (
            "utt-1\n0 1 a\n",
            r"lat.slf:1: 'utt-1' is not a field such as W=word. A lattice of Kaldi needs `format=\"kaldi\"`",
        ),
        ("VERSION=1.0\nN=2\nI=0\nI=1\n", "lat.slf:2: no L=, the number of links"),
        ("N=0 L=0\n", "lat.slf:1: a lattice without nodes"),
        ("N=3 L=1\nI=0\nI=1\nJ=0 S=0 E=1\n", "lat.slf:1: N=3, but the file has 2 nodes"),
        ("N=2 L=2\nI=0\nI=1\nJ=0 S=0 E=1\n", "lat.slf:1: L=2, but the file has 1 links"),
        ("N=two L=1\nI=0\nI=1\nJ=0 S=0 E=1\n", "lat.slf:1: 'two' is not an integer of 0 or more"),
        ("N=2 L=1\nI=0\nI=0\nJ=0 S=0 E=1\n", "lat.slf:3: node 0 comes a second time"),
        ("N=2 L=1\nI=0\nI=-1\nJ=0 S=0 E=1\n", "lat.slf:3: '-1' is not an integer of 0 or more"),
        ("N=2 L=1\nI=0\nI=1\nJ=0 S=0 E=2\n", "lat.slf:4: E=2, but there is no node I=2"),
        ("N=2 L=1\nI=0\nI=1\nJ=0 S=0 W=a\n", "lat.slf:4: a link without E=, the node at its end"),
        ("N=2 L=1\nI=0\nI=1\nJ=0 E=0 W=a\n", "lat.slf:4: a link without S=, the node at its start"),
        ("N=2 L=1\nI=0\nI=1\nJ=0 S=0 E=1 a=x\n", "lat.slf:4: 'x' is not a finite number"),
        ("N=2 L=1\nI=0\nI=1\nJ=0 S=0 E=1 l=-inf\n", "lat.slf:4: '-inf' is not a finite number"),
        ("base=0 N=2 L=1\nI=0\nI=1\nJ=0 S=0 E=1 a=-1\n", "lat.slf:4: -1 is not a probability above 0, as base=0 says"),
        ("base=-2 N=2 L=1\nI=0\nI=1\nJ=0 S=0 E=1\n", "lat.slf:1: base=-2, but a base is above 0"),
        ("N=2 L=1\nI=0\nI=1\nJ=0 S=0 E=1 W=a W=b\n", "lat.slf:4: the field W= comes a second time in its line"),
        ("N=2 L=1\nI=0\nI=1\nJ=0 S=0 E=1 W=a\nlmscale=1\n", "lat.slf:5: lmscale= after the first node"),
        ("N=2 L=1\nI=0\nI=1\nJ=0 S=0 E=1 W=\n", "lat.slf:4: 'W=' is not a field such as W=word"),
        ("N=2 L=1\nI=0\nI=1\nJ=0 S=0 E=1 W=a\\303\n", "lat.slf:4: 'a.*303' is not valid utf-8"),
        ("N=2 L=1\nI=0\nI=1\nJ=0 S=0 E=1 W=a\\012b\n", "lat.slf:4: a line end inside a line"),
        ("SUBLAT=digit N=2 L=1\nI=0\nI=1\nJ=0 S=0 E=1\n", "lat.slf:1: the lattice has sublattices"),
        ("N=2 L=1\nI=0\nI=1 L=digit\nJ=0 S=0 E=1\n", "lat.slf:1: the lattice has sublattices"),
        ("dir=b N=2 L=1\nI=0\nI=1\nJ=0 S=0 E=1\n", "lat.slf:1: dir=b; only forward lattices"),
        ("start=5 N=2 L=1\nI=0\nI=1\nJ=0 S=0 E=1\n", "lat.slf:1: start=5, but there is no node I=5"),
        (
            LINKED + "J=0 S=0 E=2\nJ=1 S=1 E=2\n",
            "lat.slf:1: nodes 0, 1 without links into it; name the start .* start=",
        ),
        (LINKED + "J=0 S=0 E=1\nJ=1 S=0 E=2\n", "lat.slf:1: nodes 1, 2 without links out of it; name the end"),
        (LINKED + "J=0 S=0 E=1\nJ=1 S=1 E=0\n", "lat.slf:[56]: the arc from [01] to [01] is in a cycle"),
        ("end=2 " + LINKED + "J=0 S=0 E=1\nJ=1 S=0 E=2\n", "lat.slf:3: no path leads from node 1 to an end"),
        ("end=0 start=0 " + LINKED + "J=0 S=1 E=2\nJ=1 S=2 E=1\n", "is in a cycle"),
    ],
)
def test_faults_of_slf(slf, content, message):
    with pytest.raises(TextError, match=message):
        slf(content)


ARCHIVE = """\
utt-1
0\t1\tthe\t2.5,100.25,12_12_15
1\t2\tcat\t3,50,
1\t2\t<eps>
2\t0.5,1.5,7_8
1\t4,0,

utt-2
3 0 dog 1,2,5
0

"""
FRAMES = """\
u3
0 1 12 the 2.5,100.25
1 2 0 <eps>
2 3 15 cat 0,-3e-1
3
"""


def test_kaldi_archives(kaldi):
    first, second = kaldi(ARCHIVE)
    assert rows_of(first) == [
        (0, 1, "the", -100.25, -2.5),
        (1, 2, "cat", -50.0, -3.0),
        (1, 2, "", 0.0, 0.0),
        (1, 3, "", 0.0, -4.0),
        (2, 3, "", -1.5, -0.5),
    ]
    assert first.arc_fields == ("12_12_15", "", "", "", "7_8") and first.header.source == "compact"
    assert (first.utterance, second.utterance) == ("utt-1", "utt-2")
    assert rows_of(second) == [(0, 1, "dog", -2.0, -1.0), (1, 2, "", 0.0, 0.0)]


def test_kaldi_lattices_with_input_labels(kaldi):
    (lattice,) = kaldi(FRAMES)
    assert rows_of(lattice) == [
        (0, 1, "the", -100.25, -2.5),
        (1, 2, "", 0.0, 0.0),
        (2, 3, "cat", 0.3, 0.0),
        (3, 4, "", 0.0, 0.0),
    ]
    assert lattice.arc_fields == ("12", "0", "15", "") and lattice.header.source == "lattice"


def test_integers_of_words(kaldi, text):
    table = read_words(TextFile(text("<eps> 0\nthe\t1\nünï 22\n", "words.txt"), name="words.txt"))
    (lattice,) = kaldi("u\n0 1 1 1,2,\n1 2 0 1,2,\n2 3 22 1,2,\n3\n", table)
    assert lattice.words == ("the", "", "ünï", "")
    with pytest.raises(TextError, match=r"lats.txt:2: word '7' is no integer of words.txt"):
        kaldi("u\n0 1 7 1,2,\n1\n", table)
    for content, message in (
        ("the\n", "words.txt:1: 1 columns, but a word and its integer are expected"),
        ("the 1\ncat 1\n", "words.txt:2: '1' comes a second time"),
        ("the 1\nthe 2\n", "words.txt:2: 'the' comes a second time"),
        ("the x\n", "words.txt:1: 'x' is not an integer"),
        ("", "words.txt: no words"),
    ):
        with pytest.raises(TextError, match=message):
            read_words(TextFile(text(content, "words.txt"), name="words.txt"))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("VERSION=1.0 N=3\n", "lats.txt:1: 2 columns, but a line with the key of a lattice is expected"),
        ("VERSION=1.0\n", 'lats.txt:1: .VERSION=1.0. begins a lattice of HTK; read it with `format="slf"`'),
        ("0 1 a 1,2,\n", "lats.txt:1: 4 columns, but a line with the key"),
        ("u\n\n", "lats.txt:1: lattice u has no states"),
        ("u\n0 1 a 1,2,\n\n", "lats.txt:1: lattice u has no final state"),
        ("u\n0 1 a 1,2,\n1\n1\n", "lats.txt:4: state 1 is final a second time"),
        ("u\n0 x a 1,2,\n1\n", "lats.txt:2: 'x' is not an integer of 0 or more"),
        ("u\n0 1 a 1\n1\n", "lats.txt:2: 'a' is not an input label, an integer, or a weight is missing"),
        ("u\n0 1 a x,2,\n1\n", "lats.txt:2: 'x' is not a finite number"),
        ("u\n0 1 a Infinity,2,\n1\n", "lats.txt:2: 'Infinity' is not a finite number"),
        ("u\n0 1 a 1,2,\n1 2,x,\n", "lats.txt:3: 'x' is not a finite number"),
        ("u\n0 1 a 1,2,\n1 2\n", "lats.txt:3: '2' is not a weight: graph cost, acoustic cost"),
        ("u\n0 1 3 a 1,2 5 6\n1\n", "lats.txt:2: 7 columns, but an arc of this lattice is: from, to"),
        ("u\n0 1 3 a 1,2\n1 2 b\n2\n", "lats.txt:3: 3 columns, but an arc .*: from, to, input label, word, weight"),
        ("u\n0 1 a 1,2,\n1 0 b 1,2,\n1\n", "lats.txt:[23]: the arc from . to . is in a cycle"),
        ("u\n0 1 a 1,2,\n2 1 b 1,2,\n1\n", "lats.txt:3: no path leads from the start to node 2"),
        ("u\n0 1 a 1,2,\n0 2 b 1,2,\n1\n", "lats.txt:3: no path leads from node 2 to an end"),
    ],
)
def test_faults_of_kaldi(kaldi, content, message):
    with pytest.raises(TextError, match=message):
        kaldi(content)


def ln(share):
    """The logarithm of a probability of the model, which computes in float32."""
    return float(np.float32(np.log(share / 21)))


@given(st.integers(0, 10**6))
def test_what_is_written_is_read_again(by_history, tmp_path_factory, seed):
    """With the old scores in place of the model's, a second reading gives the totals of the first."""
    folder = tmp_path_factory.getbasetemp()
    lattice = random_lattice(
        seed, words=["the", 'c"at', "'em", "a\\b", "日本", "", "x=y", "#1", "<s>", "\\303", "1,2,"]
    )
    (found,) = rescore_lattices(by_history, [lattice], mix=0.5, lm_scale=3.0, word_penalty=-1.0, recombine=0)
    for name, rows in (("a.slf", slf_rows(found)), ("a.txt", kaldi_rows(found))):
        (folder / name).write_text("".join(f"{row}\n" for row in rows), encoding="utf-8")
        file = TextFile(folder / name)
        again = read_slf(file) if name == "a.slf" else next(iter(read_kaldi(file)))
        header = {} if name == "a.slf" else {"lm_scale": 3.0, "word_penalty": -1.0}
        (second,) = rescore_lattices(by_history, [again], mix=0.0, recombine=0, **header)
        own, other = expanded_paths(second), expanded_paths(found)
        assert sorted(text for text, _ in own) == sorted(text for text, _ in other)
        assert [total for _, total in own] == pytest.approx([total for _, total in other], abs=1e-5)
        if name == "a.slf":
            assert again.node_fields == found.lattice.node_fields and len(again) == len(found.lattice)
            assert sorted(again.arc_fields) == sorted(found.lattice.arc_fields)


def test_fields_of_a_format_stay_in_it(by_id, slf, kaldi):
    (found,) = rescore_lattices(by_id, [slf(ON_NODES)])
    rows = list(slf_rows(found))
    assert rows[:6] == [
        "VERSION=1.0",
        "UTTERANCE=testf1.mfc",
        "lmscale=12 acscale=0.5 wdpenalty=-5",
        "vocab=dict tscale=0.01",
        "start=0 end=5",
        "N=6 L=6",
    ]
    assert rows[8] == "I=2 t=40"
    assert rows[12:15] == [
        "J=0 S=0 E=1 W=!SENT_START a=-100.5 l=0",
        f"J=1 S=1 E=2 W=the a=-200 l={ln(3):.9g}",
        f"J=2 S=2 E=3 W=cat a=-300 l={ln(4):.9g} d=:k,0.1:ae,0.2:",
    ]
    assert rows[-1] == f"J=5 S=4 E=5 W=!SENT_END a=-40 l={ln(1):.9g}"
    assert not any("t=40" in row or "d=" in row for row in kaldi_rows(found))
    first, _ = rescore_lattices(by_id, kaldi(ARCHIVE))
    costs = [-ln(share) for share in (3, 4, 1)]
    assert list(kaldi_rows(first)) == [
        "utt-1",
        f"0\t1\tthe\t{costs[0]:.9g},100.25,12_12_15",
        "1\t2\t<eps>\t0,0,",  # the better one
        f"1\t3\tcat\t{costs[1]:.9g},50,",
        f"1\t{costs[2]:.9g},0,",
        f"2\t{costs[2]:.9g},1.5,7_8",
        f"3\t{costs[2]:.9g},1.5,7_8",
        "",
    ]
    assert "12_12" not in "".join(slf_rows(first))


def test_a_kaldi_lattice_with_input_labels_is_written_as_one(by_id, kaldi, text):
    (found,) = rescore_lattices(by_id, kaldi(FRAMES))
    rows = list(kaldi_rows(found))
    assert rows[:3] == ["u3", f"0\t1\t12\tthe\t{-ln(3):.9g},100.25", "1\t2\t0\t<eps>\t0,0"]
    (again,) = kaldi("\n".join(rows))
    assert (again.words, again.arc_fields) == (found.lattice.words, found.lattice.arc_fields)
    table = read_words(TextFile(text("<eps> 0\nthe 1\ncat 22\n", "words.txt"), name="words.txt"))
    assert [row.split("\t")[3] for row in kaldi_rows(found, table) if row.count("\t") > 2] == ["1", "0", "22"]
    table = read_words(TextFile(text("<eps> 0\nthe 1\n", "words.txt"), name="words.txt"))
    with pytest.raises(TextError, match=r"Word 'cat' is not in words.txt"):
        list(kaldi_rows(found, table))


def test_what_kaldi_cannot_hold_is_refused(by_id, slf):
    (found,) = rescore_lattices(by_id, [slf(ON_LINKS.replace('"my talk"', "u"))])
    with pytest.raises(TextError, match=r"Word 'say .* has white space, which Kaldi's format cannot hold"):
        list(kaldi_rows(found))
    (found,) = rescore_lattices(by_id, [slf(ON_LINKS)])
    with pytest.raises(TextError, match="Utterance 'my talk' has white space"):
        list(kaldi_rows(found))


def test_several_ends_of_one_state(by_id, slf, kaldi):
    """A state of Kaldi has one final weight; further links into the end of an SLF lattice become states."""
    (found,) = rescore_lattices(by_id, [slf("N=2 L=2\nI=0\nI=1\nJ=0 S=0 E=1 W=!NULL a=-1\nJ=1 S=0 E=1 W=</s> a=-2\n")])
    (again,) = kaldi("\n".join(kaldi_rows(found)))
    totals = sorted(float(again.acoustic[path].sum() + again.old[path].sum()) for path in paths(again))
    assert totals == pytest.approx([math.log(1 / 21) - 2, math.log(1 / 21) - 1])
    assert {text_of(again, path) for path in paths(again)} == {""}
