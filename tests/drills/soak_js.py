"""Long run of JetStream: nothing acknowledged is lost, whatever happens to the server.

A publisher sends numbered messages with an id through the window, again until each is acknowledged; a
consumer acknowledges each explicitly through `consume`, every 50th by `ack_sync`. Meanwhile the server,
with its stream in files, is ended by SIGTERM and started again. Then: each message is in the stream
once and was consumed at least once, what `ack_sync` confirmed was not delivered again, and memory is flat.
Last, an ordered consumer reads all of it through a proxy that cuts the link: the exact sequence.

    python -m drills.soak_js [--messages 1000000] [--restarts 20] [--cuts 50]        # or: make soak-js
"""

from __future__ import annotations

import argparse
import time
from array import array
from typing import Any

from lab.natsserver import NatsServer, wait_for
from lab.process import resident
from nats_ev import JetStream, Nats, pyev
from nats_ev.testing import CuttingProxy

CONFIG: dict[str, Any] = {
    "name": "SOAK", "subjects": ["soak"], "storage": "file", "duplicate_window": 3600 * 10**9,
}  # fmt: skip
CONSUMER: dict[str, Any] = {
    "durable_name": "c", "ack_policy": "explicit", "ack_wait": 5 * 10**9, "max_ack_pending": 20_000,
}  # fmt: skip
RECONNECT: dict[str, Any] = {
    "reconnect": True, "reconnect_delay": 50, "max_reconnect_delay": 200,
    "max_reconnect_attempts": 0, "on_error": lambda err: None,
}  # fmt: skip
# Of the messages published after a restart, so many more before the next.
AHEAD = 20_000


