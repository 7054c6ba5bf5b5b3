"""Key-value buckets (ADR-8): `KV`.

Files: `store` (`KV`, the operations), `bucket` (a bucket's configuration and state), `stream` (what is
known of a bucket's stream), `messages` (reading and writing one key), `many` (many keys together),
`encoding` (keys and values in messages), `codecs`, `entry`, `watch`.
"""

from ..imports import show_as_public
from .codecs import Base64Codec, ChainCodec, PathCodec
from .entry import KvEntry
from .entry import check_key as check_key
from .store import KV
from .store import entry_of_leader as entry_of_leader
from .watch import KvWatch

__all__: list[str] = ["KV", "Base64Codec", "ChainCodec", "KvEntry", "KvWatch", "PathCodec"]

show_as_public(globals(), __all__)
