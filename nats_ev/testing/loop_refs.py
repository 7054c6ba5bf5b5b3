"""Tests of `loop_conformance` about what keeps a loop running: ``ref`` and ``unref``.

A loop has these methods, or its watchers have an attribute ``ref``. For a loop with
neither these tests do nothing. A loop that has them needs `LoopCase.run_until_idle`.
"""

from __future__ import annotations

import _socket
import socket
from typing import Any

from ..loops import EV_READ, make_async
from .loop_case import LIMIT, MOMENT, LoopCase, Thread, require, serve


def _ignore(*args: object) -> None:
    pass


class RefTests(LoopCase):
    """The tests of ``ref`` and ``unref``."""

    def _counts(self, loop: Any) -> bool | None:
        """Return whether the loop has ``unref``, else whether its watchers have ``ref``, else None."""
        if hasattr(loop, "unref") and hasattr(loop, "ref"):
            return True
        return False if hasattr(loop.timer(1.0, 0.0, _ignore), "ref") else None

    def _keep(self, loop: Any, watcher: Any, keep: bool) -> None:
        """Let an active watcher keep the loop running or not."""
        if self._counts(loop):
            (loop.ref if keep else loop.unref)()
        else:
            watcher.ref = keep
            require(watcher.ref is keep, f"ref is {watcher.ref!r} after it was set to {keep}")

    def _watchers(self, loop: Any, fd: int) -> dict[str, Any]:
        return {
            "an I/O watcher": loop.io(fd, EV_READ, _ignore, None, 0),
            "a timer": loop.timer(LIMIT * 2, LIMIT * 2, _ignore),
            "an async watcher": make_async(loop, _ignore),
        }

    def test_unref_lets_the_loop_end_and_ref_keeps_it_running(self) -> None:
        """Check each kind of watcher: it keeps the loop running while it is active and not taken off."""
        with self.opened(1) as (loop, pair):
            if self._counts(loop) is None:
                return
            require(self.run_until_idle(loop, LIMIT), "a loop without watchers does not end")
            for name, watcher in self._watchers(loop, pair.fd).items():
                watcher.start()
                require(not self.run_until_idle(loop, MOMENT), f"the loop ends in spite of {name}")
                self._keep(loop, watcher, False)
                require(self.run_until_idle(loop, LIMIT), f"{name} keeps the loop after unref")
                self._keep(loop, watcher, True)
                require(not self.run_until_idle(loop, MOMENT), f"{name}: ref has no effect")
                watcher.stop()
                require(self.run_until_idle(loop, LIMIT), f"{name} keeps the loop after stop")

    def test_an_attribute_ref_outlives_stop_and_start(self) -> None:
        """Check that ``watcher.ref`` may be set at any time, and counts whenever the watcher is active."""
        with self.opened(1) as (loop, pair):
            if self._counts(loop) is not False:
                return
            for name, watcher in self._watchers(loop, pair.fd).items():
                require(watcher.ref is True, f"{name} has ref = {watcher.ref!r} at first")
                watcher.ref = False
                for _ in range(2):
                    watcher.start()
                    require(self.run_until_idle(loop, LIMIT), f"{name} has forgotten ref = False")
                    watcher.stop()
                watcher.ref = True
                watcher.start()
                require(not self.run_until_idle(loop, MOMENT), f"{name} has forgotten ref = True")
                watcher.stop()

    def test_a_watcher_that_keeps_no_loop_is_called_while_another_one_does(self) -> None:
        """Check that only the loop's end depends on ``ref``, not what is called."""
        with self.opened(1) as (loop, pair):
            if self._counts(loop) is None:
                return
            got: list[bytes] = []

            def on_read(watcher: Any, revents: int) -> None:
                got.append(pair.ours.recv(1))
                self.stop(loop)

            reader = loop.io(pair.fd, EV_READ, on_read, None, 0)
            reader.start()
            self._keep(loop, reader, False)
            timer = loop.timer(LIMIT, 0.0, _ignore)
            timer.start()
            pair.theirs.send(b"x")
            self.wait(loop, "a readable descriptor whose watcher keeps no loop")
            require(got == [b"x"], f"read {got}")
            timer.stop()
            self._keep(loop, reader, True)
            reader.stop()

    def test_a_client_keeps_the_loop_until_unref(self) -> None:
        """Check `Nats.unref` and `Nats.ref` while connected, and that nothing is left of a client."""
        from .. import Nats

        with self.opened() as loop:
            if self._counts(loop) is None:
                return
            listener = _socket.socket(socket.AF_INET, socket.SOCK_STREAM)
            listener.bind(("127.0.0.1", 0))
            listener.listen()
            server = Thread(lambda: serve(listener))
            nats = Nats(
                host="127.0.0.1", port=listener.getsockname()[1], loop=loop, reconnect=False,
                on_connect=lambda: self.stop(loop),
            )  # fmt: skip
            self.wait(loop, "a connection")
            for _ in range(2):
                require(not self.run_until_idle(loop, MOMENT), "the loop ends in spite of a client")
                nats.unref()
                require(self.run_until_idle(loop, LIMIT), "a client keeps the loop after unref")
                nats.ref()
            nats.unref()
            nats.disconnect()
            require(self.run_until_idle(loop, LIMIT), "a client that has ended keeps the loop")
            server.join()
            listener.close()
            watcher = loop.timer(LIMIT * 2, 0.0, _ignore)
            watcher.start()
            ended = self.run_until_idle(loop, MOMENT)
            require(not ended, "a client that has ended has left the loop's count too low")
            watcher.stop()
