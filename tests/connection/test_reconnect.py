"""Reconnecting: what comes back, what goes out, in which order, and what is told."""

from __future__ import annotations

import contextlib
import threading
import time
from itertools import pairwise
from typing import Any

import pytest

from lab import inside
from lab.located import words
from lab.natsserver import Cluster
from lab.steps import collect, flushed
from nats_ev import (
    AlreadyConnectedError,
    BadOptionsError,
    ConnectionDrainingError,
    NatsError,
    NoServersError,
    NotConnectedError,
    OutboundBufferLimitError,
    StaleConnectionError,
    Status,
)
from nats_ev.testing import free_port

FAST = {"reconnect": True, "reconnect_delay": 5, "max_reconnect_attempts": 0}


# What comes back.


def test_subscriptions_with_queue_groups_come_back_and_ended_ones_do_not(fake, client, run):
    def first(peer: Any) -> None:
        peer.handshake()
        peer.until("PING")
        peer.send("MSG m 4 1\r\n1\r\nPONG\r\n")
        peer.until("PING")
        peer.close()

    def second(peer: Any) -> None:
        peer.send_info()
        peer.until("CONNECT .*")
        assert peer.until("PING") == [
            "SUB plain 1", "SUB q workers 2", "SUB m 4", "UNSUB 4 2", "PING",
        ]  # fmt: skip
        peer.send("PONG\r\n")
        peer.at_eof()

    nats, got = client(fake(first, second), **FAST), []
    run(nats.is_connected)
    nats.subscribe("plain", collect(got))
    nats.subscribe("q", collect(got), "workers")
    gone = nats.subscribe("gone", collect(got))
    nats.subscribe_max("m", collect(got), 3)
    nats.unsubscribe(gone)
    flushed(nats, run)
    assert got == [b"1"]
    nats.ping()
    run(lambda: nats.recorder.count("connect") == 2)


def test_the_rest_of_an_auto_unsubscribe_survives_cuts_exactly(proxy, server, connected, run):
    between = proxy(server.port)
    nats, other, got = connected(between, **FAST), connected(server), []
    nats.subscribe_max("count", collect(got), 10)
    for round in range(5):
        flushed(nats, run)
        for i in range(2):
            other.publish("count", b"%d" % (2 * round + i))
        run(lambda n=2 * (round + 1): len(got) == n)
        connects = nats.recorder.count("connect")
        between.cut()
        run(lambda c=connects: nats.recorder.count("connect") == c + 1)
    assert nats.subscription_count() == 0
    flushed(nats, run)
    other.publish("count", b"too many")
    flushed(other, run)
    flushed(nats, run)
    assert got == [b"%d" % i for i in range(10)]


def test_unsubscribing_and_subscribing_while_disconnected_counts(own_server, connected, run):
    server = own_server()
    nats, got = connected(server, **FAST), []
    old = nats.subscribe("old", collect(got))
    server.kill()
    run(lambda: nats.status() is Status.RECONNECTING)
    nats.unsubscribe(old)
    nats.subscribe("new", collect(got))
    nats.publish("new", b"1")
    nats.publish("old", b"2")
    server.start()
    run(lambda: got)
    flushed(nats, run)
    assert got == [b"1"]


@pytest.mark.slow
def test_hundreds_of_thousands_of_subscriptions_come_back_without_stalling_the_loop(
    own_server, client, run, loop
):
    server = own_server()
    count = 100_000
    nats, got = client(**FAST), []
    for i in range(count):
        nats.subscribe(f"many.{i}", collect(got))
    nats.connect(server.host, server.port)
    before = loop.iteration
    run(nats.is_connected, timeout=30)
    # 2.3 MB of SUB lines in portions of 64 KiB: other watchers had their turn in between.
    assert loop.iteration - before > 20
    assert int(server.monitor("varz")["subscriptions"]) >= count
    nats.publish(f"many.{count - 1}", b"x")
    run(lambda: got == [b"x"])


