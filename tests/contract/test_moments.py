"""Every command of a client at every moment of its life, alone and followed by another one.

The moments include each callback. Whatever is called when: a call raises nothing but a `NatsError`, each
completion comes exactly once, connects and disconnects alternate, no exception leaves a callback, and
afterwards the client works.
"""

from __future__ import annotations

import itertools
import random
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from nats_ev import Nats, NatsError, Status, pyev
from nats_ev.testing import CuttingProxy

WITHIN = 10.0
# Second commands that follow each command at each moment.
FOLLOWERS = 3


class World:
    """One client, what was asked of it, and what it has answered."""

    def __init__(self, proxy: CuttingProxy) -> None:
        self.loop = pyev.Loop()
        self.proxy = proxy
        self.events: list[str] = []
        self.asked: list[str] = []
        self.answers: list[list[Any]] = []
        self.refused: set[int] = set()  # whose call has raised: they must not be answered
        self.acted: list[str] = []
        self.stray: list[BaseException] = []
        self.hooks: dict[str, Callable[..., None]] = {}
        self.sid = 0
        self.nats = Nats(
            loop=self.loop,
            reconnect_delay=20,
            max_reconnect_delay=20,
            drain_timeout=3000,
            on_connect=lambda: self.event("connect"),
            on_disconnect=lambda: self.event("disconnect"),
            on_reconnect=lambda: self.event("reconnect"),
            on_error=lambda error: self.event("error"),
        )

    def event(self, name: str) -> None:
        """Note an event, and do what the moment has put there."""
        if name in ("connect", "disconnect"):
            self.events.append(name)
        self.hook(name)

    def hook(self, name: str) -> None:
        """Do what the moment has put under a name, once."""
        if name in self.hooks:
            self.hooks.pop(name)()

    def completion(self, name: str) -> Callable[..., None]:
        """Return a callback that must be called once."""
        number = len(self.asked)
        self.asked.append(name)
        self.answers.append([])
        return lambda *args: self.answers[number].append(args)

    def run(self, condition: Callable[[], object], what: str) -> None:
        """Run the loop until the condition is true."""
        deadline = time.monotonic() + WITHIN
        timer = self.loop.timer(0.002, 0.002, lambda watcher, revents: self.loop.stop())
        timer.start()
        while not condition():
            assert time.monotonic() < deadline, f"{what}: {self.nats.status()} {self.unanswered()}"
            self.loop.start(pyev.EVRUN_ONCE)
        timer.stop()

    def unanswered(self) -> list[str]:
        """Return what has had no answer, or more than one."""
        return [
            f"{name} x {len(answers)}"
            for number, (name, answers) in enumerate(zip(self.asked, self.answers, strict=True))
            if len(answers) != (number not in self.refused)
        ]

    def connect(self, **options: Any) -> None:
        """Connect through the proxy and wait for it, with a subscription and its echo."""
        self.nats.connect(self.proxy.host, self.proxy.port)
        self.run(self.nats.is_connected, "connect")


# What is called. Each takes the world; what it asks for must be answered once.

