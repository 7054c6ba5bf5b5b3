"""A server that breaks every rule: what it says at which stage, and what must become of the client.

Each case runs in clear and under TLS against a scripted server. After each of them the client still
works (a good message arrives, on the same connection or on the next one), its loop ends by itself, and
no descriptor is left. The outcomes are those of the protocol: what can't be understood ends the
connection, what is merely odd does not.
"""

from __future__ import annotations

import contextlib
import gc
import json
import re
import ssl
import struct
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import pytest

from lab import inside
from lab.fakeserver import INFO, FakeServer, Peer
from lab.located import words
from lab.process import HAS_PROC, descriptors, resident
from nats_ev import (
    ConnectError,
    ConnectTimeoutError,
    Nats,
    NatsError,
    ProtocolError,
    ServerError,
    StaleConnectionError,
)
from nats_ev.options import MAX_MESSAGE_SIZE

GOOD = b"MSG s.good 1 4\r\ngood\r\n"
Message = tuple[str, bytes, "str | None", "bytes | None"]


@dataclass
class Case:
    """What the server sends, and what follows from it."""

    name: str
    send: bytes | Callable[[Peer], None]
    # Delivered before the good message, which follows when the connection is kept.
    delivered: list[Message] = field(default_factory=list)
    errors: tuple[str, ...] = ()  # patterns of what on_error gets meanwhile
    kind: type[NatsError] | None = None  # of the first of them
    options: dict[str, Any] = field(default_factory=dict)

    def __str__(self) -> str:
        return self.name

    def play(self, peer: Peer) -> None:
        """Send it; the client may hang up meanwhile."""
        with contextlib.suppress(OSError):
            if callable(self.send):
                self.send(peer)
            else:
                peer.send(self.send)


def msg(size: object, body: bytes = b"hello\r\n", sid: object = 1, subject: str = "s.a") -> bytes:
    return f"MSG {subject} {sid} {size}\r\n".encode("latin-1") + body


def hello(subject: str = "s.a", reply: str | None = None, headers: bytes | None = None) -> Message:
    return subject, b"hello", reply, headers


def header(block: bytes, body: bytes = b"hello") -> bytes:
    return b"HMSG s.a 1 %d %d\r\n%b%b\r\n" % (len(block), len(block) + len(body), block, body)


def info(**fields: Any) -> bytes:
    return f"INFO {json.dumps(INFO | fields)}\r\n".encode()


def half_then(end: Callable[[Peer], None], data: bytes) -> Callable[[Peer], None]:
    def send(peer: Peer) -> None:
        peer.send(data)
        time.sleep(0.02)  # so that it arrives by itself
        end(peer)

    return send


def shut(peer: Peer) -> None:
    """The end, in TLS's own way where there is TLS."""
    if isinstance(peer.sock, ssl.SSLSocket):
        with contextlib.suppress(OSError, ValueError):
            peer.sock = peer.sock.unwrap()
    peer.close()


# After the handshake: what ends the connection. Nothing of it is delivered.

