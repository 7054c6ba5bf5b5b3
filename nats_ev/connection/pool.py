"""The servers a client may connect to, in what order, and how long it waits between tries.

No clock and no socket: delays are returned, the caller waits.
"""

from __future__ import annotations

import ipaddress
import random
from collections.abc import Callable, Iterable
from itertools import islice

from ..errors import BadOptionsError, NatsError
from ..options import Options
from .server import Server, parse_server

# What a server may make us look at, and remember.
MAX_DISCOVERED = 1000
# Seconds that a connection must have lived for the waits to begin anew after it: a server that takes
# us and drops us at once is not asked at full speed.
STABLE_AFTER = 1.0


class ServerPool:
    """Configured and discovered servers, tried in turn.

    A round tries each server once, at once; before the next round it waits: reconnect_delay, doubled
    with each round up to max_reconnect_delay, times a random factor from 0.5 to 1. After a loss the
    server that was lost comes last. ``max_reconnect_attempts`` failures in a row end it.
    """

    def __init__(self, options: Options, uniform: Callable[[float, float], float] = random.uniform):
        self._options = options
        self._uniform = uniform
        self.current: Server | None = None  # in use, or tried last
        self._configured: list[Server] = []
        self._servers: list[Server] = []
        self._refused: set[tuple[str, int, str | None]] = set()
        self._failures = 0  # in a row, over the whole pool
        self._round = 0  # how many waits there were since the last connection that lasted
        self._untried = 0  # servers left in this round
        self._counting = False  # the first connect is over: failures count
        self._url_wants_tls = False
        self._seen_tls = False  # a server had it, asked for or not
        if options.path is not None:
            self.set_path(options.path)
        elif options.host is not None:
            self.set_tcp(options.host, options.port)
        elif options.servers is not None:
            self.set_servers(options.servers)

    def __len__(self) -> int:
        return len(self._servers)

    def set_tcp(self, host: str, port: int) -> None:
        """One server, instead of all others. Raises `BadOptionsError`."""
        if "://" in host:
            self._replace([parse_server(host)])
        else:
            self._replace([Server(host=host.strip("[]"), port=port)])

    def set_path(self, path: str) -> None:
        """One Unix-domain socket, instead of all servers."""
        self._replace([Server(path=path)])

    def set_servers(self, urls: Iterable[str]) -> None:
        """These servers, instead of all others; each once, in random order unless told not to.

        The server in use stays in use, and comes last if it is among them. Raises `BadOptionsError`,
        and then nothing has changed.
        """
        servers: dict[tuple[str, int, str | None], Server] = {}
        for url in urls:
            server = parse_server(url)
            servers.setdefault(server.key, server)
        current = self.current
        self._replace(list(servers.values()))
        if current is not None and current.key in servers:
            self.current = servers[current.key]
            self._move_to_end(self.current)

    def _replace(self, servers: list[Server]) -> None:
        self._configured = list(servers)
        if self._options.randomize_servers:
            random.shuffle(servers)
        self._servers = servers
        self._refused.clear()
        self._untried = len(servers)
        self._url_wants_tls = any(server.tls for server in servers)
        self._seen_tls = False

    @property
    def secure(self) -> bool:
        """No server is to be spoken to without TLS: the options or a URL want it, or one had it."""
        return self._options.wants_tls or self._url_wants_tls or self._seen_tls

    def secured(self) -> None:
        """A TLS handshake is complete: from now on nobody may talk us out of it."""
        self._seen_tls = True

    def forget_tls(self) -> None:
        """The user has decided anew; what a URL says stays."""
        self._seen_tls = False

    def _move_to_end(self, server: Server) -> None:
        self._servers.remove(server)
        self._servers.append(server)

    @property
    def configured(self) -> bool:
        """Whether any server was given by the user."""
        return bool(self._configured)

    @property
    def urls(self) -> list[str]:
        """All servers, in the order in which they will be tried."""
        return [server.url for server in self._servers]

    @property
    def discovered_urls(self) -> list[str]:
        """Those that a server has told of."""
        return [server.url for server in self._servers if server.discovered]

    @property
    def round_complete(self) -> bool:
        """Each server has been tried in this round."""
        return self._untried <= 0

    @property
    def exhausted(self) -> bool:
        """As many failures in a row as are allowed."""
        most = self._options.max_reconnect_attempts
        return self._counting and 0 < most <= self._failures

    def restart(self) -> None:
        """An explicit connect: everything counts anew, also servers that have refused us."""
        known = {server.key for server in self._servers}
        self._servers += [server for server in self._configured if server.key not in known]
        for server in self._servers:
            server.last_auth_error = None
        self._refused.clear()
        self._failures = self._round = 0
        self._untried = len(self._servers)
        self._counting = False

    def next(self) -> tuple[Server, float] | None:
        """The server to be tried next, and the ms to wait before; None when none is left."""
        if not self._servers or self.exhausted:
            return None
        delay = 0.0
        if self._untried <= 0:
            self._untried = len(self._servers)
            delay = self.delay(self._round)
            self._round += 1
        self._untried -= 1
        self.current = server = self._servers[0]
        self._move_to_end(server)
        return server, delay

    def delay(self, number: int) -> float:
        """ms to wait before round number (from 0)."""
        options = self._options
        delay = options.reconnect_delay * 2.0 ** min(number, 40)
        if options.max_reconnect_delay > 0:
            delay = min(delay, options.max_reconnect_delay)
        return delay * self._uniform(0.5, 1.0)

    def succeeded(self) -> None:
        """The handshake with the current server is complete."""
        if self.current is not None:
            self.current.last_auth_error = None
        self._failures = 0
        self._counting = True

    def lost(self, error: NatsError | None, lived: float) -> None:
        """The connection was up for so many seconds and has ended: the others are tried first, at once."""
        self._note_refusal(error)
        self._failures = 0
        if lived < STABLE_AFTER:
            return  # it counts as this round's turn of its server
        self._round = 0
        self.new_round()

    def new_round(self) -> None:
        """Try all others at once, the server in use last and after a wait."""
        self._untried = len(self._servers)
        if self.current in self._servers:
            self._move_to_end(self.current)
            self._untried -= 1

    def skip_wait(self) -> None:
        """Let the next attempt be made at once."""
        if self._untried <= 0:
            self._untried = len(self._servers)

    def failed(self, error: NatsError) -> None:
        """An attempt has failed."""
        if self._counting:
            self._failures += 1
        self._counting = True  # the manual: N retries after the first failure
        self._note_refusal(error)

    def _note_refusal(self, error: NatsError | None) -> None:
        """Twice in a row the same refusal of who we are: that server is not asked again."""
        server = self.current
        if server is None or error is None or not getattr(error, "is_auth", False):
            return
        again = server.last_auth_error == str(error)
        server.last_auth_error = str(error)
        if again and server in self._servers and not self._options.ignore_auth_error_abort:
            self._servers.remove(server)
            self._refused.add(server.key)

    def update_discovered(self, addresses: Iterable[str]) -> list[str]:
        """Follow an INFO's connect_urls; returns the URLs that are new.

        Discovered servers that are not listed any more go, configured ones and the one in use stay.
        What makes no sense is skipped, and whatever comes behind so many addresses.
        """
        listed: dict[tuple[str, int, str | None], Server] = {}
        current = self.current
        # What makes no sense counts, too: a million of them would hold up the loop for seconds.
        for address in islice(addresses, MAX_DISCOVERED):
            try:
                server = parse_server(address)
            except BadOptionsError:
                continue
            server.discovered = True
            # A path would be one on this machine, of which no server has any business to tell.
            if server.path is None and server.key not in self._refused:
                listed[server.key] = server
        known = {server.key for server in self._servers}
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
            random.shuffle(new)
        # Behind those that are still to be tried in this round, before those that have been.
        self._servers[max(self._untried, 0) : max(self._untried, 0)] = new
        self._untried += len(new)
        return [server.url for server in new]

    def _inherit(self, server: Server) -> None:
        """A discovered server is reached with what the one that told of it was reached with."""
        current = self.current
        server.tls = current is not None and current.tls
        if current is None:
            return
        # A name that the user has given stays what certificates are checked against.
        if _is_number(server.host):
            server.tls_name = current.tls_name if _is_number(current.host) else current.host
        if current.path is None:
            server.user, server.password = current.user, current.password
            server.token = current.token


def _is_number(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True
