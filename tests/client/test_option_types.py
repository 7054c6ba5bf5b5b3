"""`NatsOptions`, which type checkers and editors see, and `Options`, which the client obeys, are the same."""

from __future__ import annotations

import inspect
import ssl
import types
import typing
from collections.abc import Callable, Mapping, Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any, get_args, get_origin

import pytest

import nats_ev
from lab.jwts import Key
from nats_ev import BadOptionsError, Nats, aio, blocking, green, pyev
from nats_ev.faces import ConnectOptions
from nats_ev.options import NAMES, NatsOptions, Options

HINTS = typing.get_type_hints(NatsOptions)
# A value of each type. A callback is right for every option that takes one: its arguments are not looked at.
VALUES: dict[str, Any] = {
    "None": None,
    "bool": True,
    "int": 1,
    "float": 1.5,
    "str": "x",
    "bytes": b"x",
    "path": Path("x"),
    "timedelta": timedelta(seconds=1),
    "list of str": ["x"],
    "list of int": [1],
    "callback": print,
    "loop": pyev.Loop,
    "TLS context": ssl.SSLContext,
    "dict": {"x": 1},
    "dict of str": {"x": "y"},
}
# What the client accepts and no type promises: an int for a flag, any iterable for servers, a path as bytes.
LENIENT = {*((name, "int") for name, hint in HINTS.items() if bool in (hint, *get_args(hint)))}
LENIENT |= {
    ("servers", "dict"),
    ("servers", "dict of str"),
    ("creds_file", "bytes"),
    ("nkey_seed_file", "bytes"),
}
LENIENT |= {(name, "bytes") for name in HINTS if name.startswith("tls_") and name.endswith("_file")}


def value_of(name: str) -> Any:
    if name == "loop":
        return pyev.Loop()
    if name == "TLS context":
        return ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    return VALUES[name]


def fits(value: Any, hint: Any) -> bool:
    """Return whether a type checker would accept a value for a type of an option."""
    if hint is Any:  # an ssl.SSLContext, whose module is not loaded
        return isinstance(value, ssl.SSLContext)
    if get_origin(hint) in (typing.Union, types.UnionType):
        return any(fits(value, each) for each in get_args(hint))
    origin = get_origin(hint) or hint
    if origin is Callable or origin is typing.get_origin(Callable[[], object]):
        return value is print
    if origin is Sequence:
        (item,) = get_args(hint)
        return isinstance(value, list) and all(fits(each, item) for each in value)
    if origin is Mapping:
        key, item = get_args(hint)
        return isinstance(value, dict) and all(
            fits(k, key) and fits(v, item) for k, v in value.items()
        )
    if getattr(origin, "_is_protocol", False) and origin.__module__ == "nats_ev.loops":
        return isinstance(value, pyev.Loop)
    if origin is float:
        return isinstance(value, (int, float)) and not isinstance(value, bool)
    if origin is int:
        return type(value) is int
    return isinstance(value, origin)


def test_the_names_are_the_same() -> None:
    assert set(HINTS) == set(NAMES)
    assert set(typing.get_type_hints(ConnectOptions)) == set(NAMES) - {"loop", "servers"} | {
        "context"
    }
    assert not NatsOptions.__required_keys__


@pytest.mark.parametrize("name", NAMES)
def test_the_default_has_the_type(name: str) -> None:
    assert fits(getattr(Options, name), HINTS[name])


@pytest.mark.parametrize("name", NAMES)
def test_a_value_is_accepted_exactly_if_it_has_the_type(name: str) -> None:
    accepted, typed = set(), set()
    for kind in VALUES:
        value = value_of(kind)
        if fits(value, HINTS[name]):
            typed.add(kind)
        try:
            Options().set(name, value)
        except TypeError:
            continue
        except (BadOptionsError, nats_ev.NatsError):
            pass  # the type is right, and the value is not
        if (name, kind) not in LENIENT or kind in typed:
            accepted.add(kind)
    assert accepted == typed


def test_an_unknown_option_is_still_refused_with_the_name_that_was_meant() -> None:
    client: Any = Nats
    with pytest.raises(TypeError, match="unknown option 'reconect'; did you mean 'reconnect'"):
        client(reconect=True)


@pytest.mark.parametrize("face", [aio, green, blocking])
def test_every_face_says_its_options(face: Any) -> None:
    hints = typing.get_type_hints(face.connect)
    assert get_args(hints["options"]) == (ConnectOptions,)
    names = inspect.signature(face.connect).parameters
    assert not names.keys() & typing.get_type_hints(ConnectOptions).keys()


def test_the_client_says_its_options() -> None:
    assert get_args(typing.get_type_hints(Nats.__init__)["options"]) == (NatsOptions,)


def test_results_have_the_fields_that_their_types_say() -> None:
    nats = Nats(nkey_seed=Key("user").seed)
    assert set(nats.stats()) == set(nats_ev.client.Statistics.__annotations__)
    sid = nats.subscribe("a", lambda subject, payload, reply, headers: None)
    info = nats.subscription_info(sid)
    assert info is not None
    assert set(info) == set(nats_ev.client.SubscriptionInfo.__annotations__)
