"""The client on asyncio, on asyncio in debug mode and on uvloop."""

from __future__ import annotations

import asyncio
import contextvars
import gc
import os
import shutil
import signal
import subprocess
import sys
import textwrap
import threading
import time
import weakref
from collections.abc import Callable, Coroutine, Iterator
from pathlib import Path
from typing import Any

import pytest

from lab import inside
from lab.process import descriptors
from lab.steps import ignore
from nats_ev import Nats, NotConnectedError, RequestTimeoutError, Status
from nats_ev.asyncio_loop import EV_READ, EV_WRITE, AsyncioLoop

DEADLINE = 20.0
KINDS = ("asyncio", "debug", "uvloop")
Main = Callable[[], Coroutine[Any, Any, Any]]


def new_loop(kind: str) -> asyncio.AbstractEventLoop:
    if kind == "uvloop":
        loop: asyncio.AbstractEventLoop = pytest.importorskip("uvloop").new_event_loop()
    else:
        loop = asyncio.new_event_loop()
    loop.set_debug(kind == "debug")
    return loop


@pytest.fixture(params=KINDS)
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def aloop(kind: str) -> Iterator[asyncio.AbstractEventLoop]:
    """A loop of asyncio's, closed at the end. What reaches its exception handler fails the test."""
    loop = new_loop(kind)
    reported: list[dict[str, Any]] = []
    loop.set_exception_handler(lambda loop, context: reported.append(context))
    yield loop
    loop.close()
    gc.collect()
    assert reported == []


@pytest.fixture
def run_main(aloop: asyncio.AbstractEventLoop) -> Callable[[Main], Any]:
    """run_main(main): the result of the coroutine function."""
    return lambda main: aloop.run_until_complete(asyncio.wait_for(main(), DEADLINE))


async def until(condition: Callable[[], Any]) -> None:
    """Wait until condition() is true; `run_main` bounds the time."""
    while not condition():
        await asyncio.sleep(0.002)


async def connected(server: Any, **options: Any) -> Nats:
    up = asyncio.Event()
    options.setdefault("loop", AsyncioLoop())
    nats = Nats(host=server.host, port=server.port, on_connect=up.set, **options)
    await up.wait()
    nats.on_connect(None)
    return nats


async def flushed(nats: Nats) -> None:
    done: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
    nats.flush(done.set_result)
    assert await done is None


def program(server: Any, code: str, kind: str, *, status: int = 0, stderr: str | None = "") -> str:
    """Output of a program of its own, which begins with `nats` unconnected and `new_loop`."""
    prelude = f"""
import asyncio, os, sys
from nats_ev import Nats
from nats_ev.asyncio_loop import AsyncioLoop
PORT = {server.port}
def new_loop():
    if "{kind}" == "uvloop":
        import uvloop
        loop = uvloop.new_event_loop()
    else:
        loop = asyncio.new_event_loop()
    loop.slow_callback_duration = 5.0  # this machine may be busy; more is a fault
    return loop
"""
    environ = {**os.environ, **({"PYTHONASYNCIODEBUG": "1"} if kind == "debug" else {})}
    done = subprocess.run(
        [sys.executable, "-X", "dev", "-W", "error", "-c", prelude + textwrap.dedent(code)],
        capture_output=True, text=True, timeout=30, env=environ,
    )  # fmt: skip
    assert done.returncode == status, done.stderr
    if stderr is not None:
        assert done.stderr == stderr
    return done.stdout.strip()


# A whole life.


