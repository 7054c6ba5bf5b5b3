"""`Session`, driven by bytes: no server, no socket, no loop."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

from nats_ev import errors
from nats_ev.protocol.info import ServerInfo
from nats_ev.protocol.session import Session, State
from nats_ev.protocol.subscription import Subscription

GREETING = b'INFO {"server_id":"X","max_payload":1000,"headers":true}\r\n'
HANDSHAKE = GREETING + b"PONG\r\n"


class Host:
    """A connection and a client that do nothing but write down what they are told."""

    def __init__(self, max_message: int = 1024 * 1024) -> None:
        self.log: list[tuple[Any, ...]] = []
        self.subs: dict[int, Subscription] = {}
        self.connects = True
        self.on_pong: Callable[[], None] = lambda: None
        self.session = Session(self.subs, self, max_message)

    # What a session tells (`protocol.Events`).

    def info_received(self, info: ServerInfo, first: bool) -> None:
        self.log.append(("info", info, first))
        if first and self.connects:
            self.session.connect({}, iter(self.subs.values()))

    def info_refused(self, error: errors.ProtocolError) -> None:
        self.log.append(("refused", str(error)))

    def ready(self) -> None:
        self.log.append(("ready",))

    def ping_received(self, count: int) -> None:
        self.log.append(("ping", count))

    def pong_received(self) -> None:
        self.log.append(("pong",))
        self.on_pong()

    def server_error(self, text: str) -> None:
        self.log.append(("error", text))

    def protocol_failed(self, error: errors.ProtocolError) -> None:
        self.log.append(("failed", str(error), error.offset))

    def callback_failed(self, error: BaseException) -> None:
        if not isinstance(error, Exception):
            raise error
        self.log.append(("raised", str(error)))

    # What a subscription needs (`subscription.Owner`).

    def call(self, callback: Callable[..., object], *args: object) -> None:
        try:
            callback(*args)
        except BaseException as exc:
            self.callback_failed(exc)

    def exhausted(self, sub: Subscription) -> None:
        self.drop(sub)

    # What a client does.

    def subscribe(self, sid: int, callback: Callable[..., object] | None = None) -> Subscription:
        def note(subject: str, payload: bytes, reply: str | None, headers: bytes | None) -> None:
            self.log.append((sid, subject, payload, reply, headers))

        sub = Subscription(self, sid, b"s%d" % sid, b"", callback or note)
        self.subs[sid] = sub
        return sub

    def drop(self, sub: Subscription) -> None:
        sub.closed = True
        self.subs.pop(sub.sid, None)

    def unsubscribe(self, sub: Subscription, max_msgs: int = 0) -> None:
        """As `Nats.unsubscribe`."""
        sub.fast = False
        if max_msgs > sub.received:
            sub.max_msgs = max_msgs
        else:
            self.drop(sub)

    def dispatch(self) -> None:
        """All that there is."""
        while not self.session.deliver(1.0):
            pass

    def take(self, *chunks: bytes) -> list[tuple[Any, ...]]:
        """Receive and dispatch; returns what has been told since."""
        before = len(self.log)
        for chunk in chunks:
            self.session.receive(chunk)
            self.dispatch()
        return self.log[before:]


@pytest.fixture
def host() -> Host:
    """A host whose handshake is complete."""
    host = Host()
    host.take(HANDSHAKE)
    assert host.session.state is State.READY
    host.log.clear()
    return host


def message(sid: int, payload: bytes, subject: bytes = b"x") -> bytes:
    return b"MSG %b %d %d\r\n%b\r\n" % (subject, sid, len(payload), payload)


def numbered(sid: int, count: int, start: int = 0) -> bytes:
    return b"".join(message(sid, b"%d" % n) for n in range(start, start + count))


def kinds(log: list[tuple[Any, ...]]) -> list[Any]:
    return [entry[0] for entry in log]


# The greeting.


def test_the_handshake_is_info_then_connect_and_ping_then_its_pong() -> None:
    host = Host()
    assert host.session.state is State.GREETING
    [(kind, info, first)] = host.take(GREETING)
    assert (kind, first, info.max_payload, info.headers) == ("info", True, 1000, True)
    assert info.raw == GREETING[5:-2].decode()
    assert bytes(host.session.handshake.peek()) == b"CONNECT {}\r\nPING\r\n"
    assert host.session.state is State.HANDSHAKE
    assert host.take(b"PONG\r\n") == [("ready",)]
    assert host.session.state is State.READY


@pytest.mark.parametrize("piece", [1, 7, 1000])
def test_the_handshake_in_pieces(piece: int) -> None:
    host = Host()
    stream = HANDSHAKE + b"PONG\r\n+OK\r\nPING\r\n"
    host.take(*(stream[i : i + piece] for i in range(0, len(stream), piece)))
    assert kinds(host.log) == ["info", "ready", "pong", "ping"]


@pytest.mark.parametrize("line", [b"PONG", b"PING", b"+OK", b"MSG s1 1 0\r\n"])
def test_a_first_line_that_is_not_info_ends_the_session(line: bytes) -> None:
    host = Host()
    host.subscribe(1)
    stream = line + b"\r\n" + HANDSHAKE
    assert host.take(stream, HANDSHAKE) == [
        ("failed", "protocol error: the server's first line is not INFO", None)
    ]
    assert host.session.state is State.CLOSED


@pytest.mark.parametrize(
    "junk",
    [b"HTTP/1.1 400 Bad Request\r\n\r\n", b"\x15\x03\x01\x00\x02\x02\x28", b"220 smtp\r\n", b"\n"],
)
def test_another_protocol_than_nats_is_told_at_once(junk: bytes) -> None:
    host = Host()
    assert host.take(junk, junk) == [("failed", "protocol error: unknown command (at byte 0)", 0)]


def test_an_error_instead_of_info_is_told_and_info_may_follow() -> None:
    host = Host()
    host.take(b"-ERR 'maximum connections exceeded'\r\n" + GREETING)
    assert host.log[0] == ("error", "'maximum connections exceeded'")
    assert kinds(host.log) == ["error", "info"]


def test_an_endless_greeting_is_refused_at_1_mib() -> None:
    host = Host()
    chunk = b"x" * 65536
    host.take(b"INFO {", *[chunk] * 16)
    assert host.log == [("failed", "protocol error: control line too long (at byte 0)", 0)]
    assert host.take(chunk) == []


BAD_INFO = [
    (b"{", "not valid JSON"),
    (b"nonsense", "not valid JSON"),
    (b'{"a":\xff\0}', "not valid JSON"),
    (b"[" * 100000, "not valid JSON"),
    (b'{"a":' * 100000 + b"1" + b"}" * 100000, "not valid JSON"),
    (b"[]", "not a JSON object"),
    (b"null", "not a JSON object"),
    (b'"text"', "not a JSON object"),
    (b'{"max_payload":0}', "a bad max_payload"),
    (b'{"max_payload":-1}', "a bad max_payload"),
    (b'{"max_payload":2147483649}', "a bad max_payload"),
    (b'{"max_payload":1e3}', "a bad max_payload"),
    (b'{"max_payload":"1000"}', "a bad max_payload"),
    (b'{"max_payload":true}', "a bad max_payload"),
    (b'{"max_payload":NaN}', "a bad max_payload"),
    (b'{"headers":1}', "a bad headers"),
    (b'{"tls_required":"yes"}', "a bad tls_required"),
    (b'{"nonce":5}', "a bad nonce"),
    (b'{"connect_urls":"a"}', "a bad connect_urls"),
    (b'{"connect_urls":{}}', "a bad connect_urls"),
    (b'{"server_id":[]}', "a bad server_id"),
    (b'{"proto":1.5}', "a bad proto"),
    (b'{"ldm":"true"}', "a bad ldm"),
]
INFO_IDS = [text[:20].decode("latin-1") for text, _ in BAD_INFO]


@pytest.mark.parametrize(("text", "what"), BAD_INFO, ids=INFO_IDS)
def test_a_first_info_that_makes_no_sense_ends_the_session(text: bytes, what: str) -> None:
    host = Host()
    [(kind, error, _)] = host.take(b"INFO " + text + b"\r\nPONG\r\n", b"PING\r\n")
    assert kind == "failed"
    assert error.startswith("protocol error: INFO ")
    assert error.endswith(what)
    assert host.session.state is State.CLOSED


@pytest.mark.parametrize(("text", "what"), BAD_INFO, ids=INFO_IDS)
def test_a_later_info_that_makes_no_sense_is_told_and_ignored(
    host: Host, text: bytes, what: str
) -> None:
    host.subscribe(1)
    log = host.take(b"INFO " + text + b"\r\n" + message(1, b"still here"))
    assert kinds(log) == ["refused", 1]
    assert log[0][1].endswith(what)


def test_info_with_unknown_null_and_repeated_keys_is_taken(host: Host) -> None:
    text = '{"max_payload":1,"max_payload":7,"new":{"a":[1]},"nonce":null,"connect_urls":null}'
    [(_, info, first)] = host.take(f"INFO {text}\r\n".encode())
    assert (info.max_payload, info.nonce, info.connect_urls, first) == (7, None, None, False)


def test_urls_that_are_no_text_are_left_out(host: Host) -> None:
    urls = ["", "::::", "h:99999999999", 5, None, "\0", " a b ", {"x": 1}, ["y"], True]
    [(_, info, _)] = host.take(b"INFO " + json.dumps({"connect_urls": urls}).encode() + b"\r\n")
    assert info.connect_urls == ("", "::::", "h:99999999999", "\0", " a b ")


def test_two_infos_back_to_back_make_one_handshake() -> None:
    host = Host()
    host.take(GREETING + GREETING + b"PONG\r\n" + GREETING)
    assert [entry[2] for entry in host.log if entry[0] == "info"] == [True, False, False]
    assert kinds(host.log) == ["info", "info", "ready", "info"]
    assert bytes(host.session.handshake.peek()) == b"CONNECT {}\r\nPING\r\n"


def test_pongs_before_the_clients_ping_are_nobodys() -> None:
    host = Host()
    host.connects = False
    host.take(GREETING + b"PONG\r\n" * 10000)
    assert kinds(host.log) == ["info"]
    assert host.session.state is State.INFORMED
    host.session.connect({}, iter(()))
    host.take(b"PONG\r\n" * 3)
    assert kinds(host.log) == ["info", "ready", "pong", "pong"]


def test_the_handshake_restores_live_subscriptions_in_portions() -> None:
    host = Host()
    for sid in range(1, 40001):
        host.subscribe(sid)
    limited, spent = host.subs[2], host.subs[3]
    limited.max_msgs, limited.received = 10, 4
    spent.closed = True
    host.take(GREETING)
    framed = b""
    portions = 0
    while len(out := host.session.handshake):
        portions += 1
        assert len(out) < 300_000
        framed += bytes(out.peek())
        out.sent(len(out))
        host.session.fill()
    assert portions >= 2
    lines = framed.split(b"\r\n")
    assert lines[:4] == [b"CONNECT {}", b"SUB s1 1", b"SUB s2 2", b"UNSUB 2 6"]
    assert lines[4] == b"SUB s4 4"
    assert lines[-3:] == [b"SUB s40000 40000", b"PING", b""]
    assert len(lines) == 40000 + 3
    assert limited.received_before == 4


# Messages.


def test_messages_arrive_with_all_their_parts(host: Host) -> None:
    host.subscribe(1)
    log = host.take(
        message(1, b"hello", b"foo.bar"),
        b"MSG a 1 reply.1 2\r\nhi\r\n",
        b"HMSG a 1 12 14\r\nNATS/1.0\r\n\r\nhi\r\n",
        b"HMSG a 1 r 12 12\r\nNATS/1.0\r\n\r\n\r\n",
        b"HMSG a 1 0 1\r\nx\r\n",
    )
    assert log == [
        (1, "foo.bar", b"hello", None, None),
        (1, "a", b"hi", "reply.1", None),
        (1, "a", b"hi", None, b"NATS/1.0\r\n\r\n"),
        (1, "a", b"", "r", b"NATS/1.0\r\n\r\n"),
        (1, "a", b"x", None, None),
    ]
    assert all(type(part) is bytes for entry in log for part in (entry[2], entry[4] or b""))
    assert host.session.counts == (5, 5 + 2 + 14 + 12 + 1)


STREAM = (
    message(1, b"one", b"foo.bar")
    + message(1, b"two", b"foo.bar") * 2
    + b"MSG foo.bar 2 _INBOX.a.b 3\r\nxyz\r\n"
    + b"HMSG foo.bar 1 _INBOX.a.b 12 15\r\nNATS/1.0\r\n\r\nxyz\r\n"
    + message(1, b"", b"foo")
    + b"MSG \xff\xfe 1 \x80 1\r\n.\r\n"
    + b"PING\r\n-ERR 'x'\r\n"
    + message(9, b"nobody's")
    + message(1, b"MSG foo 1 0\r\n\r\n", b"foo")
)


def test_every_pair_of_cuts_delivers_the_same_messages() -> None:
    whole = Host()
    whole.subscribe(1)
    whole.subscribe(2)
    expected = whole.take(HANDSHAKE + STREAM)
    assert len(expected) == 12
    for a in range(0, len(STREAM) + 1, 3):
        for b in range(a, len(STREAM) + 1, 5):
            host = Host()
            host.subscribe(1)
            host.subscribe(2)
            host.take(HANDSHAKE + STREAM[:a], STREAM[a:b], STREAM[b:])
            assert kinds(host.log) == kinds(expected)
            assert host.log[1:] == expected[1:]


def test_subjects_that_are_not_utf8_can_be_answered(host: Host) -> None:
    host.subscribe(1)
    [(_, subject, _, reply, _)] = host.take(b"MSG a\xff\xc3\xa9 1 \xfe\0 0\r\n\r\n")
    assert subject.encode("utf-8", "surrogateescape") == b"a\xff\xc3\xa9"
    assert reply.encode("utf-8", "surrogateescape") == b"\xfe\0"


def test_messages_of_unknown_sids_are_skipped_exactly(host: Host) -> None:
    host.subscribe(1)
    for sid in (2, 0, 2**31 - 1, 2**31, 2**32 + 1, 2**64 - 1):
        assert host.take(numbered(sid, 3) + message(1, b"mine")) == [(1, "x", b"mine", None, None)]


def test_a_flood_of_pings_is_told_in_few_calls(host: Host) -> None:
    log = host.take(b"PING\r\n" * 200_000)
    assert sum(count for _, count in log) == 200_000
    assert len(log) <= 2


def test_a_large_message_in_small_reads(host: Host) -> None:
    host.subscribe(1)
    payload = bytes(range(256)) * 1000
    stream = message(1, payload) + message(1, b"next")
    log = host.take(*(stream[i : i + 999] for i in range(0, len(stream), 999)))
    assert [entry[2] for entry in log] == [payload, b"next"]


def test_what_precedes_a_broken_frame_is_delivered_and_nothing_behind_it(host: Host) -> None:
    host.subscribe(1)
    start = len(HANDSHAKE)
    good = numbered(1, 3) + message(1, b"y", b"y")
    log = host.take(good + b"MSG x 1 +1\r\nz\r\n" + good, good)
    assert kinds(log) == [1, 1, 1, 1, "failed"]
    offset = start + len(good)
    assert log[-1][1:] == (f"protocol error: invalid message size (at byte {offset})", offset)


def test_the_bound_of_messages_can_be_changed(host: Host) -> None:
    host.subscribe(1)
    host.session.set_max_message(5)
    assert kinds(host.take(message(1, b"12345") + message(1, b"123456"))) == [1, "failed"]


def test_an_exception_costs_no_other_message(host: Host) -> None:
    seen = []

    def callback(subject: str, payload: bytes, *rest: Any) -> None:
        seen.append(payload)
        raise ValueError(payload.decode())

    host.subscribe(1, callback)
    log = host.take(numbered(1, 3) + message(1, b"3", b"y"))
    assert seen == [b"0", b"1", b"2", b"3"]
    assert log == [("raised", str(n)) for n in range(4)]


# Callbacks that change what is being delivered. In a run all messages have one row.

ALIKE = numbered(1, 6)
REPLIES = b"".join(b"MSG x 1 reply.%d 1\r\n%d\r\n" % (n, n) for n in range(6))
UNALIKE = b"".join(message(1, b"%d" % n, b"xy"[n % 2 :][:1]) for n in range(6))

STREAMS = pytest.mark.parametrize(
    "stream", [ALIKE, REPLIES, UNALIKE], ids=["run", "replies", "rows"]
)


def act_at(host: Host, n: int, action: Callable[[], object]) -> tuple[Subscription, list[int]]:
    """A subscription, the first, that acts in its nth callback; and what it gets."""
    got: list[int] = []

    def callback(subject: str, payload: bytes, *rest: Any) -> None:
        got.append(int(payload))
        if len(got) == n + 1:
            action()

    return host.subscribe(1, callback), got


@STREAMS
@pytest.mark.parametrize("n", range(6))
def test_unsubscribing_ends_delivery_at_once(host: Host, stream: bytes, n: int) -> None:
    sub, got = act_at(host, n, lambda: host.unsubscribe(sub))
    host.subscribe(2)
    assert kinds(host.take(stream + message(2, b"other") + stream)) == [2]
    assert got == list(range(n + 1))
    assert sub.received == n + 1


@STREAMS
@pytest.mark.parametrize("n", range(6))
@pytest.mark.parametrize("most", range(1, 8))
def test_a_limit_set_in_a_callback_is_exact(host: Host, stream: bytes, n: int, most: int) -> None:
    sub, got = act_at(host, n, lambda: host.unsubscribe(sub, most))
    host.take(stream)
    assert len(got) == sub.received == min(6, max(n + 1, most))
    host.take(stream)
    assert len(got) == sub.received == max(n + 1, most)
    assert sub.closed


@STREAMS
@pytest.mark.parametrize("n", range(6))
def test_closing_ends_everything_and_counts_what_was_delivered(
    host: Host, stream: bytes, n: int
) -> None:
    sub, got = act_at(host, n, host.session.close)
    host.subscribe(2)
    assert host.take(stream + message(2, b"") + b"PING\r\nPONG\r\n", message(2, b""), b"junk") == []
    assert got == list(range(n + 1))
    assert sub.received == n + 1
    assert host.session.state is State.CLOSED


def test_closing_between_two_pongs_ends_everything(host: Host) -> None:
    host.on_pong = host.session.close
    assert host.take(b"PONG\r\n" * 5, b"PONG\r\n") == [("pong",)]
    assert host.session.state is State.CLOSED


@STREAMS
@pytest.mark.parametrize("n", range(6))
@pytest.mark.parametrize("more", [b"", numbered(1, 3, start=6)], ids=["alone", "more"])
def test_a_nested_dispatch_goes_on_in_order(host: Host, stream: bytes, n: int, more: bytes) -> None:
    def nest() -> None:
        host.session.receive(more + message(2, b"last"))
        host.dispatch()
        host.log.append(("nested", len(got)))

    sub, got = act_at(host, n, nest)
    host.subscribe(2)
    total = 6 + more.count(b"MSG")
    assert kinds(host.take(stream)) == [2, "nested"]
    assert host.log[-1] == ("nested", total)
    assert got == list(range(total))
    assert sub.received == total


def test_a_nested_dispatch_in_every_callback(host: Host) -> None:
    got = []

    def callback(subject: str, payload: bytes, *rest: Any) -> None:
        got.append(int(payload))
        host.dispatch()

    sub = host.subscribe(1, callback)
    host.take(ALIKE + numbered(1, 3, 6) + b"PING\r\n" + UNALIKE)
    assert got == [*range(9), *range(6)]
    assert sub.received == 15


@pytest.mark.parametrize(
    "stream",
    [ALIKE, REPLIES, UNALIKE, ALIKE + REPLIES + UNALIKE],
    ids=["run", "replies", "rows", "all"],
)
@pytest.mark.parametrize("split", [1, 9, 1000])
@pytest.mark.parametrize("handed_over", ["plain", "limited"])
def test_an_interrupt_at_every_message_loses_nothing(
    host: Host, stream: bytes, split: int, handed_over: str
) -> None:
    got = []

    def callback(subject: str, payload: bytes, *rest: Any) -> None:
        got.append(int(payload))
        raise KeyboardInterrupt

    sub = host.subscribe(1, callback)
    if handed_over == "limited":
        host.unsubscribe(sub, 1000)
    for at in range(0, len(stream), split):
        host.session.receive(stream[at : at + split])
    interrupts = 0
    while True:
        try:
            host.dispatch()
            break
        except KeyboardInterrupt:
            interrupts += 1
            assert len(got) == interrupts
    expected = [*range(6)] * (stream.count(b"MSG") // 6)
    assert got == expected
    assert sub.received == interrupts == len(expected)


@STREAMS
@pytest.mark.parametrize("n", range(6))
@pytest.mark.parametrize("inner", range(6))
def test_an_interrupt_in_a_nested_dispatch_leaves_the_rest_to_the_enclosing_one(
    host: Host, stream: bytes, n: int, inner: int
) -> None:
    got: list[int] = []

    def callback(subject: str, payload: bytes, *rest: Any) -> None:
        got.append(int(payload))
        if len(got) == n + 1:
            with (
                pytest.raises(KeyboardInterrupt) if inner > n else pytest.raises(StopAsyncIteration)
            ):
                host.dispatch()
                raise StopAsyncIteration
        elif len(got) == inner + 1:
            raise KeyboardInterrupt

    host.subscribe(1, callback)
    host.session.receive(stream + b"PING\r\n")
    for _ in range(2):
        try:
            host.dispatch()
            break
        except KeyboardInterrupt:
            assert inner < n
    assert got == list(range(6))
    assert host.log == [("ping", 1)]


def test_what_an_interrupt_left_and_close_dropped_was_not_received(host: Host) -> None:
    def interrupt() -> None:
        # Not by exec: a KeyboardInterrupt that leaves it makes the interpreter end as by a signal.
        raise KeyboardInterrupt

    sub, got = act_at(host, 2, interrupt)
    host.session.receive(ALIKE)
    with pytest.raises(KeyboardInterrupt):
        host.dispatch()
    host.session.close()
    host.dispatch()
    assert got == [0, 1, 2]
    assert sub.received == 3


@pytest.mark.parametrize("count", [1, 2, 5])
def test_an_interrupt_in_a_pong_loses_no_other(host: Host, count: int) -> None:
    def interrupt() -> None:
        raise KeyboardInterrupt

    host.on_pong = interrupt
    host.session.receive(b"PONG\r\n" * count + b"PING\r\n")
    for _ in range(count):
        with pytest.raises(KeyboardInterrupt):
            host.dispatch()
    host.dispatch()
    assert host.log == [("pong",)] * count + [("ping", 1)]


def test_a_dispatch_nested_in_a_pong_tells_the_others_first(host: Host) -> None:
    host.subscribe(1)

    def nest() -> None:
        host.dispatch()
        host.log.append(("back",))

    host.on_pong = nest
    log = host.take(b"PONG\r\nPONG\r\nPONG\r\n" + message(1, b""))
    assert kinds(log) == ["pong", "pong", "pong", 1, "back", "back", "back"]


class Answers:
    """An inbox that keeps what it is told."""

    def __init__(self) -> None:
        self.got: list[tuple[int, bytes, bytes | None]] = []

    def answer(self, number: int, payload: bytes, headers: bytes | None) -> None:
        self.got.append((number, payload, headers))


def test_an_inbox_gets_the_number_behind_its_prefix(host: Host) -> None:
    sub = host.subscribe(1)
    sub.fast = False
    sub.prefix_len = len("_INBOX.x.")
    sub.inbox = inbox = Answers()
    for _ in range(2):  # by the second time the parser knows the inbox
        inbox.got.clear()
        host.take(
            b"MSG _INBOX.x.17 1 1\r\na\r\nMSG _INBOX.x.17 1 1\r\nb\r\nMSG _INBOX.x.18 1 0\r\n\r\n"
            b"HMSG _INBOX.x.19 1 12 13\r\nNATS/1.0\r\n\r\nc\r\n"
            b"MSG _INBOX.x.1234567890123 1 1\r\nd\r\nMSG _INBOX.x.1 1 reply 1\r\ne\r\n"
            b"MSG _INBOX.x.1 1 reply 1\r\nf\r\nMSG _INBOX.x.1 1 r 1\r\ng\r\n"
            b"MSG _INBOX.x.1_0 1 1\r\nh\r\nMSG _INBOX.x.-1 1 1\r\ni\r\n"
        )
        assert inbox.got == [
            (17, b"a", None),
            (17, b"b", None),
            (18, b"", None),
            (19, b"c", b"NATS/1.0\r\n\r\n"),
            (1234567890123, b"d", None),
            (1, b"e", None),
            (1, b"f", None),
            (1, b"g", None),
            (0, b"h", None),
            (0, b"i", None),
        ]
