"""The faults of the client that this one mirrors, one test each, by their number in the audit.

A rows: correctness and protocol; B rows: memory, security, resources. What only TLS and NKeys can
show is in their own tests. A real server wherever a server can be brought to do it.
"""

from __future__ import annotations

import gc
import re
import select
import signal
import socket
import subprocess
import sys
import time
import weakref
from typing import Any

import pytest

from lab import inside
from lab.located import words
from lab.paths import ROOT
from lab.process import resident
from nats_ev import (
    AuthorizationError,
    BadSubjectError,
    ConnectError,
    MaxPayloadError,
    Nats,
    NoServersError,
    NotConnectedError,
    PermissionsViolationError,
    ProtocolError,
    RequestTimeoutError,
    StaleConnectionError,
    Status,
)
from nats_ev.testing import free_port

# A: correctness and protocol.


@pytest.mark.parametrize("size", [100, 3_000, 50_000, 200_000])
def test_A1_messages_split_over_reads_keep_subject_and_reply(connected, server, run, size):
    nats, other, got = connected(server), connected(server), []
    nats.subscribe("A1.>", lambda *message: got.append(message))
    done: list[Any] = []
    nats.flush(done.append)
    run(lambda: done)
    sent = []
    for n in range(200):
        payload = (b"%d:" % n).ljust(size, b"abcdefg\r\nMSG x 1 5\r\n"[n % 20 : n % 20 + 1])
        sent.append((f"A1.{n % 7}.{'s' * (n % 50)}{n}", payload, f"reply.{n}.{'r' * (n % 40)}"))
    for message in sent:
        other.publish(*message)
    run(lambda: len(got) == len(sent))
    assert [m[:3] for m in got] == sent
    # Large answers find their requests.
    answers: list[Any] = []
    other.subscribe("A1svc", lambda s, p, reply, h: other.publish(reply, p * size))
    other.flush(done.append)
    run(lambda: len(done) == 2)
    for n in range(20):
        nats.request("A1svc", b"%d" % (n % 10), lambda *a, n=n: answers.append((n, *a)))
    run(lambda: len(answers) == 20)
    assert sorted(answers) == [(n, b"%d" % (n % 10) * size, None, None) for n in range(20)]


def test_A2_an_exception_in_a_callback_loses_no_message(connected, server, run, excepthook):
    nats, got = connected(server), []

    def callback(subject: str, payload: bytes, *rest: Any) -> None:
        got.append(payload)
        if len(got) % 10 == 3:
            raise RuntimeError(f"at {len(got)}")

    nats.subscribe("A2", callback)
    sent = [b"MSG A2 1 %d\r\n%d" % (n % 7, n) for n in range(1000)]
    for payload in sent:
        nats.publish("A2", payload)
    run(lambda: len(got) == 1000)
    assert got == sent
    assert len(excepthook) == 100
    assert nats.recorder.errors == []


def test_A2_a_loop_nested_in_a_callback_delivers_the_rest_once_and_in_order(
    connected, server, run, loop
):
    nats, got, depth = connected(server), [], []

    def callback(subject: str, payload: bytes, *rest: Any) -> None:
        got.append(payload)
        if len(got) in (5, 50, 500):
            depth.append(len(got))
            run(lambda: len(got) >= depth[-1] * 2)

    nats.subscribe("A2", callback)
    sent = [b"%d" % n for n in range(2000)]
    for payload in sent:
        nats.publish("A2", payload)
    run(lambda: len(got) == 2000)
    assert got == sent
    assert depth == [5, 50, 500]


@pytest.mark.parametrize("ping", ["ping", "keep-alive", "flush", "rtt"])
def test_A3_only_its_own_pong_completes_a_flush(fake, client, run, ping):
    def script(peer: Any) -> None:
        peer.handshake()
        peer.expect("PING")
        peer.expect("PING")
        peer.send("PONG\r\n")  # the first one's; the flush is never answered
        peer.send("MSG x 1 0\r\n\r\n")
        peer.at_eof()

    nats, got, flushed = client(fake(script)), [], []
    nats.subscribe("x", lambda *message: got.append(message))
    run(nats.is_connected)
    if ping == "ping":
        nats.ping()
    elif ping == "flush":
        nats.flush()
    elif ping == "rtt":
        nats.rtt(lambda ms, error: None)
    else:
        nats.ping_interval(50)
        run(lambda: nats.recorder.errors or inside.unanswered_pings(nats))
        nats.ping_interval(0)
    nats.flush(flushed.append)
    run(lambda: got)
    assert flushed == []
    nats.disconnect()
    run(lambda: flushed)
    assert str(flushed[0]) == "disconnected"


