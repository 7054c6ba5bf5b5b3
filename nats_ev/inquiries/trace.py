"""Trace one message: publish it with the headers of ADR-41, and collect the servers' reports.

Each server on the way publishes one report to the subject in ``Nats-Trace-Dest``. The first one says to how
many servers it has forwarded the message, and these say the same: so the collector knows when all have
arrived.
"""

from __future__ import annotations

import json
from typing import Any

from ..arguments import Callback, Payload
from ..errors import ConnectionClosedError, NatsError, RequestTimeoutError
from ..headers import Headers, HeadersLike, encode_headers
from ..net import Deadline
from .asker import Asker
from .report import Trace, clean, hop_of, is_complete, is_report, join

_DESTINATION, _ONLY = "Nats-Trace-Dest", "Nats-Trace-Only"
# Reports that are kept. More servers than that are a mistake or malice.
_MOST_REPORTS = 1000


class Tracing:
    """One message that is traced.

    Args:
        nats: a connected client.
        cb: ``cb(trace, err)``, once.
        timeout: for all reports, in ms; 0: no limit.
    """

    def __init__(self, nats: Asker, cb: Callback, timeout: float) -> None:
        self._nats = nats
        self._cb = cb
        self._timeout = timeout
        self._reports: dict[str, dict[str, Any]] = {}
        self._sid = 0
        self._hold: Deadline | None = None  # lets a drain wait, and learns of the client's end
        self._limit: Deadline | None = None

    def begin(
        self, subject: str, payload: Payload, headers: HeadersLike | None, deliver: bool
    ) -> None:
        """Publish the message. Raises what `Nats.hpublish` raises, and then nothing has happened."""
        inbox = self._nats.new_inbox()
        sent = Headers.parse(encode_headers(headers)) if headers is not None else Headers()
        sent[_DESTINATION] = inbox
        if not deliver:
            sent[_ONLY] = "true"
        self._sid = self._nats.subscribe(inbox, self._arrived)
        try:
            self._nats.hpublish(subject, sent, payload)
        except BaseException:
            self._nats.unsubscribe(self._sid)
            raise
        self._nats.await_in_drain(self._sid)
        self._hold = self._nats.hold_drain(self._ended)
        if self._timeout:
            self._limit = self._nats.call_later(self._timeout, self._timed_out)

    def cancel(self) -> None:
        """Stop collecting, without a callback. Does nothing at the end."""
        self._cb = _nothing
        self._end(None, None)

    def _arrived(self, subject: str, payload: bytes, reply: object, headers: object) -> None:
        try:
            report = json.loads(payload)
        except (ValueError, RecursionError):
            return
        hop = hop_of(report) if is_report(report) else None
        if hop is None or len(self._reports) >= _MOST_REPORTS:
            return
        self._reports.setdefault(hop, clean(report))
        if is_complete(self._reports):
            self._end(Trace(join(self._reports), True), None)

    def _timed_out(self) -> None:
        if self._reports:
            self._end(Trace(join(self._reports), False), None)
        else:
            text = f"request timeout: no server has reported in {self._timeout:g} ms"
            self._end(None, RequestTimeoutError(text))

    def _ended(self) -> None:
        self._end(None, ConnectionClosedError("disconnected"))

    def _end(self, trace: Trace | None, err: NatsError | None) -> None:
        hold, self._hold = self._hold, None
        if hold is None:
            return
        if self._limit is not None:
            self._limit.cancel()
        self._nats.await_in_drain(self._sid, False)
        self._nats.unsubscribe(self._sid)
        hold.cancel()
        self._cb(trace, err)


def _nothing(trace: Trace | None, err: NatsError | None) -> None:
    """Stand in for the callback of a trace that was cancelled."""
