"""The trace of the wire: what it shows, what it hides, and when it is on."""

from __future__ import annotations

import logging
import random
from typing import Any

import pytest

from lab import inside
from lab.steps import collect, collect_messages, flushed
from nats_ev.instrumentation.trace import Tracer
from nats_ev.testing.certificates import server_config


@pytest.fixture
def trace(caplog: pytest.LogCaptureFixture) -> Any:
    """The lines of the trace so far; asking for it switches the trace on."""
    caplog.set_level(logging.DEBUG, "nats_ev.protocol")
    return lambda: [r.getMessage() for r in caplog.records if r.name == "nats_ev.protocol"]


def lines_of(*chunks: bytes) -> list[str]:
    lines: list[str] = []
    tracer = Tracer(lines.append)
    for chunk in chunks:
        tracer.feed(chunk)
    return lines


FRAMES = (
    b'INFO {"server_id":"x"} \r\nPING\r\nMSG foo 1 5\r\nhello\r\nMSG foo 1 re.ply 0\r\n\r\n'
    b"HMSG foo 1 12 14\r\nNATS/1.0\r\n\r\nab\r\n+OK\r\n-ERR 'Bad'\r\n"
    b"MSG foo 1 3\r\n\r\n\x00\r\n"
)
LINES = [
    'INFO {"server_id":"x"}',
    "PING",
    "MSG foo 1 5 'hello'",
    "MSG foo 1 re.ply 0 ''",
    r"HMSG foo 1 12 14 'NATS/1.0\r\n\r\nab'",
    "+OK",
    "-ERR 'Bad'",
    r"MSG foo 1 3 '\r\n\x00'",
]


def test_each_frame_is_a_line_wherever_the_stream_is_cut():
    assert lines_of(FRAMES) == LINES
    assert lines_of(*(FRAMES[i : i + 1] for i in range(len(FRAMES)))) == LINES
    for seed in range(50):
        rng = random.Random(seed)
        cuts = sorted(rng.sample(range(len(FRAMES)), 6))
        parts = [FRAMES[a:b] for a, b in zip([0, *cuts], [*cuts, len(FRAMES)], strict=True)]
        assert lines_of(*parts) == LINES


def test_payloads_and_lines_are_cut():
    assert lines_of(b"PUB a 1000\r\n" + b"x" * 1000 + b"\r\n") == [
        "PUB a 1000 '" + "x" * 128 + "'… 872 B more"
    ]
    (line,) = lines_of(b"INFO " + b"y" * 10_000 + b"\r\n")
    assert len(line) < 4200
    assert line.endswith("B more")


def test_secrets_are_masked():
    (line,) = lines_of(
        b'CONNECT {"user":"u","pass":"s3cret","auth_token":"s3cret","jwt":"s3cret","sig":"s3cret"}\r\n'
    )
    assert line == 'CONNECT {"user":"u","pass":"***","auth_token":"***","jwt":"***","sig":"***"}'
    assert lines_of(b'CONNECT {"pass":"s3cret\r\n') == ["CONNECT ***"]
    assert lines_of(b"CONNECT 5\r\n") == ["CONNECT ***"]
    block = b"NATS/1.0\r\nauthorization: Bearer s3cret\r\nX-Api-Key:s3cret\r\nPlain: shown\r\n\r\n"
    (line,) = lines_of(b"HPUB a %d %d\r\n%s\r\n" % (len(block), len(block), block))
    assert "s3cret" not in line
    assert "Plain: shown" in line
    long = b"NATS/1.0\r\nToken: " + b"s3cret" * 100 + b"\r\n\r\n"
    assert "s3c" not in lines_of(b"HPUB a %d %d\r\n%s\r\n" % (len(long), len(long), long))[0]


@pytest.mark.parametrize("bad", [b"MSG a 1 x\r\n", b"MSG a 1 -5\r\n", b"HMSG 5\r\n", b"PUB\r\n"])
def test_what_is_not_the_protocol_ends_the_trace_of_its_direction_once(bad):
    lines = lines_of(b"PING\r\n" + bad, b"PING\r\n", b"\xff\xfe")
    assert lines[0] == "PING"
    assert len(lines) == 2
    assert "not the protocol" in lines[1]


def test_random_bytes_never_raise():
    rng = random.Random(7)
    pieces = [
        b"MSG",
        b"CONNECT ",
        b"{",
        b" ",
        b"\r\n",
        b"\n",
        b"5",
        b"\x00",
        b"HPUB a 3 2\r\n",
        b"\xff",
    ]
    for _ in range(2000):
        lines_of(*(rng.choice(pieces) for _ in range(12)))