@pytest.mark.slow
def test_resubscribing_may_take_longer_than_the_connect_timeout(fake, client, run):
    """As long as there is progress: many subscriptions are no fault of the server."""

    def slow(peer: Any) -> None:
        peer.send_info()
        tail = b""
        while not tail.endswith(b"PING\r\n"):
            tail = tail[-6:] + peer.sock.recv(1 << 17)
            time.sleep(0.01)
        peer.send("PONG\r\n")
        peer.at_eof()

    nats = client(connect_timeout=500)
    for i in range(40_000):
        nats.subscribe(f"{'long.' * 80}{i}", print)  # 16 MB of SUB lines
    server = fake(slow)
    nats.connect(server.host, server.port)
    start = time.monotonic()
    run(nats.is_connected, timeout=20)
    assert time.monotonic() - start > 0.5
    assert nats.recorder.errors == []


# What goes out.


def test_what_is_published_meanwhile_goes_out_in_order_before_on_connect(
    own_server, connected, client, run
):
    server = own_server()
    nats = connected(server, **FAST)
    server.kill()
    run(lambda: nats.status() is Status.RECONNECTING)
    got: list[bytes] = []
    nats.subscribe("o", collect(got))
    nats.on_connect(lambda: nats.publish("o", b"on_connect"))
    for i in range(100):
        nats.publish("o", b"%d" % i)
    assert nats.waiting_count() == 100
    server.start()
    run(lambda: len(got) == 101)
    assert got == [b"%d" % i for i in range(100)] + [b"on_connect"]
    assert nats.waiting_count() == 0


def test_frames_that_the_kernel_has_not_taken_whole_are_sent_again_whole(fake, client, run):
    received: list[str] = []

    def deaf(peer: Any) -> None:
        peer.handshake()
        peer.expect("PUB first .*")
        peer.payload(10)
        peer.reset()

    def second(peer: Any) -> None:
        peer.handshake()
        received.extend(peer.until("PUB last 0"))
        peer.at_eof()

    nats = client(fake(deaf, second), **FAST)
    run(nats.is_connected)
    nats.publish("first", b"x" * 10)
    total = 500
    for i in range(total):
        nats.publish(f"n.{i}", b"y" * 65536)  # 32 MiB: more than the sockets hold
    sid = nats.subscribe("control", print)
    nats.unsubscribe(sid)
    nats.publish("last")
    run(lambda: nats.recorder.count("connect") == 2)
    run(lambda: received)
    numbers = [int(line.split()[1][2:]) for line in received if line.startswith("PUB n.")]
    assert numbers == list(range(numbers[0], total))
    assert numbers
    assert all(line.startswith("PUB ") for line in received)  # SUB and UNSUB were made anew
    stats = nats.stats()
    assert stats["accepted"] == stats["written"] == total + 2


def test_reconnect_buffer_size_bounds_what_waits(own_server, connected, run):
    server = own_server()
    nats = connected(server, **FAST, reconnect_buffer_size=1000)
    server.kill()
    run(lambda: nats.status() is Status.RECONNECTING)
    with pytest.raises(OutboundBufferLimitError, match=r"^outbound buffer is full \(1000 bytes\)$"):
        for _ in range(1000):
            nats.publish("x", b"y" * 90)
    assert nats.waiting_count() == 1000 // len(b"PUB x 90\r\n" + b"y" * 90 + b"\r\n")
    server.start()
    run(lambda: nats.is_connected() and nats.stats()["waiting"] == 0)
    for _ in range(100):
        nats.publish("x", b"y" * 90)
    flushed(nats, run)


def test_reconnect_buffer_of_zero_refuses_and_of_minus_one_takes_all(client):
    nowhere = [f"127.0.0.1:{free_port()}"]
    nothing = client(servers=nowhere, reconnect_buffer_size=0)
    with pytest.raises(OutboundBufferLimitError, match=r"\(0 bytes\)"):
        nothing.publish("x")
    everything = client(servers=nowhere, reconnect_buffer_size=-1)
    for _ in range(20):
        everything.publish("x", b"y" * (1 << 20))
    assert (nothing.waiting_count(), everything.waiting_count()) == (0, 20)


def test_without_reconnect_unsent_messages_wait_for_the_next_connect(fake, client, run):
    received: list[str] = []

    def deaf(peer: Any) -> None:
        peer.handshake()
        peer.expect("PUB n 65536")
        peer.reset()

    def second(peer: Any) -> None:
        peer.handshake()
        received.extend(peer.until("PUB last 0"))
        peer.at_eof()

    nats = client(fake(deaf, second))
    run(nats.is_connected)
    for _ in range(200):
        nats.publish("n", b"y" * 65536)
    nats.publish("last")
    run(lambda: nats.status() is Status.CLOSED)
    waiting = nats.waiting_count()
    assert waiting > 1
    with pytest.raises(NotConnectedError):
        nats.publish("refused")
    nats.connect()
    run(lambda: received)
    assert len(received) == waiting
    stats = nats.stats()
    assert (stats["discarded"], stats["waiting"]) == (0, 0)


