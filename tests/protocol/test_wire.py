"""`Parser` and `Outbound`: what C codes become, and that buffers and counters are the C core's own."""

from __future__ import annotations

import gc

import pytest

from lab.rows import INFO, MSG, PING, ROW_WIDTH, RUN, Parser
from nats_ev import errors
from nats_ev.protocol import wire
from nats_ev.protocol.wire import Outbound

HEADERS = b"NATS/1.0\r\n\r\n"


def test_rows_are_offsets_into_the_chunk() -> None:
    parser = Parser(100)
    chunk = b"INFO {}\r\nMSG foo 7 r 2\r\nhi\r\nPING\r\nPING\r\n"
    rows = parser.feed(chunk, 0)
    assert parser.pos == len(chunk)
    assert parser.frame is None
    assert rows[0::ROW_WIDTH] == [INFO, MSG, PING]
    kind, sid, s0, s1, r0, r1, h0, p0, p1 = rows[ROW_WIDTH : 2 * ROW_WIDTH]
    assert (kind, sid, chunk[s0:s1], chunk[r0:r1], chunk[p0:p1]) == (MSG, 7, b"foo", b"r", b"hi")
    assert h0 == p0
    assert rows[-1] == 2
    assert (parser.msgs, parser.bytes) == (1, 2)


def test_a_frame_of_two_chunks_is_a_buffer_of_its_own() -> None:
    parser = Parser(100)
    assert parser.feed(b"PING\r\nMSG foo 7 5\r\nhe", 0)[0] == PING
    chunk = b"llo\r\nPING\r\n"
    kind, sid, s0, s1, *_, p0, p1 = parser.feed(chunk, 0)
    frame = parser.frame
    assert (kind, sid, frame[s0:s1], frame[p0:p1]) == (MSG, 7, b"foo", b"hello")
    assert type(frame[p0:p1]) is bytes
    assert parser.pos == 5
    assert parser.feed(chunk, 5)[0] == PING
    assert parser.frame is None
    assert parser.pos == len(chunk)


def test_rows_can_be_asked_for_in_portions() -> None:
    parser = Parser(100)
    chunk = b"MSG a 1 0\r\n\r\n" * 1000
    pos = portions = messages = 0
    while pos < len(chunk):
        rows = parser.feed(chunk, pos, 64)
        assert len(rows) <= 64
        messages += rows[8] if rows[0] == RUN else 1
        pos = parser.pos
        portions += 1
    assert messages == parser.msgs == 1000
    assert portions >= 1000 * 2 // 64


@pytest.mark.parametrize(
    ("frame", "text"),
    [
        (b"BOGUS\r\n", "unknown command"),
        (b"MSG a\r\n", "wrong number of arguments"),
        (b"MSG a x 1\r\n", "invalid subscription id"),
        (b"MSG a 1 x\r\n", "invalid message size"),
        (b"HMSG a 1 3 2\r\n", "header size above message size"),
        (b"PING\n", "line does not end with CRLF"),
        (b"MSG a 1 1\r\nxyz", "payload does not end with CRLF"),
        (b"PING" + b" " * 1_100_000, "control line too long"),
        (b"MSG a 1 101\r\n", "message too long"),
    ],
)
def test_errors_say_what_and_where(frame: bytes, text: str) -> None:
    parser = Parser(100)
    parser.feed(b"PING\r\n", 0)
    assert not parser.failed
    assert parser.feed(b"PING\r\n" + frame, 0)[0] == PING
    error = parser.error()
    assert isinstance(error, errors.ProtocolError)
    assert str(error) == f"protocol error: {text} (at byte 12)"
    assert error.offset == 12
    assert error.snippet == frame[:64]
    assert parser.feed(b"PING\r\n", 0) == []
    assert parser.pos == 6
    assert str(parser.error()) == str(error)


def test_the_bound_of_a_message_can_be_set() -> None:
    parser = Parser(0)
    assert parser.feed(b"MSG a 1 67108864\r\n", 0) == []
    assert not parser.failed
    parser = Parser(10)
    parser.set_max_message(5)
    parser.feed(b"MSG a 1 6\r\n", 0)
    assert parser.failed


def test_what_is_left_of_a_frame_goes_with_the_parser() -> None:
    for _ in range(50):
        parser = Parser(0)
        parser.feed(b"MSG a 1 10000000\r\n" + b"x" * 1_000_000, 0)
        del parser
    gc.collect()


# The write buffer.


def framed(out: Outbound) -> bytes:
    return bytes(out.peek())


