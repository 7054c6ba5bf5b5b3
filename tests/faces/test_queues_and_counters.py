"""The faces of counters, schedules and work queues."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone
from typing import Any

import pytest

from lab.faces import Face, block, got
from nats_ev import MessageNotFoundError
from nats_ev.nuid import next_nuid


def test_counters_have_a_face(face: Face, since: Any) -> None:
    if not since(2, 12):
        pytest.skip("counters: nats-server 2.12")

    async def scenario(face: Face) -> None:
        async with block(face.connect()) as nc:
            js = nc.jetstream()
            name = next_nuid()
            counters = face.module.Counters(js, name)
            await got(counters.create_stream({"subjects": [f"{name}.>"], "storage": "memory"}))
            assert await got(counters.add(f"{name}.a", 3)) == 3
            assert await got(counters.increment(f"{name}.a", n=2)) == 5
            assert await got(counters.get_multiple(f"{name}.*")) == {f"{name}.a": 5}
            with pytest.raises(MessageNotFoundError):
                await got(counters.get(f"{name}.b"))
            await got(js.stream_delete(name))

    face.run(scenario)


def test_schedules_have_a_face(face: Face, since: Any) -> None:
    if not since(2, 12):
        pytest.skip("schedules: nats-server 2.12")

    async def scenario(face: Face) -> None:
        async with block(face.connect()) as nc:
            js = nc.jetstream()
            name = next_nuid()
            schedules = face.module.Schedules(js, name)
            await got(schedules.create_stream({"subjects": [f"{name}.>"], "storage": "memory"}))
            when = datetime.now(timezone.utc) + timedelta(hours=1)
            await got(schedules.at(f"{name}.a", when, f"{name}.b", b"x"))
            assert [each.subject for each in await got(schedules.list())] == [f"{name}.a"]
            await got(schedules.stop(f"{name}.a", f"{name}.b", b"early"))
            assert await got(schedules.cancel(f"{name}.a")) is False
            with pytest.raises(MessageNotFoundError):
                await got(schedules.get(f"{name}.a"))
            await got(js.stream_delete(name))

    face.run(scenario)
