"""Types and checks of what callers pass: callbacks, numbers, durations, mappings, payloads.

A check returns the value in the form in which the library keeps it. It raises TypeError for a wrong type and
`BadOptionsError` (a ValueError) for a wrong value; the text names the argument and shows what is wrong with
its value. Checks of one option alone are in `options`, those of subjects in `subjects`.
"""

from __future__ import annotations

import functools
import math
import os
import re
from collections.abc import Callable, Mapping
from datetime import timedelta
from types import FunctionType, GenericAlias, MethodType
from typing import TYPE_CHECKING, Any, TypeVar, cast

from .errors import BadOptionsError, NatsError

if TYPE_CHECKING:
    from typing_extensions import Unpack as Unpack  # every type checker brings it
else:
    try:
        from typing import Unpack
    except ImportError:  # Python 3.10

        class Unpack:
            """A stand-in for `typing.Unpack`, so that `typing.get_type_hints` works."""

            __class_getitem__ = classmethod(GenericAlias)


F = TypeVar("F", bound=Callable[..., Any])
T = TypeVar("T")
Payload = bytes | bytearray | memoryview | str | None
Milliseconds = float | timedelta
# An on_* callback; None: not set.
Hook = Callable[..., object] | None
# Called with (err) at the end of an operation without a result: err is None, or why it failed.
Done = Callable[[Any], object]
# Called with (result, err) at the end of an operation: one of the two is None.
Callback = Callable[[Any, NatsError | None], object]
# The same for a user, who is told the type of the result: ``ResultCallback[StreamInfo]``.
ResultCallback = Callable[[T | None, NatsError | None], object]


# What a callback is called with, as errors show it, and how many arguments these are.
Takes = tuple[str, int]
TAKES_NOTHING: Takes = ("", 0)
TAKES_ERR: Takes = ("err", 1)
TAKES_RESULT: Takes = ("result, err", 2)
TAKES_MESSAGE: Takes = ("subject, payload, reply, headers", 4)
TAKES_ANSWER: Takes = ("response, err, headers", 3)

# Options under the names of other clients, above all nats-py, and what they are called here.
OF_NATS_PY = {
    "allow_reconnect": "reconnect",
    "client_name": "name",
    "closed_cb": "on_disconnect",
    "credentials": "creds_file",
    "creds": "creds_file",
    "disconnected_cb": "on_disconnect",
    "discovered_server_cb": "on_discovered_servers",
    "dont_randomize": "randomize_servers",
    "error_cb": "on_error",
    "lame_duck_mode_cb": "on_lame_duck",
    "max_outstanding_pings": "max_pings_outstanding",
    "max_reconnects": "max_reconnect_attempts",
    "nkeys_seed": "nkey_seed_file",
    "no_echo": "echo",
    "on_close": "on_disconnect",
    "on_closed": "on_disconnect",
    "pass_": "password",
    "pending_size": "reconnect_buffer_size",
    "reconnect_time_wait": "reconnect_delay",
    "reconnect_wait": "reconnect_delay",
    "reconnected_cb": "on_reconnect",
    "timeout": "connect_timeout",
    "url": "servers",
    "user_creds": "creds_file",
    "user_credentials": "creds_file",
    "user_jwt_cb": "jwt_cb",
    "ws_connection_headers": "ws_headers",
}

# Of a code object: *args, a generator, a coroutine, an asynchronous generator.
_VARARGS, _LAZY = 0x04, 0x20 | 0x80 | 0x200


class Omitted:
    """The default of an argument for which None has a meaning of its own."""

    def __repr__(self) -> str:
        return "<omitted>"


def check_callback(cb: Any, name: str = "cb", takes: Takes | None = None) -> None:
    """Raise TypeError if cb can't be called, or not with these arguments.

    Args:
        cb: a plain function or a method is looked at; of others, such as a partial, nothing is known.
        name: of the argument.
        takes: None: any number of arguments.
    """
    if not callable(cb):
        raise TypeError(f"{name} must be callable, not {type(cb).__name__}")
    if takes is not None:
        _check_takes(cb, name, takes)


def check_object(thing: object, attribute: str, what: str) -> None:
    """Raise TypeError for an object of a face, and for one without an attribute.

    Args:
        thing: the object.
        attribute: the class that is wanted has it.
        what: the beginning of the error's text, as in "js must be a JetStream".
    """
    kind = type(thing)
    if hasattr(kind, "_original"):  # methods of a face take no callback
        raise TypeError(
            f"{what}, not a {kind.__name__} of {kind.__module__}: use that module's classes with it"
        )
    if not hasattr(thing, attribute):
        raise TypeError(f"{what}, not {kind.__name__}")


