"""Locks, semaphores and elections: turns, leases, hand-overs, ends."""

from __future__ import annotations

import itertools
import os
import time
from datetime import timedelta
from typing import Any

import pytest

from lab.recorder import Recorder
from nats_ev import (
    KV,
    BadOptionsError,
    JetStream,
    JetStreamNotEnabledError,
    MessageTtlError,
    NotConnectedError,
)
from nats_ev.extras import (
    Contender,
    Election,
    LeaseLostError,
    Lock,
    LockClosedError,
    NotReentrantError,
    Semaphore,
)

pytestmark = pytest.mark.usefixtures("needs_ttl")
_numbers = itertools.count(1)
LEASE = 2000
SECOND = timedelta(seconds=1)


@pytest.fixture
def bucket(connected, server, call):
    """bucket(config): a bucket of its own. As a KV of a client of its own each time it is called."""
    name = f"locks{next(_numbers)}"

    def kv(client: Any = None) -> KV:
        nats = client if client is not None else connected(server, reconnect=True)
        return KV(JetStream(nats), name)

    _, error = call(kv().create_bucket, {"limit_marker_ttl": SECOND, "storage": "memory"})
    assert error is None
    return kv


class Answers:
    """The answers of one acquire."""

    def __init__(self) -> None:
        self.all: list[tuple[Any, Any]] = []

    def __call__(self, result: Any, error: Any) -> None:
        self.all.append((result, error))

    @property
    def token(self) -> int:
        assert len(self.all) == 1
        assert self.all[0][1] is None, self.all[0][1]
        return self.all[0][0]

    @property
    def error(self) -> Any:
        assert len(self.all) == 1
        assert self.all[0][0] is None
        return self.all[0][1]


def acquired(lock: Any, **options: Any) -> Answers:
    answers = Answers()
    lock.acquire(answers, **options)
    assert not answers.all
    return answers


def test_one_holds_and_the_next_follows_a_release(bucket, run, call, eventually):
    first, second = Lock(bucket(), "a"), Lock(bucket(), "a")
    assert (first.held, first.token, first.expires_in) == (False, 0, 0.0)
    token, error = call(first.acquire)
    assert error is None
    assert first.held
    assert first.token == token > 0
    assert 8000 < first.expires_in <= 9000
    assert call(second.try_acquire) == (None, None)
    waits = acquired(second)
    eventually(lambda: len(call(first.queue)[0]) == 2)
    assert not waits.all
    released = Answers()
    first.release(released)
    assert not first.held
    run(lambda: waits.all and released.all)
    assert released.all == [(True, None)]
    assert waits.token > token
    assert second.held
    assert call(first.release) == (False, None)
    first.release()
    assert call(second.release) == (True, None)
    assert call(first.queue) == ([], None)


def test_turns_come_in_the_order_of_the_calls(bucket, run, call, eventually):
    locks = [Lock(bucket(), "fifo", lease=60_000, owner=str(i)) for i in range(6)]
    order: list[int] = []
    for i, lock in enumerate(locks):

        def held(token: int | None, err: Any, i: int = i, lock: Lock = lock) -> None:
            if i == 3:  # closed below
                assert isinstance(err, LockClosedError)
                return
            assert [each.held for each in locks].count(True) == 1
            order.append(i)
            lock.release()

        if i == 0:
            call(lock.acquire)
        else:
            lock.acquire(held)
            eventually(lambda i=i: len(call(locks[0].queue)[0]) == i + 1)
    listed, _ = call(locks[0].queue)
    assert [each.owner for each in listed] == list("012345")
    assert [each.token for each in listed] == sorted(each.token for each in listed)
    locks[3].close()
    locks[0].release()
    run(lambda: len(order) == 4)
    assert order == [1, 2, 4, 5]


def test_one_object_is_not_reentrant_and_names_are_apart(bucket, run, call):
    kv = bucket()
    lock = Lock(kv, "a")
    waits = acquired(lock)
    for method in (lock.acquire, lock.try_acquire):
        with pytest.raises(NotReentrantError, match="a is held"):
            method(lambda token, err: None)
    run(lambda: waits.all)
    with pytest.raises(NotReentrantError):
        lock.acquire(lambda token, err: None)
    for name in ("a.b", "b"):
        other = Lock(kv, name)
        assert call(other.try_acquire)[0]
        other.release()
    lock.release()
    assert call(lock.acquire)[0]
    lock.release()


