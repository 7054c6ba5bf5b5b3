"""Everything that JetStream's client sends, and every answer and event it reads, is as published.

A second client listens to all subjects; what it has seen is held against the tables of js_types, which
know nothing of the product's own. On the newest server and on older lines.
"""

from __future__ import annotations

import json
import re
from datetime import datetime, timedelta, timezone
from typing import Any

import pytest

from lab import inside
from lab.js_configs import ALL_CONSUMER, ALL_STREAM
from lab.js_types import EVENTS, TABLES, answer_problems, problems
from lab.natsserver import Cluster
from nats_ev import APIError, JetStream, parse_ack_reply
from nats_ev.jetstream.advisory import KINDS

MS = 1_000_000
SECOND = timedelta(seconds=1)
REQUEST = re.compile(
    r"\$JS\.API\.(INFO|(?:STREAM|CONSUMER)\.(?:MSG\.)?[A-Z]+|DIRECT\.GET)(?:\.(.+))?"
)
# The verbs that the client can send → the type of their answers; None: they are no JSON.
VERBS = {
    "INFO": "account_info_response",
    "STREAM.MSG.GET": "stream_msg_get_response",
    "STREAM.MSG.DELETE": "stream_msg_delete_response",
    "CONSUMER.MSG.NEXT": None,
    "DIRECT.GET": None,
}
for kind, verbs in {
    "stream": ("CREATE", "UPDATE", "INFO", "LIST", "NAMES", "PURGE", "DELETE"),
    "consumer": ("CREATE", "INFO", "LIST", "NAMES", "DELETE", "PAUSE", "UNPIN", "RESET"),
}.items():
    for verb in verbs:
        VERBS[f"{kind.upper()}.{verb}"] = f"{kind}_{verb.lower()}_response"
NOT_IN_2_10 = {"CONSUMER.PAUSE", "CONSUMER.UNPIN", "CONSUMER.RESET"}
NOT_IN_2_12 = {"CONSUMER.RESET"}


class Tap:
    """All that goes over a server, as another client sees it."""

    def __init__(self, nats: Any, call: Any) -> None:
        self.seen: list[tuple[str, bytes, str | None]] = []
        self._flush = lambda: call(lambda cb: nats.flush(lambda err: cb(None, err)))
        nats.subscribe(">", lambda subject, data, reply, headers: self._see(subject, data, reply))
        self._flush()

    def _see(self, subject: str, data: bytes, reply: str | None) -> None:
        self.seen.append((subject, data, reply))

    def requests(self) -> list[tuple[str, str, bytes, list[bytes]]]:
        """(verb, what follows it, body, answers) of each request to the API."""
        self._flush()
        answers: dict[str, list[bytes]] = {}
        for subject, data, reply in self.seen:
            if subject.startswith("_INBOX.") and reply is None:
                answers.setdefault(subject, []).append(data)
        found = []
        for subject, data, reply in self.seen:
            # Mirrors and sources ask, too: to other inboxes.
            if subject.startswith("$JS.API.") and (reply or "").startswith("_INBOX."):
                match = REQUEST.fullmatch(subject)
                assert match, subject
                found.append((match[1], match[2] or "", data, answers.get(reply or "", [])))
        return found


@pytest.fixture
def tap(any_js: JetStream, connected: Any, call: Any) -> Tap:
    host, port = any_js.nats.connected_url().rpartition("/")[2].rsplit(":", 1)
    return Tap(connected(None, host=host, port=int(port)), call)