COMMANDS: dict[str, Callable[[World], object]] = {
    "publish": lambda w: w.nats.publish("moment.x", b"x"),
    "hpublish": lambda w: w.nats.hpublish("moment.x", {"a": "b"}, b"x"),
    "large": lambda w: [w.nats.publish("moment.none", bytes(300_000)) for _ in range(5)],
    "request": lambda w: w.nats.request("moment.echo", b"q", w.completion("request"), 1000),
    "unanswered": lambda w: w.nats.request("moment.silent", b"q", w.completion("silent"), 30),
    "request_many": lambda w: w.nats.request_many("moment.echo", b"q", many(w), 1000, max_msgs=1),
    "subscribe": lambda w: w.nats.subscribe("moment.other", lambda *args: None),
    "subscribe_max": lambda w: w.nats.subscribe_max("moment.x", lambda *args: None, 2),
    "unsubscribe": lambda w: w.nats.unsubscribe(w.sid),
    "unsubscribe_max": lambda w: w.nats.unsubscribe(w.sid, 5),
    "drain_subscription": lambda w: w.nats.drain_subscription(w.sid, w.completion("drained sub")),
    "pause": lambda w: w.nats.pause(w.sid),
    "resume": lambda w: w.nats.resume(w.sid),
    "pause_reading": lambda w: w.nats.pause_reading(),
    "resume_reading": lambda w: w.nats.resume_reading(),
    "ping": lambda w: w.nats.ping(),
    "flush": lambda w: w.nats.flush(w.completion("flush")),
    "rtt": lambda w: w.nats.rtt(w.completion("rtt")),
    "drain": lambda w: w.nats.drain(w.completion("drain")),
    "disconnect": lambda w: w.nats.disconnect(),
    "connect": lambda w: w.nats.connect(w.proxy.host, w.proxy.port),
    "force_reconnect": lambda w: w.nats.force_reconnect(),
    "reconnect on": lambda w: w.nats.reconnect(True),
    "reconnect off": lambda w: w.nats.reconnect(False),
    "skip_waiting": lambda w: w.nats.skip_waiting(),
    "set_server_pool": lambda w: w.nats.set_server_pool([f"nats://{w.proxy.host}:{w.proxy.port}"]),
    "batch": lambda w: w.nats.batch(lambda: [w.nats.publish("moment.x", b"b") for _ in range(3)]),
    "call_soon": lambda w: w.nats.call_soon(w.completion("call_soon")),
    "call_later": lambda w: later(w),
    "nested run": lambda w: w.loop.start(pyev.EVRUN_NOWAIT),
    "cut": lambda w: w.proxy.cut(),
    "reset_stats": lambda w: w.nats.reset_stats(),
}


def many(world: World) -> Callable[..., None]:
    """Return the callback of a request_many: any number of answers, then one end."""
    done = world.completion("request_many")

    def answer(response: bytes | None, error: NatsError | None, headers: bytes | None) -> None:
        if response is None:
            done(error)

    return answer


def later(world: World) -> None:
    """Ask for a call, or for the word that the client has ended before."""
    done = world.completion("call_later")
    world.nats.call_later(1, done, ended=done)


# When it is called: each arranges that act() is called once at its moment, and runs until then.


def connected(world: World) -> None:
    """Connect, with a subscription and something that answers requests."""
    nats = world.nats
    world.sid = nats.subscribe("moment.x", lambda *args: world.hook("message"))
    nats.subscribe("moment.echo", lambda s, p, reply, h: reply and answer(world, reply))
    nats.subscribe("moment.silent", lambda *args: None)
    world.connect()


def answer(world: World, reply: str) -> None:
    """Answer a request, if that is still possible."""
    try:
        world.nats.publish(reply, b"a")
    except NatsError:
        world.acted.append("not answered")


def in_callback_of(start: Callable[[World, Callable[[], None]], object]) -> Any:
    """Return a moment: connected, then in the callback that start() arranges."""

    def moment(world: World, act: Callable[[], None]) -> None:
        connected(world)
        start(world, act)
        world.run(lambda: world.acted, "moment")

    return moment


def at_event(name: str, *, reconnect: bool) -> Any:
    """Return a moment: in the callback of an event that follows the loss of the connection."""

    def moment(world: World, act: Callable[[], None]) -> None:
        world.nats.reconnect(reconnect)
        connected(world)
        world.hooks[name] = act
        if name == "error":
            world.proxy.cut(reset=True)
        else:
            world.proxy.cut()
        world.run(lambda: world.acted or world.nats.status() is Status.CLOSED, "moment")
        if not world.acted:  # an end without an error calls no on_error
            act()

    return moment


def new(world: World, act: Callable[[], None]) -> None:
    """Before any connect()."""
    act()


