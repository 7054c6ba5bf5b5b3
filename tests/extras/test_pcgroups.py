"""Partitioned consumer groups on a real server."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterator
from functools import partial
from typing import Any

import pytest

from lab.js_servers import delete_streams
from nats_ev import KV, ApiLevelError, BadOptionsError, JetStream, JsMsg, RequestTimeoutError
from nats_ev.extras import (
    ConsumerGroupChangedError,
    ConsumerGroupConfigError,
    ConsumerGroupDeletedError,
    ConsumerGroupExistsError,
    ConsumerGroupNotFoundError,
    ConsumerGroups,
    GroupMember,
    NotGroupMemberError,
)

SECOND = 1_000_000_000
FAST: Any = {"ack_wait": SECOND}
BY_KEY: Any = [{"filter": "o.*", "partitioning_wildcards": [1]}]


class Seen:
    """What members have received, in order."""

    def __init__(self) -> None:
        self.all: list[tuple[str, str, int]] = []  # member, key, number
        self.errors: dict[str, Any] = {}
        self.msgs: list[JsMsg] = []

    def taker(self, who: str, ack: bool = True) -> Any:
        def take(msg: JsMsg | None, error: Any) -> None:
            if msg is None:
                assert who not in self.errors, "ended twice"
                self.errors[who] = error
                return
            self.all.append((who, msg.subject, int(msg.data)))
            self.msgs.append(msg)
            if ack:
                msg.ack()

        return take

    def has(self, count: int) -> bool:
        return len(self.all) >= count

    def by_key(self) -> dict[str, list[int]]:
        found: dict[str, list[int]] = defaultdict(list)
        for _, key, number in self.all:
            found[key].append(number)
        return found

    def owners(self, start: int = 0) -> dict[str, set[str]]:
        found: dict[str, set[str]] = defaultdict(set)
        for who, key, _ in self.all[start:]:
            found[key].add(who)
        return found


@pytest.fixture
def js(connected: Any, own_server: Any, call: Any) -> Iterator[JetStream]:
    js = JetStream(connected(own_server(jetstream=True)))
    yield js
    if js.nats.is_connected():
        delete_streams(js, call)


@pytest.fixture
def groups(js: JetStream, call: Any) -> ConsumerGroups:
    """Streams S with subjects o.*, and P with the same partitioned into four."""
    assert call(js.stream_create, {"name": "S", "subjects": ["o.*"]})[1] is None
    transform = {"src": "p.*", "dest": "{{Partition(4,1)}}.p.{{Wildcard(1)}}"}
    config = {"name": "P", "subjects": ["p.*"], "subject_transform": transform}
    assert call(js.stream_create, config)[1] is None
    return ConsumerGroups(js)


def publish(js: JetStream, call: Any, prefix: str, first: int, count: int, keys: int = 8) -> None:
    for number in range(first, first + count):
        js.publish_async(f"{prefix}.k{number % keys}", str(number), lambda ack, err: None)
    assert call(js.publish_complete) == (True, None)


def test_static_members_share_a_stream_and_keep_the_order(
    groups: ConsumerGroups, js: JetStream, call: Any, run: Any
) -> None:
    made, err = call(groups.create_static, "P", "g", 4, members=["a", "b"])
    assert (made, err) == ({"max_members": 4, "members": ["a", "b"]}, None)
    assert call(groups.create_static, "P", "g", 4, members=["a", "b"]) == (made, None)
    assert call(groups.get_static_consumer_group_config, "P", "g") == (made, None)
    assert call(groups.list_static_consumer_groups, "P") == (["g"], None)
    seen = Seen()
    publish(js, call, "p", 0, 100)
    members = [groups.static_consume("P", "g", who, FAST, seen.taker(who)) for who in "ab"]
    publish(js, call, "p", 100, 100)
    run(lambda: len(seen.all) == 200)
    assert all(numbers == sorted(numbers) for numbers in seen.by_key().values())
    assert set(seen.by_key()) == {f"p.k{i}" for i in range(8)}
    assert all(len(owners) == 1 for owners in seen.owners().values())
    assert [each.filters for each in members] == [["0.>", "1.>"], ["2.>", "3.>"]]
    assert (members[0].name, members[0].stream, members[0].member) == ("g-a", "P", "a")
    assert call(groups.list_static_active_members, "P", "g") == (["a", "b"], None)
    info, _ = call(js.consumer_info, "P", "g-a")
    config = info["config"]
    assert config["durable_name"] == "g-a"
    assert config["filter_subjects"] == ["0.>", "1.>"]
    assert (config["ack_policy"], config["ack_wait"]) == ("explicit", SECOND)
    assert config["priority_groups"] == ["PCG"]
    assert (config["priority_policy"], config["priority_timeout"]) == ("pinned_client", SECOND)
    assert call(groups.delete_static, "P", "g") == (True, None)
    run(lambda: len(seen.errors) == 2)
    assert all(isinstance(each, ConsumerGroupDeletedError) for each in seen.errors.values())
    assert call(js.consumer_names, "P") == ([], None)
    assert call(groups.list_static_consumer_groups, "P") == ([], None)


def test_static_group_that_is_changed_ends_its_members(
    groups: ConsumerGroups, js: JetStream, call: Any, run: Any, eventually: Any
) -> None:
    call(groups.create_static, "P", "g", 4, members=["a"])
    seen = Seen()
    member = groups.static_consume("P", "g", "a", seen.taker("a"))
    run(lambda: member.filters)
    changed = b'{"max_members":4,"members":["a","b"]}'
    assert call(KV(js, "static-consumer-groups").put, "P.g", changed)[1] is None
    run(lambda: seen.errors)
    assert isinstance(seen.errors["a"], ConsumerGroupChangedError)
    assert member.closed
    eventually(lambda: call(js.consumer_names, "P") == ([], None))


def test_elastic_group_as_the_server_stores_it(
    groups: ConsumerGroups, js: JetStream, call: Any, run: Any
) -> None:
    made, err = call(
        groups.create_elastic, "S", "g", 4, partitioning_filters=BY_KEY, max_buffered_msgs=5000
    )
    assert err is None
    again = call(
        groups.create_elastic, "S", "g", 4, partitioning_filters=BY_KEY, max_buffered_msgs=5000
    )
    assert again == (made, None)
    stored, _ = call(KV(js, "elastic-consumer-groups").get, "S.g")
    assert stored == (
        b'{"max_members":4,"partitioning_filters":[{"filter":"o.*","partitioning_wildcards":[1]}],'
        b'"max_buffered_msg":5000}'
    )
    assert call(groups.add_members, "S", "g", ["a"]) == (["a"], None)
    stored, _ = call(KV(js, "elastic-consumer-groups").get, "S.g")
    assert stored is not None
    assert stored.endswith(b',"max_buffered_msg":5000,"members":["a"]}')
    info, _ = call(js.stream_info, "S-g")
    config = info["config"]
    assert (config["retention"], config["discard"], config["allow_direct"]) == (
        "workqueue",
        "new",
        True,
    )
    assert (config["max_msgs"], config["max_bytes"], config["num_replicas"]) == (5000, -1, 1)
    assert config["sources"] == [
        {
            "name": "S",
            "subject_transforms": [{"src": "o.*", "dest": "{{Partition(4,1)}}.o.{{Wildcard(1)}}"}],
        }
    ]
    seen = Seen()
    member = groups.elastic_consume("S", "g", "a", FAST, seen.taker("a"))
    run(lambda: member.filters)
    info, _ = call(js.consumer_info, "S-g", "a")
    config = info["config"]
    assert "durable_name" not in config
    assert config["inactive_threshold"] == SECOND
    assert config["filter_subjects"] == [f"{i}.o.*" for i in range(4)]
    assert config["priority_groups"] == ["PCG"]
    assert config["priority_timeout"] == SECOND
    assert call(groups.elastic_is_in_membership_and_active, "S", "g", "a") == ((True, True), None)
    assert call(groups.elastic_is_in_membership_and_active, "S", "g", "b") == ((False, False), None)
    assert call(groups.list_elastic_active_members, "S", "g") == (["a"], None)
    assert call(groups.list_elastic_consumer_groups, "S") == (["g"], None)
    assert call(groups.delete_elastic, "S", "g") == (True, None)
    run(lambda: seen.errors)
    assert isinstance(seen.errors["a"], ConsumerGroupDeletedError)


def test_memberships_change_under_load_without_loss_or_disorder(
    groups: ConsumerGroups, js: JetStream, call: Any, run: Any
) -> None:
    call(groups.create_elastic, "S", "g", 12, partitioning_filters=BY_KEY)
    seen = Seen()
    members = {who: groups.elastic_consume("S", "g", who, {}, seen.taker(who)) for who in "abc"}
    steps = [["a"], ["a", "b"], ["a", "b", "c"], ["b", "c"], ["c"], ["a", "c"]]
    total = 0
    for wanted in steps:
        current = call(groups.get_elastic_consumer_group_config, "S", "g")[0].get("members", [])
        if more := [each for each in wanted if each not in current]:
            assert call(groups.add_members, "S", "g", more)[1] is None
        if fewer := [each for each in current if each not in wanted]:
            assert call(groups.delete_members, "S", "g", fewer) == (wanted, None)
        publish(js, call, "o", total, 300, keys=40)
        total += 300
        run(lambda: sum(len(each.filters) for each in members.values()) == 12)
        run(partial(seen.has, total))
        before = len(seen.all)
        publish(js, call, "o", total, 300, keys=40)
        total += 300
        run(partial(seen.has, total))
        assert {who for who, _, _ in seen.all[before:]} == set(wanted)
        assert all(len(owners) == 1 for owners in seen.owners(before).values())
    found = seen.by_key()
    assert sorted(n for numbers in found.values() for n in numbers) == list(range(total))
    assert all(numbers == sorted(numbers) for numbers in found.values())
    assert not seen.errors


def test_messages_not_acknowledged_in_time_come_again_to_the_new_owner_in_order(
    groups: ConsumerGroups, js: JetStream, call: Any, run: Any
) -> None:
    call(groups.create_elastic, "S", "g", 2, partitioning_filters=BY_KEY)
    call(groups.add_members, "S", "g", ["a"])
    seen = Seen()
    groups.elastic_consume("S", "g", "a", FAST, seen.taker("a", ack=False))
    other = groups.elastic_consume("S", "g", "b", FAST, seen.taker("b"))
    publish(js, call, "o", 0, 20)
    run(lambda: len(seen.all) >= 20)
    call(groups.delete_members, "S", "g", ["a"])
    call(groups.add_members, "S", "g", ["b"])
    run(lambda: other.filters)
    run(lambda: sum(who == "b" for who, _, _ in seen.all) == 20)
    assert [number for who, _, number in seen.all if who == "b"] == list(range(20))


def test_mappings_say_who_has_what(
    groups: ConsumerGroups, js: JetStream, call: Any, run: Any
) -> None:
    call(groups.create_elastic, "S", "g", 3)
    mappings: Any = [{"member": "a", "partitions": [2]}, {"member": "b", "partitions": [1, 0]}]
    assert call(groups.set_member_mappings, "S", "g", mappings) == (["a", "b"], None)
    seen = Seen()
    a = groups.elastic_consume("S", "g", "a", FAST, seen.taker("a"))
    b = groups.elastic_consume("S", "g", "b", FAST, seen.taker("b"))
    run(lambda: a.filters == ["2.>"] and b.filters == ["1.>", "0.>"])
    publish(js, call, "o", 0, 100, keys=50)
    run(lambda: len(seen.all) == 100)
    _, err = call(groups.add_members, "S", "g", ["c"])
    assert isinstance(err, BadOptionsError)
    _, err = call(groups.set_member_mappings, "S", "g", [{"member": "a", "partitions": [0]}])
    assert isinstance(err, BadOptionsError)
    assert call(groups.delete_member_mappings, "S", "g") == ([], None)
    run(lambda: not a.filters and not b.filters)
    assert call(groups.add_members, "S", "g", ["b"]) == (["b"], None)
    run(lambda: len(b.filters) == 3)
    a.stop()
    b.stop()


def test_changes_at_the_same_time_all_count(groups: ConsumerGroups, call: Any, run: Any) -> None:
    call(groups.create_elastic, "S", "g", 20)
    answers: list[Any] = []
    for number in range(12):
        groups.add_members("S", "g", [f"m{number}"], lambda names, err: answers.append(err))
    run(lambda: len(answers) == 12)
    assert answers == [None] * 12
    config, _ = call(groups.get_elastic_consumer_group_config, "S", "g")
    assert sorted(config["members"]) == sorted(f"m{number}" for number in range(12))


@pytest.mark.parametrize("kind", ["static", "elastic"])
def test_one_instance_is_active_and_steps_down(
    groups: ConsumerGroups, js: JetStream, call: Any, run: Any, kind: str
) -> None:
    prefix, stream = ("p", "P") if kind == "static" else ("o", "S")
    if kind == "static":
        call(groups.create_static, stream, "g", 4, members=["m"])
        consume, step_down = groups.static_consume, groups.static_member_step_down
    else:
        call(groups.create_elastic, stream, "g", 4, partitioning_filters=BY_KEY)
        call(groups.add_members, stream, "g", ["m"])
        consume, step_down = groups.elastic_consume, groups.elastic_member_step_down
    seen = Seen()
    first = consume(stream, "g", "m", FAST, seen.taker("first"))
    publish(js, call, prefix, 0, 10)
    run(lambda: len(seen.all) == 10)
    second = consume(stream, "g", "m", FAST, seen.taker("second"))
    run(lambda: second.filters)
    publish(js, call, prefix, 10, 10)
    run(lambda: len(seen.all) == 20)
    assert {who for who, _, _ in seen.all} == {"first"}
    assert call(step_down, stream, "g", "m") == (True, None)
    publish(js, call, prefix, 20, 10)
    run(lambda: len(seen.all) == 30)
    now = seen.all[-1][0]
    active, other = (first, second) if now == "first" else (second, first)
    # The active one leaves in order: the other one has what follows without waiting for the pin's end.
    done: list[Any] = []
    active.drain(lambda result, err: done.append((result, err)))
    run(lambda: done)
    assert done == [(True, None)]
    assert active.closed
    publish(js, call, prefix, 30, 10)
    run(lambda: len(seen.all) == 40)
    assert {who for who, _, _ in seen.all[30:]} == {"second" if now == "first" else "first"}
    numbers = [number for _, _, number in seen.all]
    assert sorted(numbers) == list(range(40))
    other.stop()
    assert other.closed
    assert not seen.errors


def test_take_over_puts_what_the_predecessor_left_first(
    groups: ConsumerGroups, connected: Any, js: JetStream, call: Any, run: Any
) -> None:
    call(groups.create_static, "P", "g", 4, members=["m"])
    seen = Seen()
    victim = connected(None, servers=[js.nats.connected_url()])
    ConsumerGroups(JetStream(victim)).static_consume(
        "P", "g", "m", FAST, seen.taker("first", ack=False)
    )
    publish(js, call, "p", 0, 10)
    run(lambda: len(seen.all) == 10)
    groups.static_consume("P", "g", "m", FAST, seen.taker("second"))
    victim.disconnect()
    publish(js, call, "p", 10, 10)
    run(lambda: sum(who == "second" for who, _, _ in seen.all) >= 20)
    assert [number for who, _, number in seen.all if who == "second"] == list(range(20))


class Deaf(JetStream):
    """A JetStream whose first questions about consumers are answered too late."""

    late = 3

    def consumer_info(self, stream: str, consumer: str, cb: Any) -> None:
        if self.late:
            self.late -= 1
            self.nats.call_soon(cb, None, RequestTimeoutError("request timeout"))
        else:
            super().consumer_info(stream, consumer, cb)


def test_take_over_asks_again_while_a_server_under_load_does_not_answer(
    groups: ConsumerGroups, connected: Any, js: JetStream, call: Any, run: Any
) -> None:
    call(groups.create_static, "P", "g", 4, members=["m"])
    seen, errors = Seen(), []
    victim = connected(None, servers=[js.nats.connected_url()])
    taker = seen.taker("first", ack=False)
    ConsumerGroups(JetStream(victim)).static_consume("P", "g", "m", FAST, taker)
    publish(js, call, "p", 0, 10)
    run(partial(seen.has, 10))
    deaf = Deaf(js.nats)
    taker = seen.taker("second")
    ConsumerGroups(deaf).static_consume("P", "g", "m", FAST, taker, on_error=errors.append)
    victim.disconnect()
    publish(js, call, "p", 10, 10)
    run(lambda: sum(who == "second" for who, _, _ in seen.all) >= 20)
    assert [number for who, _, number in seen.all if who == "second"] == list(range(20))
    assert [type(each) for each in errors] == [RequestTimeoutError] * 3


def test_pause_and_resume(groups: ConsumerGroups, js: JetStream, call: Any, run: Any) -> None:
    call(groups.create_elastic, "S", "g", 4, partitioning_filters=BY_KEY)
    call(groups.add_members, "S", "g", ["a"])
    seen = Seen()
    member = groups.elastic_consume("S", "g", "a", seen.taker("a"))
    member.pause()
    run(lambda: member.filters)
    publish(js, call, "o", 0, 10)
    call(js.consumer_info, "S-g", "a")
    assert not seen.all
    assert member.paused
    member.resume()
    run(lambda: len(seen.all) == 10)
    member.stop()
    member.resume()
    assert repr(member) == "<GroupMember a of g closed>"


def test_errors(groups: ConsumerGroups, js: JetStream, call: Any, run: Any) -> None:
    for method in (
        groups.get_static_consumer_group_config,
        groups.get_elastic_consumer_group_config,
    ):
        _, err = call(method, "S", "none")
        assert isinstance(err, ConsumerGroupNotFoundError)
    call(groups.create_static, "P", "g", 4, members=["a"])
    _, err = call(groups.create_static, "P", "g", 5, members=["a"])
    assert isinstance(err, ConsumerGroupExistsError)
    call(groups.create_elastic, "S", "g", 4)
    _, err = call(groups.create_elastic, "S", "g", 4, max_buffered_msgs=1)
    assert isinstance(err, ConsumerGroupExistsError)
    seen = Seen()
    groups.static_consume("P", "g", "b", seen.taker("b"))
    groups.elastic_consume("S", "none", "b", seen.taker("n"))
    run(lambda: len(seen.errors) == 2)
    assert isinstance(seen.errors["b"], NotGroupMemberError)
    assert isinstance(seen.errors["n"], ConsumerGroupNotFoundError)
    call(KV(js, "elastic-consumer-groups").put, "S.bad", b"{")
    _, err = call(groups.get_elastic_consumer_group_config, "S", "bad")
    assert isinstance(err, ConsumerGroupConfigError)
    for wrong in (
        {"name": "x"},
        {"ack_policy": "none"},
        {"inactive_threshold": 1},
        {"ack_wait": 5},
    ):
        with pytest.raises(BadOptionsError):
            groups.elastic_consume("S", "g", "a", wrong, seen.taker("x"))  # type: ignore[arg-type]
    with pytest.raises(BadOptionsError):
        groups.elastic_consume("S", "g", "a.b", seen.taker("x"))
    with pytest.raises(BadOptionsError):
        groups.add_members("S", "g", [])
    with pytest.raises(TypeError):
        groups.add_members("S", "g", "a")
    with pytest.raises(TypeError):
        ConsumerGroups(js.nats)  # type: ignore[arg-type]


def test_members_end_with_their_client(
    groups: ConsumerGroups, connected: Any, js: JetStream, call: Any, run: Any
) -> None:
    call(groups.create_elastic, "S", "g", 4)
    seen = Seen()
    ends: list[GroupMember] = []
    for way in ("disconnect", "drain"):
        nats = connected(None, servers=[js.nats.connected_url()])
        ends.append(ConsumerGroups(JetStream(nats)).elastic_consume("S", "g", "a", seen.taker(way)))
        call(groups.add_members, "S", "g", ["a"])
        run(lambda: ends[-1].filters)
        nats.disconnect() if way == "disconnect" else nats.drain()
        run(partial(seen.errors.get, way))
    assert all(each.closed for each in ends)


def test_the_config_survives_what_others_add(
    groups: ConsumerGroups, js: JetStream, call: Any
) -> None:
    call(groups.create_elastic, "S", "g", 4)
    kv = KV(js, "elastic-consumer-groups")
    stored = json.loads(call(kv.get, "S.g")[0])
    call(kv.put, "S.g", json.dumps({**stored, "later": 1}))
    assert call(groups.add_members, "S", "g", ["a"]) == (["a"], None)
    assert json.loads(call(kv.get, "S.g")[0])["later"] == 1


def test_an_older_server_is_refused(connected: Any, line_server: Any, call: Any, run: Any) -> None:
    js = JetStream(connected(line_server("2.10")))
    call(js.stream_create, {"name": "S210", "subjects": ["o210.*"]})
    groups = ConsumerGroups(js)
    call(groups.create_static, "S210", "g", 4, members=["a"])
    seen = Seen()
    groups.static_consume("S210", "g", "a", seen.taker("a"))
    run(lambda: seen.errors)
    assert isinstance(seen.errors["a"], ApiLevelError)
    delete_streams(js, call)


def test_members_survive_a_restart_of_the_server(
    connected: Any, own_server: Any, call: Any, run: Any
) -> None:
    server = own_server(jetstream=True)
    js = JetStream(connected(server, reconnect=True, reconnect_delay=50))
    call(js.stream_create, {"name": "S", "subjects": ["o.*"]})
    groups = ConsumerGroups(js)
    call(groups.create_elastic, "S", "g", 6, partitioning_filters=BY_KEY)
    call(groups.add_members, "S", "g", ["a", "b"])
    seen = Seen()
    members = [groups.elastic_consume("S", "g", who, FAST, seen.taker(who)) for who in "abc"]
    publish(js, call, "o", 0, 50)
    run(partial(seen.has, 50))
    server.restart()
    run(lambda: not js.nats.is_connected())
    run(js.nats.is_connected)
    call(groups.add_members, "S", "g", ["c"])
    publish(js, call, "o", 50, 50)
    run(lambda: len({number for _, _, number in seen.all}) == 100)
    run(lambda: all(len(each.filters) == 2 for each in members))
    first = {}
    for _, key, number in seen.all:
        first.setdefault(key, []).append(number)
    # What was acknowledged just before may come again; nothing new comes before something older.
    for numbers in first.values():
        fresh = [number for at, number in enumerate(numbers) if number not in numbers[:at]]
        assert fresh == sorted(fresh)
    assert not seen.errors
