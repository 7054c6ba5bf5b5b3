"""TLS: how it is asked for, set up and ended, on real servers and on scripted ones."""

from __future__ import annotations

import contextlib
import os
import select
import socket
import ssl
import subprocess
import warnings
from typing import Any

import pytest
from cryptography.hazmat.primitives import serialization

from lab import inside
from lab.fakeserver import INFO
from lab.located import words
from lab.natsserver import NatsServer, wait_for
from lab.process import descriptors, resident
from nats_ev import (
    HAS_TLS,
    BadOptionsError,
    ConnectError,
    ConnectTimeoutError,
    Nats,
    PermissionsViolationError,
    ProtocolError,
    SecureConnectionRequiredError,
    TlsError,
    UnexpectedEOFError,
)
from nats_ev.testing import free_port
from nats_ev.testing.certificates import server_config

SECRETS = {
    "user": "us3r-sentinel", "password": "p4ss-sentinel", "token": "t0ken-sentinel",
    "jwt": "j3wt-sentinel", "nkey_seed": Nats.nkey_generate_user_seed(),
}  # fmt: skip


@pytest.fixture(scope="session")
def good(certs):
    """What an honest server has."""
    return certs.issue("good", "127.0.0.1", "localhost")


@pytest.fixture(scope="session")
def tls_server(needs_server, good):
    with NatsServer(config=server_config(good)) as running:
        yield running


@pytest.fixture(scope="session")
def any_tls_server(good, any_binary):
    """`tls_server` of each line in turn."""
    with NatsServer(config=server_config(good), binary=any_binary) as running:
        yield running


def echo(nats: Nats, run: Any, payload: bytes = b"x" * 100_000) -> None:
    """A round trip works."""
    got: list[bytes] = []
    sid = nats.subscribe("echo", lambda subject, data, reply, headers: got.append(data))
    nats.publish("echo", payload)
    run(lambda: got)
    assert got == [payload]
    nats.unsubscribe(sid)


# Asking for it.


def test_xt10_tls_with_a_ca_file_by_address_and_by_name(
    certs, any_tls_server, connected, client, run
):
    assert HAS_TLS
    nats = connected(any_tls_server, tls=True, tls_ca_file=certs.ca.cert_file)
    echo(nats, run)
    named = client(
        host="localhost", port=any_tls_server.port, tls=True, tls_ca_file=certs.ca.cert_file
    )
    run(named.is_connected)
    echo(named, run)
    assert nats.recorder.errors == named.recorder.errors == []


def test_xt10_skip_verify_takes_any_certificate(
    certs, own_server, any_binary, connected, run, caplog
):
    pair = certs.self_signed("self", "elsewhere.example")
    server = own_server(config=server_config(pair), binary=any_binary)
    nats = connected(server, tls=True, tls_skip_verify=True)
    echo(nats, run)
    assert "not verified" in caplog.text


def test_tls_url_asks_for_tls(certs, tls_server, client, run):
    nats = client(
        servers=[f"tls://localhost:{tls_server.port}"], tls_ca_file=str(certs.ca.cert_file)
    )
    run(nats.is_connected)
    assert nats.connected_url() == f"tls://localhost:{tls_server.port}"


def test_B13_tls_method_counts_for_the_next_connection(certs, any_tls_server, client, run):
    nats = client()
    nats.tls(True, str(certs.other_ca.cert_file))
    nats.connect(any_tls_server.host, any_tls_server.port)
    run(lambda: nats.recorder.errors)
    nats.tls(True, str(certs.ca.cert_file))
    nats.connect(any_tls_server.host, any_tls_server.port)
    run(nats.is_connected)
    nats.disconnect()
    nats.tls(True, None, True)
    nats.connect(any_tls_server.host, any_tls_server.port)
    run(nats.is_connected)
    nats.disconnect()
    nats.tls(True)
    nats.connect(any_tls_server.host, any_tls_server.port)
    run(lambda: len(nats.recorder.errors) == 2)
    assert all(isinstance(error, TlsError) for error in nats.recorder.errors)


def test_tls_switched_off_is_off_whatever_else_is_set(certs, server, client, run):
    nats = client()
    nats.tls(False, str(certs.ca.cert_file))
    nats.connect(server.host, server.port)
    run(nats.is_connected)
    assert not inside.is_secure(nats)
    again = client(server, tls=False, tls_ca_file=certs.ca.cert_file)
    run(again.is_connected)


def test_tls_first(certs, good, own_server, any_binary, connected, run):
    server = own_server(config=server_config(good, first=True), silent=True, binary=any_binary)
    nats = connected(server, tls_handshake_first=True, tls_ca_file=certs.ca.cert_file)
    echo(nats, run)


