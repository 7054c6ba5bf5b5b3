"""The last messages of many subjects, in as many requests as that takes."""

from __future__ import annotations

from typing import Any

from ..arguments import Callback
from ..errors import NatsError
from ..jetstream import JetStream, StoredMsg, later_request, part

# A server answers one request for many last messages with at most so many.
_MOST_SUBJECTS = 1024
# Of the subjects in one request, in bytes; a server's max_payload is 1 MiB by default.
_MOST_BYTES = 256 * 1024


class LastMessages:
    """A reading of the last message of each subject; ``cb([StoredMsg, …], err)``.

    Up to 1024 messages are those of one moment. Above that the server refuses one request (413): the client
    asks which subjects there are, and for their messages up to the stream's last sequence of then. A stream
    that keeps one message per subject has lost some of them since: these subjects are read as they are now.
    """

    def __init__(self, js: JetStream, stream: str, filters: list[str], cb: Callback) -> None:
        self._js = js
        self._stream = stream
        self._filters = filters
        self._cb = cb
        self._messages: dict[str, StoredMsg] = {}
        self._names: dict[str, None] = {}  # the subjects to ask for, in order
        self._up_to = 0  # the stream's last sequence at the moment that counts

    def start(self) -> None:
        """Send the first request."""
        if len(self._filters) <= _MOST_SUBJECTS and sum(map(len, self._filters)) <= _MOST_BYTES:
            self._ask(self._filters, self._first_answer)
        else:
            self._look_up(list(self._filters))

    def _ask(self, subjects: list[str], cb: Callback, up_to: int = 0) -> None:
        opts: Any = {"multi_last": subjects}
        if up_to:
            opts["up_to_seq"] = up_to
        self._js.direct_get_batch(self._stream, opts, cb)

    def _first_answer(self, messages: Any, error: NatsError | None) -> None:
        if error is not None and getattr(error, "code", 0) == 413:  # too many for one answer
            later_request(lambda: self._look_up(list(self._filters)), self._cb)
        elif error is not None:
            self._cb(None, error)
        else:
            self._cb(messages, None)

    def _look_up(self, filters: list[str]) -> None:
        """Ask which subjects there are, filter by filter."""
        while filters and not _has_wildcard(filters[-1]) and self._up_to:
            self._names[filters.pop()] = None
        if not filters:
            names = list(self._names)
            self._names.clear()
            self._next(_parts(names), [])
            return

        def told(info: Any, error: NatsError | None) -> None:
            if error is not None:
                self._cb(None, error)
                return
            state = part(info, "state")
            last = state.get("last_seq")
            self._up_to = self._up_to or (last if isinstance(last, int) else 0) or 1
            self._names.update(dict.fromkeys(part(state, "subjects")))
            later_request(lambda: self._look_up(filters), self._cb)

        opts: Any = {"subjects_filter": filters.pop()}
        self._js.stream_info(self._stream, opts, told)

    def _next(self, parts: list[list[str]], late: list[str]) -> None:
        """Ask for the next part; in the end once more for those that have changed since."""
        if not parts and (not late or not self._up_to):
            found = sorted(self._messages.values(), key=lambda each: each.seq)
            self._cb(found, None)
            return
        if not parts:
            parts, late, self._up_to = _parts(late), [], 0
        names = parts.pop(0)

        def told(messages: Any, error: NatsError | None) -> None:
            if error is not None:
                self._cb(None, error)
                return
            self._messages.update((each.subject, each) for each in messages)
            lost = [name for name in names if name not in self._messages]
            later_request(lambda: self._next(parts, late + lost), self._cb)

        self._ask(names, told, self._up_to)


def _has_wildcard(subject: str) -> bool:
    return any(token in ("*", ">") for token in subject.split("."))


def _parts(names: list[str]) -> list[list[str]]:
    """Return subjects in as many lists as requests are needed for them."""
    parts: list[list[str]] = []
    size = _MOST_BYTES
    for name in names:
        if size + len(name) > _MOST_BYTES or len(parts[-1]) == _MOST_SUBJECTS:
            parts.append([])
            size = 0
        parts[-1].append(name)
        size += len(name)
    return parts