def connecting(world: World, act: Callable[[], None]) -> None:
    """After connect(), before the loop has run."""
    world.nats.connect(world.proxy.host, world.proxy.port)
    act()


def in_on_connect(world: World, act: Callable[[], None]) -> None:
    """In the callback of the first connection."""
    world.hooks["connect"] = act
    connected_after = world.nats.connect
    connected_after(world.proxy.host, world.proxy.port)
    world.run(lambda: world.acted, "moment")


def while_waiting(world: World, act: Callable[[], None]) -> None:
    """While the client waits before the next attempt."""
    world.nats.reconnect(True)
    connected(world)
    world.proxy.refuse()
    world.proxy.cut()
    world.run(lambda: world.nats.status() is Status.RECONNECTING, "moment")
    act()
    world.proxy.accept()


def in_failing_request(world: World, act: Callable[[], None]) -> None:
    """In the callback of a request that the loss of the connection has failed."""
    world.nats.reconnect(True)
    connected(world)
    world.nats.request("moment.silent", b"", lambda *args: act(), 0)
    world.nats.flush()
    world.run(lambda: not world.nats.waiting_count(), "sent")
    world.proxy.cut()
    world.run(lambda: world.acted, "moment")


def in_status_listener(world: World, act: Callable[[], None]) -> None:
    """In a listener of the status, when the connection is up."""

    def listener(status: Status) -> None:
        if status is Status.CONNECTED and not world.acted:
            world.nats.remove_status_listener(listener)
            act()

    world.nats.add_status_listener(listener)
    world.nats.connect(world.proxy.host, world.proxy.port)
    world.run(lambda: world.acted, "moment")


def after_disconnect(world: World, act: Callable[[], None]) -> None:
    """After disconnect(), before the loop has run."""
    connected(world)
    world.nats.disconnect()
    act()


def on_message(world: World, act: Callable[[], None]) -> None:
    """In the first of several messages that came together."""
    world.hooks["message"] = act
    for _ in range(4):
        world.nats.publish("moment.x", b"x")


def on_message_in_drain(world: World, act: Callable[[], None]) -> None:
    """In a message that is delivered during a drain."""
    world.hooks["message"] = act
    world.nats.publish("moment.x", b"x")
    world.nats.publish("moment.x", b"x")
    world.nats.drain(world.completion("moment's drain"))


MOMENTS: dict[str, Callable[[World, Callable[[], None]], None]] = {
    "new": new,
    "connecting": connecting,
    "on_connect": in_on_connect,
    "status listener": in_status_listener,
    "connected": in_callback_of(lambda w, act: act()),
    "message": in_callback_of(on_message),
    "answer": in_callback_of(
        lambda w, act: w.nats.request("moment.echo", b"", lambda *args: act(), 1000)
    ),
    "time-out": in_callback_of(
        lambda w, act: w.nats.request("moment.silent", b"", lambda *args: act(), 5)
    ),
    "many's answer": in_callback_of(
        lambda w, act: w.nats.request_many(
            "moment.echo", b"", lambda *args: args[0] is not None and act(), 1000, max_msgs=1
        )
    ),
    "sentinel": in_callback_of(
        lambda w, act: w.nats.request_many(
            "moment.echo", b"", lambda *args: None, 100, sentinel=lambda p, h: act() or True
        )
    ),
    "flush": in_callback_of(lambda w, act: w.nats.flush(lambda err: act())),
    "rtt": in_callback_of(lambda w, act: w.nats.rtt(lambda ms, err: act())),
    "batch": in_callback_of(lambda w, act: w.nats.batch(act)),
    "call_soon": in_callback_of(lambda w, act: w.nats.call_soon(act)),
    "call_later": in_callback_of(lambda w, act: w.nats.call_later(1, act)),
    "subscription's drain": in_callback_of(
        lambda w, act: w.nats.drain_subscription(w.sid, lambda err: act())
    ),
    "message in a drain": in_callback_of(on_message_in_drain),
    "drain": in_callback_of(lambda w, act: w.nats.drain(lambda err: act())),
    "lost request": in_failing_request,
    "on_disconnect, to reconnect": at_event("disconnect", reconnect=True),
    "on_disconnect, the end": at_event("disconnect", reconnect=False),
    "on_error": at_event("error", reconnect=True),
    "on_reconnect": at_event("reconnect", reconnect=True),
    "waiting": while_waiting,
    "after disconnect": after_disconnect,
}


