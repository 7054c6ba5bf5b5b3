"""`nats_ev.blocking`: Ctrl-C, calls within callbacks, notebooks, threads, a loop in a thread."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import threading
import time
from typing import Any

import pytest

from nats_ev import (
    AlreadyConnectedError,
    BadOptionsError,
    ConnectError,
    ConnectionClosedError,
    MsgIteratorClosedError,
    Nats,
    NotConnectedError,
    RequestTimeoutError,
    Status,
    aio,
    blocking,
    pyev,
)
from nats_ev.faces.on_pyev import InThread
from nats_ev.testing import free_port

WAITS = {
    "a request": "nc.request('deaf', b'', 0)",
    "an iteration": "[None for _ in nc.subscribe('silent')]",
    "next": "nc.subscribe('silent').next()",
    "a connect": "blocking.connect('nats://127.0.0.1:1', reconnect=True, max_reconnect_attempts=0)",
}


@pytest.mark.parametrize("background", [False, True])
@pytest.mark.parametrize("call", WAITS.values(), ids=WAITS.keys())
def test_ctrl_c_ends_a_call_at_once(server: Any, call: str, background: bool) -> None:
    program = f"""
import sys, time
from nats_ev import Status, blocking
try:
    with blocking.connect({server.url!r}, background={background}) as nc:
        nc.nats.subscribe("deaf", lambda *message: None) if not {background} else None
        deaf = nc.subscribe("deaf")
        print("ready", flush=True)
        {call}
except KeyboardInterrupt:
    print("interrupted", nc.status().value)