def check_result_cb(cb: Any) -> None:
    """Raise TypeError if cb can't be called as ``cb(result, err)``."""
    check_callback(cb, "cb", TAKES_RESULT)


def _check_takes(cb: Any, name: str, takes: Takes) -> None:
    wanted = takes[1]
    function = cb
    if type(cb) is MethodType:
        function = cb.__func__
        wanted += 1
    if type(function) is not FunctionType:
        return
    code = function.__code__
    if code.co_argcount == wanted and not code.co_kwonlyargcount and not code.co_flags & _LAZY:
        return
    where = f"{function.__qualname__}, {os.path.basename(code.co_filename)}:{code.co_firstlineno}"
    if code.co_flags & _LAZY:
        kind = "a generator function" if code.co_flags & 0x20 else "an async function"
        raise TypeError(
            f"{name} must be a plain function of ({takes[0]}): {where} is {kind}, which nobody would run"
        )
    least = code.co_argcount - len(function.__defaults__ or ())
    most = math.inf if code.co_flags & _VARARGS else code.co_argcount
    if code.co_kwonlyargcount > len(function.__kwdefaults__ or {}) or not least <= wanted <= most:
        raise TypeError(
            f"{name} is called with ({takes[0]}): {where} does not take {takes[1]} "
            f"argument{'s' if takes[1] != 1 else ''}"
        )


def takes_several(callback: Callable[..., object]) -> bool:
    """Return whether a callback takes more than one argument by position, as far as that can be seen."""
    import inspect  # most programs do not need it

    try:
        parameters = inspect.signature(callback).parameters.values()
    except (TypeError, ValueError):
        return True
    places = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    required = [each for each in parameters if each.kind in places and each.default is each.empty]
    return len(required) > 1 or any(each.kind is each.VAR_POSITIONAL for each in parameters)


def callable_or_none(value: Any, name: str, takes: Takes | None = None) -> Hook:
    """Return value if it is a callback or None, else raise TypeError; takes as for `check_callback`."""
    if value is not None:
        if not callable(value):
            raise TypeError(f"{name} must be callable or None, not {type(value).__name__}")
        if takes is not None:
            _check_takes(value, name, takes)
    return value  # type: ignore[no-any-return]


def hook_of(*names: str) -> Callable[[Any, str], Hook]:
    """Return the check of an option that is a callback with these arguments, or None."""
    takes = ", ".join(names), len(names)
    return lambda value, name: callable_or_none(value, name, takes)


def explained(**hints: str) -> Callable[[F], F]:
    """Decorate a function: a call that Python can't bind to its parameters gets a hint.

    Args:
        hints: by the parameter that Python's text names; "other" for any other call that can't be bound.
    """

    def decorate(function: F) -> F:
        @functools.wraps(function)
        def call(*args: Any, **kwargs: Any) -> Any:
            try:
                return function(*args, **kwargs)
            except TypeError as exc:
                if exc.__traceback__ is not None and exc.__traceback__.tb_next is None:
                    _add_hint(hints, exc)
                raise

        return cast(F, call)

    return decorate


def explained_in_c(**hints: str) -> Callable[[F], F]:
    """Do what `explained` does, for a `fast_method`: C asks for the hint, so that a call costs no more."""

    def decorate(function: F) -> F:
        function.__dict__["explain"] = functools.partial(_add_hint, hints)
        return function

    return decorate


def _add_hint(hints: Mapping[str, str], exc: TypeError) -> None:
    text = str(exc)
    found = (hint for name, hint in hints.items() if f"'{name}'" in text)
    hint = next(found, hints.get("other"))
    if hint is not None:
        exc.args = (f"{text}: {hint}",)


def optional_middle(opts: Any, cb: Any) -> tuple[Any, Any]:
    """Return (opts, cb), both checked, of a call whose caller may have left out opts."""
    if cb is None and callable(opts):
        opts, cb = None, opts
    check_callback(cb, "cb", TAKES_RESULT)
    if opts is not None and not isinstance(opts, Mapping):
        raise TypeError(f"options must be a mapping, not {type(opts).__name__}")
    return opts, cb


def integer(value: Any, name: str, least: int | None = None, most: int | None = None) -> int:
    """Return value if it is an int (not a bool) from least to most."""
    if isinstance(value, bool) or not isinstance(value, int):
        raise TypeError(f"{name} must be an int, not {type(value).__name__}")
    if (least is not None and value < least) or (most is not None and value > most):
        bound = f"{least} or more" if most is None else f"between {least} and {most}"
        raise BadOptionsError(f"{name} must be {bound}, not {shown_number(value)}")
    return value


def count(value: Any, name: str) -> int:
    """Return value if it is an int of 0 or more."""
    return integer(value, name, 0)


# The longest time in ms: a float holds every whole number up to it.
_LONGEST_MS = 2**53


