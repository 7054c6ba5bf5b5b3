"""The client on gevent's libev loop."""

from __future__ import annotations

import subprocess
import sys
import textwrap
from typing import Any

PRELUDE = """
import gevent, signal
from gevent.event import AsyncResult, Event
from nats_ev import Nats
from nats_ev.gevent_loop import GeventLoop
nats = Nats(servers=["{url}"], loop=GeventLoop(), reconnect=True, reconnect_delay=20, no_responders=True)
"""


def script(server: Any, code: str) -> str:
    """Output of a program of its own: gevent's hub and the tests' loops share nothing."""
    program = PRELUDE.format(url=server.url) + textwrap.dedent(code)
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", program],
        capture_output=True,
        text=True,
        timeout=30,
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    return done.stdout.strip()


def test_greenlets_block_on_what_callbacks_set(server: Any) -> None:
    code = """
    def serve(subject, payload, reply, headers):
        gevent.spawn(lambda: (gevent.sleep(0.01), nats.publish(reply, payload.upper())))
    nats.subscribe("gevent.upper", serve)
    def ask(text):
        result = AsyncResult()
        nats.request("gevent.upper", text, lambda response, err, headers: result.set((response, err)))
        return result.get(timeout=10)
    with gevent.Timeout(20):
        jobs = [gevent.spawn(ask, b"a%d" % i) for i in range(50)]
        gevent.joinall(jobs)
        assert [job.value for job in jobs] == [(b"A%d" % i, None) for i in range(50)]
        drained = AsyncResult()
        nats.drain(drained.set)
        print(drained.get(timeout=10), nats.is_connected())
    """
    assert script(server, code) == "None False"


def test_what_a_greenlet_publishes_leaves_before_the_hub_blocks(server: Any) -> None:
    code = """
    got = Event()
    nats.subscribe("gevent.one", lambda *message: got.set())
    ready = Event()
    nats.flush(lambda err: ready.set())
    with gevent.Timeout(20):
        ready.wait()
        for _ in range(20):
            got.clear()
            nats.publish("gevent.one")
            assert got.wait(5)
        late = AsyncResult()
        nats.request("gevent.silent", b"", lambda response, err, headers: late.set(str(err)), 30)
        print(late.get(timeout=5))
        nats.subscribe("gevent.silent", lambda *message: None)
        late = AsyncResult()
        nats.request("gevent.silent", b"", lambda response, err, headers: late.set(str(err)), 30)
        print(late.get(timeout=5))
    """
    assert script(server, code) == "no responders\nrequest timeout"


def test_names_are_resolved_and_the_connection_comes_back(own_server: Any) -> None:
    server = own_server()
    code = """
    nats.disconnect()
    seen = []
    connected = Event()
    nats.on_connect(connected.set)
    nats.on_error(lambda err: seen.append(str(err)))
    nats.connect("localhost", int("{port}"))
    with gevent.Timeout(20):
        connected.wait()
        connected.clear()
        got = Event()
        nats.subscribe("gevent.again", lambda *message: got.set())
        nats.force_reconnect()
        nats.publish("gevent.again")
        connected.wait()
        assert got.wait(5)
    nats.disconnect()
    print("back")
    """
    assert script(server, code.replace("{port}", str(server.port))) == "back"
