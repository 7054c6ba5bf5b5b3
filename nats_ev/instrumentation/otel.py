"""OpenTelemetry: spans of messages and requests, the trace context in headers, metrics.

::

    from nats_ev.instrumentation.otel import OpenTelemetry

    nats = Nats(host="127.0.0.1", instrumentation=OpenTelemetry())

Needs the package ``opentelemetry-api`` (``pip install nats_ev[opentelemetry]``). The program says where the
spans go, with OpenTelemetry's SDK.

- ``publish SUBJECT`` (PRODUCER): a message is queued. The span's context goes into the headers by the global
  propagator, as ``traceparent`` and ``tracestate`` (W3C) unless the program has set another one.
- ``request SUBJECT`` (CLIENT): from the call to the answer, or the last of several. An error is its status.
- ``process SUBJECT`` (CONSUMER): while the callback of a message runs, with the context of the sender as
  parent and as link. What the callback raises is recorded.

The iterators of the faces give messages to the program later than that: there the program makes a span of
its own, with ``propagate.extract`` of the message's headers.

Names follow the semantic conventions for messaging: ``messaging.system`` is "nats". A subject for answers is
shown as "(temporary)": each request has another one. Subjects that begin with ``$`` (JetStream's and
the server's own) and status messages have no spans, unless ``internal=True``.

Metrics: ``messaging.client.sent.messages``, ``messaging.client.consumed.messages``,
``messaging.client.operation.duration`` (requests) and ``messaging.process.duration``, in seconds.
"""

from __future__ import annotations

import time
import weakref
from collections.abc import Callable
from typing import Any

from opentelemetry import context, metrics, propagate, trace
from opentelemetry.trace import Link, SpanKind, Status, StatusCode

from .._version import __version__
from .hook import Instrumentation

_INBOX = "(temporary)"
_STATUS = b"NATS/1.0 "
_MOST_KNOWN = 1000
_BUCKETS = (0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1, 2.5, 5, 7.5, 10)


class OpenTelemetry(Instrumentation):
    """Makes spans and metrics of messages. One object may observe several clients."""

    def __init__(
        self,
        tracer_provider: trace.TracerProvider | None = None,
        meter_provider: metrics.MeterProvider | None = None,
        *,
        internal: bool = False,
        inbox_prefix: str = "_INBOX",
    ) -> None:
        """Make an observer.

        Args:
            tracer_provider, meter_provider: None: the global ones.
            internal: subjects that begin with ``$`` have spans, too.
            inbox_prefix: what subjects for answers begin with; the client's option of that name.
        """
        self._tracer = trace.get_tracer(__name__, __version__, tracer_provider)
        meter = metrics.get_meter(__name__, __version__, meter_provider)
        self._internal = internal
        self._inbox = f"{inbox_prefix}."
        self._sent = meter.create_counter("messaging.client.sent.messages", "{message}")
        self._consumed = meter.create_counter("messaging.client.consumed.messages", "{message}")
        self._duration = meter.create_histogram(
            "messaging.client.operation.duration",
            "s",
            explicit_bucket_boundaries_advisory=_BUCKETS,
        )
        self._processing = meter.create_histogram(
            "messaging.process.duration", "s", explicit_bucket_boundaries_advisory=_BUCKETS
        )

    def attach(self, nats: Any) -> Instrumentation:
        """See `Instrumentation.attach`."""
        return _Client(self, nats)