def test_a_whole_life_from_connect_to_drain(own_server, run_main):
    server = own_server()

    async def main() -> None:
        again = asyncio.Event()
        nats = await connected(
            server, reconnect=True, reconnect_delay=10, on_reconnect=again.set, on_error=ignore
        )
        got: list[bytes] = []
        nats.subscribe("aio", lambda s, payload, r, h: got.append(payload))
        nats.subscribe("echo", lambda s, payload, reply, h: nats.publish(reply, payload.upper()))
        nats.subscribe("silent", ignore)
        for number in range(1000):
            nats.publish("aio", b"%d" % number)

        async def ask(number: int) -> Any:
            answer = asyncio.get_running_loop().create_future()
            nats.request("echo", b"a%d" % number, lambda *got: answer.set_result(got))
            return await answer

        assert await asyncio.gather(*map(ask, range(64))) == [
            (b"A%d" % number, None, None) for number in range(64)
        ]
        assert got == [b"%d" % number for number in range(1000)]
        late = asyncio.get_running_loop().create_future()
        nats.request("silent", b"", lambda r, err, h: late.set_result(err), 20)
        assert isinstance(await late, RequestTimeoutError)
        await asyncio.to_thread(server.restart)
        await again.wait()
        nats.publish("aio", b"x" * 1_000_000)
        nats.publish("aio", b"x" * 1_000_000)  # more than one early write
        await until(lambda: len(got) == 1002)
        drained = asyncio.get_running_loop().create_future()
        nats.drain(drained.set_result)
        assert await drained is None
        assert not nats.is_connected()

    run_main(main)


def test_names_are_looked_up_in_a_thread(server, run_main):
    async def main() -> None:
        up = asyncio.Event()
        nats = Nats(host="localhost", port=server.port, loop=AsyncioLoop(), on_connect=up.set)
        await up.wait()
        nats.disconnect()

    run_main(main)


def test_tls(needs_server, own_server, certs, run_main):
    from nats_ev.testing.certificates import server_config

    server = own_server(config=server_config(certs.issue("asyncio", "127.0.0.1")))

    async def main() -> None:
        nats = await connected(server, tls_ca_file=str(certs.ca.cert_file))
        got = asyncio.Event()
        nats.subscribe("tls", lambda *message: got.set())
        nats.publish("tls", b"x" * 500_000)
        await got.wait()
        nats.disconnect()

    run_main(main)


def test_libev_is_not_loaded_and_nothing_is_left_on_stderr(server, kind):
    code = """
    async def main():
        up, drained = asyncio.Event(), asyncio.get_running_loop().create_future()
        nats = Nats(host="localhost", port=PORT, loop=AsyncioLoop(), on_connect=up.set)
        await asyncio.wait_for(up.wait(), 20)
        nats.drain(drained.set_result)
        print(await asyncio.wait_for(drained, 20))
    loop = new_loop()
    loop.run_until_complete(main())
    loop.close()
    print([name for name in sys.modules if "libev" in name or "pyev" in name])
    """
    assert program(server, code, kind) == "None\n[]"


# When things are written and delivered.

WRITES = """
turns, port = 0, PORT
async def main():
    up = asyncio.Event()
    nats = Nats(host="127.0.0.1", port=port, loop=AsyncioLoop(), on_connect=up.set)
    await up.wait()
    for _ in range(25):
        for _ in range(100):
            nats.publish("traced", b"x" * 100)
        # Tasks of one iteration, and a callback of the same one.
        async def task():
            nats.publish("traced", b"x" * 100)
        asyncio.get_running_loop().call_soon(nats.publish, "traced", b"x" * 100)
        await asyncio.gather(*(task() for _ in range(399)))
        await asyncio.sleep(0.001)
    done = asyncio.get_running_loop().create_future()
    nats.flush(done.set_result)
    await done
    nats.disconnect()
loop = new_loop()
loop.run_until_complete(main())
loop.close()
"""


def test_the_kernel_sees_one_write_per_iteration(server, kind, tmp_path):
    strace = shutil.which("strace")
    if strace is None:
        pytest.skip("strace is not installed")
    trace = tmp_path / "trace"
    calls = "trace=write,writev,sendto,sendmsg"
    command = [strace, "-f", "-s", "16", "-e", calls, "-o", str(trace)]
    if subprocess.run([*command, "true"], capture_output=True).returncode:
        pytest.skip("strace may not trace here")
    source = (
        "import asyncio, uvloop\nfrom nats_ev import Nats\n"
        "from nats_ev.asyncio_loop import AsyncioLoop\n"
        f"new_loop = {'uvloop' if kind == 'uvloop' else 'asyncio'}.new_event_loop\n"
        + WRITES.replace("PORT", str(server.port))
    )
    subprocess.run([*command, sys.executable, "-c", source], check=True, timeout=60)
    lines = [line for line in trace.read_text().splitlines() if "PUB traced" in line]
    size = len("PUB traced 100\r\n\r\n" + "x" * 100)
    sent = [int(line.rpartition("= ")[2]) for line in lines]
    # The first 100 leave before the tasks run, which is an iteration later.
    assert sent == [100 * size, 400 * size] * 25


