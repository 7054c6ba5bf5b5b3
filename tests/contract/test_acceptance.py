"""What the contract promises to whoever only reads it, asked from outside."""

from __future__ import annotations

import time
from datetime import timedelta
from typing import Any

import pytest

import nats_ev
from nats_ev import KV, Headers, JetStream, Nats, NatsError, ObjectStore, pyev
from nats_ev.testing import free_port

ERRORS = {  # name → what else it is
    "BadSubjectError": [ValueError],
    "BadOptionsError": [ValueError],
    "MaxPayloadError": [ValueError],
    "OutboundBufferLimitError": [],
    "NotConnectedError": [ConnectionError],
    "ConnectionClosedError": [],
    "ConnectionDrainingError": [],
    "DrainTimeoutError": [TimeoutError],
    "NoServersError": [nats_ev.ConnectError],
    "AuthorizationError": [nats_ev.ConnectError],
    "AuthExpiredError": [nats_ev.AuthorizationError],
    "SecureConnectionRequiredError": [nats_ev.ConnectError],
    "StaleConnectionError": [nats_ev.ConnectionLostError],
    "UnexpectedEOFError": [nats_ev.ConnectionLostError],
    "ProtocolError": [],
    "PermissionsViolationError": [nats_ev.ServerError],
    "MaxConnectionsExceededError": [nats_ev.ServerError],
    "RequestTimeoutError": [TimeoutError],
    "NoRespondersError": [],
    "SlowConsumerError": [],
    "StreamNotFoundError": [nats_ev.APIError, nats_ev.JetStreamError],
    "KeyNotFoundError": [nats_ev.JetStreamError],
    "KeyDeletedError": [nats_ev.JetStreamError],
    "WrongLastSequenceError": [nats_ev.JetStreamError],
    "ObjectNotFoundError": [nats_ev.JetStreamError],
    "DigestMismatchError": [nats_ev.JetStreamError],
}


@pytest.mark.parametrize("name", ERRORS)
def test_every_error_is_where_the_contract_has_it(name: str) -> None:
    for base in (NatsError, *ERRORS[name]):
        assert issubclass(getattr(nats_ev, name), base)


def test_every_callback_gets_as_many_arguments_as_promised(fake, loop, run):
    def script(peer: Any) -> None:
        peer.handshake()
        peer.until("PUB echo .*")
        peer.send_info(ldm=True, connect_urls=["127.0.0.1:2"])
        peer.at_eof()

    seen: list[tuple[str, int]] = []

    def note(name: str) -> Any:
        return lambda *args: seen.append((name, len(args)))

    names = ("connect", "disconnect", "lame_duck", "discovered_servers", "error")
    hooks = {f"on_{name}": note(name) for name in names}
    hooks |= {"slow_consumer_bytes": 10, "on_slow_consumer": note("slow_consumer")}
    nats = Nats(loop=loop, host="127.0.0.1", port=fake(script).port, **hooks)
    run(nats.is_connected)
    nats.flush(note("flush"))
    nats.rtt(note("rtt"))
    nats.request("quiet", b"", note("request"), 0)
    nats.request_many("quiet", b"", note("many"), 0)
    nats.publish("echo", b"x" * 100)
    run(lambda: ("lame_duck", 0) in seen and ("discovered_servers", 1) in seen)
    nats.drain(note("drain"))
    nats.disconnect()
    run(lambda: ("disconnect", 0) in seen)
    assert sorted(seen) == [
        ("connect", 0), ("disconnect", 0), ("discovered_servers", 1), ("drain", 1), ("flush", 1),
        ("lame_duck", 0), ("many", 3), ("request", 3), ("rtt", 2), ("slow_consumer", 1),
    ]  # fmt: skip


def test_a_header_length_of_zero_is_no_header(fake, client, run):
    def script(peer: Any) -> None:
        peer.handshake()
        peer.until("PING")
        peer.send("HMSG a 1 0 3\r\nabc\r\nHMSG a 1 12 12\r\nNATS/1.0\r\n\r\n\r\nPONG\r\n")
        peer.at_eof()

    nats, got = client(fake(script)), []
    nats.subscribe("a", lambda *message: got.append(message))
    run(nats.is_connected)
    nats.flush()
    run(lambda: len(got) == 2)
    assert got == [("a", b"abc", None, None), ("a", b"", None, b"NATS/1.0\r\n\r\n")]