class _Client(Instrumentation):
    """The observer of one client, whose server it knows."""

    def __init__(self, shared: OpenTelemetry, nats: Any) -> None:
        self._shared = shared
        self._tracer = shared._tracer
        self._nats = weakref.ref(nats)
        self._server: dict[str, Any] = {}
        self._known: dict[
            tuple[str, str], dict[str, Any]
        ] = {}  # attributes by operation and subject

    def connected(self, url: str, reconnected: bool) -> None:
        self._known.clear()
        host, _, port = url.partition("://")[2].rpartition(":")
        if port.isdigit():
            self._server = {"server.address": host.strip("[]"), "server.port": int(port)}
        else:  # a Unix socket
            self._server = {"server.address": url.partition("://")[2]}
        nats = self._nats()
        if nats is not None and nats.client_id() is not None:
            self._server["messaging.client.id"] = str(nats.client_id())

    def _is_silent(self, subject: Any) -> bool:
        return not isinstance(subject, str) or (subject[:1] == "$" and not self._shared._internal)

    def _attributes(self, operation: str, kind: str, subject: str) -> dict[str, Any]:
        """Return what spans and metrics share."""
        known = self._known.get((operation, subject))
        if known is not None:
            return known.copy()
        temporary = subject.startswith(self._shared._inbox)
        found: dict[str, Any] = {
            "messaging.system": "nats",
            "messaging.operation.name": operation,
            "messaging.operation.type": kind,
            "messaging.destination.name": _INBOX if temporary else subject,
        }
        if temporary:
            found["messaging.destination.temporary"] = True
        for name in ("server.address", "server.port"):
            if name in self._server:
                found[name] = self._server[name]
        if not temporary and len(self._known) < _MOST_KNOWN:
            self._known[operation, subject] = found.copy()
        return found

    def _details(self, attributes: dict[str, Any], payload: Any) -> dict[str, Any]:
        """Return the attributes of a span: also what differs from message to message."""
        details = {**attributes, "messaging.message.body.size": _size(payload)}
        if "messaging.client.id" in self._server:
            details["messaging.client.id"] = self._server["messaging.client.id"]
        return details

    def publish(
        self,
        send: Callable[..., object],
        subject: str,
        payload: Any,
        reply_to: str | None,
        headers: Any,
    ) -> None:
        if self._is_silent(subject):
            send(headers)
            return
        attributes = self._attributes("publish", "send", subject)
        with self._tracer.start_as_current_span(
            f"publish {attributes['messaging.destination.name']}",
            kind=SpanKind.PRODUCER,
            attributes=self._details(attributes, payload),
        ):
            send(headers, _carrier())
        self._shared._sent.add(1, attributes)

    def request(
        self,
        send: Callable[..., int],
        subject: str,
        payload: Any,
        headers: Any,
        answered: Callable[..., object],
        many: bool,
    ) -> None:
        if self._is_silent(subject):
            send(headers, answered)
            return
        attributes = self._attributes("request", "send", subject)
        span = self._tracer.start_span(
            f"request {attributes['messaging.destination.name']}",
            kind=SpanKind.CLIENT,
            attributes=self._details(attributes, payload),
        )
        call = _Request(self._shared, span, attributes, answered, many)
        here = trace.set_span_in_context(span)
        try:
            send(headers, call.answered, _carrier(here))
        except BaseException as exc:
            call.end(exc)
            raise
        self._shared._sent.add(1, attributes)

    def deliver(
        self,
        call: Callable[[], object],
        subject: str,
        payload: bytes,
        reply: str | None,
        headers: bytes | None,
        subscription: tuple[str, str | None],
    ) -> None:
        is_status = headers is not None and not payload and headers.startswith(_STATUS)
        if self._is_silent(subject) or (is_status and not self._shared._internal):
            call()
            return
        attributes = self._attributes("process", "process", subject)
        pattern, queue_group = subscription
        attributes["messaging.destination.subscription.name"] = pattern
        if pattern.startswith(self._shared._inbox):
            attributes["messaging.destination.subscription.name"] = _INBOX
        if queue_group:
            attributes["messaging.consumer.group.name"] = queue_group
        sender = propagate.extract(_fields(headers)) if headers else context.Context()
        creator = trace.get_current_span(sender).get_span_context()
        began = time.perf_counter()
        with self._tracer.start_as_current_span(
            f"process {attributes['messaging.destination.name']}",
            context=sender,
            kind=SpanKind.CONSUMER,
            attributes=self._details(attributes, payload),
            links=[Link(creator)] if creator.is_valid else None,
        ) as span:
            token = context.attach(trace.set_span_in_context(span, sender))  # with the baggage
            try:
                call()
            except BaseException as exc:
                attributes["error.type"] = _type_of(exc)
                span.set_attribute("error.type", attributes["error.type"])
                raise
            finally:
                context.detach(token)
                self._shared._consumed.add(1, attributes)
                self._shared._processing.record(time.perf_counter() - began, attributes)


class _Request:
    """A request under way: its span ends with the last answer."""

    def __init__(
        self,
        shared: OpenTelemetry,
        span: trace.Span,
        attributes: dict[str, Any],
        cb: Callable[..., object],
        many: bool,
    ) -> None:
        self._shared = shared
        self._many = many
        self._ended = False
        self._span = span
        self._attributes = attributes
        self._cb = cb
        self._began = time.perf_counter()
        self._caller = context.get_current()

    def answered(self, response: Any, err: Any, headers: Any) -> None:
        """End the span unless more answers may come, then call the program in the context of its call."""
        if not self._many or response is None:
            self.end(err)
        token = context.attach(self._caller)
        try:
            self._cb(response, err, headers)
        finally:
            context.detach(token)

    def end(self, error: BaseException | None) -> None:
        """End the span; a second end changes nothing."""
        if self._ended:
            return
        self._ended = True
        if error is not None:
            self._attributes["error.type"] = _type_of(error)
            self._span.set_attribute("error.type", self._attributes["error.type"])
            self._span.set_status(Status(StatusCode.ERROR, str(error)))
        self._shared._duration.record(time.perf_counter() - self._began, self._attributes)
        self._span.end()

    def __del__(self) -> None:
        """End the span of a request that was given up: nobody will call its callback."""
        if not self._ended:
            self._ended = True
            self._span.add_event("given up")
            self._span.end()


def _carrier(here: context.Context | None = None) -> dict[str, str]:
    """Return the headers for the trace context of here; None: of now."""
    carrier: dict[str, str] = {}
    propagate.inject(carrier, here)
    return carrier


def _fields(raw: bytes) -> dict[str, str]:
    """Return the headers of a block, the first value of each."""
    fields: dict[str, str] = {}
    for line in raw.decode("utf-8", "replace").split("\r\n")[1:]:
        name, colon, value = line.partition(":")
        if colon:
            fields.setdefault(name, value.strip())
    return fields


def _type_of(error: BaseException) -> str:
    kind = type(error)
    return (
        kind.__qualname__
        if kind.__module__ == "builtins"
        else f"{kind.__module__}.{kind.__qualname__}"
    )


def _size(payload: Any) -> int:
    if payload is None:
        return 0
    if isinstance(payload, str):
        return len(payload.encode("utf-8", "surrogatepass"))
    return payload.nbytes if isinstance(payload, memoryview) else len(payload)