class Soak:
    """The publisher, the consumer, and what they have seen."""

    def __init__(self, server: NatsServer, messages: int, restarts: int) -> None:
        self.server = server
        self.total = messages
        self.loop = pyev.Loop()
        self.publisher = self._client()
        self.consumer = self._client()
        self.js = JetStream(self.publisher, max_ack_pending=2000, stall_wait=0)
        self.next = 0
        self.again: list[int] = []
        self.acked = bytearray(messages)
        self.n_acked = 0
        self.delivered = array("B", bytes(messages))
        self.n_delivered = 0
        self.confirmed = bytearray(messages)
        self.after_confirmed = 0
        self.republished = 0
        self.redelivered = 0
        self.restarts = 0
        self.marks = [messages * (i + 1) // (restarts + 1) for i in range(restarts)]
        self.sizes: list[int] = []
        self.problems: list[str] = []

    def _client(self) -> Nats:
        return Nats(host=self.server.host, port=self.server.port, loop=self.loop, **RECONNECT)

    def run(self) -> None:
        """Until everything is acknowledged on both sides."""
        self.do(self.js.stream_create, CONFIG)
        self.do(self.js.consumer_create, "SOAK", CONSUMER)
        self.consume = JetStream(self.consumer).consume("SOAK", "c", self._on_message)
        self._publish()
        watch = self.loop.timer(0.1, 0.1, self._watch)
        watch.start()
        self.loop.start()
        watch.stop()
        self.consume.stop()

    def do(self, method: Any, *args: Any) -> Any:
        answers: list[Any] = []

        def done(result: Any, err: Any) -> None:
            answers.append((result, err))
            self.loop.stop()

        method(*args, done)
        while not answers:
            self.loop.start()
        result, err = answers[0]
        if err is not None:
            raise err
        return result

    def _publish(self) -> None:
        """As far as the window allows, and the rest when there is room."""
        while self.again or self.next < self.total:
            if self.again:
                number = self.again.pop()
                self.republished += 1
            else:
                number = self.next
                self.next += 1
            if not self._send(number):
                break
        if self.n_acked < self.total:
            self.js.publish_ready(lambda: self.publisher.call_later(1, self._publish))

    def _send(self, number: int) -> bool:
        def acked(ack: Any, err: Any) -> None:
            if err is not None:
                self.again.append(number)  # stored or not: the id sees to it that it is there once
            elif not self.acked[number]:
                self.acked[number] = 1
                self.n_acked += 1

        text = b"%d" % number
        return self.js.publish_async("soak", text, acked, msg_id=str(number))

    def _on_message(self, msg: Any, err: Any) -> None:
        if msg is None:
            self.problems.append(f"consume ended: {err}")
            self.loop.stop()
            return
        number = int(msg.data)
        if self.delivered[number]:
            self.redelivered += 1
            if self.confirmed[number]:
                self.after_confirmed += 1
        else:
            self.delivered[number] = 1
            self.n_delivered += 1
        if number % 50:
            msg.ack()
        else:

            def confirmed(result: Any, err: Any) -> None:
                if err is None:
                    self.confirmed[number] = 1

            msg.ack_sync(confirmed)

    def _watch(self, watcher: Any, revents: int) -> None:
        self.sizes.append(resident())
        if self.marks and self.n_acked >= self.marks[0]:
            self.marks.pop(0)
            self.server.stop()
            self.server.start()
            self.restarts += 1
        if self.n_acked == self.total and self.n_delivered == self.total:
            self.loop.stop()

    def check(self) -> None:
        """Raise what is wrong."""
        state = self.do(self.js.stream_info, "SOAK")["state"]
        problems = self.problems
        if state["messages"] != self.total:
            problems.append(f"{state['messages']} messages in the stream, not {self.total}")
        if self.after_confirmed:
            problems.append(f"{self.after_confirmed} delivered again after ack_sync")
        third = len(self.sizes) // 3
        early, late = max(self.sizes[third : 2 * third or 1]), max(self.sizes[2 * third :])
        if late > early * 1.2 + 32 * 1024 * 1024:
            problems.append(f"memory grew from {early} to {late} bytes")
        if problems:
            raise AssertionError("; ".join(problems))


def read_in_order(server: NatsServer, total: int, cuts: int) -> int:
    """The ordered consumer through a link that is cut; returns how often it was made anew."""
    loop = pyev.Loop()
    with CuttingProxy(server.port) as link:
        nats = Nats(host=link.host, port=link.port, loop=loop, **RECONNECT)
        seqs = array("Q")
        marks = [total * (i + 1) // (cuts + 1) for i in range(cuts)]
        ends: list[Any] = []

        def on_message(msg: Any, err: Any) -> None:
            if msg is None:
                ends.append(err)
                loop.stop()
                return
            seqs.append(ordered.last_seq)
            if marks and len(seqs) >= marks[0]:
                marks.pop(0)
                link.cut()
            if len(seqs) >= total:
                loop.stop()

        ordered = JetStream(nats).ordered_consumer("SOAK", on_message)
        loop.start()
        ordered.stop()
        drained: list[Any] = []
        nats.drain(lambda err: (drained.append(err), loop.stop()))
        loop.start()
        if ends:
            raise ends[0]
        if seqs != array("Q", range(1, total + 1)):
            raise AssertionError("not the exact sequence")
        if marks:
            raise AssertionError(f"{len(marks)} cuts were not made")
        return ordered.resets


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--messages", type=int, default=1_000_000)
    parser.add_argument("--restarts", type=int, default=20)
    parser.add_argument("--cuts", type=int, default=50)
    args = parser.parse_args(arguments)
    start = time.monotonic()
    with NatsServer(jetstream=True) as server:
        soak = Soak(server, args.messages, args.restarts)
        soak.run()
        soak.check()
        middle = time.monotonic()
        print(
            f"{args.messages} published and consumed, {soak.restarts} restarts, "
            f"{soak.republished} published again, {soak.redelivered} delivered again, "
            f"memory {max(soak.sizes) // 2**20} MiB at most, {middle - start:.0f} s"
        )
        if soak.restarts != args.restarts:
            raise AssertionError(f"only {soak.restarts} restarts")
        soak.publisher.disconnect()
        soak.consumer.disconnect()
        resets = read_in_order(server, args.messages, args.cuts)
        nats = Nats(host=server.host, port=server.port, loop=soak.loop)
        names = JetStream(nats)
        wait_for(lambda: soak.do(names.consumer_names, "SOAK") == ["c"], what="no consumer left")
        nats.disconnect()
        seconds = time.monotonic() - middle
        print(
            f"{args.messages} in order, {args.cuts} cuts, made anew {resets} times, {seconds:.0f} s"
        )


if __name__ == "__main__":
    main()
