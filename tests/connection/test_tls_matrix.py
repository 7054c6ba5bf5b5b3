"""Who gets a connection: every kind of server, with every kind of certificate, at every occasion.

plain/TLS/TLS first/mTLS x good and bad certificates x first connect, reconnect, discovered server, on
real servers of each line behind a recording proxy. Only the good ones connect, and no secret goes in
clear.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from lab.natsserver import NatsServer
from nats_ev import SecureConnectionRequiredError, TlsError
from nats_ev.testing import CuttingProxy
from nats_ev.testing.certificates import Certificates, Pair, server_config

USER, PASSWORD = "us3r-sentinel", "p4ss-sentinel"
MODES = ["plain", "tls", "tls-first", "mtls"]
CERTIFICATES = [
    "good", "expired", "wrong name", "wrong ip", "self-signed", "untrusted ca", "no client certificate"
]  # fmt: skip
# What the verdict on each bad certificate is about.
VERDICTS = {
    "expired": "expired",
    "wrong name": "Hostname mismatch",
    "wrong ip": "IP address mismatch",
    "self-signed": "self-signed certificate",
    "untrusted ca": "unable to get local issuer",
    "no client certificate": "certificate required",
}


def make_pair(certs: Certificates, kind: str) -> Pair:
    """A server's certificate of that kind."""
    names = ("localhost", "127.0.0.1")
    if kind == "expired":
        return certs.issue("m-expired", *names, expired=True)
    if kind == "wrong name":
        return certs.issue("m-name", "elsewhere.example", "127.0.0.1")
    if kind == "wrong ip":
        return certs.issue("m-ip", "127.0.0.2", "localhost")
    if kind == "self-signed":
        return certs.self_signed("m-self", *names)
    if kind == "untrusted ca":
        return certs.issue("m-untrusted", *names, by=certs.other_ca)
    return certs.issue("m-good", *names)


@pytest.fixture(scope="module")
def server_of(
    certs: Certificates, any_binary: str | None
) -> Iterator[Callable[[str, str], NatsServer]]:
    """The server of a mode with a kind of certificate; each is started once."""
    servers: dict[tuple[str, str], NatsServer] = {}
    users = f'authorization {{ user: "{USER}", password: "{PASSWORD}" }}\n'

    def get(mode: str, kind: str) -> NatsServer:
        if kind == "no client certificate":
            kind = "good"
        if mode == "plain":
            kind = "none"
        if (mode, kind) not in servers:
            config = users
            if mode != "plain":
                config = server_config(
                    make_pair(certs, kind),
                    ca=certs.ca if mode == "mtls" else None,
                    first=mode == "tls-first",
                    more=users,
                )
            server = NatsServer(config=config, silent=mode == "tls-first", binary=any_binary)
            servers[mode, kind] = server.start()
        return servers[mode, kind]

    yield get
    for server in servers.values():
        server.remove()


@pytest.fixture(scope="module")
def client_pair(certs: Certificates) -> Pair:
    return certs.issue("m-client", "client")


