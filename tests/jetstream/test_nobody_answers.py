"""Every way to receive ends with an error, and in time, where nobody answers.

Each way with each reason for the silence, on real servers.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from lab.natsserver import NatsServer
from nats_ev import (
    KV,
    JetStream,
    JetStreamNotEnabledForAccountError,
    Nats,
    NoHeartbeatError,
    NoRespondersError,
    ObjectStore,
    PermissionsViolationError,
    RequestTimeoutError,
)

MS = 1_000_000
TIMEOUT = 300  # ms, where nobody answers
PATIENT = 20_000  # ms, where an answer ends the wait, however busy the machine is
SHORT = {"expires": 600 * MS}

Done = Callable[[Any, Any], object]

# Beginnings of something that receives, as (JetStream, done(result, err)).
WAYS: dict[str, Callable[[JetStream, Done], object]] = {
    "consume": lambda js, cb: js.consume("S", "c", cb),
    "fetch": lambda js, cb: js.fetch("S", "c", SHORT, cb),
    "next": lambda js, cb: js.next("S", "c", SHORT, cb),
    "ordered_consumer": lambda js, cb: js.ordered_consumer("S", cb),
    "fetch in order": lambda js, cb: js.ordered_fetcher("S").fetch(SHORT, cb),
    "next in order": lambda js, cb: js.ordered_fetcher("S").next(SHORT, cb),
    "push, created": lambda js, cb: js.push_subscribe(
        "S", {"ack_policy": "none", "idle_heartbeat": 100 * MS}, cb
    ),
    "push, existing": lambda js, cb: js.push_subscribe("S", "pushed", cb),
    "kv watch": lambda js, cb: KV(js, "b").watch(">", cb),
    "kv keys": lambda js, cb: KV(js, "b").keys(cb),
    "kv list_keys": lambda js, cb: KV(js, "b").list_keys(cb),
    "kv history": lambda js, cb: KV(js, "b").history("k", cb),
    "kv get": lambda js, cb: KV(js, "b").get("k", cb),
    "object watch": lambda js, cb: ObjectStore(js, "o").watch(cb),
    "object list": lambda js, cb: ObjectStore(js, "o").list(cb),
    "object get": lambda js, cb: ObjectStore(js, "o").get("n", cb),
}
# To begin, these ask for something that has no consumer in it.
ASK_OTHERS = ("kv get", "object get")


@pytest.fixture(scope="module")
def accounts(tmp_path_factory: Any, needs_server: None) -> Iterator[NatsServer]:
    store = tmp_path_factory.mktemp("js")
    deny = "permissions: { %s: { deny: [%s] } }"
    server = NatsServer(
        config=f"""
        jetstream {{ store_dir: "{store}" }}
        accounts {{
          A {{ jetstream: enabled, users: [
            {{ user: admin, password: a }}
            {{ user: no_consumers, password: a, {deny % ("publish", '"$JS.API.CONSUMER.>"')} }}
            {{ user: no_inbox, password: a, {deny % ("subscribe", '"_INBOX.>", "pushed.to"')} }} ] }}
          N {{ users: [ {{ user: none, password: a }} ] }}
        }}
        """
    ).start()
    yield server
    server.remove()


@pytest.fixture
def admin(accounts: NatsServer, connected: Any, call: Any) -> JetStream:
    js = JetStream(connected(accounts, user="admin", password="a"))
    call(js.stream_create, {"name": "S", "subjects": ["s"], "storage": "memory"})
    call(js.consumer_create, "S", {"durable_name": "c"})
    push = {"deliver_subject": "pushed.to", "idle_heartbeat": 100 * MS}
    call(js.consumer_create, "S", {"durable_name": "pushed", **push})
    call(KV(js, "b").create_bucket, {"storage": "memory"})
    call(KV(js, "b").put, "k", b"v")
    call(ObjectStore(js, "o").create_bucket, {"storage": "memory"})
    call(ObjectStore(js, "o").put, "n", b"content")
    return js


def ended_with(
    run: Any, nats: Nats, way: str, timeout: float = TIMEOUT, **options: Any
) -> tuple[Any, float]:
    """Begin, and return the error and the seconds until it came."""
    got: list[Any] = []
    js = JetStream(nats, timeout=timeout, **options)
    began = time.monotonic()
    WAYS[way](js, lambda result, error: got.append((result, error)))
    run(lambda: got)
    seconds = time.monotonic() - began
    later: list[Any] = []
    nats.call_later(50, later.append, 1)
    run(lambda: later)
    assert len(got) == 1, got
    return got[0][1], seconds


@pytest.mark.parametrize("way", WAYS)
def test_no_jetstream_in_the_account(accounts, connected, run, way):
    nats = connected(accounts, user="none", password="a", on_error=print)
    error, seconds = ended_with(run, nats, way)
    assert isinstance(error, (NoRespondersError, JetStreamNotEnabledForAccountError))
    assert seconds < 15


@pytest.mark.parametrize("way", WAYS)
def test_a_wrong_domain(accounts, admin, connected, run, way):
    nats = connected(accounts, user="admin", password="a", on_error=print)
    error, seconds = ended_with(run, nats, way, domain="nowhere")
    assert isinstance(error, NoRespondersError)
    assert seconds < 15


@pytest.mark.parametrize("way", [way for way in WAYS if way not in ASK_OTHERS])
def test_no_right_to_ask_for_consumers(accounts, admin, connected, run, way):
    nats = connected(accounts, user="no_consumers", password="a", on_error=print)
    error, seconds = ended_with(run, nats, way, PATIENT)
    assert isinstance(error, PermissionsViolationError)
    assert seconds < PATIENT / 1000


@pytest.mark.parametrize("way", WAYS)
def test_no_right_to_the_inbox(accounts, admin, connected, run, way):
    nats = connected(accounts, user="no_inbox", password="a", on_error=print)
    error, seconds = ended_with(run, nats, way, PATIENT)
    assert isinstance(error, PermissionsViolationError)
    assert seconds < PATIENT / 1000


# A get asks for 30 s: so long may a stream have no leader.
@pytest.mark.parametrize("way", [way for way in WAYS if way != "object get"])
def test_a_peer_that_swallows_all_requests(accounts, connected, run, call, way):
    other = connected(accounts, user="none", password="a")
    other.subscribe("$JS.far.API.>", lambda *message: None)
    run_flush(other, run)
    nats = connected(accounts, user="none", password="a", on_error=print)
    error, seconds = ended_with(run, nats, way, domain="far")
    assert isinstance(error, RequestTimeoutError)
    assert seconds < 20


@pytest.mark.parametrize("way", [way for way in WAYS if way != "kv get"])
def test_consumers_that_exist_and_send_nothing(accounts, admin, connected, run, way):
    """A peer hands the requests to the server, except those for messages."""
    other = connected(accounts, user="none", password="a")

    def on_request(subject: str, payload: bytes, reply: str, headers: Any) -> None:
        if ".MSG.NEXT." in subject:
            return
        subject = subject.replace("$JS.far.API", "$JS.API")
        if ".CONSUMER.CREATE." in subject:  # a push consumer must not deliver there
            body = json.loads(payload)
            if body["config"].get("deliver_subject"):
                body["config"]["deliver_subject"] = "elsewhere"
            payload = json.dumps(body).encode()

        def answered(data: Any, error: Any, raw: Any) -> None:
            if other.is_connected():  # else the test is over
                other.publish(reply, data)

        admin.nats.request(subject, payload, answered)

    other.subscribe("$JS.far.API.>", on_request)
    run_flush(other, run)
    nats = connected(accounts, user="none", password="a", on_error=print)
    error, seconds = ended_with(run, nats, way, domain="far")
    assert isinstance(error, (NoHeartbeatError, RequestTimeoutError))
    if way == "consume":
        assert isinstance(error, NoHeartbeatError)
    assert seconds < 20


def run_flush(nats: Nats, run: Any) -> None:
    done: list[Any] = []
    nats.flush(done.append)
    run(lambda: done)
    assert done == [None]


def test_an_idle_consumer_is_not_given_up(admin, connected, accounts, run, call):
    """Nothing comes for several timeouts, but heartbeats."""
    nats = connected(accounts, user="admin", password="a")
    got: list[Any] = []
    errors: list[Any] = []
    js = JetStream(nats, timeout=TIMEOUT)
    call(
        admin.consumer_create,
        "S",
        {"durable_name": "idle", "max_ack_pending": 1, "ack_policy": "explicit"},
    )
    js.consume("S", "idle", lambda *result: got.append(result), on_error=errors.append)
    js.ordered_consumer("S", lambda *result: got.append(result), on_error=errors.append)
    later: list[Any] = []
    nats.call_later(TIMEOUT * 3, later.append, 1)
    run(lambda: later)
    assert (got, errors) == ([], [])
    call(admin.publish, "s", b"x")
    run(lambda: len(got) == 2)
    assert [error for _, error in got] == [None, None]


def test_who_may_only_ask_for_messages_may_consume(client, own_server, call, run, tmp_path):
    """With the least rights, on a consumer that is idle."""
    allowed = '"$JS.API.CONSUMER.MSG.NEXT.S.c", "$JS.ACK.>"'
    server = own_server(
        config=f"""
        jetstream {{ store_dir: "{tmp_path}" }}
        accounts {{ A {{ jetstream: enabled, users: [
          {{ user: admin, password: a }}
          {{ user: poor, password: a, permissions: {{ publish: {{ allow: [{allowed}] }} }} }} ] }} }}
        """
    )
    js = JetStream(client(server, user="admin", password="a"))
    call(js.stream_create, {"name": "S", "subjects": ["s"], "storage": "memory"})
    call(js.consumer_create, "S", {"durable_name": "c"})
    errors: list[Any] = []
    nats = client(server, user="poor", password="a", on_error=errors.append)
    got: list[Any] = []
    JetStream(nats, timeout=TIMEOUT).consume("S", "c", lambda *result: got.append(result))
    later: list[Any] = []
    nats.call_later(TIMEOUT * 3, later.append, 1)
    run(lambda: later)
    assert (got, errors) == ([], [])
    call(js.publish, "s", b"x")
    run(lambda: got)
    assert got[0][1] is None


def test_a_wait_for_convergence_has_a_time_out_of_its_own(js: Any, call: Any) -> None:
    """Also if requests have none, and the server does not answer."""
    asked: list[str] = []
    js.nats.subscribe("silent.>", lambda subject, *rest: asked.append(subject))
    silent = JetStream(js.nats, prefix="silent", timeout=0)
    info, err = call(silent.wait_until_converged, "S", timeout=100)
    assert info is None
    assert isinstance(err, RequestTimeoutError)
    assert "STREAM.INFO.S has not converged in 100 ms" in str(err)
    assert asked