@pytest.fixture(scope="module")
def proxy(server: Any) -> Iterator[CuttingProxy]:
    with CuttingProxy(server.port, server.host) as proxy:
        proxy.recording = False
        yield proxy


def play(proxy: CuttingProxy, moment: str, commands: tuple[str, ...]) -> None:
    """Make one client's life: to the moment, through the commands, to a client that works, to its end."""
    world = World(proxy)
    nats = world.nats
    before = sys.excepthook
    sys.excepthook = lambda kind, exc, traceback: world.stray.append(exc)

    def act() -> None:
        if world.acted:
            return
        world.acted.append("acted")
        for name in commands:
            asked = len(world.asked)
            try:
                COMMANDS[name](world)
            except NatsError:
                world.refused.update(range(asked, len(world.asked)))

    try:
        MOMENTS[moment](world, act)
        settle(world)
        assert world.stray == []
    finally:
        sys.excepthook = before
        world.stray.clear()
        nats.on_error(lambda error: None)
        nats.disconnect()
        world.loop.start(pyev.EVRUN_NOWAIT)


def settle(world: World) -> None:
    """Let the client come to rest, work once more, and end; then look at what it has done."""
    nats = world.nats
    world.hooks.clear()
    nats.resume_reading()
    nats.resume(world.sid)
    rest = (Status.CONNECTED, Status.CLOSED, Status.DISCONNECTED)
    world.run(lambda: nats.status() in rest, "rest")
    if not nats.is_connected():
        nats.reconnect(False)
        nats.connect(world.proxy.host, world.proxy.port)
        world.run(nats.is_connected, "connect again")
    echoed: list[bytes] = []
    nats.subscribe("moment.last", lambda subject, payload, reply, headers: echoed.append(payload))
    nats.publish("moment.last", b"works")
    # A cut that was asked for may come as late as this.
    world.run(lambda: echoed or not nats.is_connected(), "works")
    if not echoed:
        world.run(lambda: nats.status() in rest, "rest again")
    nats.disconnect()
    nats.disconnect()
    world.run(lambda: not world.unanswered(), "all answered")
    world.loop.start(pyev.EVRUN_NOWAIT)
    assert world.unanswered() == []
    assert nats.status() is Status.CLOSED
    assert world.events[::2] == ["connect"] * len(world.events[::2])
    assert world.events[1::2] == ["disconnect"] * len(world.events[1::2])
    assert len(world.events) % 2 == 0
    assert nats.stats()["waiting"] == nats.waiting_count() == 0


@pytest.mark.slow
@pytest.mark.parametrize("moment", MOMENTS)
def test_any_command_at_any_moment(proxy: CuttingProxy, moment: str) -> None:
    chance = random.Random(moment)
    for name in COMMANDS:
        play(proxy, moment, (name,))
        for follower in chance.sample(list(COMMANDS), FOLLOWERS):
            try:
                play(proxy, moment, (name, follower))
            except AssertionError as exc:
                raise AssertionError(f"{moment}: {name}, then {follower}: {exc}") from exc


def test_the_table_is_complete() -> None:
    """Few thousand cases: so many that no command and no moment is left out by mistake."""
    cases = len(MOMENTS) * len(COMMANDS) * (1 + FOLLOWERS)
    assert cases >= 3000
    assert len(set(itertools.product(MOMENTS, COMMANDS))) == len(MOMENTS) * len(COMMANDS)
