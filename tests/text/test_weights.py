"""Weighted texts: what each epoch reads, compared with lists in plain Python."""

from collections import Counter
from fractions import Fraction
from math import lcm

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from keraslm.config import DataConfig
from keraslm.errors import TextError
from keraslm.text.context import cut_contexts
from keraslm.text.corpus import open_texts
from keraslm.text.encoding import Encoder
from keraslm.text.epochs import EpochStream
from keraslm.text.stream import Windows
from keraslm.text.weights import WeightedTexts, fraction_of
from tests.reference.epochs import epoch_tokens, split_lines

# Each text is a list of lines of distinct tokens; 0 ends a line.
line_counts = st.lists(st.integers(0, 5), min_size=6, max_size=14)
weights = st.sampled_from([2, 0.5, 1, 1.5, 3, 0.25, 2.25, 0.3333, 0.6667])
corpora = st.lists(st.tuples(line_counts, weights), min_size=1, max_size=3)


def made(corpus):
    """Texts as lists of lines, the stream, the size of each text."""
    number, texts = 1, []
    for counts, _ in corpus:
        lines = []
        for count in counts:
            lines.append([*range(number, number + count), 0])
            number += count
        texts.append(lines)
    sizes = [sum(map(len, lines)) for lines in texts]
    return texts, np.array([token for lines in texts for line in lines for token in line], np.uint16), sizes


def weighted(ids, sizes, chosen, context="document"):
    return WeightedTexts(ids, sizes, chosen, [f"text {n}" for n in range(len(sizes))], 0, context)


def read(stream, epoch, segments):
    stream.set_epoch(epoch)
    return stream.take(np.arange(int((segments[:, 1] - segments[:, 0]).sum()))).tolist()


def units_of(lines, context):
    """Paragraphs end with an empty line; the first line of a text follows a line end."""
    if context != "paragraph":
        return lines
    flat = np.array([token for line in lines for token in line])
    return [part.tolist() for part in cut_contexts(flat, 0, 0, "paragraph") if len(part)]


@pytest.mark.parametrize("context", ["document", "sentence", "paragraph"])
@given(corpus=corpora)
def test_an_epoch_reads_the_pieces_of_the_definition(context, corpus):
    texts, ids, sizes = made(corpus)
    chosen = [weight for _, weight in corpus]
    fractions = [fraction_of(weight) for weight in chosen]
    units = [units_of(lines, context) for lines in texts]
    round_of = lcm(*(fraction.denominator for fraction in fractions))
    expected = [epoch_tokens(units, fractions, epoch) for epoch in range(round_of)]
    try:
        found = weighted(ids, sizes, chosen, context)
    except TextError:  # a piece without a line
        pieces = [
            epoch_tokens([each], [Fraction(1, fraction.denominator)], epoch)
            for each, fraction in zip(units, fractions, strict=True)
            for epoch in range(fraction.denominator)
        ]
        assert [] in pieces
        return
    stream = EpochStream(ids, 0, context, texts=found)
    for epoch in (*range(round_of), round_of * 7):
        assert read(stream, epoch, found.segments(epoch)) == expected[epoch % round_of]
    # Each token is read exactly weight x epochs times.
    counts = Counter(token for tokens in expected for token in tokens)
    for lines, fraction in zip(texts, fractions, strict=True):
        assert {counts[token] for line in lines for token in line if token} <= {fraction * round_of}
    assert found.tokens <= min(map(len, expected))
    if len(corpus) == 1:
        assert found.tokens == min(map(len, expected))


@given(corpus=corpora, seed=st.integers(0, 9), epoch=st.integers(0, 5))
def test_shuffling_changes_only_the_order_of_the_sentences(corpus, seed, epoch):
    _, ids, sizes = made(corpus)
    try:
        found = weighted(ids, sizes, [weight for _, weight in corpus], "sentence")
    except TextError:
        return
    segments = found.segments(epoch)
    plain = read(EpochStream(ids, 0, "sentence", None, found), epoch, segments)
    shuffled = read(EpochStream(ids, 0, "sentence", seed, found), epoch, segments)
    sentences = [
        sorted(map(tuple, (part.tolist() for part in cut_contexts(np.array(tokens), 0, 0, "sentence"))))
        for tokens in (plain, shuffled)
    ]
    assert sentences[0] == sentences[1]
    assert shuffled == read(EpochStream(ids, 0, "sentence", seed, found), epoch, segments)


def test_unfinished_paragraphs_stay_at_the_end():
    ids = np.array([1, 0, 0, 2, 0, 3, 0, 0, 4, 0])  # texts of 5 tokens; 2 and 4 have no blank line after them
    found = weighted(ids, [5, 5], [2, 1], "paragraph")
    tokens = read(EpochStream(ids, 0, "paragraph", 1, found), 0, found.segments(0))
    assert tokens[9:] == [2, 0, 2, 0, 4, 0]
    assert sorted(tokens[:9:3]) == [1, 1, 3]


