"""What a user sees on the objects of JetStream: exactly the names that he may use, and a repr that helps."""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import pytest

from nats_ev import (
    BadOptionsError,
    Headers,
    JetStream,
    JsMsg,
    NatsError,
    OrderedConsumer,
    StoredMsg,
)

SECRET = "s3cr3t"
FLOW = {"closed", "drain", "name", "stop", "stream", "ask", "pause", "paused", "resume"}
BATCH = {"add", "close", "closed", "commit", "size"}
MESSAGE = {"data", "header", "headers", "payload", "subject"}

# Handle → its public names.
NAMES: dict[str, set[str]] = {
    "Consume": FLOW,
    "OrderedConsumer": FLOW | {"last_seq", "resets"},
    "PushSubscription": FLOW,
    "OrderedFetcher": {"fetch", "last_seq", "next", "stream"},
    "AtomicBatch": BATCH | {"discard", "id"},
    "FastBatch": BATCH | {"acked", "sent"},
    "JsMsg": MESSAGE
    | {"ack", "ack_sync", "acked", "double_ack", "in_progress", "metadata", "nak", "reply", "seq"}
    | {"term"},
    "StoredMsg": MESSAGE | {"num_pending", "seq", "stream", "time"},
    "JetStream": {"nats", "prefix", "domain", "timeout", "account_info", "advisories"}
    | {"event_prefix", "from_context"}
    | {"stream_create", "stream_update", "stream_create_or_update", "stream_delete", "stream_info"}
    | {"stream_list", "stream_names", "stream_name_by_subject", "stream_purge"}
    | {"stream_msg_get", "stream_msg_delete", "stream_msg_erase", "get_msg", "get_last_msg"}
    | {"direct_get", "direct_get_last", "direct_get_batch"}
    | {"consumer_create", "consumer_update", "consumer_create_or_update", "consumer_delete"}
    | {"consumer_info", "consumer_list", "consumer_names", "consumer_pause", "consumer_resume"}
    | {"consumer_unpin", "consumer_reset"}
    | {"fetch", "next", "consume", "ordered_consumer", "ordered_fetcher", "push_subscribe"}
    | {"publish", "publish_async", "publish_async_pending", "publish_ready", "publish_complete"}
    | {"atomic_batch", "fast_batch"}
    | {"stream_snapshot", "stream_restore", "stream_leader_stepdown", "consumer_leader_stepdown"}
    | {"meta_leader_stepdown", "meta_peer_evacuate", "meta_peer_remove", "stream_peer_evacuate"}
    | {"stream_peer_remove", "stream_cancel_move", "wait_until_converged"},
}

# nats.go's word → the manual's.
ALIASES = {
    "create_stream": "stream_create",
    "update_stream": "stream_update",
    "create_or_update_stream": "stream_create_or_update",
    "delete_stream": "stream_delete",
    "list_streams": "stream_list",
    "purge_stream": "stream_purge",
    "get_last_msg_for_subject": "get_last_msg",
    "delete_msg": "stream_msg_delete",
    "secure_delete_msg": "stream_msg_erase",
    "create_consumer": "consumer_create",
    "update_consumer": "consumer_update",
    "create_or_update_consumer": "consumer_create_or_update",
    "delete_consumer": "consumer_delete",
    "list_consumers": "consumer_list",
    "pause_consumer": "consumer_pause",
    "resume_consumer": "consumer_resume",
    "unpin_consumer": "consumer_unpin",
    "reset_consumer": "consumer_reset",
    "publish_async_complete": "publish_complete",
    "js_publish": "publish",
}


