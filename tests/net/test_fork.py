"""A fork: the child has no part in its parent's connections, and is told so clearly."""

from __future__ import annotations

import gc
import os
import socket
import subprocess
import sys
import textwrap
import threading
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from lab import inside
from lab.steps import flushed, ignore
from nats_ev import Nats, NotConnectedError, pyev
from nats_ev.net import dial

TESTS = Path(__file__).resolve().parents[1]


def in_child(body: Callable[[], Any]) -> None:
    """Run body in a child process; its exception fails the test."""
    reader, writer = os.pipe()
    pid = os.fork()
    if not pid:
        status = 1
        try:
            body()
            gc.collect()
            status = 0
        except BaseException:
            os.write(writer, traceback.format_exc().encode()[-4000:])
        finally:
            os._exit(status)
    os.close(writer)
    with os.fdopen(reader) as pipe:
        text = pipe.read()
    _, status = os.waitpid(pid, 0)
    assert status == 0, text


def test_every_use_in_the_child_is_a_clear_error(connected, server, run):
    nats = connected(server)
    sid = nats.subscribe("a", print)

    def child() -> None:
        for call in (
            lambda: nats.publish("a"), lambda: nats.hpublish("a", {}), nats.flush, nats.ping,
            nats.drain, lambda: nats.subscribe("b", print), nats.connect,
            lambda: nats.request("a", b"", print), nats.force_reconnect,
        ):  # fmt: skip
            with pytest.raises(NotConnectedError, match="fork"):
                call()
        assert not nats.is_connected()
        nats.unsubscribe(sid)
        nats.disconnect()

    in_child(child)
    flushed(nats, run)


def test_the_child_sends_nothing_and_reads_nothing_of_the_parents(fake, client, run):
    def script(peer: Any) -> None:
        peer.handshake()
        peer.until("PUB queued 0")
        peer.send("MSG in 1 1\r\n1\r\n")
        assert peer.until("PUB last 0") == ["PUB last 0"]  # nothing doubled, nothing else
        assert peer.at_eof()

    nats, got = client(fake(script)), []
    nats.subscribe("in", lambda s, p, r, h: got.append(p))
    run(nats.is_connected)
    nats.publish("queued")

    def child() -> None:
        loop = inside.loop_of(nats)
        loop.reset()  # what a child that goes on with the loop has to do
        timer = loop.timer(0.05, 0.0, lambda w, r: loop.stop())
        timer.start()
        loop.start()
        nats.disconnect()
        loop.start(pyev.EVRUN_NOWAIT)
        assert got == []

    in_child(child)
    run(lambda: got == [b"1"])
    nats.publish("last")
    nats.flush()
    run(lambda: nats.stats()["waiting"] == 0)
    nats.disconnect()


def test_the_child_may_have_a_client_of_its_own(connected, server, run):
    nats, got = connected(server), []
    nats.subscribe("from.child", lambda s, p, r, h: got.append(p))
    flushed(nats, run)

    def child() -> None:
        loop = pyev.Loop()
        mine = Nats(loop=loop, host=server.host, port=server.port)
        mine.publish("from.child", b"hello")
        mine.drain()
        loop.start()

    in_child(child)
    run(lambda: got == [b"hello"])
    assert nats.recorder.events == ["connect"]


def test_a_fork_while_connecting_leaves_the_attempt_to_the_parent(client, server, run):
    nats = client(server)

    def child() -> None:
        with pytest.raises(NotConnectedError):
            nats.publish("a")

    in_child(child)
    run(nats.is_connected)


def test_nothing_that_the_parent_has_put_off_is_done_in_the_child(own_server, connected, run):
    server = own_server()
    nats, fired = connected(server, reconnect=True, reconnect_delay=30), []
    loop = inside.loop_of(nats)
    server.kill()
    run(lambda: "disconnect" in nats.recorder.events)
    server.start()
    nats.call_later(20, fired.append, "call_later")
    nats.request("a", b"", lambda *answer: fired.append("request"), 20)
    nats.call_soon(fired.append, "call_soon")
    child = os.fork()
    if not child:
        wake = loop.timer(0.3, 0.0, lambda *args: loop.stop())
        wake.start()
        loop.start()
        os._exit(len(fired) + 8 * nats.is_connected())
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    run(lambda: len(fired) == 3 and nats.is_connected())


def many_time_outs(nats: Nats, callback: Callable[..., Any]) -> None:
    nats.subscribe("silent", ignore)
    for _ in range(5):
        nats.request("silent", b"", callback, 10)


def many_deadlines(nats: Nats, callback: Callable[..., Any]) -> None:
    for _ in range(5):
        nats.call_later(10, callback)


def many_failures(nats: Nats, callback: Callable[..., Any]) -> None:
    nats.subscribe("silent", ignore)
    for _ in range(5):
        nats.request("silent", b"", callback)
    nats.disconnect()


def many_calls(nats: Nats, callback: Callable[..., Any]) -> None:
    for _ in range(5):
        nats.call_soon(callback)


def many_flushes(nats: Nats, callback: Callable[..., Any]) -> None:
    for _ in range(5):
        nats.flush(callback)


def many_messages(nats: Nats, callback: Callable[..., Any]) -> None:
    nats.subscribe("a", callback)
    for _ in range(5):
        nats.publish("a")


