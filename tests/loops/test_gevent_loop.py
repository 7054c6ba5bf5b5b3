"""The client on each loop of gevent, monkey-patched and not."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
from typing import Any

import pytest

LOOPS = ("libev-cext", "libev-cffi", "libuv")
PATCHES = {
    "unpatched": "",
    "early": "from gevent import monkey; monkey.patch_all()",
    "late": "import nats_ev.client, threading, socket; from gevent import monkey; monkey.patch_all()",
    "sockets": "from gevent import monkey; monkey.patch_all(thread=False)",
    "threads": "from gevent import monkey; monkey.patch_all(socket=False, dns=False)",
}
PRELUDE = """
{patch}
import gevent, signal
from gevent.event import AsyncResult, Event
from nats_ev import Nats, NotConnectedError
from nats_ev.gevent_loop import GeventLoop
nats = Nats(servers=["{url}"], loop=GeventLoop(), reconnect=True, reconnect_delay=20, no_responders=True)
"""


@pytest.fixture(params=[f"{loop} {patch}" for loop in LOOPS for patch in ("unpatched", "early")])
def kind(request: pytest.FixtureRequest) -> str:
    """A loop of gevent's, and how the program has patched."""
    return str(request.param)


def script(server: Any, code: str, kind: str = "libev-cext unpatched") -> str:
    """Output of a program of its own: gevent's hub and the tests' loops share nothing."""
    loop, patch = kind.split()
    program = PRELUDE.format(url=server.url, patch=PATCHES[patch]) + textwrap.dedent(code)
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", program],
        capture_output=True,
        text=True,
        timeout=30,
        env={**os.environ, "GEVENT_LOOP": loop},
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    return done.stdout.strip()


def test_greenlets_block_on_what_callbacks_set(server: Any, kind: str) -> None:
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
    assert script(server, code, kind) == "None False"


def test_what_a_greenlet_publishes_leaves_before_the_hub_blocks(server: Any, kind: str) -> None:
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
    assert script(server, code, kind) == "no responders\nrequest timeout"


def test_names_are_resolved_and_the_connection_comes_back(own_server: Any, kind: str) -> None:
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
    assert script(server, code.replace("{port}", str(server.port)), kind) == "back"


@pytest.mark.parametrize("patch", PATCHES)
@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
def test_it_connects_by_number_and_by_name_however_gevent_patches(
    server: Any, patch: str, host: str
) -> None:
    code = f"""
    import socket, threading
    nats.disconnect()
    up = AsyncResult()
    other = Nats(host="{host}", port={server.port}, loop=GeventLoop(), on_connect=lambda: up.set("up"),
                 on_error=lambda err: up.set(repr(err)))
    print(up.get(timeout=10))
    other.disconnect()
    """
    assert script(server, code, f"libev-cext {patch}") == "up"


@pytest.mark.parametrize("when", ["early", "after the client", "after the binding", "threads"])
def test_a_loop_of_ours_runs_and_is_interrupted_in_a_program_that_gevent_patches(
    server: Any, when: str
) -> None:
    code = f"""
    import gevent.monkey
    original = gevent.monkey.get_original
    if "{when}" == "early":
        gevent.monkey.patch_all()
    if "{when}" == "threads":
        gevent.monkey.patch_thread()
    import nats_ev.client
    if "{when}" == "after the client":
        gevent.monkey.patch_all()
    from nats_ev import Nats, pyev
    if "{when}" == "after the binding":
        gevent.monkey.patch_all()
    import os, signal, time
    loop = pyev.Loop()
    nats = Nats(host="localhost", port={server.port}, loop=loop)
    def begin():
        nats.subscribe("patched", lambda *message: (print(message[1]), loop.stop()))
        nats.publish("patched", b"x")
    nats.on_connect(begin)
    loop.start()
    def interrupt():
        original("time", "sleep")(0.2)
        os.kill(os.getpid(), signal.SIGINT)
    original("_thread", "start_new_thread")(interrupt, ())
    loop.timer(8.0, 0.0, lambda watcher, revents: None).start()
    start = time.monotonic()
    try:
        loop.start()
    except KeyboardInterrupt:
        print("interrupted" if time.monotonic() - start < 6.0 else "late")
    """
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", textwrap.dedent(code)],
        capture_output=True, text=True, timeout=30,
    )  # fmt: skip
    assert (done.stdout, done.stderr) == ("b'x'\ninterrupted\n", "")


