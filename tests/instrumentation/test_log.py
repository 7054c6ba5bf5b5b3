"""What is logged of a client's life, at which level, and that logging is never loaded for that."""

from __future__ import annotations

import io
import json
import logging
import re
import signal
import sys
from collections.abc import Iterator
from typing import Any

import pytest

from lab.natsserver import Cluster
from lab.process import run_whole
from lab.steps import collect, flushed
from nats_ev import (
    ConnectError,
    ConnectionClosedError,
    ConnectionLostError,
    PermissionsViolationError,
)
from nats_ev.instrumentation import complain
from nats_ev.testing import free_port

FAST = {"reconnect": True, "reconnect_delay": 5, "max_reconnect_attempts": 0}


@pytest.fixture
def log(caplog: pytest.LogCaptureFixture) -> Iterator[Any]:
    """log(level): the messages of the logger nats_ev with that level, so far."""
    caplog.set_level(logging.DEBUG, "nats_ev")

    def messages(level: str = "") -> list[str]:
        return [
            record.getMessage()
            for record in caplog.records
            if record.name == "nats_ev" and level in ("", record.levelname)
        ]

    return messages


def has(messages: list[str], pattern: str) -> bool:
    return any(re.search(pattern, message) for message in messages)


def test_a_connection_a_loss_and_a_reconnect_are_told_with_server_reason_and_counts(
    own_server, client, run, log
):
    server = own_server()
    nats = client(server, **FAST)
    for i in range(3):
        nats.subscribe(f"a.{i}", collect([]))
    run(nats.is_connected)
    address = re.escape(f"{server.host}:{server.port}")
    assert has(log("INFO"), rf"^connected to nats://{address} \({address}, server .*, version \d")
    assert has(log("DEBUG"), rf"^connecting to nats://{address} \(attempt 1\)")
    server.stop()
    run(
        lambda: has(
            log("WARNING"), "^attempt 1 at .* failed: .*refused; next attempt: .* in \\d+ ms"
        )
    )
    assert has(log("WARNING"), rf"^lost the connection to nats://{address}: ")
    run(lambda: has(log("INFO"), "^attempt 2 at .* failed"))
    server.start()
    run(lambda: nats.recorder.count("reconnect"))
    assert has(
        log("INFO"), r"^reconnected to .* after \d+\.\d s and \d+ attempts; resubscribed: 3$"
    )
    nats.drain()
    run(lambda: nats.recorder.count("disconnect") == 2)
    assert log("INFO")[-1] == f"drained, and left nats://{server.host}:{server.port}"


def test_a_client_that_gives_up_says_so_as_an_error(client, run, log):
    port = free_port()
    nats = client(None, host="127.0.0.1", port=port, **FAST | {"max_reconnect_attempts": 2})
    run(lambda: nats.status().name == "CLOSED")
    assert has(log("ERROR"), "^attempt 3 at .* failed: .*; no other attempt$")
    assert has(log("ERROR"), "^gave up: .*max reconnect attempts reached")
    assert isinstance(nats.last_error().__cause__, ConnectError)


def test_errors_of_the_server_lame_duck_and_discovered_servers_are_told(
    own_server, connected, run, log
):
    config = 'authorization { users = [{user: u, password: p, permissions: {publish: ["ok"]}}] }'
    server = own_server(config=config)
    nats = connected(server, user="u", password="p", **FAST)
    nats.publish("no")
    run(lambda: nats.recorder.errors)
    assert has(log("WARNING"), "Permissions Violation")
    nats.publish("no")
    run(lambda: len(nats.recorder.errors) == 2)
    assert len([line for line in log("WARNING") if "Permissions Violation" in line]) == 1
    assert isinstance(nats.last_error(), PermissionsViolationError)
    server.signal(signal.SIGUSR2)
    run(lambda: nats.recorder.count("lame_duck"))
    assert has(log("WARNING"), "lame duck")
    assert nats.server_pool()[0]["lame_duck"]


