"""Faces: the client for coroutines, for greenlets, and for programs that block.

`nats_ev.aio`, `nats_ev.green` and `nats_ev.blocking` are the faces; what they share is here. Each turns the
callback API into methods that return their results, without a second implementation of any of them: `rules`
says what becomes of a method, by its signature; `build` makes the classes. `flow` has the iterators,
`message` the class `Msg`, `objects` the bases of the other classes, `context` what belongs to one client,
`callbacks` those that run as tasks, `connecting` the beginning of `connect`.

How a task waits is all that the faces differ in: `on_asyncio`, `on_gevent`, `on_pyev`.
"""

from .build import Face as Face
from .connecting import Connecting as Connecting
from .connecting import ConnectOptions as ConnectOptions
from .connecting import begin as begin
from .context import Context as Context
from .context import Waiter as Waiter
from .message import Msg as Msg
from .objects import Later as Later
from .objects import unwrap as unwrap

__all__: list[str] = []