def test_what_is_published_leaves_before_the_loop_blocks(server, run_main):
    async def main() -> None:
        nats = await connected(server)
        for _ in range(50):
            got = asyncio.Event()
            sid = nats.subscribe("blocks", lambda *m, got=got: got.set())
            nats.publish("blocks")
            await asyncio.wait_for(got.wait(), 5)
            nats.unsubscribe(sid)
        nats.disconnect()

    run_main(main)


def busy(seconds: float) -> None:
    end = time.perf_counter() + seconds
    while time.perf_counter() < end:
        pass


def test_other_tasks_run_while_a_long_batch_is_delivered(server, run_main):
    """1,000 messages of 1 ms each come in one read; slices of 10 ms give way to others."""

    async def main() -> int:
        nats = await connected(server)
        beats = 0
        got: list[bytes] = []

        def on_message(subject: str, payload: bytes, reply: str, headers: bytes) -> None:
            got.append(payload)
            busy(0.001)

        async def heart() -> None:
            nonlocal beats
            while len(got) < 1000:
                beats += bool(got)
                await asyncio.sleep(0)

        nats.subscribe("long", on_message)
        await flushed(nats)
        nats.batch(lambda: [nats.publish("long", b"x") for _ in range(1000)])
        await heart()
        nats.disconnect()
        return beats

    assert run_main(main) > 50  # one per slice, but for what a busy machine takes


def test_other_tasks_run_while_many_completions_are_called(server, run_main):
    async def main() -> int:
        nats = await connected(server)
        done: list[Any] = []
        for _ in range(300):
            nats.flush(lambda err: (done.append(err), busy(0.001)))
        nats.disconnect()
        beats = 0
        while len(done) < 300:
            beats += bool(done)
            await asyncio.sleep(0)
        return beats

    assert run_main(main) > 15


# Exceptions.


@pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit])
def test_what_ends_the_program_comes_out_of_the_loop_and_the_client_goes_on(
    server, aloop, run_main, error
):
    got: list[bytes] = []

    async def begin() -> Nats:
        nats = await connected(server)

        def on_message(subject: str, payload: bytes, reply: str, headers: bytes) -> None:
            got.append(payload)
            if payload == b"5":
                raise error

        nats.subscribe("end", on_message)
        return nats

    nats = run_main(begin)
    nats.batch(lambda: [nats.publish("end", b"%d" % number) for number in range(10)])
    aloop.call_later(DEADLINE, aloop.stop)
    with pytest.raises(error):
        aloop.run_forever()
    assert got == [b"%d" % number for number in range(6)]

    async def go_on() -> None:
        await flushed(nats)
        nats.disconnect()

    run_main(go_on)
    assert got == [b"%d" % number for number in range(10)]


@pytest.mark.parametrize("completions", [False, True])
def test_what_a_callback_raises_goes_to_the_excepthook(server, run_main, excepthook, completions):
    async def main() -> None:
        nats = await connected(server)
        if completions:
            for _ in range(3):
                nats.flush(lambda err: 1 / 0)
        else:
            nats.subscribe("raise", lambda *message: 1 / 0)
            nats.batch(lambda: [nats.publish("raise") for _ in range(3)])
        await flushed(nats)
        assert nats.is_connected()
        nats.disconnect()

    run_main(main)
    assert [type(exc) for exc in excepthook] == [ZeroDivisionError] * 3