def test_server_that_waits_a_while_for_tls_takes_both_orders(
    certs, good, own_server, any_binary, client, run
):
    config = server_config(good, first=True).replace("_first: true", '_first: "150ms"')
    server = own_server(config=config, silent=True, binary=any_binary)
    for first in (True, False):
        nats = client(server, tls_handshake_first=first, tls_ca_file=certs.ca.cert_file)
        run(nats.is_connected)
        echo(nats, run)
        assert nats.recorder.errors == []


def test_tls_first_with_a_server_that_greets_in_clear_is_refused(
    certs, any_tls_server, client, run
):
    nats = client(any_tls_server, tls_handshake_first=True, tls_ca_file=certs.ca.cert_file)
    run(lambda: nats.recorder.errors)
    assert isinstance(nats.recorder.errors[0], TlsError)


def test_client_certificate(certs, good, own_server, any_binary, connected, run):
    server = own_server(config=server_config(good, ca=certs.ca), binary=any_binary)
    pair = certs.issue("client", "user@example")
    nats = connected(
        server,
        tls_ca_file=certs.ca.cert_file,
        tls_cert_file=pair.cert_file,
        tls_key_file=pair.key_file,
    )
    echo(nats, run)
    both = pair.cert_file.with_name("both.pem")
    both.write_bytes(pair.cert_file.read_bytes() + pair.key_file.read_bytes())
    connected(server, tls_ca_file=certs.ca.cert_file, tls_cert_file=both)


@pytest.mark.parametrize("version", ["TLSv1_2", "TLSv1_3"])
def test_missing_client_certificate_is_a_tls_error_in_both_versions(
    certs, good, fake, client, run, version
):
    """TLS 1.3 tells it only when the client's side of the handshake is complete."""
    context = good.server_context(certs.ca)
    context.minimum_version = context.maximum_version = getattr(ssl.TLSVersion, version)

    def script(peer: Any) -> None:
        peer.send_info(tls_required=True)
        with contextlib.suppress(OSError):
            peer.start_tls(context)

    nats = client(fake(script), tls_ca_file=certs.ca.cert_file, reconnect=True, reconnect_delay=1)
    run(lambda: len(nats.recorder.errors) >= 2)
    for error in nats.recorder.errors:
        assert isinstance(error, TlsError)
        assert "certificate required" in str(error) or "handshake failure" in str(error)
    assert nats.recorder.count("connect") == 0


def test_own_context_is_used(certs, tls_server, connected, client, run):
    context = ssl.create_default_context(cafile=str(certs.ca.cert_file))
    nats = connected(tls_server, tls_context=context)
    echo(nats, run)
    assert inside.stream_of(nats).context is context


def test_a_context_of_ours_is_as_strict_as_pythons_own(certs, tls_server, connected):
    """Whatever this Python's own client contexts refuse, such as RFC 5280's violations from 3.13 on."""
    nats = connected(tls_server, tls_ca_file=certs.ca.cert_file)
    ours, default = inside.stream_of(nats).context, ssl.create_default_context()
    assert ours.verify_flags & default.verify_flags == default.verify_flags
    assert ours.verify_mode is default.verify_mode is ssl.CERT_REQUIRED
    assert ours.check_hostname is default.check_hostname is True
    assert ours.options & default.options == default.options
    assert ours.minimum_version >= ssl.TLSVersion.TLSv1_2


def test_an_authority_without_key_usage_is_refused_where_python_refuses_it(
    certs, own_server, client, run
):
    authority = certs.authority("no key usage", key_usage=False)
    server = own_server(config=server_config(certs.issue("lax", "127.0.0.1", by=authority)))
    nats = client(server, tls_ca_file=authority.cert_file)
    run(lambda: nats.recorder.errors or nats.is_connected())
    strict = getattr(ssl, "VERIFY_X509_STRICT", 0) & ssl.create_default_context().verify_flags
    assert nats.is_connected() is not bool(strict)
    if strict:
        assert "key usage" in str(nats.recorder.errors[0])
    # The way out that the guide names.
    context = ssl.create_default_context(cafile=authority.cert_file)
    context.verify_flags &= ~ssl.VERIFY_X509_STRICT
    taken = client(server, tls_context=context)
    run(taken.is_connected)


@pytest.mark.parametrize(
    ("options", "error"),
    [
        ({"tls_context": "no context"}, TypeError),
        ({"tls_context": ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)}, BadOptionsError),
        ({"tls_context": ssl.create_default_context(), "tls_ca_file": "x"}, BadOptionsError),
        ({"tls_context": ssl.create_default_context(), "tls_skip_verify": True}, BadOptionsError),
        ({"tls_key_file": "key"}, BadOptionsError),
        ({"tls_ca_file": 5}, TypeError),
        ({"tls": "yes"}, TypeError),
    ],
)
def test_senseless_tls_options_raise_at_the_call(client, options, error):
    with pytest.raises(error):
        client(**options)


