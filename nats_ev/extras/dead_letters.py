"""Dead letters of a work queue: how a job that failed for good gets to their stream once, and back.

Theory of operation
-------------------
A job is known by its sequence and the time at which its stream stored it: a stream that was created again
has other times. Both are in the subject under which its dead letter is stored, and the letter is accepted
only where that subject has none yet; its message id says the same, for a letter that was deleted just before.
So whoever stores the letter, and however often, there is one. The job is taken out of the queue when its
letter is stored, not before.

Three find jobs that failed for good:

- A worker whose handler has failed for the last time stores the letter itself: only it knows the reason.
- When a worker has ended, or took too long, the server notices after the last delivery and publishes an
  advisory. A stream keeps these, so that none is lost while nobody listens; a `Mover` works through it. It
  also finds the advisory of a job that another program has terminated: the server has deleted that job.
- A server that is killed may lose an advisory. So a `Mover` looks from time to time for jobs that the
  consumer has delivered, that nobody works on, and that are still there, twice in a row.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime, timedelta, timezone
from functools import partial
from typing import Any, NamedTuple

from ..arguments import Callback
from ..errors import MaxPayloadError, NatsError
from ..headers import Headers, received
from ..jetstream import (
    Advisory,
    APIError,
    JetStream,
    JsMsg,
    MessageNotFoundError,
    StoredMsg,
    StreamNotFoundError,
    WrongLastSequenceError,
    attempt,
    decode_advisory,
    later_request,
    part,
)
from ..times import parse_time

_EPOCH = datetime(1970, 1, 1, tzinfo=timezone.utc)
_MICROSECOND = timedelta(microseconds=1)
_LONGEST_REASON = 512  # bytes
# How long a mover waits before it tries an advisory again. In ms.
_AGAIN_MS = 1000
# How many jobs one look for left ones reads.
_LOOK = 100
_OWN = "Dead-Letter-"
# The reason in the advisory of a job that was in a worker's hand when it was deleted, as by a mover.
_DELETED = "Unacknowledged message was deleted"
# The err_code of a deletion of a message that is not there.
_NOT_THERE = 10057


class Places(NamedTuple):
    """The names of what a work queue has on the server."""

    queue: str
    consumer: str
    dead: str
    events: str
    movers: str


class DeadLetter(NamedTuple):
    """A job that failed for good.

    Attributes:
        seq: the letter's sequence in the stream of dead letters.
        subject: the job's subject; "" for a job that another program has terminated.
        data: the job's payload; b"" for such a job.
        headers: the job's own headers.
        reason: why it failed.
        deliveries: how often it was delivered.
        stream: the stream of the queue.
        stream_seq: the job's sequence there.
        stored: when the job was put into the queue, in UTC; None for a terminated job.
        died: when the letter was stored, in UTC.
    """

    seq: int
    subject: str
    data: bytes
    headers: Headers
    reason: str
    deliveries: int
    stream: str
    stream_seq: int
    stored: datetime | None
    died: datetime


class Dead(NamedTuple):
    """A job that is to become a dead letter."""

    seq: int
    subject: str
    data: bytes
    headers: bytes | None
    stored: int  # in µs since 1970; 0: not known
    reason: str
    deliveries: int


def micros(when: datetime) -> int:
    """Return a time in µs since 1970."""
    return (when - _EPOCH) // _MICROSECOND


def bury(js: JetStream, places: Places, dead: Dead, cb: Callback) -> None:
    """Store a dead letter unless it is stored already; ``cb(True, err)``.

    Raises:
        NatsError: what `JetStream.publish` raises, `MaxPayloadError` among these.
    """
    token = f"{dead.seq}-{dead.stored}"
    own = [pair for pair in received(dead.headers).pairs() if _is_own(pair[0])]
    about = {
        "Reason": _one_line(dead.reason),
        "Deliveries": str(dead.deliveries),
        "Stream": places.queue,
        "Sequence": str(dead.seq),
        "Stored": str(dead.stored),
        "Subject": dead.subject,
    }
    headers = Headers(own)
    for name, value in about.items():
        if value:
            headers.set(_OWN + name, value)

    def stored(ack: Any, error: NatsError | None) -> None:
        known = error is None or isinstance(error, WrongLastSequenceError)
        cb(True if known else None, None if known else error)

    subject = f"{places.dead}.{dead.seq}.{dead.stored}"
    if dead.subject:
        subject += f".{dead.subject}"
    options: Any = {
        "msg_id": f"{places.queue}-{token}",
        "expect_stream": places.dead,
        "expect_last_subject_seq": 0,
    }
    js.publish(subject, dead.data, stored, headers=headers, **options)


def _is_own(name: str) -> bool:
    """Return whether a header is the user's, and not one for the server or for a former death."""
    return not name.startswith(("Nats-", _OWN))


