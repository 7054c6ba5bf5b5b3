"""What mkdocstrings reads differently: blocks after ``::``, and those of the interactive prompt, are code."""

from __future__ import annotations

import re
import sys
from functools import cache
from pathlib import Path
from typing import Any

import griffe

sys.path.insert(0, str(Path(__file__).resolve().parent))

import catalogue
import linked_names

_LITERAL = re.compile(r"(\S?)[ ]*::\n(?=\n {4,}\S)")
_PROMPT = re.compile(r"^(?:>>> |\.\.\. ).*(?:\n(?:>>>|\.\.\.).*)*$", re.MULTILINE)


def plain(text: str) -> str:
    """Return a docstring whose blocks of code are blocks of Markdown."""
    text = _LITERAL.sub(lambda found: f"{found[1]}:\n" if found[1] else "\n", text)
    return _PROMPT.sub(lambda found: re.sub(r"^", "    ", found[0], flags=re.MULTILINE), text)


@cache
def errors() -> frozenset[str]:
    """Return the names of all error classes."""
    return frozenset(catalogue.public())


class Docstrings(griffe.Extension):
    """The extension that mkdocs.yml names."""

    def on_instance(self, *, obj: griffe.Object, **_: Any) -> None:
        """Change the docstring of each object that is loaded."""
        if obj.docstring is not None:
            obj.docstring.value = linked_names.linked(plain(obj.docstring.value), errors())
