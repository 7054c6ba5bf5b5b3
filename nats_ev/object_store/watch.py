"""Watching the objects of a store: `ObjectWatch`, and how a message becomes an info."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..buckets import Reader, Watch
from ..times import rfc3339
from .meta import Info, parse

if TYPE_CHECKING:
    from ..jetstream import JsMsg, Metadata


class ObjectWatch(Watch):
    """A running watch of objects: what `ObjectStore.watch` returns.

    `stop` ends the watch, `stopped` tells whether the watch has ended, `bucket` is the store's name.
    """


def info_reader(bucket: str) -> Reader:
    """Return the reader for a watch of this store: it makes an info of a message."""

    def read(key: str, message: JsMsg, meta: Metadata) -> tuple[Info, bool]:
        info = parse(bucket, key, message.data, rfc3339(meta.timestamp), meta.stream_sequence)
        return info, info["deleted"]

    return read
