"""Fuzz targets that go through Python: what `py_*.c` does with any stream, and with any arguments.

`fuzz_python.c` calls them with libFuzzer's inputs, `protocol/test_fuzz_targets.py` with the corpus. A target
raises AssertionError for what must not happen; a crash is for the sanitizers to find.
"""

from __future__ import annotations

import contextlib
import gc
import re
from collections.abc import Callable, Iterator
from typing import Any

from lab import inside, refparser
from lab.session_host import Host
from nats_ev import Headers, Nats, pyev
from nats_ev.protocol.subscription import Subscription

PLAIN, SLOW, INBOX = 1, 2, 3
INBOX_PREFIX = "in."
# What a callback does, by the next byte of the script; any other byte: nothing.
RAISE, NEST, END_FIRST, END_OWN, CLOSE, REQUEST, READ, COLLECT = range(1, 9)


class Scripted(Exception):
    """What a callback raises because the script wants it."""


class Walk(Host):
    """A host that compares each delivery with the next one that the reference parser foresees."""

    def __init__(self, script: bytes, stream: bytes) -> None:
        super().__init__()
        self._script = iter(script)
        self._foreseen = self._events(refparser.parse(stream, 1 << 28))
        self._nested = 0
        self.over = False
        self.broken: list[BaseException] = []  # what this class has found in a callback

    def _events(self, outcome: refparser.Outcome) -> Iterator[tuple[Any, ...]]:
        """Yield what must still arrive; a subscription that has ended gets nothing."""
        for event in outcome.events:
            if event[0] == "MSG":
                _, sid, subject, reply, headers, payload = event
                if sid in self.subs:
                    yield sid, subject, payload, reply or None, headers or None
            elif event[0] in ("PING", "PONG"):
                yield (event[0],)
            elif event[0] == "ERR":
                yield "ERR", event[1]
        if outcome.offset is not None:
            yield ("failed",)

    def foreseen(self, *event: Any) -> None:
        """Check that event is the next one."""
        self.check()
        assert not self.over, f"{event} after the end"
        expected = next(self._foreseen, None)
        assert event == expected, f"{event} instead of {expected}"

    def nothing_left(self) -> None:
        """Check that everything has arrived."""
        self.check()
        left = next(self._foreseen, None)
        assert self.over or left is None, f"{left} has not arrived"

    def check(self) -> None:
        """Raise what a callback has found."""
        for error in self.broken:
            raise error

    def end(self, sid: int) -> None:
        """Unsubscribe, as the client does."""
        sub = self.subs.pop(sid, None)
        if sub is not None:
            sub.closed, sub.fast = True, False

    def act(self, sid: int) -> None:
        """Do what the script wants of this callback."""
        action = next(self._script, 0)
        if action == RAISE:
            raise Scripted
        if action in (NEST, READ) and self._nested < 4:
            self._nested += 1
            self.session.deliver(0.0) if action == NEST else self.read(0.0)
            self._nested -= 1
        elif action == END_FIRST:
            self.end(PLAIN)
        elif action == END_OWN and sid != INBOX:
            self.end(sid)
        elif action == CLOSE:
            self.over = True
            self.session.close()
        elif action == REQUEST:
            self.ask(next(self._script, 1))
        elif action == COLLECT:
            gc.collect(0)

    def add(self, sid: int) -> None:
        """Subscribe sid."""

        def arrived(subject: str, payload: bytes, reply: str | None, headers: bytes | None) -> None:
            raw_reply = None if reply is None else encoded(reply)
            self.foreseen(sid, encoded(subject), payload, raw_reply, headers)
            self.act(sid)

        sub = self.subs[sid] = Subscription(self, sid, b"s", b"", arrived)
        if sid == SLOW:
            sub.fast = False
        if sid == INBOX:
            sub.fast = False
            sub.prefix_len = len(INBOX_PREFIX)
            sub.inbox = self

    def ask(self, number: int) -> None:
        """Let a request wait for its answer."""

        def answered(payload: bytes, error: None, headers: bytes | None) -> None:
            assert error is None
            self._answered(number, payload, headers)

        self.waiting[number] = answered

    # `subscription.Inbox`; and what `Host` has for its own tests.

    def answer(self, number: int, payload: bytes, headers: bytes | None) -> None:
        self.call(self._answered, number, payload, headers)

    def _answered(self, number: int, payload: bytes, headers: bytes | None) -> None:
        """Check an answer; raise what its callback raises."""
        expected = next(self._foreseen, None)
        assert not self.over
        assert expected is not None, "an answer after the last event"
        sid, subject, wanted, _reply, block = expected
        assert (sid, wanted, block) == (INBOX, payload, headers)
        tail = subject[len(INBOX_PREFIX) :]
        if re.fullmatch(rb"[1-9][0-9]{0,8}", tail):
            assert number == int(tail), (number, tail)
        self.waiting.pop(number, None)
        self.act(INBOX)

    def info_received(self, info: object, first: bool) -> None:
        if first:  # of the handshake
            super().info_received(info, first)

    def info_refused(self, error: object) -> None:
        pass

    def ping_received(self, count: int) -> None:
        for _ in range(count):
            self.foreseen("PING")

    def pong_received(self) -> None:
        self.foreseen("PONG")

    def server_error(self, text: str) -> None:
        self.foreseen("ERR", text.encode("utf-8", "surrogateescape"))

    def protocol_failed(self, error: object) -> None:
        self.foreseen("failed")
        self.over = True

    def callback_failed(self, error: BaseException) -> None:
        if not isinstance(error, Scripted):
            self.broken.append(error)

    def call(self, callback: Callable[..., object], *args: object) -> None:
        with contextlib.suppress(Scripted):
            callback(*args)