def test_waiting_ends_by_timeout_stop_and_close(bucket, run, call, eventually):
    kv = bucket()
    holder, waiter = Lock(kv, "a"), Lock(kv, "a")
    call(holder.acquire)
    late, error = call(waiter.acquire, timeout=100)
    assert late is None
    assert isinstance(error, TimeoutError)
    assert "a not acquired in 100 ms" in str(error)
    stopped = Answers()
    waiting = waiter.acquire(stopped)
    waiting.stop()
    waiting.stop()
    closed = acquired(waiter)
    waiter.close()
    assert not closed.all
    run(lambda: closed.all)
    assert isinstance(closed.error, LockClosedError)
    with pytest.raises(LockClosedError):
        waiter.acquire(closed)
    eventually(lambda: len(call(holder.queue)[0]) == 1)  # nothing of all that is left in the queue
    assert holder.held
    assert not stopped.all
    waiting.stop()


def test_the_error_of_a_timeout_says_what_is_wrong(own_server, connected, call):
    nats = connected(own_server(), reconnect=True)
    lock = Lock(KV(JetStream(nats), "b"), "a")
    _, error = call(lock.acquire, timeout=2000)
    assert isinstance(error, TimeoutError)
    assert "a not acquired in 2000 ms: " in str(error)
    assert "is JetStream enabled on this server" in str(error)
    assert isinstance(error.__cause__, JetStreamNotEnabledError)


def test_stop_in_the_callback_releases_nothing(bucket, run, call):
    lock = Lock(bucket(), "a")
    taken: list[bool] = []

    def held(token: int | None, err: Any) -> None:
        acquisition.stop()
        taken.append(lock.held)

    acquisition = lock.acquire(held)
    run(lambda: taken)
    assert taken == [True]
    lock.close()


def test_renewals_keep_the_lock_past_its_lease(bucket, run, call):
    lost: list[Any] = []
    kv = bucket()
    lock = Lock(kv, "a", lease=1000, on_lost=lost.append)
    other = Lock(bucket(), "a", lease=1000)
    token, _ = call(lock.acquire)
    waits = acquired(other)
    until = time.monotonic() + 3
    run(lambda: time.monotonic() > until)
    assert lock.held
    assert lock.token == token
    assert not lost
    assert not waits.all
    lock.release()
    run(lambda: waits.all)
    assert waits.token > token
    other.release()


def test_killed_holder_is_followed_within_its_lease(bucket, run, call, eventually):
    """The client of the holder ends without a release: as after kill -9, only the TTL frees the lock."""
    kv = bucket()
    lost: list[Any] = []
    first, second = (
        Lock(kv, "a", lease=LEASE, on_lost=lost.append),
        Lock(bucket(), "a", lease=LEASE),
    )
    token, _ = call(first.acquire)
    waits = acquired(second)
    eventually(lambda: len(call(second.queue)[0]) == 2)
    kv.js.nats.disconnect()
    run(lambda: lost)
    assert not first.held
    assert str(lost[0]) == "disconnected"
    run(lambda: waits.all)
    assert waits.token > token
    second.release()


@pytest.mark.parametrize("config", [{"allow_msg_ttl": True}])
def test_without_markers_a_time_tells_of_the_end(
    bucket, connected, server, run, call, config, eventually
):
    nats = connected(server, reconnect=True)
    kv = KV(JetStream(nats), f"nomarkers{next(_numbers)}")
    assert call(kv.create_bucket, config)[1] is None
    dead = KV(JetStream(connected(server)), kv.bucket)
    first, second = Lock(dead, "a", lease=1000), Lock(kv, "a", lease=1000)
    token, _ = call(first.acquire)
    waits = acquired(second)
    eventually(lambda: len(call(second.queue)[0]) == 2)
    dead.js.nats.disconnect()
    run(lambda: waits.all)
    assert waits.token > token
    second.release()


