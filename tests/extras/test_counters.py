"""Counters: values of any size, many at once, sources, and increments that are never counted twice."""

from __future__ import annotations

from typing import Any

import pytest

from nats_ev import (
    ApiLevelError,
    BadOptionsError,
    BadSubjectError,
    ConnectionLostError,
    CounterError,
    JetStream,
    MessageNotFoundError,
    RequestTimeoutError,
    StreamNotFoundError,
)
from nats_ev.extras import CounterEntry, Counters, CountersNotEnabledError, OutcomeUnknownError
from nats_ev.extras.counters import to_int, to_text


@pytest.fixture
def counters(js: JetStream, call: Any, since: Any) -> Counters:
    if not since(2, 12):
        pytest.skip("counters: nats-server 2.12")
    made = Counters(js, "C")
    info, err = call(made.create_stream, {"subjects": ["c.>"], "storage": "memory"})
    assert err is None
    assert info["config"]["allow_msg_counter"]
    return made


def test_a_counter_is_added_to_and_read(counters, call):
    assert call(counters.add, "c.a", 5) == (5, None)
    assert call(counters.increment, "c.a") == (6, None)
    assert call(counters.decrement, "c.a", n=10) == (-4, None)
    assert call(counters.add, "c.a", 0) == (-4, None)
    assert call(counters.get, "c.a") == (-4, None)
    assert call(counters.load, "c.a") == (-4, None)
    entry, err = call(counters.get_entry, "c.a")
    assert err is None
    assert entry[:4] == ("c.a", -4, 0, {})
    assert entry.seq == 4
    assert entry.time.tzinfo is not None
    assert isinstance(call(counters.get, "c.never")[1], MessageNotFoundError)


def test_numbers_have_any_size(counters, call):
    big = 10**6000 + 7
    assert call(counters.add, "c.big", big) == (big, None)
    assert call(counters.add, "c.big", -2 * big) == (-big, None)
    assert call(counters.get, "c.big") == (-big, None)
    with pytest.raises(BadOptionsError, match="100,000 digits"):
        counters.add("c.big", 1 << 400_000, print)


