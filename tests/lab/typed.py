"""Whether a value is what a type says, as deep as the type goes: for results that are TypedDicts."""

from __future__ import annotations

import types
import typing
from collections.abc import Iterator
from typing import Any, Literal, get_args, get_origin


def misfits(value: Any, hint: Any, where: str = "") -> Iterator[str]:
    """Yield what in a value a type does not say: fields that are unknown, missing, or of another type."""
    origin = get_origin(hint)
    if hint is Any:
        return
    if origin in (typing.Union, types.UnionType):
        found = [list(misfits(value, each, where)) for each in get_args(hint)]
        yield from min(found, key=len)
    elif typing.is_typeddict(hint):
        yield from _fields(value, hint, where)
    elif origin is Literal:
        if value not in get_args(hint):
            yield f"{where} is {value!r}"
    elif origin is dict:
        for key, each in value.items():
            yield from misfits(each, get_args(hint)[1], f"{where}.{key}")
    elif origin is not None:  # a sequence
        if not isinstance(value, list):
            yield f"{where} is no list"
            return
        for number, each in enumerate(value):
            yield from misfits(each, get_args(hint)[0], f"{where}[{number}]")
    elif type(value) is not hint:
        yield f"{where} is a {type(value).__name__}, not {hint}"


def _fields(value: Any, hint: Any, where: str) -> Iterator[str]:
    if not isinstance(value, dict):
        yield f"{where} is a {type(value).__name__}, not {hint.__name__}"
        return
    hints = typing.get_type_hints(hint)
    for name in hint.__required_keys__ - value.keys():
        yield f"{where}.{name} is missing"
    for name, each in value.items():
        if name not in hints:
            yield f"{where}.{name} is unknown to {hint.__name__}"
        else:
            yield from misfits(each, hints[name], f"{where}.{name}")