def test_A4_flush_in_on_connect_waits_for_a_pong_of_its_own(fake, client, run):
    def script(peer: Any) -> None:
        peer.handshake()
        peer.expect("PING")
        peer.send("MSG x 1 0\r\n\r\n")
        peer.at_eof()

    flushed: list[Any] = []
    got: list[Any] = []
    nats = client(fake(script), on_connect=lambda: nats.flush(flushed.append))
    nats.subscribe("x", lambda *message: got.append(message))
    run(lambda: got)
    assert flushed == []


def test_A5_a_handshake_larger_than_the_socket_takes_does_not_stall(connected, server, run):
    nats, done = connected(server, reconnect=True, reconnect_delay=10), []
    count = 50_000
    for n in range(count):
        nats.subscribe(f"A5.{n}.with.a.subject.that.is.not.short", lambda *message: got.append(1))
    got: list[Any] = []
    nats.flush(done.append)
    run(lambda: done, 30)
    nats.force_reconnect()
    run(lambda: nats.recorder.count("reconnect"), 30)
    nats.publish(f"A5.{count - 1}.with.a.subject.that.is.not.short")
    run(lambda: got, 30)
    if hasattr(server, "monitor"):
        (mine,) = [
            c for c in server.monitor("connz")["connections"] if c["cid"] == nats.client_id()
        ]
        assert mine["subscriptions"] == count


def test_A6_a_permissions_violation_keeps_the_connection(own_server, connected, run):
    config = """authorization { users = [ { user: u, password: p, permissions: {
        publish: { deny: "no.pub" }, subscribe: { deny: "no.sub" } } } ] }"""
    nats = connected(own_server(config=config), user="u", password="p", reconnect=True)
    got: list[Any] = []
    nats.subscribe("no.sub", lambda *m: got.append(m))
    nats.subscribe("yes", lambda *m: got.append(m))
    nats.publish("no.pub", b"x")
    run(lambda: len(nats.recorder.errors) == 2)
    nats.publish("yes")
    run(lambda: got)
    assert all(isinstance(e, PermissionsViolationError) for e in nats.recorder.errors)
    assert [e.subject for e in nats.recorder.errors] == ["no.sub", "no.pub"]
    assert nats.recorder.count("disconnect") == 0
    # What the server refused is not asked for again.
    nats.force_reconnect()
    run(lambda: nats.recorder.count("reconnect"))
    done: list[Any] = []
    nats.flush(done.append)
    run(lambda: done)
    assert len(nats.recorder.errors) == 2


def test_A7_our_own_cap_on_what_we_send_is_none_on_what_we_receive(connected, server, run):
    nats, other, got, done = connected(server), connected(server), [], []
    nats.subscribe("A7", lambda s, p, *rest: got.append(p))
    nats.flush(done.append)
    run(lambda: done)
    nats.max_payload(8)
    other.publish("A7", b"x" * 1024 * 1024)
    run(lambda: got)
    assert len(got[0]) == 1024 * 1024
    assert nats.recorder.errors == []
    with pytest.raises(MaxPayloadError):
        nats.publish("A7", b"123456789")


def test_A8_a_server_that_refuses_us_twice_is_not_asked_again(own_server, client, run):
    nats = client(
        own_server("--auth", "right"),
        token="wrong", reconnect=True, reconnect_delay=1, max_reconnect_attempts=0,
    )  # fmt: skip
    run(lambda: nats.status() == "CLOSED" and len(nats.recorder.errors) == 3)
    first, second, last = nats.recorder.errors
    assert isinstance(first, AuthorizationError)
    assert isinstance(second, AuthorizationError)
    assert str(first) == "Authorization Violation"
    assert isinstance(last, NoServersError)
    assert nats.recorder.count("disconnect") == 0


def test_A9_credentials_and_names_of_any_length_arrive_whole(own_server, connected, run):
    user, password, name = "u" * 3000, 'p"\\' * 1000, "n" * 2000
    quoted = password.replace("\\", "\\\\").replace('"', '\\"')
    config = f"""max_control_line: 65536
        authorization {{ user: "{user}", password: "{quoted}" }}"""
    running = own_server(config=config)
    nats = connected(running, user=user, password=password, name=name)
    (shown,) = [
        c for c in running.monitor("connz?auth=1")["connections"] if c["cid"] == nats.client_id()
    ]
    assert shown["name"] == name
    assert shown["authorized_user"] == user