def _one_line(reason: str) -> str:
    text = " ".join(reason.split())[:_LONGEST_REASON]
    # In bytes, like the room that `WorkQueue.put` leaves.
    data = text.encode("utf-8", "replace")[:_LONGEST_REASON]
    return data.decode("utf-8", "ignore") or "unknown"


def letter_of(message: StoredMsg) -> DeadLetter:
    """Return the dead letter in a stored message. Raises what `attempt` catches."""
    headers = received(message.headers)
    stored = int(headers.get(f"{_OWN}Stored") or 0)
    return DeadLetter(
        message.seq,
        headers.get(f"{_OWN}Subject") or "",
        message.data,
        Headers([pair for pair in headers.pairs() if _is_own(pair[0])]),
        headers.get(f"{_OWN}Reason") or "",
        int(headers.get(f"{_OWN}Deliveries") or 0),
        headers.get(f"{_OWN}Stream") or "",
        int(headers.get(f"{_OWN}Sequence") or 0),
        _EPOCH + timedelta(microseconds=stored) if stored else None,
        parse_time(message.time),
    )


def walk(
    js: JetStream,
    stream: str,
    first: int,
    each: Callable[[StoredMsg, Callable[[bool], None]], object],
    cb: Callback,
) -> None:
    """Read a stream's messages one after the other, from a sequence on; ``cb(True, err)`` at the end.

    Args:
        js: the JetStream.
        stream: the stream's name.
        first: the sequence to begin at.
        each: ``each(message, go)`` calls ``go(True)`` for the next message, ``go(False)`` to end.
        cb: called once.
    """

    def ask(seq: int) -> None:
        def told(message: StoredMsg | None, error: NatsError | None) -> None:
            if message is None:
                end = isinstance(error, MessageNotFoundError)
                cb(True if end else None, None if end else error)
                return

            def go(on: bool) -> None:
                if on:
                    later_request(partial(ask, message.seq + 1), cb)
                else:
                    cb(True, None)

            each(message, go)

        opts: Any = {"seq": seq, "next_by_subj": ">"}
        js.get_msg(stream, opts, told)

    later_request(partial(ask, max(first, 1)), cb)


def take_out(js: JetStream, stream: str, seq: int, cb: Callback) -> None:
    """Delete a message; ``cb(True, err)``; one that is not there is no error."""

    def deleted(answer: Any, error: NatsError | None) -> None:
        gone = isinstance(error, MessageNotFoundError) or (
            isinstance(error, APIError) and error.err_code == _NOT_THERE
        )
        cb(True if error is None or gone else None, None if gone else error)

    later_request(lambda: js.stream_msg_delete(stream, seq, deleted), cb)