def test_what_is_no_utf8_can_be_answered_and_sent_on(connected, server, run):
    nats, got, answers = connected(server), [], []

    def answer(subject: str, payload: bytes, reply: str, headers: bytes) -> None:
        got.append((subject, reply))
        nats.hpublish(reply, Headers.parse(headers), payload)

    nats.subscribe("bytes.*", answer)
    nats.subscribe("back.*", lambda *message: answers.append(message))
    nats.hpublish("bytes.\udcff\u00e9", {"N": "v\udcfd\u20ac"}, b"x", "back.\udcfc")
    run(lambda: answers)
    assert got == [("bytes.\udcff\u00e9", "back.\udcfc")]
    [(subject, payload, reply, headers)] = answers
    assert (subject, payload, reply) == ("back.\udcfc", b"x", None)
    assert headers == b"NATS/1.0\r\nN: v\xfd\xe2\x82\xac\r\n\r\n"
    assert Headers.parse(headers) == {"N": "v\udcfd\u20ac"}


@pytest.mark.parametrize(
    "use",
    [
        lambda nats, bad: nats.publish(bad),
        lambda nats, bad: nats.publish("a", b"", bad),
        lambda nats, bad: nats.publish("a", bad),
        lambda nats, bad: nats.hpublish("a", {bad: "b"}),
        lambda nats, bad: nats.hpublish("a", {"b": bad}),
        lambda nats, bad: nats.subscribe(bad, print),
        lambda nats, bad: nats.subscribe("a", print, bad),
        lambda nats, bad: nats.request(bad, b"", print),
    ],
)
def test_other_lone_surrogates_are_refused_wherever_text_goes(connected, server, use):
    nats = connected(server)
    with pytest.raises(ValueError):
        use(nats, "a\ud800")
    assert nats.stats()["accepted"] == 0


def test_a_payload_may_be_changed_as_soon_as_the_call_returns(connected, server, run):
    nats, got = connected(server), []
    nats.subscribe("copied", lambda subject, payload, *rest: got.append(payload))
    buffer = bytearray(b"one")
    nats.publish("copied", buffer)
    buffer[:] = b"two"
    nats.hpublish("copied", {}, memoryview(buffer))
    buffer[:] = b"three"
    nats.request("copied", buffer, lambda *answer: None)
    buffer.clear()
    run(lambda: len(got) == 3)
    assert got == [b"one", b"two", b"three"]


def test_a_refused_call_leaves_nothing_behind(loop):
    nats = Nats(loop=loop)
    for method in (nats.request, nats.request_many):
        with pytest.raises(nats_ev.NotConnectedError, match=r"^not connected$"):
            method("a", b"", print)
    for limit, error in ((-1, ValueError), ("3", TypeError), (None, TypeError)):
        with pytest.raises(error, match="max_msgs"):
            nats.subscribe_max("a", print, limit)
    assert nats.subscription_count() == 0
    sid = nats.subscribe("a", print)
    with pytest.raises(TypeError, match="max_msgs"):
        nats.unsubscribe(sid, "3")
    assert nats.subscription_count() == 1


def test_what_cannot_be_called_back_is_refused_at_the_call(connected, server):
    nats = connected(server)
    sid = nats.subscribe("a", print)
    for call in (
        lambda: nats.flush(3),
        lambda: nats.drain(3),
        lambda: nats.rtt(3),
        lambda: nats.drain_subscription(sid, 3),
        lambda: nats.slow_consumer(1, 3),
        lambda: nats.subscribe("a", None),
        lambda: nats.request("a", b"", 3),
        lambda: nats.call_soon(3),
        lambda: nats.call_later(1, 3),
        lambda: nats.add_status_listener(3),
    ):
        with pytest.raises(TypeError):
            call()
    assert nats.is_connected()
    assert nats.subscription_count() == 1


def test_a_loop_that_is_none_is_refused_by_name():
    with pytest.raises(TypeError, match="loop must be a loop of pyev"):
        Nats(loop=object(), host="127.0.0.1")
    with pytest.raises(TypeError):
        Nats(pyev.Loop(), "127.0.0.1")


