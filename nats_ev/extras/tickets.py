"""The queue at the base of `Lock`, `Semaphore` and `Election`: tickets in a key-value bucket.

Theory of operation
-------------------
Who wants a name puts a key of its own below that name, with a TTL: its ticket. The ticket's number is the
revision of the key's creation. The stream numbers all revisions, so the numbers are the order of arrival. A
ticket has its turn when fewer tickets with smaller numbers exist than the name has places (a lock: one).
Nothing is written when a turn passes on, so no two waiters compete.

*Who is first* is read by one `KV.get_many` of all tickets, which is taken at one moment of the stream. It
counts only if it contains the own ticket: then it is no older than that one. Tickets with smaller numbers can
only have become fewer since, because a new one has a larger number and an expired one can't be renewed. So an
old answer of a lagging replica makes a ticket wait, and never gives it a turn too early.

*When to look* follows from a watch: of the next ticket before the own one if there is one place, else of
all. A release leaves a marker, an expired key leaves one too if the bucket has limit_marker_ttl. Without
markers, and for a waiter that was away for longer than a marker lives, a time tells: a ticket that has not
been renewed for its whole lease is looked up.

*What a server has forgotten to delete.* A server that is killed can lose the expiry of keys, or bring back
expired ones: nats-server 2.15.1 does. A ticket that was not renewed for longer than its lease, by the times
at which the stream has stored it and the own ticket, is deleted by whoever waits after it, on the condition
that its revision is still that one. So its owner can't renew it any more, and by the owner's clock it has
ended.

*The lease.* The TTL of the ticket is the lease, in whole seconds: the server cuts it to those. It begins when
the server stores the ticket. The holder counts it from before it has sent the request, and ends it a margin
earlier, on a clock that also counts while the process or the machine is stopped: by its own clock a holder
always loses the ticket first. An update every third of the lease renews it, on the condition that the last
revision is the one the holder knows. After an answer that was lost the holder reads the revision; a ticket
that has expired has none, and is lost.
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable
from typing import Any

from ..arguments import Callback
from ..buckets import KeyExistsError
from ..errors import ConnectionClosedError, ConnectionDrainingError, NatsError
from ..jetstream import MessageNotFoundError, WrongLastSequenceError
from ..kv import KvEntry, KvWatch, entry_of_leader
from ..nuid import next_nuid
from ..status import Status
from .contenders import LATE, LeaseLostError, Settings, clock, contender, overdue, passes

# A replica that does not have the own ticket yet is asked again after so many ms.
_LAG_MS = 25.0
# How long after its whole lease a ticket that has not been renewed is looked up, in ms.
_OVERDUE_MS = 250.0
# How many tickets that have outlived their leases are deleted at a time.
_SWEEP = 100
# How often to look when the tickets can't be watched, in ms.
_UNWATCHED_MS = 1000.0


class Ticket:
    """One place in the queue of a name; see this module's theory of operation.

    Args:
        settings: of the object that wants it.
        done: ``done(number, None)`` when it is this ticket's turn, ``done(None, err)`` when that can't be any
            more, ``done(None, None)`` if once and it is not its turn.
        lost: ``lost(err)`` when the turn is lost; at most once, after ``done(number, None)``.
        once: give up if others are before this one.
    """

    def __init__(
        self,
        settings: Settings,
        done: Callback,
        lost: Callable[[NatsError], object],
        once: bool = False,
    ) -> None:
        self._settings = settings
        self._nats = settings.nats
        self._kv = settings.kv
        self._done: Callback | None = done
        self._lost = lost
        self._once = once
        self._pid = os.getpid()
        self.number = 0  # 0: the server has not confirmed the ticket
        self.granted = False
        self.over = False
        self._key = ""
        self._revision = 0
        self._first_sent = 0.0  # when the first attempt to put the key was sent
        self._until = -math.inf  # the end of the lease by our clock
        self._round = 0  # counts keys: answers about a former one are ignored
        self._timers: dict[str, Any] = {}
        self._watch: KvWatch | None = None
        self._watched = ""
        self._ahead: set[str] = set()  # keys with smaller numbers
        self._gone: set[str] = set()  # keys of which a marker has come: they never return
        self._looking = False
        self.trouble: NatsError | None = None  # why the last attempt at the next step has failed

    # The lease.

    @property
    def left(self) -> float:
        """The seconds until the lease ends by our clock; 0 when it has ended."""
        return max(0.0, self._until - clock())

    @property
    def held(self) -> bool:
        """Whether it is this ticket's turn, by our clock, in the process that has taken it."""
        return self.granted and not self.over and clock() < self._until and os.getpid() == self._pid

    def start(self) -> None:
        """Put the ticket. Raises what a request raises."""
        self._new_key()
        self._put()
        self._nats.add_status_listener(self._on_status)

    def _new_key(self) -> None:
        self._round += 1
        self._key = f"{self._settings.name}.{next_nuid()}"
        self._first_sent = 0.0
        self.number = self._revision = 0
        self._until = -math.inf

    def _put(self) -> None:
        key, sent, turn = self._key, clock(), self._round
        self._first_sent = self._first_sent or sent

        def created(revision: int | None, error: NatsError | None) -> None:
            if self.over or turn != self._round:
                if revision is not None:
                    self._forget_key(key)
            elif revision is not None:
                self._is_put(revision, sent)
            elif isinstance(error, KeyExistsError):  # by an attempt whose answer was lost
                self._read_own(turn)
            else:
                self._failed(error, self._put_again)

        ttl = self._settings.lease_ms
        self._kv.create(key, self._settings.data(0), created, ttl=ttl)

    def _put_again(self) -> None:
        if clock() - self._first_sent > self._settings.lease / 2:
            key = self._key
            self._new_key()
            self._forget_key(key)  # it may be stored
        self._step(self._put, failed=self._put_again)

    def _is_put(self, revision: int, sent: float) -> None:
        self.trouble = None
        self.number = self._revision = revision
        self._extend(sent)
        self._look()

    def _read_own(self, turn: int) -> None:
        """Find out the revision of the own key after an answer was lost."""

        def found(entry: KvEntry | None, error: NatsError | None) -> None:
            if self.over or turn != self._round:
                return
            if error is not None:
                self._failed(error, lambda: self._read_own(turn))
            elif entry is None or entry.deleted:
                self._expired()
            elif not self.number:
                self._is_put(entry.revision, self._first_sent)
            else:
                self._revision = entry.revision
                self._renew()

        # From the leader: a replica that lags may not have the ticket yet, or a former revision.
        self._step(entry_of_leader, self._kv, self._key, found)

    def _extend(self, sent: float) -> None:
        """Count the lease from a moment on, and renew it in time."""
        settings = self._settings
        self._until = sent + settings.lease - settings.margin
        self._later("lease", (self._until - clock()) * 1000, self._check)
        self._later("renewal", (sent + settings.lease / 3 - clock()) * 1000, self._renew)

    def _check(self) -> None:
        """Take the end of the lease."""
        if clock() >= self._until:
            self._expired()
        else:
            self._later("lease", (self._until - clock()) * 1000, self._check)

    def _renew(self) -> None:
        settings, sent, turn = self._settings, clock(), self._round
        if sent >= self._until:
            self._expired()
            return

        def renewed(revision: int | None, error: NatsError | None) -> None:
            if self.over or turn != self._round:
                return
            if revision is not None:
                self._revision = revision
                self._extend(sent)
            elif isinstance(error, WrongLastSequenceError):
                self._read_own(turn)
            else:
                self._failed(error, self._renew)

        data = settings.data(self.number)
        self._step(self._kv.update, self._key, data, self._revision, renewed, ttl=settings.lease_ms)

    def _expired(self) -> None:
        """Take that the ticket exists no more, or may not exist any more."""
        if self.granted:
            self._end(
                LeaseLostError(f"{self._settings.name}: the lease of ticket {self.number} is lost")
            )
            return
        self._stop_timers()
        self._stop_watch()
        key = self._key
        self._new_key()
        self._forget_key(key)  # it may exist: then it must not be before the new one
        self._step(self._put, failed=self._put_again)

    # The turn.

    def _look(self) -> None:
        """Find out who is before this ticket."""
        if self._looking or self.over or not self.number:
            return
        turn = self._round

        def seen(entries: dict[str, KvEntry] | None, error: NatsError | None) -> None:
            self._looking = False
            if entries is not None:
                self.trouble = None
            if self.over or self.granted:
                return
            if turn != self._round:
                self._look()
            elif entries is None:
                self._failed(error, self._look, "look")
            elif (
                self._key not in entries
            ):  # the replica lags, or the ticket is lost: `_renew` notices
                self._later("look", _LAG_MS, self._look)
            else:
                self._judge(entries)

        self._looking = True
        self._step(self._kv.get_many, f"{self._settings.name}.*", seen)

    def _judge(self, entries: dict[str, KvEntry]) -> None:
        settings, now = self._settings, entries[self._key].created
        ahead: dict[str, tuple[int, float]] = {}
        dead: list[KvEntry] = []
        late = False
        for key, entry in entries.items():
            ticket = contender(entry)
            if ticket is None:
                continue
            who, lease = ticket
            if who.token < self.number and key != self._key and key not in self._gone:
                ahead[key] = who.token, lease
                age = overdue(entry, lease, now)
                late = late or age > 0
                if age > LATE:
                    dead.append(entry)
        self._ahead = set(ahead)
        if dead:
            self._sweep(dead[:_SWEEP])
        elif len(ahead) < settings.places:
            if clock() < self._until:
                self._grant()
            else:
                self._expired()
        elif self._once:
            self._end(None)
        else:
            longest = max(lease for _, lease in ahead.values())
            patience = _OVERDUE_MS if late else longest + _OVERDUE_MS
            self._wait(max(ahead, key=ahead.__getitem__), patience)

    def _sweep(self, dead: list[KvEntry]) -> None:
        """Delete tickets that have outlived their leases, and look again."""
        turn = self._round
        left = len(dead)

        def done() -> None:
            nonlocal left
            left -= 1
            if not left and not self.over and turn == self._round:
                # Not at once: a replica that lags has them still.
                self._later("look", _LAG_MS, self._look)

        def sweep(entry: KvEntry) -> None:
            def deleted(result: bool | None, error: NatsError | None) -> None:
                if error is None:
                    self._gone.add(entry.key)
                elif isinstance(error, WrongLastSequenceError):  # renewed, or gone for the leader
                    self._step(js.get_last_msg, stream, f"$KV.{bucket}.{entry.key}", read)
                    return
                done()

            def read(message: Any, error: NatsError | None) -> None:
                if isinstance(error, MessageNotFoundError):
                    self._gone.add(entry.key)
                done()

            ttl = self._settings.lease_ms
            self._step_with(
                deleted,
                lambda: self._kv.purge(entry.key, deleted, revision=entry.revision, ttl=ttl),
            )

        js, stream, bucket = self._kv.js, self._kv.stream, self._kv.bucket
        for entry in dead:
            sweep(entry)

    def _grant(self) -> None:
        self.granted = True
        self._stop_watch()
        self._cancel("look")
        done, self._done = self._done, None
        if done is not None:
            done(self.number, None)

    def _wait(self, before: str, patience: float) -> None:
        """Look again when a ticket before this one ends.

        Args:
            before: the key of the last of those.
            patience: after so many ms without a word look in any case.
        """
        settings = self._settings
        alone = settings.places == 1
        watched = before if alone else f"{settings.name}.*"
        self._later("look", patience, self._look)
        if self._watch is not None and not self._watch.stopped and watched == self._watched:
            return
        self._stop_watch()
        self._watched = watched

        def changed(entry: KvEntry | None, error: NatsError | None) -> None:
            if self.over or self.granted or watched != self._watched:
                return
            if error is not None:  # a hint is missing, nothing else: look from time to time
                self._stop_watch()
                wait = settings.retry_ms if passes(error) else _UNWATCHED_MS
                self._later("look", wait, self._look)
            elif entry is None:
                if alone and not seen:
                    self._look()
            elif entry.deleted:
                seen.append(entry.key)
                self._gone.add(entry.key)
                if entry.key in self._ahead:
                    self._ahead.discard(entry.key)
                    # Of those before the one that is watched alone nothing is known.
                    if alone or len(self._ahead) < settings.places:
                        self._look()
            elif alone:
                seen.append(entry.key)
                del seen[1:]
                self._later("look", patience, self._look)

        seen: list[str] = []

        def begin() -> None:
            self._watch = self._kv.watch(watched, changed)

        self._step(begin, failed=self._look, what="look")

    # The end.

    def leave(self, cb: Callback | None = None) -> None:
        """Give the ticket back; ``cb(True, err)`` when the server knows, or its lease has ended."""
        if not self.over:
            self._finish()
            if self._first_sent:
                self._forget_key(self._key, cb)
                return
        if cb is not None:
            self._nats.call_soon(cb, True, None)

    def _forget_key(self, key: str, cb: Callback | None = None) -> None:
        """Remove a key, until that succeeds or the key has expired. Nobody else writes it."""
        settings, nats = self._settings, self._nats
        until = clock() + settings.lease

        def remove() -> None:
            try:
                # The marker is for those who watch; one that comes later looks by itself.
                self._kv.purge(key, removed, ttl=settings.lease_ms)
            except NatsError as exc:
                nats.call_soon(removed, None, exc)

        def removed(result: bool | None, error: NatsError | None) -> None:
            if error is not None and passes(error) and clock() < until:
                nats.call_later(
                    settings.retry_ms, remove, ended=lambda: end(None, error), step=True
                )
            else:
                end(True if error is None or clock() >= until else None, error)

        def end(result: bool | None, error: NatsError | None) -> None:
            if cb is not None:
                cb(result, error if result is None else None)

        if nats.status() in (Status.DRAINING_SUBS, Status.DRAINING_PUBS, Status.CLOSED):
            # As a step: a drain of the client lets it come to its end.
            closed = ConnectionClosedError("disconnected")
            nats.call_later(0, remove, ended=lambda: end(None, closed), step=True)
        else:
            remove()

    def _end(self, error: NatsError | None) -> None:
        """End this ticket by itself, and tell: what has been granted is lost."""
        granted, done, self._done = self.granted, self._done, None
        self.leave()
        if granted and error is not None:
            self._lost(error)
        elif done is not None:
            done(None, error)

    def _finish(self) -> None:
        self.over = True
        self._nats.remove_status_listener(self._on_status)
        self._stop_timers()
        self._stop_watch()
        self._done = None

    def _on_status(self, status: Status) -> None:
        if self.over:
            return
        if status is Status.CLOSED:
            self._end(ConnectionClosedError("disconnected"))
        elif status in (Status.DRAINING_SUBS, Status.DRAINING_PUBS):
            self._end(ConnectionDrainingError("connection is draining"))

    # Steps.

    def _failed(
        self, error: NatsError | None, again: Callable[[], object], what: str = "renewal"
    ) -> None:
        """Try another time after an error, or end with it."""
        if self.over:
            return
        self.trouble = error
        if error is None or passes(error):
            self._later(what, self._settings.retry_ms, again)
        else:
            self._end(error)

    def _step(
        self,
        step: Callable[..., object],
        *args: Any,
        failed: Callable[[], object] | None = None,
        what: str = "renewal",
        **options: Any,
    ) -> None:
        """Call what sends a request. What that raises counts as the answer."""
        try:
            step(*args, **options)
        except NatsError as exc:
            if failed is not None:
                self._nats.call_soon(self._failed, exc, failed, what)
            else:
                self._nats.call_soon(args[-1], None, exc)

    def _step_with(self, cb: Callback, step: Callable[[], object]) -> None:
        """Call what sends a request; cb gets what that raises."""
        try:
            step()
        except NatsError as exc:
            self._nats.call_soon(cb, None, exc)

    def _later(self, what: str, ms: float, step: Callable[[], object]) -> None:
        """Call a step after some ms, in place of the one of that kind that is waiting."""
        self._cancel(what)
        self._timers[what] = self._nats.call_later(max(0.0, ms), step)

    def _cancel(self, what: str) -> None:
        timer = self._timers.pop(what, None)
        if timer is not None:
            timer.cancel()

    def _stop_timers(self) -> None:
        for what in list(self._timers):
            self._cancel(what)

    def _stop_watch(self) -> None:
        watch, self._watch = self._watch, None
        self._watched = ""
        if watch is not None:
            watch.stop()