class Mover:
    """Moves jobs that nobody works on any more to the dead letters, until `stop` or the client's end."""

    def __init__(
        self,
        js: JetStream,
        places: Places,
        interval: float,
        on_dead: Callable[[Dead], object],
        on_error: Callable[[NatsError], object],
    ) -> None:
        """interval: between two looks for jobs that were left, in ms."""
        self._js = js
        self._places = places
        self._interval = interval
        self._on_dead = on_dead
        self._on_error = on_error
        self._suspects: set[tuple[int, str]] = set()
        self._stopped = False
        opts: Any = {"max_messages": 20}
        self._events = js.consume(
            places.events, places.movers, opts, self._arrived, on_error=lambda error: None
        )
        self._timer: Any = None
        self._again(interval / 4)

    def stop(self) -> None:
        """Stop: an advisory that is being worked on is left to others."""
        self._stopped = True
        self._events.stop()
        if self._timer is not None:
            self._timer.cancel()

    # Advisories.

    def _arrived(self, msg: JsMsg | None, error: NatsError | None) -> None:
        if msg is None:
            if error is not None and not self._stopped:
                self.stop()
                self._on_error(error)
            return
        event, error = attempt(decode_advisory, msg.subject, msg.data)
        seq = event.data.get("stream_seq") if event is not None else None
        if event is None or not isinstance(seq, int):
            self._answer(msg.ack)
            return
        self._read(seq, partial(self._found, msg, event, seq))

    def _read(self, seq: int, cb: Callback) -> None:
        later_request(lambda: self._js.get_msg(self._places.queue, seq, cb), cb)

    def _found(
        self, msg: JsMsg, event: Advisory, seq: int, job: StoredMsg | None, error: NatsError | None
    ) -> None:
        deliveries = event.data.get("deliveries")
        deliveries = deliveries if isinstance(deliveries, int) else 0
        done = partial(self._moved, msg)
        terminated = event.kind == "terminated"
        if job is not None:
            if parse_time(job.time) > event.time:  # of another stream of this name
                self._answer(msg.ack)
                return
            reason = "no worker has answered its last delivery"
            if terminated:
                reason = str(event.data.get("reason") or "terminated")
            self._move(job, reason, deliveries, done)
        elif isinstance(error, MessageNotFoundError) and terminated:
            reason = str(event.data.get("reason") or "")
            if reason == _DELETED:
                self._answer(msg.ack)
                return
            lost = Dead(seq, "", b"", None, 0, f"terminated: {reason or 'no reason'}", deliveries)
            self._bury(lost, done)
        elif isinstance(error, (MessageNotFoundError, StreamNotFoundError)):
            self._answer(msg.ack)
        else:
            done(None, error)

    def _moved(self, msg: JsMsg, done: object, error: NatsError | None) -> None:
        if error is None:
            self._answer(msg.ack)
            return
        self._report(error)
        self._answer(
            partial(msg.nak, 60 * _AGAIN_MS if isinstance(error, MaxPayloadError) else _AGAIN_MS)
        )

    def _answer(self, answer: Callable[[], object]) -> None:
        """Answer an advisory; without a connection the server delivers it again."""
        try:
            answer()
        except NatsError as exc:
            self._report(exc)

    def _move(self, job: StoredMsg, reason: str, deliveries: int, cb: Callback) -> None:
        stored = micros(parse_time(job.time))
        dead = Dead(job.seq, job.subject, job.data, job.headers, stored, reason, deliveries)

        def buried(done: object, error: NatsError | None) -> None:
            if error is not None:
                cb(None, error)
            else:
                take_out(self._js, self._places.queue, job.seq, cb)

        self._bury(dead, buried)

    def _bury(self, dead: Dead, cb: Callback) -> None:
        def buried(done: object, error: NatsError | None) -> None:
            if error is None:
                self._js.nats.call_soon(self._on_dead, dead)
            cb(done, error)

        later_request(lambda: bury(self._js, self._places, dead, buried), cb)

    def _report(self, error: NatsError) -> None:
        if not self._stopped:
            self._js.nats.call_soon(self._on_error, error)

    # Jobs that were left.

    def _again(self, delay: float) -> None:
        if not self._stopped:
            self._timer = self._js.nats.call_later(delay, self._look)

    def _look(self) -> None:
        if self._stopped:
            return
        if not self._js.nats.is_connected():
            self._again(self._interval)
            return
        read = partial(self._js.consumer_info, self._places.queue, self._places.consumer)
        later_request(lambda: read(self._told), self._looked)

    def _told(self, info: Any, error: NatsError | None) -> None:
        if error is not None:
            self._looked(None, error)
            return
        pending = info.get("num_ack_pending")
        passed = part(info, "ack_floor" if pending else "delivered").get("stream_seq")
        last = passed if isinstance(passed, int) else 0
        most = part(info, "config").get("max_deliver")
        deliveries = most if isinstance(most, int) else 0
        found: set[tuple[int, str]] = set()

        def each(job: StoredMsg, go: Callable[[bool], None]) -> None:
            if job.seq > last or len(found) >= _LOOK:
                end(True, None)
                return
            found.add((job.seq, job.time))
            if (job.seq, job.time) in self._suspects:
                reason = "it was left after its last delivery"
                self._move(job, reason, deliveries, lambda done, err: next_one(go, err))
            else:
                go(True)

        def next_one(go: Callable[[bool], None], error: NatsError | None) -> None:
            if error is not None:
                self._report(error)
            go(True)

        def end(done: object, error: NatsError | None) -> None:
            self._suspects = found
            self._looked(done, error)

        walk(self._js, self._places.queue, 1, each, end)

    def _looked(self, done: object, error: NatsError | None) -> None:
        self._again(self._interval)


