"""WebSocket on real servers and on servers that break its rules."""

from __future__ import annotations

import json
import logging
import os
import socket
import threading
import time
from collections.abc import Callable
from typing import Any

import pytest

from lab import inside
from lab.natsserver import NatsServer
from lab.steps import collect, flushed
from lab.ws_frames import (
    BINARY,
    CLOSE,
    DEFLATE,
    WsPeer,
    answer,
    deflated,
    frame,
    inflated,
    read_request,
)
from nats_ev import (
    BadOptionsError,
    ConnectError,
    Nats,
    ProtocolError,
    Status,
    TlsError,
    WebSocketClosedError,
    WebSocketError,
    WriteTimeoutError,
)
from nats_ev.connection import parse_server
from nats_ev.net.transport import Stream
from nats_ev.testing import CuttingProxy

FAST = {"reconnect": True, "reconnect_delay": 20}
MIB = 1024 * 1024


@pytest.fixture
def ws_server(own_server: Any) -> Callable[..., NatsServer]:
    """Starts servers with WebSocket: ws_server(tls=…, websocket="…")."""

    def start(**options: Any) -> NatsServer:
        return own_server(**{"websocket": True, **options})

    return start


def subscribed(nats: Nats, subject: str) -> list[bytes]:
    """The payloads that come."""
    got: list[bytes] = []
    nats.subscribe(subject, collect(got))
    return got


def url_of(fake: Any) -> str:
    return f"ws://127.0.0.1:{fake.port}"


def exchange(nats: Nats, run: Any) -> None:
    """Messages of all sizes, with headers and without, there and back, in order."""
    got: list[Any] = []
    nats.subscribe("x.>", lambda *message: got.append(message))
    sizes = [0, 1, 100, 125, 126, 127, 4096, 65535, 65536, 70_000, MIB - 100]
    payloads = [os.urandom(size) for size in sizes] + [b"again and again " * 1000] * 3
    for i, payload in enumerate(payloads):
        nats.publish(f"x.{i}", payload, headers={"N": str(i)} if i % 2 else None)
    run(lambda: len(got) == len(payloads))
    assert [payload for _, payload, _, _ in got] == payloads
    assert got[1][3] == b"NATS/1.0\r\nN: 1\r\n\r\n"
    answers: list[Any] = []
    nats.subscribe("echo", lambda s, payload, reply, h: nats.publish(reply, payload))
    nats.request("echo", b"ask", lambda response, err, headers: answers.append(response))
    run(lambda: answers == [b"ask"])


@pytest.mark.parametrize("compression", [False, True])
@pytest.mark.parametrize("tls", [False, True], ids=["ws", "wss"])
def test_messages_pass_on_every_line(
    ws_server, connected, run, certs, any_binary, tls, compression
):
    server = ws_server(tls=certs if tls else False, binary=any_binary)
    nats = connected(None, **server.ws_options, ws_compression=compression)
    assert nats.connected_url() == server.ws_url
    assert [entry["url"] for entry in nats.server_pool()] == [server.ws_url]
    stream = inside.stream_of(nats)
    assert (stream.compressed, stream.masked) == (compression, False)
    assert inside.is_secure(nats) is tls
    if tls:
        assert nats.tls_version() == "TLSv1.3"
    exchange(nats, run)
    assert nats.recorder.errors == []


@pytest.mark.parametrize("compression", [False, True])
def test_messages_are_masked_where_the_server_does_not_take_others(
    ws_server, connected, run, monkeypatch, compression
):
    from nats_ev.net.websocket.upgrade import Upgrade

    made = Upgrade.__init__

    def without(self: Any, *args: Any) -> None:
        made(self, *args)
        self.request = self.request.replace(b"Nats-No-Masking: true\r\n", b"")

    monkeypatch.setattr(Upgrade, "__init__", without)
    nats = connected(None, servers=[ws_server().ws_url], ws_compression=compression)
    assert inside.stream_of(nats).masked
    exchange(nats, run)


