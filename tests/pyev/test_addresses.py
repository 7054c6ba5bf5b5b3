"""Loops by their address: a host's loop is driven and never destroyed, and ours can be given away."""

from __future__ import annotations

import subprocess
import sys
import textwrap

import pytest

from nats_ev import pyev

PRELUDE = """
import gc, os, signal, sys, threading
from ctypes import CDLL, c_int, c_uint, c_void_p
from ctypes.util import find_library
from nats_ev import Nats, pyev
libev = CDLL(find_library("ev"))
libev.ev_loop_new.restype = libev.ev_default_loop.restype = c_void_p
libev.ev_loop_new.argtypes = libev.ev_default_loop.argtypes = [c_uint]
libev.ev_run.argtypes = [c_void_p, c_int]
libev.ev_loop_destroy.argtypes = libev.ev_verify.argtypes = [c_void_p]
host = libev.ev_loop_new(0)
loop = pyev.Loop.from_address(host)
"""


def program(code: str, *args: str) -> str:
    """Return what a program prints; the program must succeed and say nothing on stderr."""
    done = subprocess.run(
        [sys.executable, "-c", PRELUDE + textwrap.dedent(code), *args],
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout.strip()


def test_a_hosts_loop_is_run_by_the_host_or_by_us_and_outlives_our_object() -> None:
    code = """
    order = []
    loop.timer(0.0, 0.0, lambda w, r: order.append("host")).start()
    libev.ev_run(host, 0)
    loop.timer(0.0, 0.0, lambda w, r: order.append("start")).start()
    print(loop.start(), loop.address == host, loop.default, "borrowed" in repr(loop))
    again = pyev.Loop.from_address(host)
    again.timer(0.0, 0.0, lambda w, r: order.append("again")).start()
    loop.timer(60.0, 0.0, print).start()
    del loop, again
    gc.collect()
    libev.ev_verify(host)
    last = pyev.Loop.from_address(host)
    last.timer(0.0, 0.0, lambda w, r: order.append("last")).start()
    libev.ev_run(host, 0)
    del last
    gc.collect()
    libev.ev_loop_destroy(host)
    print(order)
    """
    assert program(code) == "False True False True\n['host', 'start', 'last']"


def test_the_default_loop_has_an_address_too() -> None:
    code = """
    default = pyev.default_loop()
    other = pyev.Loop.from_address(default.address)
    print(other.default, default.address == libev.ev_default_loop(0))
    got = []
    watcher = other.signal(signal.SIGUSR1, lambda w, r: got.append(r))
    watcher.start()
    second = default.signal(signal.SIGUSR1, lambda w, r: got.append(r))
    second.start()
    os.kill(os.getpid(), signal.SIGUSR1)
    default.start(pyev.EVRUN_ONCE)
    print(got == [pyev.EV_SIGNAL] * 2)
    """
    assert program(code) == "True True\nTrue"


def test_a_borrowed_loop_takes_no_callback_and_bad_addresses_are_refused() -> None:
    own = pyev.Loop()
    loop = pyev.Loop.from_address(own.address)
    with pytest.raises(pyev.Error, match="borrowed"):
        loop.callback = print
    for wrong in (0, -1, 1 << 64):
        with pytest.raises(ValueError):
            pyev.Loop.from_address(wrong)
    with pytest.raises(TypeError):
        pyev.Loop.from_address("loop")  # type: ignore[arg-type]


def test_a_loop_that_another_binding_has_claimed_is_not_started() -> None:
    code = """
    libev.ev_set_userdata.argtypes = [c_void_p, c_void_p]
    libev.ev_set_userdata(host, 1)
    try:
        loop.start()
    except pyev.Error as exc:
        print(exc)
    """
    expected = "the loop at that address belongs to another binding in this process: start it there"
    assert program(code) == expected


def test_a_client_on_a_hosts_loop_loses_nothing_in_a_storm_of_interrupts(server) -> None:
    # With Python's own handler KeyboardInterrupt strikes inside the client: the host, not our `start`,
    # runs the loop. So the guide says to watch SIGINT.
    code = """
    import time
    TOTAL = 20000
    got, interrupts = [], []
    nats = Nats(servers=[sys.argv[1]], loop=loop)
    def on_message(subject, payload, reply, headers):
        got.append(int(payload))
        if len(got) == TOTAL:
            stop.append(1)
            thread.join()
            watcher.stop()
            nats.drain()
    watcher = loop.signal(signal.SIGINT, lambda w, r: interrupts.append(r))
    watcher.start()
    nats.subscribe("storm", on_message)
    sent, stop = [0], []
    def publish(w, r):
        for number in range(sent[0], min(sent[0] + 500, TOTAL)):
            nats.publish("storm", b"%d" % number)
        sent[0] += 500
        if sent[0] >= TOTAL:
            w.stop()
    loop.timer(0.0, 0.001, publish).start()
    def blow():
        while not stop:
            os.kill(os.getpid(), signal.SIGINT)
            time.sleep(0.0005)
    thread = threading.Thread(target=blow)
    def begin(w, r):
        thread.start()
    loop.timer(0.0, 0.0, begin).start()
    libev.ev_run(host, 0)
    print(got == list(range(TOTAL)), len(interrupts) > 10)
    """
    assert program(code, server.url) == "True True"
