"""Write the generated pages of docs/reference: `make docs`."""

from __future__ import annotations

from pathlib import Path

from generators import api, cli, configuration, errors, formats

FOLDER = Path(__file__).parent / "reference"


def pages() -> dict[str, str]:
    """All generated files, by their paths in docs/reference."""
    return {
        "cli.md": cli.page(),
        "openapi.json": cli.description(),
        "configuration.md": configuration.page(),
        "formats.md": formats.page(),
        "errors.md": errors.page(),
        **{f"api/{name}": text for name, text in api.pages().items()},
    }


if __name__ == "__main__":
    (FOLDER / "api").mkdir(exist_ok=True)
    for name, text in pages().items():
        (FOLDER / name).write_text(text, encoding="utf-8")
        print(f"written {name}")
