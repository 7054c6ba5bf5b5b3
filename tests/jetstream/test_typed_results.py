"""What servers of every line answer is what the TypedDicts say, field by field."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from lab import inside
from lab.js_configs import ALL_CONSUMER, ALL_STREAM
from lab.typed import misfits
from nats_ev import KV, ApiLevelError, ObjectStore, Service, types

SOURCES: dict[str, Any] = {
    "name": "COPY", "storage": "memory", "sources": [{"name": "ALL", "filter_subject": "all.a"}],
}  # fmt: skip


def test_infos_and_answers_have_the_fields_and_types(any_js: Any, call: Any) -> None:
    def result(name: str, *args: Any) -> Any:
        answer, err = call(getattr(any_js, name), *args)
        assert err is None, name
        return answer

    found: list[tuple[str, Any, Any]] = []

    def check(kind: Any, name: str, *args: Any) -> Any:
        answer = result(name, *args)
        found.append((name, answer, kind))
        return answer

    check(types.StreamInfo, "stream_create", ALL_STREAM)
    result("stream_create", SOURCES)
    check(types.ConsumerInfo, "consumer_create", "ALL", ALL_CONSUMER)
    check(types.PubAck, "publish", "all.a", b"1")
    check(types.PubAck, "publish", "all.b", b"2")
    check(types.StreamInfo, "stream_info", "ALL", {"deleted_details": True, "subjects_filter": ">"})
    check(types.StreamInfo, "stream_info", "COPY")
    check(types.StreamList, "stream_list")
    check(types.MsgGetResult, "stream_msg_get", "ALL", {"seq": 100})
    check(types.ConsumerInfo, "consumer_info", "ALL", "C")
    check(types.ConsumerList, "consumer_list", "ALL")
    check(types.AccountInfo, "account_info")
    check(types.Success, "stream_msg_delete", "ALL", 100)
    check(types.StreamInfo, "stream_info", "ALL", {"deleted_details": True})
    check(types.PurgeResult, "stream_purge", "ALL")
    check(types.Success, "consumer_delete", "ALL", "C")
    check(types.Success, "stream_delete", "ALL")
    wrong = [f"{name}: {each}" for name, answer, kind in found for each in misfits(answer, kind)]
    assert not wrong


def test_pausing_and_resetting_answer_as_typed(any_js: Any, call: Any) -> None:
    call(any_js.stream_create, {"name": "P", "subjects": ["p"], "storage": "memory"})
    call(any_js.consumer_create, "P", {"durable_name": "c", "ack_policy": "explicit"})
    paused, err = call(any_js.consumer_pause, "P", "c", timedelta(hours=1))
    if inside.server_version(any_js) < (2, 11):
        assert isinstance(err, ApiLevelError)
        return
    info, err = call(any_js.consumer_info, "P", "c")
    assert err is None
    wrong = [*misfits(paused, types.ConsumerPauseResult), *misfits(info, types.ConsumerInfo)]
    reset, err = call(any_js.consumer_reset, "P", "c")
    if err is None:
        wrong += misfits(reset, types.ConsumerResetResult)
    assert not wrong


def test_states_of_buckets_and_infos_of_objects_are_as_typed(any_js: Any, call: Any) -> None:
    kv, store = KV(any_js, "typed"), ObjectStore(any_js, "typed")
    wrong: list[str] = []
    for method, kind in (
        (
            lambda cb: kv.create_bucket({"history": 2, "ttl": timedelta(hours=1)}, cb),
            types.StreamInfo,
        ),
        (kv.status, types.KeyValueStatus),
        (store.create_bucket, types.StreamInfo),
        (lambda cb: store.put("a", b"1", cb, headers={"A": "1"}), types.ObjectInfo),
        (lambda cb: store.add_link("b", "a", cb), types.ObjectInfo),
        (lambda cb: store.info("a", cb), types.ObjectInfo),
        (store.status, types.ObjectStoreStatus),
    ):
        answer, err = call(method)
        assert err is None
        wrong += misfits(answer, kind)
    assert not wrong


def test_a_service_tells_what_its_types_say(any_js: Any) -> None:
    service = Service(any_js.nats, name="typed", version="1.0.0", stats_handler=lambda endpoint: 5)
    service.add_endpoint("a", lambda request: None)
    wrong = [
        *misfits(service.ping(), types.ServiceIdentity),
        *misfits(service.info(), types.ServiceInfo),
        *misfits(service.stats(), types.ServiceStats),
    ]
    assert not wrong
