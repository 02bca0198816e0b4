"""Write the notebooks of the tutorials and, with --run, what their code prints: `make tutorials`.

A page in docs/tutorials/ is the only source. Its code blocks are

    ```python    code that runs in one process per page
    ```sh        commands that run in the same folder, which is empty at first
    ```text      directly after either: what it printed, and nothing that it did not print
    ```bash      shown only, such as an installation

    python docs/write_tutorials.py                        # examples/notebooks/*.ipynb
    python docs/write_tutorials.py --run                  # runs all pages first, and shows which numbers have changed
    python docs/write_tutorials.py --run first-model

Times and speeds differ in every run: a block in which nothing else has changed stays as it is.
"""

from __future__ import annotations

import argparse
import contextlib
import difflib
import io
import json
import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
PAGES = ROOT / "docs" / "tutorials"
NOTEBOOKS = ROOT / "examples" / "notebooks"
BLOCK = re.compile(r"^```(python|sh)\n(.*?)^```\n(?:\n```text\n(.*?)^```\n)?", re.MULTILINE | re.DOTALL)
TIMES = re.compile(
    r"- \d+s - \d+m?s/step|tokens_per_second: [\d.]+|in [\d.]+ s, [\d,]+ tokens and [\d,]+ documents per second"
)


def run_page(text: str, folder: Path, programs: Path = Path(sys.executable).parent) -> str:
    """Run the code of a page in a folder, and return the page with what it printed.

    Args:
        text: the page.
        folder: where commands run and files are written.
        programs: folder of the programs `keraslm` and `python`, which is searched first.

    Raises:
        RuntimeError: a command failed. Exceptions of Python code are passed on.
    """
    names: dict[str, Any] = {"__name__": "__main__"}
    environment = os.environ | {"PATH": f"{programs}{os.pathsep}{os.environ['PATH']}"}

    def with_output(block: re.Match[str]) -> str:
        kind, code, recorded = block.groups()
        printed = run_python(code, names) if kind == "python" else run_shell(code, environment)
        if TIMES.sub("", printed) == TIMES.sub("", recorded or ""):
            return block[0]
        return f"```{kind}\n{code}```\n" + (f"\n```text\n{printed}```\n" if printed else "")

    with contextlib.chdir(folder):
        return BLOCK.sub(with_output, text)


def run_python(code: str, names: dict[str, Any]) -> str:
    """What the code prints."""
    with contextlib.redirect_stdout(io.StringIO()) as out:
        exec(compile(code, "<tutorial>", "exec"), names)
    return out.getvalue()


def run_shell(commands: str, environment: dict[str, str]) -> str:
    """What the commands print to standard output and standard error, in the order of a terminal."""
    done = subprocess.run(
        ["sh", "-e", "-c", commands],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        env=environment,
        text=True,
        check=False,
    )
    if done.returncode:
        raise RuntimeError(f"exit code {done.returncode}\n{commands}\n{done.stdout}")
    return done.stdout


def notebook(page: Path) -> str:
    """The notebook of a page, as JSON."""
    text, cells, end = page.read_text(encoding="utf-8"), [], 0
    for count, block in enumerate(BLOCK.finditer(text), 1):
        cells += [markdown_cell(text[end : block.start()]), code_cell(count, *block.groups())]
        end = block.end()
    cells = [cell for cell in (*cells, markdown_cell(text[end:])) if cell["source"]]
    for number, cell in enumerate(cells):
        cell["id"] = f"cell-{number}"
    kernel = {"display_name": "Python 3", "language": "python", "name": "python3"}
    metadata = {"kernelspec": kernel, "language_info": {"name": "python"}}
    whole = {"cells": cells, "metadata": metadata, "nbformat": 4, "nbformat_minor": 5}
    return json.dumps(whole, indent=1, ensure_ascii=False) + "\n"


def code_cell(count: int, kind: str, code: str, printed: str | None) -> dict[str, Any]:
    """A cell of code with what it printed. `%%sh` is how Jupyter runs commands."""
    output = {"name": "stdout", "output_type": "stream", "text": lines_of(printed or "")}
    return {
        "cell_type": "code",
        "execution_count": count,
        "metadata": {},
        "outputs": [output] if printed else [],
        "source": lines_of(("%%sh\n" if kind == "sh" else "") + code.rstrip("\n")),
    }


def markdown_cell(text: str) -> dict[str, Any]:
    """A cell of text, whose relative links lead from the folder of notebooks to the same files."""

    def moved(link: re.Match[str]) -> str:
        name, anchor = link[1], link[2] or ""
        if name.endswith(".md") and "/" not in name:  # a different tutorial, which is a notebook too
            return f"]({Path(name).stem}.ipynb)"
        return f"]({os.path.relpath(PAGES / name, NOTEBOOKS)}{anchor})"

    linked = re.sub(r"\]\((?!\w+:|#)([^)#]+)(#[^)]*)?\)", moved, text)
    return {"cell_type": "markdown", "metadata": {}, "source": lines_of(linked.strip("\n"))}


def lines_of(text: str) -> list[str]:
    return text.splitlines(keepends=True)


def main() -> None:
    pages = {page.stem: page for page in sorted(PAGES.glob("*.md"))}
    parser = argparse.ArgumentParser(description="Write the notebooks of the tutorials.")
    parser.add_argument("--run", nargs="*", choices=pages, help="run these pages first; without a name, all")
    chosen = parser.parse_args().run
    for name, page in pages.items():
        if chosen is not None and (not chosen or name in chosen):
            before = page.read_text(encoding="utf-8")
            with tempfile.TemporaryDirectory() as folder:
                after = run_page(before, Path(folder))
            page.write_text(after, encoding="utf-8")
            sys.stdout.writelines(difflib.unified_diff(lines_of(before), lines_of(after), page.name, "now", n=0))
        (NOTEBOOKS / f"{name}.ipynb").write_text(notebook(page), encoding="utf-8")
        print(f"written examples/notebooks/{name}.ipynb")


if __name__ == "__main__":
    main()