@pytest.mark.server
def test_servers_that_a_cluster_names_are_told(client, run, log):
    with Cluster(2) as (first, _):
        nats = client(first)
        run(lambda: nats.is_connected() and has(log("INFO"), "^discovered: nats://"))
        assert [s["discovered"] for s in nats.server_pool() if not s["connected"]] == [True]


def test_slow_subscriptions_and_a_server_that_does_not_read_have_a_beginning_and_an_end(
    server, proxy, connected, run, log
):
    between = proxy(server.port)
    nats = connected(between, slow_consumer_bytes=100_000)
    sid = nats.subscribe("s", collect(got := []))
    nats.pause(sid)
    nats.set_pending_limits(sid, 4)
    for _ in range(10):
        nats.publish("s", b"x")
    flushed(nats, run)
    assert has(log("WARNING"), "^slow consumer: s has 4 pending messages and discards more$")
    nats.resume(sid)
    run(lambda: len(got) == 4)
    assert has(log("INFO"), r"^slow consumer: s has caught up \(6 messages discarded in all\)$")
    between.stall()
    for _ in range(20):
        nats.publish("elsewhere", bytes(500_000))
    run(
        lambda: has(
            log("WARNING"), "^slow consumer: the server does not read, \\d+ bytes are unsent$"
        )
    )
    assert nats.stats()["bytes_waiting"] > 100_000
    between.resume()
    run(lambda: has(log("INFO"), "^slow consumer: the server reads again, after"))
    stats = nats.stats()
    assert stats["slow_episodes"] == 2
    flushed(nats, run)
    assert nats.stats()["bytes_waiting"] == 0
    nats.reset_stats()
    assert nats.stats()["slow_episodes"] == 0


def test_the_reason_of_each_end_of_a_connection_can_be_asked_for(own_server, proxy, connected, run):
    server = own_server()
    between = proxy(server.port)
    seen: list[Any] = []
    nats = connected(between, on_disconnect=lambda: seen.append(nats.disconnect_reason()), **FAST)
    assert nats.disconnect_reason() is None
    between.cut()
    run(lambda: nats.recorder.count("reconnect") == 1)
    nats.force_reconnect()
    run(lambda: nats.recorder.count("reconnect") == 2)
    nats.disconnect()
    run(lambda: len(seen) == 3)
    assert [type(reason) for reason in seen] == [
        ConnectionLostError, ConnectionClosedError, ConnectionClosedError,
    ]  # fmt: skip
    assert "force_reconnect" in str(seen[1])
    assert str(seen[2]) == "disconnected"


def test_rtt_and_outstanding_pings_are_counted(server, connected, run):
    nats = connected(server)
    assert nats.stats()["rtt"] == 0
    nats.flush()
    nats.ping()
    assert nats.stats()["pings_outstanding"] == 2
    run(lambda: nats.stats()["pings_outstanding"] == 0)
    assert 0 < nats.stats()["rtt"] < 10_000


def test_the_pool_shows_what_has_become_of_each_server(own_server, client, run):
    server, port = own_server(), free_port()
    urls = [f"nats://127.0.0.1:{port}", f"nats://u:s3cret@127.0.0.1:{server.port}"]
    nats = client(None, servers=urls, randomize_servers=False, **FAST)
    run(nats.is_connected)
    by_url = {entry["url"]: entry for entry in nats.server_pool()}
    good, bad = by_url[f"nats://127.0.0.1:{server.port}"], by_url[urls[0]]
    assert (good["connected"], good["attempts"], good["last_error"]) == (True, 0, None)
    assert (bad["connected"], bad["attempts"]) == (False, 1)
    assert isinstance(bad["last_error"], ConnectError)
    assert "s3cret" not in str(nats.server_pool())


# A program without logging.

PROGRAM = """
import sys
from nats_ev import Nats, pyev
{prepare}
nats = Nats(host="127.0.0.1", port={port}, on_error=lambda err: None)
pyev.default_loop().start()
{end}
"""


