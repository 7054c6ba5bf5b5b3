"""The watchers of `GeventLoop`, in programs of their own: gevent's hub and the tests' loops share nothing."""

from __future__ import annotations

import subprocess
import sys
import textwrap

import pytest

pytest.importorskip("gevent", reason="gevent is not installed")

PRELUDE = """
import gevent
from gevent.event import Event
from nats_ev import pyev
from nats_ev.gevent_loop import GeventLoop
loop = GeventLoop()
"""


def program(code: str) -> str:
    """Return what a program prints; it must succeed and say nothing on stderr."""
    command = [sys.executable, "-W", "error", "-c", PRELUDE + textwrap.dedent(code)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout.strip()


def test_each_kind_of_watcher_calls_back_with_itself_its_events_and_its_data():
    code = """
    seen = {}
    def note(watcher, revents):
        seen[watcher.data] = (type(revents), watcher.active)
        watcher.stop()
        if len(seen) == 4:
            done.set()
    done = Event()
    kinds = [loop.prepare(note, "prepare"), loop.check(note, "check"), loop.idle(note, "idle"),
             loop.timer(0.0, 0.0, note, "timer")]
    for watcher in kinds:
        watcher.start()
        watcher.start()
        assert watcher.active
    done.wait(10)
    assert not any(watcher.active or watcher.pending for watcher in kinds)
    print(sorted(seen))
    """
    assert program(code) == "['check', 'idle', 'prepare', 'timer']"


def test_a_timer_can_be_set_again_and_another_thread_can_wake_the_loop():
    code = """
    import threading
    order = []
    done = Event()
    def fired(watcher, revents):
        order.append("timer")
        watcher.stop()
        threading.Thread(target=wake.send).start()
    def woken(watcher, revents):
        order.append("woken")
        watcher.stop()
        done.set()
    wake = loop.async_(woken)
    wake.start()
    timer = loop.timer(60.0, 0.0, fired)
    timer.set(0.0, 0.0)
    timer.start()
    assert done.wait(10)
    print(order)
    """
    assert program(code) == "['timer', 'woken']"


def test_the_time_of_the_loop_is_unix_time():
    code = """
    import time
    loop.update()
    print(abs(loop.now() - time.time()) < 5)
    """
    assert program(code) == "True"


def test_a_hub_can_be_named_and_what_is_no_hub_is_refused():
    code = """
    class Other:
        loop = object()
    GeventLoop(gevent.get_hub())
    try:
        GeventLoop(Other())
    except TypeError as exc:
        print(str(exc)[:20])
    """
    assert program(code) == "hub must be a gevent"