@pytest.mark.parametrize("error", [RuntimeError("no entropy"), AttributeError(), TypeError("odd")])
def test_whatever_a_context_raises_ends_the_attempt_at_once(fake, client, run, error):
    class Failing(ssl.SSLContext):
        def wrap_bio(self, *args: Any, **options: Any) -> Any:
            raise error

    server = fake(lambda peer: (peer.send_info(tls_required=True), peer.at_eof()))
    context = Failing(ssl.PROTOCOL_TLS_CLIENT)
    nats = client(server, tls_context=context, connect_timeout=0)  # which would never end it
    run(lambda: nats.recorder.errors)
    (failure,) = nats.recorder.errors
    assert isinstance(failure, TlsError)
    assert failure.__cause__ is error
    assert words(failure).startswith("SSL setup failed: ")
    assert (str(error) or "AttributeError") in str(failure)


# Wanted, or required, or neither.


def test_B7_server_that_requires_tls_gets_it_unasked_and_no_secret_in_clear(
    certs, any_tls_server, client, run, proxy, monkeypatch
):
    between = proxy(any_tls_server.port)
    refused = client(between, **SECRETS)
    run(lambda: refused.recorder.errors)
    assert isinstance(refused.recorder.errors[0], TlsError)  # verified, and nobody knows its CA
    monkeypatch.setenv("SSL_CERT_FILE", str(certs.ca.cert_file))
    taken = client(between, **SECRETS)
    run(taken.is_connected)
    echo(taken, run)
    sent = bytes(between.recorded["up"])
    assert sent
    for secret in (*SECRETS.values(), "CONNECT {"):
        assert secret.encode() not in sent


@pytest.mark.parametrize(
    "options",
    [
        {"tls": True}, {"tls_handshake_first": False, "tls_hostname": "x"}, {"tls_skip_verify": True},
        {"tls_ca_file": True}, {"tls_context": ssl.create_default_context()},
    ],
)  # fmt: skip
def test_wanted_but_not_offered_is_refused_before_connect(fake, client, run, certs, options):
    seen: list[bytes] = []

    def script(peer: Any) -> None:
        peer.send_info()
        with contextlib.suppress(ConnectionError):  # the client may end it so
            while data := peer.sock.recv(4096):
                seen.append(data)

    server = fake(script)
    if "tls_ca_file" in options:
        options = {"tls_ca_file": certs.ca.cert_file}
    nats = client(server, reconnect=True, reconnect_delay=1, **options, **SECRETS)
    run(lambda: len(nats.recorder.errors) >= 2)
    for error in nats.recorder.errors:
        assert isinstance(error, SecureConnectionRequiredError)
        assert words(error) == "secure connection not available"
    nats.disconnect()
    assert seen == []


def test_tls_url_of_one_server_makes_it_a_must_for_all(fake, client, run):
    seen: list[bytes] = []

    def script(peer: Any) -> None:
        peer.send_info()
        while data := peer.sock.recv(4096):
            seen.append(data)

    server = fake(script)
    nats = client(
        servers=[f"tls://127.0.0.1:{free_port()}", server.url],
        reconnect=True,
        reconnect_delay=1,
        **SECRETS,
    )
    run(lambda: any(isinstance(e, SecureConnectionRequiredError) for e in nats.recorder.errors))
    nats.disconnect()
    assert seen == []


def test_server_that_had_tls_is_not_spoken_to_without_it(
    certs, good, fake, client, run, monkeypatch
):
    """A nats:// client that was upgraded is not downgraded by who answers next."""
    monkeypatch.setenv("SSL_CERT_FILE", str(certs.ca.cert_file))
    context = good.server_context()

    def honest(peer: Any) -> None:
        peer.handshake(tls=context)
        peer.close()

    def stripped(peer: Any) -> None:
        peer.send_info(tls_required=False)
        assert peer.at_eof()
        assert peer.sock.fileno() >= 0

    nats = client(fake(honest, stripped), reconnect=True, reconnect_delay=1, **SECRETS)
    run(lambda: any(isinstance(e, SecureConnectionRequiredError) for e in nats.recorder.errors))
    assert nats.recorder.count("connect") == 1


def test_tls_available_is_enough_when_wanted_and_not_used_when_not(certs, good, fake, client, run):
    context = good.server_context()
    wanted = client(
        fake(lambda peer: peer.handshake(tls=context, tls_required=False, tls_available=True)),
        tls_ca_file=certs.ca.cert_file,
    )
    run(wanted.is_connected)
    unwanted = client(fake(lambda peer: peer.handshake(tls_available=True)))
    run(unwanted.is_connected)


