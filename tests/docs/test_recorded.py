"""The tables in the documentation match the records in `examples/ptb/`."""

from pathlib import Path

import pytest

from keraslm.config.presets import PRESETS
from keraslm.runs.metrics import read_rows

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(autouse=True)
def examples(monkeypatch):
    monkeypatch.syspath_prepend(ROOT / "examples" / "ptb")


def test_ablation_tables_match_records():
    import ablation

    page = ablation.PAGE.read_text(encoding="utf-8")
    assert ablation.page_with_tables(page) == page
    for name, flags in {**ablation.CHANGES, **ablation.LONGER}.items():
        assert list(ablation.recorded(name, flags)) == [0, 1], name
    rows = {(row["name"], row["seed"]) for row in ablation.test_time_rows()}
    assert rows == {(name, seed) for names, _ in ablation.AT_TEST_TIME for name in names for seed in (0, 1)}


def test_search_table_matches_record_and_preset():
    import search_cpu_hour as search

    lines = search.table()
    assert "\n".join(lines) in (search.HERE / "README.md").read_text(encoding="utf-8")
    assert len(lines) - 2 == len(read_rows(search.RECORD))
    best = min(read_rows(search.RECORD), key=lambda row: row["valid"][-1])["flags"]
    own = ("epochs", "dtype")  # set by the budget, and for the search only
    expected = {k: v for k, v in PRESETS["cpu-hour"].items() if k not in own}
    expected["layer_units"] = ",".join(map(str, expected["layer_units"]))
    assert {k: v for k, v in best.items() if k not in own} == expected
