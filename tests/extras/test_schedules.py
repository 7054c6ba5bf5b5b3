"""Schedules: created, listed, replaced, cancelled, stopped together with a message, and what they deliver."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from nats_ev import (
    ApiLevelError,
    BadOptionsError,
    BadSubjectError,
    JetStream,
    MessageNotFoundError,
    ScheduleError,
    WrongLastSequenceError,
)
from nats_ev.extras import Schedules, schedule_delivery
from nats_ev.extras.schedules import check_cron


def later(**span: float) -> datetime:
    return datetime.now(timezone.utc) + timedelta(**span)


def made(js: JetStream, call: Any) -> Schedules:
    schedules = Schedules(js, "S")
    config = {"subjects": ["at.>", "out.>", "in.>"], "storage": "memory"}
    info, err = call(schedules.create_stream, config)
    assert err is None
    assert info["config"]["allow_msg_schedules"]
    return schedules


@pytest.fixture
def once(js: JetStream, call: Any, since: Any) -> Schedules:
    if not since(2, 12):
        pytest.skip("schedules: nats-server 2.12")
    return made(js, call)


@pytest.fixture
def schedules(once: Schedules, since: Any) -> Schedules:
    if not since(2, 14):
        pytest.skip("repeated schedules: nats-server 2.14")
    return once


def test_a_message_is_published_at_its_time(once, call, eventually):
    call(once.js.publish, "out.1", b"before")
    options = {"headers": {"Own": "1"}, "ttl": "5m", "replace": False}
    ack, err = call(once.at, "at.1", later(milliseconds=300), "out.1", b"now", **options)
    assert (err, ack["stream"]) == (None, "S")
    found: list[Any] = []

    def arrived() -> bool:
        message, _ = call(once.js.get_last_msg, "S", "out.1")
        found[:] = [message] if message.data != b"before" else []
        return bool(found)

    eventually(arrived)
    message = found[0]
    assert (message.data, message.header("Own"), message.header("Nats-TTL")) == (b"now", "1", "5m")
    assert schedule_delivery(message) == ("at.1", None)
    eventually(lambda: isinstance(call(once.get, "at.1")[1], MessageNotFoundError))
    assert call(once.list) == ([], None)


def test_a_schedule_is_read_as_it_was_stored(once, call):
    when = datetime(2090, 1, 2, 3, 4, 5, 600, tzinfo=timezone.utc)
    ack, _ = call(once.at, "at.1", when, "out.1", b"body", headers={"Own": ["1", "2"]})
    found, err = call(once.get, "at.1")
    assert err is None
    assert (found.subject, found.target, found.payload) == ("at.1", "out.1", b"body")
    assert (found.at, found.seq, found.source, found.rollup) == (when, ack["seq"], None, False)
    assert found.headers.pairs() == [("Own", "1"), ("Own", "2")]
    assert call(once.list) == ([found], None)
    assert call(once.list, subjects=["out.>"]) == ([], None)


def test_a_name_has_one_schedule_which_is_replaced_on_wish(once, call):
    first, _ = call(once.at, "at.1", later(hours=1), "out.1", b"1")
    _, err = call(once.at, "at.1", later(hours=1), "out.1", b"2", replace=False)
    assert isinstance(err, WrongLastSequenceError)
    second, err = call(once.at, "at.1", later(hours=2), "out.1", b"3")
    assert err is None
    assert call(once.get, "at.1")[0].payload == b"3"
    assert call(once.cancel, "at.1", seq=first["seq"]) == (False, None)
    assert call(once.cancel, "at.1", seq=second["seq"]) == (True, None)
    assert call(once.cancel, "at.1") == (False, None)


def test_a_cancelled_schedule_publishes_nothing(once, call, eventually):
    call(once.at, "at.1", later(milliseconds=600), "out.1", b"no")
    call(once.at, "at.2", later(milliseconds=900), "out.2", b"yes")
    assert call(once.cancel, "at.1") == (True, None)
    eventually(lambda: call(once.js.get_last_msg, "S", "out.2")[0])
    assert isinstance(call(once.js.get_last_msg, "S", "out.1")[1], MessageNotFoundError)
    assert call(once.cancel, "out.2") == (False, None), "it is no schedule"
    assert call(once.js.get_last_msg, "S", "out.2")[0] is not None


def test_a_schedule_is_stopped_together_with_its_message(once, call):
    ack, _ = call(once.at, "at.1", later(hours=1), "out.1", b"late")
    _, err = call(once.stop, "at.1", "out.1", b"early", seq=ack["seq"] + 1)
    assert isinstance(err, WrongLastSequenceError)
    assert call(once.get, "at.1")[1] is None, "neither"
    _, err = call(once.stop, "at.1", "out.1", b"early", headers={"Own": "1"})
    assert err is None
    message, _ = call(once.js.get_last_msg, "S", "out.1")
    assert (message.data, message.header("Own")) == (b"early", "1")
    assert isinstance(call(once.get, "at.1")[1], MessageNotFoundError)
    assert isinstance(call(once.stop, "at.1", "out.1", b"again")[1], MessageNotFoundError)
    _, err = call(once.stop, "at.1", "out.1", b"again", seq=ack["seq"])
    assert isinstance(err, WrongLastSequenceError)


def test_repeated_schedules_tell_when_the_next_message_comes(schedules, call, eventually):
    call(schedules.every, "at.e", 1000, "out.e", b"own", source="in.e")
    call(schedules.js.publish, "in.e", b"sampled")
    call(schedules.cron, "at.c", "* * * * * *", "out.c", b"tick", zone=ZoneInfo("Asia/Kolkata"))
    for name, data in (("out.e", b"sampled"), ("out.c", b"tick")):
        eventually(lambda name=name: call(schedules.js.get_last_msg, "S", name)[0])
        message, _ = call(schedules.js.get_last_msg, "S", name)
        assert message.data == data
        delivery = schedule_delivery(message)
        assert delivery is not None
        assert delivery.scheduler == name.replace("out", "at")
        assert delivery.next is not None
        assert delivery.next.tzinfo is not None
    assert delivery.next.utcoffset() == timedelta(hours=5, minutes=30)
    found, _ = call(schedules.list, subjects="at.>")
    assert [(each.subject, each.schedule, each.time_zone, each.source) for each in found] == [
        ("at.e", "@every 1000ms", None, "in.e"), ("at.c", "* * * * * *", "Asia/Kolkata", None),
    ]  # fmt: skip
    assert [each.at for each in found] == [None, None]


def test_a_rollup_keeps_the_last_message_only(schedules, call, eventually):
    call(schedules.every, "at.r", timedelta(seconds=1), "out.r", b"x", rollup=True)
    eventually(lambda: call(schedules.js.get_last_msg, "S", "out.r")[0])
    assert call(schedules.get, "at.r")[0].rollup
    first = call(schedules.js.get_last_msg, "S", "out.r")[0].seq
    eventually(lambda: call(schedules.js.get_last_msg, "S", "out.r")[0].seq > first)
    opts = {"subjects_filter": "out.r"}
    assert call(schedules.js.stream_info, "S", opts)[0]["state"]["subjects"] == {"out.r": 1}


def test_a_long_list_is_read_in_parts(once, call):
    when = later(hours=1)
    for number in range(1100):
        once.js.publish_async(
            f"at.many.{number}", b"", lambda ack, err: None, schedule=when, schedule_target="out.x"
        )
    assert call(once.js.publish_complete) == (True, None)
    found, err = call(once.list)
    assert err is None
    assert [each.subject for each in found] == [f"at.many.{number}" for number in range(1100)]


def test_what_the_server_refuses_has_a_class_of_its_own(once, call):
    js = once.js
    call(js.stream_create, {"name": "PLAIN", "subjects": ["p.>"], "storage": "memory"})
    for method, args, code in (
        (Schedules(js, "PLAIN").at, ("p.1", later(hours=1), "p.2", b""), 10188),
        (once.at, ("at.1", later(hours=1), "elsewhere", b""), 10190),
    ):
        _, err = call(method, *args)
        assert isinstance(err, ScheduleError)
        assert err.err_code == code
    config = {"name": "M", "mirror": {"name": "S"}, "allow_msg_schedules": True}
    assert call(js.stream_create, config)[1].err_code == 10186
    _, err = call(js.publish, "out.1", b"", headers={"Nats-Schedule": "@at never"})
    assert isinstance(err, ScheduleError)


def test_an_unknown_zone_is_refused_by_the_server(schedules, call):
    _, err = call(schedules.cron, "at.1", "@daily", "out.1", b"", zone="Nowhere/Land")
    assert isinstance(err, ScheduleError)
    assert err.err_code == 10223


def test_older_servers_are_told_apart(connected, line_server, call):
    old = Schedules(JetStream(connected(line_server("2.10"))), "S")
    assert isinstance(call(old.create_stream, {"subjects": ["s.>"]})[1], ApiLevelError)
    assert isinstance(call(old.at, "s.1", later(hours=1), "s.2", b"")[1], ApiLevelError)
    js = JetStream(connected(line_server("2.12")))
    middle = made(js, call)
    assert call(middle.at, "at.1", later(hours=1), "out.1", b"")[1] is None
    for method, args, options in (
        (middle.every, ("at.2", 1000), {}), (middle.cron, ("at.2", "@daily"), {}),
        (middle.cron, ("at.2", "@daily"), {"zone": "Europe/Berlin"}),
        (middle.at, ("at.2", later(hours=1)), {"source": "in.1"}),
        (middle.at, ("at.2", later(hours=1)), {"rollup": True}),
    ):  # fmt: skip
        assert isinstance(call(method, *args, "out.1", b"", **options)[1], ApiLevelError)
    assert [each.subject for each in call(middle.list)[0]] == ["at.1"]
    call(js.stream_delete, "S")


@pytest.mark.parametrize(
    "expression",
    ["@hourly", "@midnight", "0 */5 * * * *", "0 0 12 1-7 JAN-mar MON,wed", "0 0 0 ? * 0",
     "1,2-5/2 * * * * *"],
)  # fmt: skip
def test_cron_expressions(expression):
    check_cron(expression)


@pytest.mark.parametrize(
    ("expression", "why"),
    [
        ("*/5 * * * *", "6 fields"), ("", "6 fields"), ("@often", "six fields or be one of"),
        ("60 * * * * *", "the second in"), ("0 60 * * * *", "the minute in"), ("0 0 24 * * *", "the hour in"),
        ("0 0 0 0 * *", "the day of month in"), ("0 0 0 * 13 *", "the month in"),
        ("0 0 0 * * 7", "the day of week in"), ("0 0 0 * FOO *", "the month in"),
        ("5-1 * * * * *", "the second in"), ("*/0 * * * * *", "the second in"),
        ("1,, * * * * *", "the second in"),
    ],
)  # fmt: skip
def test_wrong_cron_expressions_are_raised(expression, why):
    with pytest.raises(BadOptionsError, match=why):
        check_cron(expression)


def test_the_server_takes_the_expressions_that_we_take(schedules, call):
    for expression in ("@hourly", "@annually", "0 0 12 1-7 JAN-MAR MON,WED", "1,2-5/2 0 0 ? * 0"):
        assert call(schedules.cron, "at.1", expression, "out.1", b"")[1] is None, expression


def test_wrong_arguments_are_raised(connected, server):
    schedules = Schedules(JetStream(connected(server)), "S")
    with pytest.raises(BadOptionsError, match="at least 1000 ms"):
        schedules.every("at.1", 999, "out.1", b"", print)
    with pytest.raises(TypeError, match="when must be a datetime"):
        schedules.at("at.1", "tomorrow", "out.1", b"", print)  # type: ignore[arg-type]
    with pytest.raises(BadOptionsError, match="own subject"):
        schedules.every("at.1", 1000, "at.1", b"", print)
    with pytest.raises(BadOptionsError, match="own subject"):
        schedules.stop("at.1", "at.1", b"", print)
    with pytest.raises(BadOptionsError, match="wildcards"):
        schedules.every("at.1", 1000, "out.1", b"", print, source="in.*")
    with pytest.raises(BadOptionsError, match="IANA"):
        schedules.cron("at.1", "@daily", "out.1", b"", print, zone="+02:00")
    with pytest.raises(BadSubjectError):
        schedules.get("a b", print)


def test_a_name_with_wildcards_is_no_schedule(once, call):
    """A purge with the filter ``at.*`` would delete them all."""
    for name in ("at.1", "at.2"):
        assert call(once.at, name, later(hours=1), "out.1", b"x")[1] is None
    for name in ("at.*", ">", "at..1"):
        with pytest.raises(BadSubjectError):
            once.cancel(name, print)
        with pytest.raises(BadSubjectError):
            once.get(name, print)
        with pytest.raises(BadSubjectError):
            once.stop(name, "out.1", b"", print)
        with pytest.raises(BadSubjectError):
            once.stop("at.1", name, b"", print)
        with pytest.raises(BadSubjectError):
            once.at(name, later(hours=1), "out.1", b"", print)
        with pytest.raises(BadSubjectError):
            once.at("at.3", later(hours=1), name, b"", print)
    assert len(call(once.list)[0]) == 2


@pytest.mark.parametrize("offset", [timedelta(hours=1), timedelta(hours=-1)])
def test_a_time_that_utc_can_not_express_is_refused(once, offset):
    when = datetime.min if offset > timedelta(0) else datetime.max
    with pytest.raises(BadOptionsError, match="from year 1 to 9999"):
        once.at("at.1", when.replace(tzinfo=timezone(offset)), "out.1", b"", print)