@pytest.mark.parametrize("stage", ["after CONNECT", "connected"])
@pytest.mark.parametrize("who", ["the server", "the client"])
def test_tls_that_is_asked_for_later_counts_for_the_next_connection(
    certs, good, fake, client, run, stage, who
):
    def plain(peer: Any) -> None:
        peer.send_info()
        peer.until("PING")
        later = {"tls_required": who == "the server"}
        if stage == "connected":
            peer.send("PONG\r\n")
            peer.until("PUB go 0")
            peer.send_info(**later)
            peer.send("-ERR 'Permissions Violation for Publish to \"x\"'\r\n")
        else:
            peer.send_info(**later)
            peer.send("PONG\r\n")
        peer.send("MSG s 1 5\r\nclear\r\n")
        peer.until("PUB end 0")  # still in clear
        peer.close()

    def secure(peer: Any) -> None:
        peer.handshake(tls=good.server_context())
        peer.send("MSG s 1 6\r\nsecure\r\n")
        peer.at_eof()

    def ask() -> str:
        nats.tls(who == "the client", str(certs.ca.cert_file))
        return "token"

    got: list[bytes] = []
    options = {"token_cb": ask} if stage == "after CONNECT" else {}
    nats = client(fake(plain, secure), reconnect=True, reconnect_delay=1, **options)
    nats.subscribe("s", lambda s, payload, r, h: got.append(payload))
    run(nats.is_connected)
    if stage == "connected":
        ask()
        nats.publish("go")
    run(lambda: got == [b"clear"])
    nats.publish("end")
    run(lambda: got == [b"clear", b"secure"])
    assert inside.is_secure(nats)
    assert nats.recorder.count("disconnect") == 1
    kinds = [type(error) for error in nats.recorder.errors]
    assert (PermissionsViolationError in kinds) is (stage == "connected")
    assert TlsError not in kinds


def test_reload_that_turns_tls_on_leaves_live_connections_alone(
    certs, good, any_binary, client, run
):
    """It tells of it with the next change of the cluster."""
    with contextlib.ExitStack() as stack:
        routes = [free_port(), free_port()]
        urls = ",".join(f"nats://127.0.0.1:{port}" for port in routes)
        first, second = (
            NatsServer(
                "--cluster_name", "c", "--cluster", f"nats://127.0.0.1:{port}", "--routes", urls,
                config="max_payload: 1MB", name=f"n{port}", binary=any_binary,
            )
            for port in routes
        )  # fmt: skip
        for server in (first, second):
            stack.callback(server.remove)
        first.start()
        nats = client(first, reconnect=True, reconnect_delay=10)
        run(nats.is_connected)
        first.reload(server_config(good))
        second.start()
        run(nats.discovered_servers)
        echo(nats, run)
        assert nats.recorder.events == ["connect"]
        nats.tls(True, str(certs.ca.cert_file))
        nats.set_server_pool([f"nats://127.0.0.1:{first.port}"])
        nats.force_reconnect()
        run(lambda: nats.recorder.count("reconnect"))
        assert inside.is_secure(nats)
        assert nats.recorder.errors == []


# What is not to be believed before TLS.

FORGED = (
    b'PONG\r\n', b"PING\r\n", b"+OK\r\n", b"-ERR 'Authorization Violation'\r\n", b"\r\n", b"x", b"\x16",
    b'INFO {"max_payload":1,"connect_urls":["6.6.6.6:4222"]}\r\n', b"MSG a 1 0\r\n\r\n",
)  # fmt: skip


@pytest.mark.parametrize("forged", FORGED)
def test_B6_bytes_behind_info_are_an_error_and_never_obeyed(certs, good, fake, client, run, forged):
    context = good.server_context()

    def script(peer: Any) -> None:
        line = (
            b"INFO "
            + str(INFO | {"tls_required": True}).replace("'", '"').replace("True", "true").encode()
        )
        peer.send(line + b"\r\n" + forged)
        peer.at_eof()

    def honest(peer: Any) -> None:
        peer.handshake(tls=context)

    nats = client(
        fake(script, script, honest),
        tls_ca_file=certs.ca.cert_file,
        reconnect=True,
        reconnect_delay=1,
    )
    run(nats.is_connected)
    first, second = nats.recorder.errors
    assert isinstance(first, ProtocolError)
    assert isinstance(second, ProtocolError)
    assert "TLS handshake" in str(first)
    assert nats.recorder.events[0] != "connect"
    assert inside.discovered_urls(nats) == []
    assert nats.max_payload() == 1024 * 1024


def test_B6_bytes_that_come_a_moment_later_break_the_handshake(certs, fake, client, run):
    def script(peer: Any) -> None:
        peer.send_info(tls_required=True)
        peer.sock.recv(1)
        peer.send(b"PONG\r\n")
        peer.at_eof()

    nats = client(fake(script), tls_ca_file=certs.ca.cert_file)
    run(lambda: nats.recorder.errors)
    assert isinstance(nats.recorder.errors[0], TlsError)
    assert nats.recorder.count("connect") == 0