SIZES = [
    "-5", "+5", "0x5", "", "5x", "5.0", "1e3", "\xb2", "5,", "2147483647", "2147483648", "4294967301",
    "1099511627776", "4611686018427387904", "9223372036854775807", "18446744073709551621",
    "9" * 30, "0" * 21 + "5", "67108865",
]  # fmt: skip
SIDS = ["abc", "-1", "1_", "+1", "1.0", "0x1", "18446744073709551617", "9" * 40]
LINES = [
    b"FOO\r\n", b"\r\n", b" \r\n", b"MSG\r\n",
    b"MSG s.a\r\n", b"MSG s.a 1\r\n", b"MSG s.a 1 r 5 6\r\nhello\r\n",
    b"MSGs.a 1 5\r\nhello\r\n", b"HMSG s.a 1 5\r\nhello\r\n",
    b"HMSG s.a 1 r x 5 6\r\nhello\r\n", b"PINGX\r\n",
    b"PONGG\r\n", b"+OKAY\r\n", b"OK\r\n", b"ERR 'x'\r\n",
    b"SUB s.a 1\r\n", b"UNSUB 1\r\n", b"PUB s.a 0\r\n\r\n",
    b"CONNECT {}\r\n", b"HTTP/1.1 400 Bad Request\r\n", b"PING\n",
    b"PONG\n", b"+OK\n", b"MSG s.a 1 5\nhello\r\n",
    b"\x00\r\n", b"\xff\xfe\r\n", b"\x15\x03\x03\x00\x02\x02\x28", b"PI\r\nNG\r\n", b"M\r\n",
]  # fmt: skip
BROKEN = [
    *(Case(f"size {size[:24]!r}", msg(size)) for size in SIZES),
    *(Case(f"sid {sid[:24]!r}", msg(5, sid=sid)) for sid in SIDS),
    *(Case(f"line {line[:24]!r}", line) for line in LINES),
    Case("header size above total", b"HMSG s.a 1 100 10\r\n0123456789\r\n"),
    Case("header size far above total", b"HMSG s.a 1 1000000 10\r\n0123456789\r\n"),
    Case("header size negative", b"HMSG s.a 1 -1 10\r\n0123456789\r\n"),
    Case("header size no number", b"HMSG s.a 1 x 10\r\n0123456789\r\n"),
    Case("total size above the bound", b"HMSG s.a 1 12 2147483648\r\n0123456789\r\n"),
    Case("payload longer than it says", msg(5, b"helloXX\r\n")),
    Case("payload shorter than it says", msg(5, b"hell\r\n") + GOOD),
    Case("payload ends with LF only", msg(5, b"hello\nM")),
    Case("payload ends with CR only", msg(5, b"hello\rM")),
    Case("header block not followed by CRLF", header(b"NATS/1.0\r\n\r\n")[:-2] + b"XX"),
    Case("message line too long", b"MSG s." + b"x" * 1_100_000 + b" 1 0\r\n\r\n"),
    Case("-ERR line too long", b"-ERR '" + b"x" * 100_000 + b"'\r\n"),
    Case("INFO line too long", b"INFO {" + b" " * 1_100_000 + b"}\r\n"),
    Case("8 MB without a line end", b"A" * 8_000_000),
    Case("8 MB that begin like a message", b"MSG s." + b"A" * 8_000_000),
    Case("8 MB that begin like INFO", b"INFO {" + b"A" * 8_000_000),
    Case("8 MB that begin like -ERR", b"-ERR '" + b"A" * 8_000_000),
    Case("good message before a bad one", msg(5) + b"BAD\r\n", [hello()]),
]

# After the handshake: an end of the connection, which is no fault of the protocol.

ENDS = [
    Case("end in a payload", half_then(shut, b"MSG s.a 1 100\r\nhello")),
    Case("end in a control line", half_then(shut, b"MSG s.a 1 ")),
    Case("end between CR and LF", half_then(shut, b"MSG s.a 1 5\r\nhello\r")),
    Case("end in a header block", half_then(shut, b"HMSG s.a 1 12 17\r\nNATS/1.0\r")),
    Case("end after whole messages", half_then(shut, msg(5) * 3), [hello()] * 3),
    Case("reset in a payload", half_then(Peer.reset, b"MSG s.a 1 100\r\nhello"), errors=("",)),
    Case("reset between frames", half_then(Peer.reset, msg(5)), [hello()], errors=("",)),
]

# After the handshake: what is odd, and no reason to go.

