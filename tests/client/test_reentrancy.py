"""Every kind of callback doing everything that a callback may do, in the middle of a message stream.

Whatever happens: messages come in order, none twice, none of another's; none is lost unless a
connection was; every completion is called once; afterwards the client works, or has ended and leaves
nothing behind.
"""

from __future__ import annotations

import gc
import weakref
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from lab.natsserver import NatsServer
from nats_ev import Nats, NotConnectedError, pyev

CONFIG = """authorization { users = [ { user: u, password: p, permissions: {
    publish: { deny: "denied" } } } ] }"""
TOTAL = 300
FIRE_AT = 40  # the message at which the trigger is set off

TRIGGERS = [
    "message", "reply", "timeout", "connect", "disconnect", "reconnect", "error", "lame_duck", "drain",
    "flush", "slow_consumer",
]  # fmt: skip
ACTIONS = [
    "raise", "interrupt", "unsubscribe", "unsubscribe all", "disconnect", "drain", "drop",
    "force_reconnect", "publish and request", "nest",
]  # fmt: skip
# Triggers that take the connection with them: messages may be lost, never doubled.
LOSSES = {"disconnect", "reconnect", "lame_duck"}


@pytest.fixture(scope="module")
def broker(needs_server: None) -> Iterator[NatsServer]:
    """A server that denies publishing to "denied"."""
    with NatsServer(config=CONFIG) as running:
        yield running


class Boom(Exception):
    """What the callbacks of these tests raise."""


class Scene:
    """One client that receives a stream, one callback of it that acts, and what came of it."""

    def __init__(self, loop: Any, run: Any, target: Any, action: str) -> None:
        self.loop, self.run, self.action = loop, run, action
        self.got: list[int] = []
        self.events: list[str] = []
        self.completions: list[str] = []
        self.owed = 0  # completions that must come
        self.acted = 0
        self.nested: list[int] = []
        self.after: int | None = None  # messages delivered when the action returned
        self.gone = False
        options: dict[str, Any] = {"user": "u", "password": "p", "reconnect": True}
        options |= {"reconnect_delay": 2, "max_reconnect_delay": 20, "max_reconnect_attempts": 0}
        self.nats: Any = Nats(loop=loop, host=target.host, port=target.port, **options)
        self.alive = weakref.ref(self.nats)
        for name in ("connect", "disconnect", "reconnect", "lame_duck"):
            getattr(self.nats, f"on_{name}")(self.hook(name))
        self.nats.on_error(self.hook("error"))
        self.fire: Callable[[], None] = lambda: None
        self.trigger = ""
        self.sid = self.nats.subscribe("stream", self.message)
        self.nats.subscribe("echo", self.echo)
        self.nats.subscribe("silent", lambda *message: None)

    @property
    def client(self) -> Any:
        client = self.alive()
        assert client is not None, "the client is gone while it is connected"
        return client

    def hook(self, name: str) -> Any:
        def callback(*args: Any) -> None:
            self.events.append(name)
            if self.trigger == name:
                self.act()

        return callback

    def owe(self, name: str) -> Any:
        """A completion that must be called exactly once."""
        self.owed += 1

        def done(*args: Any) -> None:
            assert name not in self.completions, f"{name} twice"
            self.completions.append(name)
            if self.trigger == name.partition(" ")[0]:
                self.act()

        return done

    def message(self, subject: str, payload: bytes, *rest: Any) -> None:
        assert subject == "stream"
        self.got.append(int(payload))
        if len(self.got) == FIRE_AT:
            self.fire()

    def echo(self, subject: str, payload: bytes, reply: str | None, headers: Any) -> None:
        if reply is not None and self.alive() is not None:
            self.client.publish(reply, payload)

    def act(self) -> None:
        """Do it, in the first callback of the trigger only."""
        if self.acted:
            return
        self.acted += 1
        getattr(self, "do_" + self.action.replace(" ", "_"))()
        self.after = len(self.got)

    def do_raise(self) -> None:
        raise Boom

    def do_interrupt(self) -> None:
        raise KeyboardInterrupt

    def do_unsubscribe(self) -> None:
        self.client.unsubscribe(self.sid)

    def do_unsubscribe_all(self) -> None:
        for sid in range(20):
            self.client.unsubscribe(sid)

    def do_disconnect(self) -> None:
        self.client.disconnect()
        assert not self.client.is_connected()

    def do_drain(self) -> None:
        if self.trigger != "drain":  # there it is draining already
            self.client.drain(self.owe("drained"))

    def do_drop(self) -> None:
        self.nats = None
        gc.collect()

    def do_force_reconnect(self) -> None:
        if self.trigger == "drain":  # and that is the end
            with pytest.raises(NotConnectedError):
                self.client.force_reconnect()
            return
        self.client.force_reconnect()

    def do_publish_and_request(self) -> None:
        if self.trigger == "drain":
            return
        self.client.publish("echo", b"without a reply")
        self.client.request("echo", b"x", self.owe("extra"), 3000)

    def do_nest(self) -> None:
        before = len(self.got)
        self.run(lambda: len(self.got) > before or self.alive() is None or self.quiet())
        self.nested.append(len(self.got))

    def quiet(self) -> bool:
        """No message can come any more, or none before the callback ends."""
        return self.got[-1:] == [TOTAL - 1] or not self.client.is_connected()


