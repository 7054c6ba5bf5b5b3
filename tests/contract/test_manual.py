"""What the manual says of options and accessors, where no other test asks for it: what they do, and when."""

from __future__ import annotations

import inspect
import select
import signal
import socket
import time
from typing import Any

import pytest

from lab import inside
from lab.fakeserver import silent
from lab.jwts import Key, Setup
from lab.located import words
from nats_ev import (
    AlreadyConnectedError,
    AuthorizationError,
    ConnectTimeoutError,
    Nats,
    NotConnectedError,
    pyev,
)
from nats_ev.testing import free_port

FAST = {"reconnect_delay": 5, "max_reconnect_attempts": 0}


def again(nats: Any, run: Any) -> None:
    """A new connection."""
    connects = nats.recorder.count("connect")
    nats.force_reconnect()
    run(lambda: nats.recorder.count("connect") == connects + 1)


def test_port_is_4222_unless_given():
    assert inspect.signature(Nats.connect).parameters["port"].default == 4222
    assert inside.options_of(Nats(loop=pyev.Loop())).port == 4222
    nats = Nats(loop=pyev.Loop(), host="127.0.0.1", on_error=print)
    assert nats.servers() == ["nats://127.0.0.1:4222"]
    nats.disconnect()


def test_priority_decides_which_connection_is_served_first(connected, server, loop, run):
    clients, order = [connected(server, priority=-2), connected(server, priority=2)], []
    for name, nats in enumerate(clients):
        nats.subscribe("prio", lambda *message, name=name: order.append(name))
        flushed: list[Any] = []
        nats.flush(flushed.append)
        run(lambda flushed=flushed: flushed)

    def both_have_a_message() -> None:
        with socket.create_connection((server.host, server.port)) as other:
            other.sendall(b'CONNECT {"verbose":false}\r\nPUB prio 1\r\nx\r\n')
            waiting = {inside.socket_of(nats).fileno() for nats in clients}
            deadline = time.monotonic() + 10
            while waiting and time.monotonic() < deadline:
                waiting -= set(select.select(list(waiting), [], [], 1)[0])
            assert not waiting
            loop.start(pyev.EVRUN_ONCE)

    both_have_a_message()
    assert order == [1, 0]
    order.clear()
    for nats in clients:
        nats.priority(-nats.priority())  # for the next connection
        again(nats, run)
        flushed = []
        nats.flush(flushed.append)
        run(lambda flushed=flushed: flushed)
    both_have_a_message()
    assert order == [0, 1]


def test_keepalive_counts_for_the_next_connection_and_not_on_unix_sockets(
    connected, client, server, unix_socket, run
):
    nats = connected(server)
    assert inside.socket_of(nats).getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE) == 0
    nats.keepalive(9)
    again(nats, run)
    assert inside.socket_of(nats).getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE) == 1
    assert inside.socket_of(nats).getsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE) == 9
    other = client(None, keepalive=9)
    other.connect_unix(unix_socket(server.port))
    run(other.is_connected)
    assert inside.socket_of(other).family == socket.AF_UNIX
    assert inside.socket_of(other).getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE) == 0


def test_connect_timeout_of_zero_is_none_and_one_set_later_counts_for_the_next_attempt(
    fake, client, run
):
    def slow(peer: Any) -> None:
        time.sleep(0.3)
        peer.handshake()
        peer.at_eof()

    patient = client(fake(slow), connect_timeout=0)
    run(patient.is_connected)
    assert patient.recorder.errors == []
    mute = fake(silent)
    hasty = client(connect_timeout=0)
    hasty.connect_timeout(50)
    hasty.connect(mute.host, mute.port)
    run(lambda: hasty.recorder.errors)
    assert isinstance(hasty.recorder.errors[0], ConnectTimeoutError)
    assert hasty.status() == "CLOSED"


def test_reconnect_leaves_what_is_omitted_as_it_is(client):
    nats = client(reconnect_delay=70, max_reconnect_attempts=7)
    options = inside.options_of(nats)
    assert not nats.reconnect_enabled()
    nats.reconnect(True)
    assert nats.reconnect_enabled()
    assert (options.reconnect_delay, options.max_reconnect_attempts) == (70, 7)
    nats.reconnect(True, 80)
    assert (options.reconnect_delay, options.max_reconnect_attempts) == (80, 7)
    nats.reconnect(False, max_attempts=0)
    assert not nats.reconnect_enabled()
    assert (options.reconnect_delay, options.max_reconnect_attempts) == (80, 0)
    for bad in (lambda: nats.reconnect(True, -1), lambda: nats.reconnect(True, 1, -1)):
        with pytest.raises(ValueError):
            bad()
    with pytest.raises(TypeError):
        nats.reconnect("yes")


def test_reconnect_may_be_switched_on_and_off_while_connected(own_server, connected, run):
    server = own_server()
    nats = connected(server, **FAST)
    nats.reconnect(True)
    server.kill()
    run(lambda: nats.recorder.count("disconnect"))
    server.start()
    run(lambda: nats.recorder.count("reconnect"))
    nats.reconnect(False)
    server.kill()
    run(lambda: nats.status() == "CLOSED")
    assert nats.recorder.events[-1] == "disconnect"


