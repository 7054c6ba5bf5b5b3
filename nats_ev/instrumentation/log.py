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


class _Printable:
    """An argument of a record whose text may come from a server: what is not printable is shown escaped.

    A line break would forge a record, and a byte that is not UTF-8, a lone surrogate here, breaks handlers.
    """

    __slots__ = ("_value",)

    def __init__(self, value: object) -> None:
        self._value = value

    def __str__(self) -> str:
        text = str(self._value)
        return text if text.isprintable() else "".join(map(_escaped, text))

    def __repr__(self) -> str:
        return repr(self._value)


def _escaped(character: str) -> str:
    return character if character.isprintable() else ascii(character)[1:-1]


def _printable(value: object) -> object:
    return value if isinstance(value, (int, float)) else _Printable(value)


def log(level: int, text: str, *args: object) -> None:
    """Log an event on ``nats_ev``; args are for the %s of text, formatted only if a handler wants them."""
    found = logger()
    if found is not None and found.isEnabledFor(level):
        found.log(level, text, *map(_printable, args))


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

    args = tuple(map(_printable, args))
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
