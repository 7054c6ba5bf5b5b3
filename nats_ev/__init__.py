"""NATS client for Python programs on a libev loop: callbacks, one thread, C where it is hot."""

from ._connection import Status
from ._tls import HAS_TLS
from ._version import __version__
from .auth import HAS_NKEY
from .client import Nats
from .errors import *  # noqa: F403
from .errors import __all__ as _errors
from .headers import Headers
from .jetstream import *  # noqa: F403
from .jetstream import __all__ as _jetstream
from .service import Endpoint, Group, Service, ServiceError, ServiceRequest

__all__ = [
    "HAS_NKEY",
    "HAS_TLS",
    "Endpoint",
    "Group",
    "Headers",
    "Nats",
    "Service",
    "ServiceError",
    "ServiceRequest",
    "Status",
    "__version__",
]
__all__ += _errors
__all__ += _jetstream
