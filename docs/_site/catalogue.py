"""The error catalogue, from the docstrings of the error classes: what each means, and what to do.

A docstring's part after "What to do:" is the cure, all before it the cause.
"""

from __future__ import annotations

import inspect
import sys
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parent.parent.parent
sys.path[:0] = [str(folder) for folder in (Path(__file__).parent, ROOT)]

import linked_names  # noqa: E402  a neighbour of this file

import nats_ev  # noqa: E402  of this source tree

MARK = "What to do:"
SECTIONS = {
    "nats_ev.errors": "The client",
    "nats_ev.jetstream": "JetStream",
    "nats_ev.buckets": "Buckets",
    "nats_ev.service": "Services",
}


class Entry(NamedTuple):
    """An error class, as the catalogue shows it."""

    name: str
    bases: list[str]
    text: str
    cause: str
    cure: str
    attributes: list[str]


def public() -> dict[str, type[nats_ev.NatsError]]:
    """Return all public error classes by name."""
    found = {name: getattr(nats_ev, name) for name in nats_ev.__all__}
    return {
        name: thing
        for name, thing in sorted(found.items())
        if isinstance(thing, type) and issubclass(thing, nats_ev.NatsError)
    }


def entry(kind: type[nats_ev.NatsError]) -> Entry:
    """Return what the catalogue says of an error class."""
    own = inspect.cleandoc(kind.__dict__.get("__doc__") or "")
    cause, _, cure = own.partition(MARK)
    bases = [base.__name__ for base in kind.__bases__ if base.__name__.isidentifier()]
    attributes = [
        name for name in vars(kind).get("__annotations__", ()) if not name.startswith("_")
    ]
    text = vars(kind).get("text", "")
    return Entry(kind.__name__, bases, text, cause.strip(), cure.strip(), attributes)


def section(kind: type[nats_ev.NatsError]) -> str:
    """Return the heading under which an error class stands."""
    import importlib

    for home, title in SECTIONS.items():
        if kind in vars(importlib.import_module(home)).values():
            return title
    return "The client"


def page() -> str:
    """Return the catalogue as a page of Markdown."""
    kinds = public()
    parts = [
        "# Errors",
        f"All {len(kinds)} error classes, with their cause and what to do. Every error of the client is a "
        "`NatsError`. Errors that are also a `ValueError`, `TimeoutError` or `ConnectionError` say so. "
        "`str(err)` is a text for people; branch on the class and its attributes.",
    ]
    for title in dict.fromkeys(SECTIONS.values()):
        parts.append(f"## {title}")
        for name, kind in kinds.items():
            if section(kind) != title:
                continue
            found = entry(kind)
            parts.append(f"### {name} {{#{name}}}")
            known = (f"[{b}](#{b})" if b in kinds else f"`{b}`" for b in found.bases)
            said = f"Subclass of {', '.join(known)}." if name != "NatsError" else ""
            if found.text:
                said += f" Text: “{found.text}”."
            if found.attributes:
                said += f" Data: {', '.join(f'`{name}`' for name in found.attributes)}."
            parts.append(said.strip())
            parts.append(linked_names.linked(found.cause, frozenset(kinds)))
            cure = linked_names.linked(found.cure, frozenset(kinds))
            parts.append(f"**What to do:** {cure}" if cure else "")
    return "\n\n".join(part for part in parts if part) + "\n"
