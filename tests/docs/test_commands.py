"""The commands on the pages: the program accepts them, and their recorded output is that of the page."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from keraslm.cli import app
from keraslm.system import VERSION

ROOT = Path(__file__).resolve().parents[2]
RECORD = json.loads((ROOT / "docs" / "commands.json").read_text(encoding="utf-8"))
TEXTS = {
    str(path.relative_to(ROOT)): path.read_text(encoding="utf-8")
    for pattern in ("*.md", "docs/**/*.md", "examples/*/*.md", "benchmarks/*.md")
    for path in sorted(ROOT.glob(pattern))
}


PAGE = """\
# Page

    $ keraslm show a.onnx   # words
    keraslm printed this

    more

text `keraslm train`

=== "JAX"

    ```console
    $ (cat a; cat b) | keraslm score m.onnx --separator '|' > c && keraslm show m.onnx
    $ X=1 keraslm score m.onnx \\
        --level word
    ```

```python
keraslm = 1
```
- a list

    keraslm tokenize a.txt
"""
RUN = """\
<!-- file: a.txt -->

```text
one
two
```

<!-- run -->

    ```console
    $ cat b.txt
    three
    $ cat a.txt \\
        b.txt
    old
    $ wc -l < a.txt
    ```

<!-- run: fails -->

```console
$ echo no; exit 2
```

```console
$ rm a.txt
```
"""


@pytest.fixture(autouse=True)
def programs(monkeypatch):
    monkeypatch.syspath_prepend(ROOT / "docs")


@pytest.mark.parametrize("page", TEXTS)
def test_the_program_accepts_every_command(page):
    from page_commands import calls

    for call in calls(TEXTS[page]):
        app.parse_args(call, exit_on_error=False, print_error=False)


def test_commands_are_found():
    from page_commands import calls

    assert sum(len(list(calls(text))) for text in TEXTS.values()) >= 100


def test_every_session_is_that_of_the_record():
    from page_commands import digest, sessions

    shown = {page: digest(text) for page, text in TEXTS.items() if sessions(text)}
    recorded = {page: entry["sha256"] for page, entry in RECORD.items()}
    assert shown == recorded, "run: make commands; or, for sessions that it does not run, docs/run_commands.py --record"


def test_every_session_was_run_or_says_how_it_was_made():
    from run_commands import BLOCK

    run = {page for page, text in TEXTS.items() if BLOCK.search(text)}
    assert run == {page for page, entry in RECORD.items() if "run" in entry} and run
    assert all(f"keraslm {VERSION}," in RECORD[page]["run"] for page in run)
    assert all(RECORD[page]["recorded"].endswith(".") for page in RECORD.keys() - run)


def test_blocks_and_calls_of_a_page():
    from page_commands import blocks, calls, sessions

    assert len(blocks(PAGE)) == 3 and len(sessions(PAGE)) == 2
    assert sorted(calls(PAGE)) == [
        ["score", "m.onnx", "--level", "word"],
        ["score", "m.onnx", "--separator", "|"],
        ["show", "a.onnx"],
        ["show", "m.onnx"],
        ["tokenize", "a.txt"],
    ]


def test_a_changed_digit_changes_the_digest():
    from page_commands import digest

    page = "text\n\n    $ keraslm show a.onnx\n    units 200\n\ntext\n"
    assert digest(page) == digest(page.replace("text", "other text"))
    assert digest(page) != digest(page.replace("200", "201"))
    assert digest(page) != digest(page.replace("show", "show --json"))


def test_commands_are_run_and_their_output_written(tmp_path):
    from run_commands import run_page

    done = run_page(RUN, tmp_path)
    expected = RUN.replace("    old\n", "    one\n    two\n    three\n").replace("< a.txt\n", "< a.txt\n    2\n")
    assert done == expected.replace("exit 2\n", "exit 2\nno\n")
    assert run_page(done, tmp_path) == done


@pytest.mark.parametrize(("kind", "command"), [("run", "exit 3"), ("run: fails", "true")])
def test_a_command_that_fails_stops_the_program(tmp_path, kind, command):
    from run_commands import run_page

    with pytest.raises(SystemExit, match="exit code"):
        run_page(f"<!-- {kind} -->\n\n```console\n$ {command}\n```\n", tmp_path)
