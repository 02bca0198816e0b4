"""The site: links and anchors of all pages, generated pages, and the checks of `make docs`."""

from __future__ import annotations

import ast
import re
import tomllib
import unicodedata
import zlib
from pathlib import Path

import pytest

import keraslm
from keraslm import errors
from keraslm.cli import run

ROOT = Path(__file__).resolve().parents[2]
DOCS = ROOT / "docs"
PAGES = sorted(
    str(path.relative_to(ROOT))
    for pattern in ("*.md", "docs/**/*.md", "examples/*/*.md", "benchmarks/*.md")
    for path in ROOT.glob(pattern)
)


@pytest.fixture(autouse=True)
def programs(monkeypatch):
    monkeypatch.syspath_prepend(DOCS)


def prose(text: str) -> str:
    """A page without its blocks of code."""
    return re.sub(r"^( *)```.*?^\1```$", "", text, flags=re.MULTILINE | re.DOTALL)


def anchors(text: str) -> set[str]:
    """The anchors of the headings, as Python-Markdown and GitHub form them, except for repeated ones."""
    found: set[str] = set()
    for title in re.findall(r"^#+ (.+)$", prose(text), flags=re.MULTILINE):
        plain = (
            unicodedata.normalize("NFKD", re.sub(r"\[(.*?)\]\(.*?\)", r"\1", title)).encode("ascii", "ignore").decode()
        )
        found.add(re.sub(r"[\s-]+", "-", re.sub(r"[^\w\s-]", "", plain).strip().lower()))
    return found


@pytest.mark.parametrize("page", PAGES)
def test_links_and_anchors_exist(page):
    bad = []
    for link in re.findall(r"\]\((?!https?:|mailto:)([^)\s]+)\)", prose((ROOT / page).read_text(encoding="utf-8"))):
        name, _, anchor = link.partition("#")
        target = (ROOT / page).parent / name if name else ROOT / page
        if not target.exists() or (anchor and anchor not in anchors(target.read_text(encoding="utf-8"))):
            bad.append(link)
    assert bad == []


def test_anchors_are_those_of_the_site():
    text = "# The `a_b` of *c*\n```\n# no heading\n```\n## 8-bit weights: what, why?\n"
    assert anchors(text) == {"the-a_b-of-c", "8-bit-weights-what-why"}


def test_generated_pages_are_current():
    from write_reference import FOLDER, pages

    stale = [name for name, text in pages().items() if (FOLDER / name).read_text(encoding="utf-8") != text]
    assert stale == [], "run: make docs"
    assert {path.name for path in (FOLDER / "api").iterdir()} == {n[4:] for n in pages() if n.startswith("api/")}


def test_every_public_name_is_on_one_page_of_the_reference():
    listed = re.findall(
        r"^::: keraslm\.(\w+)$", "\n".join(p.read_text() for p in (DOCS / "reference/api").glob("*.md")), re.M
    )
    assert sorted([*listed, "KeraslmError", "__version__"]) == sorted(["errors", *keraslm.__all__])


def test_navigation_has_every_page_once():
    from build_site import place, sources

    def files(entry):
        return (
            [entry]
            if isinstance(entry, str)
            else [f for each in entry for value in each.values() for f in files(value)]
        )

    config = tomllib.loads((ROOT / "zensical.toml").read_text(encoding="utf-8"))
    assert sorted(files(config["project"]["nav"])) == sorted(map(place, sources()))


def test_each_field_has_a_section():
    page = (DOCS / "reference/configuration.md").read_text(encoding="utf-8")
    config = keraslm.Config()
    names = {name for part in ("model", "data", "train", "transfer") for name in vars(getattr(config, part))}
    assert names <= anchors(page) and "### num_steps\n\n`--num-steps`: integer; default `20`." in page
    assert all(f"| `{name}` |" in page for name in keraslm.PRESETS)


def test_page_of_formats_has_every_format_with_a_version():
    from generators import formats

    versioned = {
        ".".join(path.relative_to(ROOT).with_suffix("").parts)
        for path in ROOT.glob("keraslm/**/*.py")
        if any(
            isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "FORMAT_VERSION"
            for node in ast.parse(path.read_text(encoding="utf-8")).body
        )
    }
    source = Path(formats.__file__).read_text(encoding="utf-8")
    assert len(versioned) >= 5 and all(f"{name}.FORMAT_VERSION" in source for name in versioned)
    assert "| [run folder](run-folder.md), `config.json` | 2 | 1 to 2 |" in formats.page()


def test_templates_of_messages():
    from generators.errors import template

    def of(source):
        return template(ast.parse(source, mode="eval").body)

    assert of('f"{path}: {shown(value)} has " f"{len(x):,} {self.name}."') == "{path}: {value} has {...} {self.name}."
    assert of('"a " + name + f"{x!r} {{b}}"') == "a {name}{x} {b}"


