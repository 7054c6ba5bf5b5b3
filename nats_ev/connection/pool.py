"""The servers that a client may connect to: in what order, and how long to wait before each.

Knows no clock and no socket: it returns delays, and the caller waits.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from datetime import timedelta
from itertools import islice
from typing import Any

from ..arguments import milliseconds
from ..errors import BadOptionsError, NatsError, ServerNotInPoolError
from ..net import shuffle
from ..options import Options
from ..protocol import ServerInfo
from ..status import ServerState
from .server import Server, is_ip, parse_server, server_at

# Addresses of one INFO that are looked at, and discovered servers that are kept.
MAX_DISCOVERED = 1000
# Seconds that a connection must have lived to reset the back-off: a server that accepts us and
# drops us at once is not asked at full speed.
STABLE_AFTER = 1.0
# The least ms between two rounds, before the random factor: without it a client whose reconnect_delay is 0
# makes thousands of attempts a second.
LEAST_DELAY = 20.0
# The most ms: far beyond what anybody waits for, and still a time that a loop can hold.
_MOST_DELAY = 1e12


class ServerPool:
    """Configured and discovered servers, tried in turn.

    A round tries each server once, without a delay. Before the next round there is a back-off:
    reconnect_delay, doubled with each round up to max_reconnect_delay, 20 ms at least, times a random factor
    from 0.5 to 1. After a loss the lost server comes last. ``max_reconnect_attempts`` failures in a row end
    it, but not before each server that the user has named has been tried once.

    The list is kept in the order in which servers will be tried: the first `_untried` of it belong to this
    round, those after it have had their turn. A round has at most as many attempts as there are servers, as
    long as each configured one has its turn: a server that names others in each INFO would otherwise make a
    round without an end, and without a delay.
    """

    def __init__(self, options: Options, uniform: Callable[[float, float], float] | None = None):
        """Make a pool of the servers that the options name. uniform: `random.uniform`, or a test's."""
        self._options = options
        self._uniform = uniform
        self.current: Server | None = None  # in use, or tried last
        self._configured: list[Server] = []
        self._servers: list[Server] = []
        self._refused: set[tuple[str, int, str | None]] = set()
        self.credential = 0  # which of several .creds files is in use
        self._failures = 0  # in a row, over the whole pool
        self._round = 0  # delays since the last connection that lasted
        self._untried = 0  # servers that are still to be tried in this round
        self._tried = 0  # attempts of this round
        self._counting = False  # failures count, because the first connect is over
        self._first_round = (
            True  # of these servers: each is tried once, whatever max_reconnect_attempts is
        )
        self._url_wants_tls = False
        self._seen_tls = False  # a server had TLS, whether we had asked for it or not
        self._with_tls: set[tuple[str, int, str | None]] = set()  # servers that had it
        if options.path is not None:
            self.set_path(str(options.path))
        elif options.host is not None:
            self.set_tcp(options.host, options.port)
        elif options.servers is not None:
            self.set_servers(options.servers)

    def __len__(self) -> int:
        return len(self._servers)

    def set_tcp(self, host: str, port: int) -> None:
        """Replace all servers by one; see `server_at`. Raises `BadOptionsError`."""
        self._replace([server_at(host, port)])

    def set_path(self, path: str) -> None:
        """Replace all servers by one Unix-domain socket."""
        self._replace([Server(path=path)])

    def set_servers(self, urls: Iterable[str], in_use: bool = False) -> None:
        """Replace all servers by these; each once, in random order unless randomize_servers is off.

        The server in use stays in use, and comes last if it is among them. Where TLS was asked for or seen
        before, it stays: only an option can undo that. Raises `BadOptionsError`, and then nothing has
        changed.

        Args:
            urls: of the servers.
            in_use: there is a connection to the current server, or an attempt has begun. That was its turn:
                a callback that sets the pool in each attempt would repeat them without a delay.
        """
        servers: dict[tuple[str, int, str | None], Server] = {}
        for url in urls:
            server = parse_server(url)
            first = servers.setdefault(server.key, server)
            if first is not server:  # named twice: the stricter and the more complete one counts
                first.tls = first.tls or server.tls
                if first.user is None and first.token is None:
                    first.user, first.password = server.user, server.password
                    first.token = server.token
        if len({server.ws for server in servers.values()}) > 1:
            raise BadOptionsError(
                "servers with WebSocket (ws, wss) and without it can't be mixed in one pool"
            )
        current = self.current
        secure = self._seen_tls or self._url_wants_tls
        self._replace(list(servers.values()))
        self._seen_tls = self._seen_tls or secure
        if current is not None and current.key in servers:
            self.current = server = servers[current.key]
            server.attempts, server.last_error = current.attempts, current.last_error
            server.lame_duck = current.lame_duck
            self._move_to_end(self.current)
            if in_use:
                self._untried -= 1
                self._tried = 1

    def _replace(self, servers: list[Server]) -> None:
        self._configured = list(servers)
        if self._options.randomize_servers:
            shuffle(servers)
        self._servers = servers
        self._refused.clear()
        self._untried = len(servers)
        self._tried = 0
        self._failures = self._round = 0
        self._first_round = True
        self._url_wants_tls = any(server.tls for server in servers)
        self._seen_tls = any(server.key in self._with_tls for server in servers)

    @property
    def secure(self) -> bool:
        """Whether to speak to servers by TLS only: an option or a URL asks for it, or a server had it."""
        return self._options.wants_tls or self._url_wants_tls or self._seen_tls

    def secured(self) -> None:
        """Insist on TLS from now on: a handshake has shown that the server has it."""
        self._seen_tls = True
        if self.current is not None:
            self._with_tls.add(self.current.key)

    def forget_tls(self) -> None:
        """Stop insisting on TLS because a server had it: the user has set the option again."""
        self._seen_tls = False
        self._with_tls.clear()

    def _move_to_end(self, server: Server) -> None:
        self._servers.remove(server)
        self._servers.append(server)

    @property
    def configured(self) -> bool:
        """Whether any server was given by the user."""
        return bool(self._configured)

    @property
    def known(self) -> list[Server]:
        """The servers that the user has named, then the discovered ones."""
        return [*self._configured, *(server for server in self._servers if server.discovered)]

    @property
    def urls(self) -> list[str]:
        """All servers, in the order in which they will be tried."""
        return [server.url for server in self._servers]

    @property
    def discovered_urls(self) -> list[str]:
        """The servers that a server has named."""
        return [server.url for server in self._servers if server.discovered]

    def snapshot(self, connected: bool) -> list[ServerState]:
        """Return what `Nats.server_pool` returns; connected: the current server is in use."""
        return [
            {
                "url": server.url,
                "connected": connected and server is self.current,
                "attempts": server.attempts,
                "last_error": server.last_error,
                "discovered": server.discovered,
                "lame_duck": server.lame_duck,
            }
            for server in self._servers
        ]

    @property
    def round_complete(self) -> bool:
        """Whether this round is over: each server has been tried, or enough of the discovered ones."""
        if self._untried > 0 and self._tried < len(self._servers):
            return False
        return all(server.discovered for server in self._servers[: max(self._untried, 0)])

    @property
    def exhausted(self) -> bool:
        """Whether there were as many failures in a row as max_reconnect_attempts allows."""
        most = self._options.max_reconnect_attempts
        if self._first_round and not self.round_complete:
            return False
        return self._counting and 0 < most <= self._failures

    def may_retry(self, was_connected: bool, forced: bool) -> bool:
        """Return whether the options allow another attempt.

        Args:
            was_connected: there has been a connection since the explicit connect.
            forced: by `Nats.force_reconnect`.
        """
        options = self._options
        if was_connected:
            return options.reconnect or forced
        retry = options.retry_on_failed_connect
        if retry is None:
            retry = options.reconnect
        return retry or not self.round_complete

    def restart(self) -> None:
        """Start from the beginning for an explicit connect(), with the servers that have refused us, too."""
        known = {server.key for server in self._servers}
        self._servers += [server for server in self._configured if server.key not in known]
        for server in self._servers:
            server.refusals.clear()
        self._refused.clear()
        self._failures = self._round = self._tried = 0
        self._untried = len(self._servers)
        self._first_round = True
        self._counting = False

    def asks(self, was_connected: bool) -> bool:
        """Return whether the user chooses the next server or the delay before it.

        Not for the servers of an explicit connect, each of which is tried once in any case.
        """
        options = self._options
        if not self._servers or self.exhausted:
            return False
        if options.reconnect_to_cb is not None:
            return was_connected or self.round_complete
        return options.reconnect_delay_cb is not None and self.round_complete

    def ask(self, info: ServerInfo | None) -> tuple[Server | None, float | None]:
        """Call the user's callbacks; return the server and the delay in ms that they choose.

        None in place of one means the pool's own choice. Raises what they raise, and `BadOptionsError` for a
        bad result.
        """
        options = self._options
        server: Server | None = None
        delay: float | None = None
        if options.reconnect_to_cb is not None:
            fields = json.loads(info.raw) if info is not None else None
            answer = options.reconnect_to_cb(self.snapshot(connected=False), fields)
            server, delay = self._chosen(answer)
        if delay is None and options.reconnect_delay_cb is not None and self.round_complete:
            answer = options.reconnect_delay_cb(self._round + 1)
            delay = _checked_delay(answer, "reconnect_delay_cb")
        return server, delay

    def _chosen(self, answer: Any) -> tuple[Server | None, float | None]:
        """Return the server and the delay that reconnect_to_cb has returned."""
        delay: float | None = None
        if isinstance(answer, (tuple, list)):
            if len(answer) != 2:
                raise BadOptionsError("reconnect_to_cb must return a server, (server, ms), or None")
            answer, ms = answer
            delay = _checked_delay(ms, "reconnect_to_cb")
        url = answer.get("url") if isinstance(answer, dict) else answer
        if url is None and answer is None:
            return None, delay
        if not isinstance(url, str):
            raise BadOptionsError(
                "reconnect_to_cb must return one of its servers, or its url, "
                f"not {type(answer).__name__}"
            )
        try:
            key = parse_server(url).key
        except BadOptionsError as exc:
            raise BadOptionsError(f"reconnect_to_cb: {exc}") from None
        for server in self._servers:
            if server.key == key:
                return server, delay
        raise ServerNotInPoolError(
            f"reconnect_to_cb: {parse_server(url).url} is not in the pool",
            server=parse_server(url).url,
        )

    def next(
        self, choice: Server | None = None, own_delay: float | None = None
    ) -> tuple[Server, float] | None:
        """Return the server to try next and the ms to wait before; None if none is left.

        A choice that has had its turn in this round begins another one, with its delay: the same server
        chosen again and again would be asked at full speed.

        Args:
            choice: the server that the user has chosen.
            own_delay: the delay that the user has chosen.
        """
        if not self._servers or self.exhausted:
            return None
        delay = 0.0
        chosen = choice if choice is not None and choice in self._servers else None
        again = chosen is not None and self._servers.index(chosen) >= self._untried
        if again or self.round_complete:
            self._untried = len(self._servers)
            self._tried = 0
            self._first_round = False
            delay = self.delay(self._round) if own_delay is None else 0.0
            self._round += 1
        server = chosen if chosen is not None else self._servers[0]
        if self._servers.index(server) < self._untried:
            self._untried -= 1
        self._tried += 1
        self.current = server
        self._move_to_end(server)
        return server, delay if own_delay is None else own_delay

    def delay(self, number: int) -> float:
        """Return the ms to wait before a round, numbered from 0."""
        options = self._options
        delay = options.reconnect_delay * 2.0 ** min(number, 40)
        if options.max_reconnect_delay > 0:
            delay = min(delay, options.max_reconnect_delay)
        return min(max(delay, LEAST_DELAY), _MOST_DELAY) * self._random(0.5, 1.0)

    def _random(self, least: float, most: float) -> float:
        if self._uniform is None:
            from random import uniform

            self._uniform = uniform
        return self._uniform(least, most)

    def least_delay(self) -> float:
        """Return the ms between two attempts that the user asks for, in place of the pool's own delay.

        A callback may ask at each failure, by `connect`, `force_reconnect` or `set_server_pool`.
        """
        return LEAST_DELAY * self._random(0.5, 1.0)

    def succeeded(self) -> None:
        """Forget the failures: the handshake with the current server is complete."""
        if self.current is not None:
            self.current.refusals.clear()
            self.current.last_error = None
            self.current.attempts = 0
            self.current.lame_duck = False
        self._failures = 0
        self._first_round = False
        self._counting = True

    def lost(self, error: NatsError | None, lived: float) -> None:
        """Plan for a lost connection that lived so many seconds: the others come first, at once."""
        self._note_refusal(error)
        if self.current is not None:
            self.current.last_error = error
        self._failures = 0
        if lived < STABLE_AFTER:
            return  # the connection counts as its server's turn in this round
        self._round = 0
        self.new_round()

    def new_round(self) -> None:
        """Begin a round with all other servers; the one in use comes last, after a delay."""
        self._untried = len(self._servers)
        self._tried = 0
        if self.current in self._servers:
            self._move_to_end(self.current)
            self._untried -= 1
            self._tried = 1

    def skip_wait(self) -> None:
        """Make the next attempt without a delay."""
        if self.round_complete:
            self._untried = len(self._servers)
            self._tried = 0

    def failed(self, error: NatsError) -> None:
        """Count a failed attempt, unless the server has yet to be asked with other credentials."""
        if self.current is not None:
            self.current.attempts += 1
            self.current.last_error = error
        if self._note_refusal(error) and self.current in self._servers:
            # Its turn is not over: the next attempt is at the same server, without a delay.
            server = self.current
            assert server is not None
            self._servers.remove(server)
            self._servers.insert(0, server)
            self._untried += 1
            self._tried -= 1
            return
        if self._counting:
            self._failures += 1
        self._counting = True  # the manual: N retries after the first failure

    def _note_refusal(self, error: NatsError | None) -> bool:
        """Use the next credentials after a refusal; return whether this server has not been asked with them.

        A server that has refused all of them, and these twice with the same words, is taken out.
        """
        server = self.current
        if server is None:
            return False
        number = max(len(self._options.creds), 1)
        unusable = number > 1 and error is not None and isinstance(error.__cause__, BadOptionsError)
        if error is None or not (getattr(error, "is_auth", False) or unusable):
            server.refusals.clear()  # another failure in between: the refusals are not in a row
            return False
        refused = self.credential % number
        again = server.refusals.get(refused) == str(error)
        server.refusals[refused] = str(error)
        self.credential = (refused + 1) % number
        complete = len(server.refusals) >= number
        if again and complete and not self._options.ignore_auth_error_abort:
            if server in self._servers:
                self._servers.remove(server)
            self._refused.add(server.key)
        return self.credential not in server.refusals

    def update_discovered(self, addresses: Iterable[str]) -> list[str]:
        """Follow an INFO's connect_urls; returns the URLs that are new.

        Discovered servers that are not listed any more are removed; configured ones and the one in use stay.
        Invalid addresses are skipped, and whatever follows the first 1,000.
        """
        listed: dict[tuple[str, int, str | None], Server] = {}
        current = self.current
        ws = current is not None and current.ws
        if any(server.ws != ws for server in self._configured):
            return []  # the pool has been replaced, and the connection is still to one of the others
        # Invalid addresses count, too: a million of them would hold up the loop for seconds.
        for address in islice(addresses, MAX_DISCOVERED):
            try:
                server = parse_server(address)
            except BadOptionsError:
                continue
            server.discovered = True
            # A Unix socket's path would be one on this machine: a server has no business to name
            # it.
            if server.ws and not ws:
                continue
            server.ws = ws
            if server.path is None and server.key not in self._refused:
                listed[server.key] = server
        known = {server.key for server in self._servers}
        known |= {(server.host.lower(), server.port, None) for server in self._servers if server.ws}
        gone = [
            s for s in self._servers if s.discovered and s.key not in listed and s is not current
        ]
        for server in gone:
            if self._servers.index(server) < self._untried:
                self._untried -= 1
            self._servers.remove(server)
        new = [server for key, server in listed.items() if key not in known]
        for server in new:
            self._inherit(server)
        if self._options.randomize_servers:
            shuffle(new)
        # After the servers that are still to be tried in this round, before those that have been.
        self._servers[max(self._untried, 0) : max(self._untried, 0)] = new
        self._untried += len(new)
        return [server.url for server in new]

    def _inherit(self, server: Server) -> None:
        """Give a discovered server the TLS setting and the credentials of the server that named it."""
        current = self.current
        server.tls = current is not None and current.tls
        if current is None:
            return
        # A name that the user has given stays what certificates are checked against.
        if is_ip(server.host):
            server.tls_name = current.tls_name if is_ip(current.host) else current.host
        if current.path is None:
            server.user, server.password = current.user, current.password
            server.token = current.token


def _checked_delay(value: Any, name: str) -> float | None:
    """Return the ms that a callback has returned; None means the pool's own delay."""
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, (int, float, timedelta)):
        raise BadOptionsError(
            f"{name} must return ms, a timedelta or None, not {type(value).__name__}"
        )
    return min(milliseconds(value, f"{name}: the delay"), _MOST_DELAY)
