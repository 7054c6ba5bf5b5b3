"""Processes and folders that end with the process that has started them, also when that one is killed."""

from __future__ import annotations

import contextlib
import functools
import os
import signal
import sys
import tempfile
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

_PR_SET_PDEATHSIG = 1


@functools.lru_cache
def _prctl() -> Any:
    import ctypes

    return ctypes.CDLL(None).prctl


def die_with_us() -> None:
    """Let a started process end when the one that has started it ends, in whatever way; Linux only.

    For the argument `preexec_fn` of `subprocess`. Linux also ends the process with the thread that has
    started it: `ender` is for any thread.
    """
    if sys.platform == "linux":
        _prctl()(_PR_SET_PDEATHSIG, signal.SIGKILL)


def ender() -> Callable[[], None] | None:
    """Return `die_with_us` in the main thread, which lives as long as its process, else None."""
    if threading.current_thread() is not threading.main_thread():
        return None
    _prctl()  # loaded here, because little is safe between fork and exec
    return die_with_us


class _Janitor:
    """A process that outlives this one and then removes the folders of which this class has told it.

    Also ends the servers that still run in them. It reads a pipe whose other end is closed with this process.
    """

    def __init__(self) -> None:
        self._process = -1  # that has started the janitor; the child of a fork starts its own
        self._pipe = -1

    def tell(self, folder: Path) -> None:
        """Let the janitor remove this folder some day."""
        if self._process != os.getpid():
            self._start()
        with contextlib.suppress(OSError):  # no janitor, or it has been killed
            os.write(self._pipe, os.fsencode(folder) + b"\0")

    def _start(self) -> None:
        if not sys.executable:
            return  # this Python is a part of another program, and can't start itself
        reader, writer = os.pipe()
        try:
            os.posix_spawn(
                sys.executable,
                [sys.executable, "-I", "-S", str(Path(__file__).with_name("janitor.py"))],
                os.environ,
                file_actions=[
                    (os.POSIX_SPAWN_DUP2, reader, 0),
                    (os.POSIX_SPAWN_OPEN, 1, os.devnull, os.O_WRONLY, 0),
                    (os.POSIX_SPAWN_DUP2, 1, 2),
                ],
                setpgroup=0,  # Ctrl-C in a terminal is not for it
                setsigmask=(),
            )
        finally:
            os.close(reader)
        if self._pipe >= 0:
            os.close(self._pipe)
        self._pipe, self._process = writer, os.getpid()


_janitor = _Janitor()


def temporary_folder(prefix: str) -> Path:
    """Return a new folder that is removed after this process has ended, if nobody has removed it before."""
    folder = Path(tempfile.mkdtemp(prefix=prefix))
    _janitor.tell(folder)
    return folder