class Cell:
    """One cell of the matrix: what the client is told, and what must come of it."""

    def __init__(self, mode: str, kind: str, certs: Certificates, pair: Pair) -> None:
        self.mode, self.kind = mode, kind
        self.good = kind == "good" or (kind == "no client certificate" and mode in MODES[1:3])
        # A certificate for the wrong address shows only when it is the address that is verified.
        self.host = "127.0.0.1" if kind == "wrong ip" else "localhost"
        self.options: dict[str, Any] = {
            "user": USER, "password": PASSWORD, "reconnect": True, "reconnect_delay": 5,
            "max_reconnect_attempts": 0, "randomize_servers": False,
        }  # fmt: skip
        if not (mode == "plain" and kind == "good"):
            self.options["tls_ca_file"] = certs.ca.cert_file
        if mode == "tls-first":
            self.options["tls_handshake_first"] = True
        if kind != "no client certificate":
            self.options |= (
                {"tls_cert_file": pair.cert_file, "tls_key_file": pair.key_file}
                if mode == "mtls"
                else {}
            )

    def refused(self, errors: list[BaseException]) -> bool:
        """Whether at least two attempts ended, one of them with an error that says why."""
        if self.mode == "plain":
            return sum(isinstance(error, SecureConnectionRequiredError) for error in errors) >= 2
        refusals = [str(error) for error in errors if isinstance(error, TlsError)]
        # Others may have found the connection reset before they could read the server's verdict.
        return len(refusals) >= 2 and any(VERDICTS[self.kind] in text for text in refusals)

    def check_wire(self, proxy: CuttingProxy) -> None:
        """Nothing that is nobody's business was to be seen on the way."""
        if self.mode == "plain" and self.good:
            return
        sent = bytes(proxy.recorded["up"])
        for secret in (USER, PASSWORD, "CONNECT", "PING"):
            assert secret.encode() not in sent


@pytest.fixture(params=[(m, c) for m in MODES for c in CERTIFICATES], ids=" ".join)
def cell(request: pytest.FixtureRequest, certs: Certificates, client_pair: Pair) -> Cell:
    return Cell(*request.param, certs, client_pair)


def test_first_connect(cell: Cell, server_of: Any, proxy: Any, client: Any, run: Any) -> None:
    between = proxy(server_of(cell.mode, cell.kind).port)
    nats = client(host=cell.host, port=between.port, **cell.options)
    if cell.good:
        run(nats.is_connected)
        assert nats.recorder.errors == []
    else:
        run(lambda: cell.refused(nats.recorder.errors))
        assert nats.recorder.count("connect") == 0
    cell.check_wire(between)


def test_reconnect(cell: Cell, server_of: Any, proxy: Any, client: Any, run: Any) -> None:
    """The connection is cut and another server answers at the same address."""
    # A client that asks for TLS, or that has no certificate, begins where that is welcome.
    begin = cell.mode
    if cell.kind != "good" and cell.mode == "plain":
        begin = "tls"
    if cell.kind == "no client certificate" and cell.mode == "mtls":
        begin = "tls"
    good = server_of(begin, "good").port
    between = proxy(good)
    nats = client(host=cell.host, port=between.port, **cell.options)
    run(nats.is_connected)
    between.retarget(server_of(cell.mode, cell.kind).port)
    between.cut()
    if cell.good:
        run(lambda: nats.recorder.count("reconnect") == 1)
    else:
        run(lambda: cell.refused(nats.recorder.errors))
        assert nats.recorder.count("connect") == 1
        between.retarget(good)
        run(lambda: nats.recorder.count("reconnect") == 1)
    cell.check_wire(between)


def test_discovered_server(
    cell: Cell, server_of: Any, proxy: Any, fake: Any, client: Any, run: Any, certs: Certificates
) -> None:
    """A good server tells of another one, and goes away."""
    between = proxy(server_of(cell.mode, cell.kind).port)
    address = f"127.0.0.1:{between.port}"
    context = make_pair(certs, "good").server_context()

    def tell(peer: Any) -> None:
        if cell.mode == "plain" and cell.good:
            peer.handshake(connect_urls=[address])
            peer.close()
            return
        if cell.mode == "tls-first":
            peer.start_tls(context)
            peer.handshake(tls_required=True)
        else:
            peer.handshake(tls=context)
        peer.send_info(connect_urls=[address])
        peer.close()

    first = fake(tell, lambda peer: peer.close())
    nats = client(host=cell.host, port=first.port, **cell.options)
    run(lambda: nats.recorder.count("connect") >= 1)
    if cell.good:
        run(lambda: nats.recorder.count("connect") == 2 and nats.is_connected())
        assert nats.connected_url().endswith(address)
    else:
        run(lambda: cell.refused(nats.recorder.errors))
        assert between.connections >= 1
        assert nats.recorder.count("connect") == 1
    cell.check_wire(between)
