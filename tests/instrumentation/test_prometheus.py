"""The Prometheus collector, with the real package and its text exposition."""

from __future__ import annotations

import gc
from typing import Any

from prometheus_client import CollectorRegistry, generate_latest

from lab.steps import collect, flushed
from nats_ev import Nats
from nats_ev.instrumentation.prometheus import Prometheus
from nats_ev.testing import free_port


def test_the_exposition_has_the_counters_of_each_client(server, client, run):
    registry = CollectorRegistry()
    seen = Prometheus(registry, client="web")
    nats = client(server, instrumentation=seen)
    other = client(None, host="127.0.0.1", port=free_port(), instrumentation=seen)
    run(nats.is_connected)
    run(lambda: other.recorder.errors)
    assert type(nats) is Nats
    nats.subscribe("p", collect(got := []))
    for _ in range(3):
        nats.publish("p", b"12345")
    run(lambda: len(got) == 3)
    flushed(nats, run)

    def value(name: str, client: str = "web", **labels: Any) -> float | None:
        return registry.get_sample_value(f"nats_ev_{name}", {"client": client, **labels})

    assert value("received_messages_total") == value("sent_messages_total") == 3
    assert value("received_bytes_total") == value("sent_bytes_total") == 15
    assert value("written_messages_total") == 3
    assert value("waiting_bytes") == value("pings_outstanding") == value("reconnects_total") == 0
    assert value("rtt_seconds") == nats.stats()["rtt"] / 1000 > 0
    assert (value("connected"), value("connected", "web-2")) == (1, 0)
    assert value("subscriptions") == 1
    assert value("failed_attempts_total", "web-2") == 1
    assert value("errors_total", "web-2", type="ConnectError") == 1
    assert b"# TYPE nats_ev_received_messages_total counter" in generate_latest(registry)


def test_a_client_that_is_freed_is_not_shown(loop):
    registry = CollectorRegistry()
    seen = Prometheus(registry)
    nats = Nats(loop=loop, instrumentation=seen)
    assert registry.get_sample_value("nats_ev_connected", {"client": "1"}) == 0
    del nats
    gc.collect()
    assert registry.get_sample_value("nats_ev_connected", {"client": "1"}) is None
