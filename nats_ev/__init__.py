"""NATS client for Python programs on a libev loop: callbacks, one thread, C where it is hot.

`Nats` is the client: ``help(nats_ev.Nats)`` has its options and methods. On one of these work `JetStream`
(streams and consumers), on that `KV` (key-value buckets) and `ObjectStore` (content of any size), and
`Service` (request handlers that can be discovered). `Headers` reads and makes message headers, `pyev` is
the loop, `gevent_loop` an adapter to gevent's, and all errors are below `NatsError`, see `errors`.
docs/guide.md goes through all of it with programs that run.
"""

from . import (
    auth,
    buckets,
    client,
    errors,
    headers,
    jetstream,
    kv,
    net,
    object_store,
    service,
    status,
)
from ._version import __version__
from .auth import *  # noqa: F403
from .buckets import *  # noqa: F403
from .client import *  # noqa: F403
from .errors import *  # noqa: F403
from .headers import *  # noqa: F403
from .jetstream import *  # noqa: F403
from .kv import *  # noqa: F403
from .net import *  # noqa: F403
from .object_store import *  # noqa: F403
from .service import *  # noqa: F403
from .status import *  # noqa: F403

__all__ = ["__version__"]
# Modules' names, because type checkers know no other variables here.
__all__ += auth.__all__
__all__ += buckets.__all__
__all__ += client.__all__
__all__ += errors.__all__
__all__ += headers.__all__
__all__ += jetstream.__all__
__all__ += kv.__all__
__all__ += net.__all__
__all__ += object_store.__all__
__all__ += service.__all__
__all__ += status.__all__

# Tracebacks and pickles show where users import a name from, not the file that it happens to be in.
for _name in __all__:
    if hasattr(globals()[_name], "__module__"):
        globals()[_name].__module__ = __name__
del _name
