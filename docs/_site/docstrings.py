"""What mkdocstrings reads differently: blocks after ``::``, and those of the interactive prompt, are code."""

from __future__ import annotations

import re
from typing import Any

import griffe

_LITERAL = re.compile(r"(\S?)[ ]*::\n(?=\n {4,}\S)")
_PROMPT = re.compile(r"^(?:>>> |\.\.\. ).*(?:\n(?:>>>|\.\.\.).*)*$", re.MULTILINE)


def plain(text: str) -> str:
    """Return a docstring whose blocks of code are blocks of Markdown."""
    text = _LITERAL.sub(lambda found: f"{found[1]}:\n" if found[1] else "\n", text)
    return _PROMPT.sub(lambda found: re.sub(r"^", "    ", found[0], flags=re.MULTILINE), text)


class Docstrings(griffe.Extension):
    """The extension that mkdocs.yml names."""

    def on_instance(self, *, obj: griffe.Object, **_: Any) -> None:
        """Change the docstring of each object that is loaded."""
        if obj.docstring is not None:
            obj.docstring.value = plain(obj.docstring.value)