def test_a_small_max_payload_bounds_what_is_deflated_at_once(ws_server, connected, run):
    """The server refuses a message that inflates to more than its max_payload."""
    server = ws_server(config="max_payload: 1000")
    nats = connected(None, servers=[server.ws_url], ws_compression=True)
    got = subscribed(nats, "a")
    for _ in range(200):
        nats.publish("a", b"x" * 900)
    run(lambda: len(got) == 200)
    assert nats.recorder.errors == []


def test_a_later_info_bounds_what_is_deflated_at_once(fake, connected, run):
    sizes: list[int] = []

    def script(peer: Any) -> None:
        ws = handshaken(peer, Sec_WebSocket_Extensions=DEFLATE)
        ws.send('INFO {"server_id":"F","version":"2.11.0","max_payload":1000}\r\n')
        while len(sizes) < 20:
            bits, opcode, _, payload = ws.raw.frame()
            if opcode == BINARY:
                sizes.append(len(inflated(payload) if bits & 4 else payload))
                assert sizes[-1] <= 1000 or not bits & 4
        ws.at_eof()

    nats = connected(None, servers=[url_of(fake(script))], ws_compression=True)
    run(lambda: json.loads(nats.server_info()).get("max_payload") == 1000)
    for _ in range(200):
        nats.publish("a", b"x" * 900)
    run(lambda: len(sizes) >= 20)
    assert max(sizes) == 1000


def test_one_iteration_is_one_frame_in_one_send(ws_server, connected, run, monkeypatch, loop):
    nats = connected(None, servers=[ws_server().ws_url])
    sends: list[bytes] = []
    made = Stream.send

    def note(self: Any, data: Any) -> int:
        sends.append(bytes(data))
        return made(self, data)

    monkeypatch.setattr(Stream, "send", note)
    done: list[Any] = []

    def publish() -> None:
        for i in range(500):
            nats.publish(f"a.{i}", b"payload")
        nats.flush(done.append)

    nats.call_soon(publish)
    run(lambda: done)
    assert len(sends) == 1
    assert sends[0][:2] == b"\x82\x7e"
    assert int.from_bytes(sends[0][2:4], "big") == len(sends[0]) - 4


# Names, addresses, options.


def test_urls_have_default_ports_paths_and_queries() -> None:
    for url, port, tls, target, shown in (
        ("ws://h", 80, False, "/", "ws://h:80"),
        ("wss://H/", 443, True, "/", "wss://h:443"),
        ("wss://u:p@h:9/a/b?t=s3cret", 9, True, "/a/b?t=s3cret", "wss://h:9/a/b"),
        ("ws://[::1]/%20ä", 80, False, "/%20%C3%A4", "ws://[::1]:80/%20%C3%A4"),
        ("WS://h?q=1", 80, False, "/?q=1", "ws://h:80"),
    ):
        server = parse_server(url)
        assert (server.ws, server.port, server.tls) == (True, port, tls)
        assert (server.target, server.url) == (target, shown)
        assert parse_server(server.url).key == server.key
    assert parse_server("ws://h").authority(False) == "h"
    assert parse_server("wss://h").authority(True) == "h"
    assert parse_server("wss://[::1]:80").authority(True) == "[::1]:80"
    assert parse_server("ws://bücher.example:81/").authority(False) == "xn--bcher-kva.example:81"
    assert parse_server("ws://t0ken@h").token == "t0ken"
    for bad in (
        "ws://", "ws://h/#f", "ws://h:0", "wss://h:x/?t=s3cret", "wsx://h", "nats://h/p",
        "ws://h:99999/?t=a@s3cret", "WS://h/?t=a@s3cret#f", "ws://h:0/p#s3cret", "ws:h/?t=s3cret",
        "http://h/?t=s3cret", "h/?t=s3cret", "h/?t=a@s3cret", "nats://h/p@h?t=s3cret",
    ):  # fmt: skip
        with pytest.raises(BadOptionsError) as caught:
            parse_server(bad)
        assert "s3cret" not in str(caught.value)


