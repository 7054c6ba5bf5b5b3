"""What each field of each kind of claims holds: for checks, and for the order of the JSON text.

The order and what is left out are those of nats-io/jwt v2, so that the same claims give the same text.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta
from typing import Any, NamedTuple

from ..times import nanoseconds
from .errors import JwtError

_INT64 = 1 << 63
_SHORTEST = 1_000_000  # ns: a smaller int was meant in another unit


class Struct(NamedTuple):
    """A dict with known fields.

    Attributes:
        fields: the shape of each, in their order.
        always: the fields that are written even when they are empty.
    """

    fields: dict[str, Any]
    always: frozenset[str] = frozenset()


class Each(NamedTuple):
    """A dict of any keys, whose values have one shape."""

    shape: Any


class Either(NamedTuple):
    """One of several shapes, the first that fits."""

    shapes: tuple[Any, ...]
    words: str


class Duration:
    """A time span: ns, or a `timedelta`."""


class Networks:
    """A list of networks; a text with commas between is read, too."""


# A shape is one of the above, str, int, bool, or a list with the shape of its items.
_STRINGS = [str]
_PERMISSION = Struct({"allow": _STRINGS, "deny": _STRINGS})
_PERMISSIONS = {
    "pub": _PERMISSION,
    "sub": _PERMISSION,
    "resp": Struct({"max": int, "ttl": Duration}, frozenset({"max", "ttl"})),
}
_BOTH_WAYS = frozenset({"pub", "sub"})
_USER_LIMITS = {
    **_PERMISSIONS,
    "src": Networks,
    "times": [Struct({"start": str, "end": str})],
    "times_location": str,
    "subs": int,
    "data": int,
    "payload": int,
    "bearer_token": bool,
    "proxy_required": bool,
    "allowed_connection_types": _STRINGS,
}
_GENERIC = {"tags": _STRINGS, "type": str, "version": int}
_INFO = {"description": str, "info_url": str}
_REVOCATIONS = Each(int)
_EXPORT = Struct(
    {
        "name": str,
        "subject": str,
        "type": str,
        "token_req": bool,
        "revocations": _REVOCATIONS,
        "response_type": str,
        "response_threshold": Duration,
        "service_latency": Struct(
            {"sampling": Either((int, str), 'an int or "headers"'), "results": str},
            frozenset({"sampling", "results"}),
        ),
        "account_token_position": int,
        "advertise": bool,
        "allow_trace": bool,
        **_INFO,
    }
)
_IMPORT = Struct(
    {
        "name": str,
        "subject": str,
        "account": str,
        "token": str,
        "to": str,
        "local_subject": str,
        "type": str,
        "share": bool,
        "allow_trace": bool,
    }
)
JETSTREAM_LIMITS = {
    "mem_storage": int,
    "disk_storage": int,
    "streams": int,
    "consumer": int,
    "max_ack_pending": int,
    "mem_max_stream_bytes": int,
    "disk_max_stream_bytes": int,
    "max_bytes_required": bool,
}
_LIMITS = Struct(
    {
        "subs": int,
        "data": int,
        "payload": int,
        "imports": int,
        "exports": int,
        "wildcards": bool,
        "disallow_bearer": bool,
        "conn": int,
        "leaf": int,
        **JETSTREAM_LIMITS,
        "tiered_limits": Each(Struct(JETSTREAM_LIMITS)),
    }
)
_SCOPE = Struct(
    {
        "kind": str,
        "key": str,
        "role": str,
        "template": Struct(_USER_LIMITS, _BOTH_WAYS),
        "description": str,
    },
    frozenset({"kind", "key", "role", "template", "description"}),
)

USER = Struct({**_USER_LIMITS, "issuer_account": str, **_GENERIC}, _BOTH_WAYS)
ACCOUNT = Struct(
    {
        "imports": [_IMPORT],
        "exports": [_EXPORT],
        "limits": _LIMITS,
        "signing_keys": [Either((str, _SCOPE), "a public key or a scope")],
        "revocations": _REVOCATIONS,
        "default_permissions": Struct(_PERMISSIONS, _BOTH_WAYS),
        "mappings": Each(
            [Struct({"subject": str, "weight": int, "cluster": str}, frozenset({"subject"}))]
        ),
        "authorization": Struct(
            {"auth_users": _STRINGS, "allowed_accounts": _STRINGS, "xkey": str}
        ),
        "trace": Struct({"dest": str, "sampling": int}),
        "cluster_traffic": str,
        **_INFO,
        **_GENERIC,
    },
    frozenset({"limits", "default_permissions"}),
)
OPERATOR = Struct(
    {
        "signing_keys": _STRINGS,
        "account_server_url": str,
        "operator_service_urls": _STRINGS,
        "system_account": str,
        "assert_server_version": str,
        "strict_signing_key_usage": bool,
        **_GENERIC,
    }
)
ACTIVATION = Struct({"subject": str, "kind": str, "issuer_account": str, **_GENERIC})
REQUEST = Struct(
    {
        "server_id": Struct(
            {
                "name": str, "host": str, "id": str, "version": str, "cluster": str,
                "tags": _STRINGS, "xkey": str,
            },
            frozenset({"name", "host", "id"}),
        ),
        "user_nkey": str,
        "client_info": Struct(
            {
                "host": str, "id": int, "user": str, "name": str, "tags": _STRINGS, "name_tag": str,
                "kind": str, "type": str, "mqtt_id": str, "nonce": str,
            }
        ),
        "connect_opts": Struct(
            {
                "jwt": str, "nkey": str, "sig": str, "auth_token": str, "user": str, "pass": str,
                "name": str, "lang": str, "version": str, "protocol": int,
            },
            frozenset({"protocol"}),
        ),
        "client_tls": Struct(
            {"version": str, "cipher": str, "certs": _STRINGS, "verified_chains": [_STRINGS]}
        ),
        "request_nonce": str,
        **_GENERIC,
    },
    frozenset({"server_id", "user_nkey", "client_info", "connect_opts"}),
)  # fmt: skip
RESPONSE = Struct({"jwt": str, "error": str, "issuer_account": str, **_GENERIC})
GENERIC = Struct({})

_WORDS = {
    Networks: "a list of networks",
    str: "str",
    int: "int",
    bool: "bool",
    Duration: "ns as int, or a timedelta",
}


def checked(value: Any, shape: Any, path: str, strict: bool = False) -> Any:
    """Return a copy of a value whose types are those of a shape. What is None is left out.

    Args:
        value: from JSON, or from a caller.
        shape: see above.
        path: what errors call it.
        strict: the value comes from a caller: an unknown field is an error, and so is a duration that seems
            to be in another unit.

    Raises:
        JwtError: a type is wrong.
    """
    if isinstance(shape, (Struct, Each)):
        if not isinstance(value, Mapping):
            raise _wrong(path, "a dict", value)
        return _checked_dict(value, shape, path, strict)
    if isinstance(shape, list):
        if not isinstance(value, (list, tuple)):
            raise _wrong(path, "a list", value)
        return [checked(each, shape[0], f"{path}[{i}]", strict) for i, each in enumerate(value)]
    if isinstance(shape, Either):
        for each in shape.shapes:
            if _fits(value, each):
                return checked(value, each, path, strict)
        raise _wrong(path, shape.words, value)
    if shape is Duration:
        return _checked_duration(value, path, strict)
    if shape is Networks:
        if isinstance(value, str):
            return [each.strip().lower() for each in value.split(",") if each.strip()]
        return checked(value, _STRINGS, path, strict)
    if not _fits(value, shape):
        raise _wrong(path, _WORDS[shape], value)
    if shape is int and not -_INT64 <= value < _INT64:
        raise JwtError(f"{path}: out of range")
    return value


def _checked_dict(
    value: Mapping[Any, Any], shape: Struct | Each, path: str, strict: bool
) -> dict[str, Any]:
    fields = shape.fields if isinstance(shape, Struct) else None
    found = {}
    for name, each in value.items():
        if not isinstance(name, str):
            raise JwtError(f"{path}: a field's name must be str, not {type(name).__name__}")
        inside = f"{path}.{name}" if path else name
        if fields is None:
            found[name] = checked(each, shape[0], inside, strict)
        elif name in fields:
            if each is not None:
                found[name] = checked(each, fields[name], inside, strict)
        elif strict and fields:
            raise JwtError(f"unknown field {inside}; there are {', '.join(fields)}")
        else:
            found[name] = each
    return found


def _checked_duration(value: Any, path: str, strict: bool) -> int:
    if isinstance(value, timedelta):
        value = nanoseconds(value)
    if not _fits(value, int):
        raise _wrong(path, _WORDS[Duration], value)
    if not -_INT64 <= value < _INT64:
        raise JwtError(f"{path}: out of range")
    if strict and 0 < value < _SHORTEST:
        raise JwtError(f"{path} is in ns, and {value} of these are too short: use a timedelta")
    return int(value)


def _fits(value: Any, shape: Any) -> bool:
    if shape is int:
        return isinstance(value, int) and not isinstance(value, bool)
    if isinstance(shape, list):
        return isinstance(value, (list, tuple))
    if isinstance(shape, Struct):
        return isinstance(value, Mapping)
    return isinstance(value, shape)


def _wrong(path: str, words: str, value: Any) -> JwtError:
    """Return the error for a value of a wrong type. The value itself may be a secret."""
    return JwtError(f"{path or 'claims'} must be {words}, not {type(value).__name__}")


def ordered(value: Any, shape: Any) -> Any:
    """Return a checked value in its order for JSON, without what is empty."""
    if isinstance(shape, Struct):
        written = {}
        for name, inner in shape.fields.items():
            if name in value or name in shape.always:
                each = ordered(value[name] if name in value else _empty(inner), inner)
                if each or name in shape.always:
                    written[name] = each
        rest = {name: value[name] for name in sorted(value) if name not in shape.fields}
        return {**written, **rest}
    if isinstance(shape, Each):
        return {name: ordered(value[name], shape.shape) for name in sorted(value)}
    if isinstance(shape, list):
        return [ordered(each, shape[0]) for each in value]
    if isinstance(shape, Either):
        fitting = next(each for each in shape.shapes if _fits(value, each))
        return ordered(value, fitting)
    return value


def _empty(shape: Any) -> Any:
    if isinstance(shape, (Struct, Each)):
        return {}
    if isinstance(shape, list):
        return []
    return 0 if shape is Duration else "" if isinstance(shape, Either) else shape()