@pytest.mark.parametrize("when", ["in on_disconnect", "while it waits"])
def test_reconnect_switched_off_in_a_wait_ends_it(own_server, client, run, when):
    server = own_server()
    nats, answers = client(server, reconnect=True, reconnect_delay=60_000), []
    run(nats.is_connected)
    if when == "in on_disconnect":
        nats.on_disconnect(lambda: nats.reconnect(False))
    server.kill()
    run(lambda: nats.status() != "CONNECTED")
    if when == "while it waits":
        run(lambda: nats.status() == "RECONNECTING")
        nats.request("x", b"", lambda *answer: answers.append(answer), 0)
        nats.publish("kept")
        nats.reconnect(False)
        run(lambda: answers)
        assert str(answers[0][1]) == "disconnected"
        assert nats.waiting_count() == 1
    run(lambda: nats.status() == "CLOSED")
    assert nats.recorder.errors == []  # there was no attempt
    with pytest.raises(NotConnectedError):
        nats.publish("x")
    server.start()
    nats.connect()
    run(nats.is_connected)


def test_reconnect_switched_off_leaves_the_first_attempt_alone(server, client, run):
    nats = client(server, reconnect=True)
    nats.reconnect(False)
    run(nats.is_connected)


def test_max_reconnect_delay_bounds_the_wait(client, run):
    nats = client(
        None, host="127.0.0.1", port=free_port(), reconnect=True,
        reconnect_delay=3_600_000, max_reconnect_delay=1, max_reconnect_attempts=3,
    )  # fmt: skip
    run(lambda: nats.status() == "CLOSED")
    assert [words(error) for error in nats.recorder.errors] == [
        *["Connection refused"] * 4, "max reconnect attempts reached",
    ]  # fmt: skip


def test_nkey_seed_and_jwt_set_before_connect_are_what_the_server_asks_for(own_server, client, run):
    key, setup = Key("user"), Setup()
    server = own_server(config=setup.config())
    nats = client()
    nats.connect(server.host, server.port)
    run(lambda: nats.recorder.errors)
    assert isinstance(nats.recorder.errors[0], AuthorizationError)
    nats.nkey_seed(key.seed)
    nats.jwt(setup.user(key))
    nats.connect()
    run(nats.is_connected)


def test_the_slow_consumer_callback_is_an_option_with_its_threshold(connected, server, run):
    told: list[int] = []
    nats = connected(server, slow_consumer_bytes=1000, on_slow_consumer=told.append)
    nats.publish("x", b"y" * 500)
    run(lambda: nats.stats()["waiting"] == 0)
    assert told == []
    nats.publish("x", b"y" * 2000)
    run(lambda: told)
    assert told[0] > 2000
    nats.slow_consumer(1000)  # no callback: none any more
    assert nats.on_slow_consumer() is None
    nats.publish("x", b"y" * 2000)
    run(lambda: nats.stats()["waiting"] == 0)
    assert len(told) == 1


def test_a_callback_of_lame_duck_set_at_run_time_is_the_one_that_is_told(
    own_server, connected, run
):
    server, told = own_server(), []
    nats = connected(server)
    nats.on_lame_duck(lambda: told.append("first"))
    nats.on_lame_duck(lambda: told.append("second"))
    server.signal(signal.SIGUSR2)
    run(lambda: told)
    assert told == ["second"]
    assert nats.is_connected()


def test_connect_unix_refuses_a_client_that_is_connected_or_connecting(
    client, server, unix_socket, run
):
    path = unix_socket(server.port)
    nats = client()
    nats.connect_unix(path)
    assert not nats.is_connected()
    for call in (lambda: nats.connect_unix(path), lambda: nats.connect("127.0.0.1")):
        with pytest.raises(AlreadyConnectedError):
            call()
    run(nats.is_connected)
    with pytest.raises(AlreadyConnectedError):
        nats.connect_unix(path)
    nats.disconnect()
    nats.connect_unix(path)  # at once again
    run(nats.is_connected)
    assert nats.recorder.events == ["connect", "disconnect", "connect"]


def test_max_payload_of_ours_survives_the_next_info(connected, server, run):
    nats = connected(server)
    nats.max_payload(8)
    again(nats, run)
    assert nats.max_payload() == 8
    nats.max_payload(1 << 30)
    assert nats.max_payload() == 1024 * 1024
    nats.max_payload(0)
    again(nats, run)
    assert nats.max_payload() == 1024 * 1024


def test_subscription_count_has_the_one_that_requests_share(connected, server, run):
    nats, answers = connected(server), []
    sids = [nats.subscribe(f"count.{n}", print) for n in range(3)]
    assert nats.subscription_count() == 3
    for _ in range(5):
        nats.request("nobody", b"", lambda *answer: answers.append(answer), no_responders=True)
    assert nats.subscription_count() == 4
    run(lambda: len(answers) == 5)
    for sid in sids:
        nats.unsubscribe(sid)
    assert nats.subscription_count() == 1
