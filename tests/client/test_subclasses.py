"""Payloads, headers and subjects of subclasses: what is sent is what the object holds, not what it claims."""

from __future__ import annotations

from array import array
from collections.abc import Callable
from typing import Any

import pytest

from lab.broker import broker
from lab.rows import Parser
from lab.steps import collect_messages
from nats_ev import Headers, Nats
from nats_ev.protocol.wire import Outbound, lib

BLOCK = b"NATS/1.0\r\na: b\r\n\r\n"


class Long(bytes):
    """Claims more bytes than it holds."""

    def __len__(self) -> int:
        return 5000

    def __bytes__(self) -> bytes:
        return Long(b"other")


class Short(bytes):
    """Claims to be empty."""

    def __len__(self) -> int:
        return 0


class LongArray(bytearray):
    """Claims more bytes than it holds."""

    def __len__(self) -> int:
        return 5000

    def __bytes__(self) -> bytes:
        return Long(b"other")


class Text(str):
    """Encodes itself as something else, and as a class that lies about its length."""

    def encode(self, *args: object, **kwargs: object) -> bytes:
        return Long(b"other\r\nPING\r\n")

    def __len__(self) -> int:
        return 5000


class AnyText(str):
    """Is equal to every other text."""

    def __eq__(self, other: object) -> bool:
        return isinstance(other, str)

    def __hash__(self) -> int:
        return hash("plain")


PAYLOADS: list[tuple[Any, bytes]] = [
    (Long(b"own"), b"own"),
    (Short(b"own"), b"own"),
    (LongArray(b"own"), b"own"),
    (Text("own"), b"own"),
    (array("H", [1, 2]), array("H", [1, 2]).tobytes()),
    (memoryview(b"o-w-n")[::2], b"own"),
    (memoryview(bytes(6)).cast("B", (2, 3)), bytes(6)),
    (memoryview(array("H", [1, 2])), array("H", [1, 2]).tobytes()),
    (memoryview(Long(b"own")), b"own"),
]


@pytest.mark.parametrize(("payload", "sent"), PAYLOADS)
def test_a_payload_is_what_the_object_holds_in_every_call(
    connected: Callable[..., Nats], fake: Any, run: Any, payload: Any, sent: bytes
) -> None:
    nats = connected(fake(broker))
    got: list[tuple[str, bytes, str | None, bytes | None]] = []
    answered: list[Any] = []
    nats.subscribe("s", collect_messages(got))

    def answer(subject: str, received: bytes, reply: str | None, headers: Any) -> None:
        assert reply is not None
        nats.publish(reply, payload)

    nats.subscribe("r", answer)
    for _ in range(3):  # used once, interned, and the hot path
        nats.publish("s", payload)
    nats.publish("s", payload, "reply")
    nats.hpublish("s", {"a": "b"}, payload)
    for _ in range(3):
        nats.request("r", payload, lambda *answer: answered.append(answer))
    nats.request_many("r", payload, lambda *answer: answered.append(answer), max_msgs=1)
    run(lambda: len(got) == 5 and len(answered) == 5)
    assert [message[1] for message in got] == [sent] * 5
    assert [answer[0] for answer in answered] == [sent] * 4 + [None]
    assert all(answer[1] is None for answer in answered)


@pytest.mark.parametrize(
    "block", [Long(BLOCK), Short(BLOCK), LongArray(BLOCK), Text(BLOCK.decode())]
)
def test_raw_headers_are_what_the_object_holds(
    connected: Callable[..., Nats], fake: Any, run: Any, block: Any
) -> None:
    nats = connected(fake(broker))
    got: list[Any] = []
    nats.subscribe("s", collect_messages(got))
    nats.hpublish("s", block, b"own")
    nats.publish("s", b"own", headers=block)
    nats.hpublish("s", {Text("a"): Text("b")}, b"own")
    run(lambda: len(got) == 3)
    assert [message[3] for message in got] == [BLOCK] * 3
    assert Headers.parse(BLOCK).encode() == BLOCK


def test_a_subject_is_the_text_that_the_object_holds(
    connected: Callable[..., Nats], fake: Any, run: Any
) -> None:
    nats = connected(fake(broker))
    got: list[Any] = []
    nats.subscribe(Text("a.*"), collect_messages(got), Text("q"))
    for _ in range(3):
        nats.publish(Text("a.b"), b"", Text("c"))
    run(lambda: len(got) == 3)
    assert {message[:3] for message in got} == {("a.b", b"", "c")}


def test_a_subject_that_is_equal_to_others_does_not_take_their_messages(
    connected: Callable[..., Nats], fake: Any, run: Any
) -> None:
    nats = connected(fake(broker))
    got: list[Any] = []
    nats.subscribe(">", collect_messages(got))
    for _ in range(3):
        nats.publish(AnyText("odd"), b"1")
        nats.request(AnyText("odd"), b"1", lambda *answer: None)
    for _ in range(3):
        nats.publish("plain", b"2")
    run(lambda: len(got) == 9)
    assert [(message[0], message[1]) for message in got] == [("odd", b"1")] * 6 + [
        ("plain", b"2")
    ] * 3


def test_no_pointer_is_taken_from_a_subclass_of_bytes() -> None:
    out, lies = Outbound(), Long(b"own")
    calls: list[Callable[[], object]] = [
        lambda: lib.nats_wbuf_request(out.c, b"s", 1, b"", 0, lies, len(lies), 1),
        lambda: out.publish(lies, b"", None, b""),
        lambda: out.publish(b"s", lies, None, b""),
        lambda: out.publish(b"s", b"", lies, b""),
        lambda: out.sub(lies, b"", 1),
        lambda: out.sub(b"s", lies, 1),
        lambda: out.set_inbox(lies),
        lambda: out.connect(lies),
        lambda: Parser(1024).feed(lies, 0),
    ]
    for call in calls:
        with pytest.raises(TypeError):
            call()
    assert not len(out)
