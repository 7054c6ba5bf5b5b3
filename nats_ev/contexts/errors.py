"""Errors of contexts. A text shows no value of a field: it may be a secret."""

from __future__ import annotations

from ..errors import BadOptionsError


class ContextError(BadOptionsError):
    """A context can't be used: the text says which file and field, and why.

    `path` is the file, "" if there is none; `field` the field's name, "" if the error is not about one.

    What to do: correct that field of the file, or save the context again.
    """

    text = "bad context"
    path: str = ""
    field: str = ""


class ContextNotFoundError(ContextError):
    """A context does not exist, or none was named and none is selected. `name` is what was asked for.

    What to do: save the context, correct its name, or select one (`Context.select`).
    """

    text = "no such context"
    name: str = ""