@pytest.fixture
def handles(js: JetStream, call: Any, run: Any) -> Iterator[dict[str, Any]]:
    """One of each, in use: the stream S has a message with a secret in its data and headers."""
    stream = {"name": "S", "subjects": ["s"], "storage": "memory", "allow_direct": True}
    call(js.stream_create, stream)
    _, error = call(js.publish, "s", SECRET, headers={"Authorization": SECRET})
    assert error is None, error
    call(js.consumer_create, "S", {"durable_name": "C", "ack_policy": "explicit"})
    got: list[Any] = []
    push = {"deliver_subject": "push.here", "name": "P"}
    running = {
        "Consume": js.consume("S", "C", lambda *a: got.append(("Consume", *a))),
        "OrderedConsumer": js.ordered_consumer("S", lambda *a: got.append(("Ordered", *a))),
        "PushSubscription": js.push_subscribe("S", push, lambda *a: got.append(("Push", *a))),
    }
    run(lambda: len(got) == 3)
    assert all(error is None for _, _, error in got), got
    messages = {name: message for name, message, _ in got}
    stored, _ = call(js.get_msg, "S", 1)
    yield {
        **running,
        "OrderedFetcher": js.ordered_fetcher("S"),
        "AtomicBatch": js.atomic_batch(),
        "FastBatch": js.fast_batch(),
        "JsMsg": messages["Consume"],
        "ordered": messages["Ordered"],
        "StoredMsg": stored,
        "JetStream": js,
    }
    for handle in running.values():
        handle.stop()


def public(thing: object) -> set[str]:
    return {name for name in dir(thing) if not name.startswith("_")}


def test_what_completion_shows_is_what_a_user_may_call(handles: dict[str, Any]) -> None:
    for name, expected in NAMES.items():
        if name == "JetStream":
            expected = expected | set(ALIASES)
        assert type(handles[name]).__name__ == name
        assert public(handles[name]) == expected, name
    assert public(handles["ordered"]) == NAMES["JsMsg"]


def test_every_public_name_of_a_handle_is_documented(handles: dict[str, Any]) -> None:
    for name in NAMES:
        kind = type(handles[name])
        for attribute in public(handles[name]):
            found = inspect.getattr_static(kind, attribute, None)
            if inspect.isfunction(found) or isinstance(found, (property, classmethod)):
                assert inspect.getdoc(found), f"{name}.{attribute}"
            else:  # set in __init__, or a slot: the class's or a base's docstring says what it is
                docs = " ".join(base.__doc__ or "" for base in kind.__mro__[:-1])
                assert re.search(rf"\b{attribute}\b", docs), f"{name}.{attribute}"


@pytest.mark.parametrize(
    ("handle", "pattern"),
    [
        ("Consume", r"<Consume S C running>"),
        ("OrderedConsumer", r"<OrderedConsumer S at 1>"),
        ("PushSubscription", r"<PushSubscription S P running>"),
        ("OrderedFetcher", r"<OrderedFetcher S at 0>"),
        ("AtomicBatch", r"<AtomicBatch 0 messages open>"),
        ("FastBatch", r"<FastBatch 0 messages open>"),
        ("JsMsg", r"<JsMsg 's' S 1 6 bytes>"),
        ("ordered", r"<JsMsg 's' S 1 6 bytes>"),
        ("StoredMsg", r"<StoredMsg S 1 's' 6 bytes>"),
        ("JetStream", r"<JetStream \$JS\.API <Nats .*>>"),
    ],
)
def test_a_repr_says_what_and_how_far_and_no_secret(
    handles: dict[str, Any], handle: str, pattern: str
) -> None:
    shown = repr(handles[handle])
    assert re.fullmatch(pattern, shown), shown
    assert SECRET not in shown


def test_a_repr_says_that_it_is_over(handles: dict[str, Any]) -> None:
    for name in ("Consume", "OrderedConsumer", "PushSubscription"):
        handles[name].stop()
        assert handles[name].closed
        assert repr(handles[name]).endswith(" closed>")


def test_an_ordered_consumers_message_is_a_js_msg_for_all_who_look(handles: dict[str, Any]) -> None:
    message = handles["ordered"]
    assert isinstance(message, JsMsg)
    assert repr(type(message)) == repr(JsMsg) == "<class 'nats_ev.JsMsg'>"
    assert not message.acked
    with pytest.raises(NatsError, match="can not be acknowledged"):
        message.ack()


def test_both_kinds_of_messages_have_the_same_content(handles: dict[str, Any]) -> None:
    stored: StoredMsg = handles["StoredMsg"]
    for message in (handles["JsMsg"], handles["ordered"], stored):
        assert message.payload == message.data == SECRET.encode()
        assert message.header("Authorization") == SECRET
        assert message.header("X", "none") == "none"
        assert not hasattr(message, "__dict__")


@pytest.mark.parametrize(("word", "name"), ALIASES.items())
def test_an_alias_is_the_same_function(word: str, name: str) -> None:
    assert getattr(JetStream, word) is getattr(JetStream, name)