def test_disconnect_drops_what_waits_and_counts_it(client, run):
    nats = client(port=free_port(), host="127.0.0.1", **FAST)
    for _ in range(5):
        nats.publish("x")
    nats.disconnect()
    assert nats.waiting_count() == 0
    stats = nats.stats()
    assert (stats["accepted"], stats["discarded"]) == (5, 5)


# Attempts.


def test_events_of_a_loss_come_in_order_and_each_once(fake, client, run):
    def first(peer: Any) -> None:
        peer.handshake()
        peer.until("PUB svc .*")
        peer.expect("PING")
        peer.reset()

    nats = client(fake(first, lambda peer: (peer.handshake(), peer.at_eof())), **FAST)
    events = nats.recorder.events
    run(nats.is_connected)
    nats.request("svc", b"", lambda r, error, h: events.append(f"request {error}"), 60_000)
    nats.flush(lambda error: events.append(f"flush {error}"))
    run(lambda: "reconnect" in events)
    assert events == [
        "connect", "error: Connection reset by peer", "request disconnected", "flush disconnected",
        "disconnect", "connect", "reconnect",
    ]  # fmt: skip
    assert nats.stats()["reconnects"] == 1


def test_a_failed_first_connect_ends_it_unless_retrying_is_wanted(client, server, run):
    port = free_port()
    nats = client(host="127.0.0.1", port=port)
    run(lambda: nats.status() is Status.CLOSED)
    assert nats.recorder.events == ["error: Connection refused"]
    off = client(host="127.0.0.1", port=port, retry_on_failed_connect=False, **FAST)
    run(lambda: off.status() is Status.CLOSED)
    assert len(off.recorder.errors) == 1
    on = client(
        host="127.0.0.1", port=port, reconnect_delay=1, retry_on_failed_connect=True,
        max_reconnect_attempts=3,
    )  # fmt: skip
    run(lambda: on.status() is Status.CLOSED)
    assert [words(e) for e in on.recorder.errors] == ["Connection refused"] * 4 + [
        "max reconnect attempts reached"
    ]
    assert isinstance(on.recorder.errors[-1], NoServersError)
    assert "disconnect" not in on.recorder.events


def test_giving_up_after_a_loss_fails_what_waits_and_is_final(own_server, connected, run):
    server = own_server()
    nats, answers = (
        connected(server, reconnect=True, reconnect_delay=1, max_reconnect_attempts=2),
        [],
    )
    server.kill()
    run(lambda: "disconnect" in nats.recorder.events)
    nats.request("x", b"", lambda *a: answers.append(a), 60_000)
    run(lambda: nats.status() is Status.CLOSED)
    run(lambda: answers)
    assert str(answers[0][1]) == "disconnected"
    assert nats.recorder.count("disconnect") == 1
    assert words(nats.recorder.errors[-1]) == "max reconnect attempts reached"
    with pytest.raises(NotConnectedError):
        nats.flush()


def test_connect_in_on_disconnect_replaces_the_scheduled_attempt(
    own_server, server, connected, run
):
    first = own_server()
    nats = connected(first, reconnect=True, reconnect_delay=60_000)
    nats.on_disconnect(lambda: nats.connect(server.host, server.port))
    first.kill()
    run(lambda: nats.connected_url() == server.url)
    assert nats.recorder.count("connect") == 2


def test_connect_replaces_a_waiting_attempt_but_not_a_connection(own_server, server, client, run):
    nats = client(host="127.0.0.1", port=free_port(), reconnect=True, reconnect_delay=60_000)
    with pytest.raises(AlreadyConnectedError):
        nats.connect(server.host, server.port)
    run(lambda: nats.status() is Status.RECONNECTING)
    nats.connect(server.host, server.port)
    assert nats.status() is Status.CONNECTING
    run(nats.is_connected)
    with pytest.raises(AlreadyConnectedError):
        nats.connect()


