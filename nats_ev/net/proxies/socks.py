"""A tunnel through a SOCKS5 proxy (RFC 1928), with user and password (RFC 1929).

Names are resolved by the proxy, with ``socks5://`` as with ``socks5h://``.
"""

from __future__ import annotations

import struct
from collections.abc import Callable

from .handshake import Handshake, Proxy

_VERSION, _LOGIN_VERSION = 5, 1
_NO_LOGIN, _LOGIN, _NO_METHOD = 0, 2, 0xFF
_CONNECT = 1
_IPV4, _NAME, _IPV6 = 1, 3, 4
_MOST_NAME = 255

_REPLIES = {
    1: "general failure",
    2: "the proxy's rules do not allow this connection",
    3: "network unreachable",
    4: "host unreachable",
    5: "connection refused",
    6: "TTL expired",
    7: "the proxy does not support CONNECT",
    8: "the proxy does not support this type of address",
}


class Socks5(Handshake):
    """Greeting, login if the proxy wants one, and CONNECT."""

    kind = "a SOCKS5 proxy"

    def __init__(self, proxy: Proxy, host: str, port: int) -> None:
        super().__init__(proxy, host, port)
        self._needs = 2  # bytes of the next answer, as far as it is known
        self._request = self._connect()
        self._step: Callable[[Socks5, bytes], bytes | None] = Socks5._greeted

    def begin(self) -> bytes:
        """Return the greeting: the ways to log in that the client knows."""
        methods = [_NO_LOGIN] if self.proxy.user is None else [_NO_LOGIN, _LOGIN]
        return bytes([_VERSION, len(methods), *methods])

    def receive(self, data: bytes) -> tuple[int, bytes]:
        """Take the bytes of the answers."""
        taken = 0
        says = b""
        while taken < len(data) and not self.done:
            part = data[taken : taken + self._needs - len(self.heard)]
            taken += len(part)
            self.heard += part
            if len(self.heard) < self._needs:
                break
            answer = self._step(self, self.heard)
            if answer is not None:  # the step is over
                self.heard = b""
                says += answer
        return taken, says

    def _greeted(self, heard: bytes) -> bytes:
        version, method = heard
        if version != _VERSION:
            raise self.not_a_proxy(heard)
        if method == _NO_LOGIN:
            return self._ask()
        if method == _LOGIN and self.proxy.user is not None:
            self._step = Socks5._logged_in
            user, password = self.proxy.user.encode(), self.proxy.password.encode()
            return b"".join(
                (bytes([_LOGIN_VERSION, len(user)]), user, bytes([len(password)]), password)
            )
        if method == _NO_METHOD:
            why = (
                "it wants a user and a password"
                if self.proxy.user is None
                else "it wants another way to log in"
            )
            raise self.error(f"the proxy refuses the client: {why}", method)
        raise self.error(
            f"the proxy wants a way to log in that is not known here ({method})", method
        )

    def _logged_in(self, heard: bytes) -> bytes:
        # Some proxies answer with 5 in place of the login's version.
        if heard[0] not in (_LOGIN_VERSION, _VERSION):
            raise self.not_a_proxy(heard)
        if heard[1]:
            raise self.error("the proxy refuses the user or the password", heard[1])
        return self._ask()

    def _ask(self) -> bytes:
        self._step = Socks5._connected
        return self._request

    def _connected(self, heard: bytes) -> bytes | None:
        """Take the answer to CONNECT: version, reply, 0, and an address, which says nothing to a client."""
        if heard[0] != _VERSION:
            raise self.not_a_proxy(heard)
        if heard[1]:
            why = _REPLIES.get(heard[1], "unknown reason")
            raise self.error(f"the proxy answered {heard[1]}: {why}", heard[1])
        if len(heard) < 5:
            self._needs = 5  # with the first byte of the address, which is a name's length
            return None
        sizes = {_IPV4: 4, _IPV6: 16, _NAME: 1 + heard[4]}
        if heard[3] not in sizes:
            raise self.not_a_proxy(heard)
        self._needs = 4 + sizes[heard[3]] + 2
        if len(heard) < self._needs:
            return None
        self.done = True
        return b""

    def _connect(self) -> bytes:
        """Return the request. The proxy resolves a name."""
        from ipaddress import ip_address

        host = self.ascii_host()
        head = bytes([_VERSION, _CONNECT, 0])
        port = struct.pack("!H", self.port)
        try:
            number = ip_address(host)
        except ValueError:
            name = host.encode()
            if len(name) > _MOST_NAME:
                raise self.error(f"a name of {len(name)} bytes is too long for SOCKS5") from None
            return head + bytes([_NAME, len(name)]) + name + port
        return head + bytes([_IPV4 if number.version == 4 else _IPV6]) + number.packed + port
