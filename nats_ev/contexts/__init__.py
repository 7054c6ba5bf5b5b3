"""Contexts: named sets of settings in files, shared with the official tools (ADR-21); and the environment's.

::

    from nats_ev.contexts import Context

    context = Context("staging", url="nats://10.0.0.1:4222", creds="~/staging.creds")
    context.save()
    Context.select("staging")
    nats = Nats.from_context()  # the selected one

The files are those of ``nats context``, below ``$XDG_CONFIG_HOME`` or ``~/.config``:
``nats/context/<name>.json``, ``nats/context.txt`` with the name of the selected context, ``nats/previous-
context.txt`` with the one before. A field that is unknown here is kept when the context is saved again. No
secret shows in a repr or in an error's text.

`Nats.from_context` and `Nats.from_env` use what is here; so does the command line.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..imports import show_as_public
from .origins import Origins as Origins

if TYPE_CHECKING:
    from .context import Context as Context
    from .context import context_of as context_of
    from .environment import from_environment as from_environment
    from .errors import ContextError as ContextError
    from .errors import ContextNotFoundError as ContextNotFoundError

__all__ = ["Context", "ContextError", "ContextNotFoundError"]


def __getattr__(name: str) -> object:
    """Load all the rest when one of its names is first used: most programs need only `Origins`."""
    if name not in (*__all__, "context_of", "from_environment"):
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from .context import Context, context_of
    from .environment import from_environment
    from .errors import ContextError, ContextNotFoundError

    globals().update(
        Context=Context,
        ContextError=ContextError,
        ContextNotFoundError=ContextNotFoundError,
        context_of=context_of,
        from_environment=from_environment,
    )
    show_as_public(globals(), __all__)
    return globals()[name]
