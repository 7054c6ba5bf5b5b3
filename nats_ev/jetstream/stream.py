"""Streams: their management, and single messages of theirs.

What goes out are dicts of the wire's JSON (durations in ns or as timedelta); what comes back is the
server's answer as it is, unless a method says otherwise.
"""

from __future__ import annotations

import base64
from collections.abc import Mapping
from typing import Any

from ..errors import BadOptionsError, NatsError
from ..subjects import check_subscribe
from ._api import Api, Callback, check_cb, middle, name_of
from ._direct import DirectGets, get_opts
from .config import check_fields, stream_config
from .errors import APIError, InvalidAnswerError, StreamNotFoundError
from .message import StoredMsg

Opts = Mapping[str, Any] | Callback | None

_INFO_FIELDS = {"deleted_details": None, "subjects_filter": None, "offset": None}
_PURGE_FIELDS = {"filter": None, "seq": None, "keep": None}
_LIST_FIELDS = {"subject": None}


class Streams(DirectGets):
    """The part of `JetStream` that deals with streams."""

    _api: Api

    def account_info(self, cb: Callback) -> None:
        """Usage and limits of the account: memory, storage, streams, consumers, limits, tiers, api."""
        check_cb(cb)
        self._api.request("INFO", None, cb)

    # Streams.

    def stream_create(self, config: Mapping[str, Any], cb: Callback) -> None:
        """Create a stream; creating it again with the same configuration succeeds.

        config: name and subjects, and if wanted storage ("file", "memory"), retention ("limits",
        "interest", "workqueue"), max_msgs, max_bytes, max_age, max_msgs_per_subject, discard,
        duplicate_window, num_replicas and all other fields that the server has.

        ``cb(info, err)``: `StreamNameAlreadyInUseError` when it exists with another configuration,
        `ApiLevelError` when the server lacks a field, and then nothing was created. Raises
        `BadOptionsError` for what is no stream configuration.
        """
        self._store("CREATE", config, cb)

    def stream_update(self, config: Mapping[str, Any], cb: Callback) -> None:
        """Change a stream; see `stream_create`. `StreamNotFoundError` when there is none."""
        self._store("UPDATE", config, cb)

    def stream_create_or_update(self, config: Mapping[str, Any], cb: Callback) -> None:
        """`stream_update`, or `stream_create` when there is no such stream."""
        check_cb(cb)

        def updated(info: Any, error: NatsError | None) -> None:
            if not isinstance(error, StreamNotFoundError):
                cb(info, error)
                return
            try:
                self._store("CREATE", config, cb)
            except NatsError as exc:
                cb(None, exc)

        self._store("UPDATE", config, updated)

    def stream_delete(self, name: str, cb: Callback) -> None:
        """Delete a stream and all that is in it; ``cb({"success": True}, err)``."""
        check_cb(cb)
        self._api.request(f"STREAM.DELETE.{name_of('stream', name)}", None, cb)

    def stream_info(self, name: str, opts: Opts = None, cb: Callback | None = None) -> None:
        """A stream's configuration and state; ``cb({"config", "state", "created", …}, err)``.

        opts: deleted_details (true: which sequences are deleted), subjects_filter (a subject: state
        gets ``subjects``, the number of messages of each matching one; all pages are fetched unless
        an offset is given).
        """
        given, done = middle(opts, cb)
        verb = f"STREAM.INFO.{name_of('stream', name)}"
        if not given:
            self._api.request(verb, None, done)
            return
        check_fields("stream info options", given, _INFO_FIELDS)
        if "subjects_filter" not in given or "offset" in given:
            self._api.request(verb, given, done)
            return
        subjects: dict[str, int] = {}

        def page(info: dict[str, Any] | None, error: NatsError | None) -> None:
            if info is None:
                done(None, error)
                return
            state = info.get("state", {})
            more = state.get("subjects") or {}
            subjects.update(more)
            if more and len(subjects) < info.get("total", 0):
                self._api.again(verb, {**given, "offset": len(subjects)}, page)
            else:
                state["subjects"] = subjects
                done(info, None)

        self._api.request(verb, given, page)

    def stream_list(self, opts: Opts = None, cb: Callback | None = None) -> None:
        """All streams: ``{"streams": [info, …], "total": n}``, all pages of it.

        opts: subject (only streams that have it).
        """
        self._list("STREAM.LIST", opts, cb, as_answer=True)

    def stream_names(self, opts: Opts = None, cb: Callback | None = None) -> None:
        """The names of all streams, as a list; opts as in `stream_list`."""
        self._list("STREAM.NAMES", opts, cb, as_answer=False)

    def stream_name_by_subject(self, subject: str, cb: Callback) -> None:
        """The name of the stream that stores a subject; `StreamNotFoundError` when none does."""
        check_cb(cb)
        check_subscribe(subject)

        def answered(answer: Any, error: NatsError | None) -> None:
            if error is not None:
                cb(None, error)
            elif names := answer.get("streams"):
                cb(names[0], None)
            else:
                missing = {"code": 404, "err_code": 10059, "description": "stream not found"}
                cb(None, APIError.of(missing))

        self._api.request("STREAM.NAMES", {"subject": subject}, answered)

    def stream_purge(self, name: str, opts: Opts = None, cb: Callback | None = None) -> None:
        """Delete a stream's messages; ``cb({"success", "purged"}, err)``.

        opts: filter (a subject: only those), and either seq (all before it) or keep (all but so many).
        """
        given, done = middle(opts, cb)
        given = given or {}
        check_fields("purge options", given, _PURGE_FIELDS)
        if given.get("seq") and given.get("keep"):
            raise BadOptionsError("seq and keep exclude each other")
        self._api.request(f"STREAM.PURGE.{name_of('stream', name)}", given or None, done)

    # Messages.

    def stream_msg_get(self, stream: str, opts: Mapping[str, Any], cb: Callback) -> None:
        """One message, as the server's answer: ``message`` with data and hdrs in base64.

        opts: seq, or last_by_subj, or next_by_subj with or without a seq to start at. `get_msg` gives a
        decoded one.
        """
        check_cb(cb)
        self._api.request(f"STREAM.MSG.GET.{name_of('stream', stream)}", get_opts(opts), cb)

    def get_msg(self, stream: str, opts: Mapping[str, Any] | int, cb: Callback) -> None:
        """One message, as a `StoredMsg`; opts as in `stream_msg_get`, or a sequence.

        Asks the stream's leader. `MessageNotFoundError` when there is none.
        """
        check_cb(cb)

        def answered(answer: Any, error: NatsError | None) -> None:
            if error is not None:
                cb(None, error)
                return
            try:
                message = _stored(stream, answer["message"])
            except (AttributeError, KeyError, ValueError, TypeError) as exc:
                cb(None, InvalidAnswerError(f"invalid answer: {exc}"))
                return
            cb(message, None)

        opts = {"seq": opts} if isinstance(opts, int) else opts
        self._api.request(f"STREAM.MSG.GET.{name_of('stream', stream)}", get_opts(opts), answered)

    def get_last_msg(self, stream: str, subject: str, cb: Callback) -> None:
        """The last message of a subject, which may have wildcards; see `get_msg`."""
        self.get_msg(stream, {"last_by_subj": subject}, cb)

    def stream_msg_delete(self, stream: str, seq: int, cb: Callback) -> None:
        """Delete a message: it is only marked; `stream_msg_erase` also overwrites what is stored."""
        self._delete(stream, {"seq": seq, "no_erase": True}, cb)

    def stream_msg_erase(self, stream: str, seq: int, cb: Callback) -> None:
        """Delete a message and overwrite it with random data (slow)."""
        self._delete(stream, {"seq": seq}, cb)

    # nats.go's words.
    create_or_update_stream = stream_create_or_update
    get_last_msg_for_subject = get_last_msg
    delete_msg = stream_msg_delete
    secure_delete_msg = stream_msg_erase

    def _delete(self, stream: str, body: dict[str, Any], cb: Callback) -> None:
        check_cb(cb)
        if isinstance(body["seq"], bool) or not isinstance(body["seq"], int):
            raise TypeError(f"seq must be an int, not {type(body['seq']).__name__}")
        self._api.request(f"STREAM.MSG.DELETE.{name_of('stream', stream)}", body, cb)

    def _store(self, verb: str, config: object, cb: Callback) -> None:
        check_cb(cb)
        body, needs = stream_config(config)
        subject = f"STREAM.{verb}.{name_of('stream', body.get('name'))}"
        self._api.require(
            needs, lambda level: self._api.request(subject, body, cb, level=level), cb
        )

    def _list(self, verb: str, opts: Any, cb: Callback | None, *, as_answer: bool) -> None:
        opts, done = middle(opts, cb)
        opts = opts or {}
        check_fields("list options", opts, _LIST_FIELDS)

        def listed(items: Any, error: NatsError | None) -> None:
            if error is not None or not as_answer:
                done(items, error)
            else:
                done({"streams": items, "total": len(items)}, None)

        self._api.pages(verb, opts, "streams", listed)


def _stored(stream: str, message: Mapping[str, Any]) -> StoredMsg:
    headers = message.get("hdrs")
    return StoredMsg(
        stream,
        message["subject"],
        message["seq"],
        message.get("time", ""),
        base64.b64decode(message.get("data") or ""),
        base64.b64decode(headers) if headers else None,
    )
