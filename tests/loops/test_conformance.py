"""Every loop that is shipped keeps the promises of `nats_ev.loops`; so does what is like a genuine pyev."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import textwrap
from typing import Any

import pytest

from lab.paths import ROOT
from lab.strict_loop import strict
from nats_ev import pyev
from nats_ev.asyncio_loop import AsyncioLoop
from nats_ev.testing.loop_conformance import LoopConformance


@pytest.mark.usefixtures("excepthook")
class TestOurs(LoopConformance):
    def make(self) -> Any:
        return pyev.Loop()

    def run(self, loop: Any, seconds: float) -> None:
        timer = loop.timer(seconds, 0.0, lambda watcher, revents: self.stop(loop))
        timer.start()
        try:
            loop.start()
        finally:
            timer.stop()

    def run_until_idle(self, loop: Any, seconds: float) -> bool:
        late: list[int] = []

        def stop(watcher: Any, revents: int) -> None:
            late.append(1)
            loop.stop()

        timer = loop.timer(seconds, seconds, stop)
        timer.start()
        loop.unref()
        loop.start()
        loop.ref()
        timer.stop()
        return not late

    def stop(self, loop: Any) -> None:
        loop.stop()


class TestPositionalOnly(TestOurs):
    """A loop with the methods that a client uses and no others, called by position."""

    def make(self) -> Any:
        self.native = pyev.Loop()
        return strict(self.native)

    def run(self, loop: Any, seconds: float) -> None:
        super().run(self.native, seconds)

    def stop(self, loop: Any) -> None:
        self.native.stop()


class TestAsyncio(LoopConformance):
    def new(self) -> asyncio.AbstractEventLoop:
        return asyncio.new_event_loop()

    def make(self) -> Any:
        loop = self.new()
        loop.set_exception_handler(lambda loop, context: None)
        return AsyncioLoop(loop)

    def run(self, loop: Any, seconds: float) -> None:
        handle = loop.loop.call_later(seconds, loop.loop.stop)
        try:
            loop.loop.run_forever()
        finally:
            handle.cancel()

    def stop(self, loop: Any) -> None:
        loop.loop.stop()

    def close(self, loop: Any) -> None:
        loop.loop.close()


class TestAsyncioDebug(TestAsyncio):
    def new(self) -> asyncio.AbstractEventLoop:
        loop = super().new()
        loop.set_debug(True)
        return loop


class TestUvloop(TestAsyncio):
    def new(self) -> asyncio.AbstractEventLoop:
        loop: asyncio.AbstractEventLoop = pytest.importorskip("uvloop").new_event_loop()
        return loop


@pytest.mark.usefixtures("excepthook")
class TestTheDocumentedAdapter(LoopConformance):
    def make(self) -> Any:
        text = (ROOT / "docs/loops.md").read_text()
        code = next(block for block in text.split("```python\n") if "class SelectorsLoop" in block)
        names: dict[str, Any] = {"__name__": "documented"}
        exec(code.partition("```")[0], names)
        return names["SelectorsLoop"]()

    def run(self, loop: Any, seconds: float) -> None:
        loop.run(seconds)

    def stop(self, loop: Any) -> None:
        loop.stop()

    def close(self, loop: Any) -> None:
        loop.close()


GEVENT = """
{patch}
import os
import gevent, gevent.event
from nats_ev.gevent_loop import GeventLoop
from nats_ev.testing.loop_case import LoopCase, Thread
from nats_ev.testing.loop_conformance import LoopConformance

class OnGevent(LoopConformance):
    def make(self):
        gevent.get_hub().exception_stream = None
        self.event = gevent.event.Event()
        return GeventLoop()

    def run(self, loop, seconds):
        self.event.clear()
        self.event.wait(seconds)

    def run_until_idle(self, loop, seconds):
        return bool(gevent.wait(timeout=seconds))

    def stop(self, loop):
        self.event.set()

    def test_at_close_calls_a_method_and_watchers_can_be_stopped(self):
        # In a thread: the default loop of libev remembers watchers from before it was destroyed. gevent's
        # libuv cannot be destroyed while it watches a descriptor, and this test leaves one that is.
        if os.environ["GEVENT_LOOP"] != "libuv":
            said = []
            thread = Thread(lambda: said.extend(InAThread.failures()))
            thread.join()
            assert said == [], said

class InAThread(LoopCase):
    make, run, stop = OnGevent.make, OnGevent.run, OnGevent.stop
    test_at_close = LoopConformance.test_at_close_calls_a_method_and_watchers_can_be_stopped

    def close(self, loop):
        gevent.get_hub().destroy(destroy_loop=True)

print(*OnGevent.failures(), sep="\\n")
"""


@pytest.mark.slow
@pytest.mark.parametrize("patch", ["", "import gevent.monkey; gevent.monkey.patch_all()"])
@pytest.mark.parametrize("loop", ["libev-cext", "libev-cffi", "libuv"])
def test_gevent(loop: str, patch: str) -> None:
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", GEVENT.format(patch=patch)],
        capture_output=True, text=True, timeout=60, env={**os.environ, "GEVENT_LOOP": loop},
    )  # fmt: skip
    assert done.stdout.strip() == ""
    assert done.returncode == 0, done.stderr


def test_failures_names_what_an_adapter_does_wrong() -> None:
    class Wrong(TestAsyncio):
        """A loop that calls what is fed at once."""

        def make(self) -> Any:
            loop = super().make()

            class Adapter(AsyncioLoop):
                def prepare(self, callback: Any, data: object = None, priority: int = 0) -> Any:
                    watcher = super().prepare(callback, data, priority)
                    return type("Prepare", (), {
                        "feed": lambda self, revents: callback(self, revents),
                        "stop": lambda self: watcher.stop(),
                    })()  # fmt: skip

            return Adapter(loop.loop)

    Wrong.test_a_client_connects_and_asks_and_ends = lambda self: None  # type: ignore[method-assign]
    failed = [line.partition(":")[0] for line in Wrong.failures()]
    assert "test_prepare_fed_while_the_loop_does_not_run_waits_until_it_does" in failed
    assert "test_prepare_is_called_once_after_all_callbacks_of_the_iteration" in failed
    assert "test_timer_fires_once_for_each_start_and_in_time" not in failed


def test_the_suite_needs_no_pytest() -> None:
    code = """
    import sys
    import nats_ev.testing.loop_conformance
    assert "pytest" not in sys.modules and "_pytest" not in sys.modules
    """
    subprocess.run([sys.executable, "-c", textwrap.dedent(code)], check=True)
