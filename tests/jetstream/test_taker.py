"""Messages of consumers are counted, made and delivered in C; all that differs goes to the Python method."""

from __future__ import annotations

import gc
import sys
import weakref
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nats_ev import JsMsg
from nats_ev.compiled import Taker
from nats_ev.jetstream.message import OrderedJsMsg, parse_ack_reply

NATS: Any = object()
FAR = 1 << 62
V1 = "$JS.ACK.S.c.1.{sseq}.{cseq}.1700000000000000000.5"
V2 = "$JS.ACK._.hash.S.c.1.{sseq}.{cseq}.1700000000000000000.5.token"
BLOCK = b"NATS/1.0\r\nA: b\r\n\r\n"


class Noting(Taker):
    """Notes what is delivered, and what is left to Python."""

    def __init__(self, ordered: bool, mark: int = FAR) -> None:
        self.got: list[JsMsg] = []
        self.left: list[tuple[Any, ...]] = []
        self._mark = mark
        type_ = OrderedJsMsg if ordered else JsMsg
        self._give(self.deliver, type_, JsMsg, None if ordered else NATS)

    def deliver(self, msg: JsMsg, error: None) -> None:
        assert error is None
        self.got.append(msg)

    def _on_message(self, *args: Any) -> None:
        self.left.append(args)


def test_a_message_has_what_was_delivered() -> None:
    taker = Noting(ordered=False)
    for headers in (None, BLOCK):
        taker._take("a.b", b"data", "reply", headers)
    taker._take("a.c", b"", None, None)
    assert [(m.subject, m.data, m.reply, m.headers) for m in taker.got] == [
        ("a.b", b"data", "reply", None), ("a.b", b"data", "reply", BLOCK), ("a.c", b"", None, None),
    ]  # fmt: skip
    assert [type(msg) for msg in taker.got] == [JsMsg] * 3
    assert [msg.acked for msg in taker.got] == [False] * 3
    assert taker.got[0]._nats is NATS
    assert taker._received == 3
    assert taker.left == []


@pytest.mark.parametrize(
    "headers",
    [b"NATS/1.0 100 Idle\r\n\r\n", b"NATS/1.0 ", b"", b"NATS/1.0", b"short", bytearray(BLOCK)],
)
def test_what_may_be_a_status_is_left_to_python(headers: Any) -> None:
    taker = Noting(ordered=False)
    taker._take("a", b"", None, headers)
    assert taker.left == [("a", b"", None, headers)]
    assert (taker._received, taker.got) == (0, [])


def test_headers_are_left_to_python_while_the_pin_is_looked_for() -> None:
    taker = Noting(ordered=False)
    taker._pinned = True
    taker._take("a", b"x", None, BLOCK)
    taker._take("a", b"x", None, None)
    assert (len(taker.left), len(taker.got)) == (1, 1)


def test_the_message_that_reaches_the_mark_is_left_to_python() -> None:
    taker = Noting(ordered=False, mark=3)
    for _ in range(4):
        taker._take("a", b"x", None, None)
    assert (len(taker.got), len(taker.left), taker._received) == (2, 2, 2)


@pytest.mark.parametrize("form", [V1, V2])
def test_messages_in_order_are_taken_until_one_is_missing(form: str) -> None:
    taker = Noting(ordered=True)
    taker._take("a", b"x", form.format(sseq=1, cseq=1), None)
    assert taker.left  # nobody knows yet where to look
    tokens = form.split(".")
    taker._where = len(".".join(tokens[: tokens.index("{cseq}")]).format(sseq=1))
    for number in (1, 2, 3, 5, 4):
        taker._take("a", b"x", form.format(sseq=number, cseq=number), None)
    assert [msg.metadata.consumer_sequence for msg in taker.got] == [1, 2, 3, 4]
    assert len(taker.left) == 2
    assert taker.last_reply == form.format(sseq=4, cseq=4)
    assert {type(msg) for msg in taker.got} == {OrderedJsMsg}
    with pytest.raises(Exception, match="ack"):
        taker.got[0].ack()
    taker._received = 9  # the number grows by a digit, and the stream's does too
    taker._take("a", b"x", form.format(sseq=9, cseq=10), None)
    taker._take("a", b"x", form.format(sseq=10, cseq=11), None)
    assert len(taker.got) == 5
    assert len(taker.left) == 3


