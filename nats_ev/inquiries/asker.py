"""`Asker`: what inquiries need of a client."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

from ..arguments import Milliseconds, Payload
from ..headers import HeadersLike
from ..net import Deadline
from ..status import Status


class Asker(Protocol):
    """The methods of `Nats` that inquiries call."""

    def request(
        self,
        subject: str,
        payload: Payload,
        cb: Callable[[Any, Any, Any], object],
        timeout_ms: Milliseconds = 5000,
        *,
        headers: HeadersLike | None = None,
        no_responders: bool | None = None,
    ) -> int:
        """See `Nats.request`."""

    def subscribe(
        self,
        subject: str,
        cb: Callable[[str, bytes, Any, Any], object],
        queue_group: str | None = None,
    ) -> int:
        """See `Nats.subscribe`."""

    def unsubscribe(self, sid: int, max_msgs: int | None = None) -> None:
        """See `Nats.unsubscribe`."""

    def hpublish(
        self,
        subject: str,
        headers: HeadersLike,
        payload: Payload = b"",
        reply_to: str | None = None,
    ) -> None:
        """See `Nats.hpublish`."""

    def new_inbox(self) -> str:
        """See `Nats.new_inbox`."""

    def is_connected(self) -> bool:
        """See `Nats.is_connected`."""

    def await_in_drain(self, sid: int, wait: bool = True) -> None:
        """See `Nats.await_in_drain`."""

    def hold_drain(self, ended: Callable[[], object]) -> Deadline:
        """See `Nats.hold_drain`."""

    def add_status_listener(self, cb: Callable[[Status], object]) -> None:
        """See `Nats.add_status_listener`."""

    def call_soon(self, cb: Callable[..., object], *args: object) -> None:
        """See `Nats.call_soon`."""

    def call_later(
        self,
        delay_ms: Milliseconds,
        cb: Callable[..., object],
        *args: object,
        ended: Callable[[], object] | None = None,
        step: bool = False,
    ) -> Deadline:
        """See `Nats.call_later`."""
