"""Watching what an object store has."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..buckets import Watch
from ..times import rfc3339
from .meta import Info, parse

if TYPE_CHECKING:
    from ..jetstream import JsMsg, Metadata


class ObjectWatch(Watch):
    """What `ObjectStore.watch` returns: `stop` ends it, `stopped` tells whether it has ended."""

    def read(self, key: str, message: JsMsg, meta: Metadata) -> tuple[Info, bool]:
        """See `Watch`."""
        time = rfc3339(meta.timestamp)
        info = parse(self.bucket, message.data, time, meta.stream_sequence)
        return info, info["deleted"]
