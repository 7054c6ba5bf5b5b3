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
        if not isinstance(key, str):
            raise TypeError(f"a key must be str, not {type(key).__name__}")
        if not key:
            raise InvalidKeyError("invalid key ''", key="")
        try:
            return check_key(self._key_codec.encode_key(key))
        except (InvalidKeyError, UnicodeEncodeError) as exc:  # the latter: a lone surrogate
            raise InvalidKeyError(f"invalid key {key!r}: {exc}", key=key) from exc

    def stored(self, key: str) -> str:
        """Return a key that the server has given as subjects have it.

        Another client may have stored a key that this one would not. Raises what the codec raises.
        """
        return key if self._key_codec is None else self._key_codec.encode_key(key)

    def filters(self, keys: Keys) -> list[str]:
        """Return the filters as subjects have them. Raises TypeError and `InvalidKeyError`."""
        if self._key_codec is None or not keys:
            return check_filters(keys)
        wanted = [keys] if isinstance(keys, str) else list(keys)
        encoded: list[str] = []
        for key in wanted:
            if not isinstance(key, str):
                raise TypeError(f"a key must be str, not {type(key).__name__}")
            if "*" not in key and ">" not in key:
                encoded.append(self.key(key))
            else:
                encoded += check_filters([self._filter(key)])  # as a list: "" would be all keys
        return list(dict.fromkeys(encoded)) or check_filters(None)

    def _filter(self, pattern: str) -> str:
        """Return a filter with wildcards as subjects have it. Raises `InvalidKeyError`."""
        try:
            encode = self._key_codec.encode_filter  # type: ignore[union-attr]
            return str(encode(pattern))
        except AttributeError as exc:  # of the codec, or of one in a chain
            raise InvalidKeyError(
                f"invalid key {pattern!r}: the codec can't keep wildcards", key=pattern
            ) from exc
        except UnicodeEncodeError as exc:
            raise InvalidKeyError(f"invalid key {pattern!r}: {exc}", key=pattern) from exc

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

    def named_entry(
        self, stored_key: str, key: str | None, message: StoredMsg
    ) -> tuple[KvEntry | None, NatsError | None]:
        """Return (entry, None) for a message of a stored key, or (None, err) if it can't be read.

        key: the program's name of the key, if it is known; else the codec tells.
        """
        if key is None:
            key = stored_key
            if self._key_codec is not None:
                try:
                    key = _text(self._key_codec.decode_key(stored_key))
                except Exception as exc:
                    return None, codec_error(stored_key, exc)
        return self.entry(key, message)

    def stored_value(self, key: str, message: StoredMsg) -> tuple[bytes | None, NatsError | None]:
        """Return (value, None) for the latest message of a key, or (None, err) if it can't be decoded.

        (None, None): the message is a marker of a deletion.
        """
        if operation(message.headers) != PUT:
            return None, None
        if self._value_codec is None:
            return message.data, None
        try:
            return self._value_codec.decode_value(message.data), None
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
                    key = _text(key_codec.decode_key(key))
                if value_codec is not None and change == PUT:
                    value = value_codec.decode_value(value)
            except Exception as exc:
                raise codec_error(key, exc) from exc
            entry = KvEntry(
                bucket, key, value, meta.stream_sequence, meta.timestamp, meta.num_pending, change
            )
            return entry, entry.deleted

        return read


def _text(key: object) -> str:
    """Return a key that a codec has decoded. Raises TypeError: lists are sorted by keys."""
    if not isinstance(key, str):
        raise TypeError(f"decode_key() gave {type(key).__name__}, not str")
    return key
