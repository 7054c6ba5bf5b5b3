"""Writing an object: its content in parts, then its info, then the removal of what it replaces.

A user holds an `Upload`, which can be cancelled. An `ObjectWriter` does the work, from a source.

Theory of operation
-------------------

The parts of an object must be in the stream in order, each once. To wait for each acknowledgement would
cost a round trip per part, so a window of 4 MiB, or 1024 parts, is sent ahead of the acknowledgements. The
source is read only as the window has room; memory does not depend on the object's size.

Where the store takes fast batches, the parts of a large object go in one (`parts`), and single parts are
what is left when it ends early.

*Resending.* To let `JetStream.publish` send a part again by itself would put that part after later ones. A
lost connection leaves open which parts were stored. So after the first error that may pass, nothing new is
sent. When no part is in flight any more, and there is a connection, all unacknowledged parts are sent again
in order. Each part has a message id, and the server drops a part that it has stored already. The invariant
is that the sequences of the parts increase; where they do not, the put fails. After any such trouble the
stream is asked, before the commit, whether it has exactly as many parts as were sent. The server remembers
ids for two minutes, so the writer gives up after 30 seconds without an acknowledgement.

*Commit.* The object exists from the moment at which its info is stored. The info is published on the
condition that the name's last info is still the one that was read at the start. Two writers of one name
thus replace each other, in one order for all, and each removes the content that it has replaced. When the
condition fails, or the answer is lost, the writer reads the last info: if that has its own nuid, the commit
has succeeded earlier; if not, another writer was faster, and the commit is tried again over that one's
info.

*Failure.* An upload that fails removes its parts. While a commit is under way nobody knows whether they are
an object's: then the last info decides.
"""

from __future__ import annotations

import hashlib
import time
from collections import deque
from collections.abc import Callable
from functools import partial
from typing import Any

from ..arguments import Callback
from ..buckets import (
    BadObjectMetaError,
    ObjectIncompleteError,
    ObjectTransferError,
    bucket_error,
    call_or_report,
    transfer_error,
)
from ..errors import (
    ConnectionClosedError,
    NatsError,
    NoRespondersError,
    NotConnectedError,
    RequestTimeoutError,
)
from ..jetstream import StreamInfoOptions, WrongLastSequenceError, part
from ..nuid import next_nuid
from .infos import FIRST_RETRY_FOR, RETRY_FOR, Infos, is_transient, may_pass
from .meta import Info, chunk_subject, digest_text, link_of
from .parts import Parts, Stored, of_batch
from .sources import Source, UploadState

# Called as progress(bytes stored, bytes in all or None).
Progress = Callable[[int, "int | None"], object]

# Content that may be unacknowledged, in bytes and in parts: each costs a kilobyte beside its content. A put
# needs about twice as much memory.
_WINDOW = 4 * 1024 * 1024
_MOST_PARTS = 1024
# In place of the sequence of a part that came in a batch.
_IN_BATCH = -1
# After an error that may pass, send again after this time (ms). Give up when nothing has been
# acknowledged for RETRY_FOR, which is shorter than the stream's duplicate window of 2 min.
_RETRY_WAIT_MS = 250.0
# How often nobody may take the first parts although the stream has a leader: then it is no store.
_REFUSALS = 4
# How often the commit is tried again because another writer was faster.
_INFO_ATTEMPTS = 20


class Upload:
    """A running `ObjectStore.put`: `cancel` stops it, `done` tells whether it has ended."""

    def __init__(self, writer: ObjectWriter) -> None:
        self._writer = writer

    def __repr__(self) -> str:
        writer = self._writer
        state = "done" if self.done else f"{writer.confirmed} B stored"
        return f"<{type(self).__name__} {writer.name!r} {state}>"

    @property
    def done(self) -> bool:
        """True when the outcome is certain; the callback may follow a little later."""
        return self._writer.done

    def cancel(self) -> None:
        """Stop the upload and remove its parts; its callback gets `ObjectTransferError`, on the loop.

        Does nothing when all content is stored: then the object is about to exist.
        """
        self._writer.cancel()