def test_debug_lets_exceptions_go_to_the_loops_handler_and_no_message_is_lost(server, kind):
    loop = new_loop(kind)
    contexts: list[dict[str, Any]] = []
    loop.set_exception_handler(lambda loop, context: contexts.append(context))
    got: list[bytes] = []

    async def main() -> None:
        adapter = AsyncioLoop()
        adapter.debug = True
        nats = await connected(server, loop=adapter)

        def on_message(subject: str, payload: bytes, reply: str, headers: bytes) -> None:
            got.append(payload)
            if payload in (b"2", b"5"):
                raise ZeroDivisionError

        nats.subscribe("debug", on_message)
        nats.batch(lambda: [nats.publish("debug", b"%d" % number) for number in range(10)])
        await flushed(nats)
        nats.disconnect()

    loop.run_until_complete(asyncio.wait_for(main(), DEADLINE))
    loop.close()
    assert got == [b"%d" % number for number in range(10)]
    assert [type(context["exception"]) for context in contexts] == [ZeroDivisionError] * 2


def test_a_cancelled_error_in_a_callback_loses_no_message(server, kind):
    """It is no Exception, and no reason for a loop to end."""
    loop = new_loop(kind)
    contexts: list[dict[str, Any]] = []
    loop.set_exception_handler(lambda loop, context: contexts.append(context))
    got: list[bytes] = []

    async def main() -> None:
        nats = await connected(server)

        def on_message(subject: str, payload: bytes, reply: str, headers: bytes) -> None:
            got.append(payload)
            raise asyncio.CancelledError

        nats.subscribe("cancelled", on_message)
        nats.batch(lambda: [nats.publish("cancelled") for _ in range(5)])
        await flushed(nats)
        nats.disconnect()

    loop.run_until_complete(asyncio.wait_for(main(), DEADLINE))
    loop.close()
    assert len(got) == 5
    assert [type(context["exception"]) for context in contexts] == [asyncio.CancelledError] * 5


def test_an_error_without_on_error_goes_to_the_loops_exception_handler(server, kind):
    loop = new_loop(kind)
    contexts: list[dict[str, Any]] = []
    loop.set_exception_handler(lambda loop, context: contexts.append(context))

    async def main() -> None:
        nats = await connected(server)
        nats.on_error(None)
        nats.subscribe("a b".replace(" ", "."), ignore)
        inside.stream_of(nats).sock.shutdown(2)
        nats.publish("x")
        nats.call_later(50, nats.disconnect)
        await until(lambda: not nats.is_connected())
        failing = Nats(host="127.0.0.1", port=1, loop=AsyncioLoop(), reconnect=False)
        await until(lambda: contexts)
        failing.disconnect()
        await asyncio.sleep(0)

    loop.run_until_complete(asyncio.wait_for(main(), DEADLINE))
    loop.close()
    assert "refused" in str(contexts[-1]["exception"])


# Threads, contexts, cancellation.


def test_another_thread_is_refused_and_a_task_is_not(server, run_main):
    async def main() -> None:
        nats = await connected(server)
        with pytest.raises(RuntimeError, match="another thread"):
            await asyncio.to_thread(nats.subscribe, "thread", ignore)
        await asyncio.create_task(flushed(nats))
        nats.disconnect()

    run_main(main)


def test_the_thread_is_none_while_no_thread_runs_the_loop(aloop):
    adapter = AsyncioLoop(aloop)
    assert adapter.thread is None
    seen: list[Any] = []

    async def look() -> None:
        seen.append(adapter.thread)
        seen.append(await asyncio.to_thread(lambda: adapter.thread))

    aloop.run_until_complete(look())
    assert seen == [threading.get_ident(), -1]
    assert adapter.thread is None


def test_a_client_made_before_the_loop_runs_in_another_thread(server, aloop):
    up, got = threading.Event(), threading.Event()
    nats = Nats(host=server.host, port=server.port, loop=AsyncioLoop(aloop), on_connect=up.set)
    nats.subscribe("early", lambda *message: got.set())
    nats.publish("early")
    thread = threading.Thread(target=aloop.run_forever)
    thread.start()
    assert up.wait(DEADLINE)
    assert got.wait(DEADLINE)
    with pytest.raises(RuntimeError, match="another thread"):
        nats.disconnect()
    aloop.call_soon_threadsafe(nats.disconnect)
    aloop.call_soon_threadsafe(aloop.stop)
    thread.join()