def test_topology_of_an_info_in_clear_is_ignored(certs, good, fake, client, run):
    context = good.server_context()
    ready: list[Any] = []

    def script(peer: Any) -> None:
        peer.handshake(tls=context, connect_urls=["6.6.6.6:4222"], ldm=True, cluster="evil")
        peer.expect("PING")
        ready.append(peer)
        peer.send_info(connect_urls=["127.0.0.2:4222"])
        peer.send("PONG\r\n")

    nats = client(fake(script), tls_ca_file=certs.ca.cert_file)
    done: list[Any] = []
    run(nats.is_connected)
    assert inside.discovered_urls(nats) == []
    nats.flush(done.append)
    run(lambda: done)
    assert inside.discovered_urls(nats) == ["nats://127.0.0.2:4222"]
    assert "lame_duck" not in nats.recorder.events


@pytest.mark.parametrize("text", ["Authorization Violation", "invalid client protocol", "Bla"])
def test_error_in_clear_ends_no_more_than_one_attempt(certs, good, fake, client, run, text):
    context = good.server_context()

    def forged(peer: Any) -> None:
        peer.send(f"-ERR '{text}'\r\n")
        peer.at_eof()

    nats = client(
        fake(forged, forged, forged, lambda peer: peer.handshake(tls=context)),
        tls_ca_file=certs.ca.cert_file,
        reconnect=True,
        reconnect_delay=1,
    )
    run(nats.is_connected)
    assert [words(error) for error in nats.recorder.errors] == [text] * 3


# Set-up that fails, and must not fail open.


@pytest.mark.parametrize("kind", ["missing", "empty", "rubbish", "folder", "fifo"])
def test_B5_bad_ca_file_fails_every_attempt(certs, tls_server, client, run, tmp_path, kind):
    path = tmp_path / "ca.pem"
    if kind == "folder":
        path.mkdir()
    elif kind == "fifo":
        os.mkfifo(path)
    elif kind != "missing":
        path.write_text("" if kind == "empty" else "rubbish")
    nats = client(tls_server, tls=True, tls_ca_file=path, reconnect=True, reconnect_delay=1)
    run(lambda: len(nats.recorder.errors) >= 4)
    assert {type(error) for error in nats.recorder.errors} == {TlsError}
    assert all(words(e).startswith(f"SSL setup failed: {path}: ") for e in nats.recorder.errors)
    assert nats.recorder.count("connect") == 0
    if kind in ("missing", "empty", "rubbish"):  # and when it is good at last, it is used
        path.write_bytes(certs.ca.cert_file.read_bytes())
        run(nats.is_connected)


def test_ca_file_that_changes_counts_for_the_next_connection(
    certs, tls_server, client, run, tmp_path
):
    path = tmp_path / "ca.pem"
    path.write_bytes(certs.ca.cert_file.read_bytes())
    nats = client(tls_server, tls_ca_file=path, reconnect=True, reconnect_delay=1)
    run(nats.is_connected)
    path.write_bytes(certs.other_ca.cert_file.read_bytes())
    nats.force_reconnect()
    run(lambda: len(nats.recorder.errors) >= 2)
    assert nats.recorder.count("connect") == 1
    path.write_bytes(certs.ca.cert_file.read_bytes())
    run(lambda: nats.recorder.count("connect") == 2)


@pytest.mark.parametrize("none", [None, ""])
def test_B12_no_ca_file_means_the_systems_authorities(
    certs, tls_server, client, run, monkeypatch, none
):
    monkeypatch.setenv("SSL_CERT_FILE", str(certs.ca.cert_file))
    nats = client(tls_server, tls=True, tls_ca_file=none)
    run(nats.is_connected)
    nats = client()
    nats.tls(True, none)
    nats.connect(tls_server.host, tls_server.port)
    run(nats.is_connected)


def test_bad_client_certificates_fail_the_attempt(certs, good, tls_server, client, run, tmp_path):
    encrypted = tmp_path / "encrypted.key"
    encrypted.write_bytes(
        good.key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.BestAvailableEncryption(b"s3cret"),
        )
    )
    other = certs.issue("other", "x")
    for key, text in (
        (encrypted, "the private key is encrypted"), (other.key_file, "mismatch"),
        (tmp_path / "none", "No such file"), (certs.ca.cert_file, ""),
    ):  # fmt: skip
        nats = client(
            tls_server,
            tls_ca_file=certs.ca.cert_file,
            tls_cert_file=good.cert_file,
            tls_key_file=key,
        )
        run(lambda nats=nats: nats.recorder.errors)
        (error,) = nats.recorder.errors
        assert isinstance(error, TlsError)
        assert words(error).startswith("SSL setup failed: ")
        assert text in str(error)