def test_every_word_of_the_manual_has_one_of_nats_go() -> None:
    """Where both are the same, or nats.go has none, the word stands here."""
    same = {
        "stream_info", "stream_names", "stream_name_by_subject", "consumer_info", "consumer_names",
        "stream_msg_get",  # get_msg, decoded
        "stream_snapshot", "stream_restore", "stream_leader_stepdown", "consumer_leader_stepdown",
        "stream_peer_evacuate", "stream_peer_remove", "stream_cancel_move",
    }  # fmt: skip
    words = {name for name in public(JetStream) if re.match("(stream|consumer)_", name)}
    assert words - same == {name for name in ALIASES.values() if name in words}


# Options that are the client's, not the wire's.


def test_options_of_the_client_may_be_keywords(js: JetStream, call: Any, run: Any) -> None:
    call(js.stream_create, {"name": "S", "subjects": ["s"], "storage": "memory"})
    for _ in range(3):
        call(js.publish, "s", b"x")
    call(js.consumer_create, "S", {"durable_name": "C", "ack_policy": "none"})
    errors: list[Any] = []
    infos: list[Any] = []
    got: list[Any] = []
    consume = js.consume("S", "C", lambda m, e: got.append(m), stop_after=2, on_error=errors.append)
    run(lambda: consume.closed)
    assert [msg.seq for msg in got] == [1, 2]
    ordered = js.ordered_consumer(
        "S",
        lambda m, e: got.append(m),
        on_start=infos.append,
        on_error=errors.append,
        stop_after=3,
        max_reset_attempts=1,
        name_prefix="mine",
    )
    run(lambda: ordered.closed)
    assert [msg.seq for msg in got[2:]] == [1, 2, 3]
    assert infos[0]["name"] == "mine_1" == ordered.name
    push = js.push_subscribe(
        "S",
        {"name": "P"},
        lambda m, e: got.append(m),
        on_start=infos.append,
        on_error=errors.append,
    )
    run(lambda: len(got) == 8)
    assert infos[1]["name"] == "P"
    push.stop()
    fetcher = js.ordered_fetcher("S", {"opt_start_seq": 2, "deliver_policy": "by_start_sequence"},
                                 name_prefix="fetcher", max_reset_attempts=0)  # fmt: skip
    message, error = call(fetcher.next, {"expires": timedelta(seconds=5)})
    assert error is None
    assert message.metadata.consumer == "fetcher_1_1"
    assert errors == []
    assert js.fast_batch(flow=7, gap_ok=True).size == 0


def test_an_option_in_both_places_is_refused(js: JetStream) -> None:
    def callback(*args: Any) -> None:
        raise AssertionError

    with pytest.raises(TypeError, match="stop_after is given twice"):
        js.consume("S", "C", {"stop_after": 1}, callback, stop_after=2)
    with pytest.raises(TypeError, match="on_start is given twice"):
        js.push_subscribe("S", "P", {"on_start": callback}, callback, on_start=callback)
    with pytest.raises(TypeError, match="on_error must be callable"):
        js.consume("S", "C", callback, on_error=3)  # type: ignore[arg-type]
    with pytest.raises(BadOptionsError, match="stop_after must be 1 or more"):
        js.ordered_consumer("S", callback, stop_after=-1)
    with pytest.raises(TypeError, match="unknown option 'msgid' of publish"):
        js.publish("s", b"", callback, msgid="x")  # type: ignore[call-arg]
    with pytest.raises(TypeError, match="ttl and msg_ttl are the same option"):
        js.publish("s", b"", callback, msgid=None, ttl=1000, msg_ttl=2000)  # type: ignore[call-arg]


def test_help_shows_all_of_publish() -> None:
    for method in (JetStream.publish, JetStream.publish_async):
        parameters = inspect.signature(method).parameters
        assert list(parameters) == [
            "self", "subject", "payload", "cb", "headers", "timeout", "retry_attempts", "retry_wait",
            "options",
        ]  # fmt: skip


# The lost error of a drain.