def test_A10_a_request_that_has_failed_is_never_sent_afterwards(own_server, client, run):
    running = own_server()
    nats = client(running, reconnect=True, reconnect_delay=20, reconnect_buffer_size=-1)
    run(nats.is_connected)
    failed: list[Any] = []
    seen: list[Any] = []
    running.suspend()  # takes nothing: what we send stays with us
    filler = b"x" * 1_000_000
    for _ in range(12):
        nats.publish("fill", filler)
    run(lambda: nats.stats()["waiting"] < 12)  # the socket is full
    for n in range(5):
        nats.request("ghost", b"%d" % n, lambda *a: failed.append(a), 30 if n % 2 else 0)
    run(lambda: len(failed) == 2)  # the odd ones, by their timeouts, with a full socket
    assert all(isinstance(error, RequestTimeoutError) for _, error, _ in failed)
    running.kill()
    run(lambda: nats.recorder.count("disconnect"))
    assert [str(error) for _, error, _ in failed[2:]] == ["disconnected"] * 3
    # Queued while there is no connection, and timed out there.
    for n in range(5, 8):
        nats.request("ghost", b"%d" % n, lambda *a: failed.append(a), 30)
    run(lambda: len(failed) == 8)
    nats.subscribe("ghost", lambda s, p, *rest: seen.append(p))
    nats.publish("ghost", b"real")
    running.start()
    run(lambda: seen)
    done: list[Any] = []
    nats.flush(done.append)
    run(lambda: done)
    assert seen == [b"real"]


def test_A11_what_waited_goes_out_before_what_on_connect_publishes(connected, client, server, run):
    other, got, done = connected(server), [], []
    other.subscribe("A11", lambda s, p, *rest: got.append(p))
    other.flush(done.append)
    run(lambda: done)
    nats = client(
        server, on_connect=lambda: [nats.publish("A11", b"on_connect %d" % n) for n in range(3)]
    )
    for n in range(3):
        nats.publish("A11", b"waiting %d" % n)
    run(nats.is_connected)
    nats.publish("A11", b"after")
    run(lambda: len(got) == 7)
    assert got == [
        *[b"waiting %d" % n for n in range(3)], *[b"on_connect %d" % n for n in range(3)], b"after",
    ]  # fmt: skip


def test_A12_callbacks_of_a_loss_may_publish_for_the_next_connection(connected, server, proxy, run):
    other, got, done = connected(server), [], []
    other.subscribe("A12", lambda s, p, *rest: got.append(p))
    other.subscribe("silent", lambda *m: None)
    other.flush(done.append)
    run(lambda: done)
    link = proxy(server.port)
    nats = connected(link, reconnect=True, reconnect_delay=10)
    nats.on_disconnect(lambda: nats.publish("A12", b"disconnect"))
    nats.request("silent", b"", lambda *a: nats.publish("A12", b"request"), 0)
    nats.flush(done.append)
    run(lambda: len(done) == 2)
    nats.flush(lambda error: error and nats.publish("A12", b"flush"))
    link.cut(reset=True)
    run(lambda: b"disconnect" in got)
    nats.on_disconnect(None)
    assert got == [b"request", b"flush", b"disconnect"]


def test_A13_a_batch_whose_body_raises_still_publishes(connected, server, run):
    nats, got = connected(server), []
    nats.subscribe("A13", lambda s, p, *rest: got.append(p))

    def inner() -> None:
        nats.publish("A13", b"inner")
        raise KeyError("mine")

    def outer() -> None:
        nats.publish("A13", b"outer")
        with pytest.raises(KeyError):
            nats.batch(inner)
        nats.publish("A13", b"outer again")
        raise RuntimeError("mine, too")

    with pytest.raises(RuntimeError, match="mine, too"):
        nats.batch(outer)
    nats.publish("A13", b"later")
    run(lambda: len(got) == 4)
    assert got == [b"outer", b"inner", b"outer again", b"later"]


