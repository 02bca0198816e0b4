"""Build the documentation site from the pages of the repository: `make docs`.

The pages of docs/ become the root of the site; those of examples/ and benchmarks/ and of the root of the repository
keep their paths. Links between them are rewritten. A link to a file that is no page brings the file along.

    docs/how-to/training.md      -> how-to/training.html
    examples/ptb/README.md       -> examples/ptb/index.html
    CHANGELOG.md                 -> CHANGELOG.html
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

from check_site import loaded_from_elsewhere, missing_names

import keraslm

ROOT = Path(__file__).resolve().parents[1]
PAGES = ROOT / "build" / "pages"  # `docs_dir` of zensical.toml
SITE = ROOT / "site"
PATTERNS = (
    *("docs/**/*.md", "examples/*/README.md", "benchmarks/README.md"),
    *("CHANGELOG.md", "CONTRIBUTING.md", "SECURITY.md"),
)
_ROW, _CODE = re.compile(r"^\|.*$", re.MULTILINE), re.compile(r"`[^`]*`")
_LINK = re.compile(r"(\]\()(?!\w+:|#)([^)#\s]*)")


def sources() -> list[str]:
    """The pages of the site, as paths in the repository."""
    return sorted({str(path.relative_to(ROOT)) for pattern in PATTERNS for path in ROOT.glob(pattern)})


def place(path: str) -> str:
    """Where a file of the repository is in the site.

    Example:
        >>> place("docs/index.md"), place("README.md"), place("examples/ptb/README.md")
        ('index.md', 'index.md', 'examples/ptb/README.md')
    """
    return "index.md" if path == "README.md" else path.removeprefix("docs/")


def moved(text: str, page: str) -> tuple[str, list[str]]:
    """A page with its links rewritten, and the files that it links to, as paths in the repository."""
    linked = []

    def rewritten(found: re.Match[str]) -> str:
        target = os.path.normpath(os.path.join(os.path.dirname(page), found[2]))  # noqa: PTH118, PTH120
        if (ROOT / target).is_dir():
            target += "/README.md"
        linked.append(target)
        return found[1] + os.path.relpath(place(target), os.path.dirname(place(page)) or ".")  # noqa: PTH120

    def with_bars(row: re.Match[str]) -> str:  # GitHub needs \| in the code of a table; Python-Markdown would show it
        return _CODE.sub(lambda code: code[0].replace(r"\|", "|"), row[0])

    aligned = text.expandtabs(14)  # of tables that commands print; Python-Markdown would leave 4
    return _ROW.sub(with_bars, _LINK.sub(rewritten, aligned)), linked


def copy_pages() -> None:
    """Fill `PAGES`; fails for a link to a file that does not exist."""
    shutil.rmtree(PAGES, ignore_errors=True)
    files = set()
    for page in sources():
        text, linked = moved((ROOT / page).read_text(encoding="utf-8"), page)
        missing = [target for target in linked if not (ROOT / target).is_file()]
        if missing:
            sys.exit(f"{page} links to what does not exist: {', '.join(missing)}")
        files.update(linked)
        copy = PAGES / place(page)
        copy.parent.mkdir(parents=True, exist_ok=True)
        copy.write_text(text, encoding="utf-8")
    files.update(str(path.relative_to(ROOT)) for path in ROOT.glob("docs/assets/*"))
    for file in sorted(files - set(sources()) - {"README.md"}):
        copy = PAGES / place(file)
        copy.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / file, copy)


def write_texts_for_models() -> None:
    """llms.txt, a list of all pages, and llms-full.txt, all guides and explanations as one text: llmstxt.org."""
    listed, whole = [], []
    for page in sources():
        text = (ROOT / page).read_text(encoding="utf-8")
        title = text.split("\n", 1)[0].lstrip("# ")
        address = re.sub(r"README\.md$", "index.md", place(page)).removesuffix(".md") + ".html"
        listed.append(f"- [{title}]({address})")
        if page.startswith("docs/") and "/api/" not in page:
            whole.append(f"<!-- {place(page)} -->\n\n{text.strip()}")
    introduction = (
        "# keraslm\n\n> Train an LSTM language model, export it to one ONNX file, and score any text with it.\n"
    )
    (SITE / "llms.txt").write_text("\n".join([introduction, "## Pages", "", *listed, ""]), encoding="utf-8")
    (SITE / "llms-full.txt").write_text("\n\n".join(whole) + "\n", encoding="utf-8")


def set_inventory_version() -> None:
    """Zensical writes version 0.0.0 into the inventory."""
    path = SITE / "objects.inv"
    path.write_bytes(
        path.read_bytes().replace(b"# Version: 0.0.0\n", f"# Version: {keraslm.__version__}\n".encode(), 1)
    )


def main() -> None:
    copy_pages()
    shutil.rmtree(SITE, ignore_errors=True)
    zensical = [sys.executable, "-m", "zensical", "build", "--strict", "--clean", "--config-file", "zensical.toml"]
    if code := subprocess.run(zensical, cwd=ROOT, check=False).returncode:
        sys.exit(code)
    write_texts_for_models()
    set_inventory_version()
    if found := loaded_from_elsewhere(SITE):
        sys.exit("\n".join(["The site loads files from other hosts:", *found]))
    names = [f"keraslm.{name}" for name in keraslm.__all__ if name != "__version__"]
    if missing := missing_names(SITE, names):
        sys.exit(f"site/objects.inv does not lead to: {', '.join(missing)}")
    print(f"{len(list(SITE.rglob('*.html')))} pages in {SITE.relative_to(ROOT)}/")


if __name__ == "__main__":
    main()