def encoded(text: str) -> bytes:
    """Return the bytes that a delivered subject has on the wire."""
    return text.encode("utf-8", "surrogateescape")


def inbound(data: bytes) -> None:
    """Deliver any stream, cut anywhere, to callbacks that do what the input wants.

    Input: how to receive, the length of the script, the script, the stream.
    """
    if len(data) < 2:
        return
    by_socket, at_once, cut = data[0] & 1, data[0] & 2, data[0] >> 2
    script, stream = data[2 : 2 + data[1]], data[2 + data[1] :]
    host = Walk(script, stream)
    try:
        for sid in (PLAIN, SLOW, INBOX):
            host.add(sid)
        for number in (1, 2, 3):
            host.ask(number)
        host.server.setblocking(False)
        step = cut + 1 if cut < 60 else len(stream) + 1
        seconds = 0.0 if at_once else 1.0
        for at in range(0, len(stream), step):
            piece = stream[at : at + step]
            if by_socket and not host.over:
                assert host.server.send(piece) == len(piece)
                host.read(seconds)
            else:
                host.session.receive(piece)
                host.session.deliver(seconds)
        while not host.over and not host.session.drained:
            host.session.deliver(1.0)
        if by_socket and not host.over:
            host.read_all()
        host.nothing_left()
    finally:
        host.close()


class Arguments:
    """Any arguments for publish, hpublish and request, from the bytes of an input."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._at = 0

    def number(self) -> int:
        """Return the next byte; 0 after the end."""
        self._at += 1
        return self._data[self._at - 1] if self._at <= len(self._data) else 0

    def raw(self) -> bytes:
        """Return some of the bytes; up to 255, or a multiple of them."""
        size = self.number()
        found = self._data[self._at : self._at + size]
        self._at += size
        return found * (300 if size == 255 else 1)

    def text(self) -> Any:
        """Return text, with surrogates perhaps, or what is none."""
        kind = self.number() % 8
        raw = self.raw()
        if kind < 4:
            return raw.decode("latin-1")
        if kind < 6:
            return raw.decode("utf-8", "surrogateescape")
        return [None, "", 5, b"a", "\ud800", "\U0001f600"][len(raw) % 6] if kind == 6 else raw

    def payload(self) -> Any:
        """Return bytes, text, or another object."""
        kind, raw = self.number() % 6, self.raw()
        return (raw, raw, bytearray(raw), memoryview(raw)[::2], raw.decode("latin-1"), None)[kind]

    def headers(self) -> Any:
        """Return a mapping, a block, or another object."""
        kind = self.number() % 5
        if kind == 0:
            return self.raw()
        if kind == 1:
            return b"NATS/1.0\r\n" + self.raw() + b"\r\n\r\n"
        names = [self.text() for _ in range(self.number() % 4)]
        values = [[self.text()] * (self.number() % 3) if kind == 3 else self.text() for _ in names]
        with contextlib.suppress(Exception):
            mapping = dict(zip(names, values, strict=True))
            return Headers(mapping) if kind == 4 else mapping
        return None


_nats: list[Nats] = []


def ignore(*args: object) -> None:
    """Do nothing: the callback of all requests here."""


def clients() -> list[Nats]:
    """Return two clients that wait for a connection, so that what they queue can be read."""
    if not _nats:
        loop = pyev.Loop()
        _nats.extend(
            Nats(
                loop=loop, host="127.0.0.1", port=1, on_error=ignore, inbox_prefix="_I",
                reconnect_buffer_size=1 << 20,
            )
            for _ in range(2)
        )  # fmt: skip
    return _nats


def outcome(call: Callable[..., Any], nats: Nats, args: Any, kwargs: Any) -> tuple[Any, ...]:
    """Return the result or the error of a call, what it has queued, and what it has counted."""
    inside.drop_unsent(nats)
    before = nats.stats()
    try:
        result: Any = call(*args, **kwargs)
    except Exception as exc:
        result = type(exc), str(exc)
    after = nats.stats()
    counted = after["accepted"] - before["accepted"]
    return result, inside.without_inbox(nats, inside.unsent(nats)), counted


def outbound(data: bytes) -> None:
    """Call publish, hpublish and request with any arguments: C does what the Python function does.

    Input: for each call the method, and which arguments are given by name; then their bytes.
    """
    given = Arguments(data)
    fast, slow = clients()
    for _ in range(3):
        kind = given.number()
        name = ("publish", "hpublish", "request")[kind % 3]
        args: list[Any] = [given.text()]
        kwargs: dict[str, Any] = {}
        if name == "hpublish":
            args.append(given.headers())
        args.append(given.payload())
        if name == "request":
            args += [ignore, given.number() * 50]
        elif kind & 4:
            args.append(given.text())
        elif kind & 8:
            kwargs["reply_to"] = given.text()
        if name != "hpublish" and kind & 16:
            kwargs["headers"] = given.headers()
        python = getattr(Nats, name).__wrapped__
        ways = [
            outcome(getattr(fast, name), fast, args, kwargs),
            outcome(lambda *a, **k: python(slow, *a, **k), slow, args, kwargs),  # noqa: B023
        ]
        assert ways[0] == ways[1], f"{name}{args}{kwargs}: {ways[0]} by C, {ways[1]} by Python"
        for nats in (fast, slow):
            refparser.parse_commands(inside.unsent(nats))
            if isinstance(ways[0][0], int):
                nats.cancel_request(ways[0][0])
