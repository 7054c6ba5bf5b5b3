"""The loggers ``nats_ev`` and ``nats_ev.protocol``.

A program that has not imported `logging` has set up no handler, and sees no record. So nothing here loads
that module: `logger` returns None until the program has loaded it.

The logger ``nats_ev`` has a `logging.NullHandler`: a program that sets up no logging sees no events. What no
callback and no call reports goes through `complain`, which falls back to stderr, as `logging` itself does.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from logging import Logger

_NAME = __name__.partition(".")[0]
# The levels of `logging`.
DEBUG, INFO, WARNING, ERROR = 10, 20, 30, 40


def logger() -> Logger | None:
    """Return the logger ``nats_ev``, or None if the program has not loaded `logging`."""
    logging = sys.modules.get("logging")
    if logging is None or not hasattr(logging, "lastResort"):  # the latter: it is being loaded
        return None
    found: Logger = logging.getLogger(_NAME)
    if not found.handlers:
        found.addHandler(logging.NullHandler())
    return found


def log(level: int, text: str, *args: object) -> None:
    """Log an event on ``nats_ev``.

    Args:
        level: of `logging`.
        text: with %s and the like, formatted only if a handler wants the record.
        args: those that are no numbers are shown by `str`, without line breaks and other characters that
            could pass for something else in a log: some come from the server.
    """
    found = logger()
    if found is not None and found.isEnabledFor(level):
        emit(found, level, text, *map(_shown, args))


def emit(logger: Logger, level: int, text: str, *args: object) -> None:
    """Log on a logger. What one of its handlers or filters raises goes to ``sys.excepthook``."""
    try:
        logger.log(level, text, *args)
    except Exception as exc:
        sys.excepthook(type(exc), exc, exc.__traceback__)


def _shown(arg: object) -> object:
    return arg if isinstance(arg, (int, float)) else printable(str(arg))


def printable(text: str) -> str:
    """Return a text with escapes in place of what can't be printed: lone surrogates, control characters."""
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def protocol_logger() -> Logger | None:
    """Return the logger ``nats_ev.protocol`` if it wants the trace, else None.

    It does when its own level is DEBUG or lower. The level of a logger above it does not count: to
    log all at DEBUG must not take the fast path from every client of a program.
    """
    if logger() is None:
        return None
    logging = sys.modules["logging"]
    found: Logger = logging.getLogger(f"{_NAME}.protocol")
    return found if found.level and found.isEnabledFor(DEBUG) else None


def complain(level: int, text: str, *args: object) -> None:
    """Log what must not stay unseen: without any handler it goes to stderr, from WARNING on."""
    import logging

    args = tuple(map(_shown, args))
    found = logger()
    assert found is not None
    found.log(level, text, *args)
    node: Logger | None = found
    while node is not None:
        if any(not isinstance(handler, logging.NullHandler) for handler in node.handlers):
            return
        node = node.parent if node.propagate else None
    if logging.lastResort is not None and found.isEnabledFor(level):
        record = found.makeRecord(found.name, level, "", 0, text, args, None)
        if level >= logging.lastResort.level:
            logging.lastResort.handle(record)


if "logging" in sys.modules:
    logger()  # with its handler, for whoever looks for it
