"""Whatever a server or another client answers: each completion comes once, and the next call works.

Every method of the upper layers that takes a completion is crossed with every shape of `lab.odd_answers`. The
answer of each kind of request that the method makes is odd in turn, while all others are right.
"""

from __future__ import annotations

import base64
import json
import socket
import time
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest

from lab import inside
from lab.broker import broker
from lab.odd_answers import TIME, Case, OddServer, object_info, shapes
from nats_ev import (
    KV,
    Advisory,
    BadObjectMetaError,
    InvalidAnswerError,
    JetStream,
    JsMsg,
    KvEntry,
    NatsError,
    ObjectLinkError,
    ObjectStore,
    Service,
    StoredMsg,
)
from nats_ev.jetstream import pull_options
from nats_ev.object_store import download
from nats_ev.times import SECOND

SHAPES = shapes()
SIMPLE = [shape for shape in SHAPES if shape.name.startswith(("raw", "all", "headers"))]
JSON = [shape for shape in SHAPES if shape.block is None and shape.ack is None]


# Arguments of -ERR: numbers and escapes that no server sends, one text that a server may send.
ERRORS = [
    b'Permissions Violation for Subscription to "a" (sid "%s")' % (b"9" * 5_000),
    b'Permissions Violation for Subscription to "a" (sid "%s")' % (b"9" * 19),
    b'Permissions Violation for Publish to "\\UFFFFFFFF"',
    b'Permissions Violation for Publish to "\\U00110000\\ud800\\xff\\"',
    b'Permissions Violation for Publish to "' + b"\\" * 999,
    b"\xff\xfe\x00\x01",
    b"",
    b"what?",
]


def a_list_of(*kinds: type) -> Callable[[Any], bool]:
    return lambda value: type(value) is list and all(isinstance(item, kinds) for item in value)


def a(*kinds: type) -> Callable[[Any], bool]:
    return lambda value: type(value) in kinds or (JsMsg in kinds and isinstance(value, JsMsg))


def nothing_or(check: Callable[[Any], bool]) -> Callable[[Any], bool]:
    return lambda value: value is None or check(value)


class Life:
    """The objects of one case: their requests, and those only, get its answers."""

    def __init__(self, nats: Any, number: int) -> None:
        self.js = JetStream(nats, prefix=f"ODD.{number}", timeout=1500)
        self.kv = KV(self.js, f"b{number}")
        self.store = ObjectStore(self.js, f"b{number}")
        self.subject = f"odd.{number}.x"
        self.stream = f"S_b{number}"
        self.puts, self.put_name = self.store, "o"


STREAM = {"name": "S", "subjects": ["x"]}
IN_AN_HOUR = timedelta(hours=1)


def atomic(life: Life, cb: Any) -> None:
    batch = life.js.atomic_batch()
    batch.add(life.subject, b"1")
    batch.id = "B"
    batch.commit(life.subject, b"2", cb)


def fast(life: Life, cb: Any) -> None:
    batch = life.js.fast_batch()
    batch.add(life.subject, b"1")
    batch.commit(life.subject, b"2", cb)


def fast_message(life: Life, cb: Any) -> None:
    batch = life.js.fast_batch()
    batch.add(life.subject, b"1", cb)
    batch.close(lambda ack, error: None)


