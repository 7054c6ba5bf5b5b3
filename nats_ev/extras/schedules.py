"""Schedules (ADR-51): messages that a stream publishes later, or again and again.

A schedule is a stored message with the header ``Nats-Schedule``; its subject is its name, and a new message
on that subject replaces it. When it is due, the server stores its payload and headers under its target, with
the headers ``Nats-Scheduler`` and ``Nats-Schedule-Next``. Subjects of schedules, targets and sources are in
the same stream, which has ``allow_msg_schedules``. Only consumers of the stream see what is published.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from datetime import datetime
from functools import partial
from typing import Any, NamedTuple
from zoneinfo import ZoneInfo

from ..arguments import (
    Callback,
    Milliseconds,
    Payload,
    ResultCallback,
    check_object,
    check_result_cb,
    integer,
    milliseconds,
)
from ..errors import BadOptionsError, NatsError
from ..headers import Headers, HeadersLike, encode_headers, received, set_in_block
from ..jetstream import (
    JetStream,
    JsMsg,
    MessageNotFoundError,
    PubAck,
    StoredMsg,
    StreamInfo,
    attempt,
    later_request,
)
from ..subjects import check_literal, check_publish, check_subscribe
from ..times import parse_time, rfc3339
from .last_messages import LastMessages

_PREFIX = "Nats-Schedule"
_PREDEFINED = {
    "@yearly",
    "@annually",
    "@monthly",
    "@weekly",
    "@daily",
    "@midnight",
    "@hourly",
}
_MONTHS = ["JAN", "FEB", "MAR", "APR", "MAY", "JUN", "JUL", "AUG", "SEP", "OCT", "NOV", "DEC"]
_DAYS = ["SUN", "MON", "TUE", "WED", "THU", "FRI", "SAT"]
# The fields of a cron expression: name, least and most value, names of the values.
_FIELDS: tuple[tuple[str, int, int, list[str]], ...] = (
    ("second", 0, 59, []),
    ("minute", 0, 59, []),
    ("hour", 0, 23, []),
    ("day of month", 1, 31, []),
    ("month", 1, 12, _MONTHS),
    ("day of week", 0, 6, _DAYS),
)
_RANGE = re.compile(r"(?:[*?]|(\w+)(?:-(\w+))?)(?:/(\d+))?", re.ASCII)


class Schedule(NamedTuple):
    """A schedule as its stream has it.

    Attributes:
        subject: its name.
        schedule: the expression: "@at …", "@every …", "@hourly" and the like, or six fields.
        target: the subject under which the messages are stored.
        payload: that of the messages, unless source has one.
        headers: those of the messages.
        source: the subject whose last message gives the payload; None: the schedule's own.
        time_zone: that of a cron expression; None: UTC.
        ttl: the time to live of each message, in the server's notation; None: no limit.
        rollup: whether each message deletes the ones before it.
        seq: the sequence of the schedule's message, which changes when the schedule is replaced.
        time: when the schedule was stored, in UTC.
    """

    subject: str
    schedule: str
    target: str
    payload: bytes
    headers: Headers
    source: str | None
    time_zone: str | None
    ttl: str | None
    rollup: bool
    seq: int
    time: datetime

    @property
    def at(self) -> datetime | None:
        """The time of a schedule that is due once; None for any other."""
        return parse_time(self.schedule[4:]) if self.schedule.startswith("@at ") else None


class ScheduleDelivery(NamedTuple):
    """What a message says of the schedule that has published it.

    Attributes:
        scheduler: the schedule's subject.
        next: when the next message follows, in the schedule's time zone; None: this was the last one.
    """

    scheduler: str
    next: datetime | None


def schedule_delivery(msg: JsMsg | StoredMsg) -> ScheduleDelivery | None:
    """Return what a message says of its schedule; None for a message that no schedule has published.

    Raises:
        ValueError: the header ``Nats-Schedule-Next`` is neither a time nor "purge".
    """
    scheduler, following = msg.header("Nats-Scheduler"), msg.header("Nats-Schedule-Next")
    if not scheduler or not following:
        return None
    return ScheduleDelivery(scheduler, None if following == "purge" else parse_time(following))


class Schedules:
    """The schedules of one stream: create, list and cancel them.

    nats-server 2.12 publishes once (`at`), 2.14 repeatedly (`every`, `cron`) and from a source; cb gets
    `ApiLevelError` where the server is older, and `ScheduleError` where the server refuses.

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

    def __repr__(self) -> str:
        return f"<Schedules {self.stream}>"

    def create_stream(self, config: Mapping[str, Any], cb: ResultCallback[StreamInfo]) -> None:
        """Create the stream, or change its configuration; ``cb(info, err)``.

        Args:
            config: of the stream: subjects (of schedules and of targets), and what
                `JetStream.stream_create` takes; the name and the fields for schedules, TTLs and direct gets
                are added.
            cb: called once; gets `ApiLevelError` from a server before 2.12.
        """
        whole: Any = {
            "allow_direct": True,
            "allow_msg_ttl": True,
            **config,
            "name": self.stream,
            "allow_msg_schedules": True,
        }
        self.js.stream_create_or_update(whole, cb)

    # Creating.

    def at(
        self,
        subject: str,
        when: datetime,
        target: str,
        payload: Payload,
        cb: ResultCallback[PubAck],
        *,
        headers: HeadersLike | None = None,
        source: str | None = None,
        ttl: Milliseconds | str | None = None,
        rollup: bool = False,
        replace: bool = True,
    ) -> None:
        """Publish a message once, at a time; ``cb(ack, err)`` when the schedule is stored.

        The schedule is deleted when it has published. A time in the past is due at once.

        Args:
            subject: the schedule's name; a schedule of this name is replaced.
            when: the time; a naive one is local time.
            target: the subject to publish to.
            payload: of the message.
            cb: called once. ack has the schedule's seq.
            headers: of the message.
            source: publish the payload of this subject's last message, if there is one (nats-server 2.14).
            ttl: the message's time to live: ms (1000 or more), a timedelta, or the server's notation.
            rollup: let the message delete those before it on target (nats-server 2.14).
            replace: False: cb gets `WrongLastSequenceError` when there is a schedule of this name.

        Raises:
            TypeError, BadOptionsError, BadSubjectError: an argument is wrong.
            NatsError: what `JetStream.publish` raises.
        """
        if not isinstance(when, datetime):
            raise TypeError(f"when must be a datetime, not {type(when).__name__}")
        options = _options(target, source, ttl, rollup, replace)
        self._publish(subject, f"@at {rfc3339(when)}", payload, headers, options, cb)

    def every(
        self,
        subject: str,
        interval: Milliseconds,
        target: str,
        payload: Payload,
        cb: ResultCallback[PubAck],
        *,
        headers: HeadersLike | None = None,
        source: str | None = None,
        ttl: Milliseconds | str | None = None,
        rollup: bool = False,
        replace: bool = True,
    ) -> None:
        """Publish a message again and again; ``cb(ack, err)`` when the schedule is stored.

        nats-server 2.14.

        Args:
            subject: the schedule's name; a schedule of this name is replaced.
            interval: from one message to the next, in ms or a timedelta, a second or more.
            target, payload, cb, headers, source, ttl, rollup, replace: as in `at`.

        Raises:
            TypeError, BadOptionsError, BadSubjectError: an argument is wrong.
            NatsError: what `JetStream.publish` raises.
        """
        ms = milliseconds(interval, "interval")
        if ms < 1000:
            raise BadOptionsError(f"interval must be at least 1000 ms, not {ms:g}")
        options = _options(target, source, ttl, rollup, replace)
        self._publish(subject, f"@every {round(ms)}ms", payload, headers, options, cb)

    def cron(
        self,
        subject: str,
        expression: str,
        target: str,
        payload: Payload,
        cb: ResultCallback[PubAck],
        *,
        zone: str | ZoneInfo | None = None,
        headers: HeadersLike | None = None,
        source: str | None = None,
        ttl: Milliseconds | str | None = None,
        rollup: bool = False,
        replace: bool = True,
    ) -> None:
        """Publish a message at the times of a cron expression; ``cb(ack, err)`` when the schedule is stored.

        nats-server 2.14.

        Args:
            subject: the schedule's name; a schedule of this name is replaced.
            expression: six fields: second, minute, hour, day of month, month, day of week (0 is Sunday), or
                "@hourly", "@daily", "@weekly", "@monthly", "@yearly".
            zone: the time zone of the expression, by its IANA name; default: UTC. The server has to know it.
            target, payload, cb, headers, source, ttl, rollup, replace: as in `at`.

        Raises:
            TypeError, BadOptionsError, BadSubjectError: an argument is wrong.
            NatsError: what `JetStream.publish` raises.
        """
        check_cron(expression)
        options = _options(target, source, ttl, rollup, replace)
        if zone is not None:
            options["schedule_time_zone"] = _zone(zone)
        self._publish(subject, expression, payload, headers, options, cb)

    def _publish(
        self,
        subject: str,
        schedule: str,
        payload: Payload,
        headers: HeadersLike | None,
        options: dict[str, Any],
        cb: Callback,
    ) -> None:
        check_result_cb(cb)
        check_literal(subject)
        for name in ("schedule_target", "schedule_source"):
            if options.get(name) == subject:
                raise BadOptionsError(f"{name[9:]} must not be the schedule's own subject")
        options["expect_stream"] = self.stream
        self.js.publish(subject, payload, cb, headers=headers, schedule=schedule, **options)

    # Reading.

    def get(self, subject: str, cb: ResultCallback[Schedule]) -> None:
        """Read a schedule; ``cb(Schedule, err)``; cb gets `MessageNotFoundError` if it does not exist."""
        check_result_cb(cb)
        check_literal(subject)

        def told(message: StoredMsg | None, error: NatsError | None) -> None:
            if message is None:
                cb(None, error)
                return
            found, error = attempt(_schedule, message, what="schedule")
            cb(found, error if error is not None or found is not None else _missing(subject))

        self.js.get_last_msg(self.stream, subject, told)

    def list(
        self, cb: ResultCallback[Sequence[Schedule]], subjects: str | Sequence[str] = ">"
    ) -> None:
        """List schedules; ``cb([Schedule, …], err)``, in the order in which they were stored.

        The stream needs ``allow_direct``. The client reads the last message of each subject of the filter: a
        filter for schedules alone is quicker where targets have many subjects.

        Args:
            cb: called once.
            subjects: a filter or several, which may have wildcards.
        """
        check_result_cb(cb)
        filters = [subjects] if isinstance(subjects, str) else [*subjects]
        if not filters:
            raise BadOptionsError("subjects must not be empty")
        for each in filters:
            check_subscribe(each)

        def told(messages: Any, error: NatsError | None) -> None:
            if messages is None:
                cb(None, error)
                return
            found, error = attempt(lambda: [_schedule(each) for each in messages], what="schedule")
            cb([each for each in found if each is not None] if found is not None else None, error)

        LastMessages(self.js, self.stream, filters, told).start()

    # Ending.

    def cancel(self, subject: str, cb: ResultCallback[bool], *, seq: int | None = None) -> None:
        """Delete a schedule; ``cb(True, None)``, or ``cb(False, None)`` if it was not there any more.

        A schedule that has been replaced meanwhile stays. Messages that the schedule has published stay.

        Args:
            subject: the schedule's name.
            cb: called once.
            seq: delete the schedule only if its message has this sequence.
        """
        check_result_cb(cb)
        if seq is not None:
            integer(seq, "seq", 1)

        def read(found: Schedule | None, error: NatsError | None) -> None:
            if found is None or seq not in (None, found.seq):
                missing = error is None or isinstance(error, MessageNotFoundError)
                cb(False if missing else None, None if missing else error)
                return
            opts: Any = {"filter": subject, "seq": found.seq + 1}
            purge = partial(self.js.stream_purge, self.stream, opts, purged)
            later_request(purge, cb)

        def purged(answer: Any, error: NatsError | None) -> None:
            cb(answer.get("purged") != 0 if error is None else None, error)

        self.get(subject, read)

    def stop(
        self,
        subject: str,
        target: str,
        payload: Payload,
        cb: ResultCallback[PubAck],
        *,
        seq: int | None = None,
        headers: HeadersLike | None = None,
    ) -> None:
        """Delete a schedule and store a message, both or neither; ``cb(ack, err)``.

        So a message goes out early, and its schedule does not publish it again.

        Args:
            subject: the schedule's name.
            target: the subject of the message, in the same stream; not the schedule's own.
            payload: of the message.
            cb: called once. Gets `MessageNotFoundError` when the schedule does not exist, and
                `WrongLastSequenceError` when it was replaced or has just ended; no message is stored then.
            seq: that of the schedule's message; without it the client reads the schedule first.
            headers: of the message.

        Raises:
            TypeError, BadOptionsError, BadSubjectError: an argument is wrong.
        """
        check_result_cb(cb)
        check_literal(subject)
        check_literal(target)
        if target == subject:
            raise BadOptionsError("target must not be the schedule's own subject")
        raw = encode_headers(headers) if headers is not None else None
        whole = set_in_block(raw, {"Nats-Scheduler": subject, "Nats-Schedule-Next": "purge"})

        def publish(found: int) -> None:
            self.js.publish(
                target, payload, cb, headers=whole, expect_stream=self.stream,
                expect_last_subject_seq=found, expect_last_subject_seq_subject=subject,
            )  # fmt: skip

        def read(found: Schedule | None, error: NatsError | None) -> None:
            if found is None:
                cb(None, error)
            else:
                later_request(partial(publish, found.seq), cb)

        if seq is not None:
            publish(integer(seq, "seq", 1))
        else:
            self.get(subject, read)