def test_host_may_be_a_url_and_port_its_port(loop) -> None:
    for options, url in (
        ({"host": "ws://127.0.0.1"}, "ws://127.0.0.1:80"),
        ({"host": "wss://127.0.0.1/x"}, "wss://127.0.0.1:443/x"),
        ({"host": "ws://127.0.0.1", "port": 81}, "ws://127.0.0.1:81"),
    ):
        nats = Nats(loop=loop, **options)
        assert [entry["url"] for entry in nats.server_pool()] == [url]
        nats.disconnect()


def test_a_host_that_is_none_shows_no_query(loop) -> None:
    for host in ("h/?t=s3cret", "h/?t=a#s3cret", "h#s3cret"):
        with pytest.raises(BadOptionsError, match="host must be") as caught:
            Nats(loop=loop, host=host)
        assert "s3cret" not in str(caught.value)


def test_websocket_and_other_servers_are_not_mixed(loop) -> None:
    for urls in (["ws://a", "nats://b"], ["b", "wss://a"], ["unix:///x", "ws://a"]):
        with pytest.raises(ValueError, match="can't be mixed"):
            Nats(loop=loop, servers=urls)
    nats = Nats(loop=loop)
    nats.set_server_pool(["ws://a", "wss://b/c"])
    with pytest.raises(ValueError, match="can't be mixed"):
        nats.set_server_pool(["ws://a", "tls://b"])
    assert sorted(entry["url"] for entry in nats.server_pool()) == ["ws://a:80", "wss://b:443/c"]


def test_no_repr_shows_a_query_that_may_be_secret(loop) -> None:
    nats = Nats(loop=loop, servers="ws://h/p?s3cret=1", ws_proxy_path="/q?s3cret=2")
    assert "s3cret" not in f"{nats!r} {nats._options!r} {nats.server_pool()}"


def test_bad_headers_and_paths_are_refused_and_not_shown(loop) -> None:
    for headers in (
        {"X": "s3cret\r\nY: z"},
        {"X": "s3cret\n"},
        {"X Y": "s3cret"},
        {"": "s3cret"},
        {"Upgrade": "s3cret"},
        {"sec-websocket-key": "s3cret"},
        {"X": ["ok", "s3cret\0"]},
    ):
        with pytest.raises(BadOptionsError) as caught:
            Nats(loop=loop, ws_headers=headers)
        assert "s3cret" not in str(caught.value)
    for wrong in (["X"], {"X": 1}, {1: "x"}, "X: y"):
        with pytest.raises(TypeError):
            Nats(loop=loop, ws_headers=wrong)
    for path in ("a b", "/a#b", "ws://h/p"):
        with pytest.raises(BadOptionsError):
            Nats(loop=loop, ws_proxy_path=path)
    assert "s3cret" not in repr(Nats(loop=loop, ws_headers={"Authorization": "s3cret"}))


@pytest.mark.parametrize(
    ("path", "options", "target"),
    [
        ("", {}, "/"),
        ("/a/b?c=d", {}, "/a/b?c=d"),
        ("/a/b?c=d", {"ws_proxy_path": "nats/x?y"}, "/nats/x?y"),
    ],
)
def test_the_request_has_path_headers_and_host(fake, client, run, path, options, target):
    seen: list[Any] = []

    def script(peer: Any) -> None:
        ws = WsPeer(peer)
        seen.append((ws.request, ws.headers, ws.handshake()))
        ws.at_eof()

    server = fake(script)
    calls: list[int] = []

    def more() -> dict[str, Any]:
        calls.append(1)
        return {"x-two": "cb", "X-Three": ["a", "b"]}

    headers = {"X-One": "1", "X-Two": "static", "Cookie": "jwt=ey"}
    url = f"ws://me:pass@127.0.0.1:{server.port}{path}"
    nats = client(servers=[url], ws_headers=headers, ws_headers_cb=more, **options)
    run(nats.is_connected)
    request, found, connect = seen[0]
    assert request == f"GET {target} HTTP/1.1"
    assert found["host"] == f"127.0.0.1:{server.port}"
    assert (found["x-one"], found["cookie"], found["x-two"]) == ("1", "jwt=ey", "cb")
    assert found["x-three"] == "b"  # the last of two lines
    assert (connect["user"], connect["pass"]) == ("me", "pass")
    assert "authorization" not in found
    assert calls == [1]