def test_A14_ping_while_connecting_writes_nothing_before_connect(fake, client, run):
    lines: list[str] = []

    def script(peer: Any) -> None:
        peer.sock.settimeout(0.1)
        with pytest.raises(TimeoutError):
            peer.line()
        peer.sock.settimeout(5)
        peer.send_info()
        lines.extend(peer.until("PING"))
        peer.send("PONG\r\n")
        lines.extend(peer.until("PUB x 0"))
        peer.at_eof()

    nats = client(fake(script))
    nats.ping()
    run(lambda: inside.has_session(nats))
    nats.ping()
    run(nats.is_connected)
    nats.publish("x")
    run(lambda: "PUB x 0" in lines)
    assert [line.split()[0] for line in lines] == ["CONNECT", "PING", "PUB"]


def test_A15_a_second_info_before_the_pong_does_not_connect_twice(fake, client, run):
    lines: list[str] = []

    def script(peer: Any) -> None:
        peer.send_info()
        peer.send_info(connect_urls=["127.0.0.1:1"], client_id=8)
        lines.extend(peer.until("PING"))
        peer.send_info(client_id=9)
        peer.send("PONG\r\n")
        lines.extend(peer.until("PUB x 0"))
        peer.send("MSG s 1 0\r\n\r\n")
        peer.at_eof()

    nats, got = client(fake(script)), []
    nats.subscribe("s", lambda *m: got.append(m))
    run(nats.is_connected)
    nats.publish("x")
    run(lambda: got)
    assert [line.split()[0] for line in lines] == ["CONNECT", "SUB", "PING", "PUB"]
    assert nats.client_id() == 9


def test_A16_an_auto_unsubscribe_that_is_already_reached_ends_and_stays_ended(
    connected, server, run
):
    nats, got, done = connected(server, reconnect=True, reconnect_delay=10), [], []
    sid = nats.subscribe("A16", lambda *m: got.append(m))
    for _ in range(5):
        nats.publish("A16")
    run(lambda: len(got) == 5)
    nats.unsubscribe(sid, 3)
    assert nats.subscription_count() == 0
    nats.force_reconnect()
    run(lambda: nats.recorder.count("reconnect"))
    nats.publish("A16")
    nats.flush(done.append)
    run(lambda: done)
    assert len(got) == 5


def test_A17_drain_always_completes_and_what_it_ended_stays_ended(connected, client, server, run):
    calls: list[Any] = []
    idle = client()
    with pytest.raises(NotConnectedError):
        idle.drain(calls.append)
    nats, got = connected(server), []
    nats.subscribe("A17", lambda *m: got.append(m))
    nats.drain(lambda error: calls.append(("first", error)))
    nats.drain(lambda error: calls.append(("second", error)))
    run(lambda: nats.recorder.count("disconnect"))
    assert calls == [("first", None), ("second", None)]
    with pytest.raises(NotConnectedError):
        nats.drain(calls.append)
    nats.connect(server.host, server.port)
    run(nats.is_connected)
    assert nats.subscription_count() == 0
    done: list[Any] = []
    nats.publish("A17")
    nats.flush(done.append)
    run(lambda: done)
    assert got == []
    nats.drain(lambda error: calls.append(("third", error)))
    run(lambda: len(calls) == 3)


def test_A17_a_drain_that_loses_its_connection_ends_without_reconnecting(
    connected, server, proxy, run
):
    link, calls = proxy(server.port), []
    nats = connected(link, reconnect=True, reconnect_delay=1)
    nats.subscribe("A17", lambda *m: None)
    link.stall()
    nats.drain(lambda error: calls.append(str(error)))
    nats.drain()
    link.cut()
    run(lambda: nats.recorder.count("disconnect"))
    assert calls == ["disconnected"]
    assert nats.status() is Status.CLOSED
    assert nats.recorder.count("connect") == 1


def test_A18_a_flush_whose_write_fails_is_told_disconnected(connected, server, proxy, run):
    link, calls = proxy(server.port), []
    nats = connected(link, reconnect=True, reconnect_delay=10)
    link.cut(reset=True)
    arrived = select.poll()
    arrived.register(inside.socket_of(nats), 0)  # errors only: the loop has not seen the reset
    assert arrived.poll(5000)
    nats.flush(lambda error: calls.append(str(error)))
    run(lambda: nats.recorder.count("reconnect"))
    nats.flush(lambda error: calls.append(str(error)))
    run(lambda: len(calls) == 2)
    assert calls == ["disconnected", "None"]


