"""`Lock`, `Semaphore` and `Election`: who may do it now, among processes on any machines.

All three stand on `tickets`, which says how, and what is guaranteed: whoever asks first has the first turn;
by its own clock a holder always loses its lease before anyone else gets it; fencing tokens only grow.
"""

from __future__ import annotations

import os
import platform
from collections.abc import Callable
from typing import Any

from ..arguments import (
    Milliseconds,
    ResultCallback,
    callable_or_none,
    check_result_cb,
    integer,
    milliseconds,
)
from ..errors import ConnectionClosedError, ConnectionDrainingError, NatsError, RequestTimeoutError
from ..kv import KV, KvEntry, KvWatch
from ..status import Status
from .contenders import (
    Contender,
    LeaseLostError,
    LockClosedError,
    NotReentrantError,
    Settings,
    contender,
    living,
    passes,
    queue,
)
from .tickets import Ticket

__all__ = [
    "Acquisition",
    "Contender",
    "Election",
    "LeaseLostError",
    "Lock",
    "LockClosedError",
    "NotReentrantError",
    "Observation",
    "Semaphore",
]

Lost = Callable[[NatsError], object]


def _me() -> str:
    return f"{platform.node()}:{os.getpid()}"


class Acquisition:
    """An `acquire` that waits: what `Lock.acquire` and its like return."""

    def __init__(self, stop: Callable[[], object]) -> None:
        self._stop = stop

    def stop(self) -> None:
        """Give up: the callback is not called any more, and what has been acquired by then is released.

        Does nothing after the callback was called, or a second time.
        """
        self._stop()


