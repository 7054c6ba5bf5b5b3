"""Streams: creating, changing, listing and purging them, and reading and deleting single messages.

Configurations and options are dicts of the wire's JSON (durations in ns or as timedelta). A result is the
server's answer, unchanged, unless a method says otherwise.
"""

from __future__ import annotations

import base64
from collections.abc import Mapping
from typing import Any

from ..arguments import (
    Callback,
    ResultCallback,
    check_result_cb,
    explained,
    integer,
    optional_middle,
)
from ..errors import BadOptionsError, NatsError
from ..steps import later_step
from ..subjects import check_subscribe
from ..times import to_wire
from .answers import ACCOUNT, INFO, MESSAGE, Shape, converted, part
from .api import Api, name_of
from .config import MAX_SEQUENCE, check_fields, check_filters, stream_config
from .direct import DirectGets, get_opts
from .errors import APIError, StreamNotFoundError
from .message import StoredMsg
from .store import store_stream
from .types import (
    AccountInfo,
    MsgGetOptions,
    MsgGetResult,
    PurgeResult,
    StreamConfig,
    StreamInfo,
    StreamInfoOptions,
    StreamList,
    StreamListOptions,
    StreamPurgeOptions,
    Success,
)

_ONE_DICT = "a configuration is one dict, as in stream_create({'name': 'A', 'subjects': ['a']}, cb)"
_INFO_FIELDS = {"deleted_details": None, "subjects_filter": None, "offset": None}
_PURGE_FIELDS = {"filter": None, "seq": None, "keep": None}
_LIST_FIELDS = {"subject": None}