BLOCKS = [
    b"NATS/1.0 ABC\r\n\r\n", b"NATS/1.0\r\nno colon\r\n\r\n", b"NATS/1.0\r\nA: b\r\n",
    b"X", b"NATS/9.9\r\n\r\n",
    b"NATS/1.0\r\n" + b"H: v\r\n" * 10_000 + b"\r\n", b"NATS/1.0\r\nA: \r\r\n\n\r\n\r\n",
    b"\x00" * 12,
    b"NATS/1.0\r\nA: \xff\xfe\r\n\r\n", b"NATS/1.0 503 No\x00thing\r\n\r\n",
]  # fmt: skip
URLS = [
    ["", "::::", "h:99999999999", 5, None, "a\x00b:1", "a b:4222", "[::1", "nats://", "x://y:1", "\r\n"],
    [f"10.0.{i // 250}.{i % 250}:4222" for i in range(20_000)],
    "not a list", [["nested"]], {},
]  # fmt: skip
ODD = [
    Case("leading zeros", msg("00000000000000000005"), [hello()]),
    Case("lower case", b"msg s.a 1 5\r\nhello\r\nping\r\npong\r\n+ok\r\n", [hello()]),
    Case("tabs and blanks", b"MSG\ts.a \t 1   5 \r\nhello\r\n", [hello()]),
    Case("NUL in the subject", msg(5, subject="s.a\x00b"), [hello("s.a\x00b")]),
    Case(
        "not UTF-8 in subject and reply",
        b"MSG s.\xff\xfe 1 r\x80 5\r\nhello\r\n",
        [hello("s.\udcff\udcfe", "r\udc80")],
    ),
    Case("rubbish in the reply", b"MSG s.a 1 \x01..*>\x7f 5\r\nhello\r\n", [hello(reply="\x01..*>\x7f")]),
    Case("unknown sid", msg(5, sid=999)),
    Case("sid above 32 bits", msg(5, sid=2**32 + 1)),
    Case("sid 0", msg(5, sid=0)),
    Case("largest sid", msg(5, sid=2**64 - 1)),
    Case("unknown sid with headers", header(b"NATS/1.0\r\n\r\n").replace(b" 1 ", b" 77 ", 1)),
    Case("header size 0", b"HMSG s.a 1 0 5\r\nhello\r\n", [hello()]),
    Case("header is all", header(b"NATS/1.0\r\n\r\n", b""),
         [("s.a", b"", None, b"NATS/1.0\r\n\r\n")]),
    *(
        Case(f"header block {block[:20]!r} of {len(block)}", header(block), [hello(headers=block)])
        for block in BLOCKS
    ),
    Case("commands in a payload", msg(14, b"PING\r\n-ERR 'x'\r\n"),
         [("s.a", b"PING\r\n-ERR 'x'", None, None)]),
    Case("+OK that nobody asked for", b"+OK\r\n" * 1000),
    Case("PONG that nobody asked for", b"PONG\r\n" * 10_000),
    Case("flood of PINGs", b"PING\r\n" * 20_000),
    Case("INFO again", info() + info()),
    Case("INFO that is no JSON", b"INFO {\r\n", errors=("INFO is not valid JSON",), kind=ProtocolError),
    Case("INFO that is no object", b"INFO [1]\r\n", errors=("INFO is not a JSON object",)),
    Case("INFO with a bad max_payload", info(max_payload=-1), errors=("bad max_payload",)),
    Case("INFO with a bad type", info(client_id="x"), errors=("bad client_id",)),
    Case("INFO with a deep nest", b'INFO {"a":' + b"[" * 100_000 + b"\r\n", errors=("not valid JSON",)),
    Case("INFO with unknown fields", info(unknown={"a": [1, None]}, xkey="x")),
    *(
        Case(
            f"connect_urls {str(urls)[:24]}",
            info(connect_urls=urls),
            errors=() if isinstance(urls, list) else ("bad connect_urls",),
        )
        for urls in URLS
    ),
    Case("-ERR without a text", b"-ERR\r\n", errors=("without a text",), kind=ServerError),
    Case("-ERR and a blank", b"-ERR \r\n", errors=("without a text",)),
    Case("-ERR with empty quotes", b"-ERR ''\r\n", errors=("without a text",)),
    Case("-ERR without quotes", b"-ERR something odd\r\n", errors=("^something odd$",)),
    Case("-ERR not in UTF-8", b"-ERR '\xff\x00'\r\n", errors=("^\udcff\x00$",)),
    Case("-ERR of 60 kB", b"-ERR '" + b"x" * 60_000 + b"'\r\n", errors=("^x{60000}$",)),
    Case("many -ERRs", b"-ERR 'who knows'\r\n" * 100, errors=("^who knows$",) * 100),
    Case("single bytes", lambda peer: [peer.send(bytes([b])) for b in msg(5)] and None, [hello()]),
]  # fmt: skip

# Instead of INFO: one failed attempt, at once.

