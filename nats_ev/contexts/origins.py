"""`Origins`: the other ways to create a client, from a context's file and from the environment."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

from ..arguments import Unpack
from ..connection import parse_server
from ..errors import BadOptionsError
from ..options import NatsOptions, Options
from ..redact import without_traceback

if TYPE_CHECKING:
    from typing_extensions import Self

    from .context import Context
else:
    Self = Context = Any  # Python 3.10 has no Self; most programs have no context


class Origins:
    """Methods of the class `Nats` that create a client."""

    context: Context | None = None  # what the client was created from

    @classmethod
    @without_traceback
    def from_context(
        cls, *context: str | os.PathLike[str] | Context | None, **options: Unpack[NatsOptions]
    ) -> Self:
        """Create a client from a context: a file of settings, written by ``nats context`` or `Context`.

        The client starts connecting at once. Its attribute `context` is the context. Credentials that a
        context names by files are read again at each attempt to connect.

        Args:
            context: its name; an absolute path, a path object, or an existing file that ends in .json;
                or a `Context`. None, or left out: the one in ``$NATS_CONTEXT``, else the selected one.
            options: of `Nats`; they win over the context's. A credential among them replaces all of the
                context's, but user and password may come one from each; a server replaces all servers.
                ``name=`` is the context's name too, unless that was given by position: then it is the
                client's.

        Raises:
            ContextNotFoundError: the context does not exist, or none is selected.
            ContextError: the file is broken, or a field asks for what is missing or not supported.
            Others: as `Nats`.
        """
        # Here, because most programs have no context, and need no tempfile and its like.
        from .context import context_of

        whole = dict(options)
        return cls._of(context_of(context, whole), whole)

    @classmethod
    @without_traceback
    def from_env(cls, **options: Unpack[NatsOptions]) -> Self:
        """Create a client from the environment variables of the official tools. It starts connecting at once.

        NATS_CONTEXT is a context to begin with; no other context counts. NATS_URL (several with commas
        between), NATS_USER, NATS_PASSWORD, NATS_TOKEN, NATS_CREDS, NATS_NKEY (files), NATS_JWT, NATS_SEED,
        NATS_CERT, NATS_KEY, NATS_CA (files) and NATS_SOCKS_PROXY replace what is in it; a credential replaces
        all credentials. NATS_USER without a password is a token. An empty variable counts as none.

        Args:
            options: of `Nats`; they win over the environment's, as in `from_context`.

        Raises:
            ContextError: a variable asks for what is missing or not supported; the text names it.
            Others: as `Nats`.
        """
        from .environment import from_environment

        return cls._of(from_environment(), dict(options))

    @classmethod
    def _of(cls, context: Context, options: dict[str, Any]) -> Self:
        whole = context.options(**options)
        try:
            made = cls(**whole)
        except BadOptionsError:
            context.blame(
                _check, options
            )  # raises if it is the context that is wrong, not the call
            raise
        made.context = context
        return made


def _check(options: dict[str, Any]) -> None:
    """Raise `BadOptionsError` if a client can't have these options."""
    for url in Options.from_kwargs(options).servers or ():
        parse_server(url)
