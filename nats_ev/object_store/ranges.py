"""Finding the part of an object in which a byte is, without reading the parts before it.

ADR-20 says how many parts an object has and how many bytes, and, as ``max_chunk_size``, the most that a part
has. It does not say that all parts are alike, and no message says which part of its object it is. Two facts
of the stream make up for that.

*Lengths.* If there are as few parts as possible with that maximum, and the last one has exactly the rest, the
others have no choice: each of them has the maximum. So the last part proves the layout of all. An object
whose last part does not prove it is walked through from its beginning by messages without content, each of
which says in a header how long the content is.

*Places.* A consumer of the parts from a sequence on says how many messages follow, so that sequence's place
among the parts is known. The part that is d parts before another one is at least d sequences before it: going
back from the last part by the number of parts in between never goes too far, and ends at the part that is
wanted. In a stream that nobody else writes to meanwhile the first step is there already.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from ..errors import NatsError
from ..jetstream import InvalidAnswerError, MessageNotFoundError, finish_in_drain, parse_ack_reply
from ..steps import later_step
from .infos import Infos
from .meta import CHUNK_SIZE, Info

if TYPE_CHECKING:
    from ..jetstream import JsMsg, OrderedConsumer

# After so many steps back the object is walked through: others have written much in between.
_MOST_STEPS = 20
# Messages without content that are asked for at a time.
_AT_A_TIME = 1000

Span = tuple[int, "int | None"]  # (offset, length or None)

# found(sequence before the part's, index of the part, its first byte's offset)
Found = Callable[[int, int, int], object]


def bounds(span: Span | None, size: int) -> tuple[int, int]:
    """Return the offsets of the first byte that a get reads, and of the one after the last.

    Args:
        span: offset and length; None: all. What is beyond the object's end is left out.
        size: the object's.
    """
    if span is None:
        return 0, size
    begin = min(span[0], size)
    return begin, size if span[1] is None else min(begin + span[1], size)


class Locator:
    """The search for the part that has the byte at an offset; one at a time of `start`, until `stop`."""

    def __init__(
        self,
        infos: Infos,
        info: Info,
        subject: str,
        found: Found,
        missing: Callable[[], object],
        failed: Callable[[NatsError], object],
    ) -> None:
        """Note what to search, and whom to tell.

        Args:
            infos, info, subject: the store, the object, and the subject of its parts.
            found: see `Found`.
            missing: ``missing()`` when parts are missing.
            failed: ``failed(err)`` with what ends the search, whether it may pass or not.
        """
        self._infos = infos
        self._info = info
        self._subject = subject
        self._found = found
        self._missing = missing
        self._failed = failed
        self._consumer: OrderedConsumer | None = None
        self._offset = 0
        self._run = 0  # what belongs to an earlier run is ignored
        self._steps = 0
        self._index = self._position = 0  # of the walk

    def start(self, offset: int) -> None:
        """Search from the beginning."""
        self.stop()
        self._offset = offset
        run, info = self._run, self._info
        chunk = (info.get("options") or {}).get("max_chunk_size") or CHUNK_SIZE
        chunks, size = info["chunks"], info["size"]

        def last(message: Any, error: NatsError | None) -> None:
            if run != self._run:
                return
            if isinstance(error, MessageNotFoundError):
                self._missing()
            elif error is not None:
                self._failed(error)
            elif len(message.data) == size - (chunks - 1) * chunk:
                index = offset // chunk
                self._check(lambda: self._step(index, message.seq - (chunks - 1 - index), chunk))
            else:
                self._walk()

        if not offset:
            self._found(0, 0, 0)
        elif chunk < 1 or chunks != -(-size // chunk):
            self._walk()
        else:
            opts: Any = {"last_by_subj": self._subject}
            try:
                later_step(self._infos.js.get_msg, self._infos.stream, opts, last)
            except NatsError as exc:
                self._failed(exc)

    def stop(self) -> None:
        """End the search without a call of cb."""
        self._run += 1
        consumer, self._consumer = self._consumer, None
        if consumer is not None:
            consumer.stop()

    def _check(self, then: Callable[[], object]) -> None:
        """Call then if all parts are there: places are counted from the end."""

        def counted(count: int) -> None:
            if count == self._info["chunks"]:
                self._steps = 0
                then()
            else:
                self._missing()

        self._count(1, counted)

    def _step(self, index: int, seq: int, chunk: int) -> None:
        """Ask for the place of the part at seq or the next one after it."""
        chunks = self._info["chunks"]

        def counted(count: int) -> None:
            beyond = chunks - count - index
            self._steps += 1
            if not beyond:
                self._found(seq - 1, index, index * chunk)
            elif beyond < 0 or seq <= beyond:  # more parts than there are, or fewer
                self._missing()
            elif self._steps == _MOST_STEPS:
                self._walk()
            else:
                self._step(index, seq - beyond, chunk)

        self._count(seq, counted)

    def _count(self, seq: int, counted: Callable[[int], object]) -> None:
        """Call ``counted(parts)`` with the number of parts from a sequence on."""

        def on_start(consumer: Any) -> None:
            if run == self._run:
                self.stop()
                counted(consumer["num_pending"])

        def on_part(message: JsMsg | None, error: NatsError | None) -> None:
            if run == self._run and error is not None:
                self.stop()
                self._failed(error)

        run = self._run
        self._consume(seq, on_part, on_start, 1)

    def _walk(self) -> None:
        """Add up the lengths of the parts, from the first one on."""
        self._index = self._position = 0

        def on_start(consumer: Any) -> None:
            if run == self._run and consumer["num_pending"] < self._info["chunks"] - self._index:
                self.stop()
                self._missing()

        def on_part(message: JsMsg | None, error: NatsError | None) -> None:
            if run != self._run:
                return
            meta = parse_ack_reply(message.reply) if message is not None else None
            if message is None or meta is None:
                self.stop()
                self._failed(error or InvalidAnswerError("no metadata in a consumer's message"))
                return
            length = int(message.header("Nats-Msg-Size") or 0)
            if self._position + length > self._offset:
                self.stop()
                self._found(meta.stream_sequence - 1, self._index, self._position)
                return
            self._position += length
            self._index += 1
            if self._index == self._info["chunks"]:  # fewer bytes than the info says
                self.stop()
                self._missing()

        run = self._run
        self._consume(1, on_part, on_start, _AT_A_TIME)

    def _consume(self, seq: int, on_part: Any, on_start: Any, most: int) -> None:
        config: dict[str, Any] = {
            "filter_subject": self._subject,
            "deliver_policy": "by_start_sequence",
            "opt_start_seq": max(1, seq),
            "headers_only": True,
            "max_messages": most,
            "on_start": on_start,
        }
        try:
            self._consumer = later_step(
                self._infos.js.ordered_consumer, self._infos.stream, config, on_part
            )
            finish_in_drain(self._consumer)
        except NatsError as exc:
            self._failed(exc)