def test_headers_are_asked_for_at_each_attempt_and_may_replace_the_host(fake, client, run):
    hosts: list[str] = []

    def script(peer: Any) -> None:
        ws = WsPeer(peer)
        hosts.append(ws.headers["host"])
        ws.handshake()
        if len(hosts) > 1:
            ws.at_eof()
        peer.close()

    numbers = iter(range(100))
    server = fake(script)
    nats = client(
        servers=[url_of(server)],
        ws_headers={"Host": "static"},
        ws_headers_cb=lambda: {"host": f"n{next(numbers)}"},
        **FAST,
    )
    run(lambda: len(hosts) >= 2 and nats.is_connected())
    assert hosts[:2] == ["n0", "n1"]


@pytest.mark.parametrize("wrong", [{"X": 1}, ["X"], {"X": "s3cret\n"}, ValueError("no vault")])
def test_what_the_callback_does_wrong_ends_the_attempt(fake, client, run, wrong):
    def callback() -> Any:
        if isinstance(wrong, Exception):
            raise wrong
        return wrong

    nats = client(servers=[url_of(fake(lambda peer: peer.at_eof()))], ws_headers_cb=callback)
    run(lambda: nats.recorder.errors)
    error = nats.recorder.errors[0]
    assert type(error) is ConnectError
    assert "ws_headers_cb: " in str(error)
    assert "s3cret" not in str(error)


def test_a_callback_may_disconnect(fake, client, run):
    nats = client(ws_headers_cb=lambda: nats.disconnect())
    nats.connect(url_of(fake(lambda peer: peer.at_eof())))
    run(lambda: nats.status() is Status.CLOSED)
    assert nats.recorder.errors == []


# Discovered servers, loss, TLS.


def clustered(ws_server: Any, name: str, route: str = "") -> NatsServer:
    """A server of a cluster, whose own route is in its file of ports."""
    routes = f"routes: ['{route}']" if route else ""
    return ws_server(name=name, config=f"cluster {{ name: c, listen: '127.0.0.1:-1', {routes} }}")


def test_discovered_servers_are_websocket_servers_too(ws_server, client, run):
    first = clustered(ws_server, "a")
    second = clustered(ws_server, "b", first.ports["cluster"][0])
    found: list[str] = []
    nats = client(
        servers=[f"{first.ws_url}/path"],
        on_discovered_servers=found.extend,
        ws_proxy_path="/x",
        **FAST,
    )
    pool = {f"{first.ws_url}/path", second.ws_url}
    run(lambda: {entry["url"] for entry in nats.server_pool()} == pool)
    first.kill()
    run(lambda: nats.connected_url() == second.ws_url)
    exchange(nats, run)


def test_what_waits_is_sent_once_after_a_cut(ws_server, connected, run):
    server = ws_server()
    between = CuttingProxy(server.ws_url)
    try:
        other = connected(None, servers=[server.ws_url])
        got = subscribed(other, "n")
        flushed(other, run)
        nats = connected(None, servers=[f"ws://127.0.0.1:{between.port}"], **FAST)
        number = 0
        for _ in range(5):
            between.cut()
            for _ in range(300):
                nats.publish("n", f"{number:05d}" + "x" * 300)
                number += 1
            run(lambda: nats.recorder.count("reconnect") > 0 and nats.is_connected())
        done: list[Any] = []
        nats.flush(lambda err: done.append(err))
        run(lambda: done)
        flushed(other, run)
        numbers = [int(message[:5]) for message in got]
        assert numbers == sorted(set(numbers))  # none twice, and in order
        stats = nats.stats()
        assert stats["msgs_out"] == number
    finally:
        between.close()