def set_off(scene: Scene, trigger: str, server: Any, link: Any) -> Callable[[], None]:
    """What must be called for the trigger's callback to follow."""
    nats = scene.nats
    if trigger == "message":
        return scene.act
    if trigger == "reply":
        return lambda: nats.request("echo", b"x", scene.owe("reply"), 5000)
    if trigger == "timeout":
        return lambda: nats.request("silent", b"x", scene.owe("timeout"), 5)
    if trigger == "error":
        return lambda: nats.publish("denied")
    if trigger == "flush":
        return lambda: nats.flush(scene.owe("flush"))
    if trigger == "drain":
        return lambda: nats.drain(scene.owe("drain"))
    if trigger == "slow_consumer":
        nats.slow_consumer(1000, scene.hook("slow_consumer"))
        return lambda: nats.publish("nobody", b"x" * 2000)
    if trigger == "lame_duck":
        return lambda: server.signal(12)  # SIGUSR2
    return link.cut  # connect, disconnect, reconnect


def publisher(loop: Any, other: Nats) -> Any:
    """Publishes the stream, 20 messages a tick."""
    sent = [0]

    def tick(watcher: Any, revents: int) -> None:
        for _ in range(20):
            other.publish("stream", b"%d" % sent[0])
            sent[0] += 1
        if sent[0] >= TOTAL:
            watcher.stop()

    timer = loop.timer(0.0, 0.005, tick)  # lasts longer than the wait before a reconnect
    timer.start()
    return timer


@pytest.mark.parametrize("action", ACTIONS)
@pytest.mark.parametrize("trigger", TRIGGERS)
def test_any_callback_may_do_anything(
    broker, own_server, proxy, connected, run, loop, excepthook, trigger, action
):
    server: Any = own_server(config=CONFIG) if trigger == "lame_duck" else broker
    link: Any = proxy(server.port) if trigger in ("connect", "disconnect", "reconnect") else server
    scene = Scene(loop, run, link, action)
    run(scene.nats.is_connected)
    scene.trigger = trigger
    scene.fire = set_off(scene, trigger, server, link)
    other = connected(server, user="u", password="p")
    timer = publisher(loop, other)
    ends = action in ("disconnect", "drain") or trigger == "drain"
    silent = action in ("unsubscribe", "unsubscribe all")

    if action == "interrupt":
        with pytest.raises(KeyboardInterrupt):
            run(lambda: False)
        assert scene.acted
    run(lambda: scene.acted and not timer.active)
    if trigger == "lame_duck" and not ends:  # a server that closes takes nobody new
        connects = scene.events.count("connect")
        server.restart()  # where gevent has patched, the loop runs meanwhile
        run(lambda: scene.events.count("connect") > connects and other.status() == "CLOSED")
        other.connect(server.host, server.port)
        run(other.is_connected)
    if ends:
        run(lambda: scene.alive() is None or scene.client.status() == "CLOSED")
        run(lambda: scene.events.count("disconnect") == scene.events.count("connect"))
    else:
        run(lambda: scene.client.is_connected())
        flushed: list[Any] = []
        scene.client.flush(flushed.append)
        run(lambda: flushed)
        marker = TOTAL
        other.publish("stream", b"%d" % marker)
        other.flush(flushed.append)
        run(lambda: len(flushed) == 2 and (silent or scene.got[-1] == marker))
    check(scene, trigger, action, excepthook, ends, silent)
    end(scene, loop)


def check(
    scene: Scene,
    trigger: str,
    action: str,
    excepthook: list[BaseException],
    ends: bool,
    silent: bool,
) -> None:
    got = scene.got
    assert got == sorted(set(got))
    lossy = trigger in {"connect", *LOSSES} or action == "force_reconnect"
    if silent or ends:
        if not lossy:
            assert got == list(range(len(got)))
    elif not lossy:
        assert got == list(range(TOTAL + 1))
    if action in ("disconnect", "unsubscribe", "unsubscribe all"):
        assert scene.after is not None
        assert len(got) == scene.after
    assert [type(exc) for exc in excepthook] == ([Boom] if action == "raise" else [])
    excepthook.clear()  # their tracebacks refer to the client
    assert scene.acted == 1
    if ends:
        assert scene.events.count("connect") == scene.events.count("disconnect")
    elif action == "force_reconnect" or lossy:
        assert scene.events.count("reconnect") >= 1
        assert scene.events.count("connect") == scene.events.count("disconnect") + 1
    else:
        assert scene.events.count("disconnect") == 0
    assert scene.events.count("error") == 0 or trigger in {"error", *LOSSES, "connect"}


def end(scene: Scene, loop: Any) -> None:
    client = scene.alive()
    if client is not None:
        client.disconnect()
    del client
    loop.start(pyev.EVRUN_NOWAIT)
    loop.start(pyev.EVRUN_NOWAIT)
    assert len(scene.completions) == scene.owed
    scene.nats = None
    scene.fire = lambda: None
    gc.collect()
    assert scene.alive() is None