@pytest.mark.parametrize("error", ["KeyboardInterrupt", "SystemExit"])
def test_what_ends_the_program_reaches_main_and_the_client_goes_on(
    server: Any, kind: str, error: str
) -> None:
    code = f"""
    got = []
    def on_message(subject, payload, reply, headers):
        got.append(payload)
        if payload == b"5":
            raise {error}()
    nats.subscribe("gevent.end", on_message)
    nats.batch(lambda: [nats.publish("gevent.end", b"%d" % i) for i in range(10)])
    gevent.get_hub().exception_stream = None  # gevent reports a KeyboardInterrupt there
    try:
        gevent.sleep(20)
    except {error}:
        print("raised", len(got))
    with gevent.Timeout(20):
        flushed = AsyncResult()
        nats.flush(flushed.set)
        print(flushed.get(), len(got))
        answer = AsyncResult()
        nats.subscribe("gevent.echo", lambda s, payload, reply, h: nats.publish(reply, payload))
        nats.request("gevent.echo", b"there", lambda response, err, headers: answer.set(response))
        print(answer.get())
        drained = AsyncResult()
        nats.drain(drained.set)
        print(drained.get())
    """
    assert script(server, code, kind).split("\n") == ["raised 6", "None 10", "b'there'", "None"]


def test_an_exception_in_a_callback_costs_neither_the_connection_nor_the_batch(
    server: Any, kind: str
) -> None:
    code = """
    import sys
    reported, got = [], []
    sys.excepthook = lambda kind, exc, traceback: reported.append(kind)
    def on_message(subject, payload, reply, headers):
        got.append(payload)
        raise ValueError
    nats.subscribe("gevent.raise", on_message)
    with gevent.Timeout(20):
        for _ in range(3):
            nats.publish("gevent.raise")
            flushed = AsyncResult()
            nats.flush(flushed.set)
            flushed.get()
    print(len(got), reported == [ValueError] * 3, nats.is_connected())
    """
    assert script(server, code, kind) == "3 True True"


def test_clients_of_other_loops_are_closed_though_a_hub_was_destroyed(
    server: Any, kind: str
) -> None:
    code = """
    from nats_ev import pyev
    loop = pyev.default_loop()
    ready = Event()
    nats.flush(lambda err: ready.set())
    with gevent.Timeout(20):
        ready.wait()
    up = []
    def connected():
        up.append(1)
        if len(up) == 2:
            loop.stop()
    others = [Nats(servers=["{url}"], loop=loop, on_connect=connected) for _ in range(2)]
    loop.start()
    last = Nats(servers=["{url}"], loop=GeventLoop())
    adapter = GeventLoop()
    gevent.get_hub().destroy(destroy_loop=True)
    nats.disconnect()
    for call in (lambda: nats.publish("a"), lambda: last.connect("127.0.0.1", 4222), nats.flush):
        try:
            call()
        except NotConnectedError as exc:
            print(exc)
    try:
        Nats(host="127.0.0.1", loop=adapter)
    except RuntimeError as exc:
        print(exc)
    """
    printed = script(server, code.replace("{url}", server.url), kind).splitlines()
    assert printed == ["not connected: this client's loop has been closed"] * 3 + [
        "the hub of this GeventLoop has been destroyed, and its loop, too"
    ]


def test_clients_of_a_destroyed_hub_have_ended_and_call_nobody(server: Any, kind: str) -> None:
    code = """
    import gc, weakref
    up, seen = Event(), []
    count = lambda: len(os.listdir("/proc/self/fd"))
    nats.on_disconnect(lambda: seen.append("disconnected"))
    nats.flush(lambda err: up.set())
    up.wait(20)
    nats.request("nobody", b"", lambda *answer: seen.append(answer))
    waiting = Nats(host="127.0.0.1", port=1, reconnect=True, on_error=print, loop=GeventLoop())
    before = count()
    hub = gevent.get_hub()
    gevent.sleep(0)
    hub.destroy(destroy_loop=True)
    print(count() < before, nats.status().name, waiting.status().name, seen)
    gone = [weakref.ref(nats), weakref.ref(waiting)]
    del nats, waiting
    gc.collect()
    print([ref() for ref in gone])
    again = Nats(host="127.0.0.1", port=PORT, loop=GeventLoop())
    up = Event()
    again.flush(lambda err: up.set())
    print(up.wait(20), gevent.get_hub() is not hub)
    again.disconnect()
    """
    code = f"import os; PORT = {server.port}\n" + textwrap.dedent(code)
    printed = script(server, code, kind)
    assert printed.splitlines() == ["True CLOSED CLOSED []", "[None, None]", "True True"]