def test_wss_verifies_as_tls_does(ws_server, client, run, certs):
    server = ws_server(tls=certs)
    for options, text in (
        ({}, "certificate verify failed"),
        ({**server.ws_options, "tls_hostname": "other"}, "certificate verify failed"),
    ):
        nats = client(**{"servers": [server.ws_url], **options})
        run(lambda nats=nats: nats.recorder.errors)
        error = nats.recorder.errors[0]
        assert isinstance(error, TlsError)
        assert text in str(error)
        assert f"127.0.0.1:{server.ws_port}" in str(error)
    nats = client(servers=[server.ws_url], tls_skip_verify=True)
    run(nats.is_connected)


def test_an_option_of_tls_secures_ws_as_well(ws_server, client, run, certs):
    server = ws_server(tls=certs, tls_verify=True)
    options = server.ws_options | {"servers": [server.ws_url.replace("wss", "ws")]}
    nats = client(**options)
    run(nats.is_connected)
    assert inside.is_secure(nats)
    exchange(nats, run)


def test_nothing_is_secured_again_inside(ws_server, client, run, certs):
    """The server wants TLS on its port for nats://, and its proxy has ended it for WebSocket."""
    server = ws_server(tls=certs, websocket="no_tls: true")
    nats = client(servers=[server.ws_url.replace("wss", "ws")])
    run(nats.is_connected)
    assert not inside.is_secure(nats)


@pytest.mark.parametrize("tls", [False, True])
def test_the_wrong_port_is_named(ws_server, client, run, certs, tls):
    server = ws_server(tls=certs if tls else False)
    ws = "wss" if tls else "ws"
    nats = client(servers=[f"{ws}://127.0.0.1:{server.port}"], tls_skip_verify=tls)
    run(lambda: nats.recorder.errors)
    assert isinstance(nats.recorder.errors[0], TlsError if tls else WebSocketError)
    if not tls:
        assert "as the port for nats:// does" in str(nats.recorder.errors[0])
    plain = client(servers=[f"nats://127.0.0.1:{server.ws_port}"], connect_timeout=300)
    run(lambda: plain.recorder.errors)


def test_credentials_of_the_url_and_refusals(ws_server, client, run):
    server = ws_server(config='authorization { user: "me", password: "p w" }')
    address = f"127.0.0.1:{server.ws_port}"
    nats = client(servers=[f"ws://me:p%20w@{address}"])
    run(nats.is_connected)
    assert "p%20w" not in nats.connected_url()
    wrong = client(servers=[f"ws://me:wrong@{address}"])
    run(lambda: wrong.recorder.errors)
    assert "Authorization Violation" in str(wrong.recorder.errors[0])


def test_the_trace_shows_frames_of_nats(ws_server, client, run, caplog):
    caplog.set_level(logging.DEBUG, "nats_ev.protocol")
    nats = client(servers=[ws_server().ws_url], ws_compression=True)
    run(nats.is_connected)
    got = subscribed(nats, "a")
    nats.publish("a", b"payload")
    run(lambda: got)
    lines = [r.getMessage() for r in caplog.records if r.name == "nats_ev.protocol"]
    assert any(line.startswith("← INFO {") for line in lines)
    assert "→ PUB a 7 'payload'" in lines


def test_drain_pause_and_force_reconnect(ws_server, connected, run, loop):
    server = ws_server()
    nats = connected(None, servers=[server.ws_url], **FAST)
    got = subscribed(nats, "a")
    nats.pause_reading()
    for _ in range(100):
        nats.publish("a", b"x")
    other = connected(None, servers=[server.ws_url])
    flushed(other, run)
    assert got == []
    nats.resume_reading()
    run(lambda: len(got) == 100)
    nats.force_reconnect()
    run(lambda: nats.recorder.count("reconnect") == 1)
    for _ in range(100):
        nats.publish("a", b"x")
    done: list[Any] = []
    nats.drain(done.append)
    run(lambda: done)
    assert done == [None]
    assert len(got) == 200


