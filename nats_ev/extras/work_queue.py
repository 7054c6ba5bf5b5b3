"""Work queues: jobs that any number of workers share, tried again with pauses, and put aside as dead letters.

On the server a queue ``Q`` has three streams: ``Q`` with the jobs (retention workqueue) and the consumer of
the workers, ``Q-DEAD`` with the dead letters, and ``Q-EVENTS`` with the server's advisories about jobs whose
last delivery nobody has answered. `dead_letters` says how a job gets from the first to the second once.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import timedelta
from functools import partial
from typing import Any

from ..arguments import (
    Callback,
    Milliseconds,
    Payload,
    ResultCallback,
    callable_or_none,
    check_callback,
    check_object,
    check_result_cb,
    count,
    integer,
    milliseconds,
    payload_bytes,
)
from ..errors import BadOptionsError, MaxPayloadError, NatsError
from ..headers import HeadersLike, encode_headers
from ..jetstream import JetStream, PubAck, StoredMsg, attempt, later_request
from ..subjects import check_literal, check_subscribe, matches
from .dead_letters import DeadLetter, Places, Redrive, letter_of, walk
from .worker import Job, JobHandler, Rules, Worker

# What a dead letter has more than its job, in bytes.
_LETTER = 2048
_NAME = re.compile(r"[A-Za-z0-9_-]+")


class WorkQueue:
    """A queue of jobs, for any number of programs that put jobs and any number of workers.

    A job is done at least once: a worker that is killed after a job and before the server knows leads to a
    second time. A job that fails is tried again after a pause; after its last attempt, or when the handler
    rejects it, it becomes a dead letter, exactly once, whoever is killed meanwhile. `create` makes what the
    queue needs on the server, and may be called by every program. nats-server 2.10.

    Args:
        js: the JetStream.
        name: the queue's: letters, digits, "-" and "_". The streams are named after it.
        subjects: of the jobs; default: all below ``<name>.``. May have wildcards.
        attempts: how often a job is tried. Deliveries to workers that were killed count, and so do jobs that
            a worker has given back.
        backoff: the pauses after the first, second, … failure, in ms or as timedelta; the last one counts for
            all further failures.
        ack_wait: after so long, in ms or as timedelta, the server takes a worker that has said nothing for
            dead, and its jobs go to others. A second or more.
        max_running: how many jobs all workers together may have at a time.
        config: more fields for the stream of jobs, such as max_msgs, max_bytes or num_replicas.
        dead_config: the same for the stream of dead letters, such as max_age.

    Raises:
        TypeError, BadOptionsError: an argument is wrong.
    """

    def __init__(
        self,
        js: JetStream,
        name: str,
        *,
        subjects: Sequence[str] | None = None,
        attempts: int = 5,
        backoff: Sequence[Milliseconds] = (1000, 5000, 30_000),
        ack_wait: Milliseconds = 30_000,
        max_running: int = 1000,
        config: Mapping[str, Any] | None = None,
        dead_config: Mapping[str, Any] | None = None,
    ) -> None:
        check_object(js, "stream_info", "js must be a JetStream")
        if not isinstance(name, str):
            raise TypeError(f"name must be str, not {type(name).__name__}")
        if not _NAME.fullmatch(name):
            raise BadOptionsError(f"name must have letters, digits, - and _ only: {name!r}")
        self.js = js
        self.name = name
        self.subjects = [f"{name}.>"] if subjects is None else _subjects(subjects)
        self.attempts = integer(attempts, "attempts", 1)
        if isinstance(backoff, str) or not isinstance(backoff, Iterable):
            raise TypeError(
                f"backoff must be several pauses, as in [1000, 5000], not {type(backoff).__name__}"
            )
        self._backoff = tuple(milliseconds(each, "backoff") for each in backoff)
        if not self._backoff:
            raise BadOptionsError("backoff must not be empty")
        self._ack_wait = milliseconds(ack_wait, "ack_wait")
        if self._ack_wait < 1000:
            raise BadOptionsError(f"ack_wait must be at least 1000 ms, not {self._ack_wait:g}")
        self._max_running = integer(max_running, "max_running", 1)
        self._config = _fields(config, "config")
        self._dead_config = _fields(dead_config, "dead_config")
        self._places = Places(name, "workers", f"{name}-DEAD", f"{name}-EVENTS", "movers")

    def __repr__(self) -> str:
        return f"<WorkQueue {self.name}>"

    @property
    def stream(self) -> str:
        """The name of the stream of jobs."""
        return self._places.queue

    @property
    def dead_stream(self) -> str:
        """The name of the stream of dead letters."""
        return self._places.dead

    def create(self, cb: ResultCallback[bool]) -> None:
        """Create the streams and consumers of the queue, or bring them up to date; ``cb(True, err)``.

        Programs that share a queue give it the same options; else those of the last call count.
        """
        check_result_cb(cb)
        js, places = self.js, self._places
        shared: dict[str, Any] = {
            name: self._config[name] for name in ("num_replicas", "storage") if name in self._config
        }
        event = f"$JS.EVENT.ADVISORY.CONSUMER.%s.{places.queue}.{places.consumer}"
        queue: dict[str, Any] = {
            **self._config,
            "name": places.queue,
            "subjects": self.subjects,
            "retention": "workqueue",
        }
        dead: dict[str, Any] = {
            **shared,
            **self._dead_config,
            "name": places.dead,
            "subjects": [f"{places.dead}.>"],
        }
        events: dict[str, Any] = {
            **shared,
            "name": places.events,
            "subjects": [event % "MAX_DELIVERIES", event % "MSG_TERMINATED"],
            "retention": "workqueue",
        }
        workers: dict[str, Any] = {
            "durable_name": places.consumer,
            "ack_policy": "explicit",
            "ack_wait": timedelta(milliseconds=self._ack_wait),
            "max_deliver": self.attempts,
            "max_ack_pending": self._max_running,
        }
        movers: dict[str, Any] = {
            "durable_name": places.movers,
            "ack_policy": "explicit",
            "ack_wait": timedelta(seconds=10),
        }
        stream: Any = js.stream_create_or_update
        consumer: Any = js.consumer_create_or_update
        # The advisories' stream is there before a job can be delivered.
        steps: list[Callable[[Callback], object]] = [
            partial(stream, dead),
            partial(stream, events),
            partial(consumer, places.events, movers),
            partial(stream, queue),
            partial(consumer, places.queue, workers),
        ]

        def go(answer: object, error: NatsError | None) -> None:
            if error is not None:
                cb(None, error)
            elif steps:
                step = steps.pop(0)
                later_request(lambda: step(go), cb)
            else:
                cb(True, None)

        steps.pop(0)(go)

    def put(
        self,
        payload: Payload,
        cb: ResultCallback[PubAck],
        *,
        subject: str | None = None,
        headers: HeadersLike | None = None,
        msg_id: str | None = None,
    ) -> None:
        """Put a job into the queue; ``cb(ack, err)`` when it is stored.

        Args:
            payload: of the job; with the headers 2 KiB less than the server's max_payload, for what a dead
                letter has more.
            cb: called once.
            subject: one of the queue's; default: the first one if it has no wildcard, or ``<name>.job``.
            headers: of the job.
            msg_id: a second job with this id within two minutes is dropped. So a put without an answer can be
                repeated.

        Raises:
            TypeError, BadOptionsError, BadSubjectError, MaxPayloadError: an argument is wrong.
            NatsError: what `JetStream.publish` raises.
        """
        check_result_cb(cb)
        subject = self._subject() if subject is None else subject
        check_literal(subject)
        if not any(matches(each, subject) for each in self.subjects):
            raise BadOptionsError(
                f"the queue {self.name} takes {', '.join(self.subjects)}, not {subject!r}"
            )
        body = payload if type(payload) is bytes else payload_bytes(payload)
        limit = self.js.nats.max_payload()
        block = None if headers is None else encode_headers(headers)
        size = len(body) + len(block or b"")
        if limit and size > limit - _LETTER:
            text = f"a job of {size} bytes could not become a dead letter: max_payload is {limit}"
            raise MaxPayloadError(text, limit=limit, size=size, subject=subject)
        self.js.publish(subject, body, cb, headers=block, msg_id=msg_id, expect_stream=self.stream)

    def _subject(self) -> str:
        first = self.subjects[0]
        if "*" not in first and ">" not in first:
            return first
        if first == f"{self.name}.>":
            return f"{self.name}.job"
        raise BadOptionsError(f"subject is required: the queue {self.name} takes {first}")

    def work(
        self,
        job_handler: JobHandler,
        *,
        concurrency: int = 1,
        prefetch: int = 0,
        job_timeout: Milliseconds = 0,
        on_dead: Callable[[Job, str], object] | None = None,
        on_error: Callable[[NatsError], object] | None = None,
    ) -> Worker:
        """Run a handler for the jobs of the queue, until `Worker.drain` or `Worker.stop`.

        A worker survives lost connections and restarted servers. It also moves jobs that nobody works on any
        more to the dead letters. A drain of the client waits for the handlers that run.

        Args:
            job_handler: ``job_handler(job, done)`` for each job, with a `Job`; it calls ``done(None)`` when
                the job is done, or ``done(err)`` with an exception or text when it has failed, once, now or
                later. An exception that leaves the handler is such an error. A handler that takes one
                argument, ``job_handler(job)``, has done its job when it returns. In `nats_ev.aio` it may be a
                coroutine function, in `nats_ev.green` each call is a greenlet. `JobRejectedError` makes a
                dead letter at once, `JobRetryError` chooses the pause. A handler that blocks the loop for
                longer than ack_wait loses its job to another worker.
            concurrency: how many handlers may run at a time.
            prefetch: how many more jobs to receive in advance: quicker where jobs are short.
            job_timeout: after so long, in ms or as timedelta, a handler has failed with `JobTimeoutError`;
                0: no limit.
            on_dead: ``on_dead(job, reason)`` when a job of this worker has become a dead letter.
            on_error: ``on_error(err)`` for what goes wrong besides: an answer that could not be sent, a dead
                letter that could not be stored, and what has ended the worker, such as
                `ConsumerDeletedError` (then `Worker.closed` is True). Default: the client's `on_error`.

        Raises:
            TypeError, BadOptionsError: an argument is wrong.
            NatsError: what `JetStream.consume` raises.
        """
        check_callback(job_handler, "job_handler")
        if inspect.iscoroutinefunction(job_handler):
            raise TypeError(
                "job_handler must not be a coroutine function: only nats_ev.aio runs these"
            )
        rules = Rules(
            ack_wait=self._ack_wait,
            attempts=self.attempts,
            backoff=self._backoff,
            concurrency=integer(concurrency, "concurrency", 1),
            prefetch=count(prefetch, "prefetch"),
            job_timeout=milliseconds(job_timeout, "job_timeout"),
        )
        callable_or_none(on_dead, "on_dead")
        callable_or_none(on_error, "on_error")
        return Worker(self.js, self._places, rules, job_handler, on_dead, on_error)

    # Dead letters.

    def dead_letters(
        self, cb: ResultCallback[list[DeadLetter]], *, after: int = 0, limit: int = 100
    ) -> None:
        """List dead letters, the oldest first; ``cb([DeadLetter, …], err)``.

        Args:
            cb: called once.
            after: list those after the letter with this seq.
            limit: the most to list.
        """
        check_result_cb(cb)
        count(after, "after")
        most = integer(limit, "limit", 1)
        found: list[DeadLetter] = []

        def each(message: StoredMsg, go: Callable[[bool], None]) -> None:
            letter, _ = attempt(letter_of, message, what="dead letter")
            if letter is not None:  # else another program's
                found.append(letter)
            go(len(found) < most)

        def ended(done: object, error: NatsError | None) -> None:
            cb(found if error is None else None, error)

        # Not at once: cb must not be called before this returns, also without a connection.
        self.js.nats.call_soon(walk, self.js, self._places.dead, after + 1, each, ended)

    def redrive(
        self,
        cb: ResultCallback[int],
        *,
        seqs: Sequence[int] | None = None,
        subject: str = ">",
        limit: int | None = None,
    ) -> None:
        """Put dead letters back into the queue, and delete them; ``cb(count, err)``.

        Each is a new job, with all its attempts. When the client is killed between the two steps for one
        letter, the next call within two minutes does not put that one back again. Letters of jobs that
        another program has terminated stay: their payload is lost.

        Args:
            cb: called once. After an error the letters before it are back, and the others are still there.
            seqs: those of the letters; default: all, the oldest first.
            subject: only letters whose jobs had such a subject, with wildcards.
            limit: the most to put back.
        """
        check_result_cb(cb)
        check_subscribe(subject)
        for seq in seqs or ():
            integer(seq, "seqs", 1)
        if limit is not None:
            count(limit, "limit")
        chosen = lambda letter: matches(subject, letter.subject)  # noqa: E731
        Redrive(self.js, self._places, chosen, limit, cb).start(seqs)

    def discard(self, seqs: Sequence[int], cb: ResultCallback[int]) -> None:
        """Delete dead letters by their seqs; ``cb(count, err)`` with how many were still there."""
        check_result_cb(cb)
        left = [integer(seq, "seqs", 1) for seq in seqs]
        gone = 0

        def go(answer: object, error: NatsError | None) -> None:
            nonlocal gone
            if error is not None and getattr(error, "err_code", 0) not in (10037, 10057):
                cb(None, error)
                return
            gone += answer is not None
            delete()

        def delete() -> None:
            if left:
                seq = left.pop(0)
                later_request(lambda: self.js.stream_msg_delete(self._places.dead, seq, go), cb)
            else:
                cb(gone, None)

        self.js.nats.call_soon(delete)


def _subjects(subjects: Sequence[str]) -> list[str]:
    found = [subjects] if isinstance(subjects, str) else [*subjects]
    if not found:
        raise BadOptionsError("subjects must not be empty")
    for each in found:
        check_subscribe(each)
    return found


def _fields(config: Any, name: str) -> dict[str, Any]:
    if config is None:
        return {}
    if not isinstance(config, Mapping):
        raise TypeError(f"{name} must be a mapping, not {type(config).__name__}")
    for field in ("name", "subjects", "retention"):
        if field in config:
            raise BadOptionsError(f"{name} must not have {field}: the queue sets it")
    return dict(config)
