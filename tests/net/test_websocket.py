"""The frames of WebSocket, its HTTP answer, and the stream of both, against another implementation."""

from __future__ import annotations

import contextlib
import random
import socket
import zlib

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lab.ws_frames import (
    BINARY,
    CLOSE,
    DEFLATE,
    PING,
    PONG,
    all_frames,
    answer,
    deflated,
    frame,
    inflated,
    xor,
)
from nats_ev import ConnectError, ProtocolError, WebSocketClosedError, WebSocketError
from nats_ev.compiled import ffi, lib
from nats_ev.net.tls_errors import read_error
from nats_ev.net.transport import Stream
from nats_ev.net.websocket.errors import Fault
from nats_ev.net.websocket.frames import MOST_FRAME, Decoder, Encoder
from nats_ev.net.websocket.stream import WsStream
from nats_ev.net.websocket.upgrade import MOST_HEADER, Upgrade

MOST = 1_000_000


def decode(data: bytes, sizes: list[int], deflate: bool = True) -> tuple[bytes, Decoder]:
    """The payload of frames that come in pieces of these sizes, again and again."""
    decoder, payload, at, i = Decoder(deflate, MOST), [], 0, 0
    while at < len(data):
        size = sizes[i % len(sizes)]
        decoder.feed(data[at : at + size], payload)
        at, i = at + size, i + 1
    return b"".join(payload), decoder


def fault_of(data: bytes, deflate: bool = True, most: int = MOST) -> Fault:
    """The fault that these bytes are, in whatever pieces they come."""
    found = []
    for size in (1, 2, 3, len(data) or 1):
        decoder = Decoder(deflate, most)
        with pytest.raises(Fault) as caught:
            for at in range(0, len(data), size):
                decoder.feed(data[at : at + size], [])
        found.append(caught.value)
    assert len({(str(each), each.code) for each in found}) == 1
    return found[0]


pieces = st.lists(st.integers(1, 300), min_size=1, max_size=10)
controls = st.lists(st.tuples(st.sampled_from([PING, PONG]), st.binary(max_size=125)), max_size=2)
messages = st.lists(
    st.tuples(
        st.lists(st.tuples(st.binary(max_size=400), controls), min_size=1, max_size=4),
        st.booleans(),
    ),
    max_size=6,
)


@given(messages, pieces)
def test_any_fragmentation_in_any_pieces_is_the_payload_and_pings_are_answered(
    messages, sizes
) -> None:
    wire, payload, pings = b"", b"", []
    for parts, compressed in messages:
        whole = b"".join(part for part, _ in parts)
        payload += whole
        # A deflated message is cut anywhere, also in front of its first byte.
        packed = deflated(whole) if compressed else whole
        ends = sorted(len(part) % (len(packed) + 1) for part, _ in parts[:-1])
        bounds = [0, *ends, len(packed)]
        for i, (_, between) in enumerate(parts):
            first, last = i == 0, i == len(parts) - 1
            body = packed[bounds[i] : bounds[i + 1]]
            wire += frame(BINARY if first else 0, body, last, 4 * (first and compressed))
            for opcode, content in between:
                wire += frame(opcode, content)
                pings += [(PONG, content)] if opcode == PING else []
    found, decoder = decode(wire, sizes)
    assert found == payload
    assert list(decoder.replies) == pings
    assert decoder.closed is None


@pytest.mark.parametrize("size", [0, 1, 125, 126, 127, 65535, 65536, 65537, 300_000])
@pytest.mark.parametrize("deflate", [False, True])
@pytest.mark.parametrize("masked", [False, True])
def test_what_the_encoder_writes_another_implementation_reads(
    size: int, deflate: bool, masked: bool
) -> None:
    data = random.Random(size).randbytes(size)
    encoder, wire = Encoder(deflate, masked), bytearray(b"before")
    frames = encoder.message(wire, memoryview(data))
    del wire[:6]
    read = all_frames(bytes(wire))
    assert b"".join(inflated(p) if bits & 4 else p for bits, _, _, p in read) == data
    assert {opcode for _, opcode, _, _ in read} <= {BINARY}
    assert all(bool(mask) == masked and bits & 8 for bits, _, mask, _ in read)
    assert sum(whole for whole, _, _ in frames) == len(wire)
    assert sum(plain for _, plain, _ in frames) == size
    if not deflate:
        assert len(read) == 1
        assert frames[0][2] == len(wire) - size