def test_catalogue_has_every_class_and_its_messages():
    from generators.errors import ADVICE, Sources

    sources = Sources()
    assert set(ADVICE) == set(sources.bases)
    assert set(ADVICE) >= {name for name, v in vars(errors).items() if isinstance(v, type) and issubclass(v, Exception)}
    raised = (ROOT / "keraslm/scoring/contract.py").read_text(encoding="utf-8").count("raise ModelFileError(")
    found = [m for file, m in sources.messages["ModelFileError"] if file == "keraslm/scoring/contract.py"]
    assert raised >= len(found) >= 5 and any("but this keraslm reads {...}. Export the run again" in m for m in found)


@pytest.mark.parametrize(
    "line",
    [("score", "nothere.onnx"), ("show", "nothere"), ("train", "--units", "-1"), ("score", "--nosuch"), ("rescore",)],
)
def test_a_message_names_its_section(line, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert run(list(line)) == 2
    said = re.match(r"keraslm: (\w+): ", capsys.readouterr().err)
    assert said and said[1].lower() in anchors((DOCS / "reference/errors.md").read_text(encoding="utf-8"))


@pytest.mark.parametrize(
    ("path", "expected"),
    [("docs/index.md", "index.md"), ("README.md", "index.md"), ("examples/ptb/README.md", "examples/ptb/README.md")],
)
def test_place_in_the_site(path, expected):
    from build_site import place

    assert place(path) == expected


def test_links_are_rewritten_for_the_site():
    from build_site import moved

    text = "[a](../../examples/ptb/README.md) [b](../../README.md) ![c](../images/web.png) [d](bulk.md#x) [e](https://x.y/z)"
    expected = (
        "[a](../examples/ptb/README.md) [b](../index.md) ![c](../images/web.png) [d](bulk.md#x) [e](https://x.y/z)"
    )
    linked = ["examples/ptb/README.md", "README.md", "docs/images/web.png", "docs/how-to/bulk.md"]
    assert moved(text, "docs/how-to/training.md") == (expected, linked)
    assert moved(r"| `a \|\| b` | a \| b", "README.md")[0] == r"| `a || b` | a \| b"
    assert moved("[a](../../docs/how-to/bulk.md)", "examples/ptb/README.md")[0] == "[a](../../how-to/bulk.md)"


@pytest.mark.parametrize(
    ("html", "loads"),
    [
        ('<script src="https://a.b/c.js"></script>', True),
        ("<link rel=stylesheet href=//a.b/c.css>", True),
        ('<link rel="preconnect" href="https://fonts.gstatic.com">', True),
        ('<img alt="x" src="http://a.b/c.png">', True),
        ("<style>@import 'https://a.b/c.css'; p { background: url(https://a.b/c.png) }</style>", True),
        ('<pre class="mermaid">', True),
        (
            '<a href="https://a.b">b</a> <script src="../c.js"></script> <link rel="canonical" href="https://a.b/">',
            False,
        ),
    ],
)
def test_files_from_other_hosts_are_found(tmp_path, html, loads):
    from check_site import loaded_from_elsewhere

    (tmp_path / "page.html").write_text(html, encoding="utf-8")
    assert bool(loaded_from_elsewhere(tmp_path)) == loads


def test_inventory_is_read_and_compared_with_the_pages(tmp_path):
    from check_site import missing_names, read_inventory

    rows = b"keraslm.load py:function 1 a.html#$ -\nkeraslm.mix py:function 1 a.html#mixing keraslm.mix of two\n"
    head = b"# Sphinx inventory version 2\n# Project: keraslm\n# Version: 1\n"
    head += b"# The remainder of this file is compressed using zlib.\n"
    (tmp_path / "objects.inv").write_bytes(head + zlib.compress(rows))
    (tmp_path / "a.html").write_text('<h2 id="keraslm.load">', encoding="utf-8")
    found = read_inventory((tmp_path / "objects.inv").read_bytes())
    assert found == {"keraslm.load": "a.html#keraslm.load", "keraslm.mix": "a.html#mixing"}
    assert missing_names(tmp_path, ["keraslm.load", "keraslm.mix", "keraslm.nosuch"]) == [
        "keraslm.mix",
        "keraslm.nosuch",
    ]
    with pytest.raises(ValueError, match="not a Sphinx inventory"):
        read_inventory(head.replace(b"version 2", b"version 1") + zlib.compress(rows))


def test_docstrings_get_code_links_and_one_entry_for_each_argument():
    griffe = pytest.importorskip("griffe")
    from docstrings import Docstrings

    text = "Return a `Scorer`; may raise `TextError`.\n\nArgs:\n    a, b: see `load`.\n"
    text += "\nExample:\n    >>> load(`Scorer`)\n    1"
    function = griffe.Function("f", docstring=griffe.Docstring(text))
    Docstrings().on_object(obj=function)
    assert function.docstring.value.split("\n") == [
        "Return a [`Scorer`][keraslm.Scorer]; may raise [`TextError`][keraslm.errors.TextError].",
        "",
        "Args:",
        "    a: see [`load`][keraslm.load].",
        "    b: see [`load`][keraslm.load].",
        "",
        "Examples:",
        "    >>> load(`Scorer`)",
        "    1",
    ]
