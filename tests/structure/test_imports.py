"""Imports go one way. A module imports only its own room and the rooms named here, inside functions too."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
LEVELS = {  # each room and what it may import, lowest first: a room names rooms above it in this table only
    "errors": "",
    "arguments": "errors",
    "perplexity": "",
    "config": "errors arguments",
    "system": "errors config",
    "text": "errors config system",
    "testtime": "config",
    "replicas": "",
    "layers": "config replicas",
    "optimizers": "replicas",
    "network": "arguments config replicas layers optimizers",
    "runs": "errors arguments config system text",
    "training": "errors perplexity config system text replicas layers optimizers network runs",
    "evaluation": "errors arguments perplexity config system text testtime network runs",
    "scoring": "errors arguments perplexity config text testtime",
    "ngram": "errors arguments perplexity config system text scoring",
    "report": "errors arguments perplexity config system text scoring ngram",
    "rescoring": "errors arguments perplexity config text scoring ngram",
    "lattices": "errors arguments perplexity text scoring rescoring",
    "pictures": "errors arguments perplexity config system text scoring report",
    "server": "errors arguments perplexity config system text scoring pictures",
    "bulk": "errors arguments perplexity config system text testtime scoring ngram report",
    "filtering": "errors arguments perplexity config system text scoring report pictures bulk",
    "keraslm_export": "errors arguments perplexity config system text layers runs evaluation scoring pictures",
    "api": "errors arguments config system text runs training evaluation scoring rescoring keraslm_export",
    "commands": "errors config system text testtime runs scoring ngram report rescoring lattices pictures server bulk "
    "filtering keraslm_export api",
    "cli": "errors system text commands",
    "__main__": "cli",
}
FRAMEWORKS = {"keras", "jax", "tensorflow", "torch", "tf2onnx", "onnx"}
WITH_FRAMEWORK = {"replicas", "layers", "optimizers", "network", "training", "evaluation", "keraslm_export"}
PATHS = sorted([*(ROOT / "keraslm").rglob("*.py"), *(ROOT / "export").rglob("*.py")])


def room(module: str) -> str:
    """`keraslm.text.files` is of the room `text`; the package itself, which holds public names only, is `""`."""
    parts = module.split(".")
    return parts[0] if parts[0] != "keraslm" else "".join(parts[1:2])


def module_of(path: Path) -> str:
    folder = ROOT / "export" if path.is_relative_to(ROOT / "export") else ROOT
    return ".".join(path.relative_to(folder).with_suffix("").parts).removesuffix(".__init__")


def imports_of(path: Path, top_level_only: bool = False):
    tree = ast.parse(path.read_text(encoding="utf-8"))
    for node in tree.body if top_level_only else ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0 and node.module, f"{path}:{node.lineno}: a relative import"
            yield node.module


def test_the_table_lists_each_room_after_those_it_imports():
    seen: set[str] = set()
    for name, below in LEVELS.items():
        assert set(below.split()) <= seen, name
        seen.add(name)


@pytest.mark.parametrize("path", PATHS, ids=module_of)
def test_a_module_imports_the_rooms_below_it(path):
    own = room(module_of(path))
    if not own:  # keraslm/__init__.py resolves public names lazily
        return
    used = {room(name) for name in imports_of(path) if name.split(".")[0] in ("keraslm", "keraslm_export")}
    assert used <= {own, "", *LEVELS[own].split()}


@pytest.mark.parametrize("path", [p for p in PATHS if room(module_of(p)) not in WITH_FRAMEWORK], ids=module_of)
def test_scoring_needs_no_framework(path):
    assert not {name.split(".")[0] for name in imports_of(path, top_level_only=True)} & FRAMEWORKS


def test_only_these_modules_are_outside_the_rooms():
    found = {path.name for path in (ROOT / "keraslm").iterdir() if path.is_file()}
    assert found == {
        "__init__.py",
        "__main__.py",
        "arguments.py",
        "cli.py",
        "errors.py",
        "perplexity.py",
        "py.typed",
    }


@pytest.mark.parametrize("path", [path for path in PATHS if path.name == "__init__.py"], ids=module_of)
def test_each_room_describes_its_purpose(path):
    assert len((ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or "").split()) >= 12
