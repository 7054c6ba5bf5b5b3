"""Who may call: the process that made the client, and the thread that runs its loop."""

from __future__ import annotations

import threading

from .. import errors
from ..loops import Loop
from .native import get_ident


class Guard:
    """Refuses calls from the child of a fork, from another thread than the loop's, and on a closed loop.

    A loop's attribute ``thread`` is the thread that runs it (None: none does). A loop without that attribute
    is not checked: only our own binding and adapters have it.
    """

    __slots__ = ("_loop", "closed", "forked")

    def __init__(self, loop: Loop) -> None:
        self._loop = loop
        self.forked = False  # this is the child of a fork
        self.closed = False  # the loop has been closed

    def check(self) -> None:
        """Raise `NotConnectedError` after a fork or on a closed loop, and what `check_thread` raises."""
        if self.forked:
            raise errors.NotConnectedError(
                "not connected: this client is the parent process's; make a new one after a fork"
            )
        if self.closed:
            raise errors.NotConnectedError("not connected: this client's loop has been closed")
        self.check_thread()

    def check_thread(self) -> None:
        """Raise RuntimeError in a thread while another one runs the loop, which the call would not wake."""
        thread = getattr(self._loop, "thread", None)
        if thread is None or thread == get_ident():
            return
        if thread != threading.get_ident():  # of an adapter under gevent: a greenlet's
            raise RuntimeError(
                "the client was called in another thread than the one that runs its loop: "
                "let call_threadsafe make the call"
            )
