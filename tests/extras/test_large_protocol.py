"""The protocol of large messages as docs/howto/large-messages.md has it; one side is written by hand here."""

from __future__ import annotations

import hashlib
import os
from base64 import urlsafe_b64encode
from collections.abc import Callable
from typing import Any

import pytest

from nats_ev import Headers, Nats
from nats_ev.extras import (
    LargeMessageCorruptError,
    LargeMessageLostError,
    LargeMessageRefusedError,
    LargeMessages,
    LargeMsg,
)

CHUNK = 1000
MESSAGE = os.urandom(7 * CHUNK + 1)
DIGEST = "SHA-256=" + urlsafe_b64encode(hashlib.sha256(MESSAGE).digest()).decode()
Answer = Callable[["Sender", int, int, str], None]


class Sender:
    """A sender by hand: it offers MESSAGE, and `answer` deals with pulls."""

    def __init__(self, nats: Nats, answer: Answer) -> None:
        self.nats = nats
        self.inbox = nats.new_inbox()
        self.pulls: list[tuple[int, int]] = []
        self.done: list[str] = []
        self._answer = answer
        nats.subscribe(self.inbox, self._arrived)

    def offer(self, subject: str, **changed: str) -> None:
        headers = {
            "Nats-Large-Version": "1",
            "Nats-Large-Size": str(len(MESSAGE)),
            "Nats-Large-Chunk": str(CHUNK),
        }
        headers |= {f"Nats-Large-{name}": value for name, value in changed.items()}
        self.nats.hpublish(subject, headers, b"an offer", self.inbox)

    def chunk(
        self, receiver: str, index: int, data: bytes | None = None, digest: str = DIGEST
    ) -> None:
        headers = {"Nats-Large-Index": str(index)}
        if index == 7:
            headers["Nats-Large-Digest"] = digest
        part = MESSAGE[index * CHUNK : (index + 1) * CHUNK] if data is None else data
        self.nats.hpublish(receiver, headers, part)

    def _arrived(
        self, subject: str, payload: bytes, reply: str | None, headers: bytes | None
    ) -> None:
        fields = Headers.parse(headers)
        assert reply is not None
        if "Nats-Large-Done" in fields:
            self.done.append(fields["Nats-Large-Done"])
        elif "Nats-Large-Pull" in fields:
            first, count = map(int, fields["Nats-Large-Pull"].split())
            self.pulls.append((first, count))
            self._answer(self, first, count, reply)


@pytest.fixture
def subject() -> str:
    return f"wire.{os.urandom(4).hex()}"


@pytest.fixture
def receive(connected: Any, server: Any, call: Any, run: Any, subject: str) -> Any:
    """receive(answer, **options): what a receiver gets from a sender by hand."""

    def receive(answer: Answer, offer: dict[str, str] | None = None, **options: Any) -> Any:
        large = LargeMessages(connected(server), **options)
        msgs: list[LargeMsg] = []
        errors: list[Any] = []
        large.subscribe(subject, lambda msg, err: msg and msgs.append(msg), on_error=errors.append)
        assert call(large.nats.rtt)[1] is None
        sender = Sender(connected(server), answer)
        sender.offer(subject, **(offer or {}))
        run(lambda: (msgs or errors) and sender.done)
        assert large.transfers == 0
        return msgs, errors, sender

    return receive


def all_of(sender: Sender, first: int, count: int, receiver: str) -> None:
    for index in range(first, min(first + count, 8)):
        sender.chunk(receiver, index)


def test_a_sender_by_hand(receive: Any) -> None:
    msgs, errors, sender = receive(all_of)
    assert (msgs[0].payload, errors, sender.done) == (MESSAGE, [], ["200 ok"])
    assert sender.pulls[0][0] == 0


def test_chunks_that_are_lost_doubled_and_mixed_up(receive: Any) -> None:
    def answer(sender: Sender, first: int, count: int, receiver: str) -> None:
        lost = len(sender.pulls) == 1
        for index in (0, 0, 1, 3, 2, 5, 4, 7, 6, 6) if lost else range(first, 8):
            sender.chunk(receiver, index)

    msgs, errors, sender = receive(answer, idle_timeout=2000)
    assert (msgs[0].payload, errors) == (MESSAGE, [])
    assert sender.pulls[1][0] == 2  # the first that was missing


def test_silence_is_asked_again(receive: Any) -> None:
    def answer(sender: Sender, first: int, count: int, receiver: str) -> None:
        if len(sender.pulls) > 2:
            all_of(sender, first, count, receiver)
        elif len(sender.pulls) == 1:
            sender.chunk(receiver, 0)

    msgs, errors, sender = receive(answer, idle_timeout=1000)
    assert (msgs[0].payload, errors) == (MESSAGE, [])
    assert sender.pulls[1][0] == 1


