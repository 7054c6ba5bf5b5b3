"""`Service`: request handlers that tools can discover, watch and scale (ADR-32); `ServiceClient` finds them.

Files: `service` (all of it), `client` (what finds services), `types` (what a service tells of itself, for
annotations).
"""

from ..imports import show_as_public
from .client import Discovery, ServiceClient
from .service import Endpoint, Group, Service, ServiceError, ServiceRequest
from .types import *  # noqa: F403

__all__: list[str] = [
    "Discovery", "Endpoint", "Group", "Service", "ServiceClient", "ServiceError", "ServiceRequest",
]  # fmt: skip

show_as_public(globals(), __all__)