def manage(js: JetStream, call: Any) -> None:
    """Every method of management, with every option, and some that fail."""
    when = datetime(2030, 1, 1, tzinfo=timezone.utc)
    call(js.account_info)
    call(js.stream_create, ALL_STREAM)
    call(js.stream_create, {"name": "S", "subjects": ["s.*"], "allow_direct": True})
    call(js.stream_create, {"name": "S", "subjects": ["t"]})
    call(js.stream_create_or_update, {"name": "M", "mirror": {"name": "S", "opt_start_seq": 2}})
    source = {
        "name": "S", "opt_start_time": when,
        "subject_transforms": [{"src": "s.1", "dest": "x.1"}],
    }  # fmt: skip
    call(js.stream_create, {"name": "SRC", "sources": [source], "metadata": {"a": "b"}})
    far = {"name": "S", "external": {"api": "$JS.far.API", "deliver": "far.x"}}
    call(js.stream_create, {"name": "FAR", "sources": [far]})
    call(js.stream_update, {"name": "S", "subjects": ["s.*"], "allow_direct": True, "max_msgs": 90})
    for i in range(5):
        ack, err = call(js.publish, f"s.{i % 2}", str(i), headers={"N": "1"}, msg_id=f"m{i}")
        assert err is None
        assert not list(problems(ack, "@pub_ack", strict=True))
    call(js.stream_info, "S", {"deleted_details": True, "subjects_filter": ">"})
    call(js.stream_info, "M")
    call(js.stream_info, "SRC")
    call(js.stream_info, "NO")
    call(js.stream_list, {"subject": "s.*"})
    call(js.stream_names)
    call(js.stream_name_by_subject, "s.1")
    for opts in ({"seq": 1}, {"last_by_subj": "s.1"}, {"next_by_subj": "s.1", "seq": 2}):
        call(js.stream_msg_get, "S", opts)
        call(js.direct_get, "S", opts)
    call(js.stream_msg_get, "S", {"seq": 99})
    call(js.direct_get_batch, "S", {"batch": 2, "start_time": when - 50 * 365 * 86400 * SECOND})
    call(js.direct_get_batch, "S", {"multi_last": ["s.*"], "up_to_seq": 4, "batch": 9})
    call(js.stream_msg_delete, "S", 5)
    call(js.stream_msg_erase, "S", 4)
    call(js.consumer_create, "ALL", ALL_CONSUMER)
    call(js.consumer_create, "S", {"durable_name": "c", "ack_policy": "explicit"})
    call(js.consumer_create, "S", {"opt_start_time": when, "deliver_policy": "by_start_time"})
    call(js.consumer_create_or_update, "S", {"name": "e", "filter_subject": "s.1"})
    call(js.consumer_update, "S", {"durable_name": "c", "ack_policy": "explicit", "max_waiting": 9})
    push = {"name": "p", "deliver_subject": "to.p", "flow_control": True, "idle_heartbeat": SECOND}
    call(js.consumer_create, "S", push)
    call(js.consumer_info, "S", "p")
    call(js.consumer_info, "S", "no")
    call(js.consumer_list, "S")
    call(js.consumer_names, "S")
    call(js.consumer_pause, "S", "c", SECOND * 60)
    call(js.consumer_resume, "S", "c")
    group = {"ack_policy": "explicit", "priority_groups": ["g"], "priority_timeout": SECOND * 9}
    call(js.consumer_create, "S", {"name": "g", "priority_policy": "pinned_client", **group})
    call(js.fetch, "S", "g", {"group": "g", "batch": 1})
    call(js.consumer_info, "S", "g")
    call(js.consumer_unpin, "S", "g", "g")
    call(js.consumer_reset, "S", "c", 2)
    call(js.consumer_reset, "S", "c")
    call(js.consumer_delete, "S", "e")
    call(js.stream_purge, "S", {"filter": "s.0", "keep": 1})
    call(js.stream_purge, "S", {"seq": 2})
    call(js.stream_delete, "FAR")


def receive(js: JetStream, call: Any, run: Any) -> None:
    """Every way to get messages, with every option."""
    old = inside.server_version(js) < (2, 12)
    call(js.stream_create, {"name": "R", "subjects": ["r"]})
    for i in range(8):
        call(js.publish, "r", str(i))
    call(js.consumer_create, "R", {"durable_name": "c", "ack_policy": "explicit"})
    opts = {"batch": 2, "max_bytes": 9999, "expires": SECOND, "heartbeat": SECOND / 4}
    call(js.fetch, "R", "c", opts)
    call(js.fetch, "R", "c", {"batch": 2, "no_wait": True})
    call(js.next, "R", "c")
    if not old:
        group = {"priority_groups": ["g"], "priority_policy": "prioritized"}
        call(js.consumer_create, "R", {"name": "o", "ack_policy": "explicit", **group})
        opts = {"group": "g", "priority": 3, "expires": 100 * MS}
        call(js.fetch, "R", "o", {"min_pending": 9, "min_ack_pending": 9, **opts})
    got: list[Any] = []

    def on_message(msg: Any, err: Any) -> None:
        got.append(err or msg)

    running: list[Any] = [
        js.consume("R", "c", {"max_messages": 3}, on_message),
        js.consume("R", "c", {"max_bytes": 9999, "threshold_bytes": 5000}, on_message),
        js.ordered_consumer("R", {"deliver_policy": "last"}, on_message),
        js.push_subscribe("R", {"filter_subjects": ["r"]}, on_message),
    ]
    run(lambda: len(got) == 3 + 1 + 8)
    assert not any(isinstance(msg, Exception) for msg in got)
    for each in running:
        each.stop()


