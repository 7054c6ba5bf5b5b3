"""Message headers (ADR-4): the block on the wire, and a mapping made of it. No I/O."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, MutableMapping
from typing import Union

from .errors import BadHeadersError

__all__ = ["Headers"]

_VERSION = b"NATS/1.0"
_STATUS = re.compile(rb"NATS/1\.0[ \t]+(\d{3})(?:[ \t]+(.*?))?[ \t]*(?:\r\n|$)", re.DOTALL)
# ADR-4: printable ASCII without the colon. What is beyond ASCII passes, so that all that came in
# can be sent on.
_NAME = re.compile("[!-9;-~\x80-\U0010ffff]+")
_BREAKS = re.compile(r"[\r\n\0]")

HeadersLike = Union["Headers", Mapping[str, str | Iterable[str]], bytes]


class Headers(MutableMapping[str, str]):
    """Ordered multi-map of header names to values; names are case-sensitive (ADR-4).

    As a mapping it holds the first value of each name; `get_all` and `add` reach the others. What
    could break out of its line is refused with `BadHeadersError`. `status` and `description` are those
    of a status line, such as 503 "No Responders", else None.
    """

    __slots__ = ("_values", "description", "status")

    def __init__(
        self,
        values: Mapping[str, str | Iterable[str]] | Iterable[tuple[str, str]] = (),
        *,
        status: int | None = None,
        description: str | None = None,
    ) -> None:
        self._values: dict[str, list[str]] = {}
        self.status = status
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
        """The headers of a received block; None gives none.

        What is no header line is left out, as in the official clients. Raises `BadHeadersError` when it
        is no header block at all.
        """
        headers = cls()
        if raw is None:
            return headers
        if not raw.startswith(_VERSION):
            raise BadHeadersError("not a header block: it does not begin with NATS/1.0")
        first, *lines = raw.split(b"\r\n")
        if found := _STATUS.match(first):
            headers.status = int(found[1])
            headers.description = _text(found[2]) if found[2] else None
        for line in lines:
            name, colon, value = line.partition(b":")
            if colon and name:
                headers._values.setdefault(_text(name), []).append(_text(value.strip(b" \t")))
        return headers

    def encode(self) -> bytes:
        """The raw block, ready to be sent."""
        lines = [_VERSION]
        if self.status is not None:
            lines[0] += f" {self.status}".encode()
            if self.description:
                if _BREAKS.search(self.description):
                    raise BadHeadersError(
                        "invalid status description: it contains a line break or NUL"
                    )
                lines[0] += b" " + _bytes(self.description)
        for name, values in self._values.items():
            raw = _bytes(name)
            lines.extend(raw + b": " + _bytes(value) for value in values)
        return b"\r\n".join(lines) + b"\r\n\r\n"

    def add(self, name: str, value: str) -> None:
        """Append a value; those that the name has already stay."""
        _check(name, value)
        self._values.setdefault(name, []).append(value)

    def set(self, name: str, value: str | Iterable[str]) -> None:
        """Replace all values of a name."""
        values = _several(value)
        for one in values:
            _check(name, one)
        self._values.pop(name, None)
        if values:
            self._values[name] = values

    def get_all(self, name: str) -> list[str]:
        """All values of a name, in order; empty when there are none."""
        return list(self._values.get(name, ()))

    def pairs(self) -> list[tuple[str, str]]:
        """All names with all their values."""
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
        return f"Headers({self.pairs()!r}{status})"


def encode_headers(headers: HeadersLike) -> bytes:
    """The raw block for what a user may pass as headers; a raw block comes back as it is.

    Raises TypeError and `BadHeadersError`. An empty mapping is an empty block, without any header.
    """
    if isinstance(headers, bytes):
        if not headers.startswith(_VERSION) or not headers.endswith(b"\r\n\r\n"):
            raise BadHeadersError(
                "invalid headers: a raw block begins with NATS/1.0 and ends with an empty line"
            )
        return headers
    if isinstance(headers, (bytearray, memoryview)):
        return encode_headers(bytes(headers))
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
    """One value, or several, as a list."""
    if isinstance(value, str):
        return [value]
    if not isinstance(value, Iterable):
        raise TypeError(f"a header's value must be str or several, not {type(value).__name__}")
    return list(value)


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
        return text.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError:
        raise BadHeadersError("invalid header: a lone surrogate") from None
