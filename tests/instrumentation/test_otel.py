"""OpenTelemetry with the real SDK: spans, their parents over the wire, and metrics."""

from __future__ import annotations

from typing import Any

import pytest
from opentelemetry import baggage, context, trace
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanKind, StatusCode

from lab.steps import collect, collect_messages, flushed
from nats_ev import BadHeadersError, BadSubjectError, Headers, JetStream
from nats_ev.instrumentation.otel import OpenTelemetry


class Watched:
    """An observer, and what it has made."""

    def __init__(self, **options: Any) -> None:
        self.exporter = InMemorySpanExporter()
        self.provider = TracerProvider(shutdown_on_exit=False)
        self.provider.add_span_processor(SimpleSpanProcessor(self.exporter))
        self.reader = InMemoryMetricReader()
        meters = MeterProvider([self.reader], shutdown_on_exit=False)
        self.observer = OpenTelemetry(self.provider, meters, **options)

    def spans(self) -> dict[str, Any]:
        return {span.name: span for span in self.exporter.get_finished_spans()}

    def metrics(self) -> dict[str, list[Any]]:
        data = self.reader.get_metrics_data()
        found = data.resource_metrics[0].scope_metrics[0].metrics if data is not None else []
        return {metric.name: list(metric.data.data_points) for metric in found}


@pytest.fixture
def watched() -> Watched:
    return Watched()


def test_a_message_is_one_trace_from_the_publisher_to_the_callback(server, connected, run, watched):
    one, two = (
        connected(server, instrumentation=watched.observer),
        connected(server, instrumentation=watched.observer),
    )
    inside: list[Any] = []

    def callback(subject, payload, reply, headers):
        inside.append((trace.get_current_span().get_span_context(), baggage.get_baggage("k")))

    two.subscribe("orders.*", callback, "workers")
    flushed(two, run)
    tracer = watched.provider.get_tracer("test")
    with tracer.start_as_current_span("outer"):
        token = context.attach(baggage.set_baggage("k", "v"))
        one.publish("orders.new", "five5", headers={"A": "b"})
        context.detach(token)
    run(lambda: inside)
    spans = watched.spans()
    outer, sent, processed = (
        spans[n] for n in ("outer", "publish orders.new", "process orders.new")
    )
    assert sent.parent.span_id == outer.context.span_id
    assert processed.parent.span_id == sent.context.span_id
    assert processed.context.trace_id == outer.context.trace_id
    assert [link.context.span_id for link in processed.links] == [sent.context.span_id]
    assert inside == [(processed.context, "v")]
    assert (sent.kind, processed.kind) == (SpanKind.PRODUCER, SpanKind.CONSUMER)
    expected = {
        "messaging.system": "nats", "messaging.destination.name": "orders.new",
        "server.address": server.host, "server.port": server.port, "messaging.message.body.size": 5,
    }  # fmt: skip
    for span, more in (
        (sent, {
            "messaging.operation.name": "publish", "messaging.operation.type": "send",
            "messaging.client.id": str(one.client_id()),
        }),
        (processed, {
            "messaging.operation.name": "process", "messaging.operation.type": "process",
            "messaging.consumer.group.name": "workers",
            "messaging.destination.subscription.name": "orders.*",
            "messaging.client.id": str(two.client_id()),
        }),
    ):  # fmt: skip
        assert dict(span.attributes) == expected | more
    metrics = watched.metrics()
    assert [point.value for point in metrics["messaging.client.sent.messages"]] == [1]
    assert [point.value for point in metrics["messaging.client.consumed.messages"]] == [1]
    assert [point.count for point in metrics["messaging.process.duration"]] == [1]


def test_the_header_is_that_of_W3C_and_the_programs_own_headers_stay(
    server, connected, run, watched
):
    nats, plain = connected(server, instrumentation=watched.observer), connected(server)
    plain.subscribe("t", collect_messages(got := []))
    flushed(plain, run)
    nats.publish("t")
    nats.hpublish("t", b"NATS/1.0\r\nA: b\r\nA: c\r\n\r\n", b"x")
    nats.hpublish("t", Headers({"D": "e", "traceparent": "old"}))
    run(lambda: len(got) == 3)
    parsed = [Headers.parse(headers) for *_, headers in got]
    spans = watched.exporter.get_finished_spans()
    for headers, span in zip(parsed, spans, strict=True):
        (found,) = headers.get_all("traceparent")
        assert found[:-2] == f"00-{span.context.trace_id:032x}-{span.context.span_id:016x}-"
    assert parsed[1].get_all("A") == ["b", "c"]
    assert parsed[2]["D"] == "e"


