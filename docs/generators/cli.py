"""The page of the command line, from the live help; and the description of the server's requests."""

from __future__ import annotations

import io
import json
import re

from rich.console import Console

from keraslm.cli import VERBS, app
from keraslm.server.openapi import openapi
from keraslm.server.settings import Limits

WIDTH = 100


def help_page(*command: str) -> str:
    """The help of a command as plain text, `WIDTH` columns wide."""
    out = io.StringIO()
    console = Console(file=out, width=WIDTH, color_system=None, force_terminal=False, legacy_windows=False)
    app.help_print(list(command), console=console)
    return re.sub(r" +$", "", out.getvalue(), flags=re.MULTILINE).strip()


def page() -> str:
    """The whole of docs/reference/cli.md."""
    parts = ["# Command line", "Written from the live help by `make docs`; a test holds the two equal."]
    for command in ((), *((verb.__name__,) for verb in VERBS)):
        title = " ".join(("keraslm", *command))
        parts.append(f"## {title}\n\n```text\n{help_page(*command)}\n```")
    return "\n\n".join(parts) + "\n"


def description() -> str:
    """The whole of docs/reference/openapi.json."""
    return json.dumps(openapi(Limits()), indent=1) + "\n"
