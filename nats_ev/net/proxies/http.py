"""A tunnel through an HTTP proxy: CONNECT (RFC 9110, 9.3.6) with Basic (RFC 7617)."""

from __future__ import annotations

import re
from binascii import b2a_base64

from .errors import ProxyError
from .handshake import Handshake, Proxy, shown

# Bytes of an answer's header.
_MOST_HEADER = 16 * 1024
# The answer to CONNECT, and those before it that only say "wait" (100 to 199).
_MOST_ANSWERS = 10

_BLANK_LINE = re.compile(rb"\r?\n\r?\n")
_STATUS_LINE = re.compile(rb"HTTP/1\.[0-9] +([0-9]{3})(?: ([^\r\n]*))?\r?\n")
_MAGIC = b"HTTP/1."


class HttpConnect(Handshake):
    """CONNECT and the header of its answer."""

    kind = "an HTTP proxy"

    def __init__(self, proxy: Proxy, host: str, port: int) -> None:
        super().__init__(proxy, host, port)
        self._answers = 0

    def begin(self) -> bytes:
        """Return the request."""
        host = self.ascii_host()
        where = f"[{host}]:{self.port}" if ":" in host else f"{host}:{self.port}"
        lines = [f"CONNECT {where} HTTP/1.1", f"Host: {where}"]
        if self.proxy.user is not None:
            login = f"{self.proxy.user}:{self.proxy.password}".encode()
            encoded = b2a_base64(login, newline=False).decode()
            lines.append(f"Proxy-Authorization: Basic {encoded}")
        return "\r\n".join([*lines, "", ""]).encode()

    def receive(self, data: bytes) -> tuple[int, bytes]:
        """Take the bytes of the answer's header."""
        before = self.heard
        heard = before + data
        magic = heard[: len(_MAGIC)]
        if magic != _MAGIC[: len(magic)]:
            raise self.not_a_proxy(heard)
        # The blank line may have begun in what was taken before.
        end = _BLANK_LINE.search(heard, max(0, len(before) - 3))
        if (end.end() if end is not None else len(heard)) > _MOST_HEADER:
            raise self.error(f"the header of the proxy's answer exceeds {_MOST_HEADER} bytes")
        if end is None:
            self.heard = heard
            return len(data), b""
        self.heard = b""
        self._answered(heard[: end.end()])
        return end.end() - len(before), b""

    def _answered(self, header: bytes) -> None:
        found = _STATUS_LINE.match(header)
        if found is None:
            raise self.not_a_proxy(header)
        status = int(found[1])
        self._answers += 1
        if 200 <= status < 300:
            self.done = True
        elif status >= 200 or status == 101 or self._answers >= _MOST_ANSWERS:
            raise self._refused(status, shown(found[2] or b""))

    def _refused(self, status: int, reason: str) -> ProxyError:
        text = f"the proxy answered {status}{' ' if reason else ''}{reason}"
        if status in (401, 407):  # tinyproxy answers 401 to a wrong password
            known = self.proxy.user is not None
            hint = (
                "it refuses the user or the password" if known else "it wants a user and a password"
            )
            text += f": {hint}"
        return self.error(text, status)