def many_kept_messages(nats: Nats, callback: Callable[..., Any]) -> None:
    sid = nats.subscribe("a", callback)
    nats.pause(sid)
    for _ in range(5):
        nats.publish("a")
    nats.flush(lambda err: nats.resume(sid))


def many_answers(nats: Nats, callback: Callable[..., Any]) -> None:
    nats.subscribe("a", lambda subject, payload, reply, headers: nats.publish(reply or ""))
    for _ in range(5):
        nats.request("a", b"", callback)


def several_answers(nats: Nats, callback: Callable[..., Any]) -> None:
    for _ in range(4):
        nats.subscribe("a", lambda subject, payload, reply, headers: nats.publish(reply or ""))
    nats.request_many("a", b"", callback, max_msgs=4)


@pytest.mark.parametrize(
    "begin",
    [
        many_time_outs, many_deadlines, many_failures, many_calls, many_flushes, many_messages,
        many_kept_messages, many_answers, several_answers,
    ],
)  # fmt: skip
@pytest.mark.parametrize("at", [1, 3])
def test_after_a_fork_in_a_callback_the_parent_alone_goes_on(connected, server, run, begin, at):
    nats, calls, children = connected(server), [], []
    loop = inside.loop_of(nats)

    def callback(*args: Any) -> None:
        calls.append(args)
        if children == [0]:
            os._exit(7)  # a call in the child
        if len(calls) == at:
            children.append(os.fork())
            if children == [0]:  # goes on with the loop, for a while
                wake = loop.timer(0.2, 0.0, lambda *args: os._exit(0))
                wake.start()
                calls.append(wake)

    begin(nats, callback)
    run(lambda: len(calls) == 5)
    assert os.waitstatus_to_exitcode(os.waitpid(children[0], 0)[1]) == 0


def ends_by_itself(loop: pyev.Loop) -> None:
    """In a child: a loop on which nothing of the child's own is active ends, and reports nothing."""
    hook, seen = sys.excepthook, []
    sys.excepthook = lambda kind, exc, tb: seen.append(exc)
    loop.reset()
    guard = loop.timer(5.0, 0.0, lambda watcher, revents: (seen.append("late"), loop.stop()))
    guard.start()
    loop.unref()
    loop.start()
    sys.excepthook = hook
    assert seen == []


def test_a_fork_while_a_socket_is_being_connected_leaves_nothing_on_the_childs_loop(client, run):
    with socket.socket() as full:
        full.bind(("127.0.0.1", 0))
        full.listen(0)
        port = full.getsockname()[1]
        waiting = [socket.socket() for _ in range(4)]  # the backlog takes no more
        for sock in waiting:
            sock.setblocking(False)
            sock.connect_ex(("127.0.0.1", port))
        nats = client(host="127.0.0.1", port=port, connect_timeout=0)
        run(lambda: inside.is_dialling(nats))
        in_child(lambda: ends_by_itself(inside.loop_of(nats)))
        assert inside.is_dialling(nats)
        for sock in waiting:
            sock.close()


def test_a_fork_while_a_name_is_looked_up_leaves_nothing_on_the_childs_loop(
    client, run, monkeypatch
):
    answer = threading.Event()

    def slow(host: str, port: int, **options: Any) -> list[Any]:
        if "flags" not in options:  # not the question whether the host is a number
            answer.wait(20)
        raise socket.gaierror(socket.EAI_NONAME, "no such name")

    monkeypatch.setattr(dial, "getaddrinfo", slow)
    nats = client(host="slow.example", connect_timeout=0)
    run(lambda: inside.is_dialling(nats))
    in_child(lambda: ends_by_itself(inside.loop_of(nats)))
    assert inside.is_dialling(nats)
    answer.set()
    run(lambda: nats.recorder.errors)


@pytest.mark.server
def test_a_child_without_a_free_descriptor_has_no_part_in_any_connection_either() -> None:
    code = """
    import os, resource
    from lab.natsserver import NatsServer
    from lab.steps import run_until
    from nats_ev import Nats, pyev
    loop = pyev.Loop()
    with NatsServer() as server:
        clients = [Nats(host=server.host, port=server.port, loop=loop) for _ in range(3)]
        run_until(loop, lambda: all(nats.is_connected() for nats in clients))
        highest = max(map(int, os.listdir("/proc/self/fd")))
        most = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
        resource.setrlimit(resource.RLIMIT_NOFILE, (highest + 20, most))
        taken = []
        try:
            while True:
                taken.append(os.dup(0))
        except OSError:
            pass
        pid = os.fork()
        if not pid:
            print([nats.status().value for nats in clients], flush=True)
            os._exit(0)
        os.waitpid(pid, 0)
        for fd in taken:
            os.close(fd)
        for nats in clients:
            nats.disconnect()
        loop.start(pyev.EVRUN_NOWAIT)
    """
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", textwrap.dedent(code)],
        capture_output=True, text=True, timeout=60, env={**os.environ, "PYTHONPATH": str(TESTS)},
    )  # fmt: skip
    assert (done.stdout, done.stderr) == ("['CLOSED', 'CLOSED', 'CLOSED']\n", "")