def test_every_request_and_every_answer_is_as_published(any_js, tap, call, run):
    version = inside.server_version(any_js)
    manage(any_js, call)
    receive(any_js, call, run)
    answered = set()
    for verb, rest, body, answers in tap.requests():
        kind = f"@{verb}" if verb in TABLES else None
        if kind is None or not body:
            assert body == b"", (verb, body)
        else:
            wrong = list(problems(json.loads(body), kind, strict=True))
            assert not wrong, (verb, rest, body, wrong)
        name = VERBS[verb]
        for answer in map(json.loads, answers if name else ()):
            assert not list(answer_problems(name, answer)), (verb, answer)
            answered.add((verb, "error" not in answer))
    absent = NOT_IN_2_10 if version < (2, 11) else NOT_IN_2_12 if version < (2, 14) else set()
    expected = {(verb, True) for verb, name in VERBS.items() if name} - {(v, True) for v in absent}
    assert expected <= answered
    assert {verb for verb, *_ in tap.requests()} == set(VERBS) - absent
    # Errors, too.
    assert {("STREAM.INFO", False), ("CONSUMER.INFO", False), ("STREAM.MSG.GET", False)} <= answered


def events_of(js: JetStream) -> list[Any]:
    """What servers tell from now on: events of advisories, and of metrics."""
    events: list[Any] = []

    def on_event(event: Any, err: Any) -> None:
        assert err is None
        events.append(event)

    for what in ("ADVISORY.>", "METRIC.>"):
        js.advisories(on_event, events=what)
    return events


def check_events(events: list[Any], kinds: set[str]) -> None:
    """All of those kinds have come, and all that have come are as published and decoded so."""
    assert kinds <= {e.kind for e in events}
    for event in events:
        data = event.data
        assert data["type"] == event.type
        assert event.type.rpartition(".")[2] == event.kind
        wrong = [*problems(data, "@event"), *problems(data, f"@{event.kind}")]
        assert not wrong, (event, wrong)
        assert (event.id, event.stream) == (data["id"], data.get("stream", ""))
        assert event.consumer == data.get("consumer", "")
        assert event.time.utcoffset() == timedelta(0)
        assert abs(event.time - datetime.now(timezone.utc)) < timedelta(minutes=5)


def test_the_kinds_of_events_are_those_published():
    assert set(KINDS) == set(EVENTS) | {"meta_rescue"}  # newer than the schemas


