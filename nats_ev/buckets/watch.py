"""Watching a bucket: first what there is, then every change, on an ordered consumer (ADR-8, 17).

A user holds a `Watch`, which can be stopped. A `WatchEngine` does the work: it turns the messages of an
ordered consumer into calls of the user's callback. `collect` makes a list of the first half of a watch.

Theory of operation: the end of the initial data
-------------------------------------------------

The callback gets ``(None, None)`` once, when the initial data is over. The server sends no mark at that
place, so the client has to find it.

Every message says how many more are pending for the consumer (num_pending), and the obvious way is to wait
for the first message with 0. Alone it fails in three cases:

1. A bucket without entries sends no message at all.
2. In a busy bucket, writers add messages as fast as the consumer delivers them: num_pending may never be 0.
3. Entries may expire, or be purged, after the consumer was created and before they are delivered. The
   last message to arrive then has announced others that never come, and no message tells so.

So the engine counts. The answer to the creation of the consumer says how many messages are pending: those
are the initial data (case 1: none). Each message takes one off, whatever follows later (case 2); a message
with num_pending 0 ends the count early, as fewer may be left than there were. When no message has come for
half a second (case 3), the engine asks the server about the consumer: if the consumer has nothing pending
and the last message that it has sent is the last one that the engine has seen, the initial data is over.
The second half of that condition matters: what the server has sent may still be in a socket.

An ordered consumer replaces a lost consumer with another one. The sequence in the server's answer counts
from that one's start, so the engine compares sequences only within one consumer's name; a new consumer
from which nothing has come yet must not have sent anything. If the lost one was in the middle of the last
message of each key, the new one begins that again, and the ordered consumer leaves out what has been
delivered: the engine begins to count again (`_restarted`), and what is left out counts (`_count`). A key
may have changed meanwhile and come a second time: a list keeps the newer entry.

In a cluster the consumer may run on a replica that lags, for example because its server has just started and
still reads its log. That replica announces fewer messages than there are, or none. So the engine also asks
the stream's leader for the last sequence (`_ask_leader`), and the initial data are over only when that
message has come too (`_goal`); what the replica was missing follows as it catches up. If the consumer has
nothing pending and the goal has not come, that message may have been deleted: then the engine asks for the
last message that exists. A watch of a part of a KV bucket does without all this, because the stream's last
sequence says nothing of that part, and not every user may read messages from the leader.

The initial data is an operation with an end, for which a drain of the client waits; what follows is not.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from ..arguments import count
from ..errors import ConnectionLostError, NatsError, RequestTimeoutError
from ..jetstream import (
    InvalidAnswerError,
    MessageNotFoundError,
    MsgGetOptions,
    NoHeartbeatError,
    attempt,
    end_with_drain,
    finish_in_drain,
    follow_snapshot,
    is_electing,
    messages_left,
    parse_ack_reply,
    part,
)
from .calls import call_or_report
from .errors import bucket_error

if TYPE_CHECKING:
    from ..arguments import Callback
    from ..jetstream import JetStream, JsMsg, Metadata, OrderedConsumer
    from ..net import Deadline

# Makes of (key, message, metadata) what the callback gets, and tells whether that is a deletion. May raise a
# NatsError: then the message is left out, and the error goes to the client's on_error.
Reader = Callable[[str, "JsMsg", "Metadata"], tuple[Any, bool]]

# After this long without an initial message, ask the server whether there are any left.
_ASK_AFTER_MS = 500.0
# So long a watch waits for what a lagging replica is missing, in seconds.
_LAG_LIMIT = 30.0


class Watch:
    """A running watch.

    `stop` ends the watch, `stopped` tells whether the watch has ended, `bucket` is the bucket's name.
    """

    def __init__(self, engine: WatchEngine) -> None:
        self._engine = engine

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.bucket}{' stopped' if self.stopped else ''}>"

    @property
    def bucket(self) -> str:
        """The name of the bucket that is watched."""
        return self._engine.bucket

    @property
    def stopped(self) -> bool:
        """True after `stop`, and after the callback has got an error."""
        return self._engine.stopped

    @property
    def paused(self) -> bool:
        """Whether the watch waits for `resume` or `ask`."""
        return self._engine.left == 0 and not self.stopped

    def pause(self) -> None:
        """Deliver no entry until `resume` or `ask`. Entries are kept meanwhile, or stay on the server.

        Nothing is lost, and the order stays, across lost connections as well. The end of the initial data
        and an error are no entries: the callback gets each as soon as no entry comes before it. What was
        left of an `ask` is forgotten.
        """
        if not self.stopped:
            self._engine.pause()

    def resume(self) -> None:
        """Deliver what was kept, in order and on the loop, then what comes; ends `pause` and `ask`."""
        if not self.stopped:
            self._engine.resume()

    def ask(self, entries: int) -> None:
        """Deliver a number of entries, then pause. Several calls add up.

        A program that takes entries at its own pace calls this on the new watch before the loop goes on, and
        again in the callback or later. During a drain all entries are delivered.

        Args:
            entries: how many more; 0: none, so that the watch begins paused.

        Raises:
            BadOptionsError: entries is negative.
        """
        count(entries, "entries")
        if not self.stopped:
            self._engine.ask(entries)

    def stop(self) -> None:
        """Stop the watch: no call of its callback follows.

        May be called in the callback, and more than once.
        """
        self._engine.stop()


class WatchEngine:
    """Reads the messages of one watch and calls its callback; see this module's theory of operation."""

    def __init__(
        self,
        js: JetStream,
        bucket: str,
        read: Reader,
        callback: Callback,
        *,
        ignore_deletes: bool = False,
    ) -> None:
        self.bucket = bucket
        self.stopped = False
        self._js = js
        self._read = read
        self._callback = callback
        self._ignore_deletes = ignore_deletes
        self._prefix = 0  # length of what subjects have before the key
        self._consumer: OrderedConsumer | None = None
        self._left: int | None = None  # before there is a consumer: see `left`
        # Initial messages still to come, as announced. None: the server has not said.
        self._initial_left: int | None = None
        self._told = False  # the callback knows of the end of the initial data
        self._last = ("", 0)  # the last message's consumer, and its sequence there
        self._seen = 0  # the last message's sequence in the stream
        # The sequence that belongs to the initial data. None: the leader has not said.
        self._goal: int | None = 0
        self._first = 0  # the sequence with which the watch is to begin
        self._subject = ""  # of all messages that are watched; "": several filters
        self._whole = False  # all messages of the stream are watched
        self._wait_until = 0.0
        self.key = ""  # of the entry that the callback gets
        self.once_per_key = False  # only the last entry of each key counts
        self.gone: Callable[[str], object] | None = None  # gone(key): a deletion that is ignored
        # unread(err): a message that is left out because it can't be read
        self.unread: Callable[[NatsError], object] = js.nats.report
        self._asking: Deadline | None = None  # the next `_look`

    def start(
        self,
        stream: str,
        prefix: str,
        filters: list[str],
        options: dict[str, Any],
        *,
        reads_leader: bool = False,
    ) -> None:
        """Create the consumer, unless the watch was stopped before. Raises what a request raises.

        Args:
            prefix: what subjects have before the key.
            filters: keys, perhaps with wildcards.
            options: for the consumer, deliver_policy above all.
            reads_leader: who uses this kind of bucket may read messages from the leader in any case.
        """
        if self.stopped:
            return
        self._prefix = len(prefix)
        subjects = [prefix + key for key in filters]
        config: Any = {**options, "on_start": self._on_start}
        if len(subjects) == 1:
            config["filter_subject"] = subjects[0]
        else:
            config["filter_subjects"] = subjects
        self._whole = filters == [">"] and not reads_leader
        self._subject = subjects[0] if self._whole or (reads_leader and len(subjects) == 1) else ""
        self._first = options.get("opt_start_seq", 0)
        self.once_per_key = options.get("deliver_policy") == "last_per_subject"
        self._consumer = self._js.ordered_consumer(stream, config, self._on_message)
        follow_snapshot(self._consumer, self._restarted, self._count)
        finish_in_drain(self._consumer)  # until the end of the initial data
        if self._left is not None:
            self._consumer.ask(self._left)

    @property
    def left(self) -> int | None:
        """How many entries are to be delivered before the next pause; None: any number."""
        return self._left if self._consumer is None else messages_left(self._consumer)

    def pause(self) -> None:
        """See `Watch.pause`."""
        self._left = 0
        if self._consumer is not None:
            self._consumer.pause()

    def resume(self) -> None:
        """See `Watch.resume`."""
        self._left = None
        if self._consumer is not None:
            self._consumer.resume()

    def ask(self, entries: int) -> None:
        """See `Watch.ask`."""
        self._left = (self._left or 0) + entries
        if self._consumer is not None:
            self._consumer.ask(entries)

    def stop(self) -> None:
        """Stop without a call of the callback, which is released: it may hold all entries."""
        self.stopped = True
        self._callback, self.gone = _ignore, None
        self._stop_asking()
        consumer, self._consumer = self._consumer, None
        if consumer is not None:
            consumer.stop()

    def fail(self, error: NatsError) -> None:
        """Stop, and give the error to the callback."""
        if not self.stopped:
            callback = self._callback
            self.stop()
            callback(None, bucket_error(error))

    @property
    def progress(self) -> object:
        """A value that changes whenever a part of the initial data has come."""
        # Without the consumer's name: to begin again is no progress.
        return self._consumer is not None, self._initial_left, self._last[1]

    @property
    def _counting(self) -> bool:
        """Whether initial data are being received."""
        return self._initial_left is not None and not self._told and not self.stopped

    def _on_start(self, info: dict[str, Any]) -> None:
        if self.stopped:
            return
        # To such a consumer everything that is pending by now is a change already.
        is_new = part(info, "config").get("deliver_policy") == "new"
        self._initial_left = 0 if is_new else max(0, info["num_pending"])
        if not is_new and self._subject and info.get("cluster"):
            self._goal = None
            self._wait_until = time.monotonic() + _LAG_LIMIT
            self._ask_leader(exactly=not self._whole)
        self._end_if_complete()
        if not self._told:
            self._expect_initial()

    def _restarted(self, info: dict[str, Any]) -> None:
        """Count again: another consumer begins the initial data again."""
        if self._counting:
            self._last = (info.get("name") or "", 0)
            self._initial_left = max(0, info["num_pending"])
            self._end_if_complete()

    def _count(self, meta: Metadata) -> None:
        """Count a message of the initial data, delivered or left out."""
        self._last = (meta.consumer, meta.consumer_sequence)
        self._seen = max(self._seen, meta.stream_sequence)
        if self._counting:
            assert self._initial_left is not None
            self._initial_left = max(self._initial_left - 1, 0) if meta.num_pending else 0
            self._end_if_complete()

    def _end_if_complete(self) -> None:
        """Tell the end of the initial data if all has come."""
        if self._initial_left or self._goal is None or not self._counting:
            return
        if self._seen >= self._goal or self._goal < self._first:
            self._told = True
            self._stop_asking()
            if self._consumer is not None:
                end_with_drain(self._consumer)
            self._js.nats.call(self._callback, None, None)

    def _ask_leader(self, exactly: bool) -> None:
        """Ask the stream's leader how far the initial data go.

        Args:
            exactly: ask for the last message that exists, and not for the stream's last sequence.
        """
        consumer, js, subject = self._consumer, self._js, self._subject
        if consumer is None:
            return

        def answered(result: Any, error: NatsError | None) -> None:
            if not self._counting:
                return
            if isinstance(error, MessageNotFoundError):
                self._goal = 0
            elif error is None:
                state = {"last_seq": result.seq} if exactly else result.get("state") or {}
                last = state.get("last_seq", 0) if state.get("messages", 1) else 0
                self._goal = last if isinstance(last, int) else 0
            elif self._passes(error):
                js.nats.call_later(_ASK_AFTER_MS, self._ask_leader, exactly)
                return
            else:
                self._goal = 0  # who may not ask, or can't, has what the consumer sends
            self._end_if_complete()

        if exactly:
            opts: MsgGetOptions = {"last_by_subj": subject}
            call_or_report(answered, lambda: js.get_msg(consumer.stream, opts, answered))
        else:
            call_or_report(answered, lambda: js.stream_info(consumer.stream, cb=answered))

    def _passes(self, error: NatsError) -> bool:
        """Return whether the leader may answer a little later."""
        if time.monotonic() > self._wait_until:
            return False
        return is_electing(error) or isinstance(error, (ConnectionLostError, RequestTimeoutError))

    def _on_message(self, message: JsMsg | None, error: NatsError | None) -> None:
        if self.stopped:
            return
        if message is None:
            assert error is not None
            self.fail(error)
            return
        meta = parse_ack_reply(message.reply)
        if meta is None:
            self._js.nats.report(InvalidAnswerError(f"no metadata in {message.reply!r:.200}"))
            return
        self._last = (meta.consumer, meta.consumer_sequence)
        try:
            self.key = key = message.subject[self._prefix :]
            found, error = attempt(self._read, key, message, meta, what="message")
            if found is None:
                assert error is not None
                self._replace()
                self.unread(error)
            elif not (found[1] and self._ignore_deletes):
                self._js.nats.call(self._callback, found[0], None)
            else:
                self._replace()
                if self.gone is not None:
                    self.gone(key)
        finally:
            # In any case: the message has come, also when it was unreadable or the callback has raised.
            self._count(meta)

    def _replace(self) -> None:
        """Ask for another entry in place of one that the callback does not get."""
        if self._consumer is not None and self.left is not None:
            self._consumer.ask(1)

    def _expect_initial(self) -> None:
        """Look later whether initial messages still come."""
        self._asking = self._js.nats.call_later(_ASK_AFTER_MS, self._look, self._last)

    def _stop_asking(self) -> None:
        asking, self._asking = self._asking, None
        if asking is not None:
            asking.cancel()

    def _look(self, last_before: tuple[str, int]) -> None:
        self._asking = None
        consumer = self._consumer
        if not self._counting or consumer is None:
            return
        if self._last == last_before and self._js.nats.is_connected() and self.left != 0:
            stream, name = consumer.stream, consumer.name
            call_or_report(self._looked, lambda: self._js.consumer_info(stream, name, self._looked))
        else:
            self._expect_initial()

    def _looked(self, info: Any, error: NatsError | None) -> None:
        if not self._counting:
            return
        if error is None and info.get("num_pending") == 0 and self._has_seen_all(info):
            self._initial_left = 0
            if time.monotonic() > self._wait_until:
                self._goal = 0
            self._end_if_complete()
            if not self._told and self._goal is not None:
                self._ask_leader(exactly=True)
        if not self._told:
            self._expect_initial()

    def _has_seen_all(self, info: dict[str, Any]) -> bool:
        """Return whether all messages that the server says it has sent have arrived."""
        name, seen = self._last
        sent = part(info, "delivered").get("consumer_seq")
        return sent is not None and sent <= (seen if info.get("name") == name else 0)


