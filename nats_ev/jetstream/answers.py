"""What a server or another client has sent, made into values: the one place where that is done.

Nothing about an answer is certain. Another client may answer in the server's place, and a publisher may
store what looks like another client's data. So every answer takes the same way to a user's callback:

1. `decode` makes an object of JSON, or an error: the error in the answer, or `InvalidAnswerError`.
2. A *shape* says of which types the fields are that this package reads, or promises to its users.
   `check_shape` refuses other types. So the code after it asks only whether a field is there.
3. `attempt` converts what is left to convert, and `converted` makes a callback of such a conversion. All that
   a conversion may raise because its input is odd becomes `InvalidAnswerError`.

A conversion calls no callback of a user: so what a user's callback raises is never taken for an odd answer.
No I/O.
"""

from __future__ import annotations

import json
import reprlib
from collections.abc import Callable, Mapping
from typing import Any, NoReturn, TypeVar

from ..arguments import Callback, is_finite, is_unicode
from ..errors import NatsError
from ..redact import drop_frames
from ..steps import later_step
from .errors import APIError, InvalidAnswerError

T = TypeVar("T")

# What a conversion raises because of its input. MemoryError and what ends a program are not among them.
MALFORMED = (
    ArithmeticError, AssertionError, AttributeError, LookupError, RecursionError, TypeError, ValueError,
)  # fmt: skip

# A shape is a type (int: a whole number that 64 bits can hold; str: text that UTF-8 can express; bool), a
# list with the shape of its items, or a dict: field → shape. A field with "!" at its end must be there, "*"
# stands for all fields. A null is a field that is missing.
Shape = Any

_SOURCE: Shape = {"name": str, "external": {"api": str, "deliver": str}}
CONFIG: Shape = {
    **dict.fromkeys(("name", "description", "storage", "retention", "discard", "compression"), str),
    **dict.fromkeys(("max_age", "max_bytes", "max_msgs", "max_msg_size", "max_consumers"), int),
    **dict.fromkeys(("max_msgs_per_subject", "num_replicas", "duplicate_window"), int),
    "subject_delete_marker_ttl": int,
    **dict.fromkeys(("sealed", "allow_direct", "allow_msg_ttl", "deny_delete"), bool),
    **dict.fromkeys(("durable_name", "deliver_subject", "deliver_group", "deliver_policy"), str),
    **dict.fromkeys(("ack_policy", "filter_subject"), str),
    **dict.fromkeys(("idle_heartbeat", "ack_wait", "inactive_threshold", "opt_start_seq"), int),
    "subjects": [str],
    "filter_subjects": [str],
    "metadata": {"*": str},
    "mirror": _SOURCE,
    "sources": [_SOURCE],
}
_SEQUENCES: Shape = {"consumer_seq": int, "stream_seq": int}
# The info of a stream or a consumer, and the short answers: no field means two things in them.
INFO: Shape = {
    "config": CONFIG,
    "state": {
        **dict.fromkeys(("messages", "bytes", "first_seq", "last_seq", "consumer_count"), int),
        "subjects": {"*": int},
        "deleted": [int],
    },
    **dict.fromkeys(("name", "stream_name", "created", "pause_until"), str),
    **dict.fromkeys(("total", "offset", "limit", "num_pending", "num_ack_pending"), int),
    **dict.fromkeys(("num_waiting", "num_redelivered", "purged", "reset_seq"), int),
    **dict.fromkeys(("success", "paused", "push_bound", "did_create"), bool),
    "delivered": _SEQUENCES,
    "ack_floor": _SEQUENCES,
    "cluster": {},
}
STORED: Shape = {**INFO, "config!": CONFIG}
CREATED: Shape = {**INFO, "num_pending!": int}  # a consumer from which an engine will read
ACCOUNT: Shape = {
    **dict.fromkeys(("memory", "storage", "streams", "consumers"), int),
    "limits": {},
    "tiers": {"*": {}},
    "api": {"level": int, "total": int, "errors": int},
}
MESSAGE: Shape = {
    "message!": {"subject!": str, "seq!": int, "time": str, "data": str, "hdrs": str},
}
ACK: Shape = {
    "stream!": str, "seq!": int, "duplicate": bool, "domain": str, "batch": str, "count": int, "val": str,
}  # fmt: skip
EVENT: Shape = {
    "type!": str, "timestamp!": str, "id": str, "stream": str, "consumer": str,
}  # fmt: skip
_ERROR: Shape = {"code": int, "err_code": int, "description": str}

_LEAST, _MOST = -(2**63), 2**64 - 1