class _Holding:
    """The part that `Lock` and `Semaphore` have in common."""

    def __init__(self, settings: Settings, on_lost: Lost | None) -> None:
        self._settings = settings
        self._nats = settings.nats
        self._on_lost = callable_or_none(on_lost, "on_lost")
        self._ticket: Ticket | None = None
        self._fail: Callable[[NatsError], object] | None = None  # ends an acquire that waits
        self._closed = False
        self._loss: NatsError | None = None

    def __repr__(self) -> str:
        state = "held" if self.held else "waiting" if self._fail is not None else "not held"
        return f"<{type(self).__name__} {self.name} {state}>"

    @property
    def js(self) -> Any:
        """The `JetStream` that all calls go through."""
        return self._settings.kv.js

    @property
    def name(self) -> str:
        """The name, as given."""
        return self._settings.name

    @property
    def held(self) -> bool:
        """Whether this object holds, by the clock at this moment: ask before each thing that is protected.

        False from the margin before the end of the lease on, also when the process was stopped meanwhile and
        no callback has been called yet; and in a child of a fork.
        """
        return self._ticket is not None and self._ticket.held

    @property
    def token(self) -> int:
        """The fencing token: the revision of the ticket; 0 when not `held`.

        What is protected can refuse a token that is smaller than the largest one that it has seen.
        """
        ticket = self._ticket
        return ticket.number if ticket is not None and ticket.held else 0

    @property
    def expires_in(self) -> float:
        """The ms for which `held` stays True without another renewal; 0 when not held."""
        ticket = self._ticket
        return ticket.left * 1000 if ticket is not None and ticket.held else 0.0

    @property
    def lost(self) -> NatsError | None:
        """Why what was acquired last is held no more, if nobody has released it; else None."""
        ticket = self._ticket
        if ticket is not None and ticket.granted and not ticket.held:
            return LeaseLostError(f"{self.name}: the lease of ticket {ticket.number} is lost")
        return self._loss

    def acquire(
        self, cb: ResultCallback[int], *, timeout: Milliseconds | None = None
    ) -> Acquisition:
        """Wait until it is this object's turn; ``cb(token, err)``.

        Turns come in the order in which the server has got the calls. While the client reconnects, and while
        the bucket's stream has no leader, the call waits. A ticket that expires in this time is replaced by
        another one, at the end of the queue.

        Args:
            cb: gets the fencing token; `RequestTimeoutError` after the timeout, `LockClosedError` after
                `close`, ``disconnected`` or ``connection is draining`` when the client ends, and what the
                bucket refuses, such as `MessageTtlError` without limit_marker_ttl.
            timeout: a timedelta or ms; None: no limit.

        Returns:
            An `Acquisition`, whose ``stop()`` gives up.

        Raises:
            NotReentrantError: this object holds already, or waits.
            LockClosedError: it was closed.
        """
        limit = None if timeout is None else milliseconds(timeout, "timeout")
        return self._begin(cb, limit, once=False)

    def try_acquire(self, cb: ResultCallback[int]) -> Acquisition:
        """Acquire if nobody holds or waits for all places; ``cb(token, err)``, ``cb(None, None)`` otherwise.

        Args:
            cb: as in `acquire`.

        Raises:
            NotReentrantError: this object holds already, or waits.
            LockClosedError: it was closed.
        """
        return self._begin(cb, None, once=True)

    def _begin(self, cb: ResultCallback[int], limit: float | None, once: bool) -> Acquisition:
        check_result_cb(cb)
        if self._closed:
            raise LockClosedError(f"{self.name} has been closed")
        if self._ticket is not None:
            raise NotReentrantError(f"{self.name} is held already, or being acquired")
        nats = self._nats
        deadline: Any = None
        answered = False

        def done(number: int | None, error: NatsError | None) -> None:
            nonlocal answered
            if answered:
                return
            answered = True
            self._fail = None
            if deadline is not None:
                deadline.cancel()
            if number is None:
                self._ticket = None
            nats.call(cb, number, error)

        def fail(error: NatsError) -> None:
            ticket.leave()
            done(None, error)

        def late() -> None:
            why = "" if ticket.trouble is None else f": {ticket.trouble}"
            text = f"request timeout: {self.name} not acquired in {limit:g} ms{why}"
            error = RequestTimeoutError(text)
            error.__cause__ = ticket.trouble
            fail(error)

        def stop() -> None:
            nonlocal answered
            if answered:
                return
            answered = True
            if deadline is not None:
                deadline.cancel()
            if self._fail is fail:
                self._fail = self._ticket = None
            ticket.leave()

        ticket = Ticket(self._settings, done, lambda error: self._lost(ticket, error), once)
        ticket.start()
        self._loss = None
        self._ticket, self._fail = ticket, fail
        if limit is not None:
            deadline = nats.call_later(limit, late)
        return Acquisition(stop)

    def _lost(self, ticket: Ticket, error: NatsError) -> None:
        if self._ticket is ticket:
            self._ticket = None
            self._loss = error
            if self._on_lost is not None:
                self._nats.call(self._on_lost, error)

    def release(self, cb: ResultCallback[bool] | None = None) -> None:
        """Release what is held; ``cb(True, err)`` when the server knows, ``cb(False, None)`` if nothing is.

        `held` is False from the call on. May be called more than once. Does not end an `acquire` that waits:
        see `Acquisition.stop` and `close`.
        """
        if cb is not None:
            check_result_cb(cb)
        ticket = self._ticket
        if ticket is not None and self._fail is None:
            self._ticket = None
            ticket.leave(
                None if cb is None else lambda done, error: self._nats.call(cb, done, error)
            )
        elif cb is not None:
            self._nats.call_soon(cb, False, None)

    def close(self) -> None:
        """Release what is held, end an `acquire` that waits with `LockClosedError`, and refuse others."""
        self._closed = True
        fail = self._fail
        if fail is not None:
            self._fail = None
            ticket, self._ticket = self._ticket, None
            if ticket is not None:
                ticket.leave()
            self._nats.call_soon(fail, LockClosedError(f"{self.name} has been closed"))
        self.release()

    def queue(self, cb: ResultCallback[list[Contender]]) -> None:
        """List all who hold or wait, in their order; ``cb([Contender, …], err)``.

        The first one holds a lock, the first ones a semaphore. The list may be a little old.
        """
        check_result_cb(cb)
        _queue(self._settings, cb)


def _queue(settings: Settings, cb: ResultCallback[list[Contender]]) -> None:
    def seen(entries: dict[str, KvEntry] | None, error: NatsError | None) -> None:
        cb(queue(entries) if entries is not None else None, error)

    settings.kv.get_many(f"{settings.name}.*", seen)


class Lock(_Holding):
    """A lock that one of all objects with its name in its bucket holds at a time, on any machine.

    The holder's lease is renewed while its loop runs; on_lost is called before the lease ends if that fails.
    The lease survives reconnects and changes of the stream's leader that are shorter. After a release
    the next one who waits has the lock at once; after the death of a holder within one lease. Turns come in
    the order of `acquire`.

    By the holder's clock the lease always ends first. But a program can be stopped between a look at `held`
    and the deed. So give `token` to what the lock protects, and let that refuse a token smaller than one it
    has seen: tokens grow with every holder, as long as the bucket's stream loses no messages.

    An object that is dropped keeps what it holds, as long as the client lives: release or close it.

    Args:
        kv: a bucket with limit_marker_ttl, or at least allow_msg_ttl (nats-server 2.11). Its codecs do not
            count here. All who use a name must use the same bucket.
        name: a key; the tickets are keys below it.
        lease: a timedelta or ms, in whole seconds (10 s).
        margin: a timedelta or ms, how much earlier the holder ends its lease than the server; None: a tenth
            of the lease. More than the clocks of the servers may differ.
        owner: for `queue`; default: the names of the machine and the process.
        on_lost: ``on_lost(err)`` when the lock is held no more without `release`: `LeaseLostError`,
            ``disconnected``, or ``connection is draining``.

    Raises:
        BadOptionsError: an argument has a bad value.
    """

    def __init__(
        self,
        kv: KV,
        name: str,
        *,
        lease: Milliseconds = 10_000,
        margin: Milliseconds | None = None,
        owner: str | None = None,
        on_lost: Lost | None = None,
    ) -> None:
        owner = _me() if owner is None else owner
        super().__init__(Settings(kv, name, lease, margin, owner, "", 1), on_lost)


