"""`Msg`: a message, or the answer to a request, as a face hands it over."""

from __future__ import annotations

from typing import Protocol

from ..arguments import Payload
from ..errors import BadSubjectError
from ..headers import HeadersLike, received


class Publisher(Protocol):
    """What a `Msg` needs of the client that it came from."""

    def publish_answer(self, subject: str, payload: Payload, headers: HeadersLike | None) -> None:
        """Publish, in whatever thread the caller is."""


class Msg:
    """A message, or the answer to a request.

    Attributes:
        subject: the message's; of an answer, that of the request.
        payload: bytes (`data` is the same).
        reply: the subject that answers go to, or None.
        headers: the raw block as bytes, or None: `header` reads one, `Headers.parse` all.
    """

    __slots__ = ("_publisher", "headers", "payload", "reply", "subject")

    def __init__(
        self,
        publisher: Publisher,
        subject: str,
        payload: bytes,
        reply: str | None,
        headers: bytes | None,
    ) -> None:
        self._publisher = publisher
        self.subject = subject
        self.payload = payload
        self.reply = reply
        self.headers = headers

    def __repr__(self) -> str:
        reply = f" reply {self.reply!r}" if self.reply else ""
        return f"<Msg {self.subject!r}{reply} {len(self.payload)} bytes>"

    @property
    def data(self) -> bytes:
        """The same as `payload`."""
        return self.payload

    def header(self, name: str, default: str | None = None) -> str | None:
        """Return the first value of a header, or default if the message does not have it."""
        return received(self.headers).get(name, default)

    def respond(self, payload: Payload = b"", headers: HeadersLike | None = None) -> None:
        """Publish an answer to the message.

        Args:
            payload: what `Nats.publish` takes.
            headers: of the answer; what `Nats.hpublish` takes.

        Raises:
            BadSubjectError: the message has no reply subject.
            NatsError: what `Nats.publish` and `Nats.hpublish` raise.
        """
        if not self.reply:
            raise BadSubjectError(f"nobody waits for an answer to the message on {self.subject!r}")
        self._publisher.publish_answer(self.reply, payload, headers)