def check_shape(value: object, shape: Shape, name: str = "") -> None:
    """Raise `InvalidAnswerError`, which names the field, if a value does not have the shape.

    Args:
        value: what the JSON has become.
        shape: see above; its depth bounds the recursion.
        name: of the value, for the error's text; "" for the whole answer.
    """
    if isinstance(shape, dict):
        if not isinstance(value, dict):
            _refuse(name, value, "an object")
        for field, inner in shape.items():
            if field == "*":
                for key, item in value.items():
                    check_shape(item, inner, f"{name}.{key}")
                continue
            wanted = field.removesuffix("!")
            item = value.get(wanted)
            if item is not None:
                check_shape(item, inner, f"{name}.{wanted}" if name else wanted)
            elif wanted != field:
                raise InvalidAnswerError(
                    f"invalid answer: {name}{'.' if name else ''}{wanted} is missing"
                )
    elif isinstance(shape, list):
        if not isinstance(value, list):
            _refuse(name, value, "a list")
        for number, item in enumerate(value):
            check_shape(item, shape[0], f"{name}[{number}]")
    elif (
        type(value) is not shape
        or (shape is int and not _LEAST <= value <= _MOST)  # type: ignore[operator]
        or (shape is str and not is_unicode(value))  # type: ignore[arg-type]
    ):
        _refuse(name, value, _NAMES[shape])


_NAMES = {int: "a whole number", str: "text", bool: "true or false"}


def _refuse(name: str, value: object, wanted: str) -> NoReturn:
    what = f"{name} is {reprlib.repr(value)}, " if name else ""
    raise InvalidAnswerError(f"invalid answer: {what}not {wanted}")


def read_json(data: bytes, shape: Shape) -> dict[str, Any]:
    """Return the object in a JSON text, which has the shape.

    Control characters in texts are taken as they are: nats.c stores names of objects so.

    Raises:
        InvalidAnswerError: data is not JSON, or not an object of this shape.
    """
    try:
        value = _DECODER.decode(data.decode())
    except MALFORMED as exc:
        raise InvalidAnswerError(f"invalid answer: {_reason(exc)}") from None
    check_shape(value, shape)
    return value  # type: ignore[no-any-return]


def _finite(text: str) -> float:
    """Return a number; raise ValueError for one that is too large: it could not be sent back as JSON."""
    number = float(text)
    if not is_finite(number):
        raise ValueError(f"{text} is no number that a float can hold")
    return number


def _no_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not JSON")


# One for all answers: `json.loads` with options would make one for each.
_DECODER = json.JSONDecoder(strict=False, parse_float=_finite, parse_constant=_no_constant)


def decode(data: bytes, shape: Shape = INFO) -> tuple[dict[str, Any] | None, NatsError | None]:
    """Return an API answer as ``(result, err)``: the answer, the error in it, or `InvalidAnswerError`."""
    return attempt(_decode, data, shape)


def _decode(data: bytes, shape: Shape) -> dict[str, Any]:
    answer = read_json(data, {})
    error = answer.get("error")
    if error:
        raise api_error(error)
    check_shape(answer, shape)
    return answer


def api_error(error: object) -> APIError:
    """Return the exception for an answer's ``error``. Raises `InvalidAnswerError` if it is malformed."""
    if not isinstance(error, dict):
        error = {"description": error}
    check_shape(error, _ERROR, "error")
    return APIError.of({name: value for name, value in error.items() if value is not None})


def attempt(
    convert: Callable[..., T], *args: Any, what: str = "answer"
) -> tuple[T, None] | tuple[None, NatsError]:
    """Return ``(convert(*args), None)``, or ``(None, err)`` with what it has raised about its input.

    Args:
        convert: calls no callback of a user.
        args: passed to convert.
        what: what is converted, for the text of `InvalidAnswerError`.
    """
    try:
        return convert(*args), None
    except MALFORMED as exc:
        return None, InvalidAnswerError(f"invalid {what}: {_reason(exc)}")
    except NatsError as exc:
        drop_frames(exc)  # they would hold args, and with them a user's callback
        return None, exc


def converted(convert: Callable[[Any], object], cb: Callback) -> Callback:
    """Return a callback for an answer that gives ``convert(answer)`` to cb, or an error.

    Args:
        convert: see `attempt`.
        cb: ``cb(result, err)``.
    """

    def answered(answer: Any, error: NatsError | None) -> None:
        if error is not None:
            cb(None, error)
        else:
            cb(*attempt(convert, answer))

    return answered


def later_request(step: Callable[[], object], cb: Callback) -> None:
    """Call a later step of an operation; give cb what the step raises.

    The caller of the operation has returned by then, so raising would reach the event loop. The step may be
    made of a former answer: what it raises because that is odd becomes `InvalidAnswerError`.

    Args:
        step: sends requests, and calls no callback of a user.
        cb: ``cb(None, err)``.
    """
    try:
        later_step(step)
    except NatsError as exc:
        cb(None, exc)
    except MALFORMED as exc:
        cb(None, InvalidAnswerError(f"invalid answer: {_reason(exc)}"))


def whole(text: str | None) -> int | None:
    """Return the number in a header's value; None: it is missing, negative, or none that 64 bits can hold."""
    if text is None or not (text.isascii() and text.isdigit() and len(text) <= 20):
        return None
    number = int(text)
    return number if number <= _MOST else None


def part(answer: Mapping[str, Any], name: str) -> dict[str, Any]:
    """Return an object in an answer; {} when it is missing."""
    found = answer.get(name)
    return found if isinstance(found, dict) else {}


def _reason(exc: BaseException) -> str:
    """Return what a conversion has found wrong, for people."""
    if isinstance(exc, KeyError):
        return f"{exc.args[0]} is missing"
    if isinstance(exc, RecursionError):
        return "nested too deeply"
    return str(exc) or type(exc).__name__