def test_no_context_is_taken_over_and_no_message_inflates_to_more_than_a_piece() -> None:
    encoder, wire = Encoder(True, True), bytearray()
    encoder.piece = 1000
    encoder.message(wire, memoryview(b"the same again " * 400))
    encoder.message(wire, memoryview(b"the same again " * 400))
    read = all_frames(bytes(wire))
    plain = [
        inflated(p) if bits & 4 else p for bits, _, _, p in read
    ]  # each by an inflater of its own
    assert b"".join(plain) == b"the same again " * 800
    assert max(map(len, plain)) == 1000
    assert len(wire) < 2000


def test_each_frame_has_a_new_key() -> None:
    encoder, wire = Encoder(False, True), bytearray()
    for _ in range(2000):
        encoder.message(wire, memoryview(b"x"))
    keys = [mask for _, _, mask, _ in all_frames(bytes(wire))]
    assert len(set(keys)) > 1990


@given(st.binary(max_size=100), st.binary(min_size=4, max_size=4), st.integers(0, 9))
def test_the_mask_in_c_is_that_of_the_standard(data: bytes, key: bytes, offset: int) -> None:
    buffer = bytearray(b"#" * offset + data + b"#")
    with ffi.from_buffer("char[]", buffer) as start:
        lib.nats_ws_mask(start + offset, len(data), key)
    assert bytes(buffer) == b"#" * offset + xor(data, key) + b"#"


@pytest.mark.parametrize(
    ("data", "text", "code"),
    [
        (frame(BINARY, b"x", mask=b"1234"), "masks", 1002),
        (frame(BINARY, b"x", rsv=1), "reserved bit", 1002),
        (frame(BINARY, b"x", rsv=2), "reserved bit", 1002),
        (frame(PING, b"x", rsv=4), "reserved bit", 1002),
        (frame(BINARY, b"x", fin=False) + frame(0, b"x", rsv=4), "reserved bit", 1002),
        (frame(1, b"text"), "text", 1003),
        *((frame(opcode), "opcode", 1002) for opcode in (3, 4, 5, 6, 7, 11, 12, 13, 14, 15)),
        (frame(PING, b"x" * 126), "125", 1002),
        (frame(PING, fin=False), "fragmented", 1002),
        (frame(0, b"x"), "continuation", 1002),
        (frame(BINARY, b"x", fin=False) + frame(BINARY, b"x"), "new message", 1002),
        (b"\x82\x7e\x00\x7d", "shortest", 1002),
        (b"\x82\x7f" + (65535).to_bytes(8, "big"), "shortest", 1002),
        (b"\x82\x7f" + (MOST_FRAME + 1).to_bytes(8, "big"), "too big", 1009),
        (b"\x82\x7f" + b"\xff" * 8, "too big", 1009),
        (frame(BINARY, b"\xff\xff\xff", rsv=4), "inflated", 1007),
        (frame(CLOSE, b"x"), "valid code", 1002),
        *(
            (frame(CLOSE, n.to_bytes(2, "big")), "valid code", 1002)
            for n in (0, 999, 1004, 1005, 1006, 1015, 2999, 5000)
        ),
        (frame(CLOSE, b"\x03\xe8\xff"), "UTF-8", 1007),
    ],
)
def test_what_breaks_the_rules_is_a_fault(data: bytes, text: str, code: int) -> None:
    found = fault_of(data)
    assert text in str(found)
    assert found.code == code
    assert type(read_error(found, True)) is type(read_error(found, False)) is ProtocolError


def test_a_deflated_message_without_the_extension_is_a_fault() -> None:
    assert "reserved bit" in str(fault_of(frame(BINARY, deflated(b"x"), rsv=4), deflate=False))


def test_a_bomb_is_bounded_and_ends_with_1009() -> None:
    bomb = deflated(bytes(50_000_000))
    assert len(bomb) < 60_000
    found = fault_of(frame(BINARY, bomb, rsv=4))
    assert found.code == 1009
    assert "max_message_size, 1000000" in str(found)
    exactly = frame(BINARY, deflated(bytes(MOST)), rsv=4)
    assert decode(exactly * 3, [len(exactly)])[0] == bytes(3 * MOST)


