"""libev for Python, under the interface of pyev 0.9.

>>> from nats_ev import pyev
>>> loop = pyev.default_loop()
>>> timer = loop.timer(1.0, 0.0, lambda watcher, revents: print("a second later"))
>>> timer.start()
>>> loop.start()

Names, argument order and meaning are those of pyev. The differences:

* Ctrl-C raises KeyboardInterrupt out of `Loop.start`, also while the loop waits, and never in the middle of
  this package's code (the environment variable NATS_EV_DEFER_INTERRUPTS=0 turns the latter off). Other signal
  handlers set with `signal.signal` run promptly as well, and what they raise comes out of `start`.
* KeyboardInterrupt and SystemExit raised in a callback stop the loop and come out of `start`. Any other
  exception goes to `sys.excepthook` or, with ``loop.debug``, stops the loop as well. The next `start`
  delivers the events that were pending: no event is lost.
* A loop keeps its active and pending watchers alive.
* The default loop takes no callback (`Loop` does), because other bindings may share it.

This package works alone: it must not import the rest of the client.
"""

from __future__ import annotations

from ._arguments import require_int, require_seconds
from ._glue import Error
from ._libev import lib
from ._loop import Loop, default_loop
from ._timers import Periodic, Scheduler, Timer
from ._watcher import Watcher
from ._watchers import (
    Async,
    Check,
    Child,
    Embed,
    Fork,
    Idle,
    Io,
    Prepare,
    Signal,
    embeddable_backends,
)

EV_UNDEF: int = lib.EV_UNDEF
EV_NONE: int = lib.EV_NONE
EV_READ: int = lib.EV_READ
EV_WRITE: int = lib.EV_WRITE
EV_IO: int = lib.EV_IO
EV_TIMER: int = lib.EV_TIMER
EV_PERIODIC: int = lib.EV_PERIODIC
EV_SIGNAL: int = lib.EV_SIGNAL
EV_CHILD: int = lib.EV_CHILD
EV_STAT: int = lib.EV_STAT
EV_IDLE: int = lib.EV_IDLE
EV_PREPARE: int = lib.EV_PREPARE
EV_CHECK: int = lib.EV_CHECK
EV_EMBED: int = lib.EV_EMBED
EV_FORK: int = lib.EV_FORK
EV_CLEANUP: int = lib.EV_CLEANUP
EV_ASYNC: int = lib.EV_ASYNC
EV_CUSTOM: int = lib.EV_CUSTOM
EV_ERROR: int = lib.EV_ERROR
EV_MINPRI: int = lib.EV_MINPRI
EV_MAXPRI: int = lib.EV_MAXPRI
EVRUN_NOWAIT: int = lib.EVRUN_NOWAIT
EVRUN_ONCE: int = lib.EVRUN_ONCE
EVBREAK_CANCEL: int = lib.EVBREAK_CANCEL
EVBREAK_ONE: int = lib.EVBREAK_ONE
EVBREAK_ALL: int = lib.EVBREAK_ALL
EVFLAG_AUTO: int = lib.EVFLAG_AUTO
EVFLAG_NOENV: int = lib.EVFLAG_NOENV
EVFLAG_FORKCHECK: int = lib.EVFLAG_FORKCHECK
EVFLAG_NOINOTIFY: int = lib.EVFLAG_NOINOTIFY
EVFLAG_SIGNALFD: int = lib.EVFLAG_SIGNALFD
EVFLAG_NOSIGMASK: int = lib.EVFLAG_NOSIGMASK
EVFLAG_NOTIMERFD: int = lib.EVFLAG_NOTIMERFD
EVBACKEND_SELECT: int = lib.EVBACKEND_SELECT
EVBACKEND_POLL: int = lib.EVBACKEND_POLL
EVBACKEND_EPOLL: int = lib.EVBACKEND_EPOLL
EVBACKEND_KQUEUE: int = lib.EVBACKEND_KQUEUE
EVBACKEND_DEVPOLL: int = lib.EVBACKEND_DEVPOLL
EVBACKEND_PORT: int = lib.EVBACKEND_PORT
EVBACKEND_LINUXAIO: int = lib.EVBACKEND_LINUXAIO
EVBACKEND_IOURING: int = lib.EVBACKEND_IOURING
EVBACKEND_ALL: int = lib.EVBACKEND_ALL
EVBACKEND_MASK: int = lib.EVBACKEND_MASK

