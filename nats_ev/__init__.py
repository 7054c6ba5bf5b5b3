"""NATS client for Python on a libev loop: callbacks, one thread, the hot path in C.

::

    from nats_ev import Nats, pyev

    nats = Nats(host="127.0.0.1", reconnect=True)
    nats.subscribe("greet.*", lambda subject, payload, reply, headers: print(subject, payload))
    nats.publish("greet.you", "hello")
    pyev.default_loop().start()

- `Nats` is the client; ``help(nats_ev.Nats)`` has its options and methods. `Headers` are message headers,
  `Status` is what a client is doing.
- `JetStream` (streams and consumers) and `Service` (request handlers that can be discovered) take a `Nats`.
- `KV` (key-value buckets) and `ObjectStore` (content of any size) take a `JetStream`.
- All errors are subclasses of `NatsError`; the module `errors` lists them.
- `pyev` is the loop; `gevent_loop.GeventLoop` lets a client run on gevent's.

docs/guide.md explains all of it by programs that run.
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
from .buckets.errors import *  # noqa: F403  mypy does not see them in the line above
from .client import *  # noqa: F403
from .errors import *  # noqa: F403
from .headers import *  # noqa: F403
from .jetstream import *  # noqa: F403
from .jetstream.errors import *  # noqa: F403  mypy does not see them in the line above
from .kv import *  # noqa: F403
from .net import *  # noqa: F403
from .object_store import *  # noqa: F403
from .service import *  # noqa: F403
from .status import *  # noqa: F403

__all__ = ["__version__"]
# Spelt with modules' names, because type checkers understand no other form of a computed __all__.
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

# Tracebacks and pickles show the path that users import a name from, and files can move without breaking it.
for _name in __all__:
    if hasattr(globals()[_name], "__module__"):
        globals()[_name].__module__ = __name__
del _name