def test_callbacks_do_not_see_the_variables_of_the_task_that_published(server, run_main):
    variable = contextvars.ContextVar("variable", default="outside")
    seen: list[str] = []

    async def main() -> None:
        nats = await connected(server)
        nats.subscribe("context", lambda *message: seen.append(variable.get()))

        async def task() -> None:
            variable.set("inside")
            nats.publish("context")
            nats.flush(lambda err: seen.append(variable.get()))
            nats.call_later(1, lambda: seen.append(variable.get()))
            nats.call_soon(lambda: seen.append(variable.get()))
            nats.pause_reading()
            nats.resume_reading()

        await asyncio.create_task(task())
        await until(lambda: len(seen) == 4)
        nats.disconnect()

    run_main(main)
    assert seen == ["outside"] * 4


def test_cancelled_tasks_leave_the_client_as_it_was(server, run_main):
    async def main() -> None:
        nats = await connected(server)
        nats.subscribe(
            "slow", lambda s, payload, reply, h: nats.call_later(30, nats.publish, reply)
        )
        answered: list[bool] = []

        async def ask() -> Any:
            answer = asyncio.get_running_loop().create_future()

            def done(*result: Any) -> None:
                answered.append(answer.cancelled())
                if not answer.done():
                    answer.set_result(result)

            nats.request("slow", b"", done)
            return await answer

        tasks = [asyncio.create_task(ask()) for _ in range(20)]
        await asyncio.sleep(0)
        for task in tasks[::2]:
            task.cancel()
        results = await asyncio.gather(*tasks, return_exceptions=True)
        assert [isinstance(result, BaseException) for result in results] == [True, False] * 10
        await until(lambda: len(answered) == 20)
        await flushed(nats)
        nats.disconnect()

    run_main(main)


# The end of a loop.


def refuses_all(nats: Nats, server: Any) -> None:
    for call in (
        lambda: nats.publish("a"), lambda: nats.hpublish("a", {}), nats.flush, nats.ping, nats.drain,
        lambda: nats.subscribe("b", ignore), lambda: nats.connect(server.host, server.port),
        lambda: nats.request("a", b"", ignore), nats.force_reconnect,
    ):  # fmt: skip
        with pytest.raises(NotConnectedError, match="loop has been closed"):
            call()


def test_a_client_on_a_closed_loop_has_ended(server, kind):
    loop = new_loop(kind)
    seen: list[Any] = []
    loop.run_until_complete(asyncio.sleep(0))
    warm = new_loop(kind)  # what the first loop of a process opens for all
    warm.close()

    async def main() -> Nats:
        nats = await connected(server, reconnect=True, on_disconnect=lambda: seen.append(1))
        nats.request("nobody", b"", lambda *answer: seen.append(answer))
        return nats

    before = descriptors()
    nats = loop.run_until_complete(asyncio.wait_for(main(), DEADLINE))
    assert descriptors() > before
    loop.close()
    assert descriptors() < before  # the loop's own are closed, too
    assert nats.status() is Status.CLOSED
    refuses_all(nats, server)
    nats.unsubscribe(1)
    nats.disconnect()
    assert seen == []
    gone = weakref.ref(nats)
    del nats
    gc.collect()
    assert gone() is None
    with pytest.raises(RuntimeError, match="closed"):
        AsyncioLoop(loop)


@pytest.mark.parametrize("state", ["dialling", "looking up", "waiting", "reading", "writing"])
def test_in_whatever_state_a_loop_is_closed_no_descriptor_is_left(server, kind, state):
    loop = new_loop(kind)
    before = descriptors()
    options: dict[str, Any] = {"reconnect": True, "on_error": ignore, "loop": AsyncioLoop(loop)}
    if state == "dialling":
        nats = Nats(host="10.255.255.1", port=4222, **options)
    elif state == "looking up":
        nats = Nats(host="localhost", port=server.port, **options)
    else:
        nats = Nats(host=server.host, port=server.port if state != "waiting" else 1, **options)
    loop.run_until_complete(asyncio.sleep(0))
    if state in ("waiting", "reading", "writing"):
        done = (
            nats.is_connected
            if state != "waiting"
            else (lambda: nats.status() is Status.RECONNECTING)
        )
        loop.run_until_complete(asyncio.wait_for(until(done), DEADLINE))
    if state == "writing":
        nats.pause_reading()
        nats.publish("big", b"x" * 1_000_000)
        loop.call_soon(loop.stop)
        loop.run_forever()
    loop.close()
    assert descriptors() < before
    with pytest.raises(NotConnectedError):
        nats.publish("a")