"""
    command = [sys.executable, "-W", "error", "-c", program]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as run:
        assert run.stdout is not None
        assert run.stdout.readline() == "ready\n"
        time.sleep(
            0.05
        )  # more than the call needs to begin; it works too when that has not happened
        begun = time.monotonic()
        run.send_signal(signal.SIGINT)
        output, errors = run.communicate(timeout=20)
        assert time.monotonic() - begun < 10
    assert (output, errors, run.returncode) == ("interrupted CLOSED\n", "", 0)


def test_a_client_goes_on_after_ctrl_c(server: Any) -> None:
    with blocking.connect(server.url) as nc:
        sub = nc.subscribe("e")
        timer = threading.Timer(0.05, os.kill, (os.getpid(), signal.SIGINT))
        timer.start()
        with pytest.raises(KeyboardInterrupt):
            sub.next()
        timer.join()
        nc.publish("e", b"1")
        assert sub.next(timeout=5000).payload == b"1"


@pytest.mark.parametrize("more", [{}, {"host": None, "path": None}], ids=repr)
def test_the_default_is_this_machine_at_the_port_that_is_given(server: Any, more: Any) -> None:
    with blocking.connect(port=server.port, **more) as nc:
        assert nc.connected_url() == f"nats://127.0.0.1:{server.port}"

    async def connect() -> None:
        async with aio.connect(port=server.port, **more) as nc:
            assert nc.connected_url() == f"nats://127.0.0.1:{server.port}"

    asyncio.run(asyncio.wait_for(connect(), 20))


def test_calls_may_be_made_within_callbacks(server: Any) -> None:
    with blocking.connect(server.url) as nc:
        nc.nats.subscribe("inner", lambda s, payload, reply, h: nc.publish(reply, b"inner"))

        def outer(subject: str, payload: bytes, reply: str, headers: bytes | None) -> None:
            nc.publish(reply, nc.request("inner", b"").payload + b" in outer")

        nc.nats.subscribe("outer", outer)
        assert nc.request("outer", b"").payload == b"inner in outer"

        def both(subject: str, payload: bytes, reply: str, headers: bytes | None) -> None:
            nc.publish(reply, b"first")  # the outer call is done before the inner one
            nc.flush()
            nc.flush()

        nc.nats.subscribe("both", both)
        assert nc.request("both", b"", 5000).payload == b"first"


def test_a_notebook_may_call_inside_a_running_asyncio_loop(server: Any) -> None:
    async def cell() -> None:
        with blocking.connect(server.url) as nc:
            sub = nc.subscribe("e")
            nc.publish("e", b"1")
            assert next(sub).payload == b"1"
            await asyncio.sleep(0)
            assert nc.request("$SYS.REQ.USER.INFO", b"").payload

    asyncio.run(cell())


def test_another_thread_may_use_the_client_between_calls(server: Any) -> None:
    with blocking.connect(server.url) as nc:
        results: list[float] = []
        thread = threading.Thread(target=lambda: results.append(nc.rtt()))
        thread.start()
        thread.join()
        assert len(results) == 1
        assert nc.rtt() > 0


def test_a_call_on_a_client_that_has_ended_does_not_hang(server: Any) -> None:
    nc = blocking.connect(server.url)
    sub = nc.subscribe("e")
    nc.disconnect()
    with pytest.raises(ConnectionClosedError):
        sub.next()
    late = nc.subscribe("late")
    with pytest.raises(ConnectionClosedError, match="disconnected"):
        late.next()
    with pytest.raises(NotConnectedError):
        nc.jetstream().account_info()


def test_a_client_can_be_connected_again(server: Any) -> None:
    nc = blocking.connect(server.url)
    with pytest.raises(AlreadyConnectedError):
        nc.connect()
    nc.disconnect()
    nc.connect("127.0.0.1", server.port)
    nc.flush()
    sub = nc.subscribe("e")
    nc.publish("e")
    assert sub.next(5000).subject == "e"
    nc.drain()


def test_wrap_takes_the_loop_of_a_client(server: Any) -> None:
    loop = pyev.Loop()
    nats = Nats(servers=[server.url], loop=loop)
    nc = blocking.wrap(nats, loop)
    nc.flush()
    assert nc.is_connected()
    assert blocking.wrap(nats) == nc
    nc.drain()


def test_a_client_has_one_face(server: Any) -> None:
    green = pytest.importorskip("nats_ev.green")
    with (
        blocking.connect(server.url) as nc,
        pytest.raises(BadOptionsError, match="blocking already"),
    ):
        green.wrap(nc.nats)


def test_background_receives_and_answers_between_calls(fake: Any) -> None:
    pongs: list[bytes] = []

    def script(peer: Any) -> None:
        peer.handshake()
        peer.send("PING\r\n")
        pongs.append(peer.line())
        peer.at_eof()

    nc = blocking.connect(f"nats://127.0.0.1:{fake(script).port}", background=True)
    deadline = time.monotonic() + 10
    while not pongs:
        assert time.monotonic() < deadline
        time.sleep(0.005)
    nc.disconnect()


def test_background_raises_why_it_could_not_connect_however_fast_that_was(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    port = free_port()
    begun = InThread.start

    def start(context: InThread) -> None:
        """Return when the client has given up already."""
        begun(context)
        deadline = time.monotonic() + 20
        while context.nats.status() is not Status.CLOSED:
            assert time.monotonic() < deadline
            time.sleep(0.001)

    monkeypatch.setattr(InThread, "start", start)
    for _ in range(20):  # the thread is about to end, or has ended
        with pytest.raises(ConnectError, match="Connection refused"):
            blocking.connect(f"nats://127.0.0.1:{port}", background=True)


def test_background_serves_any_number_of_threads(server: Any) -> None:
    with blocking.connect(server.url, background=True) as nc:
        answered: list[bytes] = []

        def serve() -> None:
            for msg in nc.subscribe("svc"):
                msg.respond(msg.payload.upper())
                answered.append(msg.payload)

        def ask(name: str) -> None:
            for number in range(50):
                text = f"{name}{number}"
                assert nc.request("svc", text, 10_000).payload == text.upper().encode()

        server_thread = threading.Thread(target=serve)
        server_thread.start()
        while not nc.subscription_count():
            time.sleep(0.001)
        askers = [threading.Thread(target=ask, args=(name,)) for name in "abcd"]
        for thread in askers:
            thread.start()
        for thread in askers:
            thread.join()
        deadline = time.monotonic() + 10
        while (
            len(answered) < 200 and time.monotonic() < deadline
        ):  # the last one is noted after its answer
            time.sleep(0.001)
        assert len(answered) == 200
        with pytest.raises(RequestTimeoutError):
            nc.subscribe("silent").next(timeout=10)
    server_thread.join(10)
    assert not server_thread.is_alive()
    assert nc.status() is Status.CLOSED
    with pytest.raises(NotConnectedError):
        nc.flush()
    with pytest.raises(MsgIteratorClosedError):
        sub = nc.subscribe("e")
        sub.close()
        sub.next()


def test_background_acknowledges_from_another_thread(server: Any) -> None:
    with blocking.connect(server.url, background=True) as nc:
        js = nc.jetstream()
        js.stream_create({"name": "bg", "subjects": ["bg.>"], "storage": "memory"})
        js.consumer_create("bg", {"durable_name": "c", "ack_policy": "explicit"})
        js.publish("bg.1", b"1")
        laters = [js.publish_async("bg.1", str(number)) for number in range(20)]
        assert [later.result(5000)["seq"] for later in laters] == list(range(2, 22))
        with js.consume("bg", "c") as messages:
            for _ in range(20):
                msg = messages.next(5000)
                msg.ack()
            assert messages.next(5000).ack_sync() is True
        assert js.consumer_info("bg", "c")["num_ack_pending"] == 0
        js.stream_delete("bg")


def test_a_program_that_forgets_its_background_client_ends(server: Any) -> None:
    program = f"""
from nats_ev import blocking
nc = blocking.connect({server.url!r}, background=True)
sub = nc.subscribe("e")
print("end")
"""
    command = [sys.executable, "-X", "dev", "-W", "error", "-c", program]
    done = subprocess.run(command, capture_output=True, text=True, timeout=30)
    assert (done.stdout, done.stderr, done.returncode) == ("end\n", "", 0)
