"""The HTTP request that asks for a WebSocket connection, and its answer. No socket, no loop."""

from __future__ import annotations

import base64
import hashlib
import os
import re
from collections.abc import Iterable

from .errors import Fault, WebSocketError

_GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
_DEFLATE = "permessage-deflate; server_no_context_takeover; client_no_context_takeover"
_NO_MASKING = "nats-no-masking"
# Bytes of an answer's header, and of the line that an error shows.
MOST_HEADER = 64 * 1024
_MOST_SHOWN = 60
_STATUS = re.compile(rb"HTTP/1\.1 ([0-9]{3})(?: ([^\r\n]*))?")
_NAME = re.compile(rb"[!#$%&'*+.^_`|~0-9A-Za-z-]+")


def refused(text: str, status: int | None = None) -> Fault:
    """Return what to raise for an answer that does not grant the connection."""
    return Fault(WebSocketError(f"WebSocket handshake failed: {text}", status=status))


class Upgrade:
    """One request and its answer.

    Attributes:
        deflate: whether the server has agreed to permessage-deflate.
        masked: whether the server wants masked frames.
    """

    def __init__(
        self,
        host: str,
        target: str,
        headers: Iterable[tuple[str, str]],
        compression: bool,
    ) -> None:
        """Prepare a request.

        Args:
            host: as the header Host has it; headers may replace it.
            target: path and query, percent-encoded.
            headers: of the user's, checked by `arguments.http_headers`.
            compression: offer permessage-deflate.
        """
        self._offered = compression
        self._key = base64.b64encode(os.urandom(16))
        self._answer = b""
        self.deflate = False
        self.masked = True
        headers = tuple(headers)
        own = {name.lower() for name, _ in headers}
        lines = [f"GET {target} HTTP/1.1"]
        if "host" not in own:
            lines.append(f"Host: {host}")
        lines += ["Upgrade: websocket", "Connection: Upgrade"]
        lines += [f"Sec-WebSocket-Key: {self._key.decode()}", "Sec-WebSocket-Version: 13"]
        if _NO_MASKING not in own:
            lines.append("Nats-No-Masking: true")
        # A user who sends another value wants masks, for what inspects the traffic on the way.
        self._may_bare = all(v == "true" for name, v in headers if name.lower() == _NO_MASKING)
        if compression:
            lines.append(f"Sec-WebSocket-Extensions: {_DEFLATE}")
        lines += [f"{name}: {value}" for name, value in headers]
        self.request = "\r\n".join([*lines, "", ""]).encode("utf-8")

    def feed(self, data: bytes) -> bytes | None:
        """Take a part of the answer. Return the bytes after it when it is complete, else None.

        Raises `Fault`.
        """
        searched = max(0, len(self._answer) - 3)
        self._answer += data
        end = self._answer.find(b"\r\n\r\n", searched)
        if len(self._answer if end < 0 else self._answer[:end]) > MOST_HEADER:
            raise refused(f"the answer's header is longer than {MOST_HEADER} bytes")
        if end < 0:
            start = b"HTTP/1.1 "
            if self._answer[: len(start)] != start[: len(self._answer)]:
                raise self._no_http()
            return None
        head, rest = self._answer[:end], self._answer[end + 4 :]
        self._answer = b""
        self._read(head)
        return rest

    def ended(self) -> Fault:
        """Return what to raise when the connection ends before the answer is complete."""
        when = "in the middle of" if self._answer else "before"
        return refused(f"the server has closed the connection {when} its answer")

    def _no_http(self) -> Fault:
        line = self._answer.split(b"\r\n", 1)[0][:_MOST_SHOWN]
        hint = ""
        if line.startswith(b"INFO "):
            line, hint = b"INFO", ", as the port for nats:// does"
        elif line.startswith(b"GET "):  # our own request, whose query may be secret
            line, hint = b"GET", "; does it only repeat what it gets?"
        elif line[:1] in (b"\x15", b"\x16"):
            hint = "; is it a port for wss://?"
        return refused(f"the server's answer is not HTTP/1.1: it begins with {line!r}{hint}")

    def _read(self, head: bytes) -> None:
        first, *lines = head.split(b"\r\n")
        found = _STATUS.fullmatch(first)
        if found is None:
            self._answer = first
            raise self._no_http()
        status = int(found[1])
        fields: dict[str, list[str]] = {}
        for line in lines:
            name, colon, value = line.partition(b":")
            if not colon or not _NAME.fullmatch(name):
                raise refused("a header line of the answer has no name", status)
            fields.setdefault(name.decode().lower(), []).append(value.decode("latin-1").strip())
        if status != 101:
            raise _not_granted(status, (found[2] or b"").decode("latin-1"), "location" in fields)
        self._check(fields)

    def _check(self, fields: dict[str, list[str]]) -> None:
        if ",".join(fields.get("upgrade", ())).lower() != "websocket":
            raise refused("the answer's Upgrade is not websocket", 101)
        if "upgrade" not in _tokens(fields.get("connection", ())):
            raise refused("the answer's Connection is not Upgrade", 101)
        digest = hashlib.sha1(self._key + _GUID, usedforsecurity=False).digest()
        if fields.get("sec-websocket-accept") != [base64.b64encode(digest).decode()]:
            raise refused("the answer's Sec-WebSocket-Accept is wrong", 101)
        if fields.get("sec-websocket-protocol"):
            raise refused("the server has chosen a subprotocol that nobody has offered", 101)
        self.deflate = self._agreed(fields.get("sec-websocket-extensions", ()))
        self.masked = not self._may_bare or fields.get(_NO_MASKING) != ["true"]

    def _agreed(self, extensions: Iterable[str]) -> bool:
        """Return whether the server deflates. Raises `Fault` for what was not offered."""
        joined = ",".join(extensions)
        if not joined:
            return False
        name, *parameters = (part.strip().lower() for part in joined.split(";"))
        if not self._offered or name != "permessage-deflate" or "," in joined:
            raise refused("the server has chosen an extension that was not offered", 101)
        needed = {"server_no_context_takeover", "client_no_context_takeover"}
        # A smaller window of the server is one that ours can read.
        others = [p for p in parameters if not p.startswith("server_max_window_bits")]
        if set(others) != needed or len(others) != len(needed):
            raise refused("the server's permessage-deflate is not the one that was offered", 101)
        return True


def _tokens(values: Iterable[str]) -> list[str]:
    return [token.strip().lower() for value in values for token in value.split(",")]


def _not_granted(status: int, reason: str, located: bool) -> Fault:
    shown = "".join(c for c in reason if c.isprintable())[:_MOST_SHOWN]
    text = f"the server answers {status}" + (f" {shown}" if shown else "")
    if 300 <= status < 400 or located:
        text += ", a redirect, which is not followed"
    return refused(text, status)