def test_clients_of_asyncio_run_end_with_it(server, kind):
    code = """
    def run(main):
        loop = new_loop()
        try:
            loop.run_until_complete(main)
        finally:
            loop.run_until_complete(loop.shutdown_asyncgens())
            loop.close()
    before = len(os.listdir("/proc/self/fd"))
    clients = []
    async def main():
        up = asyncio.Event()
        clients.append(Nats(host="127.0.0.1", port=PORT, loop=AsyncioLoop(), on_connect=up.set))
        await asyncio.wait_for(up.wait(), 20)
    for _ in range(5):
        run(main())
    print([client.status().name for client in clients] == ["CLOSED"] * 5)
    import gc, weakref
    gone = [weakref.ref(client) for client in clients]
    clients.clear()
    gc.collect()
    print([ref() for ref in gone] == [None] * 5)
    print(len(os.listdir("/proc/self/fd")) - before <= 2)  # libuv's own pair
    """
    assert program(server, code, kind).split() == ["True"] * 3


def test_a_loop_that_was_stopped_goes_on_later(server, aloop, run_main):
    nats = run_main(lambda: connected(server))
    got: list[bytes] = []
    nats.subscribe("later", lambda s, payload, r, h: got.append(payload))
    nats.publish("later", b"1")
    assert got == []
    run_main(lambda: until(lambda: got))
    nats.disconnect()
    run_main(lambda: asyncio.sleep(0))


@pytest.mark.parametrize("how", ["stop", "interrupt", "exit"])
def test_a_program_may_end_with_its_clients_connected(server, kind, how):
    code = f"""
    loop = new_loop()
    up = []
    nats = Nats(host="127.0.0.1", port=PORT, loop=AsyncioLoop(loop), on_connect=loop.stop)
    loop.call_later(20, os._exit, 5)
    loop.run_forever()
    print(nats.is_connected())
    if "{how}" == "interrupt":
        import signal
        loop.call_later(0.01, os.kill, os.getpid(), signal.SIGINT)
        try:
            loop.run_forever()
        except KeyboardInterrupt:
            print("interrupted")
    elif "{how}" == "exit":
        nats.call_soon(sys.exit, 3)
        try:
            loop.run_forever()
        finally:
            loop.close()
    loop.close()
    """
    printed = program(server, code, kind, status=3 if how == "exit" else 0)
    assert printed.split() == ["True", *(["interrupted"] if how == "interrupt" else [])]


@pytest.mark.skipif(sys.version_info < (3, 11), reason="asyncio.Runner: Python 3.11")
def test_control_c_ends_asyncio_run_and_its_clients(server, kind):
    code = """
    import signal, threading, time
    async def main():
        nats = Nats(host="127.0.0.1", port=PORT, loop=AsyncioLoop())
        nats.subscribe("busy", lambda *message: nats.publish("busy", b"x" * 100))
        nats.publish("busy")
        flushed = asyncio.get_running_loop().create_future()
        nats.flush(flushed.set_result)
        await flushed
        threading.Thread(target=lambda: (time.sleep(0.1), os.kill(os.getpid(), signal.SIGINT))).start()
        try:
            await asyncio.sleep(20)
        finally:
            drained = asyncio.get_running_loop().create_future()
            nats.drain(drained.set_result)
            print(await drained)
    try:
        with asyncio.Runner(loop_factory=new_loop) as runner:
            runner.run(main())
    except KeyboardInterrupt:
        print("interrupted")
    """
    assert program(server, code, kind).split() == ["None", "interrupted"]


def test_a_loop_that_never_ran_is_closed(server, kind):
    before = descriptors()
    loop = new_loop(kind)
    nats = Nats(host="127.0.0.1", port=server.port, loop=AsyncioLoop(loop))
    nats.publish("never")
    loop.close()
    assert nats.status() is Status.CLOSED
    assert descriptors() <= before + 2  # what libuv opens for a process