WRONG_INFO: list[tuple[str, Any]] = [
    (name, value)
    for name, values in {
        "max_payload": (0, -1, 2**31 + 1, "x", 1.5, True, [], 1e400),
        "nonce": (5, ["x"], {}),
        "headers": ("yes", 1),
        "tls_required": ("no", 1),
        "auth_required": ("no",),
        "connect_urls": ("x", {}, 5),
        "server_id": (5,),
        "version": ([],),
        "client_id": ("x", 1.5),
        "proto": ("1",),
        "ldm": ("true",),
    }.items()
    for value in values
]
GREETINGS = [
    *(
        Case(f"greeting {line[:24]!r}", line)
        for line in (
            b"HTTP/1.1 400 Bad Request\r\n\r\n", b"PONG\r\n", b"PING\r\n",
            b"+OK\r\n", b"MSG s.a 1 5\r\nhello\r\n",
            b"\x15\x03\x03\x00\x02\x02\x28\r\n", b"\r\n", b"SSH-2.0-OpenSSH\r\n",
            b"INFOO {}\r\n", b"INFO\r\n",
            b"INFO {}\n", b"INFO \r\n", b"INFO nil\r\n",
            b"INFO 5\r\n", b"INFO []\r\n", b'INFO "x"\r\n',
            b"INFO {'a': 1}\r\n", b'INFO {"max_payload": 1\r\n', b"INFO {}{}\r\n",
            b"INFO \xff{}\r\n",
            b"INFO {" + b'"a":{' * 100_000 + b"\r\n", b"INFO {" + b" " * 1_100_000 + b"}\r\n",
            b"A" * 8_000_000, b"INFO {" + b"A" * 8_000_000,
        )
    ),
    *(Case(f"INFO {name} {value!r}"[:40], info(**{name: value})) for name, value in WRONG_INFO),
    Case("end before INFO", shut, kind=ConnectError),
    Case("reset before INFO", Peer.reset, kind=NatsError),
    Case("end inside INFO", half_then(shut, b'INFO {"server_id'), kind=ConnectError),
    Case("silence", lambda peer: None, kind=ConnectTimeoutError, options={"connect_timeout": 100}),
    Case(
        "one byte now and then",
        lambda peer: [(time.sleep(0.03), peer.send(info()[i : i + 1])) for i in range(20)] and None,
        kind=ConnectTimeoutError,
        options={"connect_timeout": 100},
    ),
]  # fmt: skip

# What a server says instead of, or before, the PONG that ends the handshake: one failed attempt.

TEXTS = [
    "Unknown Protocol Operation", "maximum control line exceeded", "Maximum Payload Violation",
    "Authorization Violation", "Authentication Timeout", "User Authentication Expired",
    "User Authentication Revoked", "Account Authentication Expired", "maximum connections exceeded",
    "maximum account active connections exceeded",
    "Connection throttling is active. Please try again later.", "Failed Account Registration",
    "Secure Connection - TLS Required", "Stale Connection",
]  # fmt: skip
KEPT_TEXTS = [
    "maximum subscriptions exceeded", 'Permissions Violation for Publish to "s"',
    'Permissions Violation for Subscription to "other"', "Invalid Publish Subject", "never heard of",
]  # fmt: skip
HANDSHAKES = [
    Case("end", shut, kind=ConnectError),
    Case("reset", Peer.reset, kind=NatsError),
    Case("silence", lambda peer: None, kind=ConnectTimeoutError, options={"connect_timeout": 100}),
    Case("+OK and silence", b"+OK\r\n", kind=ConnectTimeoutError, options={"connect_timeout": 100}),
    Case("PING and silence", b"PING\r\n" * 100, kind=ConnectTimeoutError, options={"connect_timeout": 100}),
    Case("INFO and silence", info() * 2, kind=ConnectTimeoutError, options={"connect_timeout": 100}),
    Case(
        "one byte now and then",
        lambda peer: [(time.sleep(0.03), peer.send(bytes([b]))) for b in b"+OK\r\n" * 4] and None,
        kind=ConnectTimeoutError,
        options={"connect_timeout": 100},
    ),
    Case("rubbish", b"BLA\r\n", kind=ProtocolError),
    Case("half a PONG", half_then(shut, b"PON"), kind=ConnectError),
    Case("message of a negative size", msg(-1), kind=ProtocolError),
    Case("8 MB without a line end", b"A" * 8_000_000, kind=ProtocolError),
]  # fmt: skip
# As soon as INFO has been sent, not waiting for CONNECT.
EARLY_TEXTS = ["Authorization Violation", "maximum connections exceeded", "Stale Connection"]