def test_events_of_streams_consumers_and_messages_are_decoded(any_js, call, run):
    js = any_js
    version = inside.server_version(js)
    events = events_of(js)

    def came(*kinds: str) -> Any:
        return lambda: set(kinds) <= {e.kind for e in events}

    def one(kind: str) -> Any:
        return next(e for e in events if e.kind == kind)

    call(js.stream_create, {"name": "S", "subjects": ["s"]})
    call(js.stream_update, {"name": "S", "subjects": ["s"], "max_msgs": 9})
    for i in range(3):
        call(js.publish, "s", str(i))
    config = {"name": "c", "ack_policy": "explicit", "ack_wait": 50 * MS, "max_deliver": 2}
    call(js.consumer_create, "S", {**config, "sample_freq": "100"})
    first, second, third = call(js.fetch, "S", "c", {"batch": 3})[0]
    first.nak()
    second.term("because")
    assert call(third.ack_sync) == (True, None)
    again = call(js.next, "S", "c")[0]
    assert (again.seq, again.metadata.num_delivered) == (1, 2)
    assert call(js.fetch, "S", "c", {"expires": 300 * MS}) == ([], None)
    run(came("nak", "terminated", "consumer_ack", "max_deliver"))
    call(js.consumer_delete, "S", "c")
    call(js.stream_delete, "S")
    kinds = {"stream_action", "consumer_action", "nak", "terminated", "consumer_ack", "max_deliver"}
    kinds.add("api_audit")
    if version >= (2, 11):
        kinds |= {"consumer_pause", "consumer_group_pinned", "consumer_group_unpinned"}
        call(js.stream_create, {"name": "S", "subjects": ["s"]})
        call(js.publish, "s", b"")
        group = {"priority_groups": ["g"], "priority_policy": "pinned_client"}
        call(js.consumer_create, "S", {"name": "g", "ack_policy": "explicit", **group})
        call(js.consumer_pause, "S", "g", timedelta(hours=1))
        call(js.consumer_resume, "S", "g")
        call(js.fetch, "S", "g", {"group": "g"})
        call(js.consumer_unpin, "S", "g", "g")
    run(came(*kinds))
    check_events(events, kinds)
    assert (one("nak").stream, one("nak").consumer, one("nak").data["stream_seq"]) == ("S", "c", 1)
    assert one("terminated").data["reason"] == "because"
    assert (one("max_deliver").data["stream_seq"], one("max_deliver").data["deliveries"]) == (1, 2)
    assert one("consumer_ack").data["stream_seq"] == 3
    actions = [e.data["action"] for e in events if e.kind == "stream_action"]
    assert actions[:3] == ["create", "modify", "delete"]
    audited = [e.data["subject"] for e in events if e.kind == "api_audit"]
    assert "$JS.API.CONSUMER.CREATE.S.c" in audited


@pytest.mark.since(2, 12)
def test_events_of_batches_and_backups_are_decoded(js, call, run):
    events = events_of(js)
    call(js.stream_create, {"name": "B", "subjects": ["b"], "allow_atomic": True})
    call(js.publish, "b", b"x")
    # A gap in the sequence of a batch: the server gives it up.
    headers = {"Nats-Batch-Id": "broken"}
    call(js.publish, "b", b"1", headers={**headers, "Nats-Batch-Sequence": "1"})
    _, err = call(
        js.publish, "b", b"3", headers={**headers, "Nats-Batch-Sequence": "3", "Nats-Batch-Commit": "1"}
    )  # fmt: skip
    assert isinstance(err, APIError)
    nats = js.nats
    inbox = nats.new_inbox()
    nats.subscribe(inbox, lambda subject, data, reply, headers: reply and nats.publish(reply))
    body = json.dumps({"deliver_subject": inbox}).encode()
    nats.request("$JS.API.STREAM.SNAPSHOT.B", body, lambda data, err, headers: None)
    kinds = {"stream_batch_abandoned", "snapshot_create", "snapshot_complete"}
    run(lambda: kinds <= {e.kind for e in events})
    check_events(events, kinds)
    abandoned = next(e for e in events if e.kind == "stream_batch_abandoned")
    assert (abandoned.stream, abandoned.data["batch"]) == ("B", "broken")


@pytest.mark.slow
@pytest.mark.server
def test_events_of_a_cluster_are_decoded(connected, call, run, eventually):
    with Cluster(3, jetstream=True) as servers:
        js = JetStream(connected(servers[0]), timeout=2000)
        events = events_of(js)
        config = {"name": "R", "subjects": ["r"], "num_replicas": 3}
        eventually(lambda: call(js.stream_create, config)[1] is None)
        call(js.consumer_create, "R", {"durable_name": "c", "ack_policy": "explicit"})
        call(js.publish, "r", b"x")
        msg, err = call(js.next, "R", "c")
        assert err is None
        assert parse_ack_reply(msg.reply).stream == "R"
        kinds = {"stream_leader_elected", "consumer_leader_elected"}
        run(lambda: kinds <= {e.kind for e in events})
        check_events(events, kinds)
        elected = next(e for e in events if e.kind == "stream_leader_elected")
        assert elected.stream == "R"
        names = {s.name for s in servers}
        assert elected.data["leader"] in names
        assert {p["name"] for p in elected.data["replicas"]} <= names