class Streams(DirectGets):
    """The methods of `JetStream` that deal with streams."""

    _api: Api

    def account_info(self, cb: ResultCallback[AccountInfo]) -> None:
        """Ask for the account's usage and limits; ``cb(info, err)``.

        info has memory, storage, streams, consumers, limits, tiers and api.
        """
        check_result_cb(cb)
        self._api.request("INFO", None, cb, shape=ACCOUNT)

    # Streams as a whole.

    @explained(other=_ONE_DICT)
    def stream_create(self, config: StreamConfig, cb: ResultCallback[StreamInfo]) -> None:
        """Create a stream; ``cb(info, err)``. Creating it again with the same configuration succeeds.

        Args:
            config: name and subjects; optional: storage ("file", "memory"), retention ("limits",
                "interest", "workqueue"), max_msgs, max_bytes, max_age, max_msgs_per_subject, discard,
                duplicate_window, num_replicas and all other fields that the server has.
            cb: gets `StreamNameAlreadyInUseError` when the stream exists with another configuration,
                `ApiLevelError` when the server lacks a field; nothing was created then.

        Raises:
            TypeError, BadOptionsError: config is not a stream configuration.
        """
        self._store("CREATE", config, cb)

    @explained(other=_ONE_DICT)
    def stream_update(self, config: StreamConfig, cb: ResultCallback[StreamInfo]) -> None:
        """Change a stream's configuration; cb gets `StreamNotFoundError` when it does not exist.

        Arguments and errors otherwise as in `stream_create`.
        """
        self._store("UPDATE", config, cb)

    @explained(other=_ONE_DICT)
    def stream_create_or_update(self, config: StreamConfig, cb: ResultCallback[StreamInfo]) -> None:
        """Change a stream's configuration, or create the stream if it does not exist; see `stream_create`."""
        check_result_cb(cb)

        def updated(info: Any, error: NatsError | None) -> None:
            if not isinstance(error, StreamNotFoundError):
                cb(info, error)
                return
            try:
                later_step(self._store, "CREATE", config, cb)
            except NatsError as exc:
                cb(None, exc)

        self._store("UPDATE", config, updated)

    def stream_delete(self, name: str, cb: ResultCallback[Success]) -> None:
        """Delete a stream with all its messages and consumers; ``cb({"success": True}, err)``."""
        check_result_cb(cb)
        self._api.request(f"STREAM.DELETE.{name_of('stream', name)}", None, cb)

    def stream_info(
        self,
        name: str,
        opts: StreamInfoOptions | ResultCallback[StreamInfo] | None = None,
        cb: ResultCallback[StreamInfo] | None = None,
    ) -> None:
        """Ask for a stream's configuration and state; ``cb({"config", "state", "created", …}, err)``.

        Args:
            name: the stream's name.
            opts: deleted_details (True: state lists the deleted sequences), subjects_filter (a subject:
                state gets ``subjects``, the number of messages of each matching one; the client fetches
                all pages unless offset is given).
            cb: called once.
        """
        given, done = optional_middle(opts, cb)
        verb = f"STREAM.INFO.{name_of('stream', name)}"
        if not given:
            self._api.request(verb, None, done)
            return
        check_fields("stream info options", given, _INFO_FIELDS)
        check_filters(given, "subjects_filter")
        body = to_wire(given)
        if "subjects_filter" not in body or "offset" in body:
            self._api.request(verb, body, done)
            return

        def subjects_of(info: dict[str, Any]) -> list[Any]:
            return list(part(part(info, "state"), "subjects").items())

        def told(info: dict[str, Any] | None, items: list[Any], error: NatsError | None) -> None:
            if info is not None:
                info["state"] = {**part(info, "state"), "subjects": dict(items)}
            done(info, error)

        self._api.pages(verb, body, subjects_of, told)

    def stream_list(
        self,
        opts: StreamListOptions | ResultCallback[StreamList] | None = None,
        cb: ResultCallback[StreamList] | None = None,
    ) -> None:
        """List all streams; ``cb({"streams": [info, …], "total": n}, err)``, with all pages.

        In a cluster the answer also has ``missing``, the names of streams whose servers have not answered, if
        there are any. Streams that are created or deleted meanwhile make no other one missing or doubled.

        Args:
            opts: subject (only streams that store it).
            cb: called once.
        """
        self._list("STREAM.LIST", opts, cb, INFO, as_answer=True)

    def stream_names(
        self,
        opts: StreamListOptions | ResultCallback[list[str]] | None = None,
        cb: ResultCallback[list[str]] | None = None,
    ) -> None:
        """List the names of all streams; ``cb([name, …], err)``. Arguments as in `stream_list`."""
        self._list("STREAM.NAMES", opts, cb, str, as_answer=False)

    def stream_name_by_subject(self, subject: str, cb: ResultCallback[str]) -> None:
        """Find the stream that stores a subject; ``cb(name, err)``.

        cb gets `StreamNotFoundError` when no stream stores it.
        """
        check_result_cb(cb)
        check_subscribe(subject)

        def answered(answer: Any, error: NatsError | None) -> None:
            if error is not None:
                cb(None, error)
            elif names := answer.get("streams"):
                cb(names[0], None)
            else:
                missing = {"code": 404, "err_code": 10059, "description": "stream not found"}
                cb(None, APIError.of(missing))

        self._api.request("STREAM.NAMES", {"subject": subject}, answered, shape={"streams": [str]})

    def stream_purge(
        self,
        name: str,
        opts: StreamPurgeOptions | ResultCallback[PurgeResult] | None = None,
        cb: ResultCallback[PurgeResult] | None = None,
    ) -> None:
        """Delete a stream's messages; ``cb({"success", "purged"}, err)``.

        Args:
            name: the stream's name.
            opts: filter (a subject: only its messages), and either seq (only messages before this sequence,
                1 or more) or keep (the number of newest messages that stay).
            cb: called once.
        """
        given, done = optional_middle(opts, cb)
        given = given or {}
        check_fields("purge options", given, _PURGE_FIELDS)
        check_filters(given, "filter")
        if given.get("seq") is not None:
            integer(given["seq"], "seq", 1, MAX_SEQUENCE)  # a server takes 0 for "not given": all
        if given.get("keep") is not None:
            integer(given["keep"], "keep", 0, MAX_SEQUENCE)
        if given.get("seq") and given.get("keep"):
            raise BadOptionsError("seq and keep exclude each other")
        body = to_wire(given) or None
        self._api.request(f"STREAM.PURGE.{name_of('stream', name)}", body, done)

    # Their messages.

    def stream_msg_get(
        self, stream: str, opts: MsgGetOptions, cb: ResultCallback[MsgGetResult]
    ) -> None:
        """Read one message as the server's answer: ``message`` with data and hdrs in base64.

        `get_msg` decodes it.

        Args:
            stream: the stream's name.
            opts: seq, or last_by_subj, or next_by_subj with or without a seq to start at.
            cb: called once.
        """
        check_result_cb(cb)
        verb = f"STREAM.MSG.GET.{name_of('stream', stream)}"
        self._api.request(verb, get_opts(opts), cb, shape=MESSAGE)

    def get_msg(
        self, stream: str, opts: MsgGetOptions | int, cb: ResultCallback[StoredMsg]
    ) -> None:
        """Read one message from the stream's leader; ``cb(StoredMsg, err)``.

        Args:
            stream: the stream's name.
            opts: a sequence, or a dict as in `stream_msg_get`.
            cb: gets `MessageNotFoundError` when the message does not exist.
        """
        check_result_cb(cb)

        opts = {"seq": opts} if isinstance(opts, int) else opts
        decoded = converted(lambda answer: _stored(stream, answer["message"]), cb)
        self.stream_msg_get(stream, opts, decoded)

    def get_last_msg(self, stream: str, subject: str, cb: ResultCallback[StoredMsg]) -> None:
        """Read the last message of a subject, which may have wildcards; see `get_msg`."""
        self.get_msg(stream, {"last_by_subj": subject}, cb)

    def stream_msg_delete(self, stream: str, seq: int, cb: ResultCallback[Success]) -> None:
        """Mark a message as deleted; `stream_msg_erase` also overwrites its data. ``cb(answer, err)``."""
        self._delete(stream, {"seq": seq, "no_erase": True}, cb)

    def stream_msg_erase(self, stream: str, seq: int, cb: ResultCallback[Success]) -> None:
        """Delete a message and overwrite its data with random bytes (slow); ``cb(answer, err)``."""
        self._delete(stream, {"seq": seq}, cb)

    def _delete(self, stream: str, body: dict[str, Any], cb: Callback) -> None:
        check_result_cb(cb)
        integer(body["seq"], "seq")
        self._api.request(f"STREAM.MSG.DELETE.{name_of('stream', stream)}", body, cb)

    def _store(self, verb: str, config: object, cb: Callback) -> None:
        check_result_cb(cb)
        body, needs = stream_config(config)
        subject = f"STREAM.{verb}.{name_of('stream', body.get('name'))}"
        store_stream(self._api, subject, body, needs, cb)

    def _list(
        self, verb: str, opts: Any, cb: Callback | None, item: Shape, *, as_answer: bool
    ) -> None:
        opts, done = optional_middle(opts, cb)
        opts = opts or {}
        check_fields("list options", opts, _LIST_FIELDS)
        check_filters(opts, "subject")

        def listed(items: Any, error: NatsError | None, missing: list[Any]) -> None:
            if error is not None or not as_answer:
                done(items, error)
            else:
                lacks = {"missing": missing} if missing else {}
                done({"streams": items, "total": len(items), **lacks}, None)

        self._api.all_items(verb, to_wire(opts), "streams", item, listed)


def _stored(stream: str, message: Mapping[str, Any]) -> StoredMsg:
    headers = message.get("hdrs")
    return StoredMsg(
        stream,
        message["subject"],
        message["seq"],
        message.get("time") or "",
        base64.b64decode(message.get("data") or ""),
        base64.b64decode(headers) if headers else None,
    )
