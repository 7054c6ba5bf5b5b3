"""What the tests of `loop_conformance` are made of: loops that a subclass makes, sockets, threads, a server.

Sockets and threads are the interpreter's own, also where gevent has patched them: callbacks must not switch.
"""

from __future__ import annotations

import _socket
import contextlib
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any

from ..loops import Loop

# Seconds: for what must happen, and for what must not.
LIMIT = 5.0
MOMENT = 0.1


def require(condition: object, text: str) -> None:
    """Raise AssertionError with this text unless condition is true. `assert` is left out by ``python -O``."""
    if not condition:
        raise AssertionError(text)


def _unpatched(module: str, name: str) -> Any:
    """Return a function of the interpreter, also where gevent has replaced it."""
    monkey = sys.modules.get("gevent.monkey")
    if monkey is not None:
        return monkey.get_original(module, name)
    return getattr(__import__(module), name)


class Thread:
    """A thread that calls function. gevent's would be a greenlet."""

    def __init__(self, function: Callable[[], object], delay: float = 0.0) -> None:
        self._function = function
        self._delay = delay
        self._done = False
        _unpatched("_thread", "start_new_thread")(self._work, ())

    def _work(self) -> None:
        try:
            sleep(self._delay)
            self._function()
        finally:
            self._done = True

    def join(self) -> None:
        """Wait until function has returned."""
        while not self._done:
            sleep(0.001)


def sleep(seconds: float) -> None:
    """Block this thread."""
    _unpatched("time", "sleep")(seconds)


def get_ident() -> int:
    """Return the number of this thread, not of a greenlet."""
    number: int = _unpatched("_thread", "get_ident")()
    return number


class Pair:
    """Two connected sockets; `fd` is the descriptor of the one that is watched."""

    def __init__(self) -> None:
        self.ours, self.theirs = _socket.socketpair()
        self.ours.setblocking(False)
        self.fd = self.ours.fileno()

    def close(self) -> None:
        """Close both."""
        self.ours.close()
        self.theirs.close()


class LoopCase:
    """A class of tests of a loop. A subclass says how its loop is made, run, stopped and closed."""

    def make(self) -> Loop:
        """Return a new adapter, on a loop that does not run."""
        raise NotImplementedError

    def run(self, loop: Any, seconds: float) -> None:
        """Run the loop until `stop` is called in a callback, or for so many seconds.

        KeyboardInterrupt and SystemExit of a callback must come out of this.
        """
        raise NotImplementedError

    def stop(self, loop: Any) -> None:
        """Let `run` return. Called in a callback of a watcher."""
        raise NotImplementedError

    def run_until_idle(self, loop: Any, seconds: float) -> bool:
        """Run the loop until nothing keeps it running, or for so many seconds. Return whether it has ended.

        Only for loops that have ``ref`` and ``unref``, or whose watchers have ``ref``. What bounds the time
        must not keep the loop running.
        """
        raise NotImplementedError(
            "this loop has ref: define run_until_idle(loop, seconds), so that it can be tested"
        )

    def close(self, loop: Any) -> None:
        """Close the loop, if it can be closed. Called once for each loop, while the loop does not run."""

    @classmethod
    def failures(cls) -> list[str]:
        """Run all tests, for programs without pytest. Return a line for each test that has failed."""
        failed = []
        for name in dir(cls):
            if name.startswith("test_"):
                try:
                    getattr(cls(), name)()
                except Exception as exc:
                    failed.append(f"{name}: {type(exc).__name__}: {exc}")
        return failed

    @contextlib.contextmanager
    def opened(self, pairs: int = 0) -> Iterator[Any]:
        """Make a loop and so many pairs of sockets, and close all of it."""
        made = [Pair() for _ in range(pairs)]
        loop = self.make()
        try:
            yield (loop, *made) if pairs else loop
        finally:
            self.close(loop)
            for pair in made:
                pair.close()

    def wait(self, loop: Any, what: str, seconds: float = LIMIT) -> float:
        """Run until a callback calls `stop`. Return the seconds until then."""
        begun = time.monotonic()
        self.run(loop, seconds)
        took = time.monotonic() - begun
        require(took < seconds, f"{what}: nothing has happened in {seconds} s")
        return took

    def soon(self, loop: Any, function: Callable[[], object]) -> None:
        """Call function on the loop, once, when it runs."""
        loop.timer(0.0, 0.0, lambda watcher, revents: function()).start()


def serve(listener: _socket.socket) -> None:
    """Serve one client: greet, answer PINGs, and answer each request with ``this``."""
    listener.settimeout(LIMIT)
    descriptor, _ = listener._accept()  # type: ignore[attr-defined]
    sock = _socket.socket(fileno=descriptor)
    sock.settimeout(LIMIT)
    sock.sendall(b'INFO {"server_id":"x","version":"2.10.0","max_payload":1048576}\r\n')
    sid, data = b"1", b""
    with contextlib.suppress(OSError):
        while more := sock.recv(4096):
            *lines, data = (data + more).split(b"\r\n")
            for words in map(bytes.split, lines):
                if words[:1] == [b"PING"]:
                    sock.sendall(b"PONG\r\n")
                elif words[:1] == [b"SUB"]:
                    sid = words[-1]
                elif words[:1] == [b"PUB"]:
                    sock.sendall(b"MSG %s %s 4\r\nthis\r\n" % (words[2], sid))
    sock.close()
