"""Renames on a real server whose answers get lost, and beside other writers: no name loses its content."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

import pytest

from nats_ev import (
    ConnectionClosedError,
    JetStream,
    NoRespondersError,
    ObjectExistsError,
    ObjectNotFoundError,
    ObjectStore,
    ObjectTransferError,
    RequestTimeoutError,
)

_numbers = itertools.count(1)
OLD, NEW = b"old content " * 20_000, b"new content " * 20_000

Answer = Callable[[Any, Any], object]


class Meddler(JetStream):
    """Loses answers and holds requests: `plan` has for each publish, by number, what to do with it."""

    def __init__(self, nats: Any) -> None:
        super().__init__(nats, timeout=5000)
        self.plan: dict[int, Any] = {}
        self.purges: dict[int, Any] = {}
        self.published = self.purged = 0

    def publish(self, subject: str, payload: Any, cb: Answer, **options: Any) -> None:
        self.published += 1
        self._meddle(
            self.plan.get(self.published),
            lambda cb: super(Meddler, self).publish(subject, payload, cb, **options),
            cb,
        )

    def stream_purge(self, stream: str, opts: Any = None, cb: Any = None) -> None:
        self.purged += 1
        self._meddle(
            self.purges.get(self.purged),
            lambda cb: super(Meddler, self).stream_purge(stream, opts, cb),
            cb,
        )

    def _meddle(self, what: Any, send: Callable[[Answer], object], cb: Answer) -> None:
        if what is None:
            send(cb)
        elif what == "lose the answer":
            send(lambda ack, err: cb(None, err or RequestTimeoutError("request timeout")))
        elif what == "lose":
            self.nats.call_soon(cb, None, RequestTimeoutError("request timeout"))
        else:  # another program's operation comes in between
            what(lambda *answer: send(cb))


@pytest.fixture
def js(connected, server):
    return Meddler(connected(server))


@pytest.fixture
def store(js, call):
    store = ObjectStore(js, f"renames{next(_numbers)}")
    assert call(store.create_bucket, {"storage": "memory"})[1] is None
    assert call(store.put, "a", OLD)[1] is None
    js.published = js.purged = 0
    return store


@pytest.fixture
def other(js, store):
    """Another program's view of the store."""
    return ObjectStore(JetStream(js.nats), store.bucket)


@pytest.fixture
def content(other, call):
    """Return name → content of all objects; whatever is listed can be read."""

    def content() -> dict[str, bytes]:
        names, error = call(other.list)
        assert error is None
        found = {}
        for name in names:
            found[name], error = call(other.get, name)
            assert error is None
        return found

    return content


@pytest.fixture
def parts(other, call):
    """Return how many parts the stream has."""

    def parts() -> int:
        opts = {"subjects_filter": f"$O.{other.bucket}.C.>"}
        info, error = call(other.js.stream_info, other.stream, opts)
        assert error is None
        return sum((info["state"].get("subjects") or {}).values())

    return parts


@pytest.mark.parametrize("lost", [(1,), (2,), (1, 2), (1, 3)], ids=str)
@pytest.mark.parametrize("how", ["lose the answer", "lose"])
def test_a_lost_answer_leaves_one_name_that_can_be_read(js, store, call, content, parts, lost, how):
    """Of the publish under the new name, of the deletion of the old one, of both."""
    js.plan = dict.fromkeys(lost, how)
    info, error = call(store.update_meta, "a", {"name": "b", "description": "renamed"})
    assert error is None
    assert (info["name"], info["description"]) == ("b", "renamed")
    assert content() == {"b": OLD}
    assert call(store.delete, "a")[1] is not None
    assert content() == {"b": OLD}
    assert call(store.delete, "b") == (True, None)
    assert parts() == 0


def test_a_lost_removal_of_the_deletion_is_repeated(js, store, call, content, run):
    js.purges = {1: "lose"}
    assert call(store.update_meta, "a", {"name": "b"})[1] is None
    assert content() == {"b": OLD}
    run(lambda: js.purged == 2)


@pytest.mark.parametrize("step", [1, 2])
def test_another_programs_put_of_the_old_name_is_renamed_in_its_place(
    js, store, other, call, content, parts, step
):
    js.plan = {step: lambda go: other.put("a", NEW, go)}
    info, error = call(store.update_meta, "a", {"name": "b"})
    assert (info["name"], error) == ("b", None)
    assert content() == {"b": NEW}
    assert parts() == info["chunks"]