def test_a_server_that_does_not_read_ends_by_write_timeout(fake, connected, run):
    def script(peer: Any) -> None:
        WsPeer(peer).handshake()
        stop.wait(30)

    stop = threading.Event()
    server = fake(script)
    server.receive_buffer(4096)
    try:
        nats = connected(None, servers=[url_of(server)], write_timeout=300)
        nats.publish("a", bytes(MIB - 100))
        for _ in range(20):
            nats.publish("a", bytes(MIB - 100))
        run(lambda: nats.recorder.errors)
        assert isinstance(nats.recorder.errors[0], WriteTimeoutError)
    finally:
        stop.set()


def test_a_child_of_a_fork_says_nothing_on_the_connection(ws_server, connected, run):
    nats = connected(None, servers=[ws_server().ws_url])
    pid = os.fork()
    if pid == 0:
        try:
            nats.disconnect()
        finally:
            os._exit(0)
    os.waitpid(pid, 0)
    flushed(nats, run)
    assert nats.recorder.errors == []


# Servers that break the rules.


def handshaken(peer: Any, **changes: Any) -> WsPeer:
    ws = WsPeer(peer, **changes)
    ws.handshake()
    return ws


CASES = {
    "masked": (frame(BINARY, b"PING\r\n", mask=b"1234"), ProtocolError, "masks", 1002),
    "text": (frame(1, b"PING\r\n"), ProtocolError, "text", 1003),
    "opcode": (frame(5, b""), ProtocolError, "opcode", 1002),
    "reserved": (frame(BINARY, b"x", rsv=2), ProtocolError, "reserved", 1002),
    "huge": (b"\x82\x7f" + b"\x7f" + b"\xff" * 7, ProtocolError, "too big", 1009),
    "long control": (frame(9, b"x" * 126), ProtocolError, "125", 1002),
    "garbage": (os.urandom(3).replace(b"\x82", b"!") + b"\xff" * 60, ProtocolError, "", None),
    "bomb": (
        frame(BINARY, deflated(bytes(30_000_000)), rsv=4), ProtocolError, "max_message_size", 1009,
    ),
    "close 1008": (frame(CLOSE, b"\x03\xf0why"), WebSocketClosedError, "1008: 'why'", 1008),
    "close 1011": (frame(CLOSE, b"\x03\xf3"), WebSocketClosedError, "code 1011", 1011),
}  # fmt: skip


@pytest.mark.parametrize("name", CASES)
def test_a_server_that_breaks_the_rules_is_left_with_a_code(fake, client, run, name):
    sent, kind, text, code = CASES[name]
    codes: list[int] = []

    def bad(peer: Any) -> None:
        ws = handshaken(peer, Sec_WebSocket_Extensions=DEFLATE)
        ws.send("MSG a 1 4\r\ngood\r\n")
        peer.sock.sendall(sent)
        codes.append(ws.close_code())

    def good(peer: Any) -> None:
        handshaken(peer).at_eof()

    server = fake(bad, good)
    nats = client(
        servers=[url_of(server)], ws_compression=True, max_message_size=10_000_000, **FAST
    )
    got = subscribed(nats, "a")
    run(lambda: nats.recorder.count("reconnect") == 1)
    assert got == [b"good"]
    (error,) = nats.recorder.errors
    assert type(error) is kind
    assert text in str(error)
    assert f"127.0.0.1:{server.port}" in str(error)
    if code is not None:
        run(lambda: codes)
        assert codes == [code]


@pytest.mark.parametrize("code", [b"", b"\x03\xe8", b"\x03\xe9bye"])
def test_a_server_that_goes_away_is_a_plain_loss(fake, client, run, code):
    def away(peer: Any) -> None:
        ws = handshaken(peer)
        peer.sock.sendall(frame(CLOSE, code))
        ws.close_code()

    nats = client(servers=[url_of(fake(away, lambda peer: handshaken(peer).at_eof()))], **FAST)
    run(lambda: nats.recorder.count("reconnect") == 1)
    assert nats.recorder.errors == []