def test_two_loops_in_two_threads(server, kind):
    results: list[Any] = []

    async def main(number: int) -> None:
        nats = await connected(server)
        answer = asyncio.get_running_loop().create_future()
        nats.subscribe(f"two.{number}", lambda s, payload, reply, h: nats.publish(reply, payload))
        nats.request(f"two.{number}", b"%d" % number, lambda r, err, h: answer.set_result(r))
        results.append(await answer)
        nats.disconnect()

    def work(number: int) -> None:
        loop = new_loop(kind)
        loop.run_until_complete(asyncio.wait_for(main(number), DEADLINE))
        loop.close()

    threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(results) == [b"0", b"1", b"2", b"3"]


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind != "uvloop"])
def test_a_program_that_cancels_all_timers_is_still_told_of_the_end(server, kind):
    """Those of uvloop cannot be listed."""
    loop = new_loop(kind)

    async def main() -> Nats:
        nats = await connected(server)
        for handle in list(loop._scheduled):  # type: ignore[attr-defined]
            handle.cancel()
            handle._args = handle._callback = None
        del handle
        await asyncio.sleep(0.01)
        return nats

    nats = loop.run_until_complete(main())
    loop.close()
    assert nats.status() is Status.CLOSED


# Forks.


def test_the_child_of_a_fork_has_no_part_in_the_parents_connection(server, kind):
    code = """
    async def main(nats=None):
        up = asyncio.Event()
        nats = Nats(host="127.0.0.1", port=PORT, loop=AsyncioLoop(), on_connect=up.set)
        await up.wait()
        got = []
        nats.subscribe("fork.aio", lambda s, payload, r, h: got.append(payload))
        done = asyncio.get_running_loop().create_future()
        nats.flush(done.set_result)
        await done
        nats.publish("fork.unsent")
        pid = os.fork()
        if not pid:
            try:
                nats.publish("child")
            except ConnectionError as exc:
                print(type(exc).__name__, flush=True)
            nats.disconnect()
            own = new_loop()
            own.run_until_complete(asyncio.wait_for(child(), 20))
            own.close()
            os._exit(0)
        while not os.waitpid(pid, os.WNOHANG)[0]:
            await asyncio.sleep(0.01)
        while not got:
            await asyncio.sleep(0.01)
        done = asyncio.get_running_loop().create_future()
        nats.drain(done.set_result)
        print(got, await done)

    async def child():
        up = asyncio.Event()
        mine = Nats(host="127.0.0.1", port=PORT, loop=AsyncioLoop(), on_connect=up.set)
        await up.wait()
        mine.publish("fork.aio", b"from the child")
        done = asyncio.get_running_loop().create_future()
        mine.drain(done.set_result)
        await done

    loop = new_loop()
    loop.run_until_complete(asyncio.wait_for(main(), 25))
    loop.close()
    """
    printed = program(server, code, kind)
    assert printed.split("\n") == ["NotConnectedError", "[b'from the child'] None"]


def test_a_child_that_exits_out_of_a_callback_leaves_the_parents_client_alone(server, kind):
    code = """
    loop = new_loop()
    pids = []
    def fork(*message):
        pid = os.fork()
        if not pid:
            sys.exit(0)
        pids.append(pid)
    async def main():
        nats = Nats(host="127.0.0.1", port=PORT, loop=AsyncioLoop())
        for subscribe in (lambda: nats.subscribe("exits", fork), lambda: nats.call_soon(fork)):
            sid = subscribe()
            nats.publish("exits")
            while not pids:
                await asyncio.sleep(0.001)
            if sid:
                nats.unsubscribe(sid)
            pid = pids.pop()
            while not (ended := os.waitpid(pid, os.WNOHANG))[0]:
                await asyncio.sleep(0.001)
            assert ended[1] == 0
        drained = asyncio.get_running_loop().create_future()
        nats.drain(drained.set_result)
        print(await drained)
    try:
        loop.run_until_complete(asyncio.wait_for(main(), 20))
    finally:
        loop.close()
    """
    assert program(server, code, kind, stderr=None) == "None"