def test_A19_timeouts_count_from_the_call_and_not_from_the_loops_stale_clock(
    connected, server, run, loop
):
    nats, answers = connected(server), []
    nats.subscribe("A19", lambda *m: None)

    def work(watcher: Any, revents: int) -> None:
        time.sleep(0.3)
        start.append(time.monotonic())
        nats.request("A19", b"", lambda *a: answers.append(time.monotonic()), 200)

    start: list[float] = []
    timer = loop.timer(0.0, 0.0, work)
    timer.start()
    run(lambda: answers)
    assert answers[0] - start[0] >= 0.199


@pytest.mark.parametrize(
    "frame",
    [
        "MSG x 1\r\n", "MSG x 1 -5\r\n12345\r\n", "MSG x 1 3\r\nabcd\r\n", "MSG x one 3\r\nabc\r\n",
        "HMSG x 1 10 5\r\nNATS/1.0\r\n", "MSG x 1 3\r\nabc\n\n", "HELLO\r\n", "\r\n",
    ],
)  # fmt: skip
def test_A20_what_breaks_the_protocol_ends_the_connection(fake, client, run, frame):
    def script(peer: Any) -> None:
        peer.handshake()
        peer.send(f"MSG x 1 4\r\ngood\r\n{frame}MSG x 1 3\r\nbad\r\n")
        peer.at_eof()

    def again(peer: Any) -> None:
        peer.handshake()
        peer.send("MSG x 1 5\r\nagain\r\n")
        peer.at_eof()

    nats, got = client(fake(script, again), reconnect=True, reconnect_delay=1), []
    nats.subscribe("x", lambda s, p, *rest: got.append(p))
    run(lambda: b"again" in got)
    assert got == [b"good", b"again"]
    assert [type(error) for error in nats.recorder.errors] == [ProtocolError]
    assert [e for e in nats.recorder.events if not e.startswith("error")] == [
        "connect", "disconnect", "connect", "reconnect",
    ]  # fmt: skip


SIGPIPE = """
import signal, sys
signal.signal(signal.SIGPIPE, signal.SIG_DFL)
sys.path.insert(0, "tests")
from lab.fakeserver import FakeServer
from nats_ev import Nats, pyev
def connected():
    server.peers[0].close()
    for n in range(50):
        nats.publish("x", b"x" * 100_000)
server = FakeServer(lambda peer: peer.handshake())
nats = Nats(host=server.host, port=server.port, on_connect=connected,
            on_error=lambda error: None, on_disconnect=lambda: print("survived"))
pyev.default_loop().start()
"""


def test_A21_writing_to_a_peer_that_has_gone_does_not_kill_the_process():
    done = subprocess.run(
        [sys.executable, "-c", SIGPIPE], capture_output=True, text=True, timeout=20, cwd=ROOT
    )
    assert done.returncode != -signal.SIGPIPE
    assert (done.stdout, done.stderr) == ("survived\n", "")


def test_A22_discovered_addresses_are_read_right_and_the_first_server_is_kept(fake, client, run):
    urls = ["[::1]:4223", "10.0.0.5:4224", "", "::::", "host:99999", "plain"]

    def script(peer: Any) -> None:
        peer.handshake(connect_urls=urls)
        peer.at_eof()

    server = fake(script)
    nats = client(server, reconnect=True)
    run(nats.is_connected)
    known = set(inside.known_urls(nats))
    expected = {"nats://[::1]:4223", "nats://10.0.0.5:4224", "nats://plain:4222"}
    assert known == {server.url} | expected
    # Connecting elsewhere forgets them all.
    other = fake(lambda peer: (peer.handshake(), peer.at_eof()))
    nats.disconnect()
    nats.connect(other.host, other.port)
    assert inside.known_urls(nats) == [other.url]
    run(nats.is_connected)
    assert nats.connected_url() == other.url


@pytest.mark.parametrize(
    ("info", "expected"),
    [
        ('{"max_payload" : 5}', 5), ('{ "x": "\\"max_payload\\":7", "max_payload":\t9 }', 9),
        ("{}", 1024 * 1024), ('{"nested":{"max_payload":3},"max_payload":2147483648}', 2**31),
    ],
)  # fmt: skip
def test_A23_info_is_read_as_json(fake, client, run, info, expected):
    def script(peer: Any) -> None:
        peer.send(f"INFO {info}\r\n")
        peer.until("PING")
        peer.send("PONG\r\n" + "MSG x 1 20\r\n" + "y" * 20 + "\r\n")
        peer.at_eof()

    nats, got = client(fake(script)), []
    nats.subscribe("x", lambda s, p, *rest: got.append(p))
    run(lambda: got)
    assert nats.max_payload() == expected
    assert nats.server_info() == info
    assert got == [b"y" * 20]