# Name → (the requests that it makes, what its result is, the call).
Method = tuple[str, Callable[[Any], bool], Callable[[Life, Any], Any]]
STREAMS: dict[str, Method] = {
    "account_info": ("INFO", a(dict), lambda t, cb: t.js.account_info(cb)),
    "stream_create": (
        "STREAM.CREATE", a(dict),
        lambda t, cb: t.js.stream_create({**STREAM, "name": t.stream}, cb),
    ),
    "stream_create ttl": (
        "STREAM.CREATE INFO", a(dict),
        lambda t, cb: t.js.stream_create({"name": t.stream, "allow_msg_ttl": True}, cb),
    ),
    "stream_update": (
        "STREAM.UPDATE", a(dict),
        lambda t, cb: t.js.stream_update({**STREAM, "name": t.stream}, cb),
    ),
    "stream_create_or_update": (
        "STREAM.UPDATE", a(dict),
        lambda t, cb: t.js.stream_create_or_update({**STREAM, "name": t.stream}, cb),
    ),
    "stream_delete": ("STREAM.DELETE", a(dict), lambda t, cb: t.js.stream_delete(t.stream, cb)),
    "stream_info": ("STREAM.INFO", a(dict), lambda t, cb: t.js.stream_info(t.stream, cb)),
    "stream_info subjects": (
        "STREAM.INFO", a(dict),
        lambda t, cb: t.js.stream_info(t.stream, {"subjects_filter": ">"}, cb),
    ),
    "stream_list": ("STREAM.LIST", a(dict), lambda t, cb: t.js.stream_list(cb)),
    "stream_names": ("STREAM.NAMES", a_list_of(str), lambda t, cb: t.js.stream_names(cb)),
    "stream_name_by_subject": (
        "STREAM.NAMES", a(str),
        lambda t, cb: t.js.stream_name_by_subject("x", cb),
    ),
    "stream_purge": ("STREAM.PURGE", a(dict), lambda t, cb: t.js.stream_purge(t.stream, cb)),
    "stream_msg_get": (
        "STREAM.MSG.GET", a(dict),
        lambda t, cb: t.js.stream_msg_get(t.stream, {"seq": 1}, cb),
    ),
    "get_msg": ("STREAM.MSG.GET", a(StoredMsg), lambda t, cb: t.js.get_msg(t.stream, 1, cb)),
    "get_last_msg": (
        "STREAM.MSG.GET", a(StoredMsg),
        lambda t, cb: t.js.get_last_msg(t.stream, "x", cb),
    ),
    "stream_msg_delete": (
        "STREAM.MSG.DELETE", a(dict),
        lambda t, cb: t.js.stream_msg_delete(t.stream, 1, cb),
    ),
    "stream_msg_erase": (
        "STREAM.MSG.DELETE", a(dict),
        lambda t, cb: t.js.stream_msg_erase(t.stream, 1, cb),
    ),
    "direct_get": ("DIRECT.GET", a(StoredMsg), lambda t, cb: t.js.direct_get(t.stream, 1, cb)),
    "direct_get_last": (
        "DIRECT.GET", a(StoredMsg),
        lambda t, cb: t.js.direct_get_last(t.stream, "x", cb),
    ),
    "direct_get_batch": (
        "DIRECT.GET INFO", a_list_of(StoredMsg),
        lambda t, cb: t.js.direct_get_batch(t.stream, {"batch": 2}, cb),
    ),
    "publish": ("PUB", a(dict), lambda t, cb: t.js.publish(t.subject, b"x", cb)),
    "publish ttl": ("PUB INFO", a(dict), lambda t, cb: t.js.publish(t.subject, b"x", cb, ttl=1000)),
    "publish_async": ("PUB", a(dict), lambda t, cb: t.js.publish_async(t.subject, b"x", cb)),
    "publish_complete": (
        "PUB", a(bool),
        lambda t, cb: (t.js.publish_async(t.subject, b"x", lambda *_: None), t.js.publish_complete(cb)),
    ),
    "atomic_batch": ("PUB INFO", a(dict), atomic),
    "fast_batch": ("FAST INFO", a(dict), fast),
    "fast_batch add": ("FAST INFO", a(dict), fast_message),
}  # fmt: skip
CONSUMERS: dict[str, Method] = {
    "consumer_create": (
        "CONSUMER.CREATE", a(dict),
        lambda t, cb: t.js.consumer_create(t.stream, {"durable_name": "c"}, cb),
    ),
    "consumer_update": (
        "CONSUMER.CREATE", a(dict),
        lambda t, cb: t.js.consumer_update(t.stream, {"durable_name": "c"}, cb),
    ),
    "consumer_create_or_update": (
        "CONSUMER.CREATE", a(dict),
        lambda t, cb: t.js.consumer_create_or_update(t.stream, {"name": "c"}, cb),
    ),
    "consumer_delete": (
        "CONSUMER.DELETE", a(dict),
        lambda t, cb: t.js.consumer_delete(t.stream, "c", cb),
    ),
    "consumer_info": (
        "CONSUMER.INFO", a(dict),
        lambda t, cb: t.js.consumer_info(t.stream, "c", cb),
    ),
    "consumer_list": ("CONSUMER.LIST", a(dict), lambda t, cb: t.js.consumer_list(t.stream, cb)),
    "consumer_names": (
        "CONSUMER.NAMES", a_list_of(str),
        lambda t, cb: t.js.consumer_names(t.stream, cb),
    ),
    "consumer_pause": (
        "CONSUMER.PAUSE INFO", a(dict),
        lambda t, cb: t.js.consumer_pause(t.stream, "c", IN_AN_HOUR, cb),
    ),
    "consumer_resume": (
        "CONSUMER.PAUSE INFO", a(dict),
        lambda t, cb: t.js.consumer_resume(t.stream, "c", cb),
    ),
    "consumer_unpin": (
        "CONSUMER.UNPIN INFO", a(dict),
        lambda t, cb: t.js.consumer_unpin(t.stream, "c", "g", cb),
    ),
    "consumer_reset": (
        "CONSUMER.RESET INFO", a(dict),
        lambda t, cb: t.js.consumer_reset(t.stream, "c", cb),
    ),
    "fetch": (
        "CONSUMER.MSG.NEXT", a_list_of(JsMsg),
        lambda t, cb: t.js.fetch(t.stream, "c", {"expires": timedelta(milliseconds=100)}, cb),
    ),
    "fetch group": (
        "CONSUMER.MSG.NEXT INFO", a_list_of(JsMsg),
        lambda t, cb: t.js.fetch(t.stream, "c", {"expires": timedelta(milliseconds=100), "group": "g"}, cb),
    ),
    "next": (
        "CONSUMER.MSG.NEXT", a(JsMsg),
        lambda t, cb: t.js.next(t.stream, "c", {"expires": timedelta(milliseconds=100)}, cb),
    ),
    "ordered fetch": (
        "CONSUMER.CREATE CONSUMER.MSG.NEXT", a_list_of(JsMsg),
        lambda t, cb: t.js.ordered_fetcher(t.stream).fetch({"expires": timedelta(milliseconds=400)}, cb),
    ),
    "ordered next": (
        "CONSUMER.CREATE CONSUMER.MSG.NEXT", a(JsMsg),
        lambda t, cb: t.js.ordered_fetcher(t.stream).next({"expires": timedelta(milliseconds=400)}, cb),
    ),
    "ordered no_wait": (
        "CONSUMER.CREATE", a_list_of(JsMsg),
        lambda t, cb: t.js.ordered_fetcher(t.stream).fetch({"no_wait": True}, cb),
    ),
}  # fmt: skip
LISTING = "STREAM.INFO CONSUMER.CREATE CONSUMER.INFO CONSUMER.MSG.NEXT"
KEYS: dict[str, Method] = {
    "create_bucket": ("STREAM.CREATE", a(dict), lambda t, cb: t.kv.create_bucket({}, cb)),
    "update_bucket": (
        "STREAM.INFO STREAM.UPDATE", a(dict),
        lambda t, cb: t.kv.update_bucket({"history": 3}, cb),
    ),
    "create_or_update_bucket": (
        "STREAM.INFO STREAM.UPDATE", a(dict),
        lambda t, cb: t.kv.create_or_update_bucket({}, cb),
    ),
    "delete_bucket": ("STREAM.DELETE", a(bool), lambda t, cb: t.kv.delete_bucket(cb)),
    "kv status": ("STREAM.INFO", a(dict), lambda t, cb: t.kv.status(cb)),
    "bucket_names": ("STREAM.NAMES", a_list_of(str), lambda t, cb: KV.bucket_names(t.js, cb)),
    "buckets": ("STREAM.LIST", a_list_of(dict), lambda t, cb: KV.buckets(t.js, cb)),
    "get": ("STREAM.INFO DIRECT.GET", nothing_or(a(bytes)), lambda t, cb: t.kv.get("k", cb)),
    "entry": ("STREAM.INFO DIRECT.GET", nothing_or(a(KvEntry)), lambda t, cb: t.kv.entry("k", cb)),
    "get_revision": (
        "STREAM.INFO DIRECT.GET", a(KvEntry),
        lambda t, cb: t.kv.get_revision("k", 7, cb),
    ),
    "put": ("STREAM.INFO PUB", a(int), lambda t, cb: t.kv.put("k", b"v", cb)),
    "create": ("STREAM.INFO PUB", a(int), lambda t, cb: t.kv.create("k", b"v", cb)),
    "create ttl": (
        "STREAM.INFO PUB INFO", a(int),
        lambda t, cb: t.kv.create("k", b"v", cb, ttl=1000),
    ),
    "update": ("STREAM.INFO PUB", a(int), lambda t, cb: t.kv.update("k", b"v", 6, cb)),
    "kv delete": ("STREAM.INFO PUB", a(bool), lambda t, cb: t.kv.delete("k", cb)),
    "purge": ("STREAM.INFO PUB", a(bool), lambda t, cb: t.kv.purge("k", cb)),
    "history": (LISTING, a_list_of(KvEntry), lambda t, cb: t.kv.history("k", cb)),
    "keys": (LISTING, a_list_of(str), lambda t, cb: t.kv.keys(cb)),
    "purge_deletes": (f"{LISTING} STREAM.PURGE", a(int), lambda t, cb: t.kv.purge_deletes(0, cb)),
}  # fmt: skip
CONTENT = "STREAM.MSG.GET OBJECT"
OBJECTS: dict[str, Method] = {
    "create store": ("STREAM.CREATE", a(dict), lambda t, cb: t.store.create_bucket({}, cb)),
    "seal": ("STREAM.INFO STREAM.UPDATE", a(bool), lambda t, cb: t.store.seal(cb)),
    "store status": ("STREAM.INFO", a(dict), lambda t, cb: t.store.status(cb)),
    "stores": ("STREAM.LIST", a_list_of(dict), lambda t, cb: ObjectStore.buckets(t.js, cb)),
    "object put": (
        f"{CONTENT} PUB STREAM.PURGE", a(dict),
        lambda t, cb: t.puts.put(t.put_name, b"content", cb),
    ),
    "object get": (
        f"{CONTENT} CONSUMER.CREATE CONSUMER.MSG.NEXT", nothing_or(a(bytes)),
        lambda t, cb: t.store.get("o", cb),
    ),
    "object info": (CONTENT, nothing_or(a(dict)), lambda t, cb: t.store.info("o", cb)),
    "list": (
        "CONSUMER.CREATE CONSUMER.INFO CONSUMER.MSG.NEXT OBJECT", a_list_of(str),
        lambda t, cb: t.store.list(cb),
    ),
    "list_infos": (
        "CONSUMER.CREATE CONSUMER.INFO CONSUMER.MSG.NEXT OBJECT", a_list_of(dict),
        lambda t, cb: t.store.list_infos(cb),
    ),
    "object delete": (
        f"{CONTENT} PUB STREAM.PURGE", a(bool),
        lambda t, cb: t.store.delete("o", cb),
    ),
    "update_meta": (
        f"{CONTENT} PUB", a(dict),
        lambda t, cb: t.store.update_meta("o", {"description": "e"}, cb),
    ),
    "rename": (
        f"{CONTENT} PUB STREAM.PURGE", a(dict),
        lambda t, cb: t.store.update_meta("o", {"name": "p"}, cb),
    ),
    "add_link": (f"{CONTENT} PUB", a(dict), lambda t, cb: t.store.add_link("l", "o", cb)),
    "add_bucket_link": (
        f"{CONTENT} PUB", a(dict),
        lambda t, cb: t.store.add_bucket_link("l", "other", cb),
    ),
}  # fmt: skip


