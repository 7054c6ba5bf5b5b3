"""What the behavioural tests talk to their servers through, and the choice of it for a run of pytest.

``pytest --transport=ws tests/client`` lets each nats-server of the tests take WebSocket connections, too, and
each client that is sent to its port for ``nats://`` make one; ``wss`` is the same under TLS. The tests know
nothing of it: URLs show as they were given. A server with TLS of its own, a scripted server and a proxy to
one are reached as always. `exclusions` says which tests are about the bytes on the socket.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

DEFAULT = "tcp"
KINDS = (DEFAULT, "ws", "wss")
HOSTS = ("127.0.0.1", "localhost", "::1")

chosen = DEFAULT
# Where a port for nats:// is reached with WebSocket.
_ports: dict[int, int] = {}
_tls = ""  # the tls block of the websocket block


class Exclusion(NamedTuple):
    """Tests whose id matches a pattern."""

    tests: str
    why: str


BYTES = "looks at the bytes on the socket, or at the calls that write them"
OWN_TLS = "is about TLS on the port for nats://"
PORTS = "compares ports or URLs with those for nats://, or lets a pool have a port at which nobody listens"
IN_C = "looks whether C reads the socket"
OWN_WS = "chooses WebSocket, or not, itself"

exclusions: tuple[Exclusion, ...] = (
    Exclusion("client/test_coalescing.py", BYTES),
    Exclusion("connection/test_tls", OWN_TLS),
    Exclusion("test_server_known.py::test_name_version_domain_addresses", PORTS),
    Exclusion("test_xt_01_cluster_failover", PORTS),
    Exclusion("test_a_cluster_is_discovered_and_failed_over_to", PORTS),
    Exclusion("test_log.py::test_a_connection_a_loss_and_a_reconnect_are_told", PORTS),
    Exclusion("test_log.py::test_servers_that_a_cluster_names_are_told", PORTS),
    Exclusion("test_log.py::test_the_pool_shows_what_has_become_of_each_server", PORTS),
    Exclusion("test_the_delay_is_asked_for_before_each_round_with_its_number", PORTS),
    Exclusion("test_an_observer_of_events_takes_no_fast_path", IN_C),
    Exclusion("test_only_the_level_of_the_loggers_own_switches_the_trace_on", IN_C),
    Exclusion("connection/test_websocket", OWN_WS),
)


def excluded(nodeid: str) -> str | None:
    """Return why a test cannot run with WebSocket, or None."""
    return next((each.why for each in exclusions if re.search(each.tests, nodeid)), None)


def choose(name: str, folder: Callable[[], Path]) -> None:
    """Let servers that start from now on, and all clients of this process, use this transport.

    Args:
        name: one of `KINDS`.
        folder: makes a folder for certificates.

    Raises:
        ValueError: the name is unknown.
    """
    global chosen, _tls
    if name not in KINDS:
        raise ValueError(f"--transport={name}: choose one of {', '.join(KINDS)}")
    chosen = name
    if name == DEFAULT:
        return
    if name == "wss":
        from nats_ev.testing.certificates import Certificates, server_config

        certificates = Certificates(folder())
        _tls = server_config(certificates.issue("server", "localhost", "127.0.0.1", "::1"))
        # That is where OpenSSL looks for the system's authorities.
        os.environ["SSL_CERT_FILE"] = str(certificates.ca.cert_file)
    _redirect()


def for_server(options: dict[str, Any], config: str) -> bool | str:
    """Return what a server of the tests gets as `websocket`."""
    if chosen == DEFAULT or options.get("tls") or "tls" in config or "websocket" in config:
        return False
    return _tls or True


def started(port: int, ws_port: int) -> None:
    """Note where a server, or a proxy to it, is reached."""
    if ws_port:
        _ports[port] = ws_port


def taken(port: int) -> None:
    """Note that something else listens at a port, perhaps of a server that has ended."""
    _ports.pop(port, None)


def port_of(port: int) -> int:
    """Return the port for WebSocket of a server, or the port itself."""
    return _ports.get(port, port)


def _redirect() -> None:
    """Let clients take servers at such ports for servers with WebSocket."""
    from nats_ev.connection import pool, server
    from nats_ev.net import Dialer

    def patched(make: Callable[..., Any]) -> Callable[..., Any]:
        def made(*args: Any) -> Any:
            found = make(*args)
            known = found.path is None and found.host in HOSTS and found.port in _ports
            if known and not found.ws and not found.tls:
                found.ws, found.tls, found.named = True, chosen == "wss", "nats"
            return found

        return made

    for name in ("parse_server", "server_at"):
        setattr(pool, name, patched(getattr(pool, name)))

    url, tcp = server.Server.url.fget, Dialer.tcp

    def shown(self: Any) -> str:
        scheme = getattr(self, "named", None)
        return f"{scheme}://{self.address}" if scheme else url(self)  # type: ignore[misc]

    def dial(self: Any, host: str, port: int, *args: Any, **options: Any) -> None:
        tcp(self, host, port_of(port), *args, **options)

    server.Server.url = property(shown)  # type: ignore[assignment,method-assign]
    Dialer.tcp = dial  # type: ignore[method-assign,assignment]
