"""Groups and large messages leave nothing in their client."""

from __future__ import annotations

import gc
import os
import weakref
from typing import Any

from lab.inside import core_of, engine_of
from nats_ev import JetStream
from nats_ev.extras import ConsumerGroups, LargeMessages


def gone(found: weakref.ref[Any]) -> bool:
    gc.collect()
    return found() is None


def test_a_member_that_has_ended_is_freed(
    connected: Any, own_server: Any, call: Any, run: Any, eventually: Any
) -> None:
    js = JetStream(connected(own_server(jetstream=True)))
    groups = ConsumerGroups(js)
    call(js.stream_create, {"name": "S", "subjects": ["o.*"]})
    call(groups.create_elastic, "S", "g", 2)
    call(groups.add_members, "S", "g", ["a"])
    for way in ("stop", "drain", "delete"):
        errors: list[Any] = []
        member = groups.elastic_consume(
            "S", "g", "a", lambda msg, err, errors=errors: errors.append(err)
        )
        run(lambda member=member: member.filters)
        engine = weakref.ref(engine_of(member))
        if way == "stop":
            member.stop()
        elif way == "drain":
            call(member.drain)
        else:
            call(groups.delete_elastic, "S", "g")
            run(lambda errors=errors: errors)
        del member
        eventually(lambda engine=engine: call(js.nats.rtt) and gone(engine))


def test_large_messages_are_freed(connected: Any, server: Any, call: Any, run: Any) -> None:
    nats = connected(server, no_responders=True)
    large = LargeMessages(nats)
    subject = os.urandom(4).hex()
    got: list[int] = []
    sub = large.subscribe(subject, lambda msg, err: msg and got.append(len(msg.payload)))
    assert call(large.publish, subject, b"x" * 3_000_000, receivers=1) == (1, None)
    run(lambda: got)
    sub.stop()
    assert large.transfers == 0
    large.close()
    refs = [weakref.ref(core_of(large)), weakref.ref(sub), weakref.ref(core_of(large).exchange)]
    del large, sub
    assert call(nats.rtt)[1] is None
    assert all(gone(each) for each in refs)
