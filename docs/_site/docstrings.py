"""What mkdocstrings reads differently: the ``::`` before an indented block is a colon, as in a sentence."""

from __future__ import annotations

import re
from typing import Any

import griffe

_LITERAL = re.compile(r"\s*::\n(\n(?: {4,}.*\n?|\n)+)")


def plain(text: str) -> str:
    """Return a docstring whose blocks after ``::`` are blocks of Markdown."""
    return _LITERAL.sub(lambda found: f":\n{found[1]}", "\n" + text).lstrip("\n: ")


class Docstrings(griffe.Extension):
    """The extension that mkdocs.yml names."""

    def on_instance(self, *, obj: griffe.Object, **_: Any) -> None:
        """Change the docstring of each object that is loaded."""
        if obj.docstring is not None and "::\n" in obj.docstring.value:
            obj.docstring.value = plain(obj.docstring.value)
