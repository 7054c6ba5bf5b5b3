"""Writing an object: its content in parts, so many unacknowledged at a time, then its info.

Parts carry message ids, so what a lost connection or a new leader leaves unclear is sent again and
stored once. The info is published on the condition that the name's former info is still the one that
was seen: two writers then replace each other, and each removes the content that it replaces.
"""

from __future__ import annotations

import hashlib
import time
from collections import deque
from collections.abc import Callable
from typing import Any

from ..arguments import Callback
from ..buckets import (
    ObjectIncompleteError,
    ObjectTransferError,
    bucket_error,
    call_or_report,
    transfer_error,
)
from ..errors import ConnectionLostError, NatsError, NoRespondersError
from ..jetstream import WrongLastSequenceError
from .infos import TRANSIENT, Infos
from .meta import Info, chunk_subject, digest_text, link_of
from .sources import Source

Progress = Callable[[int, "int | None"], object]

# Content that may be unacknowledged, in bytes: a put needs it of memory, about twice.
_WINDOW = 4 * 1024 * 1024
# After an error that may pass: wait so long, and give up when so long nothing has been acknowledged. That
# must stay below the stream's duplicate window, 2 min, behind which a part might be stored twice.
_RETRY_WAIT_MS = 250.0
_RETRY_FOR = 30.0
# When nobody has listened from the beginning, there is no such store: not as long.
_FIRST_RETRY_FOR = 1.0
_INFO_ATTEMPTS = 20


