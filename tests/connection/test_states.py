"""The table of a connection's states: what it allows, what it refuses, and that nothing goes past it."""

from __future__ import annotations

import itertools
import re
from pathlib import Path

import pytest

from lab.paths import ROOT
from nats_ev import Nats, Status, pyev
from nats_ev.connection import connection
from nats_ev.connection.states import TRANSITIONS, Event, next_status

OWN = [Status.DISCONNECTED, Status.CONNECTING, Status.CONNECTED, Status.RECONNECTING, Status.CLOSED]


@pytest.mark.parametrize(("status", "event"), list(itertools.product(OWN, Event)))
def test_an_event_leads_where_the_table_says_or_is_refused(status: Status, event: Event) -> None:
    if (status, event) in TRANSITIONS:
        assert next_status(status, event) in OWN
    else:
        with pytest.raises(RuntimeError, match=f"{event.name} cannot happen to a {status.value}"):
            next_status(status, event)


def test_every_status_is_reached_and_left_and_none_is_a_drains() -> None:
    entered = set(TRANSITIONS.values())
    left = {status for status, event in TRANSITIONS if event is not Event.ABANDON}
    assert entered == set(OWN) - {Status.DISCONNECTED}
    assert left == set(OWN)


def test_the_status_is_set_in_one_place() -> None:
    text = Path(connection.__file__).read_text()
    assert len(re.findall(r"\b_status\b(?::[^=]+)? = ", text)) == 2  # __init__, and the setter
    assert "next_status(self._status, event)" in text


def test_the_docs_draw_the_table() -> None:
    text = (ROOT / "docs" / "contributing.md").read_text()
    drawn = set(re.findall(r"^\s+(\w+) --> (\w+) : (\w+)$", text, re.MULTILINE))
    table = {(old.value, new.value, event.name) for (old, event), new in TRANSITIONS.items()}
    assert drawn == {row for row in table if row[2] != "ABANDON"}


def test_a_life_goes_through_the_table(own_server, run, loop: pyev.Loop) -> None:
    server = own_server()
    seen: list[Status] = []
    nats = Nats(loop=loop, reconnect=True, reconnect_delay=20, max_reconnect_delay=20)
    nats.on_error(lambda error: None)
    nats.add_status_listener(seen.append)
    assert nats.status() is Status.DISCONNECTED
    nats.connect(server.host, server.port)
    run(nats.is_connected)
    server.kill()
    run(lambda: nats.status() is Status.RECONNECTING)
    server.start()
    run(nats.is_connected)
    nats.drain()
    run(lambda: nats.status() is Status.CLOSED)
    short = [status for status, _ in itertools.groupby(seen)]
    assert short == [
        Status.CONNECTING, Status.CONNECTED, Status.RECONNECTING, Status.CONNECTED,
        Status.DRAINING_SUBS, Status.DRAINING_PUBS, Status.CLOSED,
    ]  # fmt: skip
