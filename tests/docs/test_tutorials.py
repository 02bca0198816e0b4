"""The tutorials: their code runs, and pages, notebooks and pictures agree.

Trainings are shortened to a small network and one epoch. `make tutorials` runs the pages as they are.
"""

from __future__ import annotations

import json
import re
import runpy
import sys
from html import unescape
from pathlib import Path

import pytest

from tests.support.program import environment

ROOT = Path(__file__).resolve().parents[2]
FOLDER = ROOT / "docs" / "tutorials"
PAGES = sorted(path.stem for path in FOLDER.glob("*.md"))
TUTORIALS = runpy.run_path(str(ROOT / "docs" / "write_tutorials.py"))
PICTURES = runpy.run_path(str(ROOT / "docs" / "draw_tutorials.py"))["PICTURES"]

SHORT = """
import sys
from keraslm.cli import main

if sys.argv[1] == "train":
    sys.argv += ["--units", "8", "--epochs", "1"]
main()
"""
# The flags of a training and an export are checked; then a run and a model that are there already take their place.
TRAINED = """
import shutil, sys
from keraslm.cli import app, main

verb, *rest = sys.argv[1:]
if verb in ("train", "export"):
    app.parse_args([verb, *rest])
if verb == "train":
    shutil.copytree({run!r}, rest[rest.index("--run") + 1])
elif verb == "export":
    shutil.copy({model!r}, rest[0])
else:
    main()
"""
OWN_TEXT = "## Your own text"


def page_text(name: str) -> str:
    return (FOLDER / f"{name}.md").read_text(encoding="utf-8")


def outputs(text: str) -> list[str]:
    """What each block of a page prints; empty if it prints nothing."""
    return [block[3] or "" for block in TUTORIALS["BLOCK"].finditer(text)]


def run(text: str, folder: Path, keraslm: str, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Run a page in a folder with a program `keraslm` of our own, and return what its blocks print."""
    programs = folder / "programs"
    programs.mkdir()
    (programs / "program.py").write_text(keraslm, encoding="utf-8")
    for name, script in (("keraslm", programs / "program.py"), ("python", "")):
        (programs / name).write_text(f'#!/bin/sh\nexec "{sys.executable}" {script} "$@"\n')
        (programs / name).chmod(0o755)
    monkeypatch.setenv("PYTHONPATH", environment()["PYTHONPATH"])
    monkeypatch.setenv("KERAS_BACKEND", "jax")  # of the commands; one page sets it
    return outputs(TUTORIALS["run_page"](text, folder, programs))


@pytest.fixture(scope="module")
def own(tmp_path_factory) -> tuple[Path, str, list[str]]:
    """The folder of the first tutorial's second half after it has run, its text, and what its blocks printed."""
    folder, text = tmp_path_factory.mktemp("own"), page_text("first-model").split(OWN_TEXT)[1]
    with pytest.MonkeyPatch.context() as patch:
        return folder, text, run(text, folder, SHORT, patch)


def test_the_first_tutorial_trains_a_model_of_the_readers_text(own):
    folder, text, printed = own
    assert [*map(bool, printed)] == [*map(bool, outputs(text))]
    assert (folder / "mine.onnx").exists() and (folder / "runs" / "mine" / "best.safetensors").exists()


@pytest.mark.parametrize("name", ["first-model", "filtering-a-corpus", "reading-times", "rescoring-speech"])
def test_the_code_around_a_training_runs(name, own, tmp_path, monkeypatch):
    program = TRAINED.format(run=str(own[0] / "runs" / "mine"), model=str(own[0] / "mine.onnx"))
    text = page_text(name).split(OWN_TEXT)[0]
    blocks = [*TUTORIALS["BLOCK"].finditer(text)]
    expected = [bool(block[3]) and not re.match("keraslm (train|export)", block[2]) for block in blocks]
    assert [*map(bool, run(text, tmp_path, program, monkeypatch))] == expected


def test_the_tutorial_on_truncated_backpropagation_prints_what_it_shows(tmp_path, monkeypatch):
    page = short = page_text("truncated-backpropagation")
    for whole, part in (("STEPS = 3, 16, 3200", "STEPS = 3, 16, 320"), ("in (2, 4, 8, 16)", "in (2, 4)")):
        assert page.count(whole) == 1
        short = short.replace(whole, part)
    *printed, costs = run(short, tmp_path, "", monkeypatch)
    *recorded, recorded_costs = outputs(page)
    assert printed == recorded
    without_numbers = [re.sub(r"\d\.\d+", "", text).splitlines() for text in (costs, recorded_costs)]
    assert without_numbers[0] == without_numbers[1][:2]


@pytest.mark.parametrize("name", PAGES)
def test_notebook_matches_page(name):
    text = (ROOT / "examples" / "notebooks" / f"{name}.ipynb").read_text(encoding="utf-8")
    assert text == TUTORIALS["notebook"](FOLDER / f"{name}.md"), "run: python docs/write_tutorials.py"
    cells = json.loads(text)["cells"]
    assert len({cell["id"] for cell in cells}) == len(cells)
    code = [cell for cell in cells if cell["cell_type"] == "code"]
    assert len(code) == len(outputs(page_text(name))) >= 5


def test_every_tutorial_has_a_notebook_and_no_notebook_is_left_over():
    assert sorted(path.stem for path in (ROOT / "examples" / "notebooks").glob("*.ipynb")) == PAGES
    assert len(PAGES) == 5


@pytest.mark.parametrize("name", PICTURES)
def test_pictures_match_their_script(name):
    assert (FOLDER / name).read_text(encoding="utf-8") == PICTURES[name](), "run: python docs/draw_tutorials.py"
    assert any(f"({name})" in page_text(page) for page in PAGES)


@pytest.mark.parametrize("name", PAGES)
def test_lines_quoted_from_an_output_are_in_it(name):
    printed = " ".join(" ".join(outputs(page_text(name))).split())
    for line in re.findall(r"^> (.*?)(?:, \.\.\.)?(?:<br>)?$", page_text(name), re.MULTILINE):
        assert " ".join(unescape(line).split()) in printed
