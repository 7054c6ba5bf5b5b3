"""`nats_ev.green`: patched programs, hubs of other threads, what else gevent brings."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import pytest

gevent = pytest.importorskip("gevent")

PATCHED = """
from gevent import monkey
monkey.patch_all()
import sys, threading, time
import gevent
from nats_ev import Nats, green

def serve(nc):
    for msg in nc.subscribe("double"):
        time.sleep(0.001)
        msg.respond(msg.payload * 2)

with green.connect(sys.argv[1], reconnect=True, reconnect_delay=1) as nc:
    server = gevent.spawn(serve, nc)
    gevent.sleep(0)
    threads = []
    answers = []
    for number in range(20):  # greenlets, in a patched program
        ask = lambda number=number: answers.append(nc.request("double", str(number)).payload)
        threads.append(threading.Thread(target=ask))
        threads[-1].start()
    for thread in threads:
        thread.join()
    print(len(answers), sum(map(int, answers)))
    nc.force_reconnect()
    print(nc.request("double", b"x", 5000).payload)
server.join()
"""


def test_a_patched_program_works_across_a_reconnect(server: Any) -> None:
    command = [sys.executable, "-c", PATCHED, server.url]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    wanted = sum(int(str(number) * 2) for number in range(20))
    assert (done.stdout, done.stderr) == (f"20 {wanted}\nb'xx'\n", "")


def test_a_call_blocks_only_its_greenlet(server: Any) -> None:
    from nats_ev import green

    ticks: list[int] = []

    def tick() -> None:
        while True:
            ticks.append(1)
            gevent.sleep(0.001)

    def program() -> None:
        with green.connect(server.url) as nc:
            sub = nc.subscribe("silent")
            ticker = gevent.spawn(tick)
            with pytest.raises(TimeoutError):
                sub.next(timeout=50)
            ticker.kill()

    gevent.spawn(program).get(timeout=20)
    assert len(ticks) > 5


def test_a_timeout_in_an_iteration_leaves_the_iterator_usable(server: Any) -> None:
    from nats_ev import green

    def program() -> None:
        with green.connect(server.url) as nc, nc.subscribe("e") as sub:
            with pytest.raises(gevent.Timeout), gevent.Timeout(0.02):
                for _ in sub:
                    pass
            nc.publish("e", b"1")
            assert next(sub).payload == b"1"
            with gevent.Timeout(0.02, False):
                next(sub)
            nc.publish("e", b"2")
            assert sub.next(timeout=5000).payload == b"2"

    gevent.spawn(program).get(timeout=20)


def test_a_client_on_a_gevent_loop_gets_its_face_by_wrap(server: Any) -> None:
    from nats_ev import Nats, green
    from nats_ev.gevent_loop import GeventLoop

    def program() -> None:
        nats = Nats(servers=[server.url], loop=GeventLoop())
        nc = green.wrap(nats)
        nc.flush()
        js = green.wrap(nc.jetstream())
        assert js.account_info()["api"] is not None
        nc.drain()

    gevent.spawn(program).get(timeout=20)


def test_each_thread_has_its_own_hub_and_clients(server: Any) -> None:
    import threading

    from nats_ev import green

    results: list[float] = []

    def program() -> None:
        with green.connect(server.url) as nc:
            results.append(nc.rtt())
        gevent.get_hub().destroy(destroy_loop=True)

    threads = [threading.Thread(target=program) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    assert len(results) == 3
