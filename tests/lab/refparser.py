"""The NATS protocol's server-to-client half, read from its description with regular expressions.

An oracle for the C parser: it takes the whole stream at once, keeps no state, and shares no idea with
the C code. Slow and short on purpose.

A stream gives events, and perhaps the offset of a frame that is wrong together with the names of all
that is wrong with it (which of several faults is reported first is the parser's affair). What an
unfinished frame may still become is not an error.
"""

from __future__ import annotations

import re
from typing import NamedTuple

INFO_BOUND = 1024 * 1024
ERR_BOUND = 64 * 1024
DELIVERY = len("HMSG ") + len("18446744073709551615 ")  # what delivery puts before the arguments

_VERBS = re.compile(rb"(MSG|HMSG|PING|PONG|\+OK|INFO|-ERR)(?=[ \t]|$)", re.IGNORECASE)
_NUMBER = re.compile(rb"[0-9]{1,20}")

Event = tuple[object, ...]


class Outcome(NamedTuple):
    """What a stream amounts to."""

    events: list[Event]
    offset: int | None  # of the frame that is wrong
    faults: frozenset[str]


class Wrong(Exception):
    """A frame that is no frame: the names of what is wrong with it."""

    def __init__(self, *faults: str) -> None:
        self.faults = frozenset(faults)


class Unfinished(Exception):
    """The stream ends before the frame does."""


def parse(stream: bytes, max_message: int, max_line: int = 1024 * 1024) -> Outcome:
    """All frames of the stream, to its end or to the first that is wrong."""
    events: list[Event] = []
    at = 0
    while at < len(stream):
        try:
            event, at = _frame(stream, at, max_message, max_line)
        except Unfinished:
            break
        except Wrong as wrong:
            return Outcome(events, at, wrong.faults)
        events.append(event)
    return Outcome(events, None, frozenset())


def _frame(stream: bytes, at: int, max_message: int, max_line: int) -> tuple[Event, int]:
    end = stream.find(b"\n", at)
    line = stream[at:] if end < 0 else stream[at:end]
    first = line[:1].upper()
    if not line or first not in b"MHP+I-":
        raise Wrong("UNKNOWN_VERB")
    bound = {b"I": INFO_BOUND, b"-": ERR_BOUND}.get(first, max_line + DELIVERY)
    if len(line.removesuffix(b"\r")) > bound:
        raise Wrong("LINE_TOO_LONG")
    if end < 0:
        raise Unfinished
    if not line.endswith(b"\r"):
        raise Wrong("BAD_LINE_END")
    line = line[:-1]
    verb = _VERBS.match(line)
    if verb is None:
        raise Wrong("UNKNOWN_VERB")
    name = verb[1].upper().decode()
    rest = line[verb.end() :]
    if name in ("MSG", "HMSG"):
        return _message(stream, end + 1, rest, name == "HMSG", max_message)
    if name in ("INFO", "-ERR"):
        text = rest.strip(b" \t")
        if name == "INFO" and not text:
            raise Wrong("BAD_ARGS")
        return (name.lstrip("-"), text), end + 1
    if rest.strip(b" \t"):
        raise Wrong("BAD_ARGS")
    return (name.lstrip("+"),), end + 1


def _message(
    stream: bytes, body: int, rest: bytes, has_headers: bool, max_message: int
) -> tuple[Event, int]:
    args = [arg for arg in re.split(rb"[ \t]+", rest) if arg]
    least = 4 if has_headers else 3
    if len(args) not in (least, least + 1):
        raise Wrong("BAD_ARGS")
    reply = args[2] if len(args) > least else b""
    sizes = args[-2:] if has_headers else [b"0", args[-1]]
    faults = set()
    if not _NUMBER.fullmatch(args[1]) or int(args[1]) >= 2**64:
        faults.add("BAD_SID")
    if not all(_NUMBER.fullmatch(size) for size in sizes):
        faults.add("BAD_SIZE")
    numbers = [int(size) for size in sizes if _NUMBER.fullmatch(size)]
    if any(number > max_message for number in numbers):
        faults.add("MESSAGE_TOO_LONG")
    if len(numbers) == 2 and numbers[0] > numbers[1]:
        faults.add("BAD_HEADER_SIZE")
    if faults:
        raise Wrong(*faults)
    header_size, size = numbers
    if len(stream) < body + size + 2:
        raise Unfinished
    if stream[body + size : body + size + 2] != b"\r\n":
        raise Wrong("BAD_PAYLOAD_END")
    sid = int(args[1])
    event = (
        "MSG",
        sid if sid < 2**31 else 0,
        args[0],
        reply,
        stream[body : body + header_size],
        stream[body + header_size : body + size],
    )
    return event, body + size + 2


# The other half: what a client sends, as a server reads it.

_COMMANDS = re.compile(rb"(PUB|HPUB|SUB|UNSUB|PING|PONG|CONNECT)(?=[ \t]|$)", re.IGNORECASE)


def parse_commands(stream: bytes) -> list[Event]:
    """All commands of a stream that must end with a whole one; raises `Wrong` otherwise.

    ("PUB", subject, reply, headers, payload), ("SUB", subject, queue, sid), ("UNSUB", sid, max_msgs),
    ("CONNECT", json), ("PING",), ("PONG",).
    """
    commands: list[Event] = []
    at = 0
    while at < len(stream):
        end = stream.find(b"\r\n", at)
        line = stream[at : max(at, end)]
        verb = _COMMANDS.match(line)
        if end < 0 or b"\n" in line or verb is None:
            raise Wrong("UNKNOWN_VERB")
        at = end + 2
        name = verb[1].upper().decode()
        args = [arg for arg in re.split(rb"[ \t]+", line[verb.end() :]) if arg]
        if name == "CONNECT":
            commands.append((name, line[verb.end() + 1 :]))
        elif name == "SUB" and len(args) in (2, 3):
            commands.append((name, args[0], args[1] if len(args) == 3 else b"", int(args[-1])))
        elif name == "UNSUB" and len(args) in (1, 2):
            commands.append((name, int(args[0]), int(args[1]) if len(args) == 2 else 0))
        elif name in ("PING", "PONG") and not args:
            commands.append((name,))
        elif name in ("PUB", "HPUB"):
            message, at = _published(args, stream, at, name == "HPUB")
            commands.append(message)
        else:
            raise Wrong("BAD_ARGS")
    return commands


def _published(args: list[bytes], stream: bytes, at: int, has_headers: bool) -> tuple[Event, int]:
    least = 3 if has_headers else 2
    if len(args) not in (least, least + 1):
        raise Wrong("BAD_ARGS")
    body = at + (int(args[-2]) if has_headers else 0)
    end = at + int(args[-1])
    if body > end or stream[end : end + 2] != b"\r\n":
        raise Wrong("BAD_PAYLOAD_END")
    reply = args[1] if len(args) > least else b""
    return ("PUB", args[0], reply, stream[at:body], stream[body:end]), end + 2
