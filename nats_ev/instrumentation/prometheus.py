"""Prometheus: the counters of `Nats.stats` as metrics, read when they are scraped.

::

    from prometheus_client import start_http_server
    from nats_ev.instrumentation.prometheus import Prometheus

    nats = Nats(host="127.0.0.1", instrumentation=Prometheus())
    start_http_server(9100)

Needs the package ``prometheus-client`` (``pip install nats_ev[prometheus]``). Messages cost nothing: a scrape
asks each client for its `Nats.stats`, in any thread. Each metric has the label ``client``.

=============================================  =====================================================
nats_ev_received_messages_total, _bytes_total  messages, and their header and payload bytes
nats_ev_sent_messages_total, _bytes_total      the same of what was framed for sending
nats_ev_written_messages_total                 messages that the kernel has taken
nats_ev_discarded_messages_total               messages that were accepted and not sent
nats_ev_reconnects_total                       connections that replaced a lost one
nats_ev_slow_episodes_total                    how often messages began to pile up
nats_ev_failed_attempts_total                  attempts to connect that have failed
nats_ev_errors_total                           errors that on_error gets, by the label ``type``
nats_ev_waiting_messages, nats_ev_waiting_bytes  what the kernel has not taken yet
nats_ev_pings_outstanding                      PINGs without a PONG
nats_ev_rtt_seconds                            of the last PING
nats_ev_connected                              1 or 0
nats_ev_subscriptions                          how many there are
=============================================  =====================================================
"""

from __future__ import annotations

import threading
import weakref
from collections import Counter
from collections.abc import Iterator
from typing import Any

from prometheus_client import REGISTRY
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector, CollectorRegistry

from ..errors import NatsError
from .hook import Instrumentation

# (name, the key of stats(), help)
_COUNTERS = (
    ("received_messages", "msgs_in", "Messages received"),
    ("received_bytes", "bytes_in", "Header and payload bytes received"),
    ("sent_messages", "msgs_out", "Messages framed for sending"),
    ("sent_bytes", "bytes_out", "Header and payload bytes framed for sending"),
    ("written_messages", "written", "Messages that the kernel has taken"),
    ("discarded_messages", "discarded", "Messages that were accepted and not sent"),
    ("reconnects", "reconnects", "Connections that replaced a lost one"),
    ("slow_episodes", "slow_episodes", "How often messages began to pile up"),
)
_GAUGES = (
    ("waiting_messages", "waiting", "Messages that the kernel has not taken yet"),
    ("waiting_bytes", "bytes_waiting", "Bytes that the kernel has not taken yet"),
    ("pings_outstanding", "pings_outstanding", "PINGs without a PONG"),
)


class Prometheus(Instrumentation, Collector):
    """A collector over the statistics of clients. One object may observe several clients."""

    def __init__(
        self,
        registry: CollectorRegistry | None = REGISTRY,
        *,
        client: str | None = None,
        namespace: str = "nats_ev",
    ) -> None:
        """Make a collector.

        Args:
            registry: where it is registered; None: nowhere.
            client: the value of the label ``client``; a second client of this object gets a number after
                it. None: numbers from 1 on.
            namespace: what the names of the metrics begin with.
        """
        self._client = client
        self._namespace = namespace
        self._lock = threading.Lock()
        self._clients: dict[str, _Client] = {}
        self._made = 0
        if registry is not None:
            registry.register(self)

    def attach(self, nats: Any) -> Instrumentation:
        """Take a new client among those that are shown, until it is freed; see `Instrumentation.attach`."""
        with self._lock:
            self._made += 1
            label = str(self._made)
            if self._client is not None:
                label = self._client if self._made == 1 else f"{self._client}-{label}"
            found = self._clients[label] = _Client(weakref.ref(nats))
        return found

    def describe(self) -> list[Metric]:
        """Return nothing: the registry need not ask clients when the collector is registered."""
        return []

    def collect(self) -> Iterator[Metric]:
        """Return the metrics of now."""
        with self._lock:
            known = [(label, seen, seen.nats()) for label, seen in self._clients.items()]
            for label, _, nats in known:
                if nats is None:
                    del self._clients[label]
        clients = [(label, seen, nats) for label, seen, nats in known if nats is not None]
        stats = {label: nats.stats() for label, _, nats in clients}
        for name, key, text in _COUNTERS:
            counter = self._counter(name, text)
            for label, found in stats.items():
                counter.add_metric([label], found[key])
            yield counter
        for name, key, text in _GAUGES:
            yield self._gauge(name, text, {label: found[key] for label, found in stats.items()})
        rtts = {label: found["rtt"] / 1000 for label, found in stats.items()}
        yield self._gauge("rtt_seconds", "Round trip of the last PING", rtts)
        up = {label: float(nats.is_connected()) for label, _, nats in clients}
        yield self._gauge("connected", "Whether there is a connection", up)
        subs = {label: nats.subscription_count() for label, _, nats in clients}
        yield self._gauge("subscriptions", "Subscriptions", subs)
        failed = self._counter("failed_attempts", "Attempts to connect that have failed")
        errors = CounterMetricFamily(
            f"{self._namespace}_errors", "Errors by their class", labels=["client", "type"]
        )
        for label, seen, _ in clients:
            failed.add_metric([label], seen.failed)
            for kind, count in list(seen.errors.items()):
                errors.add_metric([label, kind], count)
        yield failed
        yield errors

    def _counter(self, name: str, text: str) -> CounterMetricFamily:
        return CounterMetricFamily(f"{self._namespace}_{name}", text, labels=["client"])

    def _gauge(self, name: str, text: str, values: dict[str, float]) -> GaugeMetricFamily:
        gauge = GaugeMetricFamily(f"{self._namespace}_{name}", text, labels=["client"])
        for label, value in values.items():
            gauge.add_metric([label], value)
        return gauge


class _Client(Instrumentation):
    """The observer of one client: counts what `Nats.stats` does not."""

    def __init__(self, nats: weakref.ref[Any]) -> None:
        self.nats = nats
        self.failed = 0
        self.errors: Counter[str] = Counter()

    def attempt_failed(self, url: str, error: NatsError, delay_ms: float | None) -> None:
        self.failed += 1

    def error(self, error: NatsError) -> None:
        self.errors[type(error).__name__] += 1