def test_a_trace_shows_both_directions_of_a_real_connection_and_masks_the_password(
    own_server, client, run, trace
):
    server = own_server(config='authorization { user: u, password: "s3cret-sentinel" }')
    nats = client(server, user="u", password="s3cret-sentinel")
    run(nats.is_connected)
    nats.subscribe("foo", collect_messages(got := []))
    nats.publish("foo", b"hello", headers={"A": "b"})
    nats.publish("foo", b"plain\n")
    run(lambda: len(got) == 2)
    lines = trace()
    sid = 1
    for line in (
        "← PONG", f"→ SUB foo {sid}", r"→ HPUB foo 18 23 'NATS/1.0\r\nA: b\r\n\r\nhello'",
        rf"← HMSG foo {sid} 18 23 'NATS/1.0\r\nA: b\r\n\r\nhello'",
        r"→ PUB foo 6 'plain\n'", rf"← MSG foo {sid} 6 'plain\n'",
    ):  # fmt: skip
        assert line in lines
    assert any(line.startswith("← INFO {") for line in lines)
    (connect,) = (line for line in lines if line.startswith("→ CONNECT "))
    assert '"pass":"***"' in connect
    assert "s3cret-sentinel" not in "".join(lines)


def test_a_trace_works_under_tls_and_over_a_reconnect(own_server, client, certs, run, trace):
    config = server_config(certs.issue("server", "127.0.0.1"))
    server = own_server(config=config)
    nats = client(server, tls_ca_file=str(certs.ca.cert_file), reconnect=True, reconnect_delay=5)
    run(nats.is_connected)
    nats.subscribe("foo", collect(got := []))
    nats.publish("foo", b"a")
    run(lambda: got)
    assert "← MSG foo 1 1 'a'" in trace()
    nats.force_reconnect()
    run(lambda: nats.recorder.count("reconnect"))
    nats.publish("foo", bytes(300_000))
    run(lambda: len(got) == 2)
    assert got[1] == bytes(300_000)
    assert trace().count("→ SUB foo 1") == 2
    assert trace()[-1].startswith("← MSG foo 1 300000 '")


def test_only_the_level_of_the_loggers_own_switches_the_trace_on(server, connected, run, caplog):
    caplog.set_level(logging.DEBUG)
    caplog.set_level(logging.DEBUG, "nats_ev")
    nats = connected(server)
    flushed(nats, run)
    assert inside.reads_in_c(nats)
    assert not any(record.name == "nats_ev.protocol" for record in caplog.records)
    caplog.set_level(logging.DEBUG, "nats_ev.protocol")
    nats.force_reconnect()
    run(lambda: nats.recorder.count("connect") == 2)
    assert not inside.reads_in_c(nats)
    assert any(record.name == "nats_ev.protocol" for record in caplog.records)


class Raising(logging.Handler):
    """A handler that raises its error for each line that has a text in it, as often as it may."""

    def __init__(self, error: BaseException, text: str, times: int) -> None:
        super().__init__()
        self.error, self.text, self.times = error, text, times

    def emit(self, record: logging.LogRecord) -> None:
        if self.times and self.text in record.getMessage():
            self.times -= 1
            raise self.error


@pytest.fixture
def raising(request: pytest.FixtureRequest) -> Any:
    """raising(error, text, times): such a handler on the logger of the trace."""

    def add(error: BaseException, text: str, times: int) -> Raising:
        handler = Raising(error, text, times)
        logger = logging.getLogger("nats_ev")
        logger.addHandler(handler)
        request.addfinalizer(lambda: logger.removeHandler(handler))
        return handler

    return add


def test_a_handler_that_raises_harms_no_connection(
    trace, raising, connected, server, run, excepthook
):
    handler = raising(RuntimeError("handler"), "", 1000)
    nats = connected(server)
    nats.subscribe("a", collect(got := []))
    nats.publish("a", b"1")
    run(lambda: got == [b"1"])
    assert handler.times < 1000
    assert {str(exc) for exc in excepthook} == {"handler"}
    excepthook.clear()


@pytest.mark.parametrize("line", ["→ PUB a", "← MSG a"])
def test_an_interrupt_in_a_handler_tears_no_stream(trace, raising, connected, server, run, line):
    nats = connected(server)
    nats.subscribe("a", collect(got := []))
    flushed(nats, run)
    handler = raising(KeyboardInterrupt(), line, 1)
    nats.publish("a", b"1")
    with pytest.raises(KeyboardInterrupt):
        run(lambda: False)
    assert handler.times == 0
    nats.publish("a", b"2")
    run(lambda: len(got) == 2)
    flushed(nats, run)
    assert got == [b"1", b"2"]
