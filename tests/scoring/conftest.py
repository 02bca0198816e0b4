"""Models whose words and their probabilities are all known, for the tests of predictions."""

from __future__ import annotations

import pytest

from keraslm.scoring import word_search
from tests.support.enumerated import KINDS, TOKENS, Known


@pytest.fixture(scope="module", params=sorted(KINDS))
def known(request, tmp_path_factory) -> Known:
    make, possible = KINDS[request.param]
    return Known(tmp_path_factory.mktemp(request.param), make(), possible)


@pytest.fixture
def short_words(monkeypatch):
    monkeypatch.setattr(word_search, "LONGEST_WORD", TOKENS)
