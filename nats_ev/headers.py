"""Message headers (ADR-4): the block on the wire, and a mapping made of it. No I/O.

A received message carries its headers as one raw block of bytes, which costs no more than a slice. Whoever
wants to read a header makes a `Headers` of the block; whoever only needs to tell a server's status from a
message asks `is_no_responders`, `has_status` or `status_of`, which look at the first line alone.

Names and values are UTF-8 with surrogateescape both ways, so that any block can be sent on unchanged.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, MutableMapping

from .compiled import HeadersBase, encode_block, last_values, parse_headers
from .errors import BadHeadersError

__all__ = ["Headers"]

_VERSION = b"NATS/1.0"
_STATUS_LINE = b"NATS/1.0 "
_NO_RESPONDERS = b"NATS/1.0 503"
# ADR-4: printable ASCII without the colon. Names beyond ASCII are read, but not sent: a subscriber of another
# client may lose the message and those after it.
_NAME = re.compile("[!-9;-~]+")
_BREAKS = re.compile(r"[\r\n\0]")


class Headers(HeadersBase, MutableMapping[str, str]):
    """Ordered multi-map of header names to values; names are case-sensitive (ADR-4).

    As a mapping it shows the first value of each name; `get_all` and `add` reach the others. A name or
    value that could break out of its line is refused with `BadHeadersError`.

    Args:
        values: a mapping of names to a value or several, pairs of a name and a value, or `Headers` to copy.
        status: the number in a status line, 100 to 999, such as 503; None: no status line.
        description: the text after the number, such as "No Responders", or None.

    Raises:
        TypeError: a name or value is not str, or status is not an int.
        BadHeadersError: a name, value or status can't be sent.
    """

    __slots__ = ()

    def __init__(
        self,
        values: Mapping[str, str | Iterable[str]] | Iterable[tuple[str, str]] = (),
        *,
        status: int | None = None,
        description: str | None = None,
    ) -> None:
        self._values: dict[str, list[str]] = {}
        self._received = False  # names may be in it that must not be sent
        self.status = None if status is None else _checked_status(status)
        self.description = description
        items: Iterable[tuple[str, str | Iterable[str]]]
        if isinstance(values, Headers):
            items = [(name, values.get_all(name)) for name in values]
        elif isinstance(values, Mapping):
            items = values.items()
        else:
            items = values
        for name, value in items:
            for one in _several(value):
                self.add(name, one)

    @classmethod
    def parse(cls, raw: bytes | None) -> Headers:
        """Return the headers of a received block; for None, empty headers.

        Lines that are not headers are left out, as in the official clients. Raises `BadHeadersError` when
        raw does not begin with ``NATS/1.0``.
        """
        if raw is None:
            return cls()
        headers = parse_headers(cls, raw, status_of)
        if headers is None:
            raise BadHeadersError("not a header block: it does not begin with NATS/1.0")
        return headers

    def encode(self) -> bytes:
        """Return the raw block, ready to be sent.

        Raises `BadHeadersError` for a status or description that a status line can't hold, and for a
        received name that may not be sent: some clients lose messages with names beyond ASCII.
        """
        if self.status is None and (block := encode_block(self._values)) is not None:
            return block
        lines = [_VERSION]
        if self.status is not None:
            lines[0] += f" {_checked_status(self.status)}".encode()
            if self.description:
                if _BREAKS.search(self.description):
                    raise BadHeadersError(
                        "invalid status description: it contains a line break or NUL"
                    )
                lines[0] += b" " + _bytes(self.description)
        for name, values in self._values.items():
            if self._received and not _NAME.fullmatch(name):
                raise BadHeadersError(f"invalid header name {name!r}")
            raw = _bytes(name)
            lines.extend(raw + b": " + _bytes(value) for value in values)
        return b"\r\n".join(lines) + b"\r\n\r\n"

    def add(self, name: str, value: str) -> None:
        """Append a value to a name; the values that the name has already stay.

        Args:
            name: one or more ASCII characters from 33 to 126, no colon (ADR-4).
            value: without line breaks and NUL.

        Raises:
            TypeError: name or value is not str.
            BadHeadersError: name or value can't be sent.
        """
        _check(name, value)
        self._values.setdefault(name, []).append(value)

    def set(self, name: str, value: str | Iterable[str]) -> None:
        """Replace all values of a name, or on an error none.

        Args:
            name: as for `add`.
            value: one value, or several; an empty list removes the name.

        Raises:
            TypeError: name or a value is not str.
            BadHeadersError: name or a value can't be sent.
        """
        values = _several(value)
        for one in values:
            _check(name, one)
        self._values.pop(name, None)
        if values:
            self._values[name] = values

    def get_all(self, name: str) -> list[str]:
        """Return all values of a name, in order; an empty list if the name is missing."""
        return list(self._values.get(name, ()))

    def pairs(self) -> list[tuple[str, str]]:
        """Return all names with all their values: one pair for each value."""
        return [(name, value) for name, values in self._values.items() for value in values]

    def __getitem__(self, name: str) -> str:
        return self._values[name][0]

    def __setitem__(self, name: str, value: str) -> None:
        self.set(name, value)

    def __delitem__(self, name: str) -> None:
        del self._values[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._values)

    def __len__(self) -> int:
        return len(self._values)

    def __eq__(self, other: object) -> bool:
        if isinstance(other, Headers):
            mine = (self._values, self.status, self.description)
            return mine == (other._values, other.status, other.description)
        return super().__eq__(other)

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        status = f", status={self.status}" if self.status is not None else ""
        text = f", description={self.description!r}" if self.description is not None else ""
        return f"{type(self).__name__}({self.pairs()!r}{status}{text})"


def with_more(headers: HeadersLike | None, more: dict[str, str]) -> HeadersLike | None:
    """Return headers with more of them set; malformed ones as they are, which the call then refuses."""
    if headers is None:
        return more
    try:
        merged = Headers.parse(headers) if isinstance(headers, bytes) else Headers(headers)
        for name, value in more.items():
            merged.set(name, value)
        merged.encode()
    except (TypeError, ValueError):
        return headers
    return merged


def is_no_responders(raw: bytes) -> bool:
    """Return whether a raw block is the server's answer that nobody subscribes to a request's subject.

    Only an answer without a payload can be that (status 503). For the request path: no block is parsed.
    nats-server 2.10 stores a status line that a publisher has sent, so the answer to a direct get may begin
    with one. The server adds to such a message where it is stored.
    """
    return raw.startswith(_NO_RESPONDERS) and b"\r\nNats-Sequence: " not in raw


def has_status(raw: bytes) -> bool:
    """Return whether a raw block begins with a status line. One comparison of bytes."""
    return raw.startswith(_STATUS_LINE)


def status_of(raw: bytes | None) -> tuple[int | None, str | None]:
    """Return the status and description of a raw block, without parsing its headers.

    Both are None when raw is None or has no status line; the description is None when it is missing.
    """
    if raw is None or not raw.startswith((b"NATS/1.0 ", b"NATS/1.0\t")):
        return None, None
    # No regular expression: one with several runs of blanks is quadratic in blanks that a publisher sends.
    line = raw[len(_VERSION) :].partition(b"\r\n")[0].strip(b" \t")
    code, description = line[:3], line[3:]
    if len(code) != 3 or not code.isdigit() or description[:1] not in (b"", b" ", b"\t"):
        return None, None
    return int(code), _text(description.lstrip(b" \t")) or None


def received(raw: bytes | None) -> Headers:
    """Return the headers of a received block; empty ones for what is no header block.

    A publisher may send any bytes in place of a block, and servers deliver them.
    """
    return Headers.parse(raw if raw is not None and raw.startswith(_VERSION) else None)


def appended(raw: bytes | None) -> dict[str, str]:
    """Return the headers of a received block with the last value of each name.

    A server appends its own headers to those of the publisher, who may have sent some of the same names, or
    what is no header block.
    """
    return last_values(raw) if raw is not None else {}


HeadersLike = Headers | Mapping[str, str | Iterable[str]] | bytes


def as_headers(headers: HeadersLike) -> Headers:
    """Return a new `Headers` for what a user may pass as headers. Raises TypeError, `BadHeadersError`."""
    if isinstance(headers, (bytes, bytearray, memoryview)):
        return Headers.parse(bytes(memoryview(headers)))
    return Headers(headers)


def encode_headers(headers: HeadersLike) -> bytes:
    """Return the raw block for what a user may pass as headers; bytes of a raw block come back unchanged.

    Raises TypeError and `BadHeadersError`. An empty mapping gives a block without any header.
    """
    if type(headers) is dict and (block := encode_block(headers)) is not None:
        return block
    if type(headers) is bytes:
        if not headers.startswith(_VERSION) or not headers.endswith(b"\r\n\r\n"):
            raise BadHeadersError(
                "invalid headers: a raw block begins with NATS/1.0 and ends with an empty line"
            )
        return headers
    if isinstance(headers, (bytes, bytearray, memoryview)):
        # By way of a memoryview, which asks no method of a subclass.
        return encode_headers(bytes(memoryview(headers)))
    if isinstance(headers, Headers):
        return headers.encode()
    if isinstance(headers, Mapping):
        return Headers(headers).encode()
    if isinstance(headers, str):
        return encode_headers(_bytes(headers))
    raise TypeError(
        f"headers must be Headers, a mapping or a raw block, not {type(headers).__name__}"
    )


def set_in_block(raw: bytes | None, values: Mapping[str, str]) -> bytes:
    """Return a raw block with headers set, as `Headers.set` does; None: a new block.

    A block that has none of these headers yet is extended without being parsed. Raises `BadHeadersError`.

    Args:
        raw: the block, as `encode_headers` returns it.
        values: names and their new values.
    """
    if raw is not None and any(b"\r\n%b:" % name.encode() in raw for name in values):
        block = Headers.parse(raw)
        for name, value in values.items():
            block.set(name, value)
        return block.encode()
    lines = [raw[:-2] if raw is not None else _VERSION + b"\r\n"]
    for name, value in values.items():
        _check(name, value)
        lines.append(b"%b: %b\r\n" % (_bytes(name), _bytes(value)))
    lines.append(b"\r\n")
    return b"".join(lines)


def _several(value: str | Iterable[str]) -> list[str]:
    """Return one value, or several, as a list."""
    if isinstance(value, str):
        return [value]
    if not isinstance(value, Iterable):
        raise TypeError(f"a header's value must be str or several, not {type(value).__name__}")
    return list(value)


def _checked_status(status: object) -> int:
    if isinstance(status, bool) or not isinstance(status, int):
        raise TypeError(f"status must be an int, not {type(status).__name__}")
    if not 100 <= status <= 999:
        raise BadHeadersError(f"invalid status {status}: three digits")
    return status


def _check(name: str, value: str) -> None:
    if not isinstance(name, str) or not isinstance(value, str):
        raise TypeError("header names and values must be str")
    if not _NAME.fullmatch(name):
        raise BadHeadersError(f"invalid header name {name!r}")
    if _BREAKS.search(value):
        raise BadHeadersError(f"invalid value of header {name!r}: it contains a line break or NUL")


def _text(raw: bytes) -> str:
    return raw.decode("utf-8", "surrogateescape")


def _bytes(text: str) -> bytes:
    try:
        # Not text.encode, which a subclass may override.
        return str.encode(text, "utf-8", "surrogateescape")
    except UnicodeEncodeError:
        raise BadHeadersError("invalid header: a lone surrogate") from None
