"""Whatever is passed to a client as text, it is refused and nothing sent, or sent as one command.

The bytes are those that arrive at a socket; `refparser`, which knows nothing of the client, reads them.
`NATS_EV_EXAMPLES=20000` tries more.
"""

from __future__ import annotations

import contextlib
import json
import os
import select
import socket
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from lab import refparser
from lab.steps import ignore
from nats_ev import Headers, Nats, pyev

EXAMPLES = int(os.environ.get("NATS_EV_EXAMPLES", "400"))
GREETING = b'INFO {"server_id":"X","max_payload":1048576,"headers":true}\r\nPONG\r\n'


def examples(count: int) -> settings:
    return settings(
        max_examples=count,
        derandomize="NATS_EV_EXAMPLES" not in os.environ,
        database=None,
        deadline=None,
        print_blob=True,
        suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
    )


NASTY = [
    "\r\n",
    "\n",
    " ",
    "\t",
    "\0",
    "PUB x 0\r\n\r\n",
    "\x7f",
    "\x85",
    "\u2028",
    ".",
    "*",
    ">",
    '"',
    "\\",
]
PIECES = st.one_of(
    st.sampled_from([*NASTY, "a", "foo", "é", "\udcff", "\ud800", ":", "NATS/1.0"]),
    st.text(max_size=4),
)
TEXT = st.lists(PIECES, max_size=4).map("".join)
PAYLOADS = st.one_of(st.binary(max_size=40), st.sampled_from([b"\r\n", b"\r\nPUB x 0\r\n\r\n"]))
RAW = st.one_of(
    st.binary(max_size=30),
    st.binary(max_size=20).map(lambda middle: b"NATS/1.0\r\n" + middle + b"\r\n\r\n"),
)
WRONG_TYPES = st.sampled_from([b"bytes", 5, 1.5, ["a"], {"a": "b"}, object()])


class Wire:
    """A client, and the other end of its socket."""

    def __init__(self, **options: Any) -> None:
        self.loop = pyev.Loop()
        with socket.create_server(("127.0.0.1", 0)) as listener:
            self.nats = Nats(
                host="127.0.0.1",
                port=listener.getsockname()[1],
                loop=self.loop,
                reconnect=False,
                ping_interval=0,
                on_error=lambda error: None,
                **options,
            )
            listener.setblocking(False)
            self.until(lambda: select.select([listener], [], [], 0)[0])
            self.peer, _ = listener.accept()
        self.peer.sendall(GREETING)
        self.until(self.nats.is_connected)
        self.handshake = self.sent()

    def until(self, condition: Callable[[], object]) -> None:
        deadline = time.monotonic() + 10
        while not condition():
            assert time.monotonic() < deadline
            self.loop.start(pyev.EVRUN_NOWAIT)

    def sent(self) -> bytes:
        """What has been sent since: all of it, once the loop has nothing to do."""
        data = b""
        for _ in range(2):
            self.loop.start(pyev.EVRUN_NOWAIT)
            while select.select([self.peer], [], [], 0)[0] and (more := self.peer.recv(1 << 20)):
                data += more
        return data

    def outcome(self, call: Callable[..., object], *args: Any, **options: Any) -> list[Any] | None:
        """The commands that a call sends; None when it is refused, and then nothing may be sent."""
        before = self.nats.stats()
        try:
            call(*args, **options)
        except (ValueError, TypeError):
            assert self.sent() == b""
            after = self.nats.stats()
            assert after["msgs_out"] == before["msgs_out"]
            assert self.nats.waiting_count() == 0
            return None
        return refparser.parse_commands(self.sent())

    def close(self) -> None:
        self.nats.disconnect()
        self.loop.start(pyev.EVRUN_NOWAIT)
        self.peer.close()


@pytest.fixture(scope="module")
def wire() -> Iterator[Wire]:
    wire = Wire()
    yield wire
    wire.close()


def raw(text: str) -> bytes:
    return text.encode("utf-8", "surrogateescape")


