"""Many millions of messages and hundreds of reconnects in one process whose memory must stay flat.

`make soak`, or `python -m drills.soak [ROUNDS [MESSAGES_PER_ROUND]]`. Each round sends messages through a
client of its own, makes requests, subscribes and unsubscribes, and then loses the connections of two
clients: one by `force_reconnect`, one by FIN or RST in the network. After the first fifth nothing may
grow: resident memory, file descriptors, watchers, objects, allocated blocks.
"""

from __future__ import annotations

import gc
import sys
import time
from dataclasses import dataclass, field
from typing import Any

from lab.natsserver import NatsServer
from lab.process import descriptors, resident
from lab.steps import run_until
from nats_ev import Nats, pyev
from nats_ev.testing import CuttingProxy

ROUNDS = 1500
MESSAGES = 20_000
WITHIN = 30.0
MEMORY = 2 * 1024 * 1024  # bytes that resident memory may grow by
OBJECTS = (
    200  # objects, and blocks, of Python's that may come and not go: caches of the interpreter
)


@dataclass
class Sample:
    """What must not grow."""

    memory: int = field(default_factory=resident)
    files: int = field(default_factory=descriptors)
    watchers: int = 0
    objects: int = 0
    blocks: int = 0

    @classmethod
    def take(cls) -> Sample:
        """As of now, without garbage."""
        gc.collect()
        objects = gc.get_objects()
        watchers = sum(isinstance(o, pyev.Watcher) for o in objects)
        return cls(watchers=watchers, objects=len(objects), blocks=sys.getallocatedblocks())


class Soak:
    """The clients of one run, and what they count."""

    def __init__(self, server: NatsServer, proxy: CuttingProxy) -> None:
        self.loop = pyev.Loop()
        self.proxy = proxy
        self.received = 0
        self.expected = 0  # payload number of the next message
        self.answers = 0
        self.reconnects = 0
        self.bulk = self._client(server.host, server.port)
        self.cut = self._client(proxy.host, proxy.port)
        self.bulk.subscribe("soak.bulk", self._message)
        self.bulk.subscribe("soak.echo", lambda s, p, reply, h: self.bulk.hpublish(reply, h, p))
        self.until(lambda: self.bulk.is_connected() and self.cut.is_connected())

    def _client(self, host: str, port: int) -> Nats:
        def reconnected() -> None:
            self.reconnects += 1

        return Nats(
            loop=self.loop, host=host, port=port, reconnect=True, reconnect_delay=1,
            max_reconnect_delay=5, on_error=lambda error: None, on_reconnect=reconnected,
        )  # fmt: skip

    def _message(self, subject: str, payload: bytes, reply: Any, headers: Any) -> None:
        number = self.expected
        if payload[:8] != number.to_bytes(8, "big"):
            raise AssertionError(f"message {number} is {payload[:8].hex()}")
        self.expected = number + 1
        self.received += 1

    def until(self, condition: Any) -> None:
        """Run the loop until condition() is true."""
        run_until(self.loop, condition, WITHIN)

    def round(self, number: int, messages: int) -> None:
        """One round; see the module's docstring."""
        payload = bytes(92)
        for first in range(0, messages, 5000):
            end = min(first + 5000, messages)
            sent = self.expected + end - first
            for n in range(self.expected, sent):
                self.bulk.publish("soak.bulk", n.to_bytes(8, "big") + payload)
            self.until(lambda sent=sent: self.expected == sent)
        answers = self.answers
        sids = [self.cut.subscribe(f"soak.{number}.{n}", self._never) for n in range(5)]
        for n in range(20):
            self.cut.request(
                "soak.echo", b"%d" % n, self._answered, headers={"N": str(number), "M": str(n)}
            )
        self.cut.request("soak.echo", b"", self._failed, 1, headers={"late": "maybe"})
        self.until(lambda: self.answers == answers + 20)
        for sid in sids:
            self.cut.unsubscribe(sid)
        reconnects = self.reconnects
        self.bulk.force_reconnect()
        self.proxy.cut(reset=number % 2 == 0)
        self.until(lambda: self.reconnects == reconnects + 2)

    def _answered(self, response: Any, error: Any, headers: Any) -> None:
        if error is not None:
            raise AssertionError("a request has failed") from error
        self.answers += 1

    def _failed(self, response: Any, error: Any, headers: Any) -> None:
        """Answered or timed out, as it happens."""

    def _never(self, *message: Any) -> None:
        raise AssertionError(f"a message that nobody sent: {message}")

    def end(self) -> None:
        """Disconnect; the loop must end by itself."""
        self.bulk.disconnect()
        self.cut.disconnect()
        self.loop.start()


def soak(rounds: int, messages: int, memory: int = MEMORY) -> str:
    """Run; returns what was measured, raises AssertionError when something grew."""
    raised: list[BaseException] = []
    hook, sys.excepthook = sys.excepthook, lambda kind, exc, tb: raised.append(exc)
    start = time.monotonic()
    try:
        with NatsServer() as server, CuttingProxy(server.port) as proxy:
            proxy.recording = False
            run = Soak(server, proxy)
            before = Sample()
            for number in range(rounds):
                run.round(number, messages)
                if raised:
                    raise raised[0]
                if number == rounds // 5:
                    before = Sample.take()
            # The proxy, in this process, may still be closing the ends of the last cut.
            files = before.files
            run.until(lambda: descriptors() <= files)
            after = Sample.take()
            run.end()
            if raised:
                raise raised[0]
    finally:
        sys.excepthook = hook
    text = (
        f"{run.received:,} messages, {run.answers:,} requests, {run.reconnects:,} reconnects in "
        f"{time.monotonic() - start:.0f} s; since the first fifth: memory "
        f"{(after.memory - before.memory) / 1024:+.0f} KiB (of {after.memory >> 20} MiB), descriptors "
        f"{after.files - before.files:+d}, watchers {after.watchers - before.watchers:+d}, objects "
        f"{after.objects - before.objects:+d}, blocks {after.blocks - before.blocks:+d}"
    )
    assert after.memory - before.memory <= memory, text
    assert after.files <= before.files, text
    assert after.watchers <= before.watchers, text
    assert after.objects - before.objects <= OBJECTS, text
    assert after.blocks - before.blocks <= OBJECTS, text
    return text


def main() -> None:
    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else ROUNDS
    messages = int(sys.argv[2]) if len(sys.argv) > 2 else MESSAGES
    print("soak:", soak(rounds, messages))


if __name__ == "__main__":
    main()