def milliseconds(value: Any, name: str) -> float:
    """Return a duration in ms, given in ms or as a timedelta. It is finite and not negative."""
    if isinstance(value, timedelta):
        value = value / timedelta(milliseconds=1)
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise TypeError(f"{name} must be milliseconds or a timedelta, not {type(value).__name__}")
    # The bound also refuses infinity, and ints that no float can hold. NaN fails every comparison.
    if not 0 <= value <= _LONGEST_MS:
        raise BadOptionsError(f"{name} must be a time of 0 or more, not {shown_number(value)}")
    return value


def is_finite(value: float) -> bool:
    """Return whether a float can express a number. Ints beyond its range count as infinite."""
    try:
        return math.isfinite(value)
    except OverflowError:
        return False


def shown_number(value: float) -> str:
    """Return a number as an error shows it. Python refuses to print ints of more than 4,300 digits."""
    if isinstance(value, int) and value.bit_length() > 128:
        return f"a number of {value.bit_length()} bits"
    return str(value)


def age_ms(value: object) -> float:
    """Return a duration in ms that may be negative, given in ms or as a timedelta."""
    if isinstance(value, timedelta):
        return value.total_seconds() * 1000
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise TypeError(f"an age must be a number or a timedelta, not {type(value).__name__}")
    if not is_finite(value):
        raise BadOptionsError(f"an age must be finite, not {shown_number(value)}")
    return float(value)


def is_unicode(text: str) -> bool:
    """Return whether UTF-8 can express text, that is, whether text has no lone surrogates.

    An encoder would say so too, but by an exception that quotes the text, which may be a password.
    """
    return not any("\ud800" <= c <= "\udfff" for c in text)


def str_mapping(value: Any, name: str) -> dict[str, str]:
    """Return a copy of a mapping of str to str; None gives an empty dict. Raises TypeError."""
    if value is not None and not isinstance(value, Mapping):
        raise TypeError(f"{name} must be a mapping, not {type(value).__name__}")
    copy = dict(value or {})
    for key, item in copy.items():
        if not isinstance(key, str) or not isinstance(item, str):
            raise TypeError(f"{name} is str to str, not {key!r}: {item!r}")
    return copy


# What a URL's path and query may hold as they are.
URL_CHARACTERS = "/?:@!$&'()*+,;=-._~%"
# Names of HTTP's header lines that belong to the WebSocket handshake itself, or to a body.
_OF_THE_HANDSHAKE = frozenset(
    ("connection", "upgrade", "content-length", "transfer-encoding", "expect")
)
_HTTP_NAME = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_HTTP_VALUE = re.compile(r"[^\x00-\x08\x0a-\x1f\x7f]*")


def http_headers(value: Any, name: str) -> tuple[tuple[str, str], ...]:
    """Accept a mapping of HTTP headers, each with a str or several; return the lines, or () for None.

    No error shows a value: it may be a secret.
    """
    if value is None:
        return ()
    if not isinstance(value, Mapping):
        raise TypeError(f"{name} must be a mapping, not {type(value).__name__}")
    lines: list[tuple[str, str]] = []
    for key, found in value.items():
        if not isinstance(key, str):
            raise TypeError(f"{name}: names must be str, not {type(key).__name__}")
        if not _HTTP_NAME.fullmatch(key):
            raise BadOptionsError(f"{name}: {key!r} is no name of a header")
        if key.lower() in _OF_THE_HANDSHAKE or key.lower().startswith("sec-websocket-"):
            raise BadOptionsError(f"{name}: {key} is set by the client itself")
        for each in found if isinstance(found, (list, tuple)) else (found,):
            if not isinstance(each, str):
                raise TypeError(f"{name}: {key} must be str, not {type(each).__name__}")
            if not _HTTP_VALUE.fullmatch(each) or not is_unicode(each):
                raise BadOptionsError(f"{name}: {key} has a line break or a control character")
            lines.append((key, each.strip()))
    return tuple(lines)


def payload_bytes(payload: Payload, name: str = "payload") -> bytes:
    """Return the bytes to send for a payload, as a copy if the caller could change them later.

    Raises TypeError for what is not bytes-like, str or None, ValueError for a str with a lone surrogate
    that surrogateescape did not make.
    """
    if type(payload) is bytes:
        return payload
    if payload is None:
        return b""
    if isinstance(payload, str):
        try:
            # Not payload.encode, which a subclass may override.
            return str.encode(payload, "utf-8", "surrogateescape")
        except UnicodeEncodeError:
            raise ValueError(f"{name} has a lone surrogate, which UTF-8 can't express") from None
    try:
        return bytes(memoryview(payload))
    except TypeError:
        raise TypeError(
            f"{name} must be bytes-like, str or None, not {type(payload).__name__}"
        ) from None
