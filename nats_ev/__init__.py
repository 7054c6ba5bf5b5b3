"""NATS client for Python programs on a libev loop: callbacks, one thread, C where it is hot.

`Nats` is the client: ``help(nats_ev.Nats)`` has its options and methods. On one of these work `JetStream`
(streams and consumers), on that `KV` (key-value buckets) and `ObjectStore` (content of any size), and
`Service` (request handlers that can be discovered). `Headers` reads and makes message headers, `pyev` is
the loop, `gevent_loop` an adapter to gevent's, and all errors are below `NatsError`, see `errors`.
docs/guide.md goes through all of it with programs that run.
"""

from . import _buckets, errors, jetstream
from ._buckets import *  # noqa: F403
from ._kv_watch import KvEntry, KvWatch
from ._object_get import Download
from ._object_put import Upload
from ._object_watch import ObjectWatch
from ._version import __version__
from .auth.nkeys import HAS_NKEY
from .client.nats import Nats
from .errors import *  # noqa: F403
from .headers import Headers
from .jetstream import *  # noqa: F403
from .jetstream.errors import *  # noqa: F403  mypy does not see them in the line above
from .kv import KV
from .kv_codecs import Base64Codec, ChainCodec, PathCodec
from .net.tls import HAS_TLS
from .object_store import ObjectStore
from .service import Endpoint, Group, Service, ServiceError, ServiceRequest
from .status import Status

__all__ = [
    "HAS_NKEY",
    "HAS_TLS",
    "KV",
    "Base64Codec",
    "ChainCodec",
    "Download",
    "Endpoint",
    "Group",
    "Headers",
    "KvEntry",
    "KvWatch",
    "Nats",
    "ObjectStore",
    "ObjectWatch",
    "PathCodec",
    "Service",
    "ServiceError",
    "ServiceRequest",
    "Status",
    "Upload",
    "__version__",
]
# Modules' names, because type checkers know no other variables here.
__all__ += _buckets.__all__
__all__ += errors.__all__
__all__ += jetstream.__all__
