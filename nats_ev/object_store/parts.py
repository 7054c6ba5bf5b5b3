"""Sending an object's parts to the stream: in a fast batch where the store takes those, else one by one.

A part that is published by itself is a request, with an answer of its own. In a fast batch (ADR-50) the
server answers for many parts at a time, which spares it and the client half of the work beside storing.

Both ways give a part the same message id, and the server knows an id whichever way it has come. So what a
batch has left open, when its server was lost or its stream has another leader, is published part by part:
the server drops what it has stored already. A batch is never continued and never begun a second time.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from ..arguments import Callback
from ..buckets import call_or_report
from ..errors import ConnectionDrainingError, NatsError
from ..jetstream import (
    ApiLevelError,
    BatchClosedError,
    BatchError,
    FastBatch,
    JetStream,
    finish_in_drain,
    part,
)
from ..steps import later_step
from .infos import Infos
from .sources import Source

if TYPE_CHECKING:
    from ..jetstream import JsMsg, OrderedConsumer

# What a batch may end with although the store takes parts all the same, one by one.
_OF_BATCH = (BatchClosedError, BatchError, ApiLevelError, ConnectionDrainingError)
# A batch asks its server for a sign of life after a third of this time without an answer, and ends after
# three more: the parts are published one by one then. In ms.
_SILENCE_MS = 3000.0
# So many bytes are published part by part: an object that has no more is not worth a batch.
_LEAST = 512 * 1024


def of_batch(error: NatsError | None) -> bool:
    """Return whether an error is about the batch only, and not about the parts in it."""
    return isinstance(error, _OF_BATCH)


class Parts:
    """The way of one object's parts into the stream."""

    def __init__(self, infos: Infos, subject: str, nuid: str, window: int) -> None:
        """Note where the parts go; window is the number of parts that may be unacknowledged."""
        self._infos = infos
        self._js = infos.js
        self._subject = subject
        # The message id of a part makes the server drop the same part when it comes again. As a raw header
        # block: a part is published with fewer calls than by ``msg_id=``.
        self._header = f"NATS/1.0\r\nNats-Msg-Id: {nuid}-".encode()
        self._window = window
        self._batch: FastBatch | None = None
        self._opened = False

    def may_open(self, size: int, source: Source) -> bool:
        """Return whether to call `open` before the next part: at the beginning, or when the first are sent.

        Args:
            size: how many bytes have been sent.
            source: where the parts come from.
        """
        if self._opened or self._infos.batched is False:
            return False
        return size >= _LEAST or (source.total is not None and source.total > _LEAST)

    def open(self, ready: Callable[[], object]) -> None:
        """Begin a batch if the store takes batches; then ``ready()``, at once if that is known."""
        self._opened = True
        if self._infos.batched is not None:
            if self._infos.batched:
                self._begin()
            ready()
            return

        def found(info: Any, error: NatsError | None) -> None:
            if error is None:
                self._infos.batched = bool(part(info, "config").get("allow_batched"))
            if self._infos.batched:
                self._begin()
            ready()

        call_or_report(found, lambda: self._js.stream_info(self._infos.stream, cb=found))

    def _begin(self) -> None:
        js, timeout = self._js, self._js.timeout
        js = JetStream(js.nats, js.prefix, min(timeout, _SILENCE_MS) if timeout else _SILENCE_MS)
        self._batch = js.fast_batch(flow=max(1, self._window // 2), max_outstanding_acks=2)

    def send(self, number: int, chunk: bytes, stored: Callback) -> None:
        """Send a part; ``stored(ack, err)``. Raises what a request raises.

        ack["seq"] is the part's sequence. A part of a batch has none: a batch keeps the order.
        """
        header = b"%b%d\r\n\r\n" % (self._header, number)
        if self._batch is not None and not self._batch.closed:
            later_step(self._batch.add, self._subject, chunk, stored, headers=header)
            return
        if self._batch is not None:
            self._batch = None
            self._infos.batched = None  # the store may have been changed: the next put asks
        # Without retries in `publish`: they would put this part after later ones.
        later_step(self._js.publish, self._subject, chunk, stored, headers=header, retry_attempts=0)

    def end(self, ended: Callback) -> bool:
        """End the batch: its parts are acknowledged, then ``ended(ack, err)``. False: no batch is open."""
        batch, self._batch = self._batch, None
        if batch is None or batch.closed or not batch.size:
            return False
        size = batch.size

        def closed(ack: Any, error: NatsError | None) -> None:
            if error is None and ack["count"] != size:
                error = BatchClosedError(f"{ack['count']} of {size} parts taken", ack=ack)
            ended(ack if error is None else None, error)

        later_step(batch.close, closed)
        return True


class Stored:
    """A look at the parts that an earlier put of the same upload has stored."""

    def __init__(
        self,
        infos: Infos,
        subject: str,
        found: Callable[[list[int] | None, int], object],
        failed: Callable[[NatsError], object],
    ) -> None:
        """Note where to look, and whom to tell.

        Args:
            infos, subject: where the parts are.
            found: ``found(sizes, last sequence)``; sizes None: not all are there up to the last one.
            failed: ``failed(err)``.
        """
        self._infos = infos
        self._subject = subject
        self._nuid = subject.rpartition(".")[2]
        self._found = found
        self._failed = failed
        self._consumer: OrderedConsumer | None = None
        self._sizes: list[int] = []

    def start(self) -> None:
        """Read the parts' message ids and sizes, without their content."""
        config: dict[str, Any] = {
            "filter_subject": self._subject,
            "deliver_policy": "by_start_sequence",
            "opt_start_seq": 1,
            "headers_only": True,
            "on_start": self._on_start,
        }
        js, stream = self._infos.js, self._infos.stream
        try:
            self._consumer = later_step(js.ordered_consumer, stream, config, self._on_part)
            finish_in_drain(self._consumer)
        except NatsError as exc:
            js.nats.call_soon(self._failed, exc)

    def _on_start(self, consumer: Any) -> None:
        if not consumer["num_pending"] and not self._sizes:
            self._end([], 0)

    def _on_part(self, message: JsMsg | None, error: NatsError | None) -> None:
        if message is None:
            assert error is not None
            self._stop()
            self._failed(error)
            return
        meta = message.metadata
        if message.header("Nats-Msg-Id") != f"{self._nuid}-{len(self._sizes) + 1}":
            self._end(None, 0)
            return
        self._sizes.append(int(message.header("Nats-Msg-Size") or 0))
        if not meta.num_pending:
            self._end(self._sizes, meta.stream_sequence)

    def _end(self, sizes: list[int] | None, seq: int) -> None:
        self._stop()
        self._found(sizes, seq)

    def _stop(self) -> None:
        consumer, self._consumer = self._consumer, None
        if consumer is not None:
            consumer.stop()
