"""The options of a client.

Files: `options` declares them, `checks` has the check of each, `proxy` what a proxy's URL and the environment
say, `types` the types for annotations.
"""

from .options import MAX_MESSAGE_SIZE as MAX_MESSAGE_SIZE
from .options import NAMES as NAMES
from .options import Options as Options
from .proxy import Proxy as Proxy
from .proxy import parse_proxy as parse_proxy
from .proxy import proxy_of_environment as proxy_of_environment
from .types import CommonOptions as CommonOptions
from .types import Content as Content
from .types import ErrorCallback as ErrorCallback
from .types import EventCallback as EventCallback
from .types import ExpiringCallback as ExpiringCallback
from .types import NatsOptions as NatsOptions
from .types import NextServer as NextServer
from .types import Path as Path
from .types import ServersCallback as ServersCallback
from .types import SlowConsumerCallback as SlowConsumerCallback

__all__: list[str] = []
