"""`Service`: request handlers that tools can discover, watch and scale (ADR-32).

Files: `service` (all of it), `types` (what a service tells of itself, for annotations).
"""

from ..imports import show_as_public
from .service import Endpoint, Group, Service, ServiceError, ServiceRequest
from .types import *  # noqa: F403

__all__: list[str] = ["Endpoint", "Group", "Service", "ServiceError", "ServiceRequest"]

show_as_public(globals(), __all__)
