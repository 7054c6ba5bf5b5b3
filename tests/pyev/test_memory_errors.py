"""A lack of memory in the binding itself: MemoryError comes out of `start`, and no event is lost."""

from __future__ import annotations

import subprocess
import sys

import pytest

from lab.process import unmeasured

pytest.importorskip("_testcapi", reason="this Python cannot simulate a lack of memory")

PROGRAM = """
import signal, sys
import _testcapi
from nats_ev import pyev
FLAGS = {flags}
wrong, struck = [], 0
sys.unraisablehook = lambda args: None  # cffi prints what it cannot pass on
for first in range(100):
    for last in (first + 1, first + 2):
        loop = pyev.Loop()
        got, reported = [], []
        sys.excepthook = lambda kind, exc, traceback: reported.append(kind)
        def note(watcher, revents):
            got.append(watcher.data)
        timers = [loop.timer(0.0, 0.0, note, number) for number in range(3)]
        for timer in timers:
            timer.start()
        fed = loop.prepare(note, 3)
        fed.feed(pyev.EV_CUSTOM)
        raised = None
        _testcapi.set_nomemory(first, last)
        try:
            loop.start(FLAGS)
        except BaseException as exc:
            _testcapi.remove_mem_hooks()
            raised = exc
        _testcapi.remove_mem_hooks()
        struck += raised is not None
        loop.start(pyev.EVRUN_NOWAIT)
        whole = sorted(got) == [0, 1, 2, 3] or (MemoryError in reported and len(got) < 4)
        if not (raised is None or isinstance(raised, MemoryError)) or not whole:
            wrong.append((first, last, repr(raised), got, reported))
        if signal.getsignal(signal.SIGINT) is not signal.default_int_handler:
            wrong.append((first, last, "Ctrl-C is deferred"))
print(struck > 4, wrong)
"""


@pytest.mark.parametrize("flags", ["pyev.EVRUN_NOWAIT", "0"])
def test_no_memory_is_a_memory_error_and_every_event_is_delivered_once(flags: str) -> None:
    result = subprocess.run(
        [sys.executable, "-c", PROGRAM.format(flags=flags)],
        capture_output=True,
        text=True,
        timeout=100,
        env=unmeasured(),
    )
    assert (result.returncode, result.stdout) == (0, "True []\n"), result.stderr
