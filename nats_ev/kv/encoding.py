"""How a `KV` writes keys and values into messages, and makes entries of messages: its codecs, applied.

Without codecs a key is stored under its own name and a value as its own bytes. With them, every key and
filter that a user passes is encoded before it becomes part of a subject, and every key and value that comes
from the server is decoded before a user sees it.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from ..arguments import Payload, payload_bytes
from ..buckets import InvalidKeyError, Reader, codec_error
from ..errors import NatsError
from ..jetstream import attempt
from .codecs import KeyCodec, ValueCodec
from .entry import PUT, KvEntry, check_filters, check_key, operation, stored_entry

if TYPE_CHECKING:
    from ..jetstream import JsMsg, Metadata, StoredMsg

Keys = str | Iterable[str] | None


class Encoding:
    """The codecs of one `KV`, or none."""

    def __init__(
        self, bucket: str, key_codec: KeyCodec | None, value_codec: ValueCodec | None
    ) -> None:
        self._bucket = bucket
        self._key_codec = key_codec
        self._value_codec = value_codec

    def key(self, key: str) -> str:
        """Return the key as subjects have it. Raises TypeError and `InvalidKeyError`."""
        if self._key_codec is None:
            return check_key(key)
        if not isinstance(key, str) or not key:
            raise InvalidKeyError(f"invalid key {key!r}")
        return check_key(self._key_codec.encode_key(key))

    def stored(self, key: str) -> str:
        """Return a key that the server has given as subjects have it.

        Another client may have stored a key that this one would not. Raises what the codec raises.
        """
        return key if self._key_codec is None else self._key_codec.encode_key(key)

    def filters(self, keys: Keys) -> list[str]:
        """Return the filters as subjects have them. Raises TypeError and `InvalidKeyError`."""
        if self._key_codec is None or not keys:
            return check_filters(keys)
        codec = self._key_codec
        wanted = [keys] if isinstance(keys, str) else list(keys)
        encoded = []
        for key in wanted:
            if "*" not in key and ">" not in key:
                encoded.append(codec.encode_key(key))
            elif hasattr(codec, "encode_filter"):
                encoded.append(codec.encode_filter(key))
            else:
                raise InvalidKeyError(f"invalid key {key!r}: the codec can't keep wildcards")
        return check_filters(encoded)

    def value(self, value: Payload) -> bytes:
        """Return the value as messages have it. Raises TypeError, ValueError and what the codec raises."""
        data = payload_bytes(value, "a value")
        return data if self._value_codec is None else self._value_codec.encode_value(data)

    def entry(self, key: str, message: StoredMsg) -> tuple[KvEntry | None, NatsError | None]:
        """Return (entry, None) for a message of a key, or (None, err) if it can't be read."""
        entry, error = attempt(stored_entry, self._bucket, key, message, what=f"message of {key}")
        if entry is None or self._value_codec is None or entry.deleted:
            return entry, error
        try:
            return entry._replace(value=self._value_codec.decode_value(entry.value)), None
        except Exception as exc:
            return None, codec_error(key, exc)

    def reader(self, *, meta_only: bool) -> Reader:
        """Return the reader for a watch: it makes an entry of a message, or raises `CodecError`.

        meta_only: the messages come without their values, so there is nothing to decode.
        """
        bucket, key_codec = self._bucket, self._key_codec
        value_codec = None if meta_only else self._value_codec

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
