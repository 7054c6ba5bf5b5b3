"""Lists that come in pages, while streams and consumers come and go, and while servers do not answer."""

from __future__ import annotations

import json
from typing import Any

import pytest

from lab.broker import broker
from lab.scripted_api import ScriptedApi


class Listed(ScriptedApi):
    """An API whose list has `names` in pages of four; `between` runs before each page but the first."""

    def __init__(self, nats: Any, kind: str, key: str) -> None:
        super().__init__(nats)
        self.names = [f"n{number:02}" for number in range(10)]
        self.between: Any = lambda: None
        self.silent: set[str] = set()  # their servers do not answer
        self.infos = kind.endswith("LIST")
        self.key = key
        self.on(kind, self.page)

    def page(self, reply: str) -> None:
        offset = self.asked[-1][1]["offset"]
        if offset:
            self.between()
        names = sorted(self.names)[offset : offset + 4]
        told = [name for name in names if name not in self.silent]
        items = [self.info(name) for name in told] if self.infos else told
        answer = {"total": len(self.names), "offset": offset, "limit": 4, self.key: items}
        if absent := [name for name in names if name in self.silent]:
            answer["missing"] = absent
        self.nats.publish(reply, json.dumps(answer))

    def info(self, name: str) -> Any:
        return {"config": {"name": name}} if self.key == "streams" else {"name": name, "config": {}}


METHODS = {
    "stream_names": ("STREAM.NAMES", "streams"),
    "stream_list": ("STREAM.LIST", "streams"),
    "consumer_names": ("CONSUMER.NAMES", "consumers"),
    "consumer_list": ("CONSUMER.LIST", "consumers"),
}


@pytest.fixture(params=METHODS)
def listed(request, connected, fake, call):
    """(api, function that lists the names)."""
    kind, key = METHODS[request.param]
    api = Listed(connected(fake(broker)), kind, key)

    def names() -> Any:
        arguments = ["S"] if key == "consumers" else []
        result, error = call(getattr(api.js, request.param), *arguments)
        assert error is None
        if not isinstance(result, dict):
            return result
        assert result["total"] == len(result[key])
        return [info.get("name") or info["config"]["name"] for info in result[key]]

    return api, names


def once(change: Any) -> Any:
    changes = [change]
    return lambda: changes.pop()() if changes else None


def test_a_list_has_each_page_once(listed):
    api, names = listed
    assert names() == api.names


def test_what_is_deleted_between_two_pages_takes_no_other_along(listed):
    api, names = listed
    api.between = once(lambda: api.names.remove("n01"))
    assert names() == api.names


def test_what_is_created_between_two_pages_doubles_no_other(listed):
    api, names = listed
    api.between = once(lambda: api.names.insert(0, "a"))
    assert names() == api.names


def test_a_deletion_and_a_creation_that_leave_the_number_are_noticed(listed):
    api, names = listed

    def change() -> None:
        api.names.remove("n01")
        api.names.append("z")

    api.between = once(change)
    assert names() == api.names


def test_a_list_that_never_stands_still_comes_to_an_end(listed):
    api, names = listed
    api.between = lambda: api.names.insert(0, f"a{len(api.names):03}")
    assert set(names()) >= {f"n{number:02}" for number in range(10)}
    assert len(api.asked) < 60


@pytest.mark.parametrize("silent", [{"n09"}, {"n03"}, {"n00", "n04"}, {"n04", "n05", "n06", "n07"}])
def test_what_a_server_does_not_tell_is_named_and_doubles_nothing(connected, fake, call, silent):
    api = Listed(connected(fake(broker)), "STREAM.LIST", "streams")
    api.silent = silent
    result, error = call(api.js.stream_list)
    assert error is None
    assert [info["config"]["name"] for info in result["streams"]] == [
        name for name in api.names if name not in silent
    ]
    assert result["missing"] == sorted(silent)


def test_consumers_that_are_deleted_while_a_real_server_lists_them(js, call, run):
    call(js.stream_create, {"name": "S", "subjects": ["s"], "storage": "memory"})
    made: list[Any] = []
    for number in range(300):
        config = {"name": f"n{number:03}", "mem_storage": True, "inactive_threshold": 10**11}
        js.consumer_create("S", config, lambda info, error: made.append(error))
    run(lambda: len(made) == 300)
    assert made == [None] * 300
    lists: list[Any] = []
    # Both are on their way before the first page is here; the second page is asked for after it.
    js.consumer_list("S", lambda result, error: lists.append(result))
    js.consumer_delete("S", "n000", lambda result, error: None)
    run(lambda: lists)
    assert {f"n{number:03}" for number in range(1, 300)} <= {
        info["name"] for info in lists[0]["consumers"]
    }


@pytest.mark.parametrize("missing", [5, "n01", {"n01": 1}, None])
def test_missing_names_of_a_wrong_type_count_for_none(connected, fake, call, missing):
    api = ScriptedApi(connected(fake(broker)))
    api.on("STREAM.LIST", {"total": 1, "streams": [{"name": "a"}], "missing": missing})
    assert call(api.js.stream_list) == ({"streams": [{"name": "a"}], "total": 1}, None)