def test_headers_may_be_a_mapping_an_object_or_a_block_wherever_they_go(
    connected, server, run, call
):
    nats, answers, forms = connected(server), [], []
    block = b"NATS/1.0\r\na: b\r\n\r\n"
    forms = [{"a": "b"}, {"a": ["b"]}, Headers({"a": "b"}), block, bytearray(block), block.decode()]
    nats.subscribe("forms", lambda s, payload, reply, headers: nats.hpublish(reply, headers, b"r"))
    js = JetStream(nats)
    _, err = call(js.stream_create, {"name": "FORMS", "subjects": ["js.forms"]})
    assert err is None
    for form in forms:
        nats.hpublish("forms", form, b"", "nobody.listens")
        nats.request("forms", b"", lambda *answer: answers.append(answer), headers=form)
        assert call(js.publish, "js.forms", b"", headers=form, msg_id=None)[1] is None
    run(lambda: len(answers) == len(forms))
    assert answers == [(b"r", None, block)] * len(forms)
    ack, err = call(js.publish, "js.forms", b"", headers=block, msg_id="1")
    assert (ack["seq"], ack["duplicate"], err) == (len(forms) + 1, False, None)
    assert call(js.publish, "js.forms", b"", headers=forms[0], msg_id="1")[0]["duplicate"]
    call(js.stream_delete, "FORMS")


def test_durations_may_be_timedeltas_and_what_comes_back_can_be_passed_back(
    connected, server, call
):
    js = JetStream(connected(server), timeout=timedelta(seconds=3))
    config = {"name": "TIMES", "subjects": ["times"], "max_age": timedelta(hours=1)}
    info, err = call(js.stream_create, config)
    assert err is None
    assert info["config"]["max_age"] == 3600 * 10**9
    assert call(js.stream_update, info["config"])[1] is None
    config = {"durable_name": "d", "ack_policy": "explicit", "max_deliver": 2}
    config["backoff"] = [timedelta(seconds=1), timedelta(seconds=1.5)]
    info, err = call(js.consumer_create, "TIMES", config)
    assert err is None
    assert info["config"]["backoff"] == [10**9, 1_500_000_000]
    assert call(js.consumer_create, "TIMES", info["config"])[1] is None
    opts = {"batch": 1, "expires": timedelta(milliseconds=50)}
    assert call(js.fetch, "TIMES", "d", opts) == ([], None)
    call(js.stream_delete, "TIMES")


def test_the_layers_raise_wait_and_fail_as_the_client_does(client, server, run, call):
    nats = client()
    js = JetStream(nats)
    kv, store = KV(js, "LAYERS"), ObjectStore(js, "LAYERS")
    for method, *args in (
        (js.stream_list,), (js.publish, "a", b""), (js.fetch, "a", "b", {}), (kv.get, "k"),
        (kv.put, "k", b""), (kv.create, "k", b""), (kv.delete, "k"), (store.get, "n"),
        (store.put, "n", b""), (store.delete, "n"),
    ):  # fmt: skip
        with pytest.raises(nats_ev.NotConnectedError):
            method(*args, print)
    nats.connect(server.host, server.port)
    _, err = call(js.stream_list)  # asked for while connecting
    assert err is None
    outcomes: list[Any] = []
    js.stream_list(lambda *outcome: outcomes.append(outcome))
    kv.get("k", lambda *outcome: outcomes.append(outcome))
    store.get("n", lambda *outcome: outcomes.append(outcome))
    nats.disconnect()
    assert outcomes == []
    run(lambda: len(outcomes) == 3)
    assert [(result, str(err)) for result, err in outcomes] == [(None, "disconnected")] * 3


def test_what_is_missing_is_none_and_no_error(connected, server, call):
    js = JetStream(connected(server))
    kv, store = KV(js, "MISSING"), ObjectStore(js, "MISSING")
    assert call(kv.create_bucket, {"max_history": 2})[1] is None
    assert call(store.create_bucket, {})[1] is None
    assert call(kv.put, "k", "v") == (1, None)
    assert call(kv.get, "k") == (b"v", None)
    call(kv.delete, "k")
    assert call(kv.get, "k") == call(kv.get, "never") == (None, None)
    assert call(store.put, "n", "v")[1] is None
    assert call(store.get, "n") == (b"v", None)
    call(store.delete, "n")
    assert call(store.get, "n") == call(store.get, "never") == (None, None)
    assert call(store.list) == ([], None)
    call(kv.delete_bucket)
    call(store.delete_bucket)


