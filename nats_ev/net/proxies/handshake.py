"""What the handshakes with both kinds of proxy have in common."""

from __future__ import annotations

from typing import Protocol

from .errors import ProxyError

# Characters of what a proxy says that an error shows.
_MOST_SHOWN = 80


class Proxy(Protocol):
    """What a handshake needs to know of its proxy."""

    @property
    def scheme(self) -> str:
        """The kind: http, socks5 or socks5h."""

    @property
    def url(self) -> str:
        """The URL, without user and password."""

    @property
    def user(self) -> str | None:
        """Who the client is; None: it does not say."""

    @property
    def password(self) -> str:
        """The user's password."""


class Handshake:
    """The words that a client and a proxy exchange before a tunnel to a server stands.

    `begin` is what the client says first; `receive` takes what the proxy sends, and returns what the client
    says next. What follows the proxy's last word is the server's: it is not taken.
    """

    kind = ""  # of proxy, for errors

    def __init__(self, proxy: Proxy, host: str, port: int) -> None:
        self.proxy = proxy
        self.host = host
        self.port = port
        self.done = False
        self.heard = b""  # what the proxy has said in all, or since its last whole answer

    def begin(self) -> bytes:
        """Return what the client says first."""
        raise AssertionError

    def receive(self, data: bytes) -> tuple[int, bytes]:
        """Take what has been received.

        Args:
            data: not empty. What was not taken the last time comes again.

        Returns:
            How many bytes were taken, and what the client says now.

        Raises:
            ProxyError: the proxy refuses, or it is no proxy.
        """
        raise AssertionError

    def ended(self) -> ProxyError:
        """Return the error for a proxy that has closed the connection."""
        how = "in the middle of its answer" if self.heard else "without an answer"
        return self.error(f"the proxy has closed the connection {how}")

    def error(self, text: str, code: int = 0) -> ProxyError:
        """Return an error of the proxy."""
        return ProxyError(text, proxy=self.proxy.url, code=code)

    def not_a_proxy(self, sent: bytes) -> ProxyError:
        """Return the error for a peer that speaks another protocol."""
        return self.error(f"not {self.kind}: it sent {sent[: _MOST_SHOWN // 2]!r}")

    def ascii_host(self) -> str:
        """Return the server's name as the proxy gets it. Raises `ProxyError`."""
        if "%" in self.host:
            raise self.error("an IPv6 zone means nothing to a proxy")
        if self.host.isascii():
            return self.host
        try:
            return self.host.encode("idna").decode()
        except UnicodeError:
            raise self.error(f"invalid host name {self.host!r}") from None


def shown(text: bytes) -> str:
    """Return what a proxy says as an error shows it."""
    words = "".join(c if c.isprintable() else " " for c in text.decode("latin-1")).split()
    return " ".join(words)[:_MOST_SHOWN]
