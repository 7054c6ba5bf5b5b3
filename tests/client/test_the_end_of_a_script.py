"""An error that ends the client for good, and for which nobody has set on_error, comes out of `start`."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import pytest

from lab.process import run_whole
from lab.steps import ignore
from nats_ev import Nats, pyev
from nats_ev.errors import (
    AuthorizationError,
    ConnectError,
    ConnectTimeoutError,
    NoServersError,
    ProtocolError,
)
from nats_ev.testing import free_port

SCRIPT = """
from nats_ev import Nats, pyev
nats = Nats(host="127.0.0.1", port={port}, {options})
pyev.default_loop().start()
print("not reached")
"""


def script(port: int, options: str) -> subprocess.CompletedProcess[str]:
    return run_whole([sys.executable, "-c", SCRIPT.format(port=port, options=options)], timeout=20)


@pytest.mark.parametrize(
    ("options", "last"),
    [
        ("", "ConnectError: "),
        ("reconnect=True, reconnect_delay=1, max_reconnect_attempts=2", "NoServersError: "),
    ],
)
def test_a_script_that_can_not_connect_ends_with_a_traceback_and_a_status(options, last):
    port = free_port()
    ended = script(port, options)
    assert (ended.returncode, ended.stdout) == (1, "")
    assert last in ended.stderr.splitlines()[-1]


def test_a_script_that_the_server_refuses_ends_with_a_status(own_server):
    server = own_server(config='authorization { user: "u", password: "p" }')
    ended = script(server.port, "user='u', password='wrong'")
    assert (ended.returncode, ended.stdout) == (1, "")
    assert "Authorization Violation" in ended.stderr


def test_with_on_error_start_returns_as_before(loop, client):
    errors: list[Any] = []
    nats = Nats(loop=loop, host="127.0.0.1", port=free_port(), on_error=errors.append)
    loop.start()
    assert [type(error) for error in errors] == [ConnectError]
    assert not nats.is_connected()


def test_the_state_is_settled_and_the_next_start_goes_on(loop, connected, run, server):
    other, got = connected(server), []
    nats = Nats(loop=loop, host="127.0.0.1", port=free_port())
    disconnected: list[Any] = []
    nats.add_status_listener(disconnected.append)
    nats.publish("a", b"kept")
    with pytest.raises(ConnectError):
        loop.start()
    assert disconnected == [nats.status()]
    assert nats.status().name == "CLOSED"
    other.subscribe("a", lambda subject, payload, reply, headers: got.append(payload))
    other.publish("a", b"1")
    run(lambda: got == [b"1"])
    nats.connect("127.0.0.1", server.port)
    run(lambda: got == [b"1", b"kept"])


def test_each_of_several_clients_ends_one_start(loop):
    for _ in range(3):
        Nats(loop=loop, host="127.0.0.1", port=free_port())
    for _ in range(3):
        with pytest.raises(ConnectError):
            loop.start()
    loop.start()


def test_the_innermost_start_raises_and_who_catches_it_goes_on(loop, connected, run, server):
    outer, seen = connected(server), []

    def nested(subject: str, payload: bytes, reply: Any, headers: Any) -> None:
        Nats(loop=loop, host="127.0.0.1", port=free_port())
        try:
            loop.start()
        except ConnectError as error:
            seen.append(error)

    outer.subscribe("a", nested)
    outer.publish("a", b"")
    run(lambda: seen)
    outer.subscribe("b", lambda *message: seen.append(message))
    outer.publish("b", b"")
    run(lambda: len(seen) == 2)


def test_what_nobody_catches_in_a_callback_comes_out_of_the_outer_start_too(
    loop, connected, server
):
    outer = connected(server)

    def nested(*message: Any) -> None:
        Nats(loop=loop, host="127.0.0.1", port=free_port())
        loop.start()

    outer.subscribe("a", nested)
    outer.publish("a", b"")
    with pytest.raises(ConnectError):
        loop.start()
    assert outer.is_connected()


def test_errors_before_the_last_one_go_to_the_hook(loop, excepthook):
    Nats(
        loop=loop,
        host="127.0.0.1",
        port=free_port(),
        reconnect=True,
        reconnect_delay=1,
        max_reconnect_attempts=2,
    )
    with pytest.raises(NoServersError, match="max reconnect attempts reached"):
        loop.start()
    assert [type(error) for error in excepthook] == [ConnectError] * 3


def test_a_connection_that_breaks_without_another_attempt_ends_start(loop, fake):
    def greets(peer: Any) -> None:
        peer.handshake()
        peer.send("nonsense\r\n")
        peer.at_eof()

    Nats(loop=loop, host="127.0.0.1", port=fake(greets).port)
    with pytest.raises(ProtocolError):
        loop.start()


def test_on_error_that_is_cleared_before_its_turn(loop):
    nats = Nats(loop=loop, host="127.0.0.1", port=free_port(), on_error=ignore)
    nats.add_error_listener(lambda error: nats.on_error(None))
    with pytest.raises(ConnectError):
        loop.start()


def test_refused_and_timed_out(loop, own_server, fake):
    server = own_server(config='authorization { user: "u", password: "p" }')
    Nats(loop=loop, host="127.0.0.1", port=server.port)
    with pytest.raises(AuthorizationError):
        loop.start()

    def silent(peer: Any) -> None:
        peer.at_eof()

    Nats(loop=loop, host="127.0.0.1", port=fake(silent).port, connect_timeout=50)
    with pytest.raises(ConnectTimeoutError):
        loop.start()


def test_a_later_start_of_another_loop_is_not_concerned(loop):
    Nats(loop=loop, host="127.0.0.1", port=free_port())
    with pytest.raises(ConnectError):
        loop.start()
    pyev.Loop().start()