@pytest.mark.parametrize("bits", [0, 1, 1799, 1800, 1801, 7201, 50_000])
def test_texts_of_large_integers(bits):
    for value in (2**bits, 2**bits - 1, -(2**bits), 10 ** (bits // 3)):
        text = to_text(value)
        assert to_int(text) == value
        assert text.lstrip("-")[0] != "0" or value == 0
    for wrong in ("", "+", "1_0", "0x1", "1.0", "\u0661"):
        with pytest.raises(ValueError, match="not an integer"):
            to_int(wrong)


def test_an_increment_with_the_id_of_a_former_one_is_not_counted(counters, call):
    assert call(counters.add, "c.a", 5, msg_id="once") == (5, None)
    call(counters.add, "c.a", 1)
    assert call(counters.add, "c.a", 5, msg_id="once") == (6, None)
    ack, err = call(counters.js.publish, "c.a", b"", incr=5, msg_id="once")
    assert err is None, "a duplicate is no sign of an old server"
    assert ack["duplicate"]
    assert call(counters.get, "c.a") == (6, None)


def test_a_lost_acknowledgement_leaves_the_outcome_unknown(
    counters, call, connected, line_server, proxy, run, eventually
):
    assert call(counters.add, "c.a", 1) == (1, None)
    through = proxy(line_server("newest").port)
    other = Counters(JetStream(connected(through)), "C")
    assert call(other.check)[1] is None
    through.stall("down")
    answers: list[Any] = []
    other.add("c.a", 3, lambda value, err: answers.append(err))
    eventually(lambda: call(counters.get, "c.a") == (4, None))
    through.cut()
    run(lambda: answers)
    assert isinstance(answers[0], OutcomeUnknownError)
    assert isinstance(answers[0].__cause__, ConnectionLostError)
    assert call(counters.add, "c.a", 3, msg_id=answers[0].msg_id) == (4, None)


def test_an_increment_without_an_answer_says_how_to_repeat_it(connected, fake, call, server):
    class Silent(JetStream):
        def publish(self, subject: str, payload: Any, cb: Any, **options: Any) -> None:
            self.nats.call_soon(cb, None, RequestTimeoutError())

        def stream_info(self, name: str, opts: Any = None, cb: Any = None) -> None:
            config = {"allow_msg_counter": True, "allow_direct": True, "subjects": ["c.>"]}
            self.nats.call_soon(opts if cb is None else cb, {"config": config}, None)

    _, err = call(Counters(Silent(connected(server)), "C").add, "c.a", 3)
    assert isinstance(err, OutcomeUnknownError)
    assert (err.subject, err.increment) == ("c.a", 3)
    assert err.msg_id in str(err)
    assert isinstance(err.__cause__, RequestTimeoutError)


def test_a_reset_takes_away_what_there_was(counters, call):
    call(counters.add, "c.a", 41)
    call(counters.add, "c.a", 1)
    assert call(counters.reset, "c.a") == (0, None)
    assert call(counters.get, "c.a") == (0, None)
    call(counters.add, "c.a", 2)
    assert call(counters.reset, "c.a", purge=True) == (0, None)
    assert call(counters.js.stream_info, "C")[0]["state"]["messages"] == 1
    assert call(counters.add, "c.a", 2) == (2, None)
    assert isinstance(call(counters.reset, "c.none")[1], MessageNotFoundError)


@pytest.mark.parametrize("kept", [-1, 1])
def test_many_counters_are_read_at_once(counters, call, kept):
    js = counters.js
    call(counters.create_stream, {
        "subjects": ["c.>"], "storage": "memory", "max_msgs_per_subject": kept,
    })  # fmt: skip
    for number in range(1100):
        js.publish_async(f"c.many.{number}", b"", lambda ack, err: None, incr=number)
    assert call(js.publish_complete) == (True, None)
    call(counters.add, "c.other", 7)
    assert call(counters.get_multiple, ["c.many.1", "c.other", "c.none"]) == (
        {"c.many.1": 1, "c.other": 7}, None,
    )  # fmt: skip
    values, err = call(counters.load_multiple, "c.many.*")
    assert err is None
    assert values == {f"c.many.{number}": number for number in range(1100)}
    names = [f"c.many.{number}" for number in range(1099)] + ["c.none"]
    values, err = call(counters.get_multiple, names)
    assert err is None
    assert len(values) == 1099
    entries, err = call(counters.get_entries, ["c.*.7", "c.none"])
    assert [each[:3] for each in entries] == [("c.many.7", 7, 7)]
    assert call(counters.get_multiple, "c.none.*") == ({}, None)


def test_the_sources_of_a_sum_are_told(counters, call, eventually):
    js = counters.js
    call(counters.add, "c.a", 13)
    total = Counters(js, "SUM")
    source = {"name": "C", "subject_transforms": [{"src": "c.a", "dest": "sum.a"}]}
    config = {"subjects": ["sum.>"], "sources": [source], "storage": "memory"}
    assert call(total.create_stream, config)[1] is None
    eventually(lambda: call(total.get, "sum.a") == (13, None))
    assert call(total.add, "sum.a", -3) == (10, None)
    entry, err = call(total.get_entry, "sum.a")
    assert err is None
    assert isinstance(entry, CounterEntry)
    assert (entry.value, entry.increment, entry.sources) == (10, -3, {"C": {"c.a": 13}})


def test_a_stream_without_counters_is_refused_by_name(js, call, since):
    call(js.stream_create, {"name": "PLAIN", "subjects": ["p.>"], "storage": "memory"})
    plain = Counters(js, "PLAIN")
    for method in (plain.get, plain.get_entry, plain.reset):
        _, err = call(method, "p.a")
        assert isinstance(err, CountersNotEnabledError)
        assert (err.stream, err.missing) == ("PLAIN", ("allow_msg_counter", "allow_direct"))
    assert isinstance(call(plain.add, "p.a", 1)[1], CountersNotEnabledError)
    assert isinstance(call(Counters(js, "NONE").add, "p.a", 1)[1], StreamNotFoundError)
    if since(2, 12):
        assert isinstance(call(js.publish, "p.a", b"", incr=1)[1], CounterError)


def test_a_subject_of_another_stream_is_not_counted(counters, call):
    _, err = call(counters.add, "elsewhere", 1)
    assert isinstance(err, BadSubjectError)
    assert "'C' does not store" in str(err)


def test_the_server_refuses_what_is_no_increment(counters, call):
    for payload, options, code in (
        (b"x", {"incr": 1}, 10170), (b"", {}, 10169), (b"", {"incr": "x"}, 10171),
        (b"", {"incr": 1, "expect_stream": "C"}, 10171),
    ):  # fmt: skip
        _, err = call(counters.js.publish, "c.a", payload, **options)
        assert isinstance(err, CounterError)
        assert err.err_code == code


def test_an_older_server_is_told_apart(connected, line_server, call):
    js = JetStream(connected(line_server("2.10")))
    _, err = call(Counters(js, "C").create_stream, {"subjects": ["c.>"], "storage": "memory"})
    assert isinstance(err, ApiLevelError)


def test_wrong_arguments_are_raised(counters):
    for wrong in (1.5, True, "1", None):
        with pytest.raises(TypeError, match="n must be int"):
            counters.add("c.a", wrong, print)
    with pytest.raises(BadSubjectError):
        counters.add("", 1, print)
    with pytest.raises(BadOptionsError):
        counters.add("c.a", 1, print, msg_id="")
    with pytest.raises(BadOptionsError):
        counters.get_entries([], print)
    with pytest.raises(TypeError, match="js must be a JetStream"):
        Counters(counters.js.nats, "C")


def test_a_subject_with_wildcards_is_no_counter(counters, call):
    """The last of all counters would answer, and a purge would delete them all."""
    call(counters.add, "c.a", 1)
    call(counters.add, "c.b", 2)
    for subject in ("c.*", ">", "c..a"):
        for method in (counters.get, counters.get_entry, counters.reset, counters.increment):
            with pytest.raises(BadSubjectError):
                method(subject, print)
        with pytest.raises(BadSubjectError):
            counters.reset(subject, print, purge=True)
    assert call(counters.get_multiple, "c.>")[0] == {"c.a": 1, "c.b": 2}