REFUSALS = {
    "401": (
        b"HTTP/1.1 401 Unauthorized\r\nWWW-Authenticate: s3cret\r\n\r\n",
        "401 Unauthorized",
        401,
    ),
    "403": (b"HTTP/1.1 403 Forbidden\r\n\r\n", "403 Forbidden", 403),
    "404": (b"HTTP/1.1 404 Not Found\r\nContent-Length: 3\r\n\r\nno!", "404 Not Found", 404),
    "502": (b"HTTP/1.1 502 Bad Gateway\r\n\r\n", "502 Bad Gateway", 502),
    "302": (b"HTTP/1.1 302 Found\r\nLocation: ws://s3cret/\r\n\r\n", "not followed", 302),
    "SSH": (b"SSH-2.0-OpenSSH_9.2\r\n", "b'SSH-2.0-OpenSSH_9.2'", None),
    "cut": (b"HTTP/1.1 101 Switching", "in the middle of its answer", None),
    "nothing": (b"", "before its answer", None),
    "long": (b"HTTP/1.1 101 x\r\n" + b"X: s3cret\r\n" * 10_000, "longer than", None),
}


@pytest.mark.parametrize("name", REFUSALS)
def test_an_answer_that_refuses_is_an_error_of_the_attempt(fake, client, run, name):
    sent, text, status = REFUSALS[name]

    def script(peer: Any) -> None:
        read_request(peer)
        peer.send(sent)
        peer.sock.shutdown(socket.SHUT_WR)
        peer.at_eof()

    server = fake(script)
    nats = client(servers=[url_of(server)])
    run(lambda: nats.recorder.errors)
    error = nats.recorder.errors[0]
    assert type(error) is WebSocketError
    assert text in str(error)
    assert error.status == status
    assert (error.server, error.address) == (url_of(server), f"127.0.0.1:{server.port}")
    assert "s3cret" not in str(error)


def test_a_peer_that_repeats_the_request_shows_nothing_of_it(fake, client, run):
    def echo(peer: Any) -> None:
        peer.sock.sendall(peer.sock.recv(65536))
        peer.at_eof()

    nats = client(servers=[f"{url_of(fake(echo))}/p?t=s3cret"], ws_headers={"A": "s3cret"})
    run(lambda: nats.recorder.errors)
    assert "it begins with b'GET'" in str(nats.recorder.errors[0])
    assert "s3cret" not in str(nats.recorder.errors[0])


def test_a_wrong_key_is_refused(fake, client, run):
    server = fake(lambda peer: WsPeer(peer, Sec_WebSocket_Accept="AAAA").at_eof())
    nats = client(servers=[url_of(server)])
    run(lambda: nats.recorder.errors)
    assert "Sec-WebSocket-Accept is wrong" in str(nats.recorder.errors[0])


def test_a_mute_server_is_left_after_connect_timeout(fake, client, run):
    nats = client(servers=[url_of(fake(lambda peer: peer.at_eof()))], connect_timeout=200)
    run(lambda: nats.recorder.errors)
    assert "a server with WebSocket?): connect timeout" in str(nats.recorder.errors[0])


@pytest.mark.parametrize("size", [1, 7, 100_000])
def test_answer_and_first_messages_in_any_pieces(fake, client, run, size):
    def script(peer: Any) -> None:
        _, headers = read_request(peer)
        info = f"INFO {json.dumps({'server_id': 'F', 'version': '2.11.0', 'headers': True})}\r\n"
        half = len(info) // 2
        data = answer(headers) + frame(BINARY, info[:half].encode(), fin=False)
        data += frame(9, b"ping") + frame(0, info[half:].encode())
        for at in range(0, len(data), size):
            peer.sock.sendall(data[at : at + size])
            if size == 1 and at % 50 == 0:
                time.sleep(0.001)  # so that the pieces come one by one
        stop.wait(30)

    stop = threading.Event()
    nats = client(servers=[url_of(fake(script))], connect_timeout=20_000)
    run(lambda: nats.server_info() is not None)
    stop.set()
    assert json.loads(nats.server_info())["server_id"] == "F"