def is_sendable(text: str) -> bool:
    """Neither blanks nor control characters, nor what no bytes stand for."""
    surrogates = [c for c in text if "\ud800" <= c <= "\udfff"]
    return all(c > " " and c != "\x7f" for c in text) and all(
        "\udc80" <= c <= "\udcff" for c in surrogates
    )


@pytest.mark.slow
@examples(EXAMPLES)
@given(subject=TEXT, payload=PAYLOADS, reply=st.none() | TEXT)
@example(subject="x 0\r\n\r\nPUB injected 3\r\nabc\r\nPUB y", payload=b"", reply=None)
@example(subject="a b", payload=b"", reply=None)
@example(subject="a", payload=b"", reply="b\r\nPING")
def test_publish(wire: Wire, subject: str, payload: bytes, reply: str | None) -> None:
    for _ in range(3):  # the third goes the way of a remembered subject
        commands = wire.outcome(wire.nats.publish, subject, payload, reply)
        if subject and is_sendable(subject) and is_sendable(reply or ""):
            assert commands == [("PUB", raw(subject), raw(reply or ""), b"", payload)]
        else:
            assert commands is None


@pytest.mark.slow
@examples(EXAMPLES)
@given(subject=TEXT, items=st.lists(st.tuples(TEXT, TEXT), max_size=3), payload=PAYLOADS)
@example(subject="a", items=[("Key", "value\r\n\r\nPUB x 0\r\n")], payload=b"")
@example(subject="a", items=[("Key\r\nEvil", "value")], payload=b"")
@example(subject="a", items=[("Key:Evil", "value")], payload=b"")
@example(subject="a", items=[("K", "v")], payload=b"p")
def test_hpublish_with_a_mapping(
    wire: Wire, subject: str, items: list[tuple[str, str]], payload: bytes
) -> None:
    commands = wire.outcome(wire.nats.hpublish, subject, dict(items), payload)
    if commands is not None:
        [(_, sent_to, reply, headers, body)] = commands
        assert (sent_to, reply, body) == (raw(subject), b"", payload)
        lines = headers.split(b"\r\n")
        assert lines[0] == b"NATS/1.0"
        assert lines[-2:] == [b"", b""]
        pairs = [tuple(line.split(b":", 1)) for line in lines[1:-2]]
        assert pairs == [(raw(k), b" " + raw(v)) for k, v in dict(items).items()]
        read = Headers.parse(headers)
        assert read.pairs() == [(k, v.strip(" \t")) for k, v in dict(items).items()]


@pytest.mark.slow
@examples(EXAMPLES)
@given(subject=TEXT, block=RAW, payload=PAYLOADS, reply=TEXT)
def test_hpublish_with_a_raw_block(
    wire: Wire, subject: str, block: bytes, payload: bytes, reply: str
) -> None:
    commands = wire.outcome(wire.nats.hpublish, subject, block, payload, reply)
    if commands is not None:
        assert block.startswith(b"NATS/1.0")
        assert block.endswith(b"\r\n\r\n")
        assert commands == [("PUB", raw(subject), raw(reply), block, payload)]


@pytest.mark.slow
@examples(EXAMPLES)
@given(subject=TEXT, queue=st.none() | TEXT)
@example(subject="foo bar", queue=None)
@example(subject="foo", queue="q 1\r\nSUB > 9")
def test_subscribe(wire: Wire, subject: str, queue: str | None) -> None:
    sids: list[int] = []
    count = wire.nats.subscription_count()
    commands = wire.outcome(
        lambda: sids.append(wire.nats.subscribe(subject, lambda *message: None, queue))
    )
    if commands is None:
        assert wire.nats.subscription_count() == count
        return
    assert commands == [("SUB", raw(subject), raw(queue or ""), sids[0])]
    tokens = subject.split(".")
    assert "" not in tokens
    assert ">" not in tokens[:-1]
    assert wire.outcome(wire.nats.unsubscribe, sids[0]) == [("UNSUB", sids[0], 0)]


