"""Requests to servers and events of theirs, for users of the system account: `SystemClient`.

::

    from nats_ev.system import SystemClient

    system = SystemClient(nats)
    system.varz_ping(lambda answers, err: print(len(answers), "servers"))

Files: `client` (the class), `monitoring` (its methods for the monitoring pages), `asking` (one request, to
one server or to all), `pages` (lists in pages), `events`, `errors`, `types` (for annotations). Nothing here
is loaded by `nats_ev` itself.
"""

from __future__ import annotations

from ..imports import show_as_public
from . import errors, types
from .client import SystemClient
from .errors import *  # noqa: F403
from .events import SystemEvent, decode_event
from .types import *  # noqa: F403
from .types import SystemOptions as SystemOptions

__all__ = ["SystemClient", "SystemEvent", "decode_event"]
__all__ += errors.__all__
__all__ += types.__all__

show_as_public(globals(), __all__, "nats_ev.system")
