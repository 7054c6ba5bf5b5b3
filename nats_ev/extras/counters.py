"""Counters (ADR-49): each subject of a stream with ``allow_msg_counter`` is a number that clients add to.

The server adds: an increment is a message with the header ``Nats-Incr`` and no payload, and the
acknowledgement has the new value. The server stores the value as text, so that it has any size; a value has
more digits than CPython converts at once (4300), if need be, so `to_int` and `to_text` work in blocks.

An increment whose acknowledgement is lost may have been counted. Each increment therefore has a message id:
the server counts a second message with the same id within the stream's ``duplicate_window`` no second time.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from functools import partial
from typing import Any, NamedTuple

from ..arguments import Callback, Milliseconds, ResultCallback, check_object, check_result_cb
from ..errors import (
    BadOptionsError,
    BadSubjectError,
    ConnectionClosedError,
    ConnectionLostError,
    NatsError,
    PermissionsViolationError,
    RequestTimeoutError,
)
from ..jetstream import (
    InvalidAnswerError,
    JetStream,
    StoredMsg,
    StreamInfo,
    attempt,
    later_request,
    part,
)
from ..nuid import next_nuid
from ..subjects import check_literal, check_subscribe, matches
from ..times import parse_time
from .last_messages import LastMessages

# CPython always converts so many digits.
_BLOCK = 600
# Of an increment, about 100,000 digits: CPython's division takes a tenth of a second for them.
_MOST_BITS = 332_192
_NEEDED = ("allow_msg_counter", "allow_direct")


class CountersNotEnabledError(NatsError):
    """The stream can't be used for counters: `missing` are the fields that its configuration lacks.

    `stream` is the stream's name.

    What to do: create the stream with ``allow_msg_counter`` and ``allow_direct``, as `Counters.create_stream`
    does; a server does not add counters to an existing stream.
    """

    text = "the stream has no counters"
    stream: str = ""
    missing: tuple[str, ...] = ()


class OutcomeUnknownError(NatsError):
    """No acknowledgement has come for an increment, which may or may not have been counted.

    `subject`, `increment` and `msg_id` are those of the increment; ``__cause__`` is what went wrong.

    What to do: call `Counters.add` again with the same msg_id: within the stream's duplicate_window (two
    minutes by default) the server does not count it twice. Later, read the counter first.
    """

    text = "it is unknown whether the increment was counted"
    subject: str = ""
    increment: int = 0
    msg_id: str = ""


class CounterEntry(NamedTuple):
    """A counter as its stream has it.

    Attributes:
        subject: the counter's name.
        value: its value.
        increment: the last increment.
        sources: for a stream that sums up others: per stream the values of its subjects that are in this one.
        seq: the sequence of the last increment.
        time: when the server stored it, in UTC.
    """

    subject: str
    value: int
    increment: int
    sources: dict[str, dict[str, int]]
    seq: int
    time: datetime


class Counters:
    """The counters of one stream: `add` to a subject, read one or many.

    nats-server 2.12. Before the first operation the stream is looked at once: `CountersNotEnabledError` says
    what it lacks. A user who may not ask for the stream's information counts unchecked.

    Args:
        js: the JetStream.
        stream: the stream's name; `create_stream` makes it.

    Raises:
        TypeError: an argument has the wrong type.
    """

    def __init__(self, js: JetStream, stream: str) -> None:
        check_object(js, "stream_info", "js must be a JetStream")
        if not isinstance(stream, str):
            raise TypeError(f"stream must be str, not {type(stream).__name__}")
        self.js = js
        self.stream = stream
        self._subjects: list[str] | None = None  # of the stream, once it was looked at
        self._checked = False

    def __repr__(self) -> str:
        return f"<Counters {self.stream}>"

    # The stream.

    def create_stream(self, config: Mapping[str, Any], cb: ResultCallback[StreamInfo]) -> None:
        """Create the stream, or change its configuration; ``cb(info, err)``.

        Args:
            config: of the stream: subjects, and what `JetStream.stream_create` takes; the name and the two
                fields for counters are added.
            cb: called once; gets `ApiLevelError` from a server before 2.12.
        """
        whole: Any = {
            "allow_direct": True,
            **config,
            "name": self.stream,
            "allow_msg_counter": True,
        }

        def stored(info: Any, error: NatsError | None) -> None:
            if info is not None:
                self._learn(info)
            cb(info, error)

        self.js.stream_create_or_update(whole, stored)

    def check(self, cb: ResultCallback[StreamInfo]) -> None:
        """Look whether the stream has counters; ``cb(info, err)``.

        cb gets `CountersNotEnabledError` if not, `StreamNotFoundError` when the stream does not exist.
        """
        check_result_cb(cb)

        def told(info: Any, error: NatsError | None) -> None:
            error = error or self._learn(info)
            cb(info if error is None else None, error)

        self.js.stream_info(self.stream, told)

    def _learn(self, info: Mapping[str, Any]) -> NatsError | None:
        config = part(info, "config")
        missing = tuple(name for name in _NEEDED if not config.get(name))
        if missing:
            return CountersNotEnabledError(
                f"stream {self.stream!r} has no counters: it lacks {' and '.join(missing)}",
                stream=self.stream, missing=missing,
            )  # fmt: skip
        subjects = config.get("subjects") or []
        self._subjects = [each for each in subjects if isinstance(each, str)]
        self._checked = True
        return None

    def _when_checked(self, subject: str | None, step: Callable[[], object], cb: Callback) -> None:
        """Call step when the stream is known to have counters, and the subject; give cb an error else."""
        known = self._subjects is None or subject is None
        if self._checked and (
            known or any(matches(each, subject or "") for each in self._subjects or ())
        ):
            step()
            return

        def told(info: Any, error: NatsError | None) -> None:
            if isinstance(error, PermissionsViolationError):
                self._checked = True
            elif error is not None:
                cb(None, error)
                return
            elif subject is not None and not any(
                matches(each, subject) for each in self._subjects or ()
            ):
                text = f"stream {self.stream!r} does not store subject {subject!r}"
                cb(None, BadSubjectError(text, subject=subject))
                return
            later_request(step, cb)

        self.check(told)

    # Writing.

    def add(
        self,
        subject: str,
        n: int,
        cb: ResultCallback[int],
        *,
        msg_id: str | None = None,
        timeout: Milliseconds | None = None,
    ) -> None:
        """Add a number to a counter; ``cb(value, err)`` with the new value.

        Args:
            subject: the counter, which begins at 0.
            n: the number, of any size; negative to subtract.
            cb: called once. Gets `OutcomeUnknownError` when no acknowledgement has come, `CounterError` when
                the server refuses, `ApiLevelError` from a server before 2.12, `BadSubjectError` when the
                stream does not store the subject.
            msg_id: of an increment that may have been counted: the server does not count it twice. value is
                then the current one, later increments included. Default: a new one.
            timeout: for the acknowledgement, in ms or a timedelta; default: that of the `JetStream`.

        Raises:
            TypeError, BadOptionsError, BadSubjectError: an argument is wrong.
            NatsError: what `JetStream.publish` raises.
        """
        check_result_cb(cb)
        if isinstance(n, bool) or not isinstance(n, int):
            raise TypeError(f"n must be int, not {type(n).__name__}")
        if n.bit_length() > _MOST_BITS:
            raise BadOptionsError("n must have at most 100,000 digits")
        if msg_id is not None and not isinstance(msg_id, str):
            raise TypeError(f"msg_id must be str, not {type(msg_id).__name__}")
        if msg_id == "":
            raise BadOptionsError("msg_id must not be empty")
        check_literal(subject)
        increment = _Increment(self.js, self.stream, subject, n, msg_id or next_nuid(), cb)
        self._when_checked(subject, partial(increment.send, timeout), cb)

    def increment(
        self, subject: str, cb: ResultCallback[int], n: int = 1, *, msg_id: str | None = None
    ) -> None:
        """Add 1, or n, to a counter; see `add`."""
        self.add(subject, n, cb, msg_id=msg_id)

    def decrement(
        self, subject: str, cb: ResultCallback[int], n: int = 1, *, msg_id: str | None = None
    ) -> None:
        """Subtract 1, or n, from a counter; see `add`."""
        if isinstance(n, bool) or not isinstance(n, int):
            raise TypeError(f"n must be int, not {type(n).__name__}")
        self.add(subject, -n, cb, msg_id=msg_id)

    def reset(self, subject: str, cb: ResultCallback[int], *, purge: bool = False) -> None:
        """Subtract a counter's value from it; ``cb(value, err)`` with the new value.

        That is 0, or what others have added meanwhile: their increments are not lost.

        Args:
            subject: the counter.
            cb: called once; gets `MessageNotFoundError` when the counter does not exist, or what `add` gives.
            purge: also delete the increments before the reset.
        """
        check_result_cb(cb)

        def read(entry: CounterEntry | None, error: NatsError | None) -> None:
            if entry is None:
                cb(None, error)
                return
            later_request(lambda: self.add(subject, -entry.value, subtracted), cb)

        def subtracted(value: int | None, error: NatsError | None) -> None:
            if not purge or error is not None:
                cb(value, error)
                return
            opts: Any = {"filter": subject, "keep": 1}
            done = lambda answer, err: cb(value if err is None else None, err)  # noqa: E731
            later_request(lambda: self.js.stream_purge(self.stream, opts, done), cb)

        # From the leader: an older value from a replica would leave a rest.
        self._read_from_leader(subject, read)

    # Reading.

    def get(self, subject: str, cb: ResultCallback[int]) -> None:
        """Read a counter; ``cb(value, err)``.

        Any replica answers, and may lag. cb gets `MessageNotFoundError` when nothing was ever added.
        """
        check_result_cb(cb)
        self.get_entry(
            subject, lambda entry, err: cb(entry.value if entry is not None else None, err)
        )

    load = get

    def get_entry(self, subject: str, cb: ResultCallback[CounterEntry]) -> None:
        """Read a counter with its last increment and its sources; ``cb(CounterEntry, err)``; see `get`."""
        check_result_cb(cb)
        check_literal(subject)
        done = _one(cb)
        self._when_checked(None, lambda: self.js.direct_get_last(self.stream, subject, done), cb)

    def _read_from_leader(self, subject: str, cb: ResultCallback[CounterEntry]) -> None:
        check_literal(subject)
        done = _one(cb)
        self._when_checked(None, lambda: self.js.get_last_msg(self.stream, subject, done), cb)

    def get_multiple(
        self, subjects: str | Sequence[str], cb: ResultCallback[dict[str, int]]
    ) -> None:
        """Read many counters; ``cb({subject: value, …}, err)``. Arguments as in `get_entries`."""
        check_result_cb(cb)

        def told(entries: list[CounterEntry] | None, error: NatsError | None) -> None:
            cb(None if entries is None else {each.subject: each.value for each in entries}, error)

        self.get_entries(subjects, told)

    load_multiple = get_multiple

    def get_entries(
        self, subjects: str | Sequence[str], cb: ResultCallback[list[CounterEntry]]
    ) -> None:
        """Read many counters with their sources; ``cb([CounterEntry, …], err)``.

        Up to 1024 counters are those of one moment. For more the client asks several times, about the same
        moment; a counter that has changed meanwhile is newer if the stream keeps too few messages per subject
        (``max_msgs_per_subject: 1``). A counter that does not exist is left out.

        Args:
            subjects: one or several, which may have wildcards.
            cb: called once.
        """
        check_result_cb(cb)
        filters = [subjects] if isinstance(subjects, str) else list(subjects)
        if not filters:
            raise BadOptionsError("subjects must not be empty")
        for each in filters:
            check_subscribe(each)
        reading = LastMessages(self.js, self.stream, filters, _listed(cb))
        self._when_checked(None, reading.start, cb)


class _Increment:
    """One increment, until its outcome is known or lost."""

    def __init__(
        self, js: JetStream, stream: str, subject: str, n: int, msg_id: str, cb: Callback
    ) -> None:
        self._js = js
        self._stream = stream
        self._subject = subject
        self._n = n
        self._msg_id = msg_id
        self._cb = cb

    def send(self, timeout: Milliseconds | None) -> None:
        sign = "" if self._n < 0 else "+"
        text = sign + to_text(self._n)
        self._js.publish(
            self._subject, b"", self._acked, incr=text, msg_id=self._msg_id, timeout=timeout
        )

    def _acked(self, ack: Any, error: NatsError | None) -> None:
        if isinstance(
            error,
            (RequestTimeoutError, ConnectionLostError, ConnectionClosedError, InvalidAnswerError),
        ):
            unknown = OutcomeUnknownError(
                f"it is unknown whether {self._subject!r} was changed: {error}; add again with "
                f"msg_id={self._msg_id!r}, which does not count twice",
                subject=self._subject, increment=self._n, msg_id=self._msg_id,
            )  # fmt: skip
            unknown.__cause__ = error
            self._cb(None, unknown)
        elif error is not None:
            self._cb(None, error)
        elif "val" in ack:
            self._cb(*attempt(to_int, ack["val"]))
        else:
            done = _one(lambda entry, err: self._cb(entry.value if entry else None, err))
            read = lambda: self._js.get_last_msg(self._stream, self._subject, done)  # noqa: E731
            later_request(read, self._cb)


def _listed(cb: Callback) -> Callback:
    """Return the callback for many messages that gives their entries to cb."""

    def told(messages: Any, error: NatsError | None) -> None:
        if messages is None:
            cb(None, error)
        else:
            cb(*attempt(lambda: [_entry(each) for each in messages], what="counter"))

    return told


def _one(cb: Callback) -> Callback:
    """Return the callback for a counter's last message that gives its entry to cb."""

    def told(message: Any, error: NatsError | None) -> None:
        if message is None:
            cb(None, error)
        else:
            cb(*attempt(_entry, message, what="counter"))

    return told


