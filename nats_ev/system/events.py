"""What servers publish about themselves and their clients."""

from __future__ import annotations

import json
from datetime import datetime
from typing import Any, NamedTuple

from ..errors import ProtocolError
from ..times import parse_time

__all__ = ["SystemEvent", "decode_event"]

# kind → the subject; {} is an account or the id of a server.
SUBJECTS = {
    "connect": "$SYS.ACCOUNT.{}.CONNECT",
    "disconnect": "$SYS.ACCOUNT.{}.DISCONNECT",
    "connections": "$SYS.ACCOUNT.{}.SERVER.CONNS",
    "auth_error": "$SYS.SERVER.{}.CLIENT.AUTH.ERR",
    "statsz": "$SYS.SERVER.{}.STATSZ",
    "lame_duck": "$SYS.SERVER.{}.LAMEDUCK",
    "shutdown": "$SYS.SERVER.{}.SHUTDOWN",
}


class SystemEvent(NamedTuple):
    """An event, as `SystemClient.events` delivers it.

    kind is the one that was asked for; of is the account of connect, disconnect and connections, else the
    server's id. server describes the server, time is its time, or None. data is the whole event: client and
    reason of connect, disconnect and auth_error, statsz, conns.
    """

    kind: str
    of: str
    server: dict[str, Any]
    time: datetime | None
    subject: str
    data: dict[str, Any]


def decode_event(kind: str, subject: str, payload: bytes) -> SystemEvent:
    """Return the event in a message.

    Args:
        kind: of the subscription.
        subject: the message's subject.
        payload: the event's JSON.

    Raises:
        ProtocolError: the payload is not an event.
    """
    try:
        data = json.loads(payload)
    except (ValueError, RecursionError):
        data = None
    tokens = subject.split(".")
    if not isinstance(data, dict) or len(tokens) < 3:
        raise ProtocolError(f"not an event: the message on {subject} is not a JSON object")
    server = data.get("server")
    if server is None and "id" in data:  # a server that ends sends no more than its description
        server = data
    if not isinstance(server, dict):
        raise ProtocolError(f"not an event: the message on {subject} names no server")
    stamp = data.get("timestamp") or server.get("time")
    try:
        time = parse_time(stamp) if stamp else None
    except (ValueError, TypeError):
        time = None
    return SystemEvent(kind, tokens[2], server, time, subject, data)