@pytest.mark.slow
@examples(EXAMPLES)
@given(subject=TEXT, payload=PAYLOADS)
def test_request(wire: Wire, subject: str, payload: bytes) -> None:
    answers: list[Any] = []
    wire.nats.request("prime", b"", lambda *answer: answers.append(answer), 0)
    wire.sent()
    commands = wire.outcome(
        wire.nats.request, subject, payload, lambda *answer: answers.append(answer), 0
    )
    assert answers == []
    if commands is not None:
        [(_, sent_to, inbox, headers, body)] = commands
        assert (sent_to, headers, body) == (raw(subject), b"", payload)
        assert inbox.startswith(b"_INBOX.")


@examples(60)
@given(value=WRONG_TYPES)
def test_what_is_no_text_is_refused(wire: Wire, value: Any) -> None:
    nats = wire.nats
    calls: list[tuple[Any, ...]] = [
        (nats.publish, value, b""),
        (nats.publish, "a", b"", value),
        (nats.hpublish, value, {"a": "b"}, b""),
        (nats.hpublish, "a", {value if isinstance(value, (int, bytes)) else 1: "b"}, b""),
        (nats.hpublish, "a", {"a": 5}, b""),
        (nats.subscribe, value, ignore),
        (nats.subscribe, "a", ignore, value),
        (nats.request, value, b"", ignore),
    ]
    for call, *args in calls:
        assert wire.outcome(call, *args) is None


@examples(max(20, EXAMPLES // 8))
@given(
    fields=st.fixed_dictionaries(
        {}, optional={name: TEXT for name in ("name", "user", "password")}
    ),
    prefix=st.none() | TEXT,
)
@example(fields={"name": '","verbose":true,"x":"\r\nPUB x 0\r\n\r\n'}, prefix=None)
def test_connect_and_inboxes(fields: dict[str, str], prefix: str | None) -> None:
    options = dict(fields) if prefix is None else {**fields, "inbox_prefix": prefix}
    try:
        wire = Wire(**options)
    except (ValueError, TypeError):
        return
    with contextlib.closing(wire):
        [(verb, text), ping] = refparser.parse_commands(wire.handshake)
        assert (verb, ping) == ("CONNECT", ("PING",))
        connect = json.loads(text)
        names = {"name": "name", "user": "user", "password": "pass"}
        for option, key in names.items():
            if option != "password" or fields.get("user"):  # a password needs a user
                assert (connect.get(key) or "") == fields.get(option, "")
        assert set(connect) <= {
            *("verbose", "pedantic", "echo", "tls_required", "lang", "version", "protocol"),
            *("headers", "no_responders", "name", "user", "pass"),
        }
        commands = wire.outcome(wire.nats.request, "a", b"", ignore, 0)
        if commands is not None:
            assert [command[0] for command in commands] == ["SUB", "PUB"]
            inbox = raw(f"{prefix or '_INBOX'}.")
            assert commands[0][1].startswith(inbox)
            assert commands[1][2].startswith(inbox)


def test_the_reference_reads_what_a_client_sends() -> None:
    stream = (
        b"CONNECT {}\r\nPUB a 2\r\nhi\r\nPUB a r 0\r\n\r\nHPUB a 12 13\r\nNATS/1.0\r\n\r\nx\r\n"
        b"SUB a 1\r\nSUB a q 2\r\nUNSUB 1\r\nUNSUB 2 5\r\nPING\r\nPONG\r\n"
    )
    assert refparser.parse_commands(stream) == [
        ("CONNECT", b"{}"),
        ("PUB", b"a", b"", b"", b"hi"),
        ("PUB", b"a", b"r", b"", b""),
        ("PUB", b"a", b"", b"NATS/1.0\r\n\r\n", b"x"),
        ("SUB", b"a", b"", 1),
        ("SUB", b"a", b"q", 2),
        ("UNSUB", 1, 0),
        ("UNSUB", 2, 5),
        ("PING",),
        ("PONG",),
    ]
    for wrong in (b"PING", b"PING\n", b"PUB a b c 0\r\n\r\n", b"PUB a 1\r\nxy\r\n", b"EVIL\r\n"):
        with pytest.raises(refparser.Wrong):
            refparser.parse_commands(wrong)
