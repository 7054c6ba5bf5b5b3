"""The errors of single features of JetStream: a class per family of codes; `err_code` tells them apart."""

from __future__ import annotations

from .errors import APIError

__all__ = [
    "ConsumerInvalidResetError",
    "CounterError",
    "ReconfigurationInProgressError",
    "ScheduleError",
]


class CounterError(APIError, err_codes=(10168, 10169, 10170, 10171, 10172, 10173)):
    """The server refused an increment, or a stream that can't have counters (ADR-49).

    `err_code` says which: 10168 the stream has no counters, 10169 a message without an increment, 10170 with
    a payload, 10171 the increment is invalid or has a condition beside it, 10172 the last message of the
    counter is no counter's, 10173 a mirror can't count.

    What to do: set ``allow_msg_counter`` when the stream is created, and change its counters by increments
    alone; `extras.Counters` does. After 10172 purge the subject.
    """


class ScheduleError(
    APIError,
    err_codes=(10188, 10186, 10187, 10189, 10190, 10191, 10192, 10203, 10212, 10223),
):
    """The server refused a schedule, or a stream that can't have schedules (ADR-51).

    `err_code` says which: 10186 and 10187 a mirror or a stream with sources, 10188 the stream has no
    schedules, 10189 the expression is invalid, or new to an old server, 10190 the target is missing or
    outside of the stream, 10191 the TTL, 10192 the rollup, 10203 the source, 10212 the message that should
    stop a schedule, 10223 the time zone.

    What to do: set ``allow_msg_schedules`` in the stream's configuration, and correct what the text names; a
    cron expression has six fields, and subjects of schedules, sources and targets are in the same stream.
    """


class ConsumerInvalidResetError(APIError, err_codes=(10204,)):
    """The server can't reset the consumer to this sequence.

    What to do: see the text; a sequence is possible where the consumer's deliver_policy could begin.
    """


class ReconfigurationInProgressError(APIError, err_codes=(10226,)):
    """The stream is being moved or scaled, and the server accepts no other change until that is done.

    What to do: wait until ``cluster`` in the answer of `JetStream.stream_info` shows no move, or cancel the
    move; then repeat the change.
    """