def _entry(message: StoredMsg) -> CounterEntry:
    """Return the counter in a stored message. Raises what `attempt` catches."""
    sources = json.loads(message.header("Nats-Counter-Sources") or "{}")
    return CounterEntry(
        message.subject,
        to_int(json.loads(message.data)["val"]),
        to_int(message.header("Nats-Incr") or "0"),
        {
            stream: {subject: to_int(value) for subject, value in values.items()}
            for stream, values in sources.items()
        },
        message.seq,
        parse_time(message.time),
    )


def to_int(text: str) -> int:
    """Return the integer in a text of any length. Raises ValueError, TypeError."""
    if not isinstance(text, str):
        raise TypeError(f"an integer's text must be str, not {type(text).__name__}")
    digits = text[1:] if text[:1] in ("+", "-") else text
    if not (digits.isascii() and digits.isdigit()):
        raise ValueError(f"not an integer: {text!r:.80}")
    value = _digits_to_int(digits)
    return -value if text[0] == "-" else value


def _digits_to_int(digits: str) -> int:
    if len(digits) <= _BLOCK:
        return int(digits)
    low = len(digits) // 2
    return _digits_to_int(digits[:-low]) * 10**low + _digits_to_int(digits[-low:])  # type: ignore[no-any-return]


def to_text(value: int) -> str:
    """Return an integer of any size as text."""
    if value < 0:
        return "-" + to_text(-value)
    if value.bit_length() <= 3 * _BLOCK:
        return str(value)
    return _split(value, int(value.bit_length() * 0.30103) + 1).lstrip("0")


def _split(value: int, digits: int) -> str:
    """Return a value's digits, with zeros before them up to a number of digits."""
    if digits <= _BLOCK:
        return str(value).zfill(digits)
    low = digits // 2
    high, rest = divmod(value, 10**low)
    return _split(high, digits - low) + _split(rest, low)
