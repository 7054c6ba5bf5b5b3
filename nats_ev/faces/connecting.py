"""`connect`, for all faces."""

from __future__ import annotations

import os
from collections.abc import Callable, Coroutine, Generator, Sequence
from typing import TYPE_CHECKING, Any, NoReturn

from ..arguments import callable_or_none
from ..client import Nats
from ..errors import BadOptionsError
from ..options import CommonOptions
from .build import Face
from .callbacks import is_asynchronous
from .context import Context

if TYPE_CHECKING:
    from ..contexts import Context as SavedContext
else:
    SavedContext = Any  # most programs have none

_DEFAULT = "127.0.0.1"


class ConnectOptions(CommonOptions, total=False):
    """The options of the `connect` of every face, in the types that a caller may pass."""

    context: str | os.PathLike[str] | SavedContext | None


def begin(
    face: Face,
    loop: Any,
    make: Callable[[Nats], Context],
    servers: str | Sequence[str] | None,
    options: dict[str, Any],
) -> Context:
    """Create a client that starts connecting, and return its context.

    Args:
        face: the face.
        loop: of the client.
        make: ``make(nats)`` returns the context of a new client.
        servers: URLs, or one, or several with commas between; None: as the options say.
        options: of `Nats`, and context. Without an on_error, errors that no call raises are logged.
    """
    if "loop" in options:
        raise BadOptionsError("a face chooses the loop of its client")
    named = options.pop("context", None)
    if isinstance(servers, str):
        servers = [each.strip() for each in servers.split(",")]
    placed = any(options.get(name) is not None for name in ("host", "path"))
    if servers is None and named is None and not placed:
        options["host"] = _DEFAULT  # and the port, if one is given
    if servers is not None:
        options["servers"] = servers
    events = [name for name in options if name.startswith("on_") and hasattr(Nats, name)]
    hooks = {name: callable_or_none(options.pop(name), name) for name in events}
    for name, value in options.items():
        if is_asynchronous(value):
            raise TypeError(
                f"{name} must not be a coroutine function: its result is needed at once"
            )
    options["loop"] = loop
    nats = Nats(**options) if named is None else Nats.from_context(named, **options)
    context = make(nats)
    face.attach(context)
    hooks.setdefault("on_error", context.log)
    try:
        for name, value in hooks.items():
            if name == "on_error" and value is None:
                value = context.log
            getattr(nats, name)(context.task(name, value))
    except BaseException:
        nats.disconnect()
        raise
    return context


class Connecting(Coroutine[Any, Any, Any]):
    """A connect that is awaited, or used by ``async with``, which drains the client at its end."""

    __slots__ = ("_client", "_steps")

    def __init__(self, steps: Coroutine[Any, Any, Any]) -> None:
        self._steps = steps
        self._client: Any = None

    def __await__(self) -> Generator[Any, Any, Any]:
        return self._steps.__await__()

    def send(self, value: Any) -> Any:
        """Go on; see `collections.abc.Coroutine`."""
        return self._steps.send(value)

    def throw(self, *error: Any) -> Any:
        """Raise an exception where the coroutine waits; see `collections.abc.Coroutine`."""
        return self._steps.throw(*error)

    def close(self) -> None:
        """End the coroutine; see `collections.abc.Coroutine`."""
        self._steps.close()

    if not TYPE_CHECKING:

        def __getattr__(self, name: str) -> NoReturn:
            """Say what is missing when a connect is taken for the client that it returns."""
            raise AttributeError(
                f"no client yet, and so no {name}: write `await connect(...)` or `async with connect(...)`",
                name=name,
                obj=None,
            )

    async def __aenter__(self) -> Any:
        self._client = await self._steps
        return self._client

    async def __aexit__(self, *exc_info: Any) -> None:
        await self._client.__aexit__(*exc_info)