def test_bucket_without_ttls_is_refused(connected, server, call):
    kv = KV(JetStream(connected(server)), f"plain{next(_numbers)}")
    call(kv.create_bucket)
    lock = Lock(kv, "a")
    token, error = call(lock.acquire)
    assert token is None
    assert isinstance(error, MessageTtlError)
    assert "limit_marker_ttl" in str(error)
    assert isinstance(call(lock.acquire)[1], MessageTtlError)


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"lease": 999}, "lease must be whole seconds"),
        ({"lease": 1500}, "lease must be whole seconds"),
        ({"lease": 2000, "margin": 0}, "margin must be above 0"),
        ({"lease": 2000, "margin": 1000}, "margin must be above 0"),
    ],
)
def test_bad_leases_are_refused(bucket, options, text):
    with pytest.raises(BadOptionsError, match=text):
        Lock(bucket(), "a", **options)


def test_other_mistakes_are_refused(bucket):
    kv = bucket()
    with pytest.raises(BadOptionsError, match="permits"):
        Semaphore(kv, "a", 0)
    with pytest.raises(TypeError, match="owner must be str"):
        Lock(kv, "a", owner=7)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="on_lost"):
        Lock(kv, "a", on_lost=7)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="kv must be a KV"):
        Lock(kv.js, "a")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="invalid key"):
        Lock(kv, "a.*").acquire(lambda token, err: None)
    for name in ("a.*", ">", "", "a.", "a b", "é", "\udc80"):
        for kind in (Lock, Election):
            with pytest.raises(BadOptionsError, match="invalid key"):
                kind(kv, name)
    with pytest.raises(TypeError, match="name must be str"):
        Lock(kv, None)  # type: ignore[arg-type]


def test_lease_that_can_not_be_renewed_is_lost_before_the_server_ends_it(
    bucket, connected, server, proxy, run, call, eventually
):
    way = proxy(server.port)
    cut_off = connected(way, reconnect=True)
    lost: list[Any] = []
    lock = Lock(bucket(cut_off), "a", lease=LEASE, on_lost=lost.append)
    other = Lock(bucket(), "a", lease=LEASE)
    token, _ = call(lock.acquire)
    waits = acquired(other)
    eventually(lambda: len(call(other.queue)[0]) == 2)
    way.stall()
    held_together: list[bool] = []

    def look() -> bool:
        held_together.append(lock.held and other.held)
        return bool(waits.all)

    run(look)
    assert not any(held_together)
    assert isinstance(lost[0], LeaseLostError)
    assert lock.token == 0
    way.resume()
    way.cut()
    run(cut_off.is_connected)
    assert waits.token > token
    again = acquired(lock)
    other.release()
    run(lambda: again.all)
    assert again.token > waits.token
    assert len(lost) == 1
    lock.release()


def test_lock_survives_a_reconnect_within_its_lease(bucket, connected, server, proxy, run, call):
    way = proxy(server.port)
    nats = connected(way, reconnect=True, reconnect_delay=50)
    lost: list[Any] = []
    lock = Lock(bucket(nats), "a", lease=5000, on_lost=lost.append)
    token, _ = call(lock.acquire)
    for _ in range(3):
        way.cut()
        run(lambda: not nats.is_connected())
        run(nats.is_connected)
        before = lock.expires_in
        run(lambda before=before: lock.expires_in > before)
    assert lock.token == token
    assert not lost
    lock.release()


def test_late_answer_of_the_renewal_is_no_loss(bucket, connected, server, proxy, run, call):
    """Renewals are stored, and their answers lost: the revision is read again."""
    way = proxy(server.port)
    nats = connected(way, reconnect=True, reconnect_delay=50)
    lost: list[Any] = []
    lock = Lock(bucket(nats), "a", lease=6000, margin=100, on_lost=lost.append)
    watcher = bucket()
    token, _ = call(lock.acquire)
    revisions: list[int] = []
    watcher.watch("a.*", lambda entry, err: revisions.append(entry.revision) if entry else None)
    run(lambda: revisions)
    way.stall("down")
    run(lambda: len(revisions) > 1)
    way.cut()
    way.resume()
    before = lock.expires_in
    run(lambda: lock.expires_in > before)
    assert lock.token == token
    assert not lost
    lock.release()


