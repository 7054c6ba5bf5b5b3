"""What keeps ``import nats_ev`` small: modules that are loaded when they are first used.

A program that neither signs nor encrypts loads neither `cryptography` nor `ssl`, and a program without
JetStream does not load the layers above `Nats`. ``tests/repo/test_start.py`` has the list.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ssl import SSLContext as SSLContext
else:
    SSLContext = Any  # for annotations: a program without TLS does not load ssl

_PACKAGE = __name__.partition(".")[0]


def is_installed(name: str) -> bool:
    """Return whether a top-level module can be found, without loading the module."""
    if name in sys.modules:
        return sys.modules[name] is not None  # None: the import is forbidden
    # As importlib.util.find_spec does it; that module would be one more to load.
    return any(
        finder.find_spec(name, None) is not None
        for finder in sys.meta_path
        if hasattr(finder, "find_spec")
    )


def show_as_public(namespace: dict[str, Any], names: Iterable[str], path: str = _PACKAGE) -> None:
    """Set the path that tracebacks and pickles show to that from which users import: the package's.

    So files can move without breaking a pickle. Each public folder calls this for what it defines.

    Args:
        namespace: the globals of a module.
        names: what in the namespace is public.
        path: the module that users import the names from.
    """
    for name in names:
        thing = namespace[name]
        if isinstance(thing, type):
            # typing.get_type_hints evaluates texts in the module that a class shows.
            home = vars(sys.modules[thing.__module__])
            for attribute, hint in vars(thing).get("__annotations__", {}).items():
                text = getattr(hint, "__forward_arg__", hint)  # of a field of a named tuple
                if isinstance(text, str):
                    thing.__annotations__[attribute] = eval(text, home, dict(vars(thing)))
        if hasattr(thing, "__module__"):
            thing.__module__ = path
