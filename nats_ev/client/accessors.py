"""The methods of `Nats` that only read or set something.

An accessor called without an argument returns the current value; with one it sets it, with the
checks that the option of the same name has.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, cast

from ..arguments import Milliseconds, Omitted
from ..connection import Connection
from ..errors import NatsError
from ..options import Options
from ..protocol import Outbound
from ..redact import without_traceback
from .requests import Requests

Hook = Callable[[], object] | None

_READ = cast(Any, Omitted())


@dataclass(slots=True)
class Counts:
    """The counters at the last `reset_stats`."""

    msgs_in: int = 0
    bytes_in: int = 0
    msgs_out: int = 0
    bytes_out: int = 0
    written: int = 0
    discarded: int = 0
    reconnects: int = 0


class Accessors:
    """See the module's docstring."""

    _options: Options
    _connection: Connection
    _requests: Requests
    _out: Outbound
    _zero: Counts

    def _option(self, name: str, value: Any) -> Any:
        if value is not _READ:
            self._options.set(name, value)
            self._connection.option_changed(name)
        return getattr(self._options, name)

    # Callbacks: None clears.

    def on_error(self, cb: Callable[[NatsError], object] | None = _READ) -> Any:
        """``cb(err)``: anything that went wrong on the network, a `NatsError`.

        Unset: raised out of a loop callback, when all is settled. `nats_ev.pyev` gives that to
        `sys.excepthook`, or, with the loop's ``debug``, lets it come out of ``start()``.
        """
        return self._option("on_error", cb)

    def on_connect(self, cb: Hook = _READ) -> Any:
        """``cb()`` at the end of each handshake."""
        return self._option("on_connect", cb)

    def on_disconnect(self, cb: Hook = _READ) -> Any:
        """``cb()`` when a connection has ended, before the first attempt to make a new one."""
        return self._option("on_disconnect", cb)

    def on_reconnect(self, cb: Hook = _READ) -> Any:
        """``cb()`` behind `on_connect`, from the second connection on."""
        return self._option("on_reconnect", cb)

    def on_lame_duck(self, cb: Hook = _READ) -> Any:
        """``cb()`` once per connection whose server announces its shutdown (INFO ``ldm``)."""
        return self._option("on_lame_duck", cb)

    def on_discovered_servers(self, cb: Callable[[list[str]], object] | None = _READ) -> Any:
        """``cb(urls)``: servers of the cluster that were not known before."""
        return self._option("on_discovered_servers", cb)

    def on_slow_consumer(self, cb: Callable[[int], object] | None = _READ) -> Any:
        """``cb(pending_bytes)``: see `slow_consumer`, which sets it with the threshold."""
        return self._option("on_slow_consumer", cb)

    def slow_consumer(
        self, bytes_threshold: int, cb: Callable[[int], object] | None = None
    ) -> None:
        """``cb(pending_bytes)`` once each time the unsent bytes rise above the threshold; 0: off."""
        self._options.set_all({"slow_consumer_bytes": bytes_threshold, "on_slow_consumer": cb})
        self._connection.option_changed("slow_consumer_bytes")

    # Settings.

    def connect_timeout(self, ms: Milliseconds = _READ) -> Any:
        """Milliseconds from name resolution to the handshake's PONG; 0: none. For the next attempt."""
        return self._option("connect_timeout", ms)

    def ping_interval(self, ms: Milliseconds = _READ) -> Any:
        """Milliseconds between keep-alive PINGs; 0: none."""
        return self._option("ping_interval", ms)

    def max_pings_outstanding(self, num: int = _READ) -> Any:
        """Unanswered PINGs that a connection survives."""
        return self._option("max_pings_outstanding", num)

    def priority(self, num: int = _READ) -> Any:
        """Priority of the socket's watchers, -2 to 2. For the next connection."""
        return self._option("priority", num)

    def keepalive(self, seconds: int = _READ) -> Any:
        """TCP keep-alive: seconds of idleness before the first probe; 0: off. For the next connection."""
        return self._option("keepalive", seconds)

    def reconnect(
        self,
        enable: bool,
        delay_ms: Milliseconds | None = None,
        max_attempts: int | None = None,
    ) -> None:
        """Configure reconnection; what is omitted stays as it is.

        delay_ms: before another round over the servers, in ms; it doubles each time. max_attempts:
        failures in a row before giving up; 0: unlimited. Switched off while it waits for the next
        attempt, there is none, and what is pending gets ``disconnected``.
        """
        given = {"reconnect_delay": delay_ms, "max_reconnect_attempts": max_attempts}
        given = {name: value for name, value in given.items() if value is not None}
        self._options.set_all({"reconnect": enable, **given})
        self._connection.option_changed("reconnect")

    def reconnect_enabled(self) -> bool:
        """Whether a lost connection is made anew."""
        return self._options.reconnect

    def max_payload(self, limit: int = _READ) -> int:
        """Bytes that a message's headers and payload may have.

        The smaller one of what the server said and of limit, which survives the next INFO. 0 removes
        the own limit.
        """
        if limit is not _READ:
            self._option("max_payload", limit)
        return self._out.limits.max_payload

    @without_traceback
    def creds_file(self, path: str) -> None:
        """Take JWT and NKey seed from a credentials file, which each new connection reads anew.

        They replace those of `jwt` and `nkey_seed`. Raises `BadOptionsError` when a block is missing, or
        when the file can't be read (then it is an OSError, too). Warns once if others can read it.
        """
        self._options.set_all({"creds_file": path, "jwt": None, "nkey_seed": None})

    @without_traceback
    def nkey_seed(self, seed: str) -> None:
        """The NKey seed ("SU…") that signs the server's nonce, for the next connection.

        Wins over that of a credentials file. Raises `BadOptionsError` for what is no seed.
        """
        self._options.set("nkey_seed", seed)

    @without_traceback
    def jwt(self, token: str) -> None:
        """The user JWT, for the next connection. Wins over that of a credentials file."""
        self._options.set("jwt", token)

    def tls(self, enable: bool, ca_file: str | None = None, skip_verify: bool = False) -> None:
        """Configure TLS, for the next connection.

        ca_file: whom to trust, instead of the system's authorities. skip_verify: do not look at the
        server's certificate at all. A ``tls_context`` given before counts no more.
        """
        self._options.set_all(
            {
                "tls": enable,
                "tls_ca_file": ca_file,
                "tls_skip_verify": skip_verify,
                "tls_context": None,
            }
        )
        self._connection.option_changed("tls")

    # State.

    def server_info(self) -> str | None:
        """The latest INFO's JSON text; None before the first."""
        info = self._connection.info
        return info.raw if info is not None else None

    def client_id(self) -> int | None:
        """The number that the server gave to this connection; None without one."""
        info = self._connection.info
        return info.client_id if info is not None and self._connection.connected else None

    def client_ip(self) -> str | None:
        """This client's address as the server sees it; None without a connection."""
        info = self._connection.info
        return info.client_ip if info is not None and self._connection.connected else None

    def connected_url(self) -> str | None:
        """The URL, without credentials, of the server that the client is connected to, or None."""
        server = self._connection.pool.current
        return server.url if server is not None and self._connection.connected else None

    def servers(self) -> list[str]:
        """URLs of all known servers, discovered ones included, in the order of the next attempts."""
        return self._connection.pool.urls

    def discovered_servers(self) -> list[str]:
        """Those of `servers` that the cluster has told of."""
        return self._connection.pool.discovered_urls

    def waiting_count(self) -> int:
        """Messages that wait for a connection: published while there is none, or taken back.

        0 while connected; what the socket has not yet taken then is ``stats()["waiting"]``.
        """
        if self._connection.connected:
            return 0
        self._requests.purge()
        return cast(int, self._out.accounting().waiting)

    def skip_waiting(self) -> None:
        """Drop all messages that wait for a connection; queued requests fail with ``disconnected``."""
        if not self._connection.connected:
            self._out.drop_messages()
            self._requests.fail_all()

    def stats(self) -> dict[str, int]:
        """Counters since the start, or since `reset_stats`.

        msgs_in, bytes_in, msgs_out, bytes_out: messages and their header and payload bytes, requests
        and replies included. accepted == written + waiting + discarded, in messages: taken by
        `publish` and the like; handed to the kernel; still here; dropped (by `skip_waiting`,
        `disconnect`, as requests that have failed, or because a new server would not take them).
        reconnects: connections made anew.
        """
        counts = self._out.accounting()
        zero = self._zero
        msgs_in, bytes_in = self._connection.received()
        written = counts.written - zero.written
        discarded = counts.discarded - zero.discarded
        return {
            "msgs_in": msgs_in - zero.msgs_in,
            "msgs_out": counts.msgs_out - zero.msgs_out,
            "bytes_in": bytes_in - zero.bytes_in,
            "bytes_out": counts.bytes_out - zero.bytes_out,
            "accepted": written + counts.waiting + discarded,
            "written": written,
            "waiting": counts.waiting,
            "discarded": discarded,
            "reconnects": self._connection.reconnects - zero.reconnects,
        }

    def reset_stats(self) -> None:
        """Count anew. What waits is still waiting, and counts as accepted."""
        counts = self._out.accounting()
        msgs_in, bytes_in = self._connection.received()
        self._zero = Counts(
            msgs_in=msgs_in,
            bytes_in=bytes_in,
            msgs_out=counts.msgs_out,
            bytes_out=counts.bytes_out,
            written=counts.written,
            discarded=counts.discarded,
            reconnects=self._connection.reconnects,
        )
