"""Threads: a client belongs to the one that runs its loop, and says so to the others."""

from __future__ import annotations

import threading
from typing import Any

import pytest

from lab import inside
from nats_ev import BadSubjectError, Nats, NatsError, pyev


def in_thread(body: Any) -> None:
    """Run body in another thread, to its end; what it raises is raised here."""
    raised: list[BaseException] = []

    def work() -> None:
        try:
            body()
        except BaseException as exc:
            raised.append(exc)

    thread = threading.Thread(target=work)
    thread.start()
    thread.join(20)
    assert not thread.is_alive()
    if raised:
        raise raised[0]


def test_calls_from_another_thread_than_the_loops_are_clear_errors(connected, server, run):
    nats, done = connected(server), []
    sid = nats.subscribe("a", print)
    nats.flush(done.append)
    run(lambda: done)
    calls = (
        lambda: nats.subscribe("b", print), lambda: nats.unsubscribe(sid), nats.flush, nats.ping,
        nats.drain, nats.disconnect, nats.force_reconnect, lambda: nats.rtt(print),
        lambda: nats.publish("x"), lambda: nats.hpublish("x", {}),
        nats.pause_reading, nats.resume_reading, lambda: nats.set_server_pool(["nats://127.0.0.1:1"]),
        lambda: nats.call_soon(print), lambda: nats.call_later(0, print), lambda: nats.cancel_request(1),
        lambda: nats.call_later(0, print, ended=print), lambda: nats.report(NatsError("x")),
        lambda: nats.pause(sid), lambda: nats.resume(sid), lambda: nats.drain_subscription(sid, print),
        nats.skip_waiting, lambda: nats.reconnect(False), lambda: nats.ping_interval(1),
        lambda: nats.on_error(print), lambda: nats.request_many("x", b"", print),
    )  # fmt: skip

    def body() -> None:
        for call in calls:
            with pytest.raises(RuntimeError, match="another thread"):
                call()
            inside.drop_unsent(nats)  # so that the next one is the first of its turn, too

    nats.call_soon(lambda: (in_thread(body), done.append(True)))
    run(lambda: done == [None, True])
    assert nats.is_connected()
    assert nats.subscription_count() == 1
    assert nats.status() == "CONNECTED"


def test_a_client_may_be_made_in_one_thread_and_run_in_another(server):
    loop, got = pyev.Loop(), []
    nats = Nats(loop=loop, host=server.host, port=server.port)
    nats.subscribe("a", lambda s, payload, *rest: (got.append(payload), nats.drain()))
    nats.publish("a", b"x")
    in_thread(loop.start)
    assert got == [b"x"]
    nats.connect(server.host, server.port)
    nats.subscribe("a", lambda s, payload, *rest: (got.append(payload), nats.disconnect()))
    nats.publish("a", b"y")
    loop.start()
    assert got == [b"x", b"y"]


def test_other_threads_reach_the_client_by_an_async_watcher(connected, server, run, loop):
    nats, got, orders = connected(server), [], []
    nats.subscribe("a", lambda s, payload, *rest: got.append(int(payload)))

    def obey(watcher: Any, revents: int) -> None:
        while orders:
            nats.publish("a", orders.pop(0))

    watcher = getattr(loop, "async")(obey)
    watcher.start()

    def work() -> None:
        for n in range(100):
            orders.append(b"%d" % n)
            watcher.send()

    thread = threading.Thread(target=work)
    thread.start()
    run(lambda: len(got) == 100)
    thread.join()
    watcher.stop()
    assert got == list(range(100))


def test_clients_of_several_threads_subscribe_at_once_without_a_connection() -> None:
    """Each check of a SUB is a pure function: clients that are made in many threads share nothing."""
    failed: list[BaseException] = []
    begin = threading.Barrier(4)

    def subscribe(number: int) -> None:
        nats = Nats(loop=pyev.Loop())
        begin.wait(10)
        try:
            for sid in range(1, 2001):
                subject = "s" * (number + 1) * 300 + f".{sid}"
                assert nats.subscribe(subject, print, "q" * number) == sid
                with pytest.raises(BadSubjectError):
                    nats.subscribe("s" * 5000, print)
        except BaseException as exc:
            failed.append(exc)

    threads = [threading.Thread(target=subscribe, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert not failed