def test_a_drain_that_a_lost_connection_cuts_short_passes_its_error_on(
    connected: Any, line_server: Any, call: Any, run: Any
) -> None:
    """One of an ordered consumer, too, as that of `consume`."""
    js = JetStream(connected(line_server("newest")))
    call(js.stream_create, {"name": "S", "subjects": ["s"], "storage": "memory"})
    call(js.publish, "s", b"x")
    call(js.consumer_create, "S", {"durable_name": "C", "ack_policy": "explicit"})
    got: list[Any] = []
    running = (
        js.consume("S", "C", lambda *message: got.append(message)),
        js.ordered_consumer("S", lambda *message: got.append(message)),
    )
    run(lambda: len(got) == 2)
    done: list[Any] = []
    for each in running:
        each.drain(lambda *answer: done.append(answer))
    js.nats.disconnect()
    run(lambda: len(done) == 2)
    assert [(result, str(error)) for result, error in done] == [(None, "disconnected")] * 2
    assert [each.closed for each in running] == [True, True]


@pytest.mark.parametrize("moment", ["on_error", "on_disconnect", "on_connect"])
def test_the_drain_of_an_ordered_consumer_after_a_loss_is_no_success(
    connected: Any, line_server: Any, call: Any, run: Any, proxy: Any, moment: str
) -> None:
    """Whenever that is before the next consumer delivers: what was on its way has not arrived."""
    through = proxy(line_server("newest").port)
    nats = connected(through, reconnect=True, reconnect_delay=20)
    js = JetStream(nats)
    call(js.stream_create, {"name": "LOST", "subjects": ["lost"], "storage": "memory"})
    call(js.publish, "lost", b"x")
    got: list[Any] = []
    done: list[Any] = []
    handle = js.ordered_consumer("LOST", lambda *message: got.append(message))
    run(lambda: got)
    getattr(nats, moment)(lambda *args: handle.drain(lambda *answer: done.append(answer)))
    through.cut(reset=True)
    run(lambda: done)
    assert [(result, str(error)) for result, error in done] == [(None, "disconnected")]
    assert handle.closed
    assert handle.last_seq == len(got)
    run(nats.is_connected)
    call(js.stream_delete, "LOST")


# The header block of a message.


@pytest.mark.parametrize(
    ("headers", "expected"),
    [
        (None, b"NATS/1.0\r\nNats-Msg-Id: 1\r\n\r\n"),
        ({}, b"NATS/1.0\r\nNats-Msg-Id: 1\r\n\r\n"),
        ({"A": ["x", "y"]}, b"NATS/1.0\r\nA: x\r\nA: y\r\nNats-Msg-Id: 1\r\n\r\n"),
        ({"Nats-Msg-Id": "9", "A": "x"}, b"NATS/1.0\r\nA: x\r\nNats-Msg-Id: 1\r\n\r\n"),
        (Headers({"A": "x"}), b"NATS/1.0\r\nA: x\r\nNats-Msg-Id: 1\r\n\r\n"),
        (b"NATS/1.0\r\nA: x\r\n\r\n", b"NATS/1.0\r\nA: x\r\nNats-Msg-Id: 1\r\n\r\n"),
        (b"NATS/1.0\r\nNats-Msg-Id:9\r\n\r\n", b"NATS/1.0\r\nNats-Msg-Id: 1\r\n\r\n"),
        ({"X-Nats-Msg-Id": "9"}, b"NATS/1.0\r\nX-Nats-Msg-Id: 9\r\nNats-Msg-Id: 1\r\n\r\n"),
    ],
)
def test_options_join_a_messages_headers(
    js: JetStream, call: Any, run: Any, headers: Any, expected: bytes
) -> None:
    got: list[Any] = []
    js.nats.subscribe("h", lambda *message: got.append(message))
    js.publish("h", b"", lambda ack, err: None, headers=headers, msg_id="1", retry_attempts=0)
    run(lambda: got)
    assert got[0][3] == expected


@pytest.mark.parametrize("value", ["a\r\nb", "a\nb", "a\0", "\ud800"])
def test_an_option_can_not_break_out_of_its_line(js: JetStream, value: str) -> None:
    with pytest.raises(NatsError, match="invalid"):
        js.publish("h", b"", lambda ack, err: None, msg_id=value)


def test_ordered_consumer_is_the_class_that_users_import(handles: dict[str, Any]) -> None:
    assert type(handles["OrderedConsumer"]) is OrderedConsumer