@pytest.mark.parametrize("how", ["digest", "none", "short", "index"])
def test_what_is_not_the_message(receive: Any, how: str) -> None:
    def answer(sender: Sender, first: int, count: int, receiver: str) -> None:
        if how == "index":
            sender.chunk(receiver, 99)
        for index in range(8):
            data = b"x" if how == "short" and index == 3 else None
            sender.chunk(
                receiver, index, data, {"digest": "SHA-256=x", "none": ""}.get(how, DIGEST)
            )

    msgs, errors, sender = receive(answer)
    assert (msgs, len(errors)) == ([], 1)
    assert isinstance(errors[0], LargeMessageCorruptError)
    assert sender.done[0].startswith("422 ")


@pytest.mark.parametrize(
    ("changed", "code"),
    [
        ({"Version": "2"}, "422"),
        ({"Size": "0"}, "422"),
        ({"Chunk": "x"}, "422"),
        ({"Size": str(1 << 40)}, "413"),
    ],
)
def test_offers_that_are_refused(receive: Any, changed: dict[str, str], code: str) -> None:
    msgs, errors, sender = receive(all_of, changed)
    assert (msgs, len(errors), sender.pulls) == ([], 1, [])
    assert sender.done[0].startswith(f"{code} ")


def test_a_sender_that_gives_up(receive: Any) -> None:
    def answer(sender: Sender, first: int, count: int, receiver: str) -> None:
        sender.nats.hpublish(receiver, {"Nats-Large-Gone": "410 no longer"})
        sender.done.append("gone")

    msgs, errors, _ = receive(answer)
    assert msgs == []
    assert isinstance(errors[0], LargeMessageLostError)
    assert "no longer" in str(errors[0])


def test_a_receiver_by_hand(connected: Any, server: Any, call: Any, run: Any, subject: str) -> None:
    large = LargeMessages(connected(server), chunk_size=CHUNK)
    nats = connected(server)
    inbox = nats.new_inbox()
    offers: list[tuple[str, Headers]] = []
    chunks: list[tuple[int, bytes, str | None]] = []

    def arrived(s: str, payload: bytes, reply: str | None, headers: bytes | None) -> None:
        fields = Headers.parse(headers)
        index = int(fields["Nats-Large-Index"])
        chunks.append((index, payload, fields.get("Nats-Large-Digest")))

    nats.subscribe(subject, lambda s, p, r, h: offers.append((str(r), Headers.parse(h))))
    nats.subscribe(inbox, arrived)
    assert call(nats.rtt)[1] is None
    large.nats.max_payload(4 * CHUNK)
    done: list[Any] = []
    large.publish(subject, MESSAGE, lambda n, err: done.append((n, err)), receivers=2)
    run(lambda: offers)
    ((source, fields),) = offers
    assert fields["Nats-Large-Size"] == str(len(MESSAGE))
    assert fields["Nats-Large-Chunk"] == str(CHUNK)
    for pull in ("7 1", "0 3", "3 100", "90 5", "nonsense"):
        nats.hpublish(source, {"Nats-Large-Pull": pull}, b"", inbox)
    run(lambda: len(chunks) == 9)
    assert [index for index, _, _ in chunks] == [7, 0, 1, 2, 3, 4, 5, 6, 7]
    assert b"".join(data for _, data, _ in chunks[1:]) == MESSAGE
    assert {digest for index, _, digest in chunks if index == 7} == {DIGEST}
    nats.hpublish(source, {"Nats-Large-Done": "200 ok"}, b"", inbox)
    nats.hpublish(source, {"Nats-Large-Done": "429 later"}, b"", "another")
    run(lambda: done)
    assert done == [(1, None)]
    # The sender is done with it: a late pull learns that.
    gone: list[Headers] = []
    nats.subscribe("gone." + subject, lambda s, p, r, h: gone.append(Headers.parse(h)))
    nats.hpublish(source, {"Nats-Large-Pull": "0 1"}, b"", "gone." + subject)
    run(lambda: gone)
    assert gone[0]["Nats-Large-Gone"].startswith("410 ")


def test_refusals_by_hand(connected: Any, server: Any, call: Any, run: Any, subject: str) -> None:
    large = LargeMessages(connected(server), chunk_size=CHUNK)
    large.nats.max_payload(4 * CHUNK)
    nats = connected(server)

    def refuse(s: str, payload: bytes, reply: str | None, headers: bytes | None) -> None:
        nats.hpublish(str(reply), {"Nats-Large-Done": "451 not today"}, b"", "me")

    nats.subscribe(subject, refuse)
    assert call(nats.rtt)[1] is None
    for method, options in ((large.publish, {"receivers": 1}), (large.request, {})):
        _, err = call(method, subject, MESSAGE, **options)
        assert isinstance(err, LargeMessageRefusedError)
        assert err.code == 451
        assert "not today" in str(err)