#: The version of the interface, which is pyev's.
__version__ = "0.9.0"


# In seconds: some 30 years.
_LONGEST_SLEEP = 1e9


def version() -> tuple[str, str]:
    """Return the version of the interface and that of the libev in use, as text."""
    return __version__, "{}.{}".format(*abi_version())


def abi_version() -> tuple[int, int]:
    """Return the major and minor version of the libev in use."""
    return lib.ev_version_major(), lib.ev_version_minor()


def time() -> float:
    """Return the current Unix time by libev's clock, in seconds."""
    return lib.ev_time()


def sleep(interval: float) -> None:
    """Block this thread for ``interval`` seconds, less when a signal arrives."""
    # What C's time_t can't hold would not sleep at all.
    lib.nats_ev_sleep(min(require_seconds("interval", interval), _LONGEST_SLEEP))


def feed_signal(signum: int) -> None:
    """Make the `Signal` watchers of ``signum`` fire, as if the process had received the signal."""
    if not 0 < require_int("signum", signum) < lib.NATS_EV_NSIG:
        raise ValueError(f"signum is not a signal number: {signum}")
    lib.ev_feed_signal(signum)


def supported_backends() -> int:
    """Return the EVBACKEND_* bits that this libev was built with."""
    return lib.ev_supported_backends()


def recommended_backends() -> int:
    """Return the EVBACKEND_* bits that libev chooses from without flags."""
    return lib.ev_recommended_backends()


__all__ = [
    "EVBACKEND_ALL",
    "EVBACKEND_DEVPOLL",
    "EVBACKEND_EPOLL",
    "EVBACKEND_IOURING",
    "EVBACKEND_KQUEUE",
    "EVBACKEND_LINUXAIO",
    "EVBACKEND_MASK",
    "EVBACKEND_POLL",
    "EVBACKEND_PORT",
    "EVBACKEND_SELECT",
    "EVBREAK_ALL",
    "EVBREAK_CANCEL",
    "EVBREAK_ONE",
    "EVFLAG_AUTO",
    "EVFLAG_FORKCHECK",
    "EVFLAG_NOENV",
    "EVFLAG_NOINOTIFY",
    "EVFLAG_NOSIGMASK",
    "EVFLAG_NOTIMERFD",
    "EVFLAG_SIGNALFD",
    "EVRUN_NOWAIT",
    "EVRUN_ONCE",
    "EV_ASYNC",
    "EV_CHECK",
    "EV_CHILD",
    "EV_CLEANUP",
    "EV_CUSTOM",
    "EV_EMBED",
    "EV_ERROR",
    "EV_FORK",
    "EV_IDLE",
    "EV_IO",
    "EV_MAXPRI",
    "EV_MINPRI",
    "EV_NONE",
    "EV_PERIODIC",
    "EV_PREPARE",
    "EV_READ",
    "EV_SIGNAL",
    "EV_STAT",
    "EV_TIMER",
    "EV_UNDEF",
    "EV_WRITE",
    "Async",
    "Check",
    "Child",
    "Embed",
    "Error",
    "Fork",
    "Idle",
    "Io",
    "Loop",
    "Periodic",
    "Prepare",
    "Scheduler",
    "Signal",
    "Timer",
    "Watcher",
    "abi_version",
    "default_loop",
    "embeddable_backends",
    "feed_signal",
    "recommended_backends",
    "sleep",
    "supported_backends",
    "time",
    "version",
]

# Tracebacks, reprs and pickles name the path that programs import a class from.
for _public in [globals()[_name] for _name in __all__]:
    if isinstance(_public, type):
        _public.__module__ = __name__