def test_connect_arguments_are_checked(client):
    nats = client()
    with pytest.raises(BadOptionsError, match="host"):
        nats.connect()
    for bad in (lambda: nats.connect("", 1), lambda: nats.connect("a", 0)):
        with pytest.raises(ValueError):
            bad()
    for wrong in (lambda: nats.connect(5), lambda: nats.connect("a", "1")):
        with pytest.raises(TypeError):
            wrong()
    with pytest.raises(TypeError):
        nats.connect_unix(None)
    assert nats.status() is Status.DISCONNECTED


def test_force_reconnect_comes_back_at_once_without_losing_anything(connected, server, run):
    nats, got = connected(server, reconnect_delay=60_000), []
    nats.subscribe("f", collect(got))
    flushed(nats, run)
    old = nats.client_id()
    nats.publish("f", b"1")
    nats.force_reconnect()
    nats.publish("f", b"2")
    run(lambda: nats.recorder.count("connect") == 2 and len(got) == 2)
    assert got == [b"1", b"2"]
    assert nats.client_id() != old
    assert nats.recorder.events == ["connect", "disconnect", "connect", "reconnect"]


def test_force_reconnect_in_a_callback_loses_nothing_of_what_has_been_received(fake, client, run):
    total = 5000

    def flood(peer: Any) -> None:
        peer.handshake()
        peer.expect("PUB go 0")
        peer.send(b"".join(b"MSG f 1 %d\r\n%d\r\n" % (len(b"%d" % n), n) for n in range(total)))
        peer.until("PUB more .*")
        peer.at_eof()

    def last(peer: Any) -> None:
        peer.handshake()
        peer.send("MSG f 1 3\r\nend\r\n")
        peer.at_eof()

    nats, got, read = client(fake(flood, last)), [], []

    def callback(subject: str, payload: bytes, *rest: Any) -> None:
        got.append(payload)
        if len(got) == 2:
            for _ in range(3):
                nats.force_reconnect()
            nats.publish("more")
            time.sleep(0.02)  # longer than dispatch goes on without giving way
            read.append(nats.stats()["msgs_in"])

    nats.subscribe("f", callback)
    run(nats.is_connected)
    nats.publish("go")
    run(lambda: b"end" in got)
    assert read[0] > 2
    assert got == [b"%d" % n for n in range(len(got) - 1)] + [b"end"]
    assert len(got) > read[0]
    assert nats.recorder.events == ["connect", "disconnect", "connect", "reconnect"]


@pytest.mark.parametrize("then", ["disconnect", "drain", "cut"])
def test_what_follows_a_force_reconnect_in_a_callback_counts(proxy, server, connected, run, then):
    between = proxy(server.port)
    nats, got = connected(between), []

    def callback(subject: str, payload: bytes, *rest: Any) -> None:
        got.append(payload)
        if len(got) == 2:
            nats.force_reconnect()
            if then == "disconnect":
                nats.disconnect()
            elif then == "drain":
                nats.drain(lambda error: nats.recorder.events.append(("drained", error)))
            else:
                between.cut()

    nats.subscribe("f", callback)
    for n in range(5):
        nats.publish("f", b"%d" % n)
    outcome = {
        "disconnect": ["connect", "disconnect"],
        "drain": ["connect", ("drained", None), "disconnect"],
        "cut": ["connect", "disconnect", "connect", "reconnect"],
    }[then]
    run(lambda: len(nats.recorder.events) == len(outcome))
    assert nats.recorder.events == outcome
    assert got == [b"%d" % n for n in range(2 if then == "disconnect" else len(got))]
    assert nats.status() == ("CONNECTED" if then == "cut" else "CLOSED")


def test_force_reconnect_ends_the_wait_before_an_attempt(own_server, connected, client, run):
    server = own_server()
    nats = connected(server, reconnect=True, reconnect_delay=60_000)
    server.kill()
    run(lambda: nats.status() is Status.RECONNECTING)
    server.start()
    nats.force_reconnect()
    run(nats.is_connected)
    idle = client()
    with pytest.raises(NotConnectedError):
        idle.force_reconnect()


