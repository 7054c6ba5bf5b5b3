"""A client needs of its loop the factories of pyev, called by position, and `update`; nothing else.

That is what makes it work with a genuine pyev and with adapters to other libev bindings.
"""

from __future__ import annotations

from typing import Any

import pytest

from lab.strict_loop import strict
from nats_ev import Nats, RequestTimeoutError, pyev


@pytest.fixture
def adapter(loop: pyev.Loop) -> Any:
    return strict(loop)


def test_a_whole_life_on_a_loop_that_has_only_the_positional_factories(
    adapter, client, own_server, run
):
    server = own_server()
    nats = client(server, loop=adapter, host="localhost", reconnect=True, reconnect_delay=10)
    events, got, answers = nats.recorder.events, [], []
    run(nats.is_connected)
    nats.subscribe("adapter", lambda s, payload, r, h: got.append(payload))
    nats.subscribe("echo", lambda s, payload, reply, h: nats.publish(reply, payload))
    nats.subscribe("silent", lambda *message: None)
    nats.publish("adapter", b"1")
    nats.request("echo", b"2", lambda *answer: answers.append(answer))
    nats.request("silent", b"", lambda *answer: answers.append(answer), 20)
    run(lambda: got == [b"1"] and len(answers) == 2)
    assert answers[0] == (b"2", None, None)
    assert isinstance(answers[1][1], RequestTimeoutError)

    server.restart()
    run(lambda: "reconnect" in events)
    for _ in range(20):
        nats.publish("adapter", b"x" * 100_000)  # more than one early write
    run(lambda: len(got) == 21)
    nats.drain()
    run(lambda: events[-1] == "disconnect")
    assert [event for event in events if not event.startswith("error")] == [
        "connect", "disconnect", "connect", "reconnect", "disconnect",
    ]  # fmt: skip


def test_an_exception_in_a_callback_needs_no_debug_attribute(
    adapter, client, server, run, excepthook
):
    nats = client(server, loop=adapter)
    nats.subscribe("raise", lambda *message: 1 / 0)
    nats.publish("raise")
    run(lambda: excepthook)
    assert isinstance(excepthook[0], ZeroDivisionError)
    assert nats.is_connected()


def test_what_is_no_loop_is_refused_at_the_call():
    for bad in (object(), 5, pyev):
        with pytest.raises((TypeError, AttributeError)):
            Nats(loop=bad, host="127.0.0.1")