def test_old_versions_of_tls_are_refused(certs, good, fake, client, run):
    context = good.server_context()
    context.set_ciphers("ALL:@SECLEVEL=0")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        context.minimum_version = ssl.TLSVersion.TLSv1
        context.maximum_version = ssl.TLSVersion.TLSv1_1

    def script(peer: Any) -> None:
        peer.send_info(tls_required=True)
        with contextlib.suppress(OSError):
            peer.start_tls(context)

    nats = client(fake(script), tls_ca_file=certs.ca.cert_file)
    run(lambda: nats.recorder.errors)
    assert isinstance(nats.recorder.errors[0], TlsError)


def test_B13_tls_behind_a_unix_socket_needs_a_name(certs, tls_server, client, run, unix_socket):
    path = unix_socket(tls_server.port)
    nats = client(path=path, tls_ca_file=certs.ca.cert_file)
    run(lambda: nats.recorder.errors)
    assert "set tls_hostname" in str(nats.recorder.errors[0])
    nats = client(path=path, tls_ca_file=certs.ca.cert_file, tls_hostname="localhost")
    run(nats.is_connected)
    echo(nats, run)
    nats = client(path=path, tls_ca_file=certs.ca.cert_file, tls_hostname="elsewhere")
    run(lambda: nats.recorder.errors)
    assert "elsewhere" in str(nats.recorder.errors[0])


# Names.


@pytest.mark.parametrize(
    ("sans", "host", "hostname", "good"),
    [
        (["127.0.0.1"], "127.0.0.1", None, True),
        (["localhost"], "localhost", None, True),
        (["localhost"], "127.0.0.1", None, False),
        (["127.0.0.2"], "127.0.0.1", None, False),
        (["127.0.0.1"], "localhost", None, False),
        (["DNS:127.0.0.1"], "127.0.0.1", None, False),
        (["elsewhere.example"], "localhost", None, False),
        (["elsewhere.example"], "127.0.0.1", "elsewhere.example", True),
        (["elsewhere.example"], "localhost", "ELSEWHERE.example.", True),
        (["localhost"], "localhost", "elsewhere.example", False),
        (["*.example.com"], "127.0.0.1", "a.example.com", True),
        (["*.example.com"], "127.0.0.1", "a.b.example.com", False),
        (["f*.example.com"], "127.0.0.1", "foo.example.com", False),
        (["::1"], "127.0.0.1", "::1", True),
        ([], "localhost", None, False),  # the common name alone
    ],
)
def test_certificate_must_be_for_the_name_that_the_user_gave(
    certs, fake, client, run, sans, host, hostname, good
):
    context = certs.issue("localhost", *sans).server_context()
    names: list[str | None] = []
    context.sni_callback = lambda sock, name, ctx: names.append(name)

    def script(peer: Any) -> None:
        try:
            peer.handshake(tls=context, host="127.0.0.1")
        except (ssl.SSLError, EOFError):
            assert not good

    server = fake(script)
    options = {"tls_hostname": hostname} if hostname else {}
    nats = client(host=host, port=server.port, tls_ca_file=certs.ca.cert_file, **options)
    run(lambda: nats.is_connected() or nats.recorder.errors)
    assert nats.is_connected() is good
    assert all(isinstance(error, TlsError) for error in nats.recorder.errors)
    name = hostname or host
    # Names are told the server (SNI), addresses are not.
    shown = None if name[0].isdigit() or ":" in name else name.rstrip(".")
    assert names == [shown]


def test_name_in_info_is_not_what_is_verified(certs, fake, client, run):
    context = certs.issue("evil", "evil.example").server_context()

    def script(peer: Any) -> None:
        with pytest.raises(ssl.SSLError):
            peer.handshake(tls=context, host="evil.example", ip="evil.example")

    nats = client(fake(script), tls_ca_file=certs.ca.cert_file)
    run(lambda: nats.recorder.errors)
    assert "verify failed" in str(nats.recorder.errors[0])


def test_discovered_server_of_a_cluster_is_verified_by_the_name_that_the_user_gave(
    certs, any_binary, client, run
):
    """Its certificate has no IP address, and an IP address is all that servers tell of each other.

    It joins later: 2.10 tells who is there already in the INFO in clear alone, which counts for nothing.
    """
    config = server_config(certs.issue("named", "localhost"))
    routes = [free_port(), free_port()]
    urls = ",".join(f"nats://127.0.0.1:{port}" for port in routes)
    servers = [
        NatsServer(
            "--cluster_name", "c", "--cluster", f"nats://127.0.0.1:{port}", "--routes", urls,
            config=config, name=f"n{port}", binary=any_binary,
        )
        for port in routes
    ]  # fmt: skip
    try:
        first, second = servers
        first.start()
        nats = client(
            host="localhost", port=first.port, tls_ca_file=certs.ca.cert_file, reconnect=True,
            reconnect_delay=10,
        )  # fmt: skip
        run(nats.is_connected)
        second.start()
        other = f"127.0.0.1:{second.port}"
        run(lambda: any(other in url for url in inside.discovered_urls(nats)))
        echo(nats, run)
        first.kill()
        run(lambda: nats.recorder.count("reconnect"))
        assert other in nats.connected_url()
        assert inside.is_secure(nats)
        echo(nats, run)
    finally:
        for server in servers:
            server.remove()


