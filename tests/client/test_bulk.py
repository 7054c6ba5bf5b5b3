"""Much through one connection: large messages split over reads, many subscriptions, slow sockets."""

from __future__ import annotations

import random
import time
from typing import Any

import pytest

from nats_ev import NatsError

# Bytes that may be on their way at a time.
WINDOW = 16 * 1024 * 1024


class Stream:
    """Numbered messages of one size, each different, with subjects, replies and headers that vary."""

    def __init__(self, size: int, seed: int = 7) -> None:
        source = random.Random(seed)
        self.size = size
        self.base = source.randbytes(size + 4096)
        # Words of the protocol where a read may end.
        self.base = self.base.replace(b"\x00", b"\r\nMSG x 1 5\r\n")[: size + 4096]
        self.offsets = [source.randrange(4096) for _ in range(256)]

    def message(self, n: int) -> tuple[str, bytes, str | None, bytes | None]:
        """(subject, payload, reply, headers) number n."""
        subject = f"bulk.{'s' * (1 + n % 90)}.{n}"
        reply = f"reply.{'r' * (1 + n % 60)}.{n}" if n % 3 else None
        headers = b"NATS/1.0\r\nN: %d\r\n\r\n" % n if n % 2 else None
        room = self.size - (len(headers) if headers else 0)
        start = self.offsets[n % 256]
        return subject, self.base[start : start + max(0, room)], reply, headers


@pytest.mark.slow
@pytest.mark.parametrize(
    ("size", "count"),
    [(0, 2000), (100, 2000), (50_000, 2000), (200_000, 2000), (1024 * 1024, 2000)],
)
def test_every_message_arrives_whole_whatever_its_size(connected, server, run, size, count):
    nats, stream, failed = connected(server), Stream(size), []
    assert size <= nats.max_payload()
    state = {"sent": 0, "got": 0}
    in_flight = max(1, min(500, WINDOW // max(size, 1)))

    def send() -> None:
        while state["sent"] < count and state["sent"] - state["got"] < in_flight:
            subject, payload, reply, headers = stream.message(state["sent"])
            if headers is None:
                nats.publish(subject, payload, reply)
            else:
                nats.hpublish(subject, headers, payload, reply)
            state["sent"] += 1

    def arrived(subject: str, payload: bytes, reply: str | None, headers: bytes | None) -> None:
        if (subject, payload, reply, headers) != stream.message(state["got"]):
            failed.append((state["got"], subject, len(payload), reply, headers))
        state["got"] += 1
        send()

    nats.subscribe("bulk.>", arrived)
    send()
    run(lambda: state["got"] == count or failed, 60)
    assert failed == []
    stats = nats.stats()
    assert stats["msgs_in"] == stats["msgs_out"] == count
    assert stats["bytes_in"] == stats["bytes_out"]


@pytest.mark.parametrize("chunk", [1, 7, 4093])
def test_a_network_that_cuts_everything_small_changes_nothing(connected, server, proxy, run, chunk):
    link, stream, got = proxy(server.port), Stream(300 if chunk < 100 else 30_000), []
    link.split(chunk)
    nats = connected(link, connect_timeout=0)
    nats.subscribe("bulk.>", lambda *message: got.append(message))
    sent = [stream.message(n) for n in range(40)]
    for subject, payload, reply, headers in sent:
        if headers is None:
            nats.publish(subject, payload, reply)
        else:
            nats.hpublish(subject, headers, payload, reply)
    run(lambda: len(got) == len(sent), 30)
    assert got == sent


def test_twenty_subscriptions_of_which_five_interfere(connected, server, run, excepthook):
    """They unsubscribe themselves, unsubscribe others, raise, and disconnect, all in one batch."""
    nats, log = connected(server), []  # (index of the subscription, number of the message)
    sids: list[int] = []
    marks: dict[str, int] = {}  # where in the log something was done

    def callback(index: int, number: int) -> None:
        assert nats.is_connected(), "delivered after disconnect"
        log.append((index, number))
        if index == 3 and number == 10:
            nats.unsubscribe(sids[3])
            marks["self"] = len(log)
        elif index == 7 and number == 20:
            nats.unsubscribe(sids[8])
            nats.unsubscribe(sids[12])
            marks["others"] = len(log)
        elif index == 11 and number % 10 == 0:
            raise NatsError(f"message {number}")
        elif index == 15 and number == 30:
            nats.unsubscribe(sids[16], 40)
            raise ValueError("unsubscribed another and raised")
        elif index == 19 and number == 60:
            nats.disconnect()

    for index in range(20):
        sids.append(
            nats.subscribe("twenty", lambda s, p, r, h, index=index: callback(index, int(p)))
        )
    nats.batch(lambda: [nats.publish("twenty", b"%d" % n) for n in range(100)])
    nats.request("twenty", b"-1", lambda *a: marks.update(request=len(log)), 0)
    nats.flush(lambda error: marks.update(flush=len(log)))
    run(lambda: nats.recorder.count("disconnect"))
    by_sub = {index: [n for i, n in log if i == index] for index in range(20)}
    for index, numbers in by_sub.items():
        assert numbers == list(range(len(numbers))), index
    assert by_sub[3] == list(range(11))
    for index in (8, 12):
        assert all(i != index for i, _ in log[marks["others"] :])
        assert 20 <= len(by_sub[index]) <= 21
    assert len(by_sub[16]) == 40
    assert by_sub[19] == list(range(61))
    for index in {*range(20)} - {3, 8, 12, 16, 19}:
        assert len(by_sub[index]) in (60, 61)
    assert log[-1] == (19, 60)
    assert len(excepthook) == 1 + len([n for n in by_sub[11] if n % 10 == 0])
    assert nats.recorder.errors == []
    assert marks["request"] == marks["flush"] == len(log)
    excepthook.clear()


def test_a_slow_reader_of_ours_and_a_slow_server_lose_nothing(connected, own_server, run):
    running = own_server()
    nats, other, got = connected(running), connected(running), []

    def slow(subject: str, payload: bytes, reply: Any, headers: Any) -> None:
        got.append(payload)
        if len(got) % 50 == 0:
            time.sleep(0.01)

    nats.subscribe("slow", slow)
    done: list[Any] = []
    nats.flush(done.append)
    run(lambda: done)
    running.suspend()
    for n in range(3000):
        other.publish("slow", b"%d:" % n + b"x" * (n % 5000))
    for _ in range(20):
        run(lambda: True)
    assert other.stats()["waiting"] > 0
    running.resume()
    run(lambda: len(got) == 3000, 30)
    assert got == [b"%d:" % n + b"x" * (n % 5000) for n in range(3000)]
    assert other.stats()["written"] == 3000