def test_a_request_is_a_span_until_its_answer_and_an_error_is_its_status(
    server, connected, run, watched
):
    nats = connected(server, instrumentation=watched.observer, no_responders=True)
    nats.subscribe("svc", lambda subject, payload, reply, headers: nats.publish(reply, b"yes"))
    answers: list[Any] = []
    tracer = watched.provider.get_tracer("test")
    with tracer.start_as_current_span("outer"):
        nats.request(
            "svc", b"?", lambda *args: answers.append(trace.get_current_span().get_span_context())
        )
    nats.request("nobody", b"?", lambda *args: answers.append(args))
    run(lambda: len(answers) == 2)
    spans = watched.spans()
    asked, processed, answer = (
        spans[n] for n in ("request svc", "process svc", "publish (temporary)")
    )
    assert asked.kind is SpanKind.CLIENT
    assert processed.parent.span_id == asked.context.span_id
    assert answer.parent.span_id == processed.context.span_id
    assert answer.attributes["messaging.destination.temporary"] is True
    assert spans["outer"].context in answers
    failed = spans["request nobody"]
    assert failed.status.status_code is StatusCode.ERROR
    assert failed.attributes["error.type"] == "nats_ev.NoRespondersError"
    points = watched.metrics()["messaging.client.operation.duration"]
    assert sorted(point.attributes.get("error.type", "") for point in points) == [
        "", "nats_ev.NoRespondersError",
    ]  # fmt: skip


def test_many_answers_are_one_span_and_a_request_that_is_given_up_ends(
    server, connected, run, watched
):
    nats = connected(server, instrumentation=watched.observer)
    answers: list[Any] = []
    for _ in range(3):
        nats.subscribe("many", lambda s, p, reply, h: nats.publish(reply, b"yes"))
    nats.request_many("many", b"?", lambda *args: answers.append(args), max_msgs=3)
    run(lambda: len(answers) == 4)
    spans = watched.exporter.get_finished_spans()
    assert [span.name for span in spans].count("request many") == 1
    last = [span.name for span in spans].index("request many")
    assert [span.name for span in spans[:last]].count("publish (temporary)") >= 3
    nats.cancel_request(nats.request("silent", b"?", lambda *args: answers.append(args)))
    run(lambda: "request silent" in watched.spans())
    assert [event.name for event in watched.spans()["request silent"].events] == ["given up"]


def test_an_exception_of_a_callback_is_recorded_and_goes_on(
    server, connected, run, watched, excepthook
):
    nats = connected(server, instrumentation=watched.observer)
    nats.subscribe("boom", lambda *args: 1 / 0)
    nats.publish("boom")
    run(lambda: excepthook)
    span = watched.spans()["process boom"]
    assert span.status.status_code is StatusCode.ERROR
    assert span.attributes["error.type"] == "ZeroDivisionError"
    assert [event.name for event in span.events] == ["exception"]


def test_what_is_malformed_is_refused_as_ever(server, connected, watched):
    nats = connected(server, instrumentation=watched.observer)
    with pytest.raises(BadHeadersError):
        nats.hpublish("a", {"A": "b\r\nC: d"})
    with pytest.raises(BadHeadersError):
        nats.hpublish("a", b"not a block")
    with pytest.raises(TypeError):
        nats.hpublish("a", 5)
    with pytest.raises(BadSubjectError):
        nats.publish("a b")
    with pytest.raises(TypeError):
        nats.publish(5)
    assert nats.stats()["accepted"] == 0
    assert watched.spans()["publish a b"].status.status_code is StatusCode.ERROR


@pytest.mark.parametrize("internal", [False, True])
def test_jetstreams_own_subjects_have_spans_on_wish_only(server, connected, call, run, internal):
    watched = Watched(internal=internal)
    js = JetStream(connected(server, instrumentation=watched.observer))
    call(js.stream_create, {"name": f"otel{internal}", "subjects": [f"otel{internal}.>"]})
    ack, _ = call(js.publish, f"otel{internal}.a", b"1")
    assert ack["seq"] == 1
    got: list[Any] = []
    js.ordered_consumer(f"otel{internal}", lambda msg, err: got.append(msg))
    run(lambda: got)
    spans = watched.spans()
    asked = spans[f"request otel{internal}.a"]
    assert spans[f"process otel{internal}.a"].parent.span_id == asked.context.span_id
    assert any("$JS.API" in name for name in spans) == internal
    call(js.stream_delete, f"otel{internal}")


def test_without_a_provider_nothing_is_added_and_all_works(server, connected, run):
    nats = connected(server, instrumentation=OpenTelemetry())
    nats.subscribe("x", collect(got := []))
    nats.publish("x", b"1")
    run(lambda: got == [b"1"])
