"""Names in docstrings become links to their places in the reference."""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path

REFERENCE = Path(__file__).resolve().parent.parent / "reference"
_NAME = re.compile(r"(?<!`)`([A-Z]\w+)((?:\.[a-z]\w+)?)`(?!`)")
_PLACE = re.compile(r"^::: ([\w.]+\.([A-Z]\w+))$", re.MULTILINE)


@cache
def places() -> dict[str, str]:
    """Return the page and anchor of each class, by its name."""
    found = {}
    for page in sorted(REFERENCE.glob("*.md")):
        for path, name in _PLACE.findall(page.read_text()):
            if not path.startswith("nats_ev.aio."):
                found[name] = f"{page.stem}.html#{path}"
    return found


def linked(text: str, errors: frozenset[str]) -> str:
    """Return a text of a page of the reference, with links for the names of classes and their methods.

    Args:
        text: Markdown; lines that begin with four blanks are left alone, as code.
        errors: the names of error classes, which the catalogue has.
    """

    def link(found: re.Match[str]) -> str:
        name, method = found[1], found[2]
        place = f"errors.html#{name}" if name in errors else places().get(name)
        if place is None or (name in errors and method):
            return found[0]
        return f'<a href="{place}{method}"><code>{name}{method}</code></a>'

    return _NAME.sub(link, text)