def test_there_are_enough_shapes() -> None:
    assert len(SHAPES) >= 160


@pytest.mark.slow
@pytest.mark.parametrize(
    "methods", [STREAMS, CONSUMERS, KEYS, OBJECTS], ids=["streams", "consumers", "keys", "objects"]
)
def test_each_completion_comes_once_and_the_next_call_works(
    methods, fake, connected, run, monkeypatch
):
    """Thousands of odd answers in one client's life, then the same calls with right ones."""
    monkeypatch.setattr(download, "RETRY_FOR", 2.0)
    monkeypatch.setattr(pull_options, "SECOND", SECOND // 10)  # heartbeats
    cases, calls = [], []
    for name, (verbs, check, call) in methods.items():
        for verb in ["*", *verbs.split()]:
            # For time's sake every other one, and the others for the next request.
            for shape in SIMPLE if verb == "*" else SHAPES[len(cases) % 2 :: 2]:
                calls.append((f"{name}, {verb}: {shape.name}", call, check))
                cases.append(Case(frozenset([verb]), shape))
    server = OddServer(cases)
    nats = connected(fake(server), on_error=lambda error: None)
    lives = [Life(nats, number) for number in range(len(cases))]
    assert outcomes(nats, run, lives, calls) == []
    server.odd = False
    for case in cases:
        case.sent.clear()
    wrong = outcomes(nats, run, lives[::3], calls[::3], right=True)
    # An API level of 0, which older servers have, counts for a minute.
    assert [line for line in wrong if "ApiLevelError" not in line] == []
    assert len(wrong) < len(SHAPES)


@pytest.mark.parametrize("kind", [KeyError, ValueError, RecursionError, BadObjectMetaError])
def test_what_a_users_callback_raises_is_no_odd_answer(kind, fake, connected, run, excepthook):
    """A callback that raises just what a conversion may raise is called once, and the exception reported."""
    methods = {**STREAMS, **CONSUMERS, **KEYS, **OBJECTS}
    nats = connected(fake(OddServer([Case(frozenset(), SHAPES[0]) for _ in methods])))
    called: list[str] = []

    def raising(name: str) -> Callable[..., None]:
        def cb(result: Any, error: Any) -> None:
            called.append(name)
            assert error is None, (name, error)
            raise kind("mine")

        return cb

    for number, (name, (_, _, call)) in enumerate(methods.items()):
        call(Life(nats, number), raising(name))
    run(lambda: len(called) >= len(methods))
    later = time.monotonic() + 0.3
    run(lambda: time.monotonic() > later)
    assert sorted(called) == sorted(methods)
    assert [type(exc) for exc in excepthook] == [kind] * len(methods)


# What is delivered until it is stopped: the calls of the callback are counted that end it.
RUNNING: dict[str, tuple[str, Callable[[Life, Any], Any]]] = {
    "watch": (LISTING, lambda t, cb: t.kv.watch(cb)),
    "watch history": (LISTING, lambda t, cb: t.kv.watch("k", cb, include_history=True)),
    "list_keys": (LISTING, lambda t, cb: t.kv.list_keys(cb)),
    "watch objects": (
        "CONSUMER.CREATE CONSUMER.INFO CONSUMER.MSG.NEXT OBJECT",
        lambda t, cb: t.store.watch(cb),
    ),
    "consume": ("CONSUMER.MSG.NEXT CONSUMER.INFO", lambda t, cb: t.js.consume(t.stream, "c", cb)),
    "consume bytes": (
        "CONSUMER.MSG.NEXT",
        lambda t, cb: t.js.consume(t.stream, "c", {"max_bytes": 900}, cb),
    ),
    "consume pinned": (
        "CONSUMER.MSG.NEXT INFO",
        lambda t, cb: t.js.consume(t.stream, "c", {"group": "g"}, cb),
    ),
    "ordered": (
        "CONSUMER.CREATE CONSUMER.MSG.NEXT STREAM.INFO",
        lambda t, cb: t.js.ordered_consumer(t.stream, cb),
    ),
    "push": ("CONSUMER.INFO PUSH", lambda t, cb: t.js.push_subscribe(t.stream, "push", cb)),
    "push create": (
        "CONSUMER.CREATE",
        lambda t, cb: t.js.push_subscribe(t.stream, {"idle_heartbeat": IN_AN_HOUR}, cb),
    ),
}


@pytest.mark.slow
def test_what_is_running_ends_once_or_goes_on_and_stops_when_it_is_stopped(
    fake, connected, run, monkeypatch
):
    names, cases = [], []
    for name, (verbs, _) in RUNNING.items():
        for verb in verbs.split():
            for shape in SHAPES[len(names) % 2 :: 2]:
                names.append((name, f"{name}, {verb}: {shape.name}"))
                cases.append(Case(frozenset([verb]), shape))
    server = OddServer(cases)
    nats = connected(fake(server), on_error=lambda error: None)
    lives = [Life(nats, number) for number in range(len(cases))]
    errors: list[list[Any]] = [[] for _ in cases]
    ended: list[list[Any]] = [[] for _ in cases]
    handles = []
    for number, (name, _) in enumerate(names):

        def delivered(item: Any, error: Any, number: int = number) -> None:
            assert not errors[number], "called after the end"
            if error is not None:
                assert item is None
                errors[number].append(error)
            elif item is None:
                ended[number].append(None)

        handles.append(RUNNING[name][1](lives[number], delivered))
        if number % 100 == 99:
            soon = time.monotonic() + 0.05
            run(lambda soon=soon: time.monotonic() > soon)
    soon = time.monotonic() + 2
    run(lambda: time.monotonic() > soon)
    for handle in handles:
        handle.stop()
    assert all(isinstance(error, NatsError) for some in errors for error in some)
    assert [
        n for (_, n), e, m in zip(names, errors, ended, strict=True) if len(e) > 1 or len(m) > 1
    ] == []
    monkeypatch.setattr(server, "odd", False)
    before = [len(some) for some in (*errors, *ended)]
    next_call = ("account_info", lambda t, cb: t.js.account_info(cb), a(dict))
    assert outcomes(nats, run, lives, [next_call] * len(lives), right=True) == []
    assert [len(some) for some in (*errors, *ended)] == before


def test_an_odd_advisory_is_an_error_and_the_next_one_is_delivered(fake, connected, run):
    nats = connected(fake(broker))
    got: list[Any] = []
    JetStream(nats).advisories(lambda advisory, error: got.append((advisory, error)))
    good = {
        "type": "io.nats.jetstream.advisory.v1.stream_action", "id": "I", "timestamp": TIME,
        "stream": "S", "action": "create", "client": {"name": "n"},
    }  # fmt: skip
    for shape in JSON:
        nats.publish("$JS.EVENT.ADVISORY.X", shape.bend(good))
        nats.publish("$JS.EVENT.ADVISORY.X", json.dumps(good))
    run(lambda: len(got) == 2 * len(JSON))
    for shape, (advisory, error) in zip(JSON, got[::2], strict=True):
        if error is None:
            texts = (advisory.kind, advisory.type, advisory.id, advisory.stream, advisory.consumer)
            assert a(Advisory)(advisory), shape.name
            assert all(type(text) is str for text in texts), shape.name
        else:
            assert advisory is None
            assert isinstance(error, InvalidAnswerError), shape.name
    assert all(error is None for _, error in got[1::2])


@pytest.mark.parametrize("level", ["x", [1], {}, None, True, -5, 1.5, 10**400, 2])
@pytest.mark.parametrize("version", ["2.14.0", "9" * 5_000, "x.y", None])
def test_an_odd_level_or_version_of_a_server_is_no_exception(level, version, fake, connected, run):
    def script(peer: Any) -> None:
        broker(peer, api_lvl=level, version=version, jetstream=True)

    nats = connected(fake(script))
    js, ended = JetStream(nats, timeout=100), []
    for call in (
        lambda cb: js.direct_get_batch("S", {"batch": 1}, cb),
        lambda cb: js.fetch("S", "c", {"group": "g", "expires": timedelta(milliseconds=1)}, cb),
        lambda cb: js.stream_create({"name": "S", "allow_msg_ttl": True}, cb),
        lambda cb: js.publish("a", b"", cb, ttl=1000, retry_attempts=0),
        lambda cb: js.fast_batch().commit("a", b"", cb),
    ):
        call(lambda *result: ended.append(result))
    JsMsg(nats, "a", b"", "$JS.ACK.S.c.1.1.1.1.0", None).term("a reason")
    run(lambda: len(ended) == 5)
    assert all(isinstance(error, NatsError) and result is None for result, error in ended)


@pytest.mark.parametrize("error_text", ERRORS)
def test_an_odd_error_of_the_server_is_told_and_the_connection_goes_on(
    error_text, fake, connected, run
):
    def script(peer: Any) -> None:
        peer.handshake()
        peer.until("SUB .*")
        peer.send(b"-ERR '" + error_text + b"'\r\n")
        peer.until("PING")
        peer.send("PONG\r\n")
        peer.at_eof()

    nats = connected(fake(script))
    nats.subscribe("a", lambda *args: None)
    flushed: list[Any] = []
    run(lambda: nats.recorder.errors)
    nats.flush(flushed.append)
    run(lambda: flushed)
    assert flushed == [None]
    assert len(nats.recorder.errors) == 1
    str(nats.recorder.errors[0]), repr(nats.recorder.errors[0])


def test_a_service_whose_numbers_are_no_json_answers_all_the_same(
    fake, connected, call, run, excepthook
):
    """What a stats_handler returns, for all the shapes that Python has and JSON has not."""
    nats = connected(fake(broker))
    deep: Any = []
    for _ in range(200_000):
        deep = [deep]
    odd = [
        float("nan"),
        float("inf"),
        {1.5: float("-inf")},
        deep,
        {1, 2},
        b"x",
        object(),
        {(1,): 1},
    ]
    for value in [*odd, "\ud800", {"a": 10**400}, None]:
        service = Service(nats, "s", "1.0.0", stats_handler=lambda endpoint, value=value: value)
        service.add_endpoint("e", lambda request: request.respond(b"yes"))
        for verb in ("STATS", "INFO", "PING"):
            got: list[Any] = []
            nats.request(f"$SRV.{verb}.s", b"[" * 9000, lambda *args, got=got: got.append(args))
            run(lambda got=got: got)
            answer = json.loads(got[0][0], parse_constant=pytest.fail)
            assert answer["name"] == "s"
        got = []
        nats.request("e", b"", lambda *args, got=got: got.append(args))
        run(lambda got=got: got)
        assert got[0][0] == b"yes"
        service.stop()
        run(lambda service=service: service.stopped)
    assert len(excepthook) == len(odd)


# On a real server.


class Meddler:
    """A client that stands between others and the API: it passes requests on, and bends answers.

    It serves the prefix ``ODD.<number>`` of each case. What is written to a bucket under a prefix comes here.
    """

    def __init__(self, nats: Any, cases: list[Case]) -> None:
        self.odd = True
        self._nats = nats
        self._cases = cases
        nats.subscribe("ODD.>", self._on_request)

    def _on_request(self, subject: str, payload: bytes, reply: Any, headers: Any) -> None:
        _, number, verb = subject.split(".", 2)
        case = self._cases[int(number)]
        to = verb if verb.startswith("$") else f"$JS.API.{verb}"
        kind = "PUB" if verb.startswith("$") else verb
        odd = self.odd and any(kind.startswith(one) for one in case.verbs)
        if not odd or not reply or kind.startswith("CONSUMER.MSG.NEXT"):
            self._nats.publish(to, payload, reply, headers=headers)
            return

        def bent(data: Any, error: Any, raw: Any) -> None:
            shape = case.shape
            if shape.block is not None:
                self._nats.publish(reply, b"", headers=shape.block)
            elif data is not None:
                good = json.loads(data) if data[:1] == b"{" else {"a": 1}
                self._nats.publish(reply, shape.bend(good)[: 2**20], headers=raw)

        self._nats.request(to, payload, bent, headers=headers)


class RealLife(Life):
    """The same buckets and the same stream for all cases, each by a prefix of its own."""

    def __init__(self, nats: Any, number: int) -> None:
        super().__init__(nats, number)
        self.kv = KV(self.js, "odd")
        self.store = ObjectStore(self.js, "odd")
        self.subject = "odd.x"
        self.stream = "ODD"
        # Writers of one name would disturb each other, and many objects those who list them.
        self.puts, self.put_name = ObjectStore(self.js, "puts"), f"o{number}"


# Without those that our own client refuses to send.
SENDABLE = [shape for shape in SHAPES if "garbage" not in shape.name]
READING = [
    *["account_info", "stream_info", "stream_info subjects", "stream_list", "stream_names"],
    *["stream_name_by_subject", "stream_msg_get", "get_msg", "get_last_msg", "direct_get"],
    *["direct_get_last", "consumer_info", "consumer_list", "consumer_names", "consumer_create"],
    *["fetch", "ordered fetch", "kv status", "bucket_names", "buckets", "get", "entry", "history"],
    *[
        "keys",
        "put",
        "kv delete",
        "store status",
        "object get",
        "object info",
        "list",
        "list_infos",
    ],
    *["object put", "update_bucket"],
]


@pytest.fixture
def buckets(js, call):
    """A stream, a bucket and a store, with something in them."""
    stream = {"name": "ODD", "subjects": ["odd.x", "x"], "storage": "memory", "allow_direct": True}
    assert call(js.stream_create, stream)[1] is None
    kv, store = KV(js, "odd"), ObjectStore(js, "odd")
    assert call(kv.create_bucket, {"storage": "memory", "history": 5})[1] is None
    for one in (store, ObjectStore(js, "puts")):
        assert call(one.create_bucket, {"storage": "memory"})[1] is None
    for _ in range(9):
        assert call(js.publish, "x", b"message")[1] is None
        assert call(kv.put, "k", b"value")[1] is None
    assert call(js.consumer_create, "ODD", {"durable_name": "c"})[1] is None
    assert call(store.put, "o", b"content")[1] is None
    return kv, store


@pytest.mark.slow
def test_a_peer_that_bends_the_answers_of_a_real_server(
    js, buckets, connected, line_server, run, monkeypatch
):
    monkeypatch.setattr(download, "RETRY_FOR", 2.0)
    methods = {**STREAMS, **CONSUMERS, **KEYS, **OBJECTS}
    cases, calls = [], []
    for name in READING:
        verbs, check, call = methods[name]
        for verb in verbs.split():
            for shape in SENDABLE[len(calls) % 8 :: 8]:
                cases.append(Case(frozenset([verb]), shape))
                calls.append((f"{name}, {verb}: {shape.name}", call, check))
    meddler = Meddler(connected(line_server("newest")), cases)
    nats = connected(line_server("newest"), on_error=lambda error: None)
    lives = [RealLife(nats, number) for number in range(len(cases))]
    assert outcomes(nats, run, lives, calls) == []
    meddler.odd = False
    assert outcomes(nats, run, lives, calls, right=True) == []


def test_a_peer_that_answers_the_api_before_the_server_does(
    js, buckets, connected, line_server, call, run
):
    """Both answer, and the first one counts, whoever that is: never two completions, never none."""
    peer, odd = connected(line_server("newest")), [JSON[0]]

    def answer(subject: str, payload: bytes, reply: Any, headers: Any) -> None:
        if reply:
            peer.publish(
                reply, odd[0].bend({"error": {"code": 1}, "config": {"name": "a"}, "seq": 1})
            )

    sid = peer.subscribe("$JS.API.>", answer)
    kv, store = buckets
    for shape in JSON:
        odd[0] = shape
        counts = {}
        for name, (method, *arguments) in {
            "info": (js.stream_info, "ODD"),
            "status": (kv.status,),
            "object": (store.info, "o"),
            "message": (js.get_msg, "ODD", 1),
            "consumer": (js.consumer_info, "ODD", "c"),
        }.items():
            counts[name] = ended = []  # type: ignore[var-annotated]
            method(*arguments, cb=lambda *result, ended=ended: ended.append(result))
        run(lambda counts=counts: all(counts.values()))
        assert {len(ended) for ended in counts.values()} == {1}, shape.name
    peer.unsubscribe(sid)
    assert call(kv.get, "k") == (b"value", None)


@pytest.mark.slow
def test_odd_infos_in_a_store_are_errors_of_their_objects_and_told_by_a_list(js, buckets, call):
    _, store = buckets
    good = object_info("odd", "odd")
    subject = "$O.odd.M." + base64.urlsafe_b64encode(b"odd").decode()
    for shape in JSON[::2]:
        ack, error = call(js.publish, subject, shape.bend(good), headers={"Nats-Rollup": "sub"})
        assert error is None
        info, error = call(store.info, "odd")
        if error is not None:
            assert info is None, shape.name
            assert isinstance(error, BadObjectMetaError), shape.name
            assert str(ack["seq"]) in str(error)
            listed, error = call(store.list)
            assert listed is None, shape.name
            assert isinstance(error, BadObjectMetaError), shape.name
            assert error.readable == ["o"], shape.name
            for method, *arguments in (
                (store.get,), (store.delete,), (store.update_meta, {"description": "d"}),
            ):  # fmt: skip
                result, error = call(method, "odd", *arguments)
                assert result is None, shape.name
                assert isinstance(error, (BadObjectMetaError, ObjectLinkError)), shape.name
        else:
            assert a(dict, type(None))(info), shape.name
            listed, error = call(store.list)
            assert (set(listed) <= {"o", "odd"}, error) == (True, None), shape.name
            assert isinstance(
                call(store.update_meta, "odd", {"description": "d"})[1], (NatsError, type(None))
            )
        assert call(store.get, "o") == (b"content", None)
    assert call(js.stream_purge, store.stream, {"filter": subject})[1] is None
    assert call(store.list) == (["o"], None)


def test_an_info_as_nats_c_writes_it_is_read_and_its_object_deleted(js, buckets, call):
    """With the control characters of its name as they are."""
    _, store = buckets
    name = "a\x01\tb\nc"
    subject = "$O.odd.M." + base64.urlsafe_b64encode(name.encode()).decode()
    text = f'"name":"{name}","bucket":"odd","nuid":"N","size":0,"chunks":0'
    assert call(js.publish, subject, "{" + text + "}")[1] is None
    assert call(store.info, name)[0]["name"] == name
    assert call(store.list) == ([name, "o"], None)
    assert call(store.delete, name) == (True, None)
    assert call(store.list) == (["o"], None)


def test_markers_of_keys_that_this_client_would_not_store_are_purged(js, buckets, call):
    kv, _ = buckets
    for key in ("a~b", "a!", "é.x"):
        headers = {"KV-Operation": "DEL"}
        assert call(js.publish, f"$KV.odd.{key}", b"", headers=headers)[1] is None
    assert call(kv.purge_deletes, 0) == (3, None)
    assert call(kv.keys) == (["k"], None)


FORGED = {
    "Nats-Time-Stamp": "yesterday", "Nats-Sequence": "99999", "Nats-Stream": "OTHER",
    "Nats-Subject": "$KV.odd.other", "Nats-Num-Pending": "x", "Nats-Last-Sequence": "-1",
}  # fmt: skip


@pytest.mark.parametrize("value", [None, "", "-1", "1e999", "9" * 3000, "\ud8ff"], ids=str)
def test_headers_that_a_publisher_forges_do_not_count(js, buckets, call, run, value):
    """The server appends its own: the last one counts."""
    kv, _ = buckets
    headers = {name: text if value is None else value for name, text in FORGED.items()}
    if value == "\ud8ff":
        headers = {name: b"\xff".decode("utf-8", "surrogateescape") for name in headers}
    ack, error = call(js.publish, "$KV.odd.k", b"forged", headers=headers)
    assert error is None
    entry, error = call(kv.entry, "k")
    assert error is None
    assert (entry.value, entry.revision, entry.key) == (b"forged", ack["seq"], "k")
    assert abs(entry.created.timestamp() - time.time()) < 60
    assert call(kv.get, "k") == (b"forged", None)
    assert call(kv.get_revision, "k", ack["seq"])[0].value == b"forged"
    message, error = call(js.direct_get, kv.stream, ack["seq"])
    assert (message.seq, message.subject, error) == (ack["seq"], "$KV.odd.k", None)
    messages, error = call(js.direct_get_batch, kv.stream, {"batch": 2, "seq": ack["seq"]})
    assert ([m.seq for m in messages], error) == ([ack["seq"]], None)
    entries, error = call(kv.history, "k")
    assert (entries[-1].revision, error) == (ack["seq"], None)
    assert call(kv.keys) == (["k"], None)


@pytest.mark.parametrize(
    "block",
    [
        b"garbage\r\n\r\n",
        b"NATS/1.0 404 x\r\n\r\n",
        b"NATS/1.0\r\nKV-Operation: \xff\r\n\r\n",
        b"KV-Operation: DEL\r\n\r\n",
        b"NATS/1.0\r\n:\r\n::::\r\n\r\n",
    ],
)
def test_what_is_no_header_block_leaves_its_key_readable(
    block, js, buckets, call, run, loop, line_server
):
    """A publisher that is no NATS client: the server stores any bytes in place of headers."""
    kv, _ = buckets
    server = line_server("newest")
    before = call(kv.entry, "k")[0].revision
    with socket.create_connection((server.host, server.port)) as raw:
        size = f"{len(block)} {len(block) + 1}"
        raw.sendall(b'CONNECT {"verbose":false,"headers":true}\r\n')
        raw.sendall(f"HPUB $KV.odd.k {size}\r\n".encode() + block + b"v\r\nPING\r\n")
        received = b""
        while b"PONG" not in received and b"-ERR" not in received:
            received += raw.recv(4096)
    assert b"-ERR" not in received
    deadline = time.monotonic() + 20  # the PONG does not say that the message is stored
    while (entry := call(kv.entry, "k")[0]) is None or entry.revision == before:
        assert time.monotonic() < deadline
    assert entry.value == b"v"
    entries, error = call(kv.history, "k")
    assert (error, entries[-1].value) == (None, b"v")
    assert call(kv.keys) == (["k"], None)
    got: list[Any] = []
    js.ordered_consumer(
        kv.stream, {"deliver_policy": "last"}, lambda msg, err: got.append((msg, err))
    )
    run(lambda: got)
    assert got[0][0].header("Nothing", "default") == "default"


def outcomes(
    nats: Any, run: Any, lives: list[Life], calls: list[Any], right: bool = False
) -> list[str]:
    """Make all calls at once; return what is wrong with their completions."""
    ended: list[list[tuple[Any, Any]]] = [[] for _ in calls]
    left = len(calls)
    patience = 30  # seconds: an answer is waited for, however busy the machine is
    if right:
        for life in lives:
            inside.be_patient(life.js)

    def start(number: int) -> None:
        def done(result: Any, error: Any) -> None:
            nonlocal left
            left -= not ended[number]
            ended[number].append((result, error))

        calls[number][1](lives[number], done)

    for number in range(len(calls)):
        start(number)
        # Few at a time, so that none times out because it waits for its turn: the server is in Python, too.
        portion = 20 if right else 100
        if number % portion == portion - 1:
            soon, most = time.monotonic() + (patience if right else 0.05), len(calls) - number - 1
            run(lambda soon=soon, most=most: left <= most or time.monotonic() > soon)
    deadline = time.monotonic() + patience
    run(lambda: not left or time.monotonic() > deadline, timeout=2 * patience)
    later = time.monotonic() + 0.3  # a second call of a completion would come soon
    run(lambda: time.monotonic() > later)
    wrong = []
    for (name, _, check), completions in zip(calls, ended, strict=True):
        if len(completions) != 1:
            wrong.append(f"{name}: {len(completions)} completions")
            continue
        result, error = completions[0]
        if error is not None and (right or not isinstance(error, NatsError) or result is not None):
            wrong.append(f"{name}: {result!r:.50}, {type(error).__name__} {error!r:.200}")
        elif error is None and not check(result):
            wrong.append(f"{name}: {result!r:.100}")
    return wrong