def outcome(prepare: str, end: str) -> Any:
    program = PROGRAM.format(prepare=prepare, end=end, port=free_port())
    result = run_whole([sys.executable, "-c", program], 60)
    assert result.returncode == 0, result.stderr
    return json.loads(result.stdout), result.stderr


def test_a_program_that_sets_up_no_logging_sees_no_events():
    end = "print(int('logging' in sys.modules))"
    assert outcome("", "print(0)") == (0, "")
    assert outcome("import logging", end) == (1, "")
    show = "print(len(logging.getLogger('nats_ev').handlers))"
    assert outcome("import logging", show) == (1, "")
    assert "refused" in outcome("import logging; logging.basicConfig()", "print(0)")[1]


def test_what_nobody_else_reports_goes_to_stderr_when_no_logging_is_set_up(monkeypatch):
    stream = io.StringIO()
    monkeypatch.setattr(logging, "lastResort", logging.StreamHandler(stream))
    root = logging.getLogger()
    monkeypatch.setattr(root, "handlers", [])
    complain(logging.ERROR, "so %s", "what")
    assert stream.getvalue() == "so what\n"
    other = io.StringIO()
    monkeypatch.setattr(root, "handlers", [logging.StreamHandler(other)])
    complain(logging.ERROR, "once")
    assert (stream.getvalue(), other.getvalue()) == ("so what\n", "once\n")


class ToNats(logging.Handler):
    """Publishes what is logged, with the client that logs it."""

    def __init__(self) -> None:
        super().__init__()
        self.nats: Any = None
        self.sent = 0

    def emit(self, record: logging.LogRecord) -> None:
        if self.nats is not None:
            self.sent += 1
            self.nats.publish("logs", record.getMessage())


def test_a_handler_may_publish_the_log_by_the_client_that_logs(own_server, client, run, caplog):
    caplog.set_level(logging.DEBUG, "nats_ev")
    server, handler = own_server(), ToNats()
    logger = logging.getLogger("nats_ev")
    logger.addHandler(handler)
    try:
        nats = client(server, **FAST)
        handler.nats = nats
        other = client(server, **FAST)
        other.subscribe("logs", collect(got := []))
        run(lambda: nats.is_connected() and other.is_connected())
        flushed(other, run)
        nats.force_reconnect()
        run(lambda: any(b"reconnected to" in line for line in got))
        server.stop()
        run(lambda: not nats.is_connected())
        server.start()
        run(lambda: nats.is_connected() and other.is_connected())
        flushed(nats, run)
        stats = nats.stats()
        assert stats["accepted"] == stats["written"] + stats["waiting"] + stats["discarded"]
        assert stats["accepted"] == handler.sent
    finally:
        handler.nats = None
        logger.removeHandler(handler)


def test_what_a_server_says_cannot_break_a_line_of_the_log(fake, client, run, log):
    def script(peer: Any) -> None:
        peer.send_info(server_name="evil\nINFO fake line\x1b[2J")
        peer.until("PING")
        peer.send(b"-ERR 'odd \xff \x1b[2J \x07 text'\r\nPONG\r\n")
        peer.at_eof()

    nats = client(fake(script))
    run(nats.is_connected)
    run(lambda: nats.recorder.errors)
    assert has(log("INFO"), r"server evil\\nINFO fake line\\x1b\[2J")
    (line,) = [line for line in log("WARNING") if "odd" in line]
    assert line.isprintable()
    assert "\\udcff" in line


def test_what_a_server_says_forges_no_record_and_breaks_no_handler(fake, connected, run, log):
    def script(peer: Any) -> None:
        peer.handshake()
        peer.send(b"-ERR 'odd \xff\x1b[31m\r'\r\n")
        peer.at_eof()

    nats = connected(fake(script))
    run(lambda: has(log("WARNING"), "odd"))
    (told,) = (message for message in log("WARNING") if "odd" in message)
    assert r"odd \udcff\x1b[31m" in told
    assert told.isprintable()
    nats.disconnect()
