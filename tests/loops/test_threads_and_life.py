"""`call_threadsafe`, `unref`, `ask` and `stop` on loops that are not ours, in programs of their own."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
from typing import Any

import pytest

GEVENT = [
    f"gevent {loop} {patch}"
    for loop in ("libev-cext", "libev-cffi", "libuv")
    for patch in ("", "patched")
]
ASYNCIO = ["asyncio", "asyncio debug", "uvloop"]

HEADER = """
{patch}
import os, signal, sys, threading, time
from nats_ev import JetStream, Nats, NotConnectedError
"""
OPTIONS = "reconnect=True, reconnect_delay=1"
ON_GEVENT = """
import gevent
from nats_ev.gevent_loop import GeventLoop
nats = Nats(servers=["{url}"], loop=GeventLoop(), {options})
def run(condition):
    with gevent.Timeout(20):
        while not condition():
            gevent.sleep(0.002)
"""
ON_ASYNCIO = """
import asyncio
from nats_ev.asyncio_loop import AsyncioLoop
loop = {new}
nats = Nats(servers=["{url}"], loop=AsyncioLoop(loop), {options})
def run(condition):
    async def wait():
        while not condition():
            await asyncio.sleep(0.002)
    loop.run_until_complete(asyncio.wait_for(wait(), 20))
"""
NEW_LOOP = {
    "asyncio": "asyncio.new_event_loop()",
    "uvloop": "__import__('uvloop').new_event_loop()",
}


def script(server: Any, kind: str, code: str) -> None:
    """Run a program on a loop of this kind; it has `nats` and `run(condition)`."""
    family, *rest = kind.split(" ")
    env, patch = dict(os.environ), ""
    if family == "gevent":
        env["GEVENT_LOOP"] = rest[0]
        patch = "from gevent import monkey; monkey.patch_all()" if rest[1] else ""
        setup = ON_GEVENT.format(url=server.url, options=OPTIONS)
    else:
        if family == "uvloop":
            pytest.importorskip("uvloop")
        if rest:
            env["PYTHONASYNCIODEBUG"] = "1"
        setup = ON_ASYNCIO.format(url=server.url, options=OPTIONS, new=NEW_LOOP[family])
    program = HEADER.format(patch=patch) + setup + textwrap.dedent(code)
    if family != "gevent":
        program += "\nloop.close()\n"
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", program],
        capture_output=True,
        text=True,
        timeout=40,
        env=env,
    )
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize("kind", GEVENT + ASYNCIO)
def test_calls_from_threads_and_signal_handlers_come_in_order_and_wake_the_loop(server, kind):
    script(
        server,
        kind,
        """
        thread = threading.Thread
        if "gevent" in sys.modules:
            import gevent.monkey
            start_new = gevent.monkey.get_original("_thread", "start_new_thread")
        else:
            import _thread
            start_new = _thread.start_new_thread
        got = []
        nats.call_threadsafe(got.append, "first")
        run(lambda: got == ["first"] and nats.is_connected())
        def work(number):
            for index in range(3000):
                nats.call_threadsafe(got.append, (number, index))
        for number in range(3):
            start_new(work, (number,))
        run(lambda: len(got) == 9001)
        for number in range(3):
            assert [item[1] for item in got[1:] if item[0] == number] == list(range(3000))
        # One at a time, so that each wakes the loop.
        def slow():
            for index in range(100):
                nats.call_threadsafe(got.append, index)
                while len(got) <= 9001 + index:
                    pass
        start_new(slow, ())
        run(lambda: len(got) == 9101)
        signal.signal(signal.SIGUSR1, lambda *_: nats.call_threadsafe(got.append, "signal"))
        start_new(os.kill, (os.getpid(), signal.SIGUSR1))
        run(lambda: got[-1] == "signal")
        nats.call_threadsafe(got.append, "last")
        nats.disconnect()
        run(lambda: got[-1] == "last")
        try:
            nats.call_threadsafe(print)
        except NotConnectedError:
            pass
        else:
            raise SystemExit("not refused")
        """,
    )


@pytest.mark.parametrize("kind", ASYNCIO)
def test_calls_are_refused_when_the_loop_has_been_closed(server, kind):
    script(
        server,
        kind,
        """
        run(nats.is_connected)
        loop.close()
        refused = []
        def work():
            try:
                nats.call_threadsafe(print)
            except NotConnectedError as exc:
                refused.append(str(exc))
        thread = threading.Thread(target=work)
        thread.start()
        thread.join()
        work()
        assert refused == ["not connected: this client's loop has been closed"] * 2, refused
        """,
    )


@pytest.mark.parametrize("kind", GEVENT)
def test_an_unreferenced_client_does_not_keep_the_hub(server, kind):
    script(
        server,
        kind,
        """
        run(nats.is_connected)
        done = []
        assert gevent.wait(timeout=0.05) is False
        nats.unref()
        nats.call_later(60_000, print)
        assert gevent.wait(timeout=5) is True
        nats.force_reconnect()
        gevent.wait(timeout=5)
        nats.flush(done.append)
        run(lambda: done)
        assert gevent.wait(timeout=5) is True
        nats.ref()
        assert gevent.wait(timeout=0.05) is False
        nats.disconnect()
        assert gevent.wait(timeout=5) is True
        """,
    )


@pytest.mark.parametrize("kind", ASYNCIO)
def test_unref_does_nothing_on_asyncio(server, kind):
    script(
        server,
        kind,
        """
        nats.unref()
        run(nats.is_connected)
        done = []
        nats.force_reconnect()
        run(nats.is_connected)
        nats.flush(done.append)
        run(lambda: done)
        nats.ref()
        nats.drain(done.append)
        run(lambda: len(done) == 2)
        run(lambda: not nats.is_connected())
        """,
    )


@pytest.mark.parametrize("kind", [GEVENT[0], GEVENT[5], *ASYNCIO])
def test_pauses_and_stops(server, kind):
    script(
        server,
        kind,
        """
        js, got, done = JetStream(nats), [], []
        name = f"LIFE{os.getpid()}"
        js.stream_create({"name": name, "subjects": [name], "storage": "memory"}, lambda *r: done.append(r))
        run(lambda: done)
        js.consumer_create(name, {"name": "c", "ack_policy": "none"}, lambda *r: done.append(r))
        for number in range(50):
            js.publish(name, str(number), lambda *r: done.append(r))
        run(lambda: len(done) == 52)
        def on_message(msg, err):
            got.append(int(msg.data))
            if len(got) % 7 == 0:
                handle.ask(7)
        handle = js.consume(name, "c", on_message)
        handle.ask(7)
        run(lambda: len(got) == 50)
        assert got == list(range(50))
        handle.stop()
        fetch = js.ordered_fetcher(name).fetch({"batch": 100, "expires": 10**10}, lambda *r: done.append(r))
        nats.call_later(50, fetch.stop)
        run(lambda: len(done) == 53)
        assert len(done[-1][0]) == 50, done[-1]
        js.stream_delete(name, lambda *r: done.append(r))
        run(lambda: len(done) == 54)
        nats.disconnect()
        """,
    )
