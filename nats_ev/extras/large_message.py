"""`LargeMsg`: a message of any size, as its receiver sees it."""

from __future__ import annotations

from typing import NamedTuple, Protocol

from ..arguments import Callback, Payload, ResultCallback, payload_bytes
from ..errors import BadOptionsError
from ..headers import Headers, HeadersLike
from .large_wire import ACCEPT, WANTS, is_ours, parsed, users_headers


class Question(NamedTuple):
    """What an answer is for: where the request came, where the answer goes, and what its sender knows."""

    subject: str
    reply: str
    offered: bool  # the request was a large one
    takes_large: bool


class Responder(Protocol):
    """What a `LargeMsg` needs to answer."""

    def respond(
        self, question: Question, data: bytes, headers: HeadersLike | None, cb: Callback | None
    ) -> None:
        """Send an answer."""


class LargeMsg:
    """A message of any size, as it was published.

    Attributes:
        subject: where it was published.
        payload: bytes; `data` is the same.
        headers: the raw block or None, without those of the protocol.
        reply: where an answer goes; None: none is wanted.
    """

    __slots__ = ("_core", "_offered", "_takes_large", "headers", "payload", "reply", "subject")

    def __init__(
        self,
        core: Responder,
        subject: str,
        payload: bytes,
        reply: str | None,
        headers: bytes | None,
        offered: bool,
    ) -> None:
        fields = parsed(headers) if is_ours(headers) else Headers()
        self._core = core
        self._offered = offered
        self._takes_large = offered or ACCEPT in fields
        self.subject, self.payload = subject, payload
        self.reply = reply if not offered or WANTS in fields else None
        self.headers = users_headers(headers)

    def __repr__(self) -> str:
        return f"<LargeMsg {self.subject!r} {len(self.payload)} bytes>"

    @property
    def data(self) -> bytes:
        """The same as `payload`."""
        return self.payload

    def header(self, name: str, default: str | None = None) -> str | None:
        """Return the first value of a header, or default if the message does not have it."""
        return parsed(self.headers).get(name, default)

    def respond(
        self,
        payload: Payload = b"",
        cb: ResultCallback[int] | None = None,
        *,
        headers: HeadersLike | None = None,
    ) -> None:
        """Answer a request, with any number of bytes.

        A requester that takes no large answers gets an error in place of one: a message with the headers
        ``Nats-Large-Error``, ``Nats-Service-Error-Code`` and ``Nats-Service-Error``.

        Args:
            payload: as for `Nats.publish`.
            cb: ``cb(1, None)`` when the requester has taken a large answer, 0 for one that was simply
                published; ``cb(None, err)`` when it could not: `LargeMessageRefusedError` with code 406 for
                a requester that takes none. Left out: errors go to the client's on_error.
            headers: of the answer.

        Raises:
            BadOptionsError: the message wants no answer.
        """
        if self.reply is None:
            raise BadOptionsError("this message wants no answer")
        self._core.respond(
            Question(self.subject, self.reply, self._offered, self._takes_large),
            payload_bytes(payload),
            headers,
            cb,
        )
