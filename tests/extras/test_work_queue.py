"""Work queues: jobs are done at least once, tried again with pauses, and become dead letters exactly once."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from nats_ev import BadOptionsError, JetStream, MaxPayloadError, Nats
from nats_ev.extras import JobRejectedError, JobRetryError, JobTimeoutError, WorkQueue


def created(js: JetStream, call: Any) -> WorkQueue:
    made = WorkQueue(js, "Q", attempts=3, backoff=[10, 20], ack_wait=1000)
    assert call(made.create) == (True, None)
    return made


@pytest.fixture
def queue(js: JetStream, call: Any) -> WorkQueue:
    """A queue on the newest server."""
    return created(js, call)


@pytest.fixture
def any_queue(any_js: JetStream, call: Any) -> WorkQueue:
    """A queue on each line in turn."""
    return created(any_js, call)


def put(queue: WorkQueue, call: Any, *jobs: str, **options: Any) -> None:
    for job in jobs:
        assert call(queue.put, job, **options)[1] is None


def left(queue: WorkQueue, call: Any) -> int:
    return int(call(queue.js.stream_info, queue.stream)[0]["state"]["messages"])


def abandon(queue: WorkQueue, call: Any, eventually: Any) -> None:
    """Take the only job as often as possible, like workers that are killed; the server has noticed then."""

    def events() -> int:
        # The server looks at deliveries that were the last when somebody asks for jobs.
        opts = {"batch": 1, "expires": timedelta(milliseconds=200)}
        taken.extend(call(queue.js.fetch, "Q", "workers", opts)[0] or ())
        return int(call(queue.js.stream_info, "Q-EVENTS")[0]["state"]["messages"])

    taken: list[Any] = []
    eventually(lambda: events() == 1)
    assert [msg.metadata.num_delivered for msg in taken] == [1, 2, 3]


def letters(queue: WorkQueue, call: Any) -> list[Any]:
    found, err = call(queue.dead_letters)
    assert err is None
    return list(found)


def test_jobs_are_done_and_leave_the_queue(queue, call, run, eventually):
    put(queue, call, "a", "b", "c")
    done: list[Any] = []
    worker = queue.work(lambda job: done.append((job.data, job.attempt, job.subject)))
    run(lambda: worker.done == 3)
    assert done == [(b"a", 1, "Q.job"), (b"b", 1, "Q.job"), (b"c", 1, "Q.job")]
    eventually(lambda: left(queue, call) == 0)
    assert call(worker.drain) == (True, None)
    assert worker.closed
    assert letters(queue, call) == []


def test_a_failure_is_tried_again_with_pauses_and_then_put_aside(any_queue, call, run, eventually):
    queue = any_queue
    put(queue, call, "good", "bad", headers={"Own": "1", "Nats-Msg-Id": "x"})
    put(queue, call, "bad", headers={"Own": "1"}, subject="Q.special")
    tried: list[Any] = []
    dead: list[Any] = []

    def handler(job: Any) -> None:
        tried.append((job.data, job.attempt))
        assert job.header("Own") == "1"
        if job.data == b"bad":
            raise ValueError("it can't be\r\ndone")

    worker = queue.work(handler, on_dead=lambda job, reason: dead.append((job.seq, reason)))
    run(lambda: worker.dead == 1)
    eventually(lambda: left(queue, call) == 0)
    assert tried.count((b"bad", 1)) == tried.count((b"bad", 3)) == 1
    assert worker.failed == 2
    assert [len(reason.split("\n")) for _, reason in dead] == [2]
    (letter,) = letters(queue, call)
    assert (letter.subject, letter.data, letter.deliveries) == ("Q.special", b"bad", 3)
    assert letter.reason == "ValueError: it can't be done"
    assert letter.headers.pairs() == [("Own", "1")]
    assert (letter.stream, letter.stream_seq) == ("Q", dead[0][0])
    assert letter.stored is not None
    assert letter.stored <= letter.died
    worker.stop()


def test_a_handler_may_finish_later_and_say_how(queue, call, run):
    put(queue, call, "later", "never", "soon")
    waiting: list[Any] = []

    def handler(job: Any, done: Any) -> None:
        if job.data == b"never":
            done(JobRejectedError("no such job"))
        elif job.data == b"soon" and job.attempt == 1:
            done(JobRetryError(delay=1))
        elif job.data == b"soon":
            done()
        else:
            waiting.append(done)

    worker = queue.work(handler, concurrency=2)
    run(lambda: worker.done == 1 and worker.dead == 1)
    assert worker.running == 1
    waiting[0](None)
    waiting[0](ValueError("only the first counts"))
    assert (worker.done, worker.running, worker.failed) == (2, 0, 1)
    (letter,) = letters(queue, call)
    assert (letter.data, letter.reason, letter.deliveries) == (b"never", "no such job", 1)
    worker.stop()


def test_no_more_jobs_are_in_hand_than_asked_for(queue, call, run):
    put(queue, call, *"abcdefgh")
    dones: list[Any] = []
    one = queue.work(lambda job, done: dones.append(done), concurrency=2, prefetch=1)
    run(lambda: one.running == 2 and one.waiting == 1)
    other = queue.work(lambda job: None, concurrency=4)
    run(lambda: other.done == 5)
    assert len(dones) == 2
    while one.done < 3:
        run(lambda: dones)
        dones.pop()()
    one.stop()
    other.stop()


def test_a_long_job_is_not_given_to_another_worker(queue, call, run):
    put(queue, call, "long")
    dones: list[Any] = []
    worker = queue.work(lambda job, done: dones.append(done))
    other = queue.work(lambda job: pytest.fail("given to another worker"))
    run(lambda: dones)
    passed: list[bool] = []
    queue.js.nats.call_later(2500, passed.append, True)
    run(lambda: passed)
    dones[0]()
    assert (worker.done, len(dones)) == (1, 1)
    worker.stop()
    other.stop()


def test_a_handler_that_takes_too_long_has_failed(queue, call, run):
    put(queue, call, "stuck")
    dead: list[str] = []
    worker = queue.work(
        lambda job, done: None, job_timeout=50, on_dead=lambda job, reason: dead.append(reason)
    )
    run(lambda: dead)
    assert dead == [f"JobTimeoutError: {JobTimeoutError.text}"]
    assert worker.failed == 2
    worker.stop()


def test_a_drain_lets_handlers_end_and_gives_the_rest_back(any_queue, call, run, eventually):
    queue = any_queue
    put(queue, call, *"abcd")
    dones: list[Any] = []
    worker = queue.work(lambda job, done: dones.append(done), prefetch=3)
    run(lambda: worker.running == 1 and worker.waiting == 3)
    ended: list[Any] = []
    worker.drain(lambda *end: ended.append(end))
    assert (worker.draining, worker.closed, worker.waiting) == (True, False, 0)
    other = queue.work(lambda job: None)
    run(lambda: other.done == 3)
    assert not ended
    dones[0]()
    run(lambda: ended)
    assert ended == [(True, None)]
    assert worker.closed
    eventually(lambda: left(queue, call) == 0)
    assert call(worker.drain) == (True, None)
    other.stop()


def test_a_stopped_worker_gives_all_its_jobs_back(queue, call, run):
    put(queue, call, "a", "b")
    dones: list[Any] = []
    worker = queue.work(lambda job, done: dones.append(done), concurrency=2)
    run(lambda: len(dones) == 2)
    worker.stop()
    other = queue.work(lambda job: None)
    run(lambda: other.done == 2)
    dones[0]()
    assert worker.done == 0
    other.stop()


def test_a_drain_of_the_client_waits_for_handlers(queue, call, run, line_server, connected):
    put(queue, call, "a")
    nats: Nats = connected(line_server("newest"))
    theirs = WorkQueue(JetStream(nats), "Q", attempts=3, ack_wait=1000)
    dones: list[Any] = []
    worker = theirs.work(lambda job, done: dones.append(done))
    run(lambda: dones)
    nats.drain()
    nats.call_soon(lambda: None)
    assert not worker.closed
    dones[0]()
    run(lambda: not nats.is_connected())
    run(lambda: worker.closed)
    assert left(queue, call) == 0


def test_a_worker_ends_with_its_client(queue, call, run, line_server, connected):
    put(queue, call, "a", "b")
    nats = connected(line_server("newest"))
    theirs = WorkQueue(JetStream(nats), "Q", attempts=3, ack_wait=1000)
    dones: list[Any] = []
    errors: list[Any] = []
    worker = theirs.work(lambda job, done: dones.append(done), prefetch=1, on_error=errors.append)
    run(lambda: dones and worker.waiting == 1)
    nats.disconnect()
    run(lambda: worker.closed)
    assert [type(err).__name__ for err in errors][:1] == ["ConnectionClosedError"]
    assert (worker.running, worker.waiting) == (0, 0)
    dones[0]()
    assert worker.done == 0
    other = queue.work(lambda job: None)
    run(lambda: other.done == 2)
    other.stop()


def test_a_drain_waits_for_a_connection(
    queue, call, run, eventually, line_server, proxy, connected
):
    put(queue, call, "a")
    through = proxy(line_server("newest").port)
    nats = connected(through, reconnect=True, reconnect_delay=20, max_reconnect_attempts=0)
    theirs = WorkQueue(JetStream(nats), "Q", attempts=3, ack_wait=1000)
    dones: list[Any] = []
    worker = theirs.work(lambda job, done: dones.append(done))
    run(lambda: dones)
    through.refuse()
    through.cut()
    run(lambda: not nats.is_connected())
    ended: list[Any] = []
    worker.drain(lambda *end: ended.append(end))
    dones[0]()
    assert not ended
    through.accept()
    run(lambda: ended)
    assert worker.closed
    other = queue.work(lambda job: None)  # an answer that was lost lets the job come again
    eventually(lambda: left(queue, call) == 0)
    other.stop()


def test_a_job_that_nobody_answers_becomes_a_dead_letter_once(any_queue, call, run, eventually):
    queue = any_queue
    put(queue, call, "killer")
    abandon(queue, call, eventually)
    assert letters(queue, call) == [], "nobody was there to move it"
    workers = [queue.work(lambda job: None) for _ in range(3)]
    run(lambda: sum(worker.dead for worker in workers) >= 1)
    eventually(lambda: left(queue, call) == 0)
    (letter,) = letters(queue, call)
    assert (letter.data, letter.deliveries, letter.subject) == (b"killer", 3, "Q.job")
    assert letter.reason == "no worker has answered its last delivery"
    eventually(lambda: call(queue.js.stream_info, "Q-EVENTS")[0]["state"]["messages"] == 0)
    for worker in workers:
        worker.stop()


def test_a_job_that_was_left_without_an_advisory_is_found(queue, call, run, eventually):
    put(queue, call, "left")
    abandon(queue, call, eventually)
    call(queue.js.stream_purge, "Q-EVENTS")
    worker = queue.work(lambda job: None)
    run(lambda: worker.dead == 1)
    (letter,) = letters(queue, call)
    assert (letter.data, letter.deliveries) == (b"left", 3)
    assert letter.reason == "it was left after its last delivery"
    eventually(lambda: left(queue, call) == 0)
    worker.stop()


def test_a_job_that_another_program_terminates_is_not_forgotten(queue, call, run, eventually):
    put(queue, call, "gone")
    (msg,), _ = call(queue.js.fetch, "Q", "workers", {"batch": 1, "expires": timedelta(seconds=10)})
    msg.term("I don't like it")
    worker = queue.work(lambda job: None)
    eventually(lambda: letters(queue, call))
    (letter,) = letters(queue, call)
    assert (letter.data, letter.subject, letter.stream_seq) == (b"", "", 1)
    assert letter.reason.startswith("terminated: I don't like it")
    assert call(queue.redrive) == (0, None)
    assert call(queue.discard, [letter.seq, 99]) == (1, None)
    worker.stop()


def test_an_advisory_of_a_former_queue_hurts_no_job(queue, call, run, eventually):
    put(queue, call, "old")
    abandon(queue, call, eventually)
    call(queue.js.stream_delete, "Q")
    assert call(queue.create) == (True, None)
    put(queue, call, "new")
    dones: list[Any] = []
    worker = queue.work(lambda job, done: dones.append(done))
    eventually(lambda: call(queue.js.stream_info, "Q-EVENTS")[0]["state"]["messages"] == 0)
    run(lambda: dones)
    assert (letters(queue, call), left(queue, call)) == ([], 1)
    dones[0]()
    worker.stop()


def test_dead_letters_are_put_back(any_queue, call, run, eventually):
    queue = any_queue
    put(queue, call, "a", "b", "c", headers={"Own": "1"})
    put(queue, call, "d", subject="Q.other")

    def reject(job: Any) -> None:
        raise JobRejectedError("not now")

    worker = queue.work(reject)
    run(lambda: worker.dead == 4)
    call(worker.drain)
    found = letters(queue, call)
    assert [letter.data for letter in found] == [b"a", b"b", b"c", b"d"]
    some, _ = call(queue.dead_letters, after=found[0].seq, limit=2)
    assert [letter.data for letter in some] == [b"b", b"c"]
    assert call(queue.redrive, subject="Q.other") == (1, None)
    assert call(queue.redrive, limit=1) == (1, None)
    assert call(queue.redrive, seqs=[found[2].seq, found[2].seq]) == (1, None)
    assert [letter.data for letter in letters(queue, call)] == [b"b"]
    again: list[Any] = []
    worker = queue.work(lambda job: again.append((job.data, job.attempt, job.header("Own"))))
    run(lambda: worker.done == 3)
    assert again == [(b"d", 1, None), (b"a", 1, "1"), (b"c", 1, "1")]
    assert call(queue.redrive) == (1, None)
    run(lambda: worker.done == 4)
    assert letters(queue, call) == []
    assert call(queue.redrive) == (0, None)
    worker.stop()


def test_letters_that_come_during_a_redrive_are_left_alone(queue, call, run):
    def reject(job: Any) -> None:
        raise JobRejectedError("never")

    worker = queue.work(reject, concurrency=3)
    put(queue, call, "a", "b", "c")
    run(lambda: worker.dead == 3)
    assert call(queue.redrive) == (3, None)
    run(lambda: worker.dead == 6)
    assert len(letters(queue, call)) == 3
    worker.stop()


def test_a_worker_without_a_queue_tells_the_client(js, call, run):
    worker = WorkQueue(js, "NONE").work(lambda job: None)
    run(lambda: worker.closed)
    assert "NONE" in str(js.nats.recorder.errors[-1])


def test_a_letter_that_a_killed_mover_has_stored_twice_is_one(queue, call, run, eventually):
    from nats_ev.extras.dead_letters import Dead, bury

    put(queue, call, "x")
    dead = Dead(1, "Q.job", b"x", None, 17, "why", 3)
    for _ in range(3):
        assert call(bury, queue.js, queue._places, dead) == (True, None)
    assert len(letters(queue, call)) == 1


def test_the_set_up_may_be_repeated_and_changed(any_js, call):
    for attempts in (3, 3, 4):
        queue = WorkQueue(any_js, "Q", attempts=attempts, config={"max_msgs": 10})
        assert call(queue.create) == (True, None)
    assert call(any_js.consumer_info, "Q", "workers")[0]["config"]["max_deliver"] == 4
    assert call(any_js.stream_info, "Q")[0]["config"]["max_msgs"] == 10


def test_a_worker_whose_consumer_is_deleted_says_so(queue, call, run):
    errors: list[Any] = []
    worker = queue.work(lambda job: None, on_error=errors.append)
    put(queue, call, "a")
    run(lambda: worker.done == 1)
    call(queue.js.consumer_delete, "Q", "workers")
    run(lambda: worker.closed)
    assert "workers" in str(errors[-1]) or "consumer" in str(errors[-1]).lower()


def test_wrong_arguments_are_raised(connected, server):
    js = JetStream(connected(server))
    for options, why in (
        ({"name": "a.b"}, "letters, digits"), ({"attempts": 0}, "attempts"), ({"backoff": []}, "backoff"),
        ({"ack_wait": 999}, "at least 1000 ms"), ({"subjects": []}, "subjects"),
        ({"config": {"retention": "limits"}}, "the queue sets it"),
    ):  # fmt: skip
        with pytest.raises(BadOptionsError, match=why):
            WorkQueue(js, **{"name": "Q", **options})
    for backoff in (5, timedelta(seconds=1), "1"):
        with pytest.raises(TypeError, match="backoff must be several pauses"):
            WorkQueue(js, "Q", backoff=backoff)  # type: ignore[arg-type]
    queue = WorkQueue(js, "Q", subjects=["q.*"])
    with pytest.raises(BadOptionsError, match="subject is required"):
        queue.put(b"", print)
    with pytest.raises(BadOptionsError, match="not 'elsewhere'"):
        queue.put(b"", print, subject="elsewhere")
    with pytest.raises(MaxPayloadError, match="dead letter"):
        queue.put(b"x" * js.nats.max_payload(), print, subject="q.a")
    with pytest.raises(BadOptionsError, match="concurrency"):
        queue.work(print, concurrency=0)

    async def coroutine(job: Any) -> None: ...

    with pytest.raises(TypeError, match=r"only nats_ev\.aio"):
        queue.work(coroutine)


def test_a_queue_leaves_nothing_in_the_client(queue, call, run):
    worker = queue.work(lambda job: None)
    put(queue, call, "a")
    run(lambda: worker.done == 1)
    before = queue.js.nats.subscription_count()
    call(worker.drain)
    assert queue.js.nats.subscription_count() == before - 2
    assert not worker._tasks


def test_a_worker_whose_source_has_ended_gives_back_what_waits(queue, call, run):
    dones: list[Any] = []
    errors: list[Any] = []
    worker = queue.work(lambda job, done: dones.append(done), prefetch=3, on_error=errors.append)
    put(queue, call, "a", "b", "c")
    run(lambda: dones and worker.waiting == 2)
    call(queue.js.consumer_delete, "Q", "workers")
    run(lambda: errors)
    assert worker.waiting == 0
    dones[0]()
    run(lambda: worker.closed)
    assert len(dones) == 1
    assert not worker._tasks


class Stop(BaseException):
    """Like KeyboardInterrupt."""


class Dumb(Exception):
    """An exception without a text."""

    def __str__(self) -> str:
        raise RuntimeError("no text")


def test_a_handler_that_is_interrupted_has_failed(queue, call, run):
    put(queue, call, "a")
    attempts: list[int] = []

    def handler(job: Any) -> None:
        attempts.append(job.attempt)
        if job.attempt == 1:
            raise Stop

    worker = queue.work(handler)
    with pytest.raises(Stop):
        run(lambda: worker.done)
    assert (worker.running, worker.failed) == (0, 1)
    run(lambda: worker.done == 1)
    assert attempts == [1, 2]
    worker.stop()


@pytest.mark.parametrize("delay", ["5s", -1, None, float("inf"), 10**15])
def test_a_pause_that_makes_no_sense_is_that_of_the_queue(queue, call, run, delay):
    put(queue, call, "a")
    errors: list[Any] = []

    def handler(job: Any) -> None:
        if job.attempt == 1:
            raise JobRetryError(delay=delay)

    worker = queue.work(handler, on_error=errors.append)
    run(lambda: worker.done == 1)
    assert worker.failed == 1
    run(lambda: errors)
    assert isinstance(errors[0], BadOptionsError)
    assert "JobRetryError" in str(errors[0])
    worker.stop()


def test_an_exception_without_a_text_is_a_reason_too(queue, call, run):
    put(queue, call, "a")

    def handler(job: Any) -> None:
        raise Dumb

    worker = queue.work(handler)
    run(lambda: worker.dead == 1)
    assert [each.reason for each in letters(queue, call)] == ["Dumb"]
    worker.stop()


def test_a_job_has_room_for_its_dead_letter(queue, call, run):
    limit = queue.js.nats.max_payload()
    headers = {"Own": "x" * 4000}
    with pytest.raises(MaxPayloadError, match="dead letter"):
        queue.put(b"x" * (limit - 5000), print, headers=headers)
    longest = b"x" * (limit - 2048 - 4000 - 100)
    assert call(queue.put, longest, headers=headers)[1] is None
    worker = queue.work(lambda job, done: done(JobRejectedError("\U0001f600" * 1000)))
    run(lambda: worker.dead == 1)
    (letter,) = letters(queue, call)
    assert letter.data == longest
    assert letter.reason == "\U0001f600" * 128
    worker.stop()


def test_calls_never_answer_before_they_return(queue, run, connected, line_server):
    nats = connected(line_server("newest"))
    theirs = WorkQueue(JetStream(nats), "Q")
    answers: list[Any] = []

    def answer(*args: Any) -> None:
        answers.append(args)

    theirs.redrive(answer, seqs=[])
    theirs.discard([], answer)
    assert not answers
    run(lambda: len(answers) == 2)
    assert answers == [(0, None)] * 2
    nats.disconnect()
    run(lambda: not nats.is_connected())
    answers.clear()
    theirs.redrive(answer, seqs=[1])
    theirs.dead_letters(answer)
    theirs.discard([1], answer)
    assert not answers
    run(lambda: len(answers) == 3)
    assert {type(err).__name__ for _, err in answers} == {"NotConnectedError"}