# The handshake that does not end well.


def test_handshake_that_stalls_ends_at_connect_timeout(certs, fake, client, run):
    def script(peer: Any) -> None:
        peer.send_info(tls_required=True)
        peer.at_eof()

    nats = client(fake(script), tls_ca_file=certs.ca.cert_file, connect_timeout=200)
    run(lambda: nats.recorder.errors)
    assert isinstance(nats.recorder.errors[0], ConnectTimeoutError)


@pytest.mark.parametrize("mode", ["plain", "tls", "tls first"])
def test_one_byte_now_and_then_does_not_outlast_connect_timeout(
    certs, good, own_server, proxy, client, run, mode
):
    """Whatever the server's bytes are part of: INFO, the TLS handshake, the end of it."""
    first = mode == "tls first"
    config = "" if mode == "plain" else server_config(good, first=first, timeout=30)
    between = proxy(own_server(config=config, silent=first).port)
    between.split(1, "down")
    between.delay(20, "down")
    options = {} if mode == "plain" else {"tls_ca_file": certs.ca.cert_file}
    nats = client(
        between, tls_handshake_first=first, connect_timeout=200, reconnect=True, reconnect_delay=1,
        **options,
    )  # fmt: skip
    run(lambda: len(nats.recorder.errors) == 3)
    assert {type(error) for error in nats.recorder.errors} == {ConnectTimeoutError}
    assert len(between.recorded["down"]) > 50  # it did answer
    nats.connect_timeout(5000)
    between.delay(0)
    run(nats.is_connected)
    echo(nats, run, b"x" * 100)


@pytest.mark.parametrize("answer", [b"", b"rubbish\r\n", b"\x16\x03\x03\x00\x04\x02\x00\x00\x00"])
def test_handshake_with_rubbish_or_an_end_is_a_tls_error(certs, fake, client, run, answer):
    def script(peer: Any) -> None:
        peer.send_info(tls_required=True)
        peer.sock.recv(1)
        peer.send(answer)
        peer.close()

    nats = client(fake(script), tls_ca_file=certs.ca.cert_file)
    run(lambda: nats.recorder.errors)
    (error,) = nats.recorder.errors
    assert isinstance(error, (TlsError, ConnectError))
    assert nats.recorder.events == [f"error: {words(error)}"]


def test_refused_server_is_told_why(certs, fake, client, run):
    context = certs.self_signed("self", "127.0.0.1").server_context()
    told: list[str] = []

    def script(peer: Any) -> None:
        try:
            peer.handshake(tls=context)
        except ssl.SSLError as exc:
            told.append(exc.reason)

    nats = client(fake(script), tls_ca_file=certs.ca.cert_file)
    run(lambda: nats.recorder.errors)
    wait_for(lambda: told)  # in the server's thread; the loop has ended
    assert told == ["TLSV1_ALERT_UNKNOWN_CA"]


def test_many_failed_handshakes_leak_no_descriptor(certs, tls_server, client, run):
    nats = client(
        tls_server, tls_ca_file=certs.other_ca.cert_file, reconnect=True, reconnect_delay=0,
        max_reconnect_attempts=0,
    )  # fmt: skip
    run(lambda: len(nats.recorder.errors) >= 20)
    before = descriptors()
    run(lambda: len(nats.recorder.errors) >= 200)
    after = descriptors()
    assert after <= before + 2


# The end.


def test_B13_disconnect_says_good_bye(certs, good, fake, client, run):
    context, ends = good.server_context(), []

    def script(peer: Any) -> None:
        peer.handshake(tls=context)
        ends.append(peer.sock.recv(100))  # raises when it is cut off

    nats = client(fake(script), tls_ca_file=certs.ca.cert_file)
    run(nats.is_connected)
    nats.disconnect()
    wait_for(lambda: ends)
    assert ends == [b""]


def test_end_of_the_tls_connection_is_a_plain_end_and_data_before_it_counts(
    certs, good, fake, client, run
):
    context = good.server_context()

    def script(peer: Any) -> None:
        peer.handshake(tls=context)
        peer.until(r"SUB end\S* \d+")
        peer.send("MSG end 1 4\r\nlast\r\n")
        peer.sock = peer.sock.unwrap()  # says good-bye, and leaves the TCP connection open
        assert peer.at_eof()

    got: list[bytes] = []
    nats = client(fake(script), tls_ca_file=certs.ca.cert_file)
    run(nats.is_connected)
    nats.subscribe("end", lambda s, payload, r, h: got.append(payload))
    run(lambda: nats.recorder.count("disconnect"))
    assert got == [b"last"]
    assert nats.recorder.errors == []