def test_weights_of_one_change_nothing():
    ids = np.arange(100) % 7
    found = weighted(ids, [29, 71], [1, 1.0], "sentence")
    for options in ({}, {"shuffle_seed": 3}, {"length_seed": 4}):
        plain = Windows(ids, 3, 6, context="sentence", eos_id=0, **options)
        same = Windows(ids, 3, 6, context="sentence", eos_id=0, texts=found, **options)
        assert (plain.predicted, plain.left_over, len(plain)) == (same.predicted, same.left_over, len(same))
        for epoch in (0, 1):
            plain.set_epoch(epoch)
            same.set_epoch(epoch)
            for one, other in zip(plain, same, strict=True):
                for part, expected in zip(other, one, strict=True):
                    np.testing.assert_array_equal(part, expected)


@given(corpus=corpora, batch_size=st.integers(1, 3), num_steps=st.integers(1, 4), variable=st.booleans())
def test_the_windows_of_every_epoch_have_the_same_shape_and_follow_its_tokens(corpus, batch_size, num_steps, variable):
    texts, ids, sizes = made(corpus)
    fractions = [fraction_of(weight) for _, weight in corpus]
    try:
        found = weighted(ids, sizes, [weight for _, weight in corpus])
        windows = Windows(ids, batch_size, num_steps, length_seed=1 if variable else None, texts=found)
    except TextError:
        return
    length = found.tokens // batch_size
    for epoch in range(5):
        windows.set_epoch(epoch)
        tokens = np.array(epoch_tokens(texts, fractions, epoch))[: batch_size * length].reshape(batch_size, length)
        inputs = np.concatenate([window[0] for window in windows], axis=1)
        targets = np.concatenate([window[1] for window in windows], axis=1)
        np.testing.assert_array_equal(inputs, tokens[:, : inputs.shape[1]])
        np.testing.assert_array_equal(targets, tokens[:, 1 : inputs.shape[1] + 1])
        assert targets.size == windows.predicted == found.tokens - windows.left_over
        assert len(windows.lengths) == len(windows)


@pytest.mark.parametrize(
    ("weight", "fraction"),
    [(2.0, "2"), (0.1, "1/10"), (0.1 + 0.2, "3/10"), (0.001, "1/1000"), (999.999, "999999/1000"), (0.66667, "2/3")],
)
def test_a_weight_is_the_fraction_that_was_meant(weight, fraction):
    assert fraction_of(weight) == Fraction(fraction)


def test_a_text_that_cannot_be_cut_is_refused():
    ids = np.array([1, 0, 2, 0, 3, 3, 3, 0])
    with pytest.raises(TextError, match=r"text 1: `train_weights` reads 1/2 of the text per epoch, .* few lines for 2"):
        weighted(ids, [4, 4], [0.5, 0.5])
    with pytest.raises(TextError, match="too few paragraphs for 10 pieces"):
        weighted(ids, [8], [0.3], "paragraph")
    with pytest.raises(TextError, match="text 0: the text is empty"):
        weighted(ids, [0, 8], [1, 1])


def test_each_text_keeps_its_size_and_is_split_on_its_own(tmp_path):
    contents = [[f"a{n}" for n in range(40)], [f"b{n} b" for n in range(90)]]
    for name, lines in zip("ab", contents, strict=True):
        (tmp_path / name).write_text("".join(f"{line}\n" for line in lines))
    paths = [str(tmp_path / name) for name in "ab"]
    config = DataConfig(train=paths, train_weights=(2, 0.5), valid_share=0.1)
    parts = [split_lines(lines, "0.1", "document") for lines in contents]
    large, small = Encoder(tmp_path / "cache", large=0, workers=2), Encoder()
    train, valid = open_texts(config)
    tokenizer = large.tokenizer(train, config)
    assert tokenizer.vocab_size == 36 + 81 + 1 + 2  # each text once, without what is held out
    for text, lines in ((train, [p[0] for p in parts]), (valid, [p[1] for p in parts])):
        expected = np.concatenate(tokenizer.encode_lines([*lines[0], *lines[1]]))
        for encoder in (large, large, small):  # written, read from the cache, in memory
            found = encoder.encode(text, tokenizer)
            np.testing.assert_array_equal(found.ids, expected)
            assert [size.lines for size in found.texts] == list(map(len, lines))
            assert sum(size.tokens for size in found.texts) == found.counts.tokens == len(found.ids)
    assert list(train) == parts[0][0] + parts[1][0]
    whole = open_texts(DataConfig(train=paths))[0]
    assert large.encode(whole, tokenizer).texts == ()
    assert valid.notes == [f"held out: the last 10 % of the lines of {path}" for path in paths]
