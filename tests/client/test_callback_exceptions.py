"""What callbacks raise: where it comes out, and that the rest is delivered all the same."""

from __future__ import annotations

import sys
from typing import Any

import pytest

from nats_ev import Nats, NatsError, pyev


class Boom(Exception):
    """What the callbacks of these tests raise."""


def stopping_loop(debug: bool) -> pyev.Loop:
    return pyev.Loop(debug=debug)


def until(loop: Any, condition: Any, tries: int = 2000) -> list[BaseException]:
    """Run the loop until condition() is true; what came out of it meanwhile."""
    raised: list[BaseException] = []
    timer = loop.timer(0.005, 0.005, lambda watcher, revents: None)
    timer.start()
    for _ in range(tries):
        if condition():
            break
        try:
            loop.start(pyev.EVRUN_ONCE)
        except BaseException as exc:
            raised.append(exc)
    timer.stop()
    assert condition(), raised
    return raised


@pytest.mark.parametrize("stop", [Boom, KeyboardInterrupt, SystemExit, GeneratorExit])
@pytest.mark.parametrize(
    "where", ["message", "reply", "flush", "connect", "soon", "later", "status"]
)
def test_what_stops_the_loop_comes_out_of_start_and_the_rest_follows(server, where, stop):
    # An Exception stops it in debug mode only, anything else always.
    loop = stopping_loop(debug=stop is Boom)
    got: list[int] = []
    once: list[str] = []

    def act(name: str) -> None:
        if name == where and not once:
            once.append(name)
            raise stop(name)

    nats = Nats(loop=loop, host=server.host, port=server.port)
    nats.on_connect(lambda: act("connect"))
    nats.add_status_listener(lambda status: act("status"))

    def message(subject: str, payload: bytes, *rest: Any) -> None:
        got.append(int(payload))
        if int(payload) == 20:
            act("message")

    nats.subscribe("stop", message)
    nats.subscribe("stop.echo", lambda s, p, reply, h: nats.publish(reply, p))
    done: list[str] = []
    for n in range(50):
        nats.publish("stop", b"%d" % n)

    def complete(name: str) -> None:
        done.append(name)
        act(name)

    nats.request("stop.echo", b"x", lambda *answer: complete("reply"), 0)
    nats.flush(lambda error: complete("flush"))
    nats.call_soon(complete, "soon")
    nats.call_later(1, complete, "later")
    raised = until(loop, lambda: len(got) == 50 and len(done) == 4)
    assert [type(exc) for exc in raised] == [stop]
    assert got == list(range(50))
    assert sorted(done) == ["flush", "later", "reply", "soon"]
    nats.disconnect()
    until(loop, lambda: nats.status() == "CLOSED")
    loop.start()


def test_several_that_stop_come_out_one_by_one(server):
    loop = stopping_loop(debug=False)
    nats, got = Nats(loop=loop, host=server.host, port=server.port), []

    def message(subject: str, payload: bytes, *rest: Any) -> None:
        got.append(payload)
        raise KeyboardInterrupt(payload.decode())

    nats.subscribe("each", message)
    for n in range(10):
        nats.publish("each", b"%d" % n)
    raised = until(loop, lambda: len(got) == 10)
    assert [str(exc) for exc in raised] == [str(n) for n in range(10)]
    nats.disconnect()
    loop.start()


def test_an_excepthook_that_raises_stops_nothing(connected, server, run, capfd, monkeypatch):
    def hook(kind: Any, exc: BaseException, tb: Any) -> None:
        raise Boom("in the hook")

    nats, got = connected(server), []

    def message(subject: str, payload: bytes, *rest: Any) -> None:
        got.append(payload)
        raise Boom("in the callback")

    nats.subscribe("hook", message)
    with monkeypatch.context() as patch:
        patch.setattr(sys, "excepthook", hook)
        for n in range(3):
            nats.publish("hook", b"%d" % n)
        run(lambda: len(got) == 3)
    assert got == [b"0", b"1", b"2"]
    assert "in the callback" in capfd.readouterr().err


def test_an_error_of_on_error_goes_to_the_hook_and_not_to_on_error(fake, client, run, excepthook):
    def script(peer: Any) -> None:
        peer.handshake()
        peer.send("-ERR 'one'\r\n-ERR 'two'\r\nMSG x 1 0\r\n\r\n")
        peer.at_eof()

    seen: list[str] = []
    got: list[Any] = []

    def on_error(error: NatsError) -> None:
        seen.append(str(error))
        raise Boom(str(error))

    nats = client(fake(script), on_error=on_error)
    nats.subscribe("x", lambda *m: got.append(m))
    run(lambda: got and len(seen) == 2)
    assert seen == ["one", "two"]
    assert [str(exc) for exc in excepthook] == ["one", "two"]
    excepthook.clear()


def test_without_on_error_each_error_is_raised_and_none_twice(fake, loop, run, excepthook):
    def script(peer: Any) -> None:
        peer.handshake()
        peer.send("-ERR 'one'\r\n-ERR 'two'\r\nMSG x 1 0\r\n\r\n")
        peer.at_eof()

    server, got = fake(script), []
    nats = Nats(loop=loop, host=server.host, port=server.port)
    nats.subscribe("x", lambda *m: got.append(m))
    run(lambda: got and len(excepthook) == 2)
    assert [str(exc) for exc in excepthook] == ["one", "two"]
    assert nats.is_connected()
    excepthook.clear()
    nats.disconnect()
    loop.start()


def test_an_error_raised_in_debug_mode_leaves_a_client_that_goes_on(fake):
    def script(peer: Any) -> None:
        peer.handshake()
        peer.send("nonsense\r\n")
        peer.at_eof()

    def good(peer: Any) -> None:
        peer.handshake()
        peer.at_eof()

    loop, server, events = stopping_loop(debug=True), fake(script, good), []
    nats = Nats(loop=loop, host=server.host, port=server.port, reconnect=True, reconnect_delay=1)
    nats.on_disconnect(lambda: events.append("disconnect"))
    nats.on_reconnect(lambda: events.append("reconnect"))
    raised = until(loop, lambda: "reconnect" in events)
    assert [type(exc).__name__ for exc in raised] == ["ProtocolError"]
    assert events == ["disconnect", "reconnect"]
    nats.disconnect()
    loop.start()