def _options(
    target: str,
    source: str | None,
    ttl: Milliseconds | str | None,
    rollup: bool,
    replace: bool,
) -> dict[str, Any]:
    check_literal(target)
    options: dict[str, Any] = {"schedule_target": target, "schedule_ttl": ttl}
    if source is not None:
        check_publish(source)
        if any(token in ("*", ">") for token in source.split(".")):
            raise BadOptionsError(f"source must not have wildcards: {source!r}")
        options["schedule_source"] = source
    if rollup:
        options["schedule_rollup"] = "sub"
    if not replace:
        options["expect_last_subject_seq"] = 0
    return options


def _zone(zone: str | ZoneInfo) -> str:
    name = zone.key if isinstance(zone, ZoneInfo) else zone
    if not isinstance(name, str):
        raise TypeError(f"zone must be str or ZoneInfo, not {type(zone).__name__}")
    if not re.match(r"[A-Za-z]", name):
        raise BadOptionsError(f"zone must be an IANA name like Europe/Berlin, not {name!r}")
    return name


def check_cron(expression: str) -> None:
    """Refuse what can't be a cron expression; the server has the last word.

    Raises:
        TypeError: expression is not str.
        BadOptionsError: the text says which field is wrong.
    """
    if not isinstance(expression, str):
        raise TypeError(f"expression must be str, not {type(expression).__name__}")
    if expression.startswith("@"):
        if expression not in _PREDEFINED:
            known = ", ".join(sorted(_PREDEFINED))
            raise BadOptionsError(
                f"expression must have six fields or be one of {known}, not {expression!r}"
            )
        return
    fields = expression.split()
    if len(fields) != 6:
        raise BadOptionsError(
            f"a cron expression has 6 fields (second minute hour day month weekday), not {len(fields)}: "
            f"{expression!r}"
        )
    for field, (name, least, most, names) in zip(fields, _FIELDS, strict=True):
        for each in field.split(","):
            if not _fits(each, least, most, names):
                raise BadOptionsError(f"the {name} in {expression!r} is invalid: {each!r}")