def test_a_reset_is_noticed_though_it_comes_with_the_last_bytes(
    server: Any, fake: Any, kind: str
) -> None:
    """libuv stops watching a descriptor with an error; one read would then be the last one."""

    def reset(peer: Any) -> None:
        peer.handshake()
        peer.until("PUB begin 0")
        peer.send("INFO {]\r\n")
        peer.reset()

    other = fake(reset)
    code = f"""
    lost = AsyncResult()
    one = Nats(host="127.0.0.1", port={other.port}, loop=GeventLoop(), reconnect=False)
    one.on_error(lambda err: None)
    one.on_disconnect(lambda: lost.set("lost"))
    one.publish("begin")
    print(lost.get(timeout=10))
    nats.disconnect()
    """
    assert script(server, code, kind) == "lost"


def test_each_thread_has_its_hub_and_its_clients_and_a_hub_may_be_destroyed_meanwhile(
    server: Any, kind: str
) -> None:
    code = f"""
    import os, time
    from gevent import monkey
    start = monkey.get_original("_thread", "start_new_thread")
    counts, ended, begun = [], [], []
    def talk(number):
        got, done = [], AsyncResult()
        def on_message(subject, payload, reply, headers):
            got.append(payload)
            if len(got) == 600:
                done.set()
        clients = [
            Nats(host="127.0.0.1", port={server.port}, loop=GeventLoop(), connect_timeout=20000)
            for _ in range(3)
        ]
        for client in clients:
            client.subscribe(f"hubs.{{number}}", on_message)
            flushed = AsyncResult()
            client.flush(flushed.set)
            flushed.get(timeout=10)
        for i in range(200):
            clients[0].publish(f"hubs.{{number}}", b"%d" % i)
            if i % 50 == 0:
                gevent.sleep(0)
        done.get(timeout=10)
        counts.append(len(got))
        if number % 2:
            gevent.get_hub().destroy(destroy_loop=True)
        for client in clients:
            client.disconnect()
    def work(number):
        gevent.get_hub()
        begun.append(number)
        try:
            talk(number)
        finally:
            ended.append(number)
    for number in range(4):  # hubs that are made at once can lock up in gevent
        start(work, (number,))
        while len(begun) <= number:
            gevent.sleep(0.001)
    talk(100)
    with gevent.Timeout(20):
        while len(ended) < 4:
            gevent.sleep(0.01)
    done = AsyncResult()
    nats.flush(done.set)
    print(counts, sorted(ended), done.get(timeout=10))
    nats.disconnect()
    """
    assert script(server, code, kind) == "[600, 600, 600, 600, 600] [0, 1, 2, 3] None"


def test_the_default_loops_of_gevent_and_of_libev_live_in_one_process(
    server: Any, kind: str
) -> None:
    code = f"""
    from nats_ev import pyev
    loop, got = pyev.default_loop(), []
    ours = Nats(host="localhost", port={server.port}, loop=loop)
    def on_message(subject, payload, reply, headers):
        got.append(payload)
        loop.stop()
    ours.subscribe("both", on_message)
    ours.flush(lambda err: loop.stop())
    loop.start()
    heard = Event()
    nats.subscribe("both", lambda *message: heard.set())
    for number in range(3):
        heard.clear()
        done = AsyncResult()
        nats.publish("both", b"%d" % number)
        nats.flush(done.set)
        done.get(timeout=10)
        heard.wait(10)
        assert len(got) == number, "the hub has run the other loop"
        loop.start()
        ours.publish("other", b"")
    ours.disconnect()
    loop.start()
    done = AsyncResult()
    nats.flush(done.set)
    print(got, done.get(timeout=10))
    nats.disconnect()
    """
    assert script(server, code, kind) == "[b'0', b'1', b'2'] None"


def test_another_thread_is_refused_and_a_greenlet_is_not(server: Any, kind: str) -> None:
    code = """
    def work():
        try:
            nats.subscribe("gevent.thread", print)
        except RuntimeError as exc:
            return type(exc).__name__
    print(gevent.get_hub().threadpool.spawn(work).get(), gevent.spawn(work).get())
    nats.disconnect()
    """
    assert script(server, code, kind) == "RuntimeError None"


def test_the_child_of_a_fork_goes_on_with_its_hub_and_the_parent_with_its_client(
    server: Any, kind: str
) -> None:
    code = f"""
    import os, sys
    up = Event()
    nats.on_connect(up.set)
    up.wait()
    pid = gevent.os.fork()
    if not pid:
        try:
            nats.publish("child")
        except ConnectionError as exc:
            print(type(exc).__name__)
        up.clear()
        own = Nats(host="127.0.0.1", port={server.port}, loop=GeventLoop(), on_connect=up.set)
        print(up.wait(10), flush=True)
        own.disconnect()
        os._exit(0)
    print(gevent.os.waitpid(pid, 0)[1])
    done = AsyncResult()
    nats.flush(done.set)
    print(done.get(timeout=10))
    nats.disconnect()
    """
    assert script(server, code, kind).split() == ["NotConnectedError", "True", "0", "None"]
