"""Numbers of versions are the same wherever they are written."""

import re
import tomllib
from pathlib import Path

from keraslm.bulk import records
from keraslm.runs import checkpoint, folder
from keraslm.scoring import contract
from keraslm.system import VERSION

ROOT = Path(__file__).resolve().parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
PAGE = (ROOT / "docs" / "reference" / "versions.md").read_text(encoding="utf-8")


def test_the_version_of_the_package():
    citation = (ROOT / "CITATION.cff").read_text(encoding="utf-8")
    assert f"\nversion: {VERSION}\n" in citation
    assert PROJECT["version"] == VERSION


def test_the_formats_of_files():
    found = dict(re.findall(r"^\| ([\w ]+?)(?:, `[\w.]+`)? \| `format_version` (\d) \|", PAGE, re.MULTILINE))
    assert found == {
        "model file": str(contract.FORMAT_VERSION),
        "run folder": str(folder.FORMAT_VERSION),
        "checkpoint": str(checkpoint.FORMAT_VERSION),
        "record of bulk scoring": str(records.FORMAT_VERSION),
    }


def test_the_required_packages():
    every = str([PROJECT["dependencies"], PROJECT["optional-dependencies"]])
    least = dict(re.findall(r"([\w-]+)>=([\d.]+)", every))
    pinned = dict(
        re.findall(r"^([\w-]+)==(\S+)$", (ROOT / "constraints.txt").read_text(encoding="utf-8"), re.MULTILINE)
    )
    rows = re.findall(r"^\| ([A-Z]?\w+) \| ([\d.]+) \| ([\d.]+) \|$", PAGE, re.MULTILINE)
    assert len(rows) == 7
    for name, required, used in rows:
        assert (least[name.lower()], pinned[name.lower()]) == (required, used), name
    assert PROJECT["requires-python"] == ">=3.11" and "| Python | 3.11 or newer |" in PAGE