@pytest.mark.parametrize("step", [1, 2])
def test_another_programs_deletion_of_the_old_name_ends_the_rename(
    js, store, other, call, content, parts, step
):
    js.plan = {step: lambda go: other.delete("a", go)}
    info, error = call(store.update_meta, "a", {"name": "b"})
    assert info is None
    assert type(error) is ObjectNotFoundError
    assert content() == {}
    assert parts() == 0


@pytest.mark.parametrize("step", [1, 2])
def test_another_programs_change_of_the_old_name_is_kept(js, store, other, call, content, step):
    js.plan = {step: lambda go: other.update_meta("a", {"metadata": {"by": "other"}}, go)}
    info, error = call(store.update_meta, "a", {"name": "b", "description": "mine"})
    assert error is None
    assert (info["metadata"], info["description"]) == ({"by": "other"}, "mine")
    assert content() == {"b": OLD}


def test_another_programs_object_under_the_new_name_stays(js, store, other, call, content):
    js.plan = {1: lambda go: other.put("b", NEW, go)}
    info, error = call(store.update_meta, "a", {"name": "b"})
    assert info is None
    assert type(error) is ObjectExistsError
    assert content() == {"a": OLD, "b": NEW}


@pytest.fixture
def refuse(js, store, call):
    """Return what makes the stream refuse all further infos."""
    config = call(js.stream_info, store.stream)[0]["config"]
    return lambda go: js.stream_update({**config, "max_msg_size": 10}, go)


def test_a_deletion_that_is_refused_gives_the_new_name_up(js, store, refuse, call, content):
    js.plan = {2: refuse}
    info, error = call(store.update_meta, "a", {"name": "b"})
    assert (info, error.code) == (None, 400)
    assert content() == {"a": OLD}


def test_a_rename_that_can_be_neither_finished_nor_undone_says_so(js, store, refuse, call):
    js.plan, js.purges = {2: refuse}, {1: "lose"}
    info, error = call(store.update_meta, "a", {"name": "b"})
    assert info is None
    assert type(error) is ObjectTransferError
    assert "a and b may share one content" in str(error)
    assert error.__cause__.code == 400


def test_the_end_of_the_client_ends_a_rename_as_everything_else(js, store, run):
    ended: list[Any] = []
    js.plan = {1: "lose", 2: lambda go: js.nats.disconnect()}
    js.purges = {1: lambda go: js.nats.disconnect()}
    store.update_meta("a", {"name": "b"}, lambda info, error: ended.append((info, error)))
    run(lambda: js.published)
    js.nats.disconnect()
    run(lambda: ended)
    assert ended[0][0] is None
    assert type(ended[0][1]) is ConnectionClosedError


@pytest.mark.parametrize("operation", ["delete", "update_meta", "add_link"])
def test_a_change_whose_answer_is_lost_is_recognised(js, store, call, parts, operation):
    js.plan = {1: "lose the answer"}
    if operation == "delete":
        assert call(store.delete, "a") == (True, None)
        assert parts() == 0
    elif operation == "update_meta":
        info, error = call(store.update_meta, "a", {"description": "changed"})
        assert (info["description"], error) == ("changed", None)
    else:
        assert call(store.add_link, "link", "a")[1] is None
        assert call(store.get, "link") == (OLD, None)


def test_a_change_that_is_lost_itself_is_an_error_and_changes_nothing(js, store, call, content):
    js.plan = {1: "lose"}
    result, error = call(store.delete, "a")
    assert result is None
    assert isinstance(error, (RequestTimeoutError, NoRespondersError, ConnectionClosedError))
    assert content() == {"a": OLD}


def test_a_watch_sees_the_old_name_go(store, other, call, run):
    seen: list[Any] = []
    watch = other.watch(lambda info, error: seen.append(info and (info["name"], info["deleted"])))
    run(lambda: None in seen)
    assert call(store.update_meta, "a", {"name": "b"})[1] is None
    run(lambda: len(seen) == 4)
    assert seen == [("a", False), None, ("b", False), ("a", True)]
    watch.stop()
    assert call(other.list, show_deleted=True) == (["b"], None)