def _ignore(item: Any, error: NatsError | None) -> None:
    """Stand in for the callback of a watch that has stopped."""


def collect(js: JetStream, begin: Callable[[Callback], WatchEngine], cb: Callback) -> None:
    """Make a list of a watch's initial data; ``cb(items, err)`` once.

    A watch survives any silence. Who waits for a list does not: ``request timeout`` when no part of the list
    has come for the timeout of js.

    Args:
        begin: ``begin(callback)`` starts the watch.
    """
    _Collection(js, cb).start(begin)


class _Collection:
    """A list that a watch fills."""

    def __init__(self, js: JetStream, cb: Callback) -> None:
        self._js = js
        self._cb = cb
        self._items: dict[Any, Any] = {}  # by key, or by number if all entries of a key count
        self._engine: WatchEngine
        self._silence: Deadline | None = None

    def start(self, begin: Callable[[Callback], WatchEngine]) -> None:
        self._engine = begin(self._on_item)
        self._engine.gone = lambda key: self._items.pop(key, None)
        if self._js.timeout:
            self._listen()

    def _on_item(self, item: Any, error: NatsError | None) -> None:
        if item is not None:
            key = self._engine.key if self._engine.once_per_key else len(self._items)
            self._items.pop(key, None)  # so that the newer one comes last
            self._items[key] = item
        else:
            self._end(error)

    def _listen(self) -> None:
        # No shorter than the engine needs to find out that initial messages have expired.
        limit = self._js.timeout + 2 * _ASK_AFTER_MS
        self._silence = self._js.nats.call_later(limit, self._check, self._engine.progress)

    def _check(self, progress_before: object) -> None:
        if self._engine.stopped:
            return
        if self._engine.progress == progress_before:
            self._end(RequestTimeoutError("request timeout"))
        else:
            self._listen()

    def _end(self, error: NatsError | None) -> None:
        if isinstance(error, NoHeartbeatError):  # nothing has come: to who lists, the same
            error = RequestTimeoutError("request timeout")
        self._engine.stop()
        silence, self._silence = self._silence, None
        if silence is not None:
            silence.cancel()
        items, self._items = self._items, {}
        self._cb(list(items.values()) if error is None else None, error)
