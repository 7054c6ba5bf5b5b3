"""TLS on real servers: upgrade, TLS first, client certificates, names, sessions, back-pressure."""

from __future__ import annotations

from typing import Any

from certs import server_config

from nats_ev import TlsError


def test_tls_option_with_a_ca_file_connects_and_carries_messages(certs, own_server, connected, run):
    server = own_server(config=server_config(certs.issue("good", "127.0.0.1", "localhost")))
    got: list[Any] = []
    nats = connected(server, tls=True, tls_ca_file=certs.ca.cert_file)
    nats.subscribe("t", lambda *message: got.append(message))
    nats.publish("t", b"x" * 100_000)
    run(lambda: got)
    assert got == [("t", b"x" * 100_000, None, None)]
    assert nats.recorder.errors == []


def test_untrusted_server_is_refused_with_a_tls_error(certs, own_server, client, run):
    server = own_server(config=server_config(certs.issue("good", "127.0.0.1")))
    nats = client(server, tls=True, tls_ca_file=certs.other_ca.cert_file)
    run(lambda: nats.recorder.errors)
    (error,) = nats.recorder.errors
    assert isinstance(error, TlsError)
    assert str(error).startswith("SSL handshake failed: certificate verify failed")
    assert nats.recorder.count("connect") == 0