def test_waiter_whose_ticket_is_lost_takes_another(bucket, run, call, eventually):
    kv = bucket()
    holder, waiter = Lock(kv, "a", lease=1000), Lock(bucket(), "a", owner="w", lease=1000)
    call(holder.acquire)
    waits = acquired(waiter)
    eventually(lambda: len(call(holder.queue)[0]) == 2)
    tickets, _ = call(kv.get_many, "a.*")
    key = max(tickets, key=lambda key: tickets[key].revision if b'"w"' in tickets[key].value else 0)
    number = next(each.token for each in call(holder.queue)[0] if each.owner == "w")
    call(kv.purge, key)
    eventually(lambda: any(c.owner == "w" and c.token != number for c in call(holder.queue)[0]))
    holder.release()
    run(lambda: waits.all)
    assert waits.token > number
    waiter.release()


def test_holder_whose_ticket_is_deleted_learns_of_it(bucket, run, call):
    kv = bucket()
    lost: list[Any] = []
    lock = Lock(kv, "a", lease=1000, on_lost=lost.append)
    call(lock.acquire)
    (key,) = call(kv.get_many, "a.*")[0]
    call(kv.purge, key)
    run(lambda: lost)
    assert isinstance(lost[0], LeaseLostError)
    assert not lock.held
    assert call(lock.try_acquire)[0]
    lock.release()


def test_held_is_computed_from_the_clock(bucket, run, call, monkeypatch):
    """Nothing has run since: as in a process that was stopped, and goes on."""
    lost: list[Any] = []
    lock = Lock(bucket(), "a", lease=LEASE, on_lost=lost.append)
    call(lock.acquire)
    assert lock.held
    time.sleep(LEASE / 1000)
    assert not lock.held
    assert lock.token == 0
    assert not lost
    run(lambda: lost)
    assert isinstance(lost[0], LeaseLostError)


def test_child_of_a_fork_holds_nothing(bucket, call):
    lock = Lock(bucket(), "a")
    call(lock.acquire)
    child = os.fork()
    if not child:
        os._exit(1 if lock.held or lock.token else 0)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert lock.held
    lock.release()


def test_drain_ends_waiting_and_releases(bucket, connected, server, run, call, eventually):
    nats = connected(server)
    kv = bucket(nats)
    lost: list[Any] = []
    other = Lock(bucket(), "a")
    held, waits = Lock(kv, "a", on_lost=lost.append), Lock(kv, "b")
    call(held.acquire)
    blocker = Lock(bucket(), "b")
    call(blocker.acquire)
    answers = acquired(waits)
    eventually(lambda: len(call(blocker.queue)[0]) == 2)
    next_one = acquired(other)
    drained: list[Any] = []
    nats.drain(drained.append)
    run(lambda: drained)
    assert drained == [None]
    assert str(answers.error) == "connection is draining"
    assert [str(error) for error in lost] == ["connection is draining"]
    assert not held.held
    run(lambda: next_one.all)  # at once, not at the end of the lease
    eventually(lambda: len(call(blocker.queue)[0]) == 1)
    with pytest.raises(NotConnectedError):
        held.acquire(answers)
    other.release()
    blocker.release()


def test_disconnect_ends_waiting(bucket, connected, server, run, call, eventually):
    nats = connected(server)
    kv = bucket(nats)
    holder = Lock(bucket(), "a")
    call(holder.acquire)
    waits = acquired(Lock(kv, "a"))
    eventually(lambda: len(call(holder.queue)[0]) == 2)
    nats.disconnect()
    run(lambda: waits.all)
    assert str(waits.error) == "disconnected"
    holder.release()


def test_acquire_before_the_connection_waits_for_it(bucket, client, server, run):
    lock = Lock(bucket(client(server)), "a")
    answers = acquired(lock)
    run(lambda: answers.all)
    assert answers.token
    lock.release()


