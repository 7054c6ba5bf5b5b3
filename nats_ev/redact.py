"""Errors that leave no secret behind in a traceback.

Error reporters and debuggers show the local variables of each frame that an exception has passed. Our
frames may hold passwords, tokens or seeds, and tell nobody anything that the error's text does not.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from types import TracebackType
from typing import ParamSpec, TypeVar

P = ParamSpec("P")
T = TypeVar("T")
_PACKAGE = __name__.partition(".")[0] + "."


def discreet(function: Callable[P, T]) -> Callable[P, T]:
    """For what takes secrets: its errors about bad arguments show no frame of it."""

    @functools.wraps(function)
    def call(*args: P.args, **kwargs: P.kwargs) -> T:
        try:
            return function(*args, **kwargs)
        except (TypeError, ValueError, OSError) as exc:
            del args, kwargs
            for link in _chain(exc):
                link.__traceback__ = None
            raise exc  # a bare raise brings the frames back in older versions

    return call


def hide_frames(error: BaseException) -> None:
    """Take our frames off an error, and off what it came from; those of a callback that raised stay."""
    for link in _chain(error):
        frames = link.__traceback__
        while frames is not None and _ours(frames):
            frames = frames.tb_next
        link.__traceback__ = frames


def _ours(frames: TracebackType) -> bool:
    return str(frames.tb_frame.f_globals.get("__name__")).startswith(_PACKAGE)


def _chain(error: BaseException) -> Iterator[BaseException]:
    link: BaseException | None = error
    seen: set[int] = set()  # somebody may have made a circle
    while link is not None and id(link) not in seen:
        seen.add(id(link))
        yield link
        link = link.__cause__ or link.__context__