class Redrive:
    """Puts dead letters back into the queue, one after the other; ``cb(count, err)`` at the end."""

    def __init__(
        self,
        js: JetStream,
        places: Places,
        chosen: Callable[[DeadLetter], bool],
        limit: int | None,
        cb: Callback,
    ) -> None:
        self._js = js
        self._places = places
        self._chosen = chosen
        self._limit = limit
        self._cb = cb
        self._count = 0
        self._last = 0  # the sequence of the last letter that there was at the beginning

    def start(self, seqs: Sequence[int] | None) -> None:
        """Begin; seqs: the sequences of letters, None: all."""
        if seqs is not None:
            # Not at once: cb must not be called before `WorkQueue.redrive` returns.
            self._js.nats.call_soon(self._next, list(seqs))
            return

        def told(info: Any, error: NatsError | None) -> None:
            if error is not None:
                self._ended(None, error)
                return
            last = part(info, "state").get("last_seq")
            self._last = last if isinstance(last, int) else 0
            walk(self._js, self._places.dead, 1, self._up_to_last, self._ended)

        self._js.stream_info(self._places.dead, told)

    def _up_to_last(self, message: StoredMsg, go: Callable[[bool], None]) -> None:
        # A letter of a job that was put back just now, and has failed again, is left alone.
        if message.seq > self._last:
            go(False)
        else:
            self._each(message, go)

    def _ended(self, done: object, error: NatsError | None) -> None:
        self._cb(self._count if error is None else None, error)

    def _next(self, seqs: list[int]) -> None:
        if not seqs:
            self._ended(True, None)
            return
        seq = seqs.pop(0)

        def told(message: StoredMsg | None, error: NatsError | None) -> None:
            if message is not None:
                self._each(message, lambda on: self._next(seqs))
            elif isinstance(error, MessageNotFoundError):
                self._next(seqs)
            else:
                self._ended(None, error)

        later_request(lambda: self._js.get_msg(self._places.dead, seq, told), self._ended)

    def _each(self, message: StoredMsg, go: Callable[[bool], None]) -> None:
        letter, _ = attempt(letter_of, message, what="dead letter")
        if letter is None or not letter.subject or not self._chosen(letter):
            go(True)
            return
        if self._limit is not None and self._count >= self._limit:
            go(False)
            return
        found = letter

        def original(job: StoredMsg | None, error: NatsError | None) -> None:
            if job is None and not isinstance(error, MessageNotFoundError):
                self._ended(None, error)
            elif job is not None and found.stored == parse_time(job.time):
                # Its letter was stored, and then the mover was killed.
                take_out(self._js, self._places.queue, job.seq, lambda done, err: put(err))
            else:
                put(None)

        def put(error: NatsError | None) -> None:
            if error is not None:
                self._ended(None, error)
                return
            options: Any = {
                "msg_id": f"redrive-{found.seq}-{micros(found.died)}",
                "expect_stream": self._places.queue,
                "headers": found.headers if len(found.headers) else None,
            }
            publish = partial(self._js.publish, found.subject, found.data, stored, **options)
            later_request(publish, self._ended)

        def stored(ack: Any, error: NatsError | None) -> None:
            if error is not None:
                self._ended(None, error)
                return
            take_out(self._js, self._places.dead, found.seq, taken)

        def taken(done: object, error: NatsError | None) -> None:
            if error is not None:
                self._ended(None, error)
                return
            self._count += 1
            go(True)

        read = partial(self._js.get_msg, self._places.queue, found.stream_seq, original)
        later_request(read, self._ended)
