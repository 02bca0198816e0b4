"""The histogram of perplexities: bars, marks and the numbers on its axes."""

from __future__ import annotations

import numpy as np
import pytest

from keraslm.pictures.histogram import draw_histogram


@pytest.fixture
def drawn(tmp_path, monkeypatch):
    """A function that draws a histogram and returns its axes."""
    pytest.importorskip("matplotlib")
    from matplotlib.figure import Figure

    figures, save = [], Figure.savefig
    monkeypatch.setattr(Figure, "savefig", lambda self, *a, **k: (figures.append(self), save(self, *a, **k)))

    def draw(counts, edges, marks=()):
        draw_histogram(tmp_path / "h.png", np.array(counts), np.array(edges, float), marks)
        assert (tmp_path / "h.png").read_bytes()[:8] == b"\x89PNG\r\n\x1a\n"
        return figures[-1].axes[0]

    return draw


def numbers(axes):
    low, high = axes.get_xlim()
    return [axes.xaxis.get_major_formatter()(tick) for tick in axes.get_xticks() if low <= tick <= high]


def test_bars_are_perplexities_on_a_logarithmic_axis(drawn):
    axes = drawn([1, 5, 2], [1, 1.5, 2, 2.5], [30.0, 5000.0])
    (bars,) = axes.patches
    np.testing.assert_allclose(bars.get_data().edges, [10, 10**1.5, 100, 10**2.5])
    np.testing.assert_array_equal(bars.get_data().values, [1, 5, 2])
    assert [line.get_xdata()[0] for line in axes.lines] == [30, 5000]
    assert [text.get_text() for text in axes.texts] == ["30", "5,000"]
    low, high = axes.get_xlim()
    assert low < 10 and high > 5000 and axes.get_xscale() == "log"
    assert numbers(axes) == ["10", "20", "50", "100", "200", "500", "1,000", "2,000", "5,000"]


@pytest.mark.parametrize(
    ("edges", "expected"),
    [([2, 2.01], ["100", "120"]), ([0, 0.01], ["1", "1.2"]), ([1, 6], ["10", "100", "1,000", "10,000", "100,000"])],
)
def test_every_range_has_numbers(drawn, edges, expected):
    assert {*numbers(drawn([3], edges))} >= {*expected}


def test_without_documents_the_picture_is_empty(drawn):
    axes = drawn([0], [0, 0.01])
    assert axes.get_ylim()[0] == 0 and [*axes.lines] == []