def test_exceptions_of_callbacks_do_not_end_the_lease(bucket, run, call, excepthook):
    lock = Lock(bucket(), "a", lease=1000, on_lost=lambda error: 1 / 0)

    def fails(token: int | None, err: Any) -> None:
        raise ValueError(token)

    lock.acquire(fails)
    run(lambda: excepthook)
    before = lock.expires_in
    run(lambda: lock.expires_in > before)
    assert lock.held
    kv = bucket()
    (key,) = call(kv.get_many, "a.*")[0]
    call(kv.purge, key)
    run(lambda: len(excepthook) == 2)
    assert not lock.held


def test_semaphore_has_so_many_holders(bucket, run, call, eventually):
    kvs = [bucket() for _ in range(2)]
    objects = [Semaphore(kvs[i % 2], "pool", 3, owner=str(i), lease=60_000) for i in range(6)]
    answers = []
    for i, each in enumerate(objects):
        answers.append(acquired(each))
        eventually(lambda i=i: len(call(objects[0].queue)[0]) == i + 1)
    run(lambda: sum(bool(a.all) for a in answers) == 3)
    assert [each.held for each in objects] == [True, True, True, False, False, False]
    assert call(Semaphore(kvs[0], "pool", 3).try_acquire) == (None, None)
    objects[1].release()
    run(lambda: answers[3].all)
    objects[4].close()
    objects[0].release()
    run(lambda: answers[5].all)
    assert [each.held for each in objects] == [False, False, True, True, False, True]
    assert isinstance(answers[4].error, LockClosedError)
    assert objects[0].permits == 3
    for each in objects:
        each.close()


def test_elections(bucket, run, call, eventually):
    heard: list[Any] = []
    events: list[Any] = []
    first = Election(
        bucket(),
        "head",
        id="a",
        value="a:1",
        lease=LEASE,
        on_elected=lambda token: events.append(("a", token)),
        on_lost=lambda error: events.append(("a lost", error)),
    )
    second = Election(
        bucket(), "head", id="b", lease=LEASE, on_elected=lambda token: events.append(("b", token))
    )
    observation = second.observe(lambda leader, err: heard.append((leader, err)))
    run(lambda: heard)
    assert heard == [(None, None)]
    token, error = call(first.campaign)
    assert error is None
    assert events == [("a", token)]
    assert first.leading
    assert first.token == token
    with pytest.raises(NotReentrantError):
        first.campaign()
    assert call(second.leader) == (Contender("a", "a:1", token), None)
    second.campaign()
    eventually(lambda: len(call(first._lock.queue)[0]) == 2)
    assert call(first.resign) == (True, None)
    assert not first.leading
    run(lambda: second.leading)
    run(lambda: heard[-1][0] is not None and heard[-1][0].owner == "b")
    assert [leader.owner for leader, err in heard if leader] == ["a", "b"]
    # Its ticket is deleted: it loses, and stands again.
    kv = bucket()
    (key,) = call(kv.get_many, "head.*")[0]
    before = second.token
    call(kv.purge, key)
    run(lambda: second.token > before)
    assert [name for name, _ in events] == ["a", "b", "b"]
    run(lambda: heard[-1][0] is not None and heard[-1][0].token == second.token)
    observation.stop()
    observation.stop()
    second.close()
    with pytest.raises(LockClosedError):
        second.campaign()
    eventually(lambda: call(first.leader) == (None, None))
    assert call(first.resign) == (False, None)


def test_resignation_ends_a_campaign_that_waits(bucket, run, call, eventually):
    leader, other = Election(bucket(), "h", id="a"), Election(bucket(), "h", id="b")
    call(leader.campaign)
    waits = Answers()
    campaign = other.campaign(waits)
    other.resign()
    run(lambda: waits.all)
    assert isinstance(waits.error, LockClosedError)
    silent = Answers()
    campaign = other.campaign(silent)
    campaign.stop()
    eventually(lambda: len(call(leader._lock.queue)[0]) == 1)
    assert not silent.all
    leader.close()


def test_nothing_is_left_of_an_object_that_has_ended(bucket, run, call, eventually):
    kv = bucket()
    locks = [Lock(kv, "a", lease=1000) for _ in range(3)]
    for lock in locks:
        acquired(lock)
    eventually(lambda: len(call(locks[0].queue)[0]) == 3)
    for lock in locks:
        lock.close()
    eventually(lambda: call(locks[0].queue)[0] == [])
    # The markers of the deletions expire, too.
    eventually(lambda: call(kv.status)[0]["values"] == 0)


