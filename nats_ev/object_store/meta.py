"""An object's info as ADR-20 stores it, and the subjects of infos and parts. No I/O.

An info is a dict of the wire's JSON. It always has name, bucket, nuid, size, chunks and digest; it may have
description, headers (name → list of values), metadata, options (link, max_chunk_size) and deleted. `parse`
adds mtime, the time at which the server stored the info, and seq, the info's sequence in the stream.

The nuid ties an info to its content: a new one for each put. What ADR-20 calls a chunk, one message of
content, is a "part" in this package's prose and error texts.
"""

from __future__ import annotations

import base64
import hashlib
import json
import re
from collections.abc import Iterable, Mapping
from typing import Any

from ..buckets import BadObjectMetaError, InvalidObjectNameError
from ..headers import Headers, HeadersLike, encode_headers
from ..jetstream import InvalidAnswerError, read_json

Info = dict[str, Any]

DIGEST = "SHA-256="
CHUNK_SIZE = 128 * 1024
STREAM_PREFIX = "OBJ_"

# The fields that this package reads, or gives to users as documented.
_INFO: dict[str, Any] = {
    **dict.fromkeys(("bucket", "nuid", "digest", "description"), str),
    "name!": str,
    "size": int,
    "chunks": int,
    "deleted": bool,
    "headers": {"*": [str]},
    "metadata": {"*": str},
    "options": {"max_chunk_size": int, "link": {}},  # who follows a link checks where it leads
}
_NUID = re.compile(r"[A-Za-z0-9_-]*")


def check_name(name: object) -> str:
    """Return name if it is a valid name of an object. Raises TypeError and `InvalidObjectNameError`."""
    if not isinstance(name, str):
        raise TypeError(f"an object's name must be str, not {type(name).__name__}")
    if not name:
        raise InvalidObjectNameError("invalid object name '': it is empty")
    try:
        name.encode()
    except UnicodeEncodeError:
        raise InvalidObjectNameError(f"invalid object name {name!r}: a lone surrogate") from None
    return name


def stream_name(bucket: str) -> str:
    """Return the name of a store's stream."""
    return STREAM_PREFIX + bucket


def meta_subject(bucket: str, name: str) -> str:
    """Return the subject of an object's info."""
    return f"$O.{bucket}.M.{name_token(name)}"


def name_token(name: str) -> str:
    """Return the last token of `meta_subject`."""
    return base64.urlsafe_b64encode(name.encode()).decode()


def chunk_subject(bucket: str, nuid: str) -> str:
    """Return the subject on which the parts of an object's content are, in order."""
    return f"$O.{bucket}.C.{nuid}"


def digest_text(content: hashlib._Hash) -> str:
    """Return the digest of the content as an info has it."""
    return DIGEST + base64.urlsafe_b64encode(content.digest()).decode()


def digest_matches(text: object, content: hashlib._Hash) -> bool:
    """Return whether a stored digest, with or without base64's padding, is that of the content."""
    if not isinstance(text, str) or not text.startswith(DIGEST):
        return False
    return text.rstrip("=") == digest_text(content).rstrip("=")


def parse(bucket: str, key: str, data: bytes, time: str, seq: int) -> Info:
    """Return the info in a stored message. Raises `BadObjectMetaError`.

    Args:
        bucket: the store, which an info from a mirror or source may name otherwise.
        key: the last token of the message's subject.
        data: the message's payload.
        time: the message's time, which becomes mtime.
        seq: the message's sequence.
    """
    try:
        info = read_json(data, _INFO)
    except InvalidAnswerError as exc:
        reason = str(exc).removeprefix("invalid answer: ")
        raise BadObjectMetaError(f"invalid object info in {bucket} at {seq}: {reason}") from None
    # A link made by nats.js has no nuid.
    info["nuid"] = info.get("nuid") or ""
    for number in ("size", "chunks"):
        info[number] = info.get(number) or 0
        if info[number] < 0:
            raise BadObjectMetaError(
                f"invalid object info in {bucket} at {seq}: {number} is below 0"
            )
    # A nuid with wildcards would name the content of other objects.
    if not info["name"] or not _NUID.fullmatch(info["nuid"]):
        raise BadObjectMetaError(
            f"invalid object info in {bucket} at {seq}: its name or nuid can't be"
        )
    if name_token(info["name"]).rstrip("=") != key.rstrip("="):
        # To change it would change the object of that other name.
        text = f"invalid object info in {bucket} at {seq}: it names {info['name']!r:.200}"
        raise BadObjectMetaError(text)
    info["bucket"] = bucket
    info["deleted"] = bool(info.get("deleted"))
    info["mtime"] = time
    info["seq"] = seq
    return info


def encode(info: Info) -> bytes:
    """Return the payload that stores an info. mtime and seq are left out: the message itself has them."""
    stored = {k: v for k, v in info.items() if k not in ("mtime", "seq")}
    for name in ("deleted", "digest"):
        if not stored.get(name):
            stored.pop(name, None)
    return json.dumps(stored, separators=(",", ":")).encode()


def link_of(info: Info) -> Mapping[str, Any] | None:
    """Return a link's target: bucket, and name unless that is the whole bucket. None: the info is no link."""
    link = (info.get("options") or {}).get("link")
    return link if isinstance(link, Mapping) else None


def meta_fields(
    description: str | None,
    headers: HeadersLike | None,
    metadata: Mapping[str, str] | None,
) -> dict[str, Any]:
    """Return the fields of an info that a user sets. Raises TypeError and `BadHeadersError`."""
    fields: dict[str, Any] = {}
    if description is not None:
        if not isinstance(description, str):
            raise TypeError(f"description must be str, not {type(description).__name__}")
        fields["description"] = description
    if headers is not None:
        fields["headers"] = _header_lists(headers)
    if metadata is not None:
        fields["metadata"] = dict(metadata)
        for item in fields["metadata"].items():
            if not all(isinstance(text, str) for text in item):
                raise TypeError(f"metadata is str to str, not {item[0]!r}: {item[1]!r}")
    return fields


def _header_lists(headers: HeadersLike) -> dict[str, list[str]]:
    parsed = Headers.parse(encode_headers(headers))
    return {name: parsed.get_all(name) for name in parsed}


def names(infos: Iterable[Info]) -> list[str]:
    """Return the names in the infos, sorted."""
    return sorted(info["name"] for info in infos)