class Semaphore(_Holding):
    """A number of permits, of which each object holds one at a time; otherwise like `Lock`.

    Who waits has its turn when fewer than permits others, who asked before, hold or wait. Tokens of those who
    hold together are different numbers, and tell nothing of who is right.

    Args:
        kv, name, lease, margin, owner, on_lost: as in `Lock`.
        permits: 1 or more; the same for all who use the name.

    Raises:
        BadOptionsError: an argument has a bad value.
    """

    def __init__(
        self,
        kv: KV,
        name: str,
        permits: int,
        *,
        lease: Milliseconds = 10_000,
        margin: Milliseconds | None = None,
        owner: str | None = None,
        on_lost: Lost | None = None,
    ) -> None:
        places = integer(permits, "permits", 1)
        owner = _me() if owner is None else owner
        super().__init__(Settings(kv, name, lease, margin, owner, "", places), on_lost)
        self.permits = places


class Observation:
    """A running `Election.observe`."""

    def __init__(self, settings: Settings, cb: ResultCallback[Contender]) -> None:
        self.bucket = settings.kv.bucket
        self.name = settings.name
        self.stopped = False
        self._settings = settings
        self._cb = cb
        self._entries: dict[str, Contender] = {}
        self._complete = False
        self._last: object = self  # cb has not been called
        self._watch: KvWatch = settings.kv.watch(f"{settings.name}.*", self._changed)
        self._timer = settings.nats.call_later(settings.lease_ms, self._look)
        settings.nats.add_status_listener(self._on_status)

    def _changed(self, entry: KvEntry | None, error: NatsError | None) -> None:
        if self.stopped:
            return
        if error is not None:
            self._end(error)
            return
        if entry is None:
            self._complete = True
        elif entry.deleted or (ticket := contender(entry)) is None:
            self._entries.pop(entry.key, None)
        else:
            self._entries[entry.key] = ticket[0]
        self._tell()

    def _tell(self) -> None:
        first = min(self._entries.values(), key=lambda each: each.token, default=None)
        if self._complete and first != self._last:
            self._last = first
            self._settings.nats.call(self._cb, first, None)

    def _look(self) -> None:
        """Look for tickets that have ended without a marker."""
        settings = self._settings
        self._timer = settings.nats.call_later(settings.lease_ms, self._look)
        before = set(self._entries)

        def seen(entries: dict[str, KvEntry] | None, error: NatsError | None) -> None:
            if entries is not None and not self.stopped:
                for key in before - living(entries).keys():
                    self._entries.pop(key, None)
                self._tell()

        try:
            settings.kv.get_many(f"{settings.name}.*", seen)
        except NatsError:
            return  # not connected: the next look comes

    def _on_status(self, status: Status) -> None:
        if status is Status.CLOSED:
            self._end(ConnectionClosedError("disconnected"))

    def _end(self, error: NatsError) -> None:
        if not self.stopped:
            self.stop()
            self._settings.nats.call(self._cb, None, error)

    def stop(self) -> None:
        """End the observation: no call of its callback follows. May be called more than once."""
        if not self.stopped:
            self.stopped = True
            self._watch.stop()
            self._timer.cancel()
            self._settings.nats.remove_status_listener(self._on_status)


