"""The methods of `Nats` that only read or set something.

An accessor that is called without an argument returns the current value. With an argument it sets the
value, with the checks that the option of the same name has, and returns it. `Omitted` is the default,
because None clears a callback. Type checkers and editors see two signatures: one reads, one sets.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from datetime import timedelta
from typing import Any, NamedTuple, TypedDict, TypeVar, cast, overload

from ..arguments import Milliseconds, Omitted
from ..connection import Connection, Link
from ..errors import BadOptionsError, NatsError
from ..options import (
    ErrorCallback,
    EventCallback,
    ExpiringCallback,
    Options,
    ServersCallback,
    SlowConsumerCallback,
    parse_proxy,
)
from ..protocol import PENDING_BYTES_LIMIT, PENDING_MSGS_LIMIT, Outbound, ServerInfo
from ..redact import without_traceback
from ..status import ServerState, Status
from .core import Core
from .requests import Requests
from .subscriptions import SubscriptionInfo

T = TypeVar("T")

_READ = cast(Any, Omitted())


class Counts(NamedTuple):
    """The counters at the last `reset_stats`."""

    msgs_in: int = 0
    bytes_in: int = 0
    msgs_out: int = 0
    bytes_out: int = 0
    written: int = 0
    discarded: int = 0
    reconnects: int = 0
    slow_episodes: int = 0


class Statistics(TypedDict):
    """What `Nats.stats` returns."""

    msgs_in: int
    msgs_out: int
    bytes_in: int
    bytes_out: int
    accepted: int
    written: int
    waiting: int
    discarded: int
    reconnects: int
    slow_episodes: int
    bytes_waiting: int
    pings_outstanding: int
    rtt: float


class Accessors:
    """The callbacks, settings and state of `Nats`."""

    _options: Options
    _core: Core
    _connection: Connection
    _requests: Requests
    _out: Outbound
    _zero: Counts

    def _watch_expiry(self) -> None: ...

    def _option(self, name: str, value: T) -> T:
        if value is not _READ:
            self._connection.guard.check_thread()
            self._options.set(name, value)
            self._connection.option_changed(name)
        return cast(T, getattr(self._options, name))

    # Callbacks. None clears.

    @overload
    def on_error(self) -> ErrorCallback | None: ...
    @overload
    def on_error(self, cb: ErrorCallback | None) -> ErrorCallback | None: ...
    def on_error(self, cb: ErrorCallback | None = _READ) -> ErrorCallback | None:
        """Get or set ``cb(err)``, called for each error of the network, a `NatsError`.

        Without a callback the error is raised out of a callback of the loop, after everything else.
        `nats_ev.pyev` gives it to `sys.excepthook`, and the loop goes on. An error that ends the client
        for good (it gave up, was refused, or does not reconnect) comes out of the loop's ``start()``, of
        the innermost one. With the loop's ``debug`` each error does.
        """
        return self._option("on_error", cb)

    @overload
    def on_connect(self) -> EventCallback | None: ...
    @overload
    def on_connect(self, cb: EventCallback | None) -> EventCallback | None: ...
    def on_connect(self, cb: EventCallback | None = _READ) -> EventCallback | None:
        """Get or set ``cb()``, called at the end of each handshake."""
        return self._option("on_connect", cb)

    @overload
    def on_disconnect(self) -> EventCallback | None: ...
    @overload
    def on_disconnect(self, cb: EventCallback | None) -> EventCallback | None: ...
    def on_disconnect(self, cb: EventCallback | None = _READ) -> EventCallback | None:
        """Get or set ``cb()``, called when a connection has ended, before the first attempt to reconnect."""
        return self._option("on_disconnect", cb)

    @overload
    def on_reconnect(self) -> EventCallback | None: ...
    @overload
    def on_reconnect(self, cb: EventCallback | None) -> EventCallback | None: ...
    def on_reconnect(self, cb: EventCallback | None = _READ) -> EventCallback | None:
        """Get or set ``cb()``, called after `on_connect` when a connection replaces a lost one.

        Also after `force_reconnect`, but not after an explicit `connect`, however many connections
        there were.
        """
        return self._option("on_reconnect", cb)

    @overload
    def on_lame_duck(self) -> EventCallback | None: ...
    @overload
    def on_lame_duck(self, cb: EventCallback | None) -> EventCallback | None: ...
    def on_lame_duck(self, cb: EventCallback | None = _READ) -> EventCallback | None:
        """Get or set ``cb()``, called once per connection when its server announces a shutdown (``ldm``)."""
        return self._option("on_lame_duck", cb)

    @overload
    def on_discovered_servers(self) -> ServersCallback | None: ...
    @overload
    def on_discovered_servers(self, cb: ServersCallback | None) -> ServersCallback | None: ...
    def on_discovered_servers(self, cb: ServersCallback | None = _READ) -> ServersCallback | None:
        """Get or set ``cb(urls)``, called for servers of the cluster that were not known before.

        Not called for the servers that the first INFO after `connect` names: see
        `discovered_servers`. With the option ignore_discovered_servers it is never called.
        """
        return self._option("on_discovered_servers", cb)

    @overload
    def on_auth_expiring(self) -> ExpiringCallback | None: ...
    @overload
    def on_auth_expiring(self, cb: ExpiringCallback | None) -> ExpiringCallback | None: ...
    def on_auth_expiring(self, cb: ExpiringCallback | None = _READ) -> ExpiringCallback | None:
        """Get or set ``cb(seconds)``, called before the client's credentials expire; seconds are left.

        Called once per connection, ``auth_expiring_before`` ms before the expiry; but not before half of
        the time has passed that was left when the client connected. The server closes the connection at
        the expiry. New credentials count from the next connection on: when they are there, call
        `force_reconnect`. A JWT says when it expires, by this machine's clock; without a JWT the client
        asks the server after each connect, as `user_info` does.
        """
        found = self._option("on_auth_expiring", cb)
        if cb is not _READ and cb is not None:
            self._watch_expiry()
        return found

    @overload
    def on_slow_consumer(self) -> SlowConsumerCallback | None: ...
    @overload
    def on_slow_consumer(self, cb: SlowConsumerCallback | None) -> SlowConsumerCallback | None: ...
    def on_slow_consumer(
        self, cb: SlowConsumerCallback | None = _READ
    ) -> SlowConsumerCallback | None:
        """Get or set ``cb(pending_bytes)`` of `slow_consumer`, which sets it together with the threshold."""
        return self._option("on_slow_consumer", cb)

    def slow_consumer(self, bytes_threshold: int, cb: SlowConsumerCallback | None = None) -> None:
        """Call ``cb(pending_bytes)`` once each time the *unsent* bytes rise above a threshold.

        The reason is a server that does not read fast enough. Not to be confused with
        `SlowConsumerError`, which `on_error` gets when a paused subscription receives more than it may
        keep.

        Args:
            bytes_threshold: in bytes; 0 switches the notice off.
            cb: None: no callback.
        """
        self._options.set_all({"slow_consumer_bytes": bytes_threshold, "on_slow_consumer": cb})
        self._connection.option_changed("slow_consumer_bytes")

    # Settings.

    @overload
    def connect_timeout(self) -> float: ...
    @overload
    def connect_timeout(self, ms: Milliseconds) -> float: ...
    def connect_timeout(self, ms: Milliseconds = _READ) -> float:
        """Get or set the limit of an attempt, from name resolution to the handshake's PONG, in ms; 0: none.

        A new value counts from the next attempt on.
        """
        return cast(float, self._option("connect_timeout", ms))

    @overload
    def ping_interval(self) -> float: ...
    @overload
    def ping_interval(self, ms: Milliseconds) -> float: ...
    def ping_interval(self, ms: Milliseconds = _READ) -> float:
        """Get or set the time between keep-alive PINGs, in ms; 0: no PINGs."""
        return cast(float, self._option("ping_interval", ms))

    @overload
    def max_pings_outstanding(self) -> int: ...
    @overload
    def max_pings_outstanding(self, num: int) -> int: ...
    def max_pings_outstanding(self, num: int = _READ) -> int:
        """Get or set how many unanswered PINGs a connection survives."""
        return self._option("max_pings_outstanding", num)

    @overload
    def priority(self) -> int: ...
    @overload
    def priority(self, num: int) -> int: ...
    def priority(self, num: int = _READ) -> int:
        """Get or set the priority of the socket's watchers, -2 to 2. Counts for the next connection."""
        return self._option("priority", num)

    @overload
    def keepalive(self) -> int: ...
    @overload
    def keepalive(self, seconds: int | timedelta) -> int: ...
    def keepalive(self, seconds: int | timedelta = _READ) -> int:
        """Get or set the TCP keep-alive: seconds of idleness before the first probe; 0: off.

        A new value counts for the next connection.
        """
        return cast(int, self._option("keepalive", seconds))

    @overload
    def proxy(self) -> str | None: ...
    @overload
    def proxy(self, url: str | bool | None) -> str | None: ...
    @without_traceback
    def proxy(self, url: str | bool | None = _READ) -> str | None:
        """Get or set the proxy, for the next connection. The result shows no user and no password.

        None: the environment decides (ALL_PROXY, NO_PROXY). "" or False: no proxy. Raises `BadOptionsError`
        if url is no proxy's, or if the option dial is set.
        """
        if url is not _READ and url and self._options.dial is not None:
            raise BadOptionsError("dial and proxy exclude each other")
        found = cast("str | None", self._option("proxy", url))
        return parse_proxy(found).url if found else found

    def reconnect(
        self,
        enable: bool,
        delay_ms: Milliseconds | None = None,
        max_attempts: int | None = None,
    ) -> None:
        """Configure reconnection. `reconnect_enabled` reads whether it is on.

        Switching it off while the client waits for the next attempt cancels that attempt, and pending
        completions get ``disconnected``.

        Args:
            enable: whether a lost connection is replaced.
            delay_ms: the wait before another round over the servers, in ms; it doubles with each
                round. None: no change.
            max_attempts: failures in a row before the client gives up; 0: unlimited. None: no change.
        """
        self._connection.guard.check_thread()
        given = {"reconnect_delay": delay_ms, "max_reconnect_attempts": max_attempts}
        given = {name: value for name, value in given.items() if value is not None}
        self._options.set_all({"reconnect": enable, **given})
        self._connection.option_changed("reconnect")

    def reconnect_enabled(self) -> bool:
        """Return whether a lost connection is replaced; `reconnect` sets it."""
        return self._options.reconnect

    @overload
    def max_payload(self) -> int: ...
    @overload
    def max_payload(self, limit: int) -> int: ...
    def max_payload(self, limit: int = _READ) -> int:
        """Get or set the largest size of a message's headers and payload together, in bytes.

        The result is the smaller one of the server's limit and of the client's own, which limit sets
        and which survives the next INFO. 0 removes the client's own limit.
        """
        if limit is not _READ:
            self._option("max_payload", limit)
        return self._out.limits.max_payload

    @without_traceback
    def creds_file(self, path: str | os.PathLike[str] | Sequence[str | os.PathLike[str]]) -> None:
        """Take the JWT and the NKey seed from a credentials file, which each new connection reads again.

        They replace those of `jwt` and `nkey_seed`. Of several files, a server that refuses one is asked
        with the next one. Raises `BadOptionsError` if a block is missing,
        or if the file can't be read (then the error is an OSError, too). Warns once if other users
        can read the file, or if an option that excludes it is set (`jwt_cb`, `signature_cb`, `nkey`).
        """
        if not path:  # as an option, "" and None mean no file
            raise BadOptionsError("creds_file needs a path")
        none = dict.fromkeys(("user_credential_bytes", "jwt", "nkey_seed", "nkey_seed_file"))
        self._options.set_all({"creds_file": path, **none})

    @without_traceback
    def nkey_seed(self, seed: str | bytes) -> None:
        """Set the NKey seed ("SU…") that signs the server's nonce, for the next connection.

        Takes precedence over that of a credentials file. Raises `BadOptionsError` if seed is not a seed,
        or if an option that excludes it is set (`signature_cb`, `nkey`).
        """
        self._options.set_all({"nkey_seed": seed})

    @without_traceback
    def jwt(self, token: str) -> None:
        """Set the user JWT, for the next connection. Takes precedence over that of a credentials file."""
        self._options.set("jwt", token)

    def tls(self, enable: bool, ca_file: str | None = None, skip_verify: bool = False) -> None:
        """Configure TLS, for the next connection. An option ``tls_context`` given before is removed.

        Args:
            enable: True: TLS is required. False: the server decides.
            ca_file: the authorities to trust instead of the system's; None: the system's.
            skip_verify: do not check the server's certificate at all.
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

    def set_pending_limits(
        self, sid: int, msgs: int = PENDING_MSGS_LIMIT, size: int = PENDING_BYTES_LIMIT
    ) -> None:
        """Set how much a paused subscription keeps, from the next message on.

        Args:
            sid: an unknown one is ignored.
            msgs: messages; 500,000 by default. Negative: any number.
            size: bytes of headers and payload; 64 MiB by default. Negative: any number.
        """
        self._core.subscriptions.set_limits(sid, msgs, size)

    # State.

    def is_connected(self) -> bool:
        """Return True from the end of the handshake to the end of the connection."""
        return self._connection.connected

    def status(self) -> Status:
        """Return what the client is doing, as a `Status`.

        DISCONNECTED (never connected), CONNECTING, CONNECTED, RECONNECTING (also while the client
        waits before the next attempt), DRAINING_SUBS, DRAINING_PUBS, or CLOSED (ended; `connect`
        starts it again).
        """
        return self._core.status

    def server_info(self) -> str | None:
        """Return the JSON text of the latest INFO, or None before the first one."""
        info = self._connection.info
        return info.raw if info is not None else None

    def client_id(self) -> int | None:
        """Return the number that the server gave to this connection, or None without a connection."""
        info = self._connection.info
        return info.client_id if info is not None and self._connection.connected else None

    def client_ip(self) -> str | None:
        """Return this client's address as the server sees it, or None without a connection."""
        info = self._connection.info
        return info.client_ip if info is not None and self._connection.connected else None

    def connected_url(self) -> str | None:
        """Return the URL, without credentials, of the server that the client is connected to, or None."""
        server = self._connection.pool.current
        return server.url if server is not None and self._connection.connected else None

    # The connection, and what its server has said about itself. All None (or False) without a connection.

    def _info(self) -> ServerInfo | None:
        return self._connection.info if self._connection.connected else None

    def _link(self) -> Link | None:
        return self._connection.link if self._connection.connected else None

    def connected_addr(self) -> str | None:
        """Return the numeric address and port of the server, or the path of its Unix socket, or None."""
        link = self._link()
        return link.peer or None if link is not None else None

    def local_addr(self) -> str | None:
        """Return our own address and port of the connection, or None."""
        link = self._link()
        return link.local or None if link is not None else None

    def connected_server_id(self) -> str | None:
        """Return the public key that identifies the server, or None without a connection."""
        info = self._info()
        return info.server_id or None if info is not None else None

    def connected_server_name(self) -> str | None:
        """Return the server's own name, or None without a connection."""
        info = self._info()
        return info.server_name or None if info is not None else None

    def connected_server_version(self) -> str | None:
        """Return the version of nats-server, such as "2.12.1", or None without a connection."""
        info = self._info()
        return info.version or None if info is not None else None

    def connected_cluster_name(self) -> str | None:
        """Return the name of the server's cluster; None if it is in none, or without a connection."""
        info = self._info()
        return info.cluster or None if info is not None else None

    def connected_domain(self) -> str | None:
        """Return the server's JetStream domain; None if it has none, or without a connection."""
        info = self._info()
        return info.domain or None if info is not None else None

    def headers_supported(self) -> bool:
        """Return whether the server supports message headers; False without a connection."""
        info = self._info()
        return info is not None and info.headers

    def jetstream_supported(self) -> bool:
        """Return whether the server has JetStream; False without a connection.

        True does not mean that this account may use it, and another server of the cluster may have it.
        """
        info = self._info()
        return info is not None and info.jetstream

    def auth_required(self) -> bool:
        """Return whether the server asks clients for credentials; False without a connection."""
        info = self._info()
        return info is not None and info.auth_required

    def tls_required(self) -> bool:
        """Return whether the server refuses clients without TLS; False without a connection."""
        info = self._info()
        return info is not None and info.tls_required

    def tls_version(self) -> str | None:
        """Return the TLS version of the connection, such as "TLSv1.3"; None without TLS."""
        link = self._link()
        return link.tls[0] if link is not None else None

    def tls_cipher(self) -> str | None:
        """Return the name of the connection's TLS cipher suite; None without TLS."""
        link = self._link()
        return link.tls[1] if link is not None else None

    def servers(self) -> list[str]:
        """Return the URLs of all known servers, also discovered ones, in the order of the next attempts."""
        return self._connection.pool.urls

    def server_pool(self) -> list[ServerState]:
        """Return what is known of each server, in the order of the next attempts.

        Keys: url (without credentials), connected (this server is in use), attempts (failed ones since the
        last connection to it), last_error (why the last attempt failed, or its connection ended; None
        after a success), discovered (named by a server of the cluster), lame_duck (it has announced
        its shutdown).
        """
        return self._connection.pool.snapshot(self._connection.connected)

    def last_error(self) -> NatsError | None:
        """Return the last error that `on_error` got, or would have got; None before the first one."""
        return self._connection.journal.last_error

    def disconnect_reason(self) -> NatsError | None:
        """Return why the last connection has ended; None before the first end of one.

        In `on_disconnect` it is that of the connection that has just ended. A `ConnectionClosedError` if
        the program has closed it (`disconnect`, `drain`, `force_reconnect`), a `ConnectionLostError` if the
        server has without a word, else the error that `on_error` got.
        """
        return self._connection.journal.disconnect_reason

    def discovered_servers(self) -> list[str]:
        """Return those of `servers` that were named by a server of the cluster and not by the user."""
        return self._connection.pool.discovered_urls

    def subscription_count(self) -> int:
        """Return how many subscriptions there are.

        As in the manual, the subscription that all requests share counts, from the first request on.
        """
        return len(self._core.subscriptions.by_sid)

    def subscription_info(self, sid: int) -> SubscriptionInfo | None:
        """Return the state of a subscription as a dict, or None for an unknown sid.

        Keys: sid, subject, queue_group, max_msgs (0: no end), received, delivered (to the callback), dropped
        (beyond the limits, or discarded by `disconnect`), pending_msgs, pending_bytes, their limits
        pending_msgs_limit and pending_bytes_limit, paused, draining. At any moment received ==
        delivered + dropped + pending_msgs; the message of the running callback counts as delivered.
        """
        return self._core.subscriptions.info(sid)

    def waiting_count(self) -> int:
        """Return how many messages wait for a connection: published without one, or unsent when it was lost.

        0 while connected; ``stats()["waiting"]`` counts what the socket has not taken yet.
        """
        if self._connection.connected:
            return 0
        self._requests.purge()
        return cast(int, self._out.accounting().waiting)

    def skip_waiting(self) -> None:
        """Discard all messages that wait for a connection. Queued requests fail with ``disconnected``."""
        self._connection.guard.check_thread()
        if not self._connection.connected:
            self._out.drop_messages()
            self._requests.fail_all()

    def stats(self) -> Statistics:
        """Return the counters since the client was made, or since `reset_stats`.

        * msgs_in, bytes_in, msgs_out, bytes_out: messages, and their header and payload bytes,
          requests and replies included.
        * accepted == written + waiting + discarded, in messages: accepted by `publish` and the like;
          given to the kernel; still in the buffer; discarded (by `skip_waiting`, `disconnect`, as
          requests that have failed, or because a new server would not take them).
        * reconnects: connections that replaced a lost one.
        * slow_episodes: how often a subscription has begun to discard messages (`set_pending_limits`), or
          the unsent bytes have risen above slow_consumer_bytes.

        And what is true now, whatever `reset_stats` has done:

        * bytes_waiting: framed bytes in the buffer, which the kernel has not taken.
        * pings_outstanding: PINGs without a PONG, those of `flush` and `rtt` included.
        * rtt: ms, a float, from the last PING that was answered to its PONG; 0 before the first one. Each
          PING counts: of the keep-alive, `ping`, `flush`, `rtt`. Time in which the loop was busy counts, too.
        """
        counts = self._out.accounting()
        zero, journal = self._zero, self._connection.journal
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
            "reconnects": journal.reconnects - zero.reconnects,
            "slow_episodes": journal.slow_episodes - zero.slow_episodes,
            "bytes_waiting": len(self._out),
            "pings_outstanding": len(self._connection.pings.waiting),
            "rtt": self._connection.pings.rtt,
        }

    def reset_stats(self) -> None:
        """Set the counters of `stats` to 0. Messages that wait still count as waiting and as accepted."""
        counts = self._out.accounting()
        msgs_in, bytes_in = self._connection.received()
        self._zero = Counts(
            msgs_in=msgs_in,
            bytes_in=bytes_in,
            msgs_out=counts.msgs_out,
            bytes_out=counts.bytes_out,
            written=counts.written,
            discarded=counts.discarded,
            reconnects=self._connection.journal.reconnects,
            slow_episodes=self._connection.journal.slow_episodes,
        )
