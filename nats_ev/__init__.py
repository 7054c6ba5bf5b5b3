"""NATS client for Python programs on a libev loop: callbacks, one thread, C where it is hot."""

from ._buckets import *  # noqa: F403
from ._buckets import __all__ as _buckets
from ._connection import Status
from ._kv_watch import KvEntry, KvWatch
from ._object_get import Download
from ._object_put import Upload
from ._object_watch import ObjectWatch
from ._tls import HAS_TLS
from ._version import __version__
from .auth import HAS_NKEY
from .client import Nats
from .errors import *  # noqa: F403
from .errors import __all__ as _errors
from .headers import Headers
from .jetstream import *  # noqa: F403
from .jetstream import __all__ as _jetstream
from .kv import KV
from .kv_codecs import Base64Codec, ChainCodec, PathCodec
from .object_store import ObjectStore
from .service import Endpoint, Group, Service, ServiceError, ServiceRequest

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
__all__ += _buckets
__all__ += _errors
__all__ += _jetstream