@pytest.mark.parametrize(
    "info", ['{"max_payload":0}', '{"max_payload":99999999999999999999}', '{"max_payload":"5"}']
)
def test_A23_an_info_that_makes_no_sense_is_refused(fake, client, run, info):
    nats = client(fake(lambda peer: (peer.send(f"INFO {info}\r\n"), peer.at_eof())))
    run(lambda: nats.recorder.errors)
    assert isinstance(nats.recorder.errors[0], ProtocolError)
    assert nats.status() is Status.CLOSED


def test_A24_an_explicit_connect_counts_its_attempts_anew(client, run):
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    options = {"reconnect": True, "reconnect_delay": 1, "max_reconnect_attempts": 2}
    nats = client(None, host="127.0.0.1", port=port, **options)
    for _ in range(3):
        run(lambda: nats.status() == "CLOSED" and nats.recorder.errors)
        texts = [words(error) for error in nats.recorder.errors]
        assert texts == ["Connection refused"] * 3 + ["max reconnect attempts reached"]
        nats.recorder.errors.clear()
        nats.connect("127.0.0.1", port)


def test_A25_without_on_error_the_error_is_raised_when_all_is_settled(loop, own_server, run):
    running = own_server()
    events: list[Any] = []
    nats = Nats(loop=loop, host=running.host, port=running.port)
    nats.on_disconnect(lambda: events.append("disconnect"))
    run(nats.is_connected)
    nats.flush(lambda error: events.append(f"flush {error}"))
    running.suspend()
    nats.ping_interval(20)
    nats.max_pings_outstanding(1)
    with pytest.raises(StaleConnectionError, match=r"stale connection$"):
        run(lambda: False)
    assert [str(e) for e in events] == ["flush disconnected", "disconnect"]
    assert nats.status() is Status.CLOSED


@pytest.mark.parametrize("reconnect", [False, True])
def test_A25_on_error_may_disconnect_and_connect_elsewhere(server, fake, client, run, reconnect):
    def script(peer: Any) -> None:
        peer.handshake()
        peer.send("nonsense\r\n")
        peer.at_eof()

    def on_error(error: Any) -> None:
        nats.disconnect()
        nats.connect(server.host, server.port)

    nats = client(fake(script), on_error=on_error, reconnect=reconnect, reconnect_delay=1)
    run(lambda: nats.recorder.count("connect") == 2)
    done: list[Any] = []
    nats.flush(done.append)
    run(lambda: done)
    assert done == [None]
    assert nats.recorder.events == ["connect", "disconnect", "connect"]
    assert nats.connected_url() == server.url


def test_A26_all_addresses_of_a_name_are_tried(server, client, run, monkeypatch):
    real = socket.getaddrinfo

    def getaddrinfo(host: Any, port: Any, *args: Any, **options: Any) -> Any:
        if host != "many.example" or options.get("flags"):
            return real(host, port, *args, **options)
        numbers = ["127.0.0.3", "127.0.0.2", server.host]  # on the first two nobody listens
        return [entry for n in numbers for entry in real(n, port, *args, **options)]

    monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)
    nats = client(None, host="many.example", port=server.port)
    run(nats.is_connected)
    assert nats.recorder.errors == []


def test_A26_looking_up_a_name_does_not_block_the_loop(server, client, run, loop, monkeypatch):
    real, ticks = socket.getaddrinfo, []

    def getaddrinfo(host: Any, port: Any, *args: Any, **options: Any) -> Any:
        if host != "slow.example" or options.get("flags"):
            return real(host, port, *args, **options)
        time.sleep(0.3)
        return real(server.host, port, *args, **options)

    monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)
    ticker = loop.timer(0.01, 0.01, lambda watcher, revents: ticks.append(nats.status()))
    ticker.start()
    nats = client(None, host="slow.example", port=server.port)
    run(nats.is_connected)
    ticker.stop()
    assert ticks.count("CONNECTING") >= 5


