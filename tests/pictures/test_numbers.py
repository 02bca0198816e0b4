"""Colours, words and statistics of the pictures, compared with formulas and NumPy."""

from __future__ import annotations

import re

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from keraslm.pictures.charts import ticks
from keraslm.pictures.markup import color, color_rules
from keraslm.pictures.spans import lay
from keraslm.pictures.statistics import Series, Statistics
from tests.pictures.test_page import LINES, TOKENIZERS, kinds
from tests.support.scored import scored

schemes = pytest.mark.parametrize("scheme", ["light", "dark"])


def linear(color):
    values = np.array([int(color[at : at + 2], 16) for at in (1, 3, 5)]) / 255
    return np.where(values <= 0.04045, values / 12.92, ((values + 0.055) / 1.055) ** 2.4)


def luminance(color):
    return float(linear(color) @ [0.2126, 0.7152, 0.0722])


def colors(scheme):
    """Background and text of each colour."""
    return re.findall(r"background:(#\w{6});color:(#\w{6})", color_rules(scheme))


def lightness(color):
    """CIE L*; the colour scale was made with a different formula."""
    return 116 * np.cbrt(max(luminance(color), 0.0089)) - 16


@schemes
def test_text_contrasts_with_every_color(scheme):
    for ground, ink in colors(scheme):
        low, high = sorted([luminance(ground), luminance(ink)])
        assert (high + 0.05) / (low + 0.05) >= 4.5


@schemes
def test_lightness_grows_in_even_steps(scheme):
    steps = np.diff([lightness(ground) for ground, _ in colors(scheme)])
    assert (steps < 0).all() if scheme == "light" else (steps > 0).all()
    assert np.abs(steps).max() < 1.35 * np.abs(steps).min()


@schemes
def test_the_order_is_visible_without_red_or_green(scheme):
    # Machado et al. 2009, severity 1: protanopia, deuteranopia.
    protan = np.array([[0.152, 1.053, -0.205], [0.115, 0.786, 0.099], [-0.004, -0.048, 1.052]])
    deutan = np.array([[0.367, 0.861, -0.228], [0.280, 0.673, 0.047], [-0.012, 0.043, 0.969]])
    for matrix in (protan, deutan):
        seen = np.array([matrix @ linear(ground) @ [0.2126, 0.7152, 0.0722] for ground, _ in colors(scheme)])
        steps = np.diff(116 * np.cbrt(seen))
        assert (steps < -1.5).all() if scheme == "light" else (steps > 1.5).all()


def test_one_color_per_bit():
    assert "".join(map(color, (0.0, 0.99, 1.0, 14.9, 15.0, 99.0, float("inf"), float("nan")))) == "aabopppp"


@kinds
@settings(max_examples=30)
@given(line=LINES, seed=st.integers(0, 9))
def test_pieces_hold_every_token_once_and_in_order(kind, line, seed):
    score = scored([line], TOKENIZERS[kind], seed)[0]
    laid = lay(score, TOKENIZERS[kind])
    begins, ends, firsts, lasts = laid.pieces.T
    assert firsts[0] == 0 and (firsts[1:] == lasts[:-1]).all() and lasts[-1] == len(score.ids)
    assert (begins[1:] >= ends[:-1]).all() and (begins[:-1] < ends[:-1]).all()
    assert laid.piece_bits.sum() == pytest.approx(-score.logprob / np.log(2))


@pytest.mark.parametrize("kind", ["word", "byte", "bpe", "unigram"])
def test_words_have_the_bits_of_their_tokens(kind):
    tokenizer, line = TOKENIZERS[kind], "  the naïve 日本 cat\tsat  on "
    laid = lay(scored([line], tokenizer, 3)[0], tokenizer)
    words = [(word.word, -word.logprob / np.log(2), laid.piece_of(word)) for word in laid.words[:-1]]
    assert [word for word, _, _ in words] == line.split()
    offsets = tokenizer.offsets(line)[:-1]
    at = 0
    for word, bits, piece in words:
        before, at = at, line.index(word, at)
        inside = [before < end <= at + len(word) for _, end in offsets]  # with the white space before it
        assert bits == pytest.approx(laid.bits[:-1][inside].sum())
        assert word.startswith(line[slice(*laid.pieces[piece, :2])].strip())
        at += len(word)


def test_statistics_are_those_of_the_tokens():
    tokenizer = TOKENIZERS["word"]
    lines = scored([f"the cat sat on mat {number}" for number in range(1300)], tokenizer, 5)
    statistics = Statistics()
    for line in lines:
        statistics.add(lay(line, tokenizer))
    bits = -np.concatenate([line.logprobs for line in lines]) / np.log(2)
    assert statistics.mean == pytest.approx(bits.mean())
    assert statistics.median == pytest.approx(np.median(bits), abs=1 / 64)
    assert statistics.distribution.sum() == len(bits)
    assert statistics.cost.perplexity == pytest.approx(2 ** bits.mean())
    ranked = sorted(
        (
            (-word.logprob / np.log(2), -number, -piece, word.word)
            for number, line in enumerate(lines, 1)
            for piece, word in enumerate(lay(line, tokenizer).words[:-1])
        ),
        reverse=True,
    )
    assert [word[1:4] for word in statistics.words] == [word[1:] for word in ranked[:10]]


def test_a_series_halves_its_blocks_when_it_is_full():
    rng = np.random.default_rng(1)
    lines = [rng.gamma(2.0, 3.0, rng.integers(1, 30)) for _ in range(1100)]
    series = Series()
    for line in lines:
        series.add(line)
    blocks = [np.concatenate(lines[at : at + 4]) for at in range(0, 1100, 4)]
    assert (series.size, series.block, len(series.means())) == (4, "4 lines", 275)
    np.testing.assert_allclose(series.means(), [block.mean() for block in blocks])
    for share in (0.25, 0.75):
        exact = [np.quantile(block, share, method="inverted_cdf") for block in blocks]
        np.testing.assert_allclose(series.quantiles(share), np.minimum(exact, 40), atol=0.126)
    assert series.lines()[:2].tolist() == [2.5, 6.5] and series.lines()[-1] == 1098.5


@pytest.mark.parametrize(
    ("low", "high", "expected"),
    [
        (0, 21, [0, 5, 10, 15, 20]),
        (1, 10, [1, 2, 3, 4, 5, 6, 7, 8, 9, 10]),
        (0, 1, [0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1]),
        (0, 12345, [0, 2000, 4000, 6000, 8000, 10000, 12000]),
        (5, 5, [5]),
    ],
)
def test_ticks_are_round(low, high, expected):
    assert ticks(low, high) == pytest.approx(expected)