def test_recorder_is_silent(bucket, run, call, eventually):
    """No error of all that the objects do by themselves reaches on_error."""
    kv = bucket()
    recorder: Recorder = kv.js.nats.recorder
    lock = Lock(kv, "a", lease=1000)
    call(lock.acquire)
    lock.close()
    eventually(lambda: call(lock.queue)[0] == [])
    assert recorder.errors == []


def test_tickets_that_the_server_has_not_deleted_are_swept_away(bucket, run, call, eventually):
    """A killed server may forget when keys expire: here they never had a TTL."""
    kv = bucket()
    for i in range(3):
        assert call(kv.put, f"a.dead{i}", f'{{"owner": "dead{i}", "lease": 1000}}')[1] is None
    others = {
        "a.odd": b"\xff",
        "a.config": b'{"owner": "x"}',
        "a.large": b'{"lease": 1%s}' % (b"0" * 400),
    }
    for key, value in others.items():  # another program's: no tickets
        assert call(kv.put, key, value)[1] is None
    lock = Lock(kv, "a", lease=1000)
    waits = acquired(lock)
    run(lambda: waits.all)
    assert lock.held
    assert [each.token for each in call(lock.queue)[0]] == [waits.token]
    lock.release()
    call(kv.put, "a.dead", '{"lease": 1000}')
    eventually(lambda: call(lock.try_acquire)[0])
    lock.release()
    assert {key: call(kv.get, key)[0] for key in others} == others


def test_living_tickets_are_not_swept_away(bucket, run, call, eventually):
    lost: list[Any] = []
    first = Lock(bucket(), "a", lease=1000, on_lost=lost.append)
    second, third = Lock(bucket(), "a", lease=60_000), Lock(bucket(), "a", lease=1000)
    call(first.acquire)
    answers = [acquired(second)]
    eventually(lambda: len(call(first.queue)[0]) == 2)
    answers.append(acquired(third))
    until = time.monotonic() + 4
    run(lambda: time.monotonic() > until)
    assert first.held
    assert not lost
    assert not any(each.all for each in answers)
    first.release()
    run(lambda: answers[0].all)
    second.release()
    run(lambda: answers[1].all)
    third.release()


def test_acquire_that_is_closed_at_the_end_of_its_time_is_answered_once(bucket, run, call):
    holder = Lock(bucket(), "a")
    call(holder.acquire)
    lock = Lock(bucket(), "a")
    nats = lock.js.nats
    waits = Answers()
    lock.acquire(waits, timeout=30)

    def close() -> None:
        time.sleep(0.1)  # the timeout is due now
        lock.close()

    nats.call_later(10, nats.call_soon, close)
    run(lambda: waits.all)
    call(holder.queue)
    later: list[bool] = []
    nats.call_later(50, later.append, True)
    run(lambda: later)
    assert isinstance(waits.error, (LockClosedError, TimeoutError))


def test_acquisition_that_is_stopped_after_a_close_is_not_answered(bucket, run, call):
    holder = Lock(bucket(), "a")
    call(holder.acquire)
    silent = Answers()
    other = Lock(bucket(), "a")
    waiting = other.acquire(silent)
    other.close()
    waiting.stop()
    call(holder.queue)
    assert not silent.all
    holder.release()


def test_replica_that_lags_does_not_end_a_lease(bucket, call, eventually, monkeypatch):
    """A renewal whose answer was lost has stored a revision that a replica does not have yet."""
    lost: list[Any] = []
    kv = bucket()
    lock = Lock(bucket(), "a", lease=LEASE, on_lost=lost.append)
    token, _ = call(lock.acquire)

    def entry(key: str, cb: Any) -> None:
        lock.js.nats.call_soon(cb, None, None)

    monkeypatch.setattr(lock._settings.kv, "entry", entry)
    keys, _ = call(kv.get_many, "a.*")
    (key,) = keys
    renewed, err = call(kv.put, key, lock._settings.data(token), ttl=LEASE)
    assert err is None
    eventually(lambda: lost or call(kv.entry, key)[0].revision > renewed)
    assert not lost
    assert lock.held
    lock.release()