def _fits(text: str, least: int, most: int, names: Sequence[str]) -> bool:
    found = _RANGE.fullmatch(text)
    if found is None or found[3] == "0":
        return False
    values = []
    for bound in (found[1], found[2]):
        if bound is None:
            continue
        if bound.upper() in names:
            values.append(names.index(bound.upper()) + least)
        elif bound.isdigit() and len(bound) <= 2:
            values.append(int(bound))
        else:
            return False
    return values == sorted(values) and all(least <= each <= most for each in values)


def _missing(subject: str) -> NatsError:
    text = f"no schedule on subject {subject!r}"
    return MessageNotFoundError(text, code=404, err_code=10037, subject=subject)


def _schedule(message: StoredMsg) -> Schedule | None:
    """Return the schedule in a stored message; None if it is another message."""
    headers = received(message.headers)
    expression = headers.get(_PREFIX)
    if not expression:
        return None
    own = Headers(
        [(name, value) for name, value in headers.pairs() if not name.startswith("Nats-")]
    )
    return Schedule(
        message.subject,
        expression,
        headers.get(f"{_PREFIX}-Target") or "",
        message.data,
        own,
        headers.get(f"{_PREFIX}-Source"),
        headers.get(f"{_PREFIX}-Time-Zone"),
        headers.get(f"{_PREFIX}-TTL"),
        headers.get(f"{_PREFIX}-Rollup") == "sub",
        message.seq,
        parse_time(message.time),
    )