class ObjectWriter:
    """Writes one object from a source; see this module's theory of operation."""

    def __init__(
        self,
        infos: Infos,
        info: Info,
        source: Source,
        progress: Progress | None,
        callback: Callback,
        state: UploadState | None = None,
    ) -> None:
        """state: of an upload that a later put may go on with; see `Infos` for the rest."""
        self.name: str = info["name"]
        self.done = False
        self.confirmed = 0  # bytes that are acknowledged, without a gap
        self._infos = infos
        self._js = infos.js
        self._info = info
        self._source = source
        self._progress = progress
        self._callback = callback
        self._hash = hashlib.sha256()
        self._window = min(max(2, _WINDOW // source.chunk_size), _MOST_PARTS)  # in parts
        self._opening = False  # it is being asked what the store takes, or has
        self._state = state
        self._stored_before = 0  # parts, by an earlier put of the same upload
        if state is not None:
            info["nuid"] = state.fields.get("nuid", info["nuid"])
        self._name_content(info["nuid"])
        self._unacked: deque[tuple[int, bytes]] = deque()  # (number, content), in order
        # Number → sequence, of acknowledged parts that come after one that is not.
        self._acks: dict[int, int] = {}
        self._in_flight = 0
        self._reading = False  # the source is being asked
        self._last_seq = 0  # of the last part that counts as confirmed
        self._all_read = False
        self._error: NatsError | None = None  # the put fails
        self._trouble: NatsError | None = None  # an error that may pass: nothing new is sent
        self._had_trouble = False
        self._moved_at = time.monotonic()  # the last acknowledgement
        self._known = False  # the store has answered, so it exists
        self._refusals = 0  # looks that the leader has answered while nobody took parts
        self._nobody_since = 0.0  # since when nobody listens; 0: the last error was another one
        self._old: Info | None = None  # what the info is to replace
        self._committing = False  # the info may be stored already
        self._info_attempts = 0

    def _name_content(self, nuid: str) -> None:
        infos = self._infos
        self._info["nuid"] = nuid
        self._subject = chunk_subject(infos.bucket, nuid)
        self._parts = Parts(infos, self._subject, nuid, self._window)

    def cancel(self) -> None:
        """See `Upload.cancel`."""
        if not self.done and not self._committing:
            self._fail(ObjectTransferError("put was cancelled"))

    def start(self) -> None:
        """Read the name's info, then send the content. Raises what a request raises."""
        self._infos.last(self.name, self._began)

    def _began(self, old: Info | None, error: NatsError | None) -> None:
        self._old = old
        if error is not None and may_pass(error, self._js):
            self._trouble = error
            self._retry(lambda: call_or_report(self._began, self.start))
        elif error is not None:
            self._fail(error)
        else:
            self._moved_at = time.monotonic()
            self._had_trouble = False  # no part was sent yet
            self._known = True
            if self._state is None:
                self._pump()
            elif old is not None and old["nuid"] == self._info["nuid"] and not old["deleted"]:
                self._old = {"nuid": self._state.fields.get("replaces", ""), "options": {}}
                self._remove_old(old)
            else:
                self._take_up(self._state)

    # What an earlier put has left.

    def _take_up(self, state: UploadState) -> None:
        """Go on with the upload of the state, or begin it."""
        file = self._source.stat()
        if "nuid" not in state.fields:
            size = self._source.chunk_size
            state.write(nuid=self._info["nuid"], chunk_size=size, file=file)
            self._pump()
        elif state.fields["file"] != file:
            self._fail_changed()
        else:
            self._opening = True
            Stored(self._infos, self._subject, self._found_stored, self._not_found).start()

    def _fail_changed(self) -> None:
        self._info["chunks"] = self._info["chunks"] or 1  # remove what is stored
        self._fail(ObjectTransferError("the file has changed since its upload began"))

    def _not_found(self, error: NatsError) -> None:
        """Ask again after an error that may pass."""
        self._opening = False
        if is_transient(error):
            self._trouble = error
            assert self._state is not None
            self._retry(partial(self._take_up, self._state))
        else:
            self._fail(bucket_error(error) or error)

    def _found_stored(self, sizes: list[int] | None, seq: int) -> None:
        """Take that the stream has parts of these sizes; None: not one after the other.

        With none at all the upload begins again as well: they may have been removed, with their object.
        """
        size, total = self._source.chunk_size, self._source.total or 0
        if self._error is not None:
            self._opening = False
            self._info["chunks"] = 1
            self._give_up()
        elif not sizes or any(s != min(size, total - n * size) for n, s in enumerate(sizes)):
            self._infos.remove_content(self._info["nuid"], self._begin_again)
        else:
            self._stored_before, self._last_seq = len(sizes), seq
            self._had_trouble = True  # the parts are counted in the end
            self._read_stored()

    def _begin_again(self) -> None:
        """Begin with another nuid: the server may know the message ids of the former one."""
        assert self._state is not None
        self._opening = False
        if self._error is not None:
            self._give_up()
            return
        self._name_content(next_nuid())
        self._state.write(nuid=self._info["nuid"])
        self._pump()

    def _read_stored(self) -> None:
        """Hash the parts that are stored, some per turn of the loop; then send those after them."""
        self._opening = False
        for _ in range(max(1, _WINDOW // self._source.chunk_size)):
            if self._error is None and self._info["chunks"] < self._stored_before:
                chunk = self._read()
                self._hash.update(chunk)
                self._info["size"] += len(chunk)
                self._info["chunks"] += 1
                self.confirmed += len(chunk)
        self._moved_at = time.monotonic()
        if self._error is not None:
            self._give_up()
        elif self._info["chunks"] < self._stored_before:
            self._opening = True
            self._js.nats.call_later(0, self._read_stored, ended=self._client_ended, step=True)
        else:
            self._pump()

    def _client_ended(self) -> None:
        self._opening = False
        self._fail(ConnectionClosedError("disconnected"))

    # The content.

    def _pump(self) -> None:
        """Read and send parts while the window has room."""
        if self._reading or self._opening:
            return  # the source runs the loop: what it returns comes first
        while self._healthy and not self._all_read and len(self._unacked) < self._window:
            if self._parts.may_open(self._info["size"], self._source):
                if not self._in_flight:
                    self._open()
                return
            chunk = self._read()
            if not self._healthy:
                return  # the source has failed, or cancelled the put
            if chunk:
                self._hash.update(chunk)
                self._info["size"] += len(chunk)
                self._info["chunks"] += 1
                self._unacked.append((self._info["chunks"], chunk))
                self._send(*self._unacked[-1])
            else:
                self._all_read = True
                if self._state is not None and self._source.stat() != self._state.fields["file"]:
                    self._fail_changed()
                self._end_batch()
        if not self._in_flight:
            self._settled()

    def _open(self) -> None:
        """Begin a batch, if the store takes them. No part is in flight: the stream keeps their order."""

        def ready() -> None:
            self._opening = False
            if self._error is not None:
                self._give_up()
            else:
                self._pump()

        self._opening = True
        self._parts.open(ready)

    def _end_batch(self) -> None:
        """End the batch, if one is open: what it holds is acknowledged, and nothing comes after that."""

        def ended(ack: Any, error: NatsError | None) -> None:
            self._in_flight -= 1
            if error is not None:
                self._note(error)
            elif ack["seq"] < self._last_seq:
                self._error = ObjectTransferError("parts were stored out of order")
            else:
                self._last_seq = ack["seq"]
            if not self._in_flight:
                self._settled()

        try:
            if self._parts.end(ended):
                self._in_flight += 1
        except NatsError as exc:
            self._note(exc)

    def _read(self) -> bytes:
        """Return the source's next part; b"" at its end, and when it fails."""
        self._reading = True
        try:
            return self._source.next()
        except Exception as exc:
            self._fail(transfer_error("the object's source", exc))
        except BaseException as exc:
            # After KeyboardInterrupt, too: the rest of an interrupted generator is missing.
            self._fail(transfer_error("the object's source", exc))
            raise
        finally:
            self._reading = False
        return b""

    @property
    def _healthy(self) -> bool:
        return self._error is None and self._trouble is None

    def _send(self, number: int, chunk: bytes) -> None:
        def stored(ack: Any, error: NatsError | None) -> None:
            self._in_flight -= 1
            seq = 0 if ack is None else ack.get("seq", _IN_BATCH)
            if error is None and not seq:
                # nats-server 2.10: a duplicate of a part that the cluster is just storing.
                error = RequestTimeoutError("request timeout")
            if error is None:
                self._acks[number] = seq
                self._advance()
            else:
                self._note(error)
            if self._healthy:
                self._pump()
            elif not self._in_flight:
                self._settled()

        self._in_flight += 1
        try:
            self._parts.send(number, chunk, stored)
        except NatsError as exc:
            self._in_flight -= 1
            self._note(exc)

    def _note(self, error: NatsError) -> None:
        """Remember an error: one that may pass, or the one that fails the put."""
        if isinstance(error, NotConnectedError):  # the client has ended since the put began
            error = ConnectionClosedError("disconnected")
        if is_transient(error) or of_batch(error):
            self._trouble = error
        else:
            self._error = self._error or bucket_error(error)
        self._end_batch()  # its parts are acknowledged, or sent again one by one

    def _advance(self) -> None:
        """Drop the parts that are acknowledged, up to the first one that is not."""
        before = self.confirmed
        while self._unacked and (seq := self._acks.pop(self._unacked[0][0], None)) is not None:
            if seq == _IN_BATCH:
                seq = self._last_seq + 1  # at least
            if seq <= self._last_seq:
                self._error = ObjectTransferError("parts were stored out of order")
                self._end_batch()
                return
            self._last_seq = seq
            self.confirmed += len(self._unacked.popleft()[1])
        if self.confirmed > before:
            self._moved_at = time.monotonic()
            if self._progress is not None:
                self._js.nats.call(self._progress, self.confirmed, self._source.total)

    def _settled(self) -> None:
        """Take the next step. No part is in flight."""
        if self.done:
            return
        if self._error is not None:
            self._give_up()
        elif self._trouble is not None:
            self._retry(self._send_again)
        elif self._unacked or not self._all_read:
            self._pump()
        elif self._had_trouble:
            self._check_parts()
        else:
            self._publish_info()

    def _retry(self, again: Callable[[], object]) -> None:
        """Call again a little later, as soon as there is a connection; fail when that takes too long."""
        trouble, self._trouble = self._trouble, None
        assert trouble is not None
        self._had_trouble = True
        limit, since = RETRY_FOR, self._moved_at
        if isinstance(trouble, NoRespondersError) and not self._known:
            self._nobody_since = self._nobody_since or time.monotonic()
            limit, since = FIRST_RETRY_FOR, self._nobody_since
        else:
            self._nobody_since = 0.0
        if isinstance(trouble, NoRespondersError) and self._known and not self._last_seq:
            again = partial(self._look_for_leader, trouble, again)

        def due() -> None:
            if self._error is not None:
                self._give_up()
            elif time.monotonic() - since > limit:
                self._fail(trouble)
            elif not self._js.nats.is_connected():
                self._js.nats.call_later(_RETRY_WAIT_MS, due, ended=ended, step=True)
            else:
                again()

        def ended() -> None:
            self._fail(trouble)

        self._js.nats.call_later(_RETRY_WAIT_MS, due, ended=ended, step=True)

    def _look_for_leader(self, trouble: NatsError, again: Callable[[], object]) -> None:
        """Call again, unless the stream has a leader that answers, and yet nobody takes parts."""

        def looked(info: Info | None, error: NatsError | None) -> None:
            if self._error is not None:
                self._give_up()
            elif is_transient(error):
                self._trouble = trouble
                self._retry(again)
            elif error is not None:
                self._fail(error)
            elif self._refusals == _REFUSALS:
                self._fail(trouble)
            else:
                self._refusals += 1
                again()

        call_or_report(looked, lambda: self._infos.last(self.name, looked))

    def _send_again(self) -> None:
        """Send all parts again, in order, that are not acknowledged."""
        for number, chunk in list(self._unacked):
            if number not in self._acks and self._healthy:
                self._send(number, chunk)
        if not self._in_flight:
            self._settled()

    def _check_parts(self) -> None:
        """Check that the stream has as many parts as were sent, then commit."""

        def counted(info: Any, error: NatsError | None) -> None:
            if error is not None:
                self._note(error)
                if self._trouble is not None:
                    self._retry(self._check_parts)
                else:
                    self._give_up()
                return
            if self._error is not None:
                return  # cancelled meanwhile
            count = part(part(info, "state"), "subjects").get(self._subject, 0)
            if count == self._info["chunks"]:
                self._publish_info()
            else:
                self._fail(ObjectIncompleteError(f"{count} of {self._info['chunks']} parts stored"))

        opts: StreamInfoOptions = {"subjects_filter": self._subject}
        call_or_report(counted, lambda: self._js.stream_info(self._infos.stream, opts, counted))

    # The commit.

    def _publish_info(self) -> None:
        self._committing = True
        if self._state is not None:
            self._state.write(replaces=self._old["nuid"] if self._old is not None else "")
        self._info["digest"] = digest_text(self._hash)
        call_or_report(
            self._info_stored,
            lambda: self._infos.publish(self._info, self._old, self._info_stored),
        )

    def _info_stored(self, info: Info | None, error: NatsError | None) -> None:
        if info is not None:
            self._remove_old(info)
        elif is_transient(error):
            self._trouble = error
            self._retry(self._publish_info)
        elif isinstance(error, WrongLastSequenceError) and self._info_attempts < _INFO_ATTEMPTS:
            # Another writer was faster, or the info is stored and only the answer was lost.
            self._info_attempts += 1
            call_or_report(self._compare, lambda: self._infos.last(self.name, self._compare))
        else:
            assert error is not None
            self._fail(error)

    def _compare(self, current: Info | None, error: NatsError | None) -> None:
        if error is not None:
            self._info_stored(None, error)
        elif current is not None and current["nuid"] == self._info["nuid"]:
            self._remove_old(current)
        else:
            self._old = current
            self._publish_info()

    def _remove_old(self, info: Info) -> None:
        """Remove the content that this object has replaced; that is the end of a put that succeeds."""
        old = self._old
        if old is None or link_of(old) is not None or old["nuid"] == info["nuid"]:
            self._end(info, None)
        else:
            self._infos.remove_content(old["nuid"], lambda: self._end(info, None))

    # The end.

    def _fail(self, error: NatsError) -> None:
        """Fail the put, as soon as no part is in flight."""
        if isinstance(error, NotConnectedError):  # the client has ended since the put began
            error = ConnectionClosedError("disconnected")
        self._error = self._error or error
        self._end_batch()
        if not self._in_flight and not self._opening:
            self._js.nats.call_soon(self._give_up)

    def _give_up(self) -> None:
        if self.done:
            return
        self.done = True
        if self._committing:  # the object exists or not: the last info tells
            call_or_report(self._decide, lambda: self._infos.last(self.name, self._decide))
        elif self._state is not None and self._may_go_on():
            self._end(None, self._error)
        elif self._info["chunks"]:
            self._remove_own()
        else:
            self._end(None, self._error)

    def _may_go_on(self) -> bool:
        """Return whether a later put may go on with this upload after the error."""
        return is_transient(self._error) or isinstance(self._error, ConnectionClosedError)

    def _decide(self, current: Info | None, error: NatsError | None) -> None:
        if current is not None and current["nuid"] == self._info["nuid"]:
            self._remove_old(current)
        elif error is None or isinstance(error, BadObjectMetaError):  # the latter is not ours
            self._remove_own()
        else:
            self._end(None, self._error)

    def _remove_own(self) -> None:
        self._infos.remove_content(self._info["nuid"], lambda: self._end(None, self._error))

    def _end(self, info: Info | None, error: NatsError | None) -> None:
        self.done = True
        self._js.nats.call(self._source.close)  # may be a user's code
        if self._state is not None:
            if error is None or not self._may_go_on():
                self._state.remove()
            self._state.keep()
        # What is left of the put, a handle or a removal under way, must not keep the content.
        self._unacked.clear()
        callback, self._callback = self._callback, _nothing
        self._source, self._progress = Source(self._source.chunk_size), None
        callback(info, error)


def _nothing(info: Info | None, error: NatsError | None) -> None:
    """Stand in for the callback of a put that has ended."""