def test_every_command_is_framed() -> None:
    out = Outbound()
    assert out.publish(b"a", b"", None, b"hi") == wire.FIRST
    assert out.publish(b"a", b"r", HEADERS, b"") == 0
    assert out.sub(b"foo.*", b"", 1) == 0
    assert out.sub(b"foo", b"q", 2) == 0
    assert out.unsub(1) == 0
    assert out.unsub(2, 5) == 0
    assert out.ping() == 0
    assert out.pong() == 0
    assert out.connect(b'{"a":1}') == 0
    assert framed(out) == (
        b"PUB a 2\r\nhi\r\nHPUB a r 12 12\r\nNATS/1.0\r\n\r\n\r\nSUB foo.* 1\r\nSUB foo q 2\r\n"
        b'UNSUB 1\r\nUNSUB 2 5\r\nPING\r\nPONG\r\nCONNECT {"a":1}\r\n'
    )
    assert len(out) == len(framed(out))


def test_what_the_kernel_took_is_gone_and_counted() -> None:
    out = Outbound()
    out.publish(b"a", b"", None, b"one")
    out.publish(b"a", b"", None, b"two", 1)
    out.publish(b"a", b"", None, b"three", 2)
    out.sent(15)
    assert framed(out).startswith(b"UB a 3\r\ntwo")
    assert out.remove([1, 2]) == 1  # of the other one a byte is sent
    assert out.remove([]) == 0
    counts = out.accounting()
    assert (counts.accepted, counts.written, counts.waiting, counts.discarded) == (3, 1, 1, 1)
    assert (counts.msgs_out, counts.bytes_out) == (3, 11)
    out.take_back()
    counts = out.accounting()
    assert (counts.waiting, counts.discarded, len(out)) == (0, 2, 0)


def test_a_lost_connection_leaves_the_messages_whole() -> None:
    out = Outbound()
    out.ping()
    out.publish(b"a", b"", None, b"one")
    out.publish(b"a", b"", None, b"two")
    out.sent(6 + 5)
    out.take_back()
    assert framed(out) == b"PUB a 3\r\none\r\nPUB a 3\r\ntwo\r\n"
    assert out.drop_messages() == 2
    assert len(out) == 0


def test_marks_are_reported_once() -> None:
    out = Outbound()
    out.limits.high_water = 50
    out.limits.slow_mark = 60
    payload = b"x" * 20
    codes = [out.publish(b"a", b"", None, payload) for _ in range(4)]
    assert codes == [wire.FIRST, wire.HIGH | wire.SLOW, 0, wire.HIGH]
    out.sent(0)
    assert out.publish(b"a", b"", None, payload) == 0


def caught(out: Outbound, code: int, **about: str) -> BaseException:
    with pytest.raises(Exception) as info:
        out.fail(code, **about)
    return info.value


def test_each_refusal_has_its_exception_and_names_what_was_wrong() -> None:
    out = Outbound()
    limits = out.limits
    limits.max_payload, limits.max_pending = 5, 40

    code = out.publish(b"a b", b"", None, b"")
    error = caught(out, code, subject="a b")
    assert type(error) is errors.BadSubjectError
    assert error.subject == "a b"
    assert str(error) == "invalid subject 'a b'"

    error = caught(out, out.publish(b"a", b"r\n", None, b""), subject="a", reply="r\n")
    assert type(error) is errors.BadSubjectError
    assert str(error) == "invalid reply subject 'r\\n'"

    error = caught(out, out.sub(b"a", b"q q", 1), subject="a", queue="q q")
    assert str(error) == "invalid queue group 'q q'"

    error = caught(out, out.publish(b"a", b"", b"Bad: headers\r\n\r\n", b""))
    assert type(error) is errors.BadHeadersError

    error = caught(out, out.publish(b"a", b"", None, b"123456"), subject="a")
    assert type(error) is errors.MaxPayloadError
    assert (str(error), error.limit) == ("payload exceeds max_payload (5)", 5)

    long = "s" * 5000
    error = caught(out, out.publish(long.encode(), b"", None, b""), subject=long)
    assert type(error) is errors.BadSubjectError
    assert "max_control_line (4096)" in str(error)
    assert len(str(error)) < 150

    while (code := out.publish(b"a", b"", None, b"12345")) >= 0:
        pass
    error = caught(out, code)
    assert type(error) is errors.OutboundBufferLimitError
    assert (str(error), error.limit) == ("outbound buffer is full (40 bytes)", 40)

    limits.closed = 1
    assert type(caught(out, out.publish(b"a", b"", None, b""))) is errors.NotConnectedError
    assert type(caught(out, wire.lib.NATS_WBUF_NO_MEMORY)) is MemoryError
    assert type(caught(out, -999)) is errors.NatsError


def test_every_code_of_the_core_has_a_text_and_an_exception() -> None:
    out = Outbound()
    codes = [name for name in dir(wire.lib) if name.startswith("NATS_WBUF_")]
    refusals = [code for name in codes if (code := getattr(wire.lib, name)) < 0]
    assert len(refusals) >= 9
    for code in refusals:
        assert str(caught(out, code)) or code == wire.lib.NATS_WBUF_CLOSED
