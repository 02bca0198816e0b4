"""Run the commands of the how-to pages with the model of `make demo`, and write their output into the pages.

    <!-- run -->

    ```console
    $ keraslm show model.onnx
    ```

A block after `<!-- run -->` is run: each line that begins with `$ `, in one folder for all pages, which holds the
demo's model.onnx. A block after `<!-- file: NAME -->` is written to a file, and `$ cat NAME` makes a file that does not
exist from the output on the page. A command that fails stops the program, except after `<!-- run: fails -->`.

docs/commands.json holds a digest of the commands and outputs of every page that shows some: `run` has the versions of
the last run, and `recorded` says how the sessions were made that need other models, or hours. A test compares pages and
digests, so that no output changes unnoticed.

    python docs/run_commands.py                 # runs everything, and writes pages and record; about two minutes
    python docs/run_commands.py --record PAGE   # the sessions of a page were recorded again by hand
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path

from page_commands import digest

from keraslm.system.backend import versions

ROOT = Path(__file__).resolve().parents[1]
RECORD = ROOT / "docs" / "commands.json"
DEMO = ("keraslm train --backend=jax --run runs/demo --progress none", "keraslm export model.onnx")
BLOCK = re.compile(r"<!-- (run|run: fails|file: (\S+)) -->\n\n( *)```(\w+)\n(.*?)^\3```$", re.MULTILINE | re.DOTALL)


def shell(command: str, folder: Path, fails: bool = False) -> str:
    """What a command prints, standard error included; stops the program if it fails, or if it should and does not."""
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    environment = {**os.environ, "PATH": path, "KERASLM_CACHE": str(folder / "cache")}
    streams = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT}
    done = subprocess.run(command, shell=True, cwd=folder, env=environment, text=True, check=False, **streams)
    if (done.returncode != 0) != fails:
        sys.exit(f"exit code {done.returncode} of: {command}\n{done.stdout}")
    return done.stdout


def commands_of(session: str) -> list[tuple[str, str]]:
    """Pairs of a command, which may go on after a backslash, and the output that follows it."""
    parts = re.split(r"^\$ ((?:.*\\\n)*.*)\n?", session, flags=re.MULTILINE)
    return list(zip(parts[1::2], parts[2::2], strict=True))


def run_page(text: str, folder: Path) -> str:
    """The page with the output of its commands, run in a folder."""

    def with_output(found: re.Match[str]) -> str:
        kind, name, indent, language, body = found.groups()
        body = re.sub(rf"^{indent}", "", body, flags=re.MULTILINE)
        if name:
            (folder / name).write_text(body, encoding="utf-8")
            return found[0]
        lines = ""
        for command, recorded in commands_of(body):
            cat = re.fullmatch(r"cat (\S+)", command)
            if cat and not (folder / cat[1]).exists():
                (folder / cat[1]).write_text(recorded, encoding="utf-8")
            lines += f"$ {command}\n{shell(command, folder, fails=kind.endswith('fails'))}"
        block = f"```{language}\n{lines}```"
        return f"<!-- {kind} -->\n\n" + re.sub(r"^(?=.)", indent, block, flags=re.MULTILINE)

    return BLOCK.sub(with_output, text)


def record(pages: list[str], run: str | None = None) -> None:
    """Write the digests of pages, which are paths in the repository, and the versions that ran them."""
    known = json.loads(RECORD.read_text(encoding="utf-8"))
    for page in pages:
        entry = known.setdefault(page, {})
        entry["sha256"] = digest((ROOT / page).read_text(encoding="utf-8"))
        if run:
            entry["run"] = run
    RECORD.write_text(json.dumps(known, indent=1, sort_keys=True) + "\n", encoding="utf-8")


def main() -> None:
    if sys.argv[1:2] == ["--record"]:
        return record(sys.argv[2:])
    pages = [p for p in sorted(ROOT.glob("docs/**/*.md")) if BLOCK.search(p.read_text(encoding="utf-8"))]
    with tempfile.TemporaryDirectory() as folder:
        for command in DEMO:
            shell(command, Path(folder))
        for page in pages:
            page.write_text(run_page(page.read_text(encoding="utf-8"), Path(folder)), encoding="utf-8")
            print(f"run: {page.relative_to(ROOT)}")
    made = ", ".join(f"{name} {value}" for name, value in versions("jax").items() if name != "backend")
    return record([str(page.relative_to(ROOT)) for page in pages], made)


if __name__ == "__main__":
    main()