def test_A27_no_callback_runs_inside_the_call_that_caused_it(connected, client, server, run):
    inside, late = [True], []

    def callback(*args: Any) -> None:
        assert not inside[0]
        late.append(args)

    nats = connected(server, on_disconnect=callback)
    nats.slow_consumer(10, callback)
    nats.publish("x", b"x" * 1000)
    nats.flush(callback)
    nats.request("x", b"", callback, 0)
    nats.call_soon(callback)
    nats.disconnect()
    failing = client(None, host="127.0.0.1", port=free_port(), on_error=callback)
    failing.drain(callback)
    failing.disconnect()
    unix = client(None, path="/no/such/socket", on_error=callback)
    inside[0] = False
    run(lambda: len(late) == 7)
    assert unix.status() == "CLOSED"


# B: memory safety, security, resources.


def test_B1_subjects_longer_than_a_control_line_are_refused_and_send_nothing(
    connected, own_server, proxy, run
):
    link, done = proxy(own_server().port), []
    nats = connected(link)
    before = len(link.recorded["up"])
    for length in (4096, 5000, 20_000, 2_000_000):
        long = "s" * length
        for call, args in (
            (nats.publish, (long,)),
            (nats.publish, ("x", b"", long)),
            (nats.hpublish, (long, {"a": "b"})),
            (nats.subscribe, (long, print)),
            (nats.subscribe, ("x", print, long)),
            (nats.request, (long, b"", print)),
        ):
            with pytest.raises(BadSubjectError, match="max_control_line"):
                call(*args)
    fits = "s" * (4096 - len("PUB  0"))
    got: list[Any] = []
    nats.subscribe("s" * (4096 - len("SUB  99")), print)
    nats.subscribe(">", lambda subject, *rest: got.append(subject))
    nats.publish(fits)
    nats.flush(done.append)
    run(lambda: done and got)
    assert got == [fits]
    lines = bytes(link.recorded["up"][before:]).split(b"\r\n")
    assert all(re.fullmatch(rb"(SUB|PUB|PING|UNSUB)?[ -~]*", line) for line in lines)
    assert max(map(len, lines)) <= 4096


@pytest.mark.parametrize(("header", "total"), [(200_000, 10), (11, 10), (900_000_000, 20)])
def test_B2_a_header_length_above_the_total_is_refused(fake, client, run, header, total):
    def script(peer: Any) -> None:
        peer.handshake()
        peer.send(f"HMSG x 1 {header} {total}\r\n" + "y" * total + "\r\n")
        peer.at_eof()

    nats, got = client(fake(script)), []
    nats.subscribe("x", lambda *m: got.append(m))
    run(lambda: nats.recorder.count("disconnect"))
    assert got == []
    assert isinstance(nats.recorder.errors[0], ProtocolError)


def test_B3_what_comes_to_a_new_inbox_is_delivered_once(connected, server, run):
    nats, got, answers, done = connected(server), [], [], []
    nats.subscribe("echo", lambda s, p, reply, h: nats.publish(reply, p))
    nats.request("echo", b"x", lambda *a: answers.append(a))
    run(lambda: answers)
    inbox = nats.new_inbox()
    nats.subscribe(inbox, lambda *m: got.append(m))
    before = nats.stats()["msgs_in"]
    for _ in range(10):
        nats.publish(inbox, b"y")
    nats.flush(done.append)
    run(lambda: done)
    assert len(got) == 10
    assert nats.stats()["msgs_in"] - before == 10


@pytest.mark.parametrize(
    "subject", ["a b", "a\r\nPUB injected 3\r\nabc", "a\n", "a\t", "x 0\r\n\r\nPUB y 0", "", "\x00"]
)
def test_B9_nothing_that_would_be_another_command_is_sent(
    connected, own_server, proxy, run, subject
):
    link, done, got = proxy(own_server().port), [], []
    nats = connected(link)
    nats.subscribe(">", lambda *m: got.append(m))
    nats.flush(done.append)
    run(lambda: done)
    before = len(link.recorded["up"])
    calls = [
        lambda: nats.publish(subject, b"x"),
        lambda: nats.hpublish(subject, {"a": "b"}, b"x"),
        lambda: nats.subscribe(subject, print),
        lambda: nats.request(subject, b"", print),
    ]
    if subject:  # as a reply or queue group "" means none
        calls += [
            lambda: nats.publish("ok", b"x", subject),
            lambda: nats.hpublish("ok", {"a": "b"}, b"x", subject),
            lambda: nats.subscribe("ok", print, subject),
        ]
    for call in calls:
        with pytest.raises(BadSubjectError):
            call()
    for headers in ({"a\r\nb": "c"}, {"a": "b\r\nc: d"}, {"a": "b\n"}, {"a b": "c"}, {"": "c"}):
        with pytest.raises(ValueError):
            nats.hpublish("ok", headers)
    nats.flush(done.append)
    run(lambda: len(done) == 2)
    assert got == []
    sent = bytes(link.recorded["up"][before:])
    assert re.fullmatch(rb"(SUB _INBOX\.\S+\.\* \d+\r\n)?PING\r\n", sent), sent