def test_the_pool_can_be_changed_while_connected(own_server, server, connected, run):
    first = own_server()
    nats = connected(first, **FAST)
    nats.set_server_pool([server.url])
    assert nats.is_connected()
    assert nats.servers() == [server.url]
    first.kill()
    run(lambda: nats.connected_url() == server.url)
    with pytest.raises(BadOptionsError):
        nats.set_server_pool([])
    with pytest.raises(TypeError):
        nats.set_server_pool([5])


@pytest.mark.server
def test_a_cluster_is_discovered_and_failed_over_to(client, run):
    found: list[str] = []
    with Cluster(3) as nodes:
        nats = client(nodes[0], **FAST, on_discovered_servers=found.extend)
        got: list[bytes] = []
        run(nats.is_connected)
        run(lambda: len(nats.servers()) == 3)
        nats.subscribe("c", collect(got))
        # As nats.go: what the first INFO of the first connection names is no news.
        assert set(found) <= {nodes[1].url, nodes[2].url} == set(nats.discovered_servers())
        nodes[0].kill()
        run(lambda: nats.recorder.count("connect") == 2)
        assert nats.connected_url() in (nodes[1].url, nodes[2].url)
        nats.publish("c", b"x")
        run(lambda: got == [b"x"])
        assert set(nats.servers()) >= {nodes[0].url}  # configured: stays
        still = client(nodes[1], ignore_discovered_servers=True)
        run(still.is_connected)
        assert still.servers() == [nodes[1].url]


def test_flapping_connections_wait_longer_each_time(fake, client, run):
    server = fake(lambda peer: (peer.handshake(), peer.close()))
    nats = client(server, reconnect=True, reconnect_delay=40, max_reconnect_delay=10_000)
    start = time.monotonic()
    run(lambda: nats.recorder.count("connect") == 4)
    # At least half of 40 + 80 + 160 ms.
    assert time.monotonic() - start >= 0.14


def test_discovered_servers_are_told_once_each_and_again_when_they_come_back(fake, client, run):
    lists = [
        ["a:1", "b:2"],
        ["a:1", "b:2", "[::1]:3"],
        ["a:1"],
        ["a:1", "b:2"],
        ["a:1", "", 5, "::::"],
    ]

    def script(peer: Any) -> None:
        peer.handshake(connect_urls=["a:1"])
        for urls in lists:
            peer.send_info(connect_urls=urls)
        peer.send("MSG end 1 0\r\n\r\n")
        peer.at_eof()

    found: list[Any] = []
    server = fake(script)
    nats, got = client(server, on_discovered_servers=found.append), []
    nats.subscribe("end", collect(got))
    run(lambda: got)
    run(lambda: len(found) == 3)
    assert found == [["nats://b:2"], ["nats://[::1]:3"], ["nats://b:2"]]
    assert set(nats.servers()) == {server.url, "nats://a:1"}
    assert nats.discovered_servers() == ["nats://a:1"]


# Keep-alive.


def test_a_silent_server_is_stale_after_its_intervals(own_server, connected, run):
    server = own_server()
    nats = connected(server, ping_interval=50, max_pings_outstanding=2, **FAST)
    server.suspend()
    start = time.monotonic()
    run(lambda: "disconnect" in nats.recorder.events)
    took = time.monotonic() - start
    assert isinstance(nats.recorder.errors[0], StaleConnectionError)
    assert words(nats.recorder.errors[0]) == "stale connection"
    assert took >= 0.09
    server.resume()
    run(lambda: nats.recorder.count("connect") == 2)


def test_a_blackhole_is_stale_too_and_traffic_alone_is_no_pong(fake, client, run):
    def chatter(peer: Any) -> None:
        peer.handshake()
        try:
            while True:
                peer.send("MSG a 1 1\r\nx\r\n")
                time.sleep(0.01)
        except OSError:
            pass

    nats, got = client(fake(chatter), ping_interval=50), []
    nats.subscribe("a", collect(got))
    run(lambda: "disconnect" in nats.recorder.events)
    assert isinstance(nats.recorder.errors[0], StaleConnectionError)
    assert got


def test_answered_pings_keep_the_connection(proxy, server, connected, run):
    between, most = proxy(server.port), 10
    nats = connected(between, ping_interval=10, max_pings_outstanding=most)
    # More than the connection would survive if their PONGs did not count.
    run(lambda: between.recorded["up"].count(b"PING\r\n") > 3 * most)
    assert nats.recorder.events == ["connect"]
    assert nats.is_connected()