# Watchers.


def test_reader_and_writer_of_one_descriptor(aloop):
    import socket

    ours, theirs = socket.socketpair()
    adapter = AsyncioLoop(aloop)
    seen: list[tuple[str, int]] = []

    def note(name: str) -> Callable[[Any, int], None]:
        return lambda watcher, revents: (seen.append((name, revents)), watcher.stop())  # type: ignore[func-returns-value]

    reader = adapter.io(ours.fileno(), EV_READ, note("reader"))
    writer = adapter.io(ours.fileno(), EV_WRITE, note("writer"))
    reader.start()
    writer.start()
    theirs.send(b"x")
    aloop.run_until_complete(asyncio.wait_for(until(lambda: len(seen) == 2), DEADLINE))
    assert sorted(seen) == [("reader", EV_READ), ("writer", EV_WRITE)]
    assert not reader.active
    assert not writer.active
    both = adapter.io(
        ours.fileno(), EV_READ | EV_WRITE, lambda watcher, revents: seen.append(("both", revents))
    )
    both.start()
    both.start()
    aloop.run_until_complete(asyncio.wait_for(until(lambda: len(seen) >= 4), DEADLINE))
    both.stop()
    assert {revents for name, revents in seen if name == "both"} == {EV_READ, EV_WRITE}
    ours.close()
    theirs.close()


def test_a_descriptors_number_is_used_again_while_the_loop_runs(aloop):
    import socket

    adapter = AsyncioLoop(aloop)
    got: list[int] = []
    for number in range(100):
        ours, theirs = socket.socketpair()

        def on_read(watcher: Any, revents: int, ours: Any = ours, number: int = number) -> None:
            got.append(number)
            assert ours.recv(10)
            watcher.stop()

        watcher = adapter.io(ours.fileno(), EV_READ, on_read)
        watcher.start()
        theirs.send(b"x")
        if number % 2:
            watcher.stop()
        else:
            expected = number
            aloop.run_until_complete(
                asyncio.wait_for(until(lambda: got[-1:] == [expected]), DEADLINE)  # noqa: B023
            )
        ours.close()
        theirs.close()
    assert got == list(range(0, 100, 2))


def test_a_file_is_refused_at_the_start(aloop, tmp_path: Path):
    with (tmp_path / "file").open("wb") as file:
        watcher = AsyncioLoop(aloop).io(file.fileno(), EV_WRITE, ignore)
        with pytest.raises(PermissionError):
            watcher.start()
        assert not watcher.active
        watcher.stop()


def test_what_is_no_loop_of_asyncio_is_refused():
    with pytest.raises(TypeError, match="must be a loop of asyncio"):
        AsyncioLoop(5)  # type: ignore[arg-type]
    with pytest.raises(RuntimeError, match="no running event loop"):
        AsyncioLoop()
    loop = asyncio.new_event_loop()
    with pytest.raises(TypeError, match="AsyncioLoop is the adapter"):
        Nats(loop=loop)
    loop.close()


def test_signal_handlers_may_send(aloop):
    adapter = AsyncioLoop(aloop)
    called: list[int] = []
    watcher = getattr(adapter, "async")(
        lambda watcher, revents: (called.append(revents), aloop.stop())
    )
    watcher.start()
    before = signal.signal(signal.SIGALRM, lambda *args: watcher.send())
    try:
        signal.setitimer(signal.ITIMER_REAL, 0.05)
        aloop.call_later(DEADLINE, aloop.stop)
        aloop.run_forever()
    finally:
        signal.signal(signal.SIGALRM, before)
    assert called == [0x80000]
    watcher.stop()
    watcher.send()


def test_many_clients_leave_no_timer_and_no_callback_in_the_loop(server, aloop, run_main):
    async def main() -> None:
        for _ in range(5):
            (await connected(server)).disconnect()
        await asyncio.sleep(0.01)

    run_main(main)
    gc.collect()
    before = len(gc.get_objects())
    for _ in range(4):
        run_main(main)
    gc.collect()
    assert len(gc.get_objects()) - before < 40
