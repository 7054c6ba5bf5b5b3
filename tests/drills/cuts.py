"""A connection cut after each single byte of an exchange, in both directions, with FIN and with RST.

`python -m drills.cuts [STRIDE]` goes through all positions (`make cuts`); the suite takes a few.
Always the same must come of it: one loss at most, a reconnect, nothing delivered that was not sent,
nothing twice, nothing out of order, every completion called once.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from typing import Any

from lab.natsserver import NatsServer
from lab.steps import run_until
from nats_ev import ConnectError, ConnectionLostError, Nats, pyev
from nats_ev.testing import DOWN, UP, CuttingProxy

WITHIN = 10.0

# What is published before the cut: subject, headers, payload, reply.
MESSAGES: list[tuple[str, bytes | None, bytes, str | None]] = [
    ("c.1", None, b"1", None),
    ("c.1", None, b"2", None),
    ("c.1", None, b"3\r\nMSG c.1 1 1\r\nx\r\n", None),
    ("c.two", None, b"4" * 300, "reply.to.somebody"),
    ("c.three", b"NATS/1.0\r\nA: b\r\nC: " + b"d" * 80 + b"\r\n\r\n", b"5" * 300, None),
    ("c.three", b"NATS/1.0 100 Idle\r\n\r\n", b"", "r"),
    ("c." + "long" * 40, None, b"", None),
    ("c.1", None, bytes(range(256)), None),
]


class Exchange:
    """One client behind the proxy, from its connect to the end of the exchange."""

    def __init__(self, loop: Any, proxy: CuttingProxy) -> None:
        self.got: list[tuple[str, bytes | None, bytes, str | None]] = []
        self.errors: list[Exception] = []
        self.events: list[str] = []
        self.calls: list[str] = []
        self.tries = 0
        self.loop = loop
        self.nats = Nats(
            loop=loop, host=proxy.host, port=proxy.port, reconnect=True, reconnect_delay=1,
            max_reconnect_delay=5, on_error=self.errors.append,
            on_disconnect=lambda: self.events.append("disconnect"),
            on_connect=lambda: self.events.append("connect"),
        )  # fmt: skip
        self.nats.subscribe("c.>", lambda s, p, r, h: self.got.append((s, h, p, r)))
        self.nats.subscribe("svc", self._answer)

    def _answer(self, subject: str, payload: bytes, reply: str | None, headers: Any) -> None:
        assert reply is not None
        self.nats.publish(reply, payload * 2)

    def play(self) -> None:
        """Publish, request and flush; wait until a message published after it all is back."""
        nats = self.nats
        for subject, headers, payload, reply in MESSAGES:
            if headers is None:
                nats.publish(subject, payload, reply)
            else:
                nats.hpublish(subject, headers, payload, reply)
        for n in range(3):
            nats.request("svc", b"q%d" % n, lambda *a, n=n: self._answered(n, *a), 0)
        nats.flush(lambda error: self.calls.append("flush"))
        self._until(lambda: len(self.calls) == 4)
        self._until(nats.is_connected)
        deadline = time.monotonic() + WITHIN
        while not self._echoes():
            if time.monotonic() > deadline:
                raise AssertionError(f"nothing works any more: {self.events} {self.errors}")
            self._until(nats.is_connected)

    def _echoes(self) -> bool:
        """Whether a message comes back; False when the cut hits one of the two."""
        # One for each try: what was cut off may still come, over the next connection.
        end = ("c.end", None, b"end %d" % self.tries, None)
        self.tries += 1
        self.nats.publish(end[0], end[2])
        cuts = self.events.count("disconnect")
        self._until(lambda: end in self.got or self.events.count("disconnect") > cuts)
        return end in self.got

    def _answered(self, n: int, response: Any, error: Any, headers: Any) -> None:
        assert f"request {n}" not in self.calls, "called twice"
        self.calls.append(f"request {n}")
        if error is None:
            assert response == b"q%d" % n * 2, f"a wrong answer: {response!r}"
        else:
            assert str(error) == "disconnected", error

    def _until(self, condition: Any) -> None:
        run_until(self.loop, condition, WITHIN, lambda: (self.events, self.errors, self.calls))

    def check(self, cut: bool) -> None:
        """Nothing wrong has come."""
        ends = [message for message in self.got if message[0] == "c.end"]
        known = {("c.end", None, b"end %d" % n, None) for n in range(self.tries)}
        assert len(ends) == len(set(ends))
        assert set(ends) <= known
        positions = [MESSAGES.index(message) for message in self.got if message not in known]
        assert positions == sorted(set(positions)), f"doubled or out of order: {positions}"
        losses = self.events.count("disconnect")
        assert losses <= 1, self.events
        assert self.events.count("connect") == losses + 1, self.events
        for error in self.errors:
            assert isinstance(error, (ConnectError, ConnectionLostError)), repr(error)
        if not cut:
            assert positions == list(range(len(MESSAGES)))
            assert not self.errors

    def end(self) -> None:
        self.nats.disconnect()
        self.loop.start(pyev.EVRUN_NOWAIT)


def record(loop: Any, server: NatsServer) -> dict[str, int]:
    """How many bytes an exchange takes in each direction."""
    with CuttingProxy(server.port) as proxy:
        exchange = Exchange(loop, proxy)
        exchange.play()
        exchange.check(cut=False)
        exchange.end()
        return {direction: len(data) for direction, data in proxy.recorded.items()}


def cut_at(loop: Any, proxy: CuttingProxy, direction: str, position: int, reset: bool) -> None:
    """Play the exchange with its connection cut behind so many bytes of one direction."""
    proxy.limit(None)
    proxy.limit(position, direction, times=1, reset=reset)
    exchange = Exchange(loop, proxy)
    try:
        exchange.play()
        exchange.check(cut=True)
    except BaseException as exc:
        raise AssertionError(f"cut {direction} after {position}, reset: {reset}") from exc
    finally:
        exchange.end()


def positions(sizes: dict[str, int], stride: int) -> Iterator[tuple[str, int]]:
    """All places to cut at, or every stride-th."""
    for direction in (UP, DOWN):
        for position in range(1, sizes[direction] + 1, stride):
            yield direction, position


def main() -> None:
    stride = int(sys.argv[1]) if len(sys.argv) > 1 else 1
    loop = pyev.default_loop()
    start = time.monotonic()
    with NatsServer() as server:
        sizes = record(loop, server)
        count = 0
        with CuttingProxy(server.port) as proxy:
            for direction, position in positions(sizes, stride):
                for reset in (False, True):
                    cut_at(loop, proxy, direction, position, reset)
                    count += 1
    print(
        f"cuts: {count} in an exchange of {sizes[UP]} + {sizes[DOWN]} bytes, each followed by a clean "
        f"reconnect; no wrong, doubled or misplaced message ({time.monotonic() - start:.0f} s)"
    )


if __name__ == "__main__":
    main()
