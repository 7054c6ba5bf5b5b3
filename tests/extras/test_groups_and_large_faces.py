"""Consumer groups and large messages in each face."""

from __future__ import annotations

import os

import pytest

from lab.faces import Face, block, each, got
from nats_ev import JsMsg
from nats_ev.extras import (
    ConsumerGroupDeletedError,
    LargeMessageNotUnderstoodError,
    LargeMsg,
    NotGroupMemberError,
)
from nats_ev.nuid import next_nuid

BIG = os.urandom(2 * 1024 * 1024)


def test_groups(face: Face) -> None:
    async def scenario(face: Face) -> None:
        async with block(face.connect()) as nc:
            js, name = nc.jetstream(), next_nuid()
            groups = face.module.ConsumerGroups(js)
            await got(js.stream_create({"name": name, "subjects": [f"{name}.*"]}))
            filters = [{"filter": f"{name}.*", "partitioning_wildcards": [1]}]
            made = await got(groups.create_elastic(name, "g", 3, partitioning_filters=filters))
            assert made["max_members"] == 3
            assert await got(groups.add_members(name, "g", ["a"])) == ["a"]
            for number in range(20):
                await got(js.publish(f"{name}.k{number % 4}", str(number)))
            member = groups.elastic_consume(name, "g", "a", {"ack_wait": 10**9})
            assert (member.group, member.member, member.stream) == ("g", "a", f"{name}-g")
            found = []
            async for msg in each(member):
                assert isinstance(msg, JsMsg)
                found.append((msg.subject, int(msg.data)))
                msg.ack()
                if len(found) == 20:
                    break
            assert sorted(number for _, number in found) == list(range(20))
            assert {subject for subject, _ in found} == {f"{name}.k{i}" for i in range(4)}
            assert await got(groups.list_elastic_consumer_groups(name)) == ["g"]
            active = await got(groups.elastic_is_in_membership_and_active(name, "g", "a"))
            assert active == (True, True)
            assert await got(groups.delete_elastic(name, "g")) is True
            with pytest.raises(ConsumerGroupDeletedError):
                await got(member.next())
            assert (await got(groups.create_static(name, "s", 2, members=["x"])))["members"] == [
                "x"
            ]
            with pytest.raises(NotGroupMemberError):
                await got(groups.static_consume(name, "s", "y").next())
            other = groups.static_consume(name, "s", "x")
            await got(other.drain())
            await got(groups.delete_static(name, "s"))
            await got(js.stream_delete(name))

    face.run(scenario)


def test_large_messages(face: Face) -> None:
    async def scenario(face: Face) -> None:
        async with block(face.connect(no_responders=True)) as nc, block(face.connect()) as other:
            subject = next_nuid()
            large = face.module.LargeMessages(nc, accept_timeout=300)
            there = face.module.LargeMessages(other)
            taken = there.subscribe(subject)
            await got(other.rtt())
            assert await got(large.publish(subject, b"small")) == 0
            if face.name == "blocking":  # whose other client acts only while it is asked
                large.publish(subject, b"x")
            else:
                assert await got(large.publish(subject, BIG, receivers=1)) == 1
            msg = await got(taken.next())
            assert isinstance(msg, LargeMsg)
            assert (msg.subject, msg.payload) == (subject, b"small")
            second = await got(taken.next())
            assert second.payload == (b"x" if face.name == "blocking" else BIG)
            await got(taken.drain())
            # With one client, so that it works in a face that blocks.
            nc.subscribe(f"{subject}.old")
            with pytest.raises(Exception, match="nobody has taken") as caught:
                await got(large.publish(f"{subject}.old", BIG))
            assert not isinstance(caught.value, LargeMessageNotUnderstoodError)
            mine = large.subscribe(f"{subject}.own")
            assert await got(large.publish(f"{subject}.own", BIG, receivers=1)) == 1
            assert (await got(mine.next())).payload == BIG
            mine.stop()

    face.run(scenario)


def test_large_requests_and_references(face: Face) -> None:
    async def scenario(face: Face) -> None:
        async with block(face.connect()) as nc:
            js, name = nc.jetstream(), next_nuid()
            store = js.object_store(name)
            await got(store.create_bucket())
            large = face.module.LargeMessages(nc, store=store, delete_loaded=True)
            await got(js.stream_create({"name": name, "subjects": [name]}))
            ack = await got(large.publish_reference(name, BIG, js=js))
            assert ack["stream"] == name
            stored = await got(js.get_msg(name, 1))
            assert (await got(large.load(stored))).payload == BIG
            await got(js.stream_delete(name))
            await got(store.delete_bucket())
            if face.name == "blocking":  # nobody would answer meanwhile
                return
            asked = large.subscribe(f"{name}.q")

            async def answer() -> None:
                async for msg in each(asked):
                    msg.respond(msg.payload[::-1])

            face.spawn(answer())
            assert (await got(large.request(f"{name}.q", BIG))).payload == BIG[::-1]
            asked.stop()

    face.run(scenario)