# Odd things before the handshake's PONG that do not matter.
TOLERATED = [
    Case("+OK", b"+OK\r\n"),
    Case("PINGs", b"PING\r\n" * 100),
    Case("INFO again", info(max_payload=5000)),
    Case("INFO with rubbish", b"INFO {\r\n", errors=("not valid JSON",)),
    Case("message of an unknown sid", msg(5, sid=99)),
    *(Case(text, f"-ERR '{text}'\r\n".encode(), errors=(re.escape(text),)) for text in KEPT_TEXTS),
]


class Scene:
    """One case on the stage: a scripted server in clear or with TLS, and a client."""

    def __init__(self, secure: bool, certs: Any, pair: Any, client: Any, run: Any) -> None:
        self._client, self._run = client, run
        self.context: ssl.SSLContext | None = pair.server_context() if secure else None
        self.options: dict[str, Any] = {"reconnect": True, "reconnect_delay": 1}
        if secure:
            self.options["tls_ca_file"] = certs.ca.cert_file
        self.got: list[Message] = []
        self.nats: Nats
        self._fds = descriptors()

    def greet(self, peer: Peer) -> None:
        """Up to where INFO is due; under TLS that is TLS first."""
        if self.context is not None:
            with contextlib.suppress(OSError):
                peer.start_tls(self.context)

    def handshake(self, peer: Peer, first: bool) -> None:
        if first:
            self.greet(peer)
            peer.handshake(**({"tls_required": True} if self.context else {}))
        else:
            peer.handshake(tls=self.context)

    def honest(self, first: bool = False) -> Callable[[Peer], None]:
        """What the next connection finds."""

        def script(peer: Peer) -> None:
            with contextlib.suppress(OSError, EOFError):
                self.handshake(peer, first)
                peer.send(b"MSG s.end 1 0\r\n\r\n")
                peer.at_eof()

        return script

    @contextlib.contextmanager
    def play(self, *scripts: Callable[[Peer], None], **options: Any) -> Iterator[Any]:
        """Run a client against these scripts; then see that nothing is left of it."""
        with FakeServer(*scripts) as server:
            self.nats = nats = self._client(server, **self.options, **options)
            nats.subscribe("s.>", lambda *message: self.got.append(message))
            yield nats.recorder
            nats.disconnect()
            self._run()  # the loop ends by itself: no watcher is left
        if descriptors() > self._fds:
            gc.collect()
            assert descriptors() <= self._fds

    def run(self, condition: Callable[[], Any], timeout: float = 10) -> None:
        self._run(condition, timeout)

    def be_patient_after(self, errors: list[BaseException]) -> None:
        """The case's short times are over with its first error: the honest server may be slow."""
        self.run(lambda: errors)
        self.nats.connect_timeout(5000)
        self.nats.ping_interval(120_000)

    def has(self, subject: str) -> bool:
        return any(message[0] == subject for message in self.got)


@pytest.fixture(scope="module")
def pair(certs):
    return certs.issue("hostile", "127.0.0.1")


@pytest.fixture(params=["plain", "tls"])
def scene(request, certs, pair, client, run, loop):
    loop.timer(0.0, 0.0, lambda watcher, revents: None).start()
    wake = loop.async_(lambda watcher, revents: None)
    wake.start()  # libev opens a descriptor for a loop's first one
    wake.stop()
    loop.start()  # whatever the binding opens once is open
    return Scene(request.param == "tls", certs, pair, client, run)


def check_errors(case: Case, errors: list[BaseException]) -> None:
    assert len(errors) == len(case.errors), errors
    for error, pattern in zip(errors, case.errors, strict=True):
        assert re.search(pattern, str(error)), error
    if case.kind is not None:
        assert isinstance(errors[0], case.kind)


