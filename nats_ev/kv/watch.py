"""Watching keys of a bucket (ADR-8, 48): `KvWatch`, and how a message becomes an entry."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..buckets import Reader, Watch, codec_error
from .entry import PUT, KvEntry, operation

if TYPE_CHECKING:
    from ..jetstream import JsMsg, Metadata
    from .codecs import KeyCodec, ValueCodec


class KvWatch(Watch):
    """A running watch of keys: what `KV.watch` and `KV.list_keys` return.

    `stop` ends the watch, `stopped` tells whether the watch has ended, `bucket` is the bucket's name.
    """


def entry_reader(bucket: str, key_codec: KeyCodec | None, value_codec: ValueCodec | None) -> Reader:
    """Return the reader for a watch of this bucket: it makes a `KvEntry` of a message."""

    def read(key: str, message: JsMsg, meta: Metadata) -> tuple[KvEntry, bool]:
        value, change = message.data, operation(message.headers)
        try:
            if key_codec is not None:
                key = key_codec.decode_key(key)
            if value_codec is not None and change == PUT:
                value = value_codec.decode_value(value)
        except Exception as exc:
            raise codec_error(key, exc) from exc
        entry = KvEntry(
            bucket, key, value, meta.stream_sequence, meta.timestamp, meta.num_pending, change
        )
        return entry, entry.deleted

    return read
