"""The trace of the wire: each frame of the protocol, in and out, as one line of text.

`Tracer` reads one direction of a connection and knows as much of the protocol as it needs for that. It keeps
a control line, and the beginning of a payload, never a whole one. What it can't read it shows as bytes, and
then reads no more: the client's own parser decides what is wrong.

Secrets: in CONNECT the password, the token, the JWT and the signature are masked; so are header values whose
name sounds like a secret. Payloads are shown, cut.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from .log import DEBUG, emit, printable

if TYPE_CHECKING:
    from logging import Logger

# Bytes of headers and payload that a line shows, and of a control line.
_MOST_SHOWN = 128
_MOST_LINE = 4096
# A control line that is longer is no line of the protocol: some megabytes of INFO are.
_MOST_KEPT = 16 * 1024 * 1024
_MASK = "***"
# What is secret in CONNECT.
_SECRETS = ("pass", "auth_token", "jwt", "sig")
_SECRET_NAME = re.compile(rb"(?i)auth|token|secret|passw|cookie|api-?key|jwt")
# How many of the last numbers of a control line are sizes.
_SIZED = {b"MSG": 1, b"PUB": 1, b"HMSG": 2, b"HPUB": 2}


class Tracer:
    """One direction of a connection: bytes in, lines out."""

    def __init__(self, emit: Callable[[str], object]) -> None:
        """Start at the beginning of a frame; emit is called with each line."""
        self._emit = emit
        self._line = bytearray()  # the beginning of a control line
        self._head = ""  # of the frame whose payload follows
        self._headers = 0  # bytes of headers of it
        self._size = 0  # bytes of headers and payload of it
        self._left = 0  # of them, and of the CRLF after them
        self._shown = bytearray()
        self._lost = False

    def feed(self, data: bytes) -> None:
        """Take what has been received, or sent."""
        at = 0
        while at < len(data) and not self._lost:
            if self._left:
                at += self._payload(data, at)
                continue
            end = data.find(b"\n", at)
            self._line += data[at : end + 1 if end >= 0 else len(data)]
            if end < 0:
                if len(self._line) > _MOST_KEPT:
                    self._lose()
                return
            at = end + 1
            line, self._line = bytes(self._line), bytearray()
            self._control(line.rstrip())

    def _payload(self, data: bytes, at: int) -> int:
        part = data[at : at + self._left]
        room = min(_MOST_SHOWN, self._size) - len(self._shown)
        if room > 0:
            self._shown += part[:room]
        self._left -= len(part)
        if not self._left:
            more = self._size - len(self._shown)
            shown, self._shown = bytes(self._shown), bytearray()
            # Headers are masked in what is shown of them: a value that is cut, too.
            masked = _without_secrets(shown[: self._headers])
            text = _escaped(masked + shown[self._headers :])
            self._emit(f"{self._head} '{text}'" + (f"… {more} B more" if more > 0 else ""))
        return len(part)

    def _control(self, line: bytes) -> None:
        verb, _, rest = line.partition(b" ")
        sizes = _SIZED.get(verb.upper())
        if sizes is not None:
            try:
                numbers = [int(number) for number in rest.split()[-sizes:]]
            except ValueError:
                numbers = []
            if len(numbers) != sizes or min(numbers) < 0:
                self._line += line
                self._lose()
                return
            self._head = _escaped(line)
            self._headers = numbers[0] if sizes == 2 else 0
            self._size = numbers[-1]
            self._left = self._size + 2
        elif verb.upper() == b"CONNECT":
            self._emit(f"CONNECT {_masked(rest)}")
        else:
            self._emit(_cut(line))

    def _lose(self) -> None:
        self._lost = True
        self._emit(
            f"{_cut(bytes(self._line))} (not the protocol; the trace of this direction ends)"
        )
        self._line = bytearray()


def _without_secrets(block: bytes) -> bytes:
    """Return the lines of a header block; the values whose names sound like a secret are masked."""
    lines = []
    for line in block.split(b"\r\n"):
        name, colon, _ = line.partition(b":")
        secret = colon and _SECRET_NAME.search(name) is not None
        lines.append(name + b": " + _MASK.encode() if secret else line)
    return b"\r\n".join(lines)


def _escaped(raw: bytes) -> str:
    """Return bytes as a text of one line."""
    return printable(raw.decode("utf-8", "backslashreplace"))


def _cut(line: bytes) -> str:
    more = len(line) - _MOST_LINE
    return _escaped(line[:_MOST_LINE]) + (f"… {more} B more" if more > 0 else "")


def _masked(raw: bytes) -> str:
    """Return the JSON of CONNECT without its secrets."""
    try:
        fields = json.loads(raw)
        for name in _SECRETS:
            if fields.get(name):
                fields[name] = _MASK
        return json.dumps(fields, separators=(",", ":"))
    except (ValueError, AttributeError):
        return _MASK


class Traced:
    """A stream of `net` whose bytes are traced. Everything else is that of the stream inside."""

    direct = False  # C must not read or write past it

    def __init__(self, stream: Any, logger: Logger) -> None:
        """Trace a stream that is at the beginning of a frame in both directions."""
        self._stream = stream
        self._in = Tracer(lambda line: emit(logger, DEBUG, "← %s", line))
        self._out = Tracer(lambda line: emit(logger, DEBUG, "→ %s", line))
        # What an interrupt in a handler of the logger has kept from the caller, for the next call.
        self._received: bytes | None = None
        self._taken = 0

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def recv(self) -> bytes | None:
        """As that of `transport.Stream`."""
        data = self._received
        if data is None:
            data = self._stream.recv()
            if data:
                self._received = data
                self._in.feed(data)
        self._received = None
        return data

    def send(self, data: Any) -> int:
        """As that of `transport.Stream`."""
        if self._taken == 0:
            taken: int = self._stream.send(data)
            if taken <= 0:
                return taken
            self._taken = taken
            self._out.feed(bytes(data[:taken]))
        taken, self._taken = self._taken, 0
        return taken
