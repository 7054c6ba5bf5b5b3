"""The NATS protocol without I/O: bytes in, events out; commands in, bytes out.

Files, each using those before it: `wire` (the compiled parser and write buffer), `info` (an INFO's
fields), `subscription` (one subscription's state, fast path included), `session` (one connection's
protocol).
"""

from .info import ServerInfo as ServerInfo
from .session import Session as Session
from .session import State as State
from .subscription import MOST_IN_UNSUB as MOST_IN_UNSUB
from .subscription import PENDING_BYTES_LIMIT as PENDING_BYTES_LIMIT
from .subscription import PENDING_MSGS_LIMIT as PENDING_MSGS_LIMIT
from .subscription import MessageCallback as MessageCallback
from .subscription import Passes as Passes
from .subscription import Subscription as Subscription
from .wire import DRAINED as DRAINED
from .wire import END as END
from .wire import FIRST as FIRST
from .wire import GAVE_WAY as GAVE_WAY
from .wire import HIGH as HIGH
from .wire import NOTHING as NOTHING
from .wire import SLOW as SLOW
from .wire import Client as Client
from .wire import ExpiryBase as ExpiryBase
from .wire import Outbound as Outbound
from .wire import Waiting as Waiting
from .wire import check_sub as check_sub
from .wire import fast_method as fast_method

__all__: list[str] = []