def test_pings_without_bound_or_interval_never_end_a_connection(fake, client, run):
    def silent(peer: Any) -> None:
        peer.handshake()
        for _ in range(20):
            peer.expect("PING")
        peer.send("MSG a 1 0\r\n\r\n")
        more = peer.until("PUB over 0").count("PING")
        peer.send("PONG\r\n" * (20 + more))
        assert peer.line() == "PING"  # the flush's: the keep-alive is off
        peer.send("PONG\r\n")
        peer.at_eof()

    nats, got = client(fake(silent), ping_interval=2, max_pings_outstanding=0), []
    nats.subscribe("a", collect(got))
    run(lambda: got)
    nats.ping_interval(0)
    nats.publish("over")
    flushed(nats, run)
    assert nats.recorder.events == ["connect"]


def test_a_slow_reader_does_not_take_its_own_backlog_for_a_silent_server(connected, server, run):
    nats, other, got = connected(server, ping_interval=20), connected(server), []

    def slow(*message: Any) -> None:
        got.append(message)
        time.sleep(0.0005)

    nats.subscribe("slow", slow)
    flushed(nats, run)
    for _ in range(2000):
        other.publish("slow", b"x" * 500)
    run(lambda: len(got) == 2000, timeout=30)
    flushed(nats, run)
    assert nats.recorder.events == ["connect"]


# Time limits and lame ducks.


@pytest.mark.parametrize("held_up", [1, 3])
def test_connect_timeout_does_not_count_while_a_callback_holds_up_the_loop(
    own_server, client, run, loop, held_up
):
    """So the server has had its time, and what it said meanwhile counts."""
    server = own_server()
    nats = client(server, connect_timeout=200)
    times = iter(range(held_up))
    timer = loop.timer(
        0.0, 0.001, lambda w, r: time.sleep(0.3) if next(times, None) is not None else w.stop()
    )
    timer.start()
    run(nats.is_connected)
    assert nats.recorder.errors == []


@pytest.mark.parametrize("script", ["silent", "no pong"])
def test_connect_timeout_covers_everything_up_to_the_pong(fake, client, run, script):
    def serve(peer: Any) -> None:
        if script == "no pong":
            peer.send_info()
        peer.at_eof()

    nats = client(fake(serve), connect_timeout=60)
    start = time.monotonic()
    run(lambda: nats.status() is Status.CLOSED)
    hint = "the peer sends no INFO (is it a NATS server?): " if script == "silent" else ""
    assert [words(e) for e in nats.recorder.errors] == [f"{hint}connect timeout"]
    assert time.monotonic() - start >= 0.06
    assert isinstance(nats.recorder.errors[0], TimeoutError)


def test_lame_duck_is_told_once_and_work_goes_on(fake, client, run):
    def script(peer: Any) -> None:
        peer.handshake()
        peer.send_info(ldm=True)
        peer.send_info(ldm=True)
        peer.expect("PING")
        peer.send("PONG\r\n")
        peer.at_eof()

    nats = client(fake(script))
    run(lambda: "lame_duck" in nats.recorder.events)
    flushed(nats, run)
    assert nats.recorder.events == ["connect", "lame_duck"]


def test_pings_of_a_pause_of_reading_make_no_connection_stale(fake, client, run):
    release, pings = threading.Event(), []

    def script(peer: Any) -> None:
        peer.handshake()
        with contextlib.suppress(OSError, EOFError):
            while True:
                peer.expect("PING")
                pings.append(1)
                if release.is_set():
                    peer.send("PONG\r\n" * len(pings))
                    pings.clear()

    nats = client(fake(script), ping_interval=50, max_pings_outstanding=4)
    run(nats.is_connected)
    nats.pause_reading()
    run(lambda: len(pings) > 8)
    nats.resume_reading()
    nats.call_later(60, release.set)  # the next keep-alive comes before this
    run(lambda: release.is_set() and not pings)
    run(lambda: inside.unanswered_pings(nats) == 0)
    assert nats.recorder.errors == []


