"""For tests of programs that use nats_ev: private servers, clusters, a cutting proxy, runs of a loop.

::

    from nats_ev.testing import CuttingProxy, Server, run_until

    with Server(jetstream=True) as server, CuttingProxy(server) as proxy:
        nats = Nats(**proxy.options, reconnect=True, loop=loop)
        run_until(loop, nats.is_connected)
        proxy.cut()

The plugin for pytest, which is installed with nats_ev, has them as fixtures: ``pytest --fixtures`` lists all
`nats_…`. docs/testing.md shows how they are used. `loop_conformance` tests adapters of loops.

Nothing of this is loaded by the client. Times are milliseconds, as everywhere.
"""

from __future__ import annotations

from .binary import ServerNotFoundError, binary_version, find_binary
from .certificates import Certificates
from .clusters import Cluster
from .proxy import DOWN, UP, CuttingProxy
from .servers import Server, ServerStartError, free_port
from .waiting import ConditionError, run_until, until, wait_for

__all__ = [
    "DOWN",
    "UP",
    "Certificates",
    "Cluster",
    "ConditionError",
    "CuttingProxy",
    "Server",
    "ServerNotFoundError",
    "ServerStartError",
    "binary_version",
    "find_binary",
    "free_port",
    "run_until",
    "until",
    "wait_for",
]

# Tracebacks show the module that tests import.
for _name in set(__all__) - {"DOWN", "UP"}:
    globals()[_name].__module__ = __name__