@settings(max_examples=300)
@given(st.lists(st.binary(max_size=40), max_size=8), st.booleans())
def test_random_bytes_are_payload_or_a_fault(parts: list[bytes], deflate: bool) -> None:
    payload: list[bytes] = []
    decoder = Decoder(deflate, 1000)
    found: list[Fault] = []
    for part in parts:
        try:
            decoder.feed(part, payload)
        except Fault as exc:
            found.append(exc)
        if found or decoder.closed is not None:
            break
    assert {fault.code for fault in found} <= {1002, 1003, 1007, 1009}
    assert {type(fault.error) for fault in found} <= {ProtocolError}
    assert sum(map(len, payload)) <= 1000 * (sum(map(len, parts)) + 1)


def test_what_comes_before_a_fault_is_not_lost() -> None:
    payload: list[bytes] = []
    with pytest.raises(Fault):
        Decoder(False, MOST).feed(frame(BINARY, b"good") + frame(1, b"bad"), payload)
    assert payload == [b"good"]


def test_a_stream_that_ends_its_blocks_is_inflated_too() -> None:
    """RFC 7692, 7.2.3.5: a block with BFINAL, and then an empty one, or another."""
    deflater = zlib.compressobj(wbits=-15)
    final = deflater.compress(b"one") + deflater.flush()
    for packed, plain in (
        (final + b"\x00", b"one"),
        (final, b"one"),
        (final + deflated(b"two"), b"onetwo"),
    ):
        wire = frame(BINARY, packed, rsv=4)
        for sizes in ([1], [len(wire)]):
            assert decode(wire + frame(BINARY, b"!"), sizes)[0] == plain + b"!"


def test_nothing_after_a_close_frame_is_read() -> None:
    closing = frame(CLOSE, b"\x03\xf3" + "böse".encode())
    found, decoder = decode(frame(BINARY, b"a") + closing + b"\xff\xff" + frame(BINARY, b"b"), [99])
    assert found == b"a"
    assert decoder.closed is not None
    assert (decoder.closed.code, decoder.closed.reason) == (1011, "böse")
    assert list(decoder.replies) == [(CLOSE, b"\x03\xf3")]


# The HTTP answer.


def upgrade(**options: object) -> tuple[Upgrade, dict[str, str]]:
    made = Upgrade("h:1", "/a?b", [("Cookie", "c=d")], bool(options.get("compression")))
    first, *lines = made.request.decode().split("\r\n")
    assert first == "GET /a?b HTTP/1.1"
    return made, {k.lower(): v for k, _, v in (line.partition(": ") for line in lines if line)}


def test_the_request_is_that_of_the_standard() -> None:
    _, headers = upgrade(compression=True)
    assert headers.pop("sec-websocket-key") != upgrade()[1].pop("sec-websocket-key")
    assert headers == {
        "host": "h:1",
        "upgrade": "websocket",
        "connection": "Upgrade",
        "sec-websocket-version": "13",
        "sec-websocket-extensions": DEFLATE,
        "nats-no-masking": "true",
        "cookie": "c=d",
    }
    assert "sec-websocket-extensions" not in upgrade()[1]


@pytest.mark.parametrize("value", ["false", "true"])
def test_a_header_of_the_users_decides_about_masks(value: str) -> None:
    made = Upgrade("h", "/", [("NATS-No-Masking", value)], False)
    assert made.request.lower().count(b"masking") == 1
    headers = dict(x.split(": ") for x in made.request.decode().split("\r\n")[1:-2])
    made.feed(answer({name.lower(): v for name, v in headers.items()}))
    assert made.masked is (value == "false")


@given(st.integers(1, 200), st.binary(max_size=30))
def test_the_answer_in_any_pieces_and_what_follows_it(size: int, early: bytes) -> None:
    made, headers = upgrade(compression=True)
    whole = answer(headers, Sec_WebSocket_Extensions=DEFLATE, X_Other="x: y")
    for at in range(0, len(whole), size):
        rest = made.feed(whole[at : at + size] + (early if at + size >= len(whole) else b""))
        assert (rest is None) == (at + size < len(whole))
    assert rest == early
    assert made.deflate
    assert not made.masked


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"Sec_WebSocket_Accept": "AAAA"}, "Accept is wrong"),
        ({"Sec_WebSocket_Accept": None}, "Accept is wrong"),
        ({"Upgrade": "h2c"}, "Upgrade is not"),
        ({"Upgrade": None}, "Upgrade is not"),
        ({"Connection": "close"}, "Connection is not"),
        ({"Sec_WebSocket_Protocol": "mqtt"}, "subprotocol"),
        ({"Sec_WebSocket_Extensions": DEFLATE}, "not offered"),
    ],
)
def test_an_answer_that_does_not_fit(changes: dict[str, str | None], text: str) -> None:
    made, headers = upgrade()
    with pytest.raises(Fault, match=text) as caught:
        made.feed(answer(headers, **changes))
    error = read_error(caught.value, False)
    assert isinstance(error, WebSocketError)
    assert error.status == 101