def test_the_look_for_a_late_pong_lets_other_watchers_run(fake, client, run, loop):
    """What lies in the socket is read for a slice at a time, and the verdict waits for all of it."""
    chunks, size = 30, 64 * 1024
    busy = threading.Event()

    def script(peer: Any) -> None:
        peer.handshake()
        with contextlib.suppress(OSError, EOFError):
            peer.until("PING")
            assert busy.wait(20)
            for _ in range(chunks):
                peer.send(f"MSG a 1 {size}\r\n" + "x" * size + "\r\n")
            peer.send("PONG\r\n")
            while True:
                peer.until("PING")
                peer.send("PONG\r\n")

    nats = client(fake(script), ping_interval=300, max_pings_outstanding=1)
    got, ticks, seen = [], [], set()

    def arrived(subject: str, payload: bytes, reply: Any, headers: Any) -> None:
        got.append(payload)
        seen.add(len(ticks))
        time.sleep(0.006)

    nats.subscribe("a", arrived)
    run(lambda: inside.unanswered_pings(nats) == 1)
    busy.set()
    time.sleep(0.6)  # the next keep-alive is overdue then
    timer = loop.timer(0.001, 0.001, lambda watcher, revents: ticks.append(1))
    timer.start()
    run(lambda: len(got) == chunks)
    run(lambda: inside.unanswered_pings(nats) == 0)
    timer.stop()
    assert nats.recorder.errors == []
    assert len(seen) > chunks // 4


def test_reconnect_switched_off_ends_the_attempts_of_a_forced_reconnect(own_server, client, run):
    server = own_server()
    nats = client(server, reconnect=False, reconnect_delay=60_000)
    run(nats.is_connected)
    nats.force_reconnect()
    server.kill()
    run(lambda: nats.recorder.errors)
    assert nats.status() == "RECONNECTING"
    nats.reconnect(False)
    run(lambda: nats.status() == "CLOSED")


def test_connect_is_refused_in_the_middle_of_an_attempt_to_reconnect(fake, client, run):
    def first(peer: Any) -> None:
        peer.handshake()
        peer.close()

    again = threading.Event()

    def second(peer: Any) -> None:
        again.set()
        peer.timeout = 20
        with contextlib.suppress(OSError, EOFError):
            peer.line()

    nats = client(fake(first, second), reconnect=True, reconnect_delay=1)
    run(again.is_set)
    assert nats.status() == "RECONNECTING"
    with pytest.raises(AlreadyConnectedError):
        nats.connect()
    with pytest.raises(AlreadyConnectedError):
        nats.connect_unix("/nowhere")
    assert inside.is_active(nats)


def test_connect_is_refused_while_a_drain_waits_for_the_next_connection(own_server, client, run):
    server, answers = own_server(), []
    nats = client(server, reconnect=True, reconnect_delay=60_000)
    run(nats.is_connected)
    server.kill()
    run(lambda: nats.status() == "RECONNECTING")
    nats.drain(answers.append)
    with pytest.raises(ConnectionDrainingError):
        nats.connect()
    assert answers == []
    nats.disconnect()
    run(lambda: answers)


def test_a_callback_that_is_cleared_before_its_turn_is_not_called(server, client, run):
    nats, told, done = client(server), [], []
    run(nats.is_connected)
    nats.on_disconnect(lambda: told.append("old"))
    nats.flush(done.append)
    nats.disconnect()
    nats.on_disconnect(None)
    run(lambda: done)
    run(lambda: nats.status() == "CLOSED")
    nats.connect()
    run(nats.is_connected)
    nats.disconnect()
    nats.on_disconnect(lambda: told.append("new"))
    run(lambda: told)
    assert told == ["new"]


@pytest.mark.parametrize("how", ["connect", "force_reconnect", "set_server_pool"])
def test_a_callback_that_asks_again_at_each_failure_does_not_make_thousands_of_attempts(
    client, run, how
):
    port = free_port()

    def ask(error: NatsError) -> None:
        begun.append(
            inside.attempt_began_at(nats)
        )  # how long it takes to fail is the machine's affair
        if how == "connect":
            nats.connect("127.0.0.1", port)
        elif nats.status() is not Status.CLOSED:
            call = getattr(nats, how)
            call(*([[f"127.0.0.1:{port}"]] if how == "set_server_pool" else []))

    begun: list[float] = []
    nats = client(host="127.0.0.1", port=port, on_error=ask, reconnect=how != "connect")
    run(lambda: len(begun) > 10)
    gaps = [after - before for before, after in pairwise(begun)]
    assert min(gaps) > 0.009  # half of the floor of 20 ms, less what the clock rounds
