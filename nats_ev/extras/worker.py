"""`Worker`: takes jobs out of a work queue, runs a handler for each, and answers for it.

The worker asks the server for as many jobs as it has room for (`Consume.ask`), so that no job waits here
while another worker is idle. While a handler runs, the worker tells the server so in time
(`JsMsg.in_progress`): a job of any length is not given to another one, and that of a worker that is killed
is, after ack_wait.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable
from functools import partial
from typing import Any

from ..arguments import Milliseconds, ResultCallback, check_result_cb, milliseconds, takes_several
from ..errors import BadOptionsError, ConnectionClosedError, NatsError
from ..headers import received
from ..jetstream import JetStream, JsMsg, MsgNotAckableError, later_request
from .dead_letters import Dead, Mover, Places, bury

# How often a dead letter is tried that can't be stored, and the ms between.
_BURIALS = 10
_AGAIN_MS = 1000.0
# Of a `JobRetryError`, in ms: what `JsMsg.nak` takes.
_LONGEST_DELAY = 100 * 365 * 24 * 3600 * 1000.0


class JobRejectedError(NatsError):
    """A job that must not be tried again: raise this in a handler, or give it to ``done``.

    ``str(err)`` is the reason in the dead letter.

    What to do: correct the job, and put it into the queue again; `WorkQueue.redrive` does for dead letters.
    """

    text = "the job was rejected"


class JobRetryError(NatsError):
    """A job that should be tried again after a time of its own: raise this, or give it to ``done``.

    `delay` is that time, in ms or as timedelta. It counts as a failure: the last one makes a dead letter.
    In place of a delay that can't be, the queue's backoff counts, and on_error gets `BadOptionsError`.

    What to do: nothing, as long as attempts are left.
    """

    text = "the job is to be tried again"
    delay: Milliseconds = 0.0


class JobTimeoutError(NatsError, TimeoutError):
    """A handler has not called ``done`` within job_timeout. The worker does not wait for it any longer.

    What to do: raise job_timeout, or find out what the handler waits for.
    """

    text = "the handler took too long"


class Job:
    """A job, as a handler gets it.

    Attributes:
        subject: the subject under which it was put.
        data: its payload.
        headers: the raw block, or None; `header` reads one.
        attempt: 1 at the first delivery. Workers that were killed count.
        attempts: how many there are at most; then the job becomes a dead letter.
        seq: its sequence in the queue's stream.
    """

    __slots__ = ("_msg", "attempt", "attempts", "data", "headers", "seq", "subject")

    def __init__(self, msg: JsMsg, attempts: int) -> None:
        meta = msg.metadata
        self._msg = msg
        self.subject = msg.subject
        self.data = msg.data
        self.headers = msg.headers
        self.attempt = meta.num_delivered
        self.attempts = attempts
        self.seq = meta.stream_sequence

    def __repr__(self) -> str:
        return f"<Job {self.seq} {self.subject!r} attempt {self.attempt} of {self.attempts}>"

    @property
    def payload(self) -> bytes:
        """The same as `data`."""
        return self.data

    def header(self, name: str, default: str | None = None) -> str | None:
        """Return the first value of a header, or default if the job does not have it."""
        return received(self.headers).get(name, default)


Finish = Callable[[BaseException | str | None], None]
JobHandler = Callable[..., object]


class _Task:
    """A job in hand: it is waiting here, its handler runs, or its dead letter is being stored."""

    __slots__ = ("began", "burials", "finished", "hold", "job", "msg")

    def __init__(self, job: Job, msg: JsMsg) -> None:
        self.job = job
        self.msg = msg
        self.began = 0.0  # on the monotonic clock; 0: the handler has not been called
        self.finished = False  # the handler has called done, or nobody waits for it
        self.burials = 0
        self.hold: Any = None


class Rules:
    """How a worker treats jobs; times in ms."""

    __slots__ = ("ack_wait", "attempts", "backoff", "concurrency", "job_timeout", "prefetch")

    def __init__(
        self,
        *,
        ack_wait: float,
        attempts: int,
        backoff: tuple[float, ...],
        concurrency: int,
        prefetch: int,
        job_timeout: float,
    ) -> None:
        self.ack_wait = ack_wait
        self.attempts = attempts
        self.backoff = backoff
        self.concurrency = concurrency
        self.prefetch = prefetch
        self.job_timeout = job_timeout  # 0: no limit


class Worker:
    """A running worker of a `WorkQueue`, as `WorkQueue.work` returns it; `drain` and `stop` end it.

    `js` is the JetStream, `stream` the queue's stream. `running` jobs are in handlers, `waiting` ones have
    been received; `done`, `failed` and `dead` count jobs that were done, are tried again, are dead letters.
    """

    def __init__(
        self,
        js: JetStream,
        places: Places,
        rules: Rules,
        job_handler: JobHandler,
        on_dead: Callable[[Job, str], object] | None,
        on_error: Callable[[NatsError], object] | None,
    ) -> None:
        self.js = js
        self.stream = places.queue
        self.done = self.failed = self.dead = 0
        self._places = places
        self._rules = rules
        self._handler = job_handler
        self._takes_done = takes_several(job_handler)
        self._on_dead = on_dead
        self._on_error = on_error
        self._tasks: dict[JsMsg, _Task] = {}
        self._ready: deque[_Task] = deque()
        self._running = 0
        self._pumping = False
        self._draining: list[Any] | None = None  # the cbs of drain
        self._closed = False
        self._timer: Any = None
        opts: Any = {"max_messages": rules.concurrency + rules.prefetch}
        self._source = js.consume(
            places.queue, places.consumer, opts, self._arrived, on_error=lambda error: None
        )
        self._source.ask(rules.concurrency + rules.prefetch)
        every = max(rules.ack_wait, 1000.0)
        self._mover = Mover(js, places, every, self._buried_by_mover, self._report)
        self._tick()

    def __repr__(self) -> str:
        state = "closed" if self._closed else "draining" if self.draining else "running"
        return f"<Worker {self.stream} {state}>"

    @property
    def closed(self) -> bool:
        """Whether the worker has ended: no handler is called any more."""
        return self._closed

    @property
    def draining(self) -> bool:
        """Whether the worker takes no more jobs, and waits for its handlers."""
        return self._draining is not None

    @property
    def running(self) -> int:
        """How many jobs are in handlers."""
        return self._running

    @property
    def waiting(self) -> int:
        """How many jobs have been received and wait for a handler."""
        return len(self._ready)

    def drain(self, cb: ResultCallback[bool] | None = None) -> None:
        """End gracefully: give back the jobs that wait, and let the handlers come to their end.

        Then ``cb(True, None)``, when the server has all answers; ``cb(None, err)`` if the connection was lost
        then: jobs whose answers are lost are delivered again.
        """
        if cb is not None:
            check_result_cb(cb)
        if self._closed:
            if cb is not None:
                self.js.nats.call_soon(cb, True, None)
            return
        waiters = [cb] if cb is not None else []
        if self._draining is not None:
            self._draining += waiters
            return
        self._draining = waiters
        self._mover.stop()
        self._give_back()
        self._source.drain(lambda done, error: self._source_ended())

    def stop(self) -> None:
        """End at once: the jobs in hand are given back, even those whose handlers run."""
        if self._closed:
            return
        self._give_back()
        for task in list(self._tasks.values()):
            if not task.finished:
                task.finished = True
                self._answer(task.msg.nak)
            self._forget(task)
        self._running = 0
        self._end(None)

    # Jobs come.

    def _arrived(self, msg: JsMsg | None, error: NatsError | None) -> None:
        if msg is None:
            if not self._closed and not self.draining:
                self._report(error or NatsError())
                self._draining = []
                self._mover.stop()
                self._give_back()
                self._source_ended()
            return
        if self._closed or self.draining:
            self._answer(msg.nak)
            return
        try:
            job = Job(msg, self._rules.attempts)
        except MsgNotAckableError as exc:
            self._report(exc)
            return
        task = self._tasks[msg] = _Task(job, msg)
        task.hold = self.js.nats.hold_drain(partial(self._lost, task))
        self._ready.append(task)
        self._pump()

    def _lost(self, task: _Task) -> None:
        """Forget a job: the client has ended."""
        task.finished = True
        self._tasks.pop(task.msg, None)
        if task.began:
            self._running -= 1
        else:
            self._ready.remove(task)
        self._end_if_idle()

    def _pump(self) -> None:
        if self._pumping:
            return
        self._pumping = True
        try:
            while self._ready and self._running < self._rules.concurrency and not self._closed:
                self._begin(self._ready.popleft())
        finally:
            self._pumping = False

    def _begin(self, task: _Task) -> None:
        self._running += 1
        task.began = time.monotonic()
        finish = partial(self._finished, task)
        try:
            if self._takes_done:
                self._handler(task.job, finish)
            else:
                self._handler(task.job)
        except BaseException as exc:
            finish(exc)
            if not isinstance(exc, Exception):  # of who ends the program, or the loop alone
                raise
        else:
            if not self._takes_done:
                finish()

    # Jobs end.

    def _finished(self, task: _Task, err: BaseException | str | None = None) -> None:
        """Take the end of a handler; only the first one counts."""
        if task.finished:
            return
        task.finished = True
        if err is None:
            self.done += 1
            self._close(task, task.msg.ack)
        elif isinstance(err, JobRejectedError) or task.job.attempt >= self._rules.attempts:
            self._bury(task, _reason(err))
        else:
            self.failed += 1
            self._close(task, partial(task.msg.nak, self._delay(task.job.attempt, err)))

    def _delay(self, attempt: int, err: object) -> float:
        if isinstance(err, JobRetryError):
            try:
                delay = milliseconds(err.delay, "delay")
                if delay <= _LONGEST_DELAY:
                    return delay
                text = f"delay must be at most 100 years, not {delay:g} ms"
            except (TypeError, BadOptionsError) as exc:
                text = str(exc)
            # The job must not stay in hand because of that.
            self._report(BadOptionsError(f"JobRetryError: {text}"))
        pauses = self._rules.backoff
        return pauses[min(attempt, len(pauses)) - 1]

    def _close(self, task: _Task, answer: Callable[[], object]) -> None:
        """Answer for a job, and make room for the next one."""
        self._answer(answer)
        self._forget(task)
        if self._closed:
            return
        self._running -= 1
        if not self.draining:
            self._source.ask(1)
            self.js.nats.call_soon(self._pump)
        else:
            self._end_if_idle()

    def _forget(self, task: _Task) -> None:
        self._tasks.pop(task.msg, None)
        if task.hold is not None:
            task.hold.cancel()
            task.hold = None

    def _answer(self, answer: Callable[[], object]) -> None:
        """Answer a message. What can't be sent now is delivered again after ack_wait."""
        try:
            answer()
        except NatsError as exc:
            self._report(exc)

    def _give_back(self) -> None:
        """Let others have the jobs that no handler has seen."""
        while self._ready:
            task = self._ready.popleft()
            task.finished = True
            self._answer(task.msg.nak)
            self._forget(task)

    # Dead letters.

    def _bury(self, task: _Task, reason: str) -> None:
        job, meta = task.job, task.msg.metadata
        stored = meta.timestamp_ns // 1000
        dead = Dead(job.seq, job.subject, job.data, job.headers, stored, reason, job.attempt)

        def buried(done: object, error: NatsError | None) -> None:
            if error is None:
                self.dead += 1
                if self._on_dead is not None:
                    self.js.nats.call_soon(self._on_dead, job, reason)
                self._close(task, task.msg.ack)
                return
            self._report(error)
            task.burials += 1
            if task.burials < _BURIALS and not self._closed and task.hold is not None:
                again = lambda: later_request(send, buried)  # noqa: E731
                self.js.nats.call_later(_AGAIN_MS, again, ended=lambda: None, step=True)
            else:  # without an answer the server tells the movers after ack_wait
                self._close(task, lambda: None)

        send = partial(bury, self.js, self._places, dead, buried)
        later_request(send, buried)

    def _buried_by_mover(self, dead: Dead) -> None:
        self.dead += 1

    # Time.

    def _tick(self) -> None:
        """Tell the server that the jobs in hand are being worked on."""
        if self._closed:
            return
        now = time.monotonic()
        limit = self._rules.job_timeout / 1000
        for task in list(self._tasks.values()):
            if limit and task.began and not task.finished and now - task.began > limit:
                self._finished(task, JobTimeoutError())
            elif not task.msg.acked:
                self._answer(task.msg.in_progress)
        delay = self._rules.ack_wait / 3
        if limit:
            delay = min(delay, self._rules.job_timeout / 2)
        self._timer = self.js.nats.call_later(delay, self._tick)

    # The end.

    def _source_ended(self) -> None:
        self._source.stop()
        self._end_if_idle()

    def _end_if_idle(self) -> None:
        if self.draining and self._source.closed and not self._tasks and not self._closed:
            flush = partial(self.js.nats.flush, self._end)
            later_request(flush, lambda done, error: self._end(error))

    def _end(self, error: NatsError | None) -> None:
        if self._closed:
            return
        self._closed = True
        self._source.stop()
        self._mover.stop()
        if self._timer is not None:
            self._timer.cancel()
        waiters, self._draining = self._draining or [], []
        for cb in waiters:
            self.js.nats.call_soon(cb, True if error is None else None, error)

    def _report(self, error: NatsError) -> None:
        if self._on_error is not None:
            self.js.nats.call_soon(self._on_error, error)
        elif not isinstance(error, ConnectionClosedError):
            self.js.nats.report(error)


def _reason(err: BaseException | str) -> str:
    if isinstance(err, str):
        return err
    try:
        text = str(err)
    except Exception:  # an exception of the user may be unable to say what it is
        text = ""
    if isinstance(err, JobRejectedError) and text:
        return text
    return f"{type(err).__name__}: {text}" if text else type(err).__name__
