"""The page at `/`: a text that is scored as it is typed, its next words, and continuations drawn from the model.

The page is one document that asks only the server it came from. It knows the routes of the server, and holds nothing
of the model: its script asks for that, with the key if the server needs one.
"""

from __future__ import annotations

from collections.abc import Mapping
from string import Template

from keraslm.pictures import parts
from keraslm.system import VERSION

_SCRIPTS = ("requests.js", "text.js", "sampling.js", "page.js")


def page(title: str, facts: Mapping[str, str] | None = None) -> tuple[str, str]:
    """The page, and the value of its header Content-Security-Policy.

    Args:
        title: in the heading and in the title of the window.
        facts: names and values that the top of the page shows before those of `/v1/models`, to everyone who can reach
            the server. None for no others.

    Example:
        >>> html, policy = page("model.onnx")
        >>> HTMLResponse(html, headers={"Content-Security-Policy": policy})
    """
    style, script = parts.style(_resource("page.css")), parts.script("".join(map(_resource, _SCRIPTS)))
    html = Template(_resource("index.html")).substitute(
        version=VERSION,
        title=parts.plain(title),
        facts=parts.facts(dict(facts or {})),
        legend=parts.legend(),
        style=style,
        script=script,
    )
    return html, parts.policy(style, script, connect_src="'self'", frame_ancestors="'none'")


def _resource(name: str) -> str:
    return parts.resource("keraslm.server", f"page/{name}")