def test_B10_a_line_without_end_is_cut_off_early(fake, client, run):
    sent = [0]

    def script(peer: Any) -> None:
        peer.handshake()
        try:
            peer.send("MSG ")
            for _ in range(300):
                peer.send(b"x" * 1_000_000)
                sent[0] += 1
        except OSError:
            pass

    before = resident()
    nats = client(fake(script))
    run(lambda: nats.recorder.count("disconnect"))
    assert isinstance(nats.recorder.errors[0], ProtocolError)
    assert sent[0] < 20  # what the kernel's buffers hold
    assert resident() - before < 16 * 1024 * 1024


def test_B10_what_waits_is_bounded_with_and_without_a_connection(
    own_server, connected, client, run
):
    running = own_server()
    nats = connected(running, max_pending_bytes=4_000_000)
    running.suspend()
    payload = b"x" * 100_000
    accepted = 0
    with pytest.raises(Exception, match=r"outbound buffer is full \(4000000 bytes\)"):
        for _ in range(5000):
            nats.publish("x", payload)
            accepted += 1
            if accepted % 10 == 0:
                run(lambda: True)
    stats = nats.stats()
    assert stats["accepted"] == accepted
    assert stats["waiting"] <= 41
    waiting = client(None, host="127.0.0.1", port=free_port(), reconnect=True, reconnect_delay=1000)
    with pytest.raises(Exception, match=r"outbound buffer is full \(8388608 bytes\)"):
        for _ in range(100):
            waiting.publish("x", payload)
    assert waiting.waiting_count() == 8388608 // (100_000 + len("PUB x 100000\r\n\r\n"))
    nats.disconnect()
    # Memory goes back when what was queued is dropped or sent.
    assert inside.unsent_bytes(nats) == 0


def test_B11_the_last_reference_may_be_dropped_in_a_callback(loop, server, run):
    got: list[bytes] = []
    holder = [Nats(loop=loop, host=server.host, port=server.port)]
    alive = weakref.ref(holder[0])

    def callback(subject: str, payload: bytes, *rest: Any) -> None:
        got.append(payload)
        holder.clear()
        if len(got) % 10 == 0:
            gc.collect()
        if len(got) == 100:
            client = alive()
            assert client is not None
            client.disconnect()
            del client
            gc.collect()

    holder[0].subscribe("B11", callback)
    for n in range(200):
        holder[0].publish("B11", b"%d" % n)
    loop.start()  # ends by itself when nothing is left
    assert got == [b"%d" % n for n in range(100)]
    gc.collect()
    assert alive() is None


def test_B15_many_requests_in_flight_answered_last_first(fake, client, run):
    total = 30_000

    def script(peer: Any) -> None:
        peer.handshake()
        inboxes, sid = [], b""
        while len(inboxes) < total:
            words = peer.line().split()
            if words[0] == "SUB":
                sid = words[-1].encode()
            elif words[0] == "PUB":
                peer.payload(int(words[-1]))
                inboxes.append(words[2].encode())
        inboxes.reverse()
        peer.send(b"".join(b"MSG %s %s 0\r\n\r\n" % (inbox, sid) for inbox in inboxes))
        peer.at_eof()

    nats, order = client(fake(script)), []
    run(nats.is_connected)
    for n in range(total):
        nats.request("x", b"", lambda response, error, headers, n=n: order.append((n, error)))
    run(lambda: len(order) == total, 30)
    assert order == [(n, None) for n in reversed(range(total))]


def test_errors_of_an_attempt_to_connect_are_connect_errors(client, run):
    nats = client(None, host="127.0.0.1", port=free_port())
    run(lambda: nats.recorder.errors)
    assert isinstance(nats.recorder.errors[0], ConnectError)
    assert isinstance(nats.recorder.errors[0].__cause__, OSError)