def test_the_account_of_messages_outlives_reset_stats(client):
    nats = client(host="127.0.0.1", port=free_port(), reconnect=True)
    for _ in range(3):
        nats.publish("a", b"xyz")
    nats.reset_stats()
    nats.skip_waiting()
    nats.publish("a", b"xyz")
    stats = nats.stats()
    assert (stats["msgs_out"], stats["bytes_out"]) == (1, 3)
    assert stats["accepted"] == stats["written"] + stats["waiting"] + stats["discarded"] == 4
    assert (stats["waiting"], nats.waiting_count()) == (1, 1)


def test_disconnect_and_connect_in_one_turn_are_told_in_order(connected, server, run):
    nats, told = connected(server), []
    nats.flush(lambda err: told.append(str(err)))
    nats.disconnect()
    nats.disconnect()
    nats.connect(server.host, server.port)
    assert told == []
    run(lambda: nats.recorder.count("connect") == 2)
    assert told == ["disconnected"]
    assert nats.recorder.events == ["connect", "disconnect", "connect"]


def test_a_request_that_has_failed_early_is_told_only_when_asked_for(connected, server, run):
    nats, told = connected(server), []
    begun = time.monotonic()
    nats.request("nobody", b"", lambda *answer: told.append(answer), 100)
    nats.request("nobody", b"", lambda *answer: told.append(answer), 60_000, no_responders=True)
    run(lambda: len(told) == 2)
    assert time.monotonic() - begun >= 0.1
    assert [(response, str(err)) for response, err, _ in told] == [
        (None, "no responders"),
        (None, "request timeout"),
    ]


WAITING = {  # what a client that waits for its connection answers within the time-out, as any request
    "stream_info": lambda js, cb: js.stream_info("S", cb),
    "stream_create": lambda js, cb: js.stream_create({"name": "S", "subjects": ["s"]}, cb),
    "publish": lambda js, cb: js.publish("s", b"", cb),
    "fetch": lambda js, cb: js.fetch("S", "C", {"no_wait": True, "expires": 10**8}, cb),
    "kv.create_bucket": lambda js, cb: KV(js, "b").create_bucket(cb),
    "kv.put": lambda js, cb: KV(js, "b").put("k", b"", cb),
    "kv.keys": lambda js, cb: KV(js, "b").keys(cb),
    "object create_bucket": lambda js, cb: ObjectStore(js, "b").create_bucket(cb),
    "object put": lambda js, cb: ObjectStore(js, "b").put("x", b"1", cb),
    "object get": lambda js, cb: ObjectStore(js, "b").get("x", cb),
    "object list": lambda js, cb: ObjectStore(js, "b").list(cb),
}


def test_each_answer_that_no_server_gives_is_a_request_timeout(proxy, server, client, run):
    refusing = proxy(server.port)
    refusing.refuse()
    js = JetStream(client(refusing, reconnect=True, reconnect_delay=60_000), timeout=100)
    answers: dict[str, list[Any]] = {name: [] for name in WAITING}
    for name, ask in WAITING.items():
        ask(js, lambda *answer, to=name: answers[to].append(answer))
    run(lambda: all(answers.values()))
    for name, told in answers.items():
        ((result, error),) = told
        assert result is None, name
        assert isinstance(error, nats_ev.RequestTimeoutError), (name, error)


def test_a_list_ends_with_the_timeout_when_the_server_falls_silent(own_server, client, run):
    running = own_server(jetstream=True)
    js = JetStream(client(running), timeout=100)
    kv, objects = KV(js, "b"), ObjectStore(js, "b")
    answers: list[Any] = []
    kv.create_bucket(lambda *answer: answers.append(answer))
    objects.create_bucket(lambda *answer: answers.append(answer))
    kv.put("k", b"", lambda *answer: answers.append(answer))
    run(lambda: len(answers) == 3)
    running.suspend()
    answers.clear()
    kv.keys(lambda *answer: answers.append(answer))
    kv.history("k", lambda *answer: answers.append(answer))
    objects.list(lambda *answer: answers.append(answer))
    run(lambda: len(answers) == 3)
    assert [str(error) for _, error in answers] == ["request timeout"] * 3