class Upload:
    """A put that is under way: `cancel` stops it, `done` tells whether it has ended."""

    def __init__(
        self,
        infos: Infos,
        info: Info,
        source: Source,
        progress: Progress | None,
        callback: Callback,
    ) -> None:
        self.done = False
        self._infos = infos
        self._js = infos.js
        self._info = info
        self._source = source
        self._progress = progress
        self._callback = callback
        self._subject = chunk_subject(infos.bucket, info["nuid"])
        self._hash = hashlib.sha256()
        # Parts that have been read but not acknowledged, in order: (number, content).
        self._unacked: deque[tuple[int, bytes]] = deque()
        self._acks: dict[
            int, int
        ] = {}  # number → sequence, of those behind the first unacknowledged
        self._window = max(2, _WINDOW // source.chunk_size)
        self._in_flight = 0
        self._confirmed = 0
        self._last_seq = 0
        self._all_read = False
        self._error: NatsError | None = None
        self._trouble: NatsError | None = None  # an error that may pass
        self._had_trouble = False
        self._moved_at = time.monotonic()
        self._old: Info | None = None
        self._committing = False  # the info may be stored already
        self._info_attempts = 0

    def __repr__(self) -> str:
        state = "done" if self.done else f"{self._confirmed} B stored"
        return f"<{type(self).__name__} {self._info['name']!r} {state}>"

    def cancel(self) -> None:
        """Stop it; what is stored of it is removed, and its callback gets `ObjectTransferError`.

        Too late, and ignored, when all content is stored.
        """
        if not self.done and not self._committing:
            self._fail(ObjectTransferError("put was cancelled"))

    def start(self) -> None:
        """Raises what a request raises."""
        self._infos.last(self._info["name"], self._began)

    def _began(self, old: Info | None, error: NatsError | None) -> None:
        self._old = old
        if isinstance(error, ConnectionLostError):
            self._trouble = error
            self._retry(lambda: call_or_report(self._began, self.start))
        elif error is not None:
            self._fail(error)
        else:
            self._moved_at = time.monotonic()
            self._pump()

    # The content.

    def _pump(self) -> None:
        """Send parts while the window has room."""
        while self._healthy and not self._all_read and len(self._unacked) < self._window:
            try:
                chunk = self._source.next()
            except Exception as exc:
                self._fail(transfer_error("the object's source", exc))
                return
            if chunk:
                self._hash.update(chunk)
                self._info["size"] += len(chunk)
                self._info["chunks"] += 1
                self._unacked.append((self._info["chunks"], chunk))
                self._send(*self._unacked[-1])
            else:
                self._all_read = True
        if not self._in_flight:
            self._settled()

    @property
    def _healthy(self) -> bool:
        return self._error is None and self._trouble is None

    def _send(self, number: int, chunk: bytes) -> None:
        def stored(ack: Any, error: NatsError | None) -> None:
            self._in_flight -= 1
            if error is None:
                self._acks[number] = ack["seq"]
                self._advance()
            else:
                self._note(error)
            if self._healthy:
                self._pump()
            elif not self._in_flight:
                self._settled()

        self._in_flight += 1
        try:
            # No retries down there: what is sent again must come before all that is behind it.
            self._js.publish(
                self._subject,
                chunk,
                stored,
                retry_attempts=0,
                msg_id=f"{self._info['nuid']}-{number}",
            )
        except NatsError as exc:
            self._in_flight -= 1
            self._note(exc)

    def _note(self, error: NatsError) -> None:
        if not isinstance(error, TRANSIENT):
            self._error = self._error or bucket_error(error)
        else:
            self._trouble = error

    def _advance(self) -> None:
        """Take off what is acknowledged, up to the first part that is not."""
        before = self._confirmed
        while self._unacked and (seq := self._acks.pop(self._unacked[0][0], None)) is not None:
            if seq <= self._last_seq:
                self._error = ObjectTransferError("parts were stored out of order")
                return
            self._last_seq = seq
            self._confirmed += len(self._unacked.popleft()[1])
        if self._confirmed > before:
            self._moved_at = time.monotonic()
            if self._progress is not None:
                self._js.nats.call(self._progress, self._confirmed, self._source.total)

    def _settled(self) -> None:
        """Nothing is in flight: go on with what comes next."""
        if self.done:
            return
        if self._error is not None:
            self._give_up()
        elif self._trouble is not None:
            self._retry(self._send_again)
        elif self._unacked or not self._all_read:
            self._pump()
        elif self._had_trouble:
            self._check_parts()
        else:
            self._publish_info()

    def _retry(self, again: Callable[[], object]) -> None:
        """After a while, and when there is a connection; unless it takes too long."""
        trouble, self._trouble = self._trouble, None
        assert trouble is not None
        self._had_trouble = True
        never = isinstance(trouble, NoRespondersError) and not self._last_seq
        limit = _FIRST_RETRY_FOR if never else _RETRY_FOR

        def due() -> None:
            if self._error is not None:
                self._give_up()
            elif time.monotonic() - self._moved_at > limit:
                self._fail(trouble)
            elif not self._js.nats.is_connected():
                self._js.nats.call_later(_RETRY_WAIT_MS, due, ended=ended)
            else:
                again()

        def ended() -> None:
            self._fail(trouble)

        self._js.nats.call_later(_RETRY_WAIT_MS, due, ended=ended)

    def _send_again(self) -> None:
        for number, chunk in list(self._unacked):
            if number not in self._acks and self._healthy:
                self._send(number, chunk)
        if not self._in_flight:
            self._settled()

    def _check_parts(self) -> None:
        """After trouble: is each part there once?"""

        def counted(info: Any, error: NatsError | None) -> None:
            if error is not None:
                self._note(error)
                if self._trouble is not None:
                    self._retry(self._check_parts)
                else:
                    self._give_up()
                return
            count = (info["state"].get("subjects") or {}).get(self._subject, 0)
            if count == self._info["chunks"]:
                self._publish_info()
            else:
                self._fail(ObjectIncompleteError(f"{count} of {self._info['chunks']} parts stored"))

        opts = {"subjects_filter": self._subject}
        call_or_report(counted, lambda: self._js.stream_info(self._infos.stream, opts, counted))

    # The info.

    def _publish_info(self) -> None:
        self._committing = True
        self._info["digest"] = digest_text(self._hash)
        call_or_report(
            self._info_stored,
            lambda: self._infos.publish(self._info, self._old, self._info_stored),
        )

    def _info_stored(self, info: Info | None, error: NatsError | None) -> None:
        if info is not None:
            self._remove_old(info)
        elif isinstance(error, TRANSIENT):
            self._trouble = error
            self._retry(self._publish_info)
        elif isinstance(error, WrongLastSequenceError) and self._info_attempts < _INFO_ATTEMPTS:
            # Another writer was faster, or it is our own of which only the answer was lost.
            self._info_attempts += 1
            call_or_report(self._looked, lambda: self._infos.last(self._info["name"], self._looked))
        else:
            assert error is not None
            self._fail(error)

    def _looked(self, current: Info | None, error: NatsError | None) -> None:
        if error is not None:
            self._info_stored(None, error)
        elif current is not None and current["nuid"] == self._info["nuid"]:
            self._remove_old(current)
        else:
            self._old = current
            self._publish_info()

    def _remove_old(self, info: Info) -> None:
        old = self._old
        if old is None or link_of(old) is not None or old["nuid"] == info["nuid"]:
            self._end(info, None)
        else:
            self._infos.remove_content(old["nuid"], lambda: self._end(info, None))

    # The end.

    def _fail(self, error: NatsError) -> None:
        self._error = self._error or error
        if not self._in_flight:
            self._js.nats.call_soon(self._give_up)

    def _give_up(self) -> None:
        if self.done:
            return
        self.done = True
        if self._committing:  # the object is there or not: that decides
            call_or_report(
                self._verdict, lambda: self._infos.last(self._info["name"], self._verdict)
            )
        elif self._info["chunks"]:
            self._remove_own()
        else:
            self._end(None, self._error)

    def _verdict(self, current: Info | None, error: NatsError | None) -> None:
        if current is not None and current["nuid"] == self._info["nuid"]:
            self._remove_old(current)
        elif error is None:
            self._remove_own()
        else:
            self._end(None, self._error)

    def _remove_own(self) -> None:
        self._infos.remove_content(self._info["nuid"], lambda: self._end(None, self._error))

    def _end(self, info: Info | None, error: NatsError | None) -> None:
        self.done = True
        self._source.close()
        self._unacked.clear()
        self._callback(info, error)
