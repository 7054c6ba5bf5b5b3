"""`typing.get_type_hints` works on everything public: documentation tools, injectors and checkers use it."""

from __future__ import annotations

import importlib
import inspect
import typing
from collections.abc import Iterator
from typing import Any

import pytest

import nats_ev
from nats_ev.faces import rules
from nats_ev.faces.flow import BASES

FACES = ("aio", "green", "blocking")
MODULES = (
    "", "arguments", "asyncio_loop", "auth", "errors", "gevent_loop", "headers", "loops", "pyev",
    "testing.loop_conformance", "types",
)  # fmt: skip


def names_of(module: Any) -> list[str]:
    found = getattr(module, "__all__", None)
    return list(found) if found else [name for name in vars(module) if not name.startswith("_")]


def with_members(path: str, thing: Any) -> Iterator[tuple[str, Any]]:
    """Yield a function, or a class with its constructor, its public methods and its properties."""
    yield path, thing
    # To Python 3.10 list[int] is a class.
    for name in dir(thing) if inspect.isclass(thing) and not typing.get_origin(thing) else ():
        if name.startswith("_") and name != "__init__":
            continue
        member = inspect.getattr_static(thing, name)
        member = getattr(member, "__func__", getattr(member, "fget", member))
        if callable(member) and hasattr(member, "__annotations__"):
            yield f"{path}.{name}", member


def failures(path: str, thing: Any) -> list[str]:
    failed = []
    for where, each in with_members(path, thing):
        try:
            typing.get_type_hints(each)
        except Exception as exc:
            failed.append(f"{where}: {exc}")
    return failed


@pytest.mark.parametrize("dotted", MODULES)
def test_type_hints_of_everything_public_can_be_read(dotted: str) -> None:
    if dotted == "gevent_loop":
        pytest.importorskip("gevent")
    module = importlib.import_module(f"nats_ev.{dotted}" if dotted else "nats_ev")
    failed: list[str] = []
    for name in names_of(module):
        thing = getattr(module, name)
        if inspect.isclass(thing) or inspect.isroutine(thing):
            failed += failures(f"{module.__name__}.{name}", thing)
    assert not failed


@pytest.mark.parametrize("face", FACES)
def test_type_hints_of_a_face_can_be_read(face: str) -> None:
    if face == "green":
        pytest.importorskip("gevent")
    module = importlib.import_module(f"nats_ev.{face}")
    failed: list[str] = []
    for name in [*rules.HOMES, *BASES, *module.__all__]:
        failed += failures(f"nats_ev.{face}.{name}", getattr(module, name))
    assert not failed


def test_an_annotation_of_a_public_class_is_a_type() -> None:
    hints = typing.get_type_hints(nats_ev.KvEntry)
    assert hints["revision"] is int
    assert hints["created"].__name__ == "datetime"


def test_a_result_is_known() -> None:
    from nats_ev.types import ResultCallback, StreamInfo

    hints = typing.get_type_hints(nats_ev.JetStream.stream_info)
    assert ResultCallback[StreamInfo] in typing.get_args(hints["cb"]) or hints["cb"] == (
        ResultCallback[StreamInfo] | None
    )
