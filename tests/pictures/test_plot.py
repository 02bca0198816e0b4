"""The PNG: which of the three pictures is drawn, and its labels."""

from __future__ import annotations

import importlib.util

import pytest

from keraslm.errors import MissingPackageError
from keraslm.pictures import plot as module
from keraslm.pictures.plot import SurprisalPlot
from tests.pictures.test_page import HOSTILE, TOKENIZERS
from tests.support.fake_model import TOKENIZER
from tests.support.scored import scored


@pytest.fixture
def drawn(tmp_path, monkeypatch):
    """A function that draws lines and returns the axes of the picture."""
    pytest.importorskip("matplotlib")
    from matplotlib.figure import Figure

    figures = []
    save = Figure.savefig
    monkeypatch.setattr(Figure, "savefig", lambda self, *a, **k: (figures.append(self), save(self, *a, **k)))

    def draw(lines, tokenizer=TOKENIZER, title="a text"):
        plot = SurprisalPlot(tokenizer, title)
        for line in lines:
            plot.add(line)
        plot.write(tmp_path / "a.png")
        assert (tmp_path / "a.png").read_bytes()[:8] == b"\x89PNG\r\n\x1a\n"
        return figures[-1].axes[0]

    return draw


def test_a_short_text_has_labels(by_id, drawn):
    axes = drawn(by_id.score_lines(["the bürd sat", "cat"]))
    assert [label.get_text() for label in axes.get_xticklabels()] == ["the", "bürd", "sat", "↵", "cat", "↵"]
    assert axes.lines[0].get_ydata() == pytest.approx([2.807355, 1.807355, 3.392318, 4.392318, 2.392317, 4.392318])
    assert axes.lines[1].get_xdata() == pytest.approx([1])  # out of vocabulary
    assert axes.get_title() == "a text: perplexity 9.17 per token"
    assert axes.get_ylabel() == "surprisal (bits)"


def test_one_long_line_has_one_point_per_word(drawn, monkeypatch):
    axes = drawn(scored(["the cat " * 50], TOKENIZER))
    assert len(axes.lines[0].get_xdata()) == 101 and axes.get_xlabel() == "word, subword or character"
    monkeypatch.setattr(module, "DRAWN", 90)
    axes = drawn(scored(["the cat " * 50], TOKENIZER))
    assert len(axes.lines[0].get_xdata()) == 90 and axes.get_xlabel().endswith(" (the first 90 of 101)")


def test_many_lines_have_one_mean_each_and_a_band(drawn):
    lines = scored(["the cat sat"] * 30, TOKENIZER)
    axes = drawn(lines)
    means = [-line.logprob / len(line.ids) / 0.6931471805599453 for line in lines]
    assert axes.lines[0].get_ydata() == pytest.approx(means)
    assert axes.get_xlabel() == "line" and len(axes.collections) == 1


@pytest.mark.filterwarnings("ignore:Glyph .* missing from font")
@pytest.mark.parametrize("line", [*HOSTILE, "$x^{", r"\frac $$ %"])
def test_any_text_is_a_label_and_a_title(line, drawn):
    axes = drawn(scored([line[:60]], TOKENIZERS["unigram"]), TOKENIZERS["unigram"], line[:60])
    assert axes.get_title().endswith(" per token")


def test_empty_text(drawn):
    assert drawn([]).get_title() == "a text: perplexity nan per token"


def test_missing_matplotlib_gives_the_pip_line(monkeypatch):
    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name, *a: None if name == "matplotlib" else find(name, *a))
    with pytest.raises(
        MissingPackageError, match=r'^A plot of surprisal needs the package matplotlib, .* "keraslm\[plot\]"$'
    ):
        SurprisalPlot(TOKENIZER, "a text")