@settings(max_examples=1000, deadline=None, derandomize=True, database=None)
@given(
    st.sampled_from(["7", "07", "8", "70", "", "7a", "\u0667", "77777777777777777777", "+7", " 7"]),
    st.sampled_from(["S", "é", "s-7", "\udcff"]),
    st.integers(0, 80),
    st.integers(0, 70),
)
def test_no_reply_is_taken_for_the_next_one_that_is_not(
    token: str, stream: str, where: int, length: int
) -> None:
    taker = Noting(ordered=True)
    taker._received, taker._where = 6, where
    reply = f"$JS.ACK.{stream}.c.1.7.{token}.1700000000000000000.7"[: length + 10]
    taker._take("a", b"x", reply, None)
    if taker.got:
        assert reply[where:].startswith(".7.")
        assert taker.last_reply == reply
    else:
        assert len(taker.left) == 1
        assert not (where and reply.isascii() and reply[where:].startswith(".7."))


def test_replies_of_other_types_are_left_to_python() -> None:
    class Text(str):
        pass

    taker = Noting(ordered=True)
    taker._where, reply = 3, V1.format(sseq=1, cseq=1)
    for other in (None, 5, b"$JS.ACK", Text(reply), "\ud800" * 50):
        taker._take("a", b"x", other, None)  # type: ignore[arg-type]
    assert len(taker.left) == 5
    assert parse_ack_reply(reply) is not None


def test_an_exception_of_the_callback_comes_out_and_the_message_counts() -> None:
    class Raising(Noting):
        def deliver(self, msg: JsMsg, error: None) -> None:
            raise KeyError(msg.subject)

    taker = Raising(ordered=False)
    for _ in range(2):
        with pytest.raises(KeyError):
            taker._take("a", b"x", None, None)
    assert taker._received == 2


def test_half_made_objects_leave_all_to_python_and_take_no_nonsense() -> None:
    class Half(Taker):
        left = 0

        def _on_message(self, *args: Any) -> None:
            self.left += 1

    half = Half()
    half._mark = FAR
    half._take("a", b"x", None, None)
    assert half.left == 1
    assert half.last_reply is None
    with pytest.raises(TypeError):
        half._take("a", b"x", None)  # type: ignore[call-arg]
    for args in (
        (print, JsMsg, OrderedJsMsg, None),
        (print, int, str, None),
        (print, 5, JsMsg, None),
    ):
        with pytest.raises(TypeError):
            half._give(*args)  # type: ignore[arg-type]
    with pytest.raises(AttributeError):
        half._give(print, int, object, None)

    class NoSlots(JsMsg):
        subject = "not a slot"

    with pytest.raises(TypeError, match="no slot"):
        half._give(print, NoSlots, NoSlots, None)
    half._give(print, JsMsg, JsMsg, NATS)
    with pytest.raises(TypeError):
        half._give(print, JsMsg, JsMsg, NATS)


def test_a_taker_and_its_callback_are_freed_together() -> None:
    taker = Noting(ordered=False)  # the callback is its own method: a cycle
    taker._take("a", b"x", None, None)
    gone = weakref.ref(taker), weakref.ref(taker.deliver.__self__)
    del taker
    gc.collect()
    assert [one() for one in gone] == [None, None]


@pytest.mark.parametrize("ordered", [False, True])
def test_no_reference_stays(ordered: bool) -> None:
    taker = Noting(ordered)
    subject, data, reply = "subject of refs", b"data of refs", V1.format(sseq=1, cseq=1)
    taker._where = reply.index(".1.170")
    things = [subject, data, reply, BLOCK, NATS, JsMsg, OrderedJsMsg, taker]

    def take(times: int) -> list[int]:
        for number in range(times):
            taker._received = 0
            taker._take(subject, data, reply, BLOCK if number % 2 else None)
            taker._take(subject, data, None, b"")
            taker.got.clear()
            taker.left.clear()
        taker.last_reply = None
        gc.collect()
        return [sys.getrefcount(thing) for thing in things]

    before = take(10)
    assert take(5000) == before


@pytest.mark.parametrize("ordered", [False, True])
def test_out_of_memory_is_a_memory_error_and_no_half_made_message(ordered: bool) -> None:
    testcapi = pytest.importorskip("_testcapi", reason="this Python has no _testcapi")
    taker = Noting(ordered)
    reply = V1.format(sseq=1, cseq=1)
    taker._where = reply.index(".1.170")
    refused = 0
    for at in range(20):
        taker._received = 0
        before = len(taker.got)
        testcapi.set_nomemory(at, at + 1)
        try:
            taker._take("a", b"x", reply, None)
        except MemoryError:
            refused += 1
        finally:
            testcapi.remove_mem_hooks()
        for msg in taker.got[before:]:
            assert (msg.subject, msg.data, msg.reply, msg.headers) == ("a", b"x", reply, None)
            assert msg.acked is False
    assert refused
