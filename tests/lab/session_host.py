"""A host for a protocol session: the connection and the client in one, over a pair of sockets.

And what it must get for a stream, as the reference parser reads the stream.
"""

from __future__ import annotations

import socket
from collections.abc import Callable
from typing import Any

from lab import refparser
from nats_ev import errors
from nats_ev.protocol import wire
from nats_ev.protocol.session import Session, State
from nats_ev.protocol.subscription import Subscription

HANDSHAKE = b'INFO {"server_id":"X","headers":true}\r\nPONG\r\n'


class Host:
    """A connection and a client in one, over a pair of sockets."""

    def __init__(self) -> None:
        self.subs: dict[int, Subscription] = {}
        self.waiting = wire.Waiting()
        self.got: list[tuple[Any, ...]] = []
        self.raised: list[BaseException] = []
        self.scheduled = 0
        self.server, self.ours = socket.socketpair()
        self.ours.setblocking(False)
        self.session = Session(self.subs, self, 1 << 28, self.waiting, self.schedule)
        self.session.receive(HANDSHAKE)
        self.session.deliver(1.0)
        assert self.session.state is State.READY

    def schedule(self) -> None:
        self.scheduled += 1

    def subscribe(self, sid: int, callback: Callable[..., object] | None = None) -> Subscription:
        sub = Subscription(self, sid, b"s", b"", callback or (lambda *args: self.got.append(args)))
        self.subs[sid] = sub
        return sub

    def read(self, seconds: float = 1.0) -> int:
        return self.session.read(self.ours.fileno(), seconds)

    def read_all(self) -> None:
        """Read until nothing is left."""
        while self.read() not in (wire.NOTHING, wire.END):
            pass

    def close(self) -> None:
        self.session.close()
        self.server.close()
        self.ours.close()

    # `session.Events` and `subscription.Owner`.

    def info_received(self, info: object, first: bool) -> None:
        self.session.connect({}, iter(()))

    def ready(self) -> None:
        pass

    def pong_received(self) -> None:
        self.got.append(("pong",))

    def ping_received(self, count: int) -> None:
        self.got.append(("ping", count))

    def server_error(self, text: str) -> None:
        self.got.append(("error", text))

    def protocol_failed(self, error: errors.ProtocolError) -> None:
        self.got.append(("failed", error.offset))

    def callback_failed(self, error: BaseException) -> None:
        if not isinstance(error, Exception):
            raise error
        self.raised.append(error)

    def call(self, callback: Callable[..., object], *args: object) -> None:
        callback(*args)


def expected_events(stream: bytes) -> list[tuple[Any, ...]]:
    """Return what a host with subscriptions 1 to 3 gets for a stream, as the reference parser reads it."""
    outcome = refparser.parse(stream, 1 << 28)
    events: list[tuple[Any, ...]] = []
    for event in outcome.events:
        if event[0] == "MSG":
            _, sid, subject, reply, headers, payload = event
            if sid in (1, 2, 3):
                events.append((subject, payload, reply or None, headers or None))
        elif event[0] == "ERR":
            events.append(("error", event[1]))
        elif event[0] != "OK":
            events.append((event[0],))
    if outcome.offset is not None:
        events.append(("failed", outcome.offset + len(HANDSHAKE)))
    return events


def encoded(event: tuple[Any, ...]) -> list[tuple[Any, ...]]:
    """Return an event of `Host.got` as `expected_events` names it."""
    if event[0] == "ping":
        return [("PING",)] * event[1]
    if event[0] == "pong":
        return [("PONG",)]
    if event[0] == "error":
        return [("error", event[1].encode())]
    if event[0] == "failed":
        return [event]
    subject, payload, reply, headers = event
    reply = None if reply is None else reply.encode()
    return [(subject.encode("utf-8", "surrogateescape"), payload, reply, headers)]
