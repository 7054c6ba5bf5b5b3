"""Keys and entries of a bucket, and watching them (ADR-8, 48)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..buckets import Watch, codec_error
from .entry import PUT, KvEntry, operation

if TYPE_CHECKING:
    from ..jetstream import JsMsg, Metadata
    from .codecs import KeyCodec, ValueCodec


class KvWatch(Watch):
    """What `KV.watch` returns: `stop` ends it, `stopped` tells whether it has ended."""

    key_codec: KeyCodec | None = None
    value_codec: ValueCodec | None = None

    def read(self, key: str, message: JsMsg, meta: Metadata) -> tuple[KvEntry, bool]:
        """See `Watch`."""
        value, change = message.data, operation(message.headers)
        try:
            if self.key_codec is not None:
                key = self.key_codec.decode_key(key)
            if self.value_codec is not None and change == PUT:
                value = self.value_codec.decode_value(value)
        except Exception as exc:
            raise codec_error(key, exc) from exc
        entry = KvEntry(
            self.bucket, key, value, meta.stream_sequence, meta.timestamp, meta.num_pending, change
        )
        return entry, entry.deleted
