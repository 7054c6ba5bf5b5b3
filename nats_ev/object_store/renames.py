"""Renaming an object: its info moves from one name to another, its content stays where it is.

Theory of operation
-------------------

Two subjects can't change in one step. So the new name gets the info first: in between, the object has two
names, never none. What happens to either name meanwhile must not cost the content, which belongs to whoever
replaces or deletes one of the two infos. Hence each step is a publish on the condition that the name's info
is the one that was read (`Infos.replace`, which also finds out what a lost answer has hidden):

1. Read the old name's info, and what the new name has: nothing, or a deletion.
2. Store the info under the new name in place of that.
3. Store a deletion under the old name in place of what step 1 has read. It has a nuid of its own: who
   replaces the deletion removes no content. Then remove the deletion, which watchers have seen.

When the condition of step 3 fails, another writer has changed the old name, and has perhaps removed the
content already. An object that is there is renamed in place of the former one; else the new name is given up
and the rename fails. Only when neither succeeds for half a minute the object keeps two names, and the
error says so.
"""

from __future__ import annotations

from ..arguments import Callback
from ..buckets import ObjectExistsError, ObjectTransferError, call_or_report
from ..errors import ConnectionClosedError, NatsError
from ..jetstream import WrongLastSequenceError
from ..nuid import next_nuid
from .infos import RETRY_FOR, Change, Infos, is_transient
from .meta import Info

# How often to start again because another writer was faster.
_MAX_ATTEMPTS = 20


def rename(infos: Infos, name: str, new_name: str, change: Change, cb: Callback) -> None:
    """Move a name's info, changed by change, to new_name; ``cb(info, err)``.

    Args:
        infos: of the store.
        name: the present name.
        new_name: another name.
        change: makes the new info of the present one, or says why that is impossible.
        cb: gets `ObjectExistsError` when new_name belongs to an object.
    """
    _Renaming(infos, name, new_name, change, cb).start()


class _Renaming:
    """A rename under way; see this module's theory of operation."""

    def __init__(
        self, infos: Infos, name: str, new_name: str, change: Change, cb: Callback
    ) -> None:
        self._infos = infos
        self._name = name
        self._new_name = new_name
        self._change = change
        self._cb = cb
        self._old: Info = {}  # what the old name has
        self._renamed: Info = {}
        self._taken: Info | None = None  # what is stored under the new name
        self._attempts = 0

    def start(self) -> None:
        """Read the old name's info. Raises what a request raises."""
        self._infos.last(self._name, self._found)

    def _found(self, info: Info | None, error: NatsError | None) -> None:
        renamed = error if error is not None else self._change(info)
        if isinstance(renamed, NatsError):
            self._withdraw(renamed)
            return
        assert info is not None
        self._old, self._renamed = info, renamed
        if self._taken is None:
            self._look_at_new_name()
        else:
            self._take(self._taken)

    def _look_at_new_name(self) -> None:
        call_or_report(self._holder, lambda: self._infos.last(self._new_name, self._holder))

    def _holder(self, holder: Info | None, error: NatsError | None) -> None:
        if error is None and holder is not None and not holder["deleted"]:
            error = ObjectExistsError(
                f"an object already exists with that name: {self._new_name}",
                bucket=self._infos.bucket,
                name=self._new_name,
            )
        if error is not None:
            self._cb(None, error)
        else:
            self._take(holder)

    def _take(self, holder: Info | None) -> None:
        call_or_report(
            self._new_stored,
            lambda: self._infos.replace(self._renamed, holder, self._new_stored, RETRY_FOR),
        )

    def _new_stored(self, info: Info | None, error: NatsError | None) -> None:
        if info is not None:
            self._taken = info
            self._delete_old()
        elif isinstance(error, WrongLastSequenceError) and self._again():
            self._taken = None  # it belongs to somebody else now, or not yet to anybody
            self._look_at_new_name()
        else:
            assert error is not None
            self._fail(error, stored=is_transient(error))

    def _delete_old(self) -> None:
        deletion = {
            "name": self._name, "bucket": self._infos.bucket, "nuid": next_nuid(), "size": 0,
            "chunks": 0, "deleted": True,
        }  # fmt: skip
        call_or_report(
            self._old_deleted,
            lambda: self._infos.replace(deletion, self._old, self._old_deleted, RETRY_FOR),
        )

    def _old_deleted(self, info: Info | None, error: NatsError | None) -> None:
        if info is not None:
            taken = self._taken
            self._infos.remove(self._name, info["seq"], lambda error: self._cb(taken, None))
        elif isinstance(error, WrongLastSequenceError) and self._again():
            call_or_report(self._found, self.start)
        else:
            assert error is not None
            self._withdraw(error)

    def _again(self) -> bool:
        self._attempts += 1
        return self._attempts < _MAX_ATTEMPTS

    def _withdraw(self, error: NatsError) -> None:
        """Fail, and give the new name up if it was taken."""
        taken = self._taken
        if taken is None:
            self._cb(None, error)
        else:
            self._infos.remove(
                self._new_name,
                taken["seq"],
                lambda late: self._fail(error, stored=late is not None),
            )

    def _fail(self, error: NatsError, *, stored: bool) -> None:
        """Fail.

        stored: both names may have the content now. The end of the client is told as everywhere.
        """
        if stored and not isinstance(error, ConnectionClosedError):
            cause, names = error, f"{self._name} and {self._new_name}"
            error = ObjectTransferError(f"rename failed, {names} may share one content: {cause}")
            error.__cause__ = cause
        self._cb(None, error)