@pytest.mark.parametrize("case", BROKEN, ids=str)
def test_what_is_no_protocol_ends_the_connection_and_the_next_one_works(scene, case):
    def script(peer: Peer) -> None:
        scene.handshake(peer, False)
        case.play(peer)
        with contextlib.suppress(OSError):
            peer.send(GOOD)
            peer.at_eof()

    with scene.play(script, scene.honest()) as seen:
        scene.run(lambda: scene.has("s.end"))
        assert scene.got[:-1] == case.delivered
        assert [type(error) for error in seen.errors] == [ProtocolError]
        assert words(seen.errors[0]).startswith("protocol error: ")
        assert seen.events[-3:] == ["disconnect", "connect", "reconnect"]


@pytest.mark.parametrize("case", ENDS, ids=str)
def test_end_of_the_connection_delivers_whole_messages_only(scene, case):
    def script(peer: Peer) -> None:
        scene.handshake(peer, False)
        case.play(peer)

    with scene.play(script, scene.honest()) as seen:
        scene.run(lambda: scene.has("s.end"))
        assert scene.got[:-1] == case.delivered
        assert len(seen.errors) <= len(case.errors)
        assert not any(isinstance(error, ProtocolError) for error in seen.errors)
        assert seen.events[-3:] == ["disconnect", "connect", "reconnect"]


@pytest.mark.parametrize("case", ODD, ids=str)
def test_what_is_merely_odd_keeps_the_connection(scene, case):
    def script(peer: Peer) -> None:
        scene.handshake(peer, False)
        case.play(peer)
        with contextlib.suppress(OSError):
            peer.send(GOOD)
            peer.at_eof()

    with scene.play(script) as seen:
        scene.run(lambda: scene.has("s.good"))
        assert scene.got[:-1] == case.delivered
        check_errors(case, seen.errors)
        assert seen.events.count("connect") == 1
        assert "disconnect" not in seen.events
        assert scene.nats.is_connected()
        assert len(inside.known_urls(scene.nats)) <= 1001


@pytest.mark.parametrize("case", GREETINGS, ids=str)
def test_greeting_that_is_no_info_fails_one_attempt(scene, case):
    def script(peer: Peer) -> None:
        scene.greet(peer)
        case.play(peer)
        with contextlib.suppress(OSError):
            peer.at_eof()

    first = scene.context is not None
    options = {"tls_handshake_first": True} if first else {}
    with scene.play(script, scene.honest(first), **options, **case.options) as seen:
        scene.be_patient_after(seen.errors)
        scene.run(lambda: scene.has("s.end"))
        assert len(seen.errors) == 1
        assert isinstance(seen.errors[0], case.kind or ProtocolError)
        assert seen.events[1:] == ["connect"]


@pytest.mark.parametrize("text", TEXTS)
@pytest.mark.parametrize("stage", ["instead of INFO", "after CONNECT"])
def test_error_during_the_handshake_fails_one_attempt(scene, text, stage):
    first = stage == "instead of INFO" and scene.context is not None

    def script(peer: Peer) -> None:
        if stage == "instead of INFO":
            scene.greet(peer)
        else:
            peer.send_info(**({"tls_required": True} if scene.context else {}))
            scene.greet(peer)
            peer.until("PING")
        with contextlib.suppress(OSError):
            peer.send(f"-ERR '{text}'\r\n")
            shut(peer)

    options = {"tls_handshake_first": True} if first else {}
    with scene.play(script, scene.honest(first), **options) as seen:
        scene.run(lambda: scene.has("s.end"))
        assert [str(error) for error in seen.errors] == [text]
        assert isinstance(seen.errors[0], ServerError)
        assert seen.events[1:] == ["connect"]


@pytest.mark.parametrize("text", EARLY_TEXTS)
def test_error_right_behind_info_fails_one_attempt(scene, text):
    """Under TLS it is TLS first: in clear it would be an injection, which has tests of its own."""
    first = scene.context is not None

    def script(peer: Peer) -> None:
        scene.greet(peer)
        with contextlib.suppress(OSError):
            peer.send(info(tls_required=first) + f"-ERR '{text}'\r\n".encode())
            shut(peer)

    options = {"tls_handshake_first": True} if first else {}
    with scene.play(script, scene.honest(first), **options) as seen:
        scene.run(lambda: scene.has("s.end"))
        assert [str(error) for error in seen.errors] == [text]


