"""Regions of a text, and frequencies of words."""

from __future__ import annotations

import math

import pytest

from keraslm.errors import TextError
from keraslm.text.frequencies import read_frequencies
from keraslm.text.regions import read_regions, split_regions


@pytest.mark.parametrize(
    ("text", "joined", "parts"),
    [
        ("The dog | that barked | ran .", "The dog that barked ran .", ["The dog", "that barked", "ran ."]),
        ("The dog|that barked", "The dogthat barked", ["The dog", "that barked"]),
        ("我|喜欢|你", "我喜欢你", ["我", "喜欢", "你"]),
        ("one", "one", ["one"]),
        ("The dog |that", "The dog that", ["The dog", "that"]),
    ],
)
def test_separators_are_removed(text, joined, parts):
    found, regions = split_regions(text, "|")
    assert found == joined
    assert [found[start:end] for start, end in regions.spans(found)] == parts
    assert regions.names == [str(number) for number in range(1, len(parts) + 1)]


def test_regions_by_their_first_words():
    text = "The dog  that barked ran ."
    regions = read_regions(text, "1:subject 3:relative, 5")
    assert [text[a:b] for a, b in regions.spans(text)] == ["The dog", "that barked", "ran ."]
    assert regions.names == ["subject", "relative", "3"]
    assert read_regions(text, "3:relative 5").starts == regions.starts
    assert [regions.name_at(text.index(word)) for word in ("The", "dog", "that", "ran", ".")] == [
        *("subject", "subject", "relative", "3", "3")
    ]


@pytest.mark.parametrize(
    ("cell", "message"),
    [
        ("1 3 9", "t:2: word 9, which begins a region, does not exist: the text has 6 words"),
        ("3 2", "t:2: word 2, which begins a region, comes after 3"),
        ("3 3", "comes after 3"),
        ("0", "word 0, which begins a region, comes after"),
        ("verb", "t:2: 'verb' is no region."),
        ("", "t:2: no regions."),
    ],
)
def test_unknown_regions(cell, message):
    with pytest.raises(TextError) as caught:
        read_regions("The dog that barked ran .", cell, "t:2")
    assert message in str(caught.value)


def test_an_empty_region():
    with pytest.raises(TextError, match=r"t:2: region 2 of 3 is empty: 'a \| \| b'"):
        split_regions("a | | b", "|", "t:2")


def test_frequencies_per_million(tmp_path):
    path = tmp_path / "counts.csv"
    path.write_text("Word,Count\nthe,600\nDog,300\ncan't,100\n,,0\n")
    found = read_frequencies(str(path))
    words = {"the": 600000, "The": 600000, "Dog": 300000, "dog": math.nan, "can't,": 100000, "zebra": math.nan}
    for word, expected in words.items():
        assert found.of(word) == pytest.approx(expected, nan_ok=True), word


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("the\t3\ncat\n", "c:2: 'cat' is no word and count"),
        ("the\t3\ncat\t-1\n", "c:2: 'cat\\t-1' is no word and count"),
        ("the\t3\nthe\t4\n", "c:2: 'the' comes a second time."),
        ("\n", "c: no word and count."),
    ],
)
def test_wrong_frequencies(tmp_path, text, message):
    path = tmp_path / "c"
    path.write_text(text)
    with pytest.raises(TextError) as caught:
        read_frequencies(str(path))
    assert message in str(caught.value)