class Election:
    """An election of one leader among all who stand for a name, on any machine; see `Lock` for what holds.

    Args:
        kv, name, lease, margin: as in `Lock`.
        id: who this is, for others to see; default: the names of the machine and the process.
        value: for others to see, such as the address of the leader.
        on_elected: ``on_elected(token)`` each time this one becomes the leader; token as in `Lock`.
        on_lost: ``on_lost(err)`` each time it leads no more without `resign`. It stands again by itself
            after a `LeaseLostError`.

    Raises:
        BadOptionsError: an argument has a bad value.
    """

    def __init__(
        self,
        kv: KV,
        name: str,
        *,
        lease: Milliseconds = 10_000,
        margin: Milliseconds | None = None,
        id: str | None = None,
        value: str = "",
        on_elected: Callable[[int], object] | None = None,
        on_lost: Lost | None = None,
    ) -> None:
        self.id = _me() if id is None else id
        self.value = value
        self._settings = Settings(kv, name, lease, margin, self.id, value, 1)
        self._lock = _Holding(self._settings, self._left)
        self._nats = self._settings.nats
        self._on_elected = callable_or_none(on_elected, "on_elected")
        self._on_lost = callable_or_none(on_lost, "on_lost")
        self._cb: ResultCallback[int] | None = None
        self._campaign: Acquisition | None = None
        self._retry: Any = None

    def __repr__(self) -> str:
        state = "leading" if self.leading else "standing" if self._campaign else "not standing"
        return f"<Election {self.name} {state}>"

    @property
    def js(self) -> Any:
        """The `JetStream` that all calls go through."""
        return self._settings.kv.js

    @property
    def name(self) -> str:
        """The name, as given."""
        return self._settings.name

    @property
    def leading(self) -> bool:
        """Whether this one leads, by the clock at this moment; see `Lock.held`."""
        return self._lock.held

    @property
    def token(self) -> int:
        """The fencing token; 0 when this one does not lead. See `Lock.token`."""
        return self._lock.token

    def campaign(self, cb: ResultCallback[int] | None = None) -> Acquisition:
        """Stand for election until `resign`; ``cb(token, err)`` at the first victory.

        Args:
            cb: gets the errors of `Lock.acquire`; without it, and later, they go to the client's on_error.

        Returns:
            An `Acquisition`, whose ``stop()`` is the same as `resign`, without a callback.

        Raises:
            NotReentrantError: it stands or leads already.
            LockClosedError: it was closed.
        """
        if cb is not None:
            check_result_cb(cb)
        acquisition = self._stand()
        self._cb = cb
        return acquisition

    def _stand(self) -> Acquisition:
        lock = self._lock.acquire(self._elected)

        def stop() -> None:
            if self._campaign is acquisition:
                self._cb = None
                self.resign()

        self._lock_waits = lock
        self._campaign = acquisition = Acquisition(stop)
        return acquisition

    def _elected(self, token: int | None, error: NatsError | None) -> None:
        cb, self._cb = self._cb, None
        if token is None:
            assert error is not None
            self._campaign = None
            if cb is not None:
                cb(None, error)
            elif not isinstance(error, (ConnectionClosedError, ConnectionDrainingError)):
                self._nats.report(error)
            return
        if self._on_elected is not None:
            self._nats.call(self._on_elected, token)
        if cb is not None:
            cb(token, None)

    def _left(self, error: NatsError) -> None:
        self._campaign = None
        if isinstance(error, LeaseLostError):
            self._again()
        if self._on_lost is not None:
            self._nats.call(self._on_lost, error)

    def _again(self) -> None:
        """Stand again."""
        try:
            self._stand()
        except NatsError as exc:
            if passes(exc):
                self._retry = self._nats.call_later(self._settings.retry_ms, self._again)
            else:
                self._nats.report(exc)

    def resign(self, cb: ResultCallback[bool] | None = None) -> None:
        """Stand and lead no more; ``cb(True, err)`` when the server knows, ``cb(False, None)`` if it led not.

        The next one who stands leads at once. The ``cb`` of a `campaign` that waits gets `LockClosedError`.
        """
        if cb is not None:
            check_result_cb(cb)
        waiting, self._cb = self._cb, None
        if self._retry is not None:
            self._retry.cancel()
        if self._campaign is not None:
            self._campaign = None
            self._lock_waits.stop()
            if waiting is not None:
                self._nats.call_soon(waiting, None, LockClosedError(f"{self.name}: resigned"))
        self._lock.release(cb)

    def close(self) -> None:
        """Resign for good."""
        self.resign()
        self._lock.close()

    def leader(self, cb: ResultCallback[Contender]) -> None:
        """Read who leads; ``cb(Contender, err)``, ``cb(None, None)`` when nobody does.

        The answer may be a little old.
        """
        check_result_cb(cb)

        def listed(all_of_them: list[Contender] | None, error: NatsError | None) -> None:
            cb(all_of_them[0] if all_of_them else None, error)

        _queue(self._settings, listed)

    def observe(self, cb: ResultCallback[Contender]) -> Observation:
        """Follow who leads, without standing: ``cb(Contender or None, None)`` now and at each change.

        Args:
            cb: gets None when nobody leads, and once an error when the observation has ended.

        Returns:
            The `Observation`, whose ``stop()`` ends it.
        """
        check_result_cb(cb)
        return Observation(self._settings, cb)