@pytest.mark.parametrize(
    "text", ["invalid client protocol", "no responders requires headers support"]
)
def test_error_that_no_server_would_spare_us_is_the_end(scene, text):
    def script(peer: Peer) -> None:
        peer.send_info(**({"tls_required": True} if scene.context else {}))
        scene.greet(peer)
        peer.until("PING")
        with contextlib.suppress(OSError):
            peer.send(f"-ERR '{text}'\r\n")
            peer.at_eof()

    with scene.play(script) as seen:
        scene.run(lambda: not inside.is_active(scene.nats))
        assert [str(error) for error in seen.errors] == [text]
        assert "connect" not in seen.events


@pytest.mark.parametrize("case", HANDSHAKES, ids=str)
def test_handshake_that_does_not_end_fails_one_attempt(scene, case):
    def script(peer: Peer) -> None:
        peer.send_info(**({"tls_required": True} if scene.context else {}))
        scene.greet(peer)
        peer.until("PING")
        case.play(peer)
        with contextlib.suppress(OSError):
            peer.at_eof()

    with scene.play(script, scene.honest(), **case.options) as seen:
        scene.be_patient_after(seen.errors)
        scene.run(lambda: scene.has("s.end"))
        assert len(seen.errors) == 1
        assert isinstance(seen.errors[0], case.kind)
        assert seen.events[1:] == ["connect"]


@pytest.mark.parametrize("case", TOLERATED, ids=str)
def test_odd_things_before_the_pong_do_not_matter(scene, case):
    def script(peer: Peer) -> None:
        peer.send_info(**({"tls_required": True} if scene.context else {}))
        scene.greet(peer)
        peer.until("PING")
        case.play(peer)
        with contextlib.suppress(OSError):
            peer.send(b"PONG\r\n" + GOOD)
            peer.at_eof()

    with scene.play(script) as seen:
        scene.run(lambda: scene.has("s.good"))
        check_errors(case, seen.errors)
        assert seen.events[-1] == "connect"
        assert seen.events.count("connect") == 1
        assert len(scene.got) == 1


def test_pong_before_our_ping_is_nobodys(scene):
    """Under TLS: TLS first."""
    first = scene.context is not None

    def script(peer: Peer) -> None:
        scene.greet(peer)
        peer.send(info(tls_required=first) + b"PONG\r\n")
        peer.until("PING")
        peer.send(b"PONG\r\n" + GOOD)
        peer.at_eof()

    options = {"tls_handshake_first": True} if first else {}
    with scene.play(script, **options) as seen:
        scene.run(lambda: scene.has("s.good"))
        assert seen.events == ["connect"]


def test_pongs_too_many_never_satisfy_a_flush(scene):
    go = []

    def script(peer: Peer) -> None:
        scene.handshake(peer, False)
        peer.send(b"PONG\r\n" * 50 + GOOD)
        peer.until("PING")
        go.append(True)
        peer.send(b"PONG\r\n")
        peer.at_eof()

    with scene.play(script):
        scene.run(lambda: scene.has("s.good"))
        done: list[Any] = []
        scene.nats.flush(lambda error: done.append((error, bool(go))))
        scene.run(lambda: done)
        assert done == [(None, True)]


def test_flood_of_pings_is_answered_within_bounds(scene):
    """Nobody reads the answers: they must not pile up."""

    def script(peer: Peer) -> None:
        scene.handshake(peer, False)
        for _ in range(20):
            peer.send(b"PING\r\n" * 10_000)
        peer.send(GOOD)
        time.sleep(0.05)
        peer.at_eof()

    with scene.play(script):
        scene.run(lambda: scene.has("s.good"))
        assert inside.unsent_bytes(scene.nats) < 2_000_000


def test_messages_after_unsubscribe_are_skipped(scene):
    def script(peer: Peer) -> None:
        scene.handshake(peer, False)
        peer.expect("SUB gone 2")
        peer.until("UNSUB 2")
        peer.send(msg(5, sid=2) * 100 + GOOD)
        peer.at_eof()

    with scene.play(script) as seen:
        scene.run(lambda: seen.events)
        gone: list[Any] = []
        sid = scene.nats.subscribe("gone", lambda *message: gone.append(message))
        scene.nats.unsubscribe(sid)
        scene.run(lambda: scene.has("s.good"))
        assert gone == []


