"""Key-value buckets (ADR-8): `KV`.

Files: `store` (`KV`), `bucket` (its stream and configuration), `entry`, `watch`, `codecs`.
"""

from .codecs import Base64Codec, ChainCodec, PathCodec
from .entry import KvEntry
from .store import KV
from .watch import KvWatch

__all__ = ["KV", "Base64Codec", "ChainCodec", "KvEntry", "KvWatch", "PathCodec"]