@pytest.mark.parametrize(
    "extensions",
    [
        "permessage-deflate",
        "permessage-deflate; server_no_context_takeover",
        f"{DEFLATE}; client_max_window_bits=9",
        f"{DEFLATE}; server_no_context_takeover",
        f"{DEFLATE}, x-other",
        "x-other",
    ],
)
def test_only_the_extension_that_was_offered(extensions: str) -> None:
    made, headers = upgrade(compression=True)
    with pytest.raises(Fault, match="offered"):
        made.feed(answer(headers, Sec_WebSocket_Extensions=extensions))


def test_other_spellings_are_accepted_and_masks_are_the_rule() -> None:
    made, headers = upgrade(compression=True)
    found = {"Upgrade": "WebSocket", "Connection": "keep-alive, Upgrade", "Nats_No_Masking": None}
    found["Sec_WebSocket_Extensions"] = f"{DEFLATE.upper()}; server_max_window_bits=10"
    assert made.feed(answer(headers, **found).replace(b"Upgrade: ", b"UPGRADE:")) == b""
    assert made.masked
    assert made.deflate


@pytest.mark.parametrize(
    ("data", "text", "status"),
    [
        (b"HTTP/1.1 401 Unauthorized\r\nWWW-Authenticate: s3cret\r\n\r\n", "401 Unauthorized", 401),
        (b"HTTP/1.1 403 Forbidden\r\n\r\n", "403 Forbidden", 403),
        (b"HTTP/1.1 404 Not Found\r\n\r\n", "404", 404),
        (b"HTTP/1.1 502 Bad Gateway\r\n\r\n<html>", "502 Bad Gateway", 502),
        (b"HTTP/1.1 302 Found\r\nLocation: https://s3cret/\r\n\r\n", "redirect", 302),
        (b"HTTP/1.1 200\r\n\r\n", "200", 200),
        (b"HTTP/1.0 101 No\r\n\r\n", "not HTTP/1.1", None),
        (b"INFO {...s3cret", "as the port for nats:// does", None),
        (b"\x15\x03\x01\x00\x02", "wss", None),
        (b"HTTP/1.1 101 x\r\nno colon s3cret\r\n\r\n", "no name", 101),
        (b"HTTP/1.1 101 x\r\n" + b"X: s3cret\r\n" * (MOST_HEADER // 10), "longer than", None),
    ],
)
def test_refusals_have_their_status_and_show_no_header(
    data: bytes, text: str, status: int | None
) -> None:
    made, _ = upgrade()
    with pytest.raises(Fault) as caught:
        made.feed(data)
    error = read_error(caught.value, False)
    assert isinstance(error, WebSocketError)
    assert text in str(error)
    assert error.status == status
    assert "s3cret" not in str(error)


# The stream.


class Pair:
    """A `WsStream` over a socket pair, its handshake complete, and the other end."""

    def __init__(self, masked: bool = False, deflate: bool = False) -> None:
        ours, self.peer = socket.socketpair()
        ours.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
        ours.setblocking(False)
        self.upgrade = Upgrade("h", "/", (), deflate)
        self.stream = WsStream(Stream(ours), self.upgrade, MOST)
        self.stream.begin()
        request = self.peer.recv(65536).decode()
        headers = {k.lower(): v for k, _, v in (x.partition(": ") for x in request.split("\r\n"))}
        changes = {"Nats_No_Masking": None if masked else "true"}
        changes["Sec_WebSocket_Extensions"] = DEFLATE if deflate else None
        self.peer.sendall(answer(headers, **changes) + frame(BINARY, b"early"))
        assert self.stream.handshake()
        assert self.stream.recv() == b"early"
        self.wire = b""

    def drain(self, size: int = 1 << 20) -> None:
        """Let the other end read."""
        self.peer.setblocking(False)
        with contextlib.suppress(BlockingIOError):
            self.wire += self.peer.recv(size)

    def close(self) -> None:
        self.stream.close()
        self.peer.close()


@pytest.fixture(
    params=[(False, False), (True, False), (True, True)], ids=["plain", "masked", "deflated"]
)
def pair(request):
    made = Pair(*request.param)
    yield made
    made.close()


@settings(max_examples=20, deadline=None)
@given(st.data())
def test_each_byte_is_counted_once_when_the_kernel_has_it(data) -> None:
    pair = Pair(data.draw(st.booleans()), data.draw(st.booleans()))
    rng = random.Random(data.draw(st.integers(0, 1000)))
    stream, buffer, sent, gone = pair.stream, b"", b"", 0
    for _ in range(40):
        if rng.random() < 0.6:
            more = rng.randbytes(rng.randrange(1, 30_000))
            buffer += more
            sent += more
        if rng.random() < 0.2:
            pair.peer.setblocking(True)
            pair.peer.sendall(frame(PING, b"!"))
            assert stream.recv() is None
        held = stream.held
        taken = stream.send(memoryview(buffer))
        assert 0 <= taken <= max(held, len(buffer))
        gone += taken
        buffer = buffer[taken:]
        assert stream.held <= len(buffer)
        if rng.random() < 0.7:
            pair.drain(rng.randrange(1, 40_000))
    while buffer or stream.unsent:
        pair.drain()
        buffer = buffer[stream.send(memoryview(buffer)) :]
    pair.drain()
    read = all_frames(pair.wire)
    whole = b"".join(inflated(p) if bits & 4 else p for bits, op, _, p in read if op == BINARY)
    assert whole == sent
    pair.close()


def test_what_was_counted_has_left_and_what_has_left_was_counted(pair: Pair) -> None:
    """Without deflating a server uses each byte as it comes, so each counts."""
    data = random.Random(1).randbytes(200_000)
    taken = pair.stream.send(memoryview(data))
    assert 0 < taken < len(data) or pair.upgrade.deflate
    pair.stream.sock.shutdown(socket.SHUT_WR)
    pair.peer.settimeout(10)
    while part := pair.peer.recv(65536):
        pair.wire += part
    if not pair.upgrade.deflate:
        mask = pair.wire[10:14] if pair.upgrade.masked else b""
        assert xor(pair.wire[10 + len(mask) :], mask) == data[:taken]


def test_data_before_the_end_come_first_then_the_end(pair: Pair) -> None:
    pair.peer.sendall(frame(BINARY, b"last") + frame(CLOSE, b"\x03\xe8"))
    assert pair.stream.recv() == b"last"
    assert pair.stream.recv() == b""
    pair.drain()
    assert [(op, p) for _, op, _, p in all_frames(pair.wire)] == [(CLOSE, b"\x03\xe8")]


def test_a_close_code_that_means_a_fault_is_an_error(pair: Pair) -> None:
    pair.peer.sendall(frame(BINARY, b"last") + frame(CLOSE, b"\x03\xf0no"))
    assert pair.stream.recv() == b"last"
    with pytest.raises(Fault) as caught:
        pair.stream.recv()
    error = read_error(caught.value, True)
    assert isinstance(error, WebSocketClosedError)
    assert (error.code, error.reason) == (1008, "no")
    assert type(read_error(caught.value, False)) is ConnectError


def test_a_fault_is_answered_by_its_code(pair: Pair) -> None:
    pair.peer.sendall(frame(BINARY, b"good") + frame(1, b"bad"))
    assert pair.stream.recv() == b"good"
    with pytest.raises(Fault):
        pair.stream.recv()
    pair.stream.close()
    pair.drain()
    assert [(op, p) for _, op, _, p in all_frames(pair.wire)] == [(CLOSE, b"\x03\xeb")]


def test_a_flood_of_pings_that_nobody_reads_the_pongs_of_is_answered_within_bounds(
    pair: Pair,
) -> None:
    pair.stream.send(memoryview(random.Random(1).randbytes(400_000)))
    assert pair.stream.unsent  # the peer reads nothing
    before = pair.stream.backlog
    flood = frame(PING, bytes(125)) * 200 + frame(PING, b"last")
    for _ in range(100):
        pair.peer.setblocking(True)
        pair.peer.sendall(flood)
        assert pair.stream.recv() is None
    assert pair.stream.backlog - before < 100_000
    while pair.stream.unsent:
        pair.stream.send(memoryview(b""))
        pair.drain()
    pongs = [p for _, op, _, p in all_frames(pair.wire) if op == PONG]
    assert pongs[-1] == b"last"


def test_closing_says_so(pair: Pair) -> None:
    pair.stream.close()
    pair.drain()
    assert [(op, p) for _, op, _, p in all_frames(pair.wire)] == [(CLOSE, b"\x03\xe8")]
