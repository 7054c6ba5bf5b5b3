"""Strip the frames that may hold secrets from exceptions before the user sees them.

Error reporters and debuggers show the local variables of each frame that an exception has passed. Frames of
this library may hold passwords, tokens or seeds, and they say nothing that the error's text does not say.

- `without_traceback` decorates calls that take secrets, such as ``Nats(**options)``.
- `hide_frames` does the same for an exception that the client catches and hands to on_error.
- `drop_frames` removes all frames, of errors that no code of the user's has had a part in. Frames keep the
  objects of a closed connection in memory for as long as somebody keeps the error.

To debug the library itself, set the environment variable ``NATS_EV_KEEP_TRACEBACKS`` to any text: exceptions
then keep all frames, secrets in their local variables included. The variable is read each time an exception
passes, so that a debugger can set it in a process that is running.
"""

from __future__ import annotations

import functools
import os
from collections.abc import Callable, Iterator
from types import TracebackType
from typing import ParamSpec, TypeVar

P = ParamSpec("P")
T = TypeVar("T")
_PACKAGE = __name__.partition(".")[0] + "."


def without_traceback(function: Callable[P, T]) -> Callable[P, T]:
    """Decorate a function that takes secrets: no exception that it raises shows a frame of the function."""

    @functools.wraps(function)
    def call(*args: P.args, **kwargs: P.kwargs) -> T:
        try:
            return function(*args, **kwargs)
        except BaseException as exc:  # an interrupt or a time-out of gevent, too
            if _keeps_frames():
                raise
            del args, kwargs
            for link in _chain(exc):
                link.__traceback__ = None
            raise exc  # a bare raise brings the frames back in older versions

    return call


def hide_frames(error: BaseException) -> None:
    """Remove this library's outermost frames from an error, and from its causes and contexts.

    Frames of a user's callback that raised, and all that it called, stay.
    """
    if _keeps_frames():
        return
    for link in _chain(error):
        frames = link.__traceback__
        while frames is not None and _is_ours(frames):
            frames = frames.tb_next
        link.__traceback__ = frames


def drop_frames(error: BaseException) -> None:
    """Remove all frames from an error of sockets, TLS or the protocol, and from its causes and contexts."""
    if not _keeps_frames():
        for link in _chain(error):
            link.__traceback__ = None


def _keeps_frames() -> bool:
    return bool(os.environ.get("NATS_EV_KEEP_TRACEBACKS"))


def _is_ours(frames: TracebackType) -> bool:
    return str(frames.tb_frame.f_globals.get("__name__")).startswith(_PACKAGE)


def _chain(error: BaseException) -> Iterator[BaseException]:
    """Yield an error and, in turn, the cause or else the context of each."""
    link: BaseException | None = error
    seen: set[int] = set()  # causes may form a circle
    while link is not None and id(link) not in seen:
        seen.add(id(link))
        yield link
        link = link.__cause__ or link.__context__
