"""The compiled parser against `refparser`: any stream, cut anywhere, means the same to both.

`NATS_EV_EXAMPLES=100000` looks at more streams, and at others than each time the same.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from itertools import cycle, islice

import pytest
from hypothesis import HealthCheck, Phase, example, given, settings
from hypothesis import strategies as st

from lab import inside, refparser, rows

EXAMPLES = int(os.environ.get("NATS_EV_EXAMPLES", "2500"))
SETTINGS = settings(
    max_examples=EXAMPLES,
    derandomize="NATS_EV_EXAMPLES" not in os.environ,
    database=None,
    deadline=None,
    phases=[p for p in Phase if p is not Phase.shrink or os.environ.get("NATS_EV_SHRINK") != "0"],
    print_blob=True,
    suppress_health_check=[HealthCheck.too_slow],
)

# Few names and small numbers, so that repetitions and boundaries come about by themselves.
NAMES = st.sampled_from(
    [b"a", b"b", b"foo", b"foo.bar", b"f\0o", b"\xff\xc3", b"1", b"_INBOX.x.1", b"_INBOX.x.23"]
)
BLANKS = st.sampled_from([b" ", b" ", b" ", b"\t", b"  ", b" \t"])
SIDS = st.sampled_from(
    b"1 1 1 2 2 11 0 007 2147483647 2147483648 4294967297 18446744073709551615".split()
    + b"18446744073709551616 x -1".split()
)
INBOX, INBOX_SID = b"_INBOX.x.", 2
NUMBERED = re.compile(rb"[1-9][0-9]{0,8}")
NUMBERS = [b"1", b"23", b"999999999", b"1000000000", b"07", b"0", b"x"]
BODY = [b"", b"x", b"hello", b"\r\n", b"x" * 100, b"x" * 101]
BODIES = st.one_of(
    st.binary(max_size=12),
    st.sampled_from([b"", b"\r\n", b"MSG a 1 0\r\n\r\n", b"PING\r\n", b"x" * 90, b"x" * 100]),
)
HEADERS = st.sampled_from([b"", b"NATS/1.0\r\n\r\n", b"NATS/1.0 503\r\n\r\n", b"h"])
BLOCKS = st.sampled_from([b"PING\r\n", b"PONG\r\n", b"+OK\r\n", b"-ERR 'x'\r\n", b"INFO {}\r\n"])
JUNK = st.sampled_from(
    [
        *(b"\r\n", b"\n", b"ping \r\n", b"-ERR\r\n", b"-err  a b \r\n", b"INFO \r\n", b"PINGS\r\n"),
        *(b"PUB a 0\r\n", b"MSG\r\n", b"MSG a 1\r\n", b"MSG a 1 r 0 0\r\n", b"MSG a 1 0\n"),
        *(b"MSG a 1 -1\r\n", b"MSG a 1 4294967297\r\nx\r\n", b"HMSG a 1 5 4\r\nabcd\r\n"),
        b"MSG " + b"a" * 80 + b" 1 0\r\n\r\n",
    ]
)


@st.composite
def messages(draw: st.DrawFn) -> bytes:
    """MSG or HMSG, nearly always right."""
    blank = draw(BLANKS)
    reply, headers, body = draw(st.none() | NAMES), draw(HEADERS), draw(BODIES)
    args = [draw(NAMES), draw(SIDS)]
    if reply is not None:
        args.append(reply)
    with_headers = bool(headers) or draw(st.integers(0, 4)) == 0
    if with_headers:
        args.append(b"%d" % len(headers))
    args.append(b"%0*d" % (draw(st.sampled_from([1, 1, 1, 3, 20])), len(headers) + len(body)))
    line = blank.join([b"HMSG" if with_headers else b"MSG", *args])
    return line + b"\r\n" + headers + body + b"\r\n"


@st.composite
def repeated(draw: st.DrawFn) -> bytes:
    """The same subscription and subject some times over."""
    head = b"MSG " + draw(NAMES) + b" " + draw(st.sampled_from([b"1", b"2"])) + b" "
    replies = st.just(b"") if draw(st.booleans()) else st.sampled_from([b"r ", b"1 ", b"r.\r2 "])
    some = draw(st.lists(st.tuples(replies, st.sampled_from(BODY)), min_size=2, max_size=5))
    return b"".join(head + b"%b%d\r\n%b\r\n" % (reply, len(body), body) for reply, body in some)


@st.composite
def answers(draw: st.DrawFn) -> bytes:
    """To the inbox."""
    numbers = draw(st.lists(st.sampled_from(NUMBERS), min_size=1, max_size=5))
    return b"".join(b"MSG %b%b %d 1\r\nx\r\n" % (INBOX, number, INBOX_SID) for number in numbers)


FRAMES = st.one_of(messages(), messages(), repeated(), answers(), BLOCKS, JUNK)
# (where, bytes there that go, bytes that come)
EDITS = st.lists(
    st.tuples(
        st.integers(0, 400),
        st.integers(0, 2),
        st.sampled_from([b"", b"\r", b"\n", b" ", b"0", b"9", b"M", b"\r\n", b"1 ", b"\0"]),
    ),
    max_size=2,
)
PIECES = st.lists(st.integers(1, 40), min_size=1, max_size=6)


def edited(stream: bytes, edits: list[tuple[int, int, bytes]]) -> bytes:
    for where, gone, come in edits:
        at = where % (len(stream) + 1)
        stream = stream[:at] + come + stream[at + gone :]
    return stream


def numbered(event: refparser.Event) -> refparser.Event:
    """An answer to the inbox may come with its number for a subject, and here always does."""
    subject = event[2] if event[:2] == ("MSG", INBOX_SID) and not event[3] else None
    if not isinstance(subject, bytes):
        return event
    number = subject[len(INBOX) :]
    return (*event[:2], int(number), *event[3:]) if NUMBERED.fullmatch(number) else event


def events_of(parser: rows.Parser, chunk: bytes) -> Iterator[refparser.Event]:
    """The frames of one chunk, as `refparser` names them."""
    pos = 0
    names = {rows.PING: "PING", rows.PONG: "PONG", rows.OK: "OK"}
    while pos < len(chunk):
        ints = iter(parser.feed(chunk, pos))
        assert pos < parser.pos <= len(chunk)
        pos = parser.pos
        data = chunk if parser.frame is None else parser.frame
        for kind, sid, s0, s1, r0, r1, h0, p0, p1 in zip(*[ints] * rows.ROW_WIDTH, strict=False):
            if kind in rows.ITEM_WIDTH:
                items = zip(*[ints] * rows.ITEM_WIDTH[kind], strict=False)
                for *reply, begin, end in islice(items, p1):
                    if kind == rows.ANSWER_RUN:
                        yield "MSG", sid, reply[0], b"", b"", data[begin:end]
                    else:
                        there = slice(*(reply or [0, 0]))
                        yield "MSG", sid, data[s0:s1], data[there], b"", data[begin:end]
            elif kind == rows.ANSWER:
                yield "MSG", sid, r0, b"", data[h0:p0], data[p0:p1]
            elif kind == rows.MSG:
                yield "MSG", sid, data[s0:s1], data[r0:r1], data[h0:p0], data[p0:p1]
            elif kind in names:
                yield from [(names[kind],)] * p1
            else:
                yield "INFO" if kind == rows.INFO else "ERR", data[s0:s1]


def check(stream: bytes, pieces: list[int], max_message: int, max_line: int) -> None:
    expected = refparser.parse(stream, max_message, max_line)
    expected_events = [numbered(event) for event in expected.events]
    for sizes in ([len(stream) or 1], [1], pieces):
        parser = rows.Parser(max_message)
        inside.limit_control_line(parser, max_line)
        parser.set_inbox(INBOX_SID, len(INBOX))
        events: list[refparser.Event] = []
        at = 0
        for size in cycle(sizes):
            if at >= len(stream):
                break
            events.extend(map(numbered, events_of(parser, stream[at : at + size])))
            at += size
        assert events == expected_events
        error = parser.error() if parser.failed else None
        if expected.offset is None:
            assert error is None
        else:
            assert error is not None
            assert error.offset == expected.offset
            codes = {getattr(rows.lib, f"NATS_PARSER_{fault}") for fault in expected.faults}
            assert inside.parser_code(parser) in codes
        sizes_in = [len(e[4]) + len(e[5]) for e in events if e[0] == "MSG"]  # type: ignore[arg-type]
        assert (parser.msgs, parser.bytes) == (len(sizes_in), sum(sizes_in))


@pytest.mark.slow
@SETTINGS
@given(st.lists(FRAMES, max_size=8), EDITS, PIECES, st.sampled_from([100, 2**26]), st.booleans())
@example([b"MSG a 1 18446744073709551621\r\nhello\r\n"], [], [7], 2**26, False)
@example([b"MSG a 18446744073709551617 0\r\n\r\n"], [], [7], 2**26, False)
@example([b"MSG a 1 00000000000000000005\r\nhello\r\n"], [], [7], 2**26, False)
def test_the_parser_agrees_with_the_reference(
    frames: list[bytes],
    edits: list[tuple[int, int, bytes]],
    pieces: list[int],
    max_message: int,
    short_lines: bool,
) -> None:
    check(edited(b"".join(frames), edits), pieces, max_message, 60 if short_lines else 1024 * 1024)


def test_the_reference_reads_the_commands_of_the_protocol() -> None:
    stream = (
        b'INFO {"a":1} \r\nMSG a 1 2\r\nhi\r\nmsg\ta 1 r  0\r\n\r\nHMSG a 4294967297 r 12 14\r\n'
        b"NATS/1.0\r\n\r\nhi\r\nPING\r\n+OK\r\n-ERR 'x'\r\nMSG a 1 5\r\nhel"
    )
    events, offset, faults = refparser.parse(stream, 100)
    assert events == [
        ("INFO", b'{"a":1}'),
        ("MSG", 1, b"a", b"", b"", b"hi"),
        ("MSG", 1, b"a", b"r", b"", b""),
        ("MSG", 0, b"a", b"r", b"NATS/1.0\r\n\r\n", b"hi"),
        ("PING",),
        ("OK",),
        ("ERR", b"'x'"),
    ]
    assert offset is None
    assert not faults


def test_the_reference_names_all_that_is_wrong() -> None:
    wrong = {
        b"": set(),
        b"PUB a 0\r\n": {"UNKNOWN_VERB"},
        b"\x16": {"UNKNOWN_VERB"},
        b"PING\n": {"BAD_LINE_END"},
        b"MSG a 1\r\n": {"BAD_ARGS"},
        b"HMSG a x 7 5\r\n": {"BAD_SID", "BAD_HEADER_SIZE"},
        b"HMSG a 1 7x 101\r\n": {"BAD_SIZE", "MESSAGE_TOO_LONG"},
        b"MSG a 1 2\r\nhello\r\n": {"BAD_PAYLOAD_END"},
        b"MSG " + b"a" * 1_100_000: {"LINE_TOO_LONG"},
    }
    for stream, faults in wrong.items():
        outcome = refparser.parse(b"PING\r\n" + stream, 100)
        assert outcome.faults == faults
        assert outcome.offset == (6 if faults else None)
        assert outcome.events == [("PING",)]
