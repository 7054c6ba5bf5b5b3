"""What a client knows of the server that it is connected to."""

from __future__ import annotations

from typing import Any

from lab.natsserver import Cluster
from nats_ev import Nats
from nats_ev.testing.certificates import server_config

WORDS = (
    "connected_url", "connected_addr", "local_addr", "connected_server_id", "connected_server_name",
    "connected_server_version", "connected_cluster_name", "connected_domain", "tls_version", "tls_cipher",
)  # fmt: skip
FLAGS = ("headers_supported", "jetstream_supported", "auth_required", "tls_required")


def known(nats: Nats) -> dict[str, Any]:
    return {name: getattr(nats, name)() for name in (*WORDS, *FLAGS)}


def assert_nothing_known(nats: Nats) -> None:
    assert known(nats) == {**dict.fromkeys(WORDS), **dict.fromkeys(FLAGS, False)}


def test_name_version_domain_addresses_and_support_are_known_while_connected(
    own_server, client, run
):
    config = "server_name: n1\njetstream { domain: hub }\nauthorization { user: u, password: p }"
    server = own_server(config=config, jetstream=True)
    nats = client(server, user="u", password="p")
    assert_nothing_known(nats)
    run(nats.is_connected)
    found = known(nats)
    address = f"{server.host}:{server.port}"
    assert found["connected_url"] == f"nats://{address}"
    assert found["connected_addr"] == address
    assert found["local_addr"].startswith("127.0.0.1:")
    assert found["connected_server_id"].startswith("N")
    assert found["connected_server_version"].split(".")[0] == str(server.version[0])
    assert found["connected_domain"] == "hub"
    assert found["connected_cluster_name"] is None
    assert found["headers_supported"]
    assert found["jetstream_supported"]
    assert found["auth_required"]
    assert not found["tls_required"]
    assert found["tls_version"] is found["tls_cipher"] is None
    nats.disconnect()
    assert_nothing_known(nats)


def test_tls_is_known(own_server, client, certs, run):
    server = own_server(config=server_config(certs.issue("server", "127.0.0.1")))
    nats = client(server, tls_ca_file=str(certs.ca.cert_file))
    run(nats.is_connected)
    assert nats.tls_version() in ("TLSv1.2", "TLSv1.3")
    assert nats.tls_cipher().startswith(("TLS_", "ECDHE"))
    assert nats.tls_required()
    assert nats.connected_addr() == f"127.0.0.1:{server.port}"
    assert nats.local_addr().startswith("127.0.0.1:")


def test_a_unix_socket_has_a_path_as_its_address(server, client, unix_socket, run):
    path = unix_socket(server.port)
    nats = client(None, path=path)
    run(nats.is_connected)
    assert nats.connected_addr() == path
    assert nats.local_addr() is None


def test_a_cluster_has_a_name(needs_server, client, run):
    with Cluster(2) as (first, _):
        nats = client(first)
        run(nats.is_connected)
        run(nats.connected_cluster_name)
        assert isinstance(nats.connected_cluster_name(), str)
