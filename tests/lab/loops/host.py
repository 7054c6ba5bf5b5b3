"""A loop that C code owns, runs and destroys: this file plays the host, by ctypes."""

from __future__ import annotations

import contextlib
import ctypes
import sys
from collections.abc import Iterator
from ctypes.util import find_library
from typing import Any

from nats_ev import pyev

_host = ctypes.CDLL(find_library("ev"))
_host.ev_loop_new.restype = ctypes.c_void_p
_host.ev_loop_new.argtypes = [ctypes.c_uint]
_host.ev_run.argtypes = [ctypes.c_void_p, ctypes.c_int]
_host.ev_loop_destroy.argtypes = [ctypes.c_void_p]


class HostLoop(pyev.Loop):
    """Runs by libev's `ev_run`, called by C that knows nothing of Python; the lock is released meanwhile."""

    def start(self, flags: int = 0) -> None:
        """Let the host run its loop. What stopped the loop is raised, as a program of ours would see it."""
        with self._reports_held_back():
            _host.ev_run(self.address, flags)
        stopped_by, self.stopped_by = self.stopped_by, None
        if stopped_by is not None:
            raise stopped_by

    @contextlib.contextmanager
    def _reports_held_back(self) -> Iterator[None]:
        """A host cannot raise, so what stops its loop is reported; here it is raised instead."""
        hook = sys.excepthook

        def report(kind: type[BaseException], exc: BaseException, traceback: Any) -> None:
            if isinstance(exc, Exception) and not self.debug:
                hook(kind, exc, traceback)

        sys.excepthook = report
        try:
            yield
        finally:
            if sys.excepthook is report:
                sys.excepthook = hook

    def close(self) -> None:
        """Destroy the loop, as its owner does."""
        _host.ev_loop_destroy(self.address)


def new(name: str) -> Any:
    """Return a loop of its own."""
    return HostLoop.from_address(_host.ev_loop_new(0))
