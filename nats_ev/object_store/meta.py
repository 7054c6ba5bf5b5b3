"""What an object store keeps about an object (ADR-20), and where: names, subjects, digests. No I/O.

An object's info is a dict of the wire's JSON: name, bucket, nuid, size, chunks, digest, and if there
are any description, headers (name → list of values), metadata, options (link, max_chunk_size),
deleted. `parse` adds mtime, the server's time of storing it, and seq, its revision.
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

Info = dict[str, Any]

DIGEST = "SHA-256="
CHUNK_SIZE = 128 * 1024
STREAM_PREFIX = "OBJ_"

_NUID = re.compile(r"[A-Za-z0-9_-]*")


def check_name(name: object) -> str:
    """An object's name that is valid; raises `InvalidObjectNameError`."""
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
    """Where an object's info is."""
    return f"$O.{bucket}.M.{base64.urlsafe_b64encode(name.encode()).decode()}"


def chunk_subject(bucket: str, nuid: str) -> str:
    """Where the parts of an object's content are, in order."""
    return f"$O.{bucket}.C.{nuid}"


def digest_text(content: hashlib._Hash) -> str:
    """The digest as it is stored."""
    return DIGEST + base64.urlsafe_b64encode(content.digest()).decode()


def digest_matches(text: object, content: hashlib._Hash) -> bool:
    """Whether a stored digest, with or without base64's padding, is that of the content."""
    if not isinstance(text, str) or not text.startswith(DIGEST):
        return False
    return text.rstrip("=") == digest_text(content).rstrip("=")


def parse(bucket: str, data: bytes, time: str, seq: int) -> Info:
    """The info in a stored message; raises `BadObjectMetaError`."""
    try:
        info = json.loads(data)
    except ValueError as exc:
        raise BadObjectMetaError(f"invalid object info in {bucket}: {exc}") from None
    numbers = ("size", "chunks")
    if (
        not isinstance(info, dict)
        or not isinstance(info.get("name"), str)
        # A link made by nats.js has none; one with wildcards would name the content of others.
        or not isinstance(info.setdefault("nuid", ""), str)
        or not _NUID.fullmatch(info["nuid"])
        or any(type(info.setdefault(number, 0)) is not int for number in numbers)
        or any(info[number] < 0 for number in numbers)
    ):
        raise BadObjectMetaError(f"invalid object info in {bucket}")
    info["bucket"] = bucket
    info["deleted"] = bool(info.get("deleted"))
    info["mtime"] = time
    info["seq"] = seq
    return info


def encode(info: Info) -> bytes:
    """The message that stores an info. The server has the time and the sequence."""
    stored = {k: v for k, v in info.items() if k not in ("mtime", "seq")}
    for name in ("deleted", "digest"):
        if not stored.get(name):
            stored.pop(name, None)
    return json.dumps(stored, separators=(",", ":")).encode()


def link_of(info: Info) -> Mapping[str, Any] | None:
    """Where a link leads: bucket, and name unless it is the whole bucket. None: no link."""
    link = (info.get("options") or {}).get("link")
    return link if isinstance(link, Mapping) else None


def meta_fields(
    description: str | None,
    headers: HeadersLike | None,
    metadata: Mapping[str, str] | None,
) -> dict[str, Any]:
    """What a user says about an object; raises TypeError and `BadHeadersError`."""
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
    """The names, sorted."""
    return sorted(info["name"] for info in infos)