def assert_stale(scene: Scene, script: Callable[[Peer], None]) -> None:
    """Run a client against this script: it gives the connection up, once, and reconnects."""
    options = {"ping_interval": 30, "max_pings_outstanding": 2}
    with scene.play(script, scene.honest(), **options) as seen:
        scene.be_patient_after(seen.errors)
        scene.run(lambda: scene.has("s.end"))
        assert [type(error) for error in seen.errors] == [StaleConnectionError]


def test_server_that_says_nothing_any_more_is_stale(scene):
    def script(peer: Peer) -> None:
        scene.handshake(peer, False)
        with contextlib.suppress(OSError):
            peer.at_eof()

    assert_stale(scene, script)


def test_server_that_talks_but_answers_no_ping_is_stale(scene):
    def script(peer: Peer) -> None:
        scene.handshake(peer, False)
        with contextlib.suppress(OSError):
            while True:
                peer.send(msg(5) + b"PING\r\n+OK\r\n")
                time.sleep(0.005)

    assert_stale(scene, script)


def test_lame_duck_is_told_once_per_connection_and_the_connection_stays(scene):
    def script(peer: Peer) -> None:
        scene.handshake(peer, False)
        peer.send(info(ldm=True) * 3 + GOOD)
        peer.at_eof()

    with scene.play(script) as seen:
        scene.run(lambda: scene.has("s.good"))
        scene.run(lambda: "lame_duck" in seen.events)
        assert seen.events == ["connect", "lame_duck"]


@pytest.mark.skipif(not HAS_PROC, reason="reads /proc")
@pytest.mark.parametrize(
    ("claim", "most"),
    [
        (b"MSG s.a 1 67108864\r\nx", 0), (b"HMSG s.a 1 60000000 67108864\r\nNATS/1.0\r\n", 0),
        (b"INFO {", 0), (b"-ERR '", 0), (b"MSG s." + b"x" * 3000, 0),
        (f"MSG s.a 1 {MAX_MESSAGE_SIZE}\r\nx".encode(), MAX_MESSAGE_SIZE),  # 2 GiB
    ],
)  # fmt: skip
def test_memory_follows_what_has_come_and_not_what_was_announced(scene, claim, most):
    reached: list[bool] = []

    def script(peer: Peer) -> None:
        scene.handshake(peer, False)
        peer.send(GOOD + claim)
        reached.append(True)
        with contextlib.suppress(OSError):
            peer.at_eof()

    with scene.play(script, max_message_size=most):
        scene.run(lambda: scene.has("s.good"))
        before = resident()
        scene.run(lambda: reached)
        turns: list[bool] = []
        scene.nats.call_later(30, turns.append, True)
        scene.run(lambda: turns)
        assert resident() - before < 4 * 1024 * 1024
        assert scene.nats.is_connected()


@pytest.mark.parametrize("linger", [0, 1])
def test_server_that_resets_at_every_stage_leaks_nothing(scene, linger):
    """A hundred connections, each cut after a few more bytes of the same conversation."""
    stages = iter(range(100))

    def script(peer: Peer) -> None:
        stage = next(stages, 100)
        with contextlib.suppress(OSError, EOFError, AssertionError):
            peer.sock.setsockopt(1, 13, struct.pack("ii", linger, 0))
            if scene.context is None:
                peer.send((info() + b"PONG\r\n" + msg(5) * 10)[: stage * 5])
            elif stage % 3 == 0:
                peer.send_info(tls_required=True)
            elif stage % 3 == 1:
                peer.send_info(tls_required=True)
                peer.start_tls(scene.context)
            else:
                peer.handshake(tls=scene.context)
                peer.send(msg(5)[:stage])
        peer.close()

    with scene.play(script) as seen:
        scene.run(lambda: next(stages, None) is None or len(seen.errors) > 150, timeout=10)


def test_enough_cases():
    """The goal was 120; each runs in clear and under TLS."""
    cases = [BROKEN, ENDS, ODD, GREETINGS, TEXTS * 2, HANDSHAKES, TOLERATED, EARLY_TEXTS]
    assert sum(map(len, cases)) >= 120