def test_tls_connection_that_is_cut_off_is_reported(certs, good, fake, client, run):
    context = good.server_context()

    def script(peer: Any) -> None:
        peer.handshake(tls=context)
        peer.close()  # no close_notify

    nats = client(fake(script), tls_ca_file=certs.ca.cert_file)
    run(lambda: nats.recorder.count("disconnect"))
    (error,) = nats.recorder.errors
    assert isinstance(error, UnexpectedEOFError)
    assert "close_notify" in str(error)


def test_record_that_was_tampered_with_ends_the_connection(certs, good, fake, client, run):
    context = good.server_context()

    def script(peer: Any) -> None:
        peer.handshake(tls=context)
        raw = socket.socket(fileno=os.dup(peer.sock.fileno()))
        raw.sendall(b"\x17\x03\x03\x00\x20" + bytes(32))
        raw.close()
        with pytest.raises(ssl.SSLError, match="BAD_RECORD_MAC"):
            peer.at_eof()

    nats = client(fake(script), tls_ca_file=certs.ca.cert_file)
    run(lambda: nats.recorder.count("disconnect"))
    assert len(nats.recorder.errors) == 1


# Sessions.


def test_no_session_is_resumed(certs, any_tls_server, client, run):
    """A resumed session is not verified again, and CPython leaks memory each time a session is read."""
    nats = client(any_tls_server, tls_ca_file=certs.ca.cert_file, reconnect=True, reconnect_delay=1)
    run(nats.is_connected)
    echo(nats, run)
    nats.force_reconnect()
    run(lambda: nats.recorder.count("reconnect"))
    assert not inside.stream_of(nats).resumed
    echo(nats, run)


def test_trust_that_has_changed_counts_for_the_next_connection(certs, tls_server, client, run):
    nats = client(tls_server, tls_ca_file=certs.ca.cert_file, reconnect=True, reconnect_delay=1)
    run(nats.is_connected)
    echo(nats, run)
    nats.tls(True, str(certs.other_ca.cert_file))
    nats.force_reconnect()
    run(lambda: nats.recorder.errors)
    assert isinstance(nats.recorder.errors[0], TlsError)


def test_a_context_that_its_owner_changes_counts_for_the_next_connection(
    certs, tls_server, client, run
):
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    nats = client(tls_server, tls_context=context, reconnect=True, reconnect_delay=1)
    run(nats.is_connected)
    echo(nats, run)
    context.verify_mode = ssl.CERT_REQUIRED  # it trusts no authority
    nats.force_reconnect()
    run(lambda: nats.recorder.errors)
    assert isinstance(nats.recorder.errors[0], TlsError)


@pytest.mark.slow
def test_memory_is_flat_over_tls_reconnects(certs, tls_server, client, run):
    nats = client(tls_server, tls_ca_file=certs.ca.cert_file, reconnect=True, reconnect_delay=1)

    def reconnect(times: int) -> None:
        for _ in range(times):
            run(nats.is_connected)
            nats.force_reconnect()

    reconnect(150)
    before = resident()
    reconnect(300)
    # The leak was 5.6 kB each time: 1.7 MB.
    assert resident() - before < 800_000


def test_change_of_keys_in_mid_stream(certs, good, client, run):
    """`openssl s_server` sends a KeyUpdate on the command K, and wants one back."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    server = subprocess.Popen(
        ["openssl", "s_server", "-tls1_3", "-crlf", "-port", str(port), "-naccept", "1",
         "-cert", str(good.cert_file), "-key", str(good.key_file)],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    said, heard = server.stdin, server.stdout
    assert said is not None
    assert heard is not None
    seen = bytearray()

    def hears(what: bytes) -> bool:
        if select.select([heard], [], [], 0)[0]:
            seen.extend(os.read(heard.fileno(), 65536))
        return what in seen

    def say(what: bytes) -> None:
        said.write(what)
        said.flush()

    try:
        nats = client(
            host="127.0.0.1", port=port, tls_handshake_first=True, tls_ca_file=certs.ca.cert_file,
            reconnect=True, reconnect_delay=10,
        )  # fmt: skip
        say(b'INFO {"max_payload":1000000,"headers":true}\n')
        run(lambda: hears(b"PING\r\n"))
        nats.recorder.errors.clear()  # until it listened
        say(b"pong\n")  # a line that begins with P is a command
        run(nats.is_connected)
        for i in range(5):
            say(b"K\n")
            nats.publish("after.keys", b"%d" % i)
            run(lambda i=i: hears(b"PUB after.keys 1\r\n%d" % i))
        assert nats.recorder.errors == []
    finally:
        server.kill()
        server.communicate()
