"""Parts that pages share: the style sheet and the script of a scored text, and a policy that allows nothing else."""

from __future__ import annotations

import base64
import hashlib
from importlib.resources import files

from keraslm.pictures.markup import NAMES, color_rules, markup, shown


def resource(package: str, name: str) -> str:
    """The text of a file that belongs to a package."""
    return files(package).joinpath(name).read_text(encoding="utf-8")


def style(own: str) -> str:
    """The style sheet of a page: the shared part, its own part, and the colours of surprisal."""
    dark = f"@media screen and (prefers-color-scheme:dark){{\n{color_rules('dark')}}}\n"
    shared = "".join(resource("keraslm.pictures", name) for name in ("scored.css", "marks.css"))
    return shared + own + color_rules("light") + dark


def within(selector: str, rules: str) -> str:
    """CSS rules, one per line, that apply only inside of what a selector selects.

    Example:
        >>> within(".text", "i{margin:0}\\n")
        '.text i{margin:0}\\n'
    """
    return "".join(f"{selector} {rule}\n" for rule in rules.splitlines())


def script(own: str) -> str:
    """The script of a page: the shared part, then its own part, which may use it."""
    return f'"use strict";\n(() => {{\n{resource("keraslm.pictures", "scored.js")}\n{own}}})();\n'


def policy(style: str, script: str, **more: str) -> str:
    """A Content-Security-Policy that allows one style sheet and one script, by their digests.

    `more` has further directives, with `_` for `-`: `connect_src="'self'"`.
    """
    rules = {"default_src": "'none'", "style_src": f"'{_digest(style)}'", "script_src": f"'{_digest(script)}'"}
    rules |= {"base_uri": "'none'", "form_action": "'none'"} | more
    return "; ".join(f"{name.replace('_', '-')} {value}" for name, value in rules.items())


def legend() -> str:
    """The colours with their surprisals in bits, as HTML."""
    return "".join(f'<i class="{name}">{bits}{"+" * (name == NAMES[-1])}</i>' for bits, name in enumerate(NAMES))


def plain(text: str) -> str:
    """HTML text for places that cannot hold elements, such as a title."""
    return markup(shown(text))


def facts(rows: dict[str, str]) -> str:
    """Names and values as the content of a `<dl>`."""
    return "".join(f"<div><dt>{plain(k)}</dt><dd><bdi>{plain(v)}</bdi></dd></div>" for k, v in rows.items())


def _digest(text: str) -> str:
    return f"sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}"
