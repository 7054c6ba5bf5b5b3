"""What a client asks servers: who it is, when its credentials expire, which way a message takes.

Files: `user` (``$SYS.REQ.USER.INFO``), `expiry` (the warning before credentials expire), `trace` (the way
of a message, ADR-41), `report` (what servers say about that way), `methods` (the methods of `Nats`),
`asker` (what these need of it).
"""

from .methods import Inquiries as Inquiries
from .methods import SubjectPermissions as SubjectPermissions
from .methods import UserInfo as UserInfo
from .methods import UserPermissions as UserPermissions
from .report import Trace

__all__ = ["Trace"]
