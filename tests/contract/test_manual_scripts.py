"""The manual's snippets as scripts of their own, line by line, each on the default loop of its process."""

from __future__ import annotations

import os
import subprocess
import sys
from textwrap import dedent

import pytest

BEGIN = """
import sys
from nats_ev import Nats, pyev
host, port = "127.0.0.1", int(sys.argv[1])
"""

# Name → (script, what it prints).
SCRIPTS = {
    "synopsis": (
        """
        nats = Nats(
            host=host, port=port, reconnect=True,
            on_error=lambda err: print("nats:", err), on_connect=lambda: print("connected"),
        )
        sid = nats.subscribe("foo.>", lambda subject, payload, reply, headers: print(
            subject, payload, reply, headers))
        nats.subscribe("work.>", lambda *message: print("work"), "workers")
        nats.publish("foo.bar", "hello world")
        nats.hpublish("foo.bar", "NATS/1.0\\r\\nX-Trace: 42\\r\\n\\r\\n", "body")

        def replied(response, err, headers):
            if err:
                raise err
            print("reply:", response)
            nats.unsubscribe(sid)
            nats.disconnect()

        nats.subscribe("service.echo", lambda s, payload, reply, h: nats.publish(reply, payload))
        nats.request("service.echo", "ping", replied, 5000)
        pyev.default_loop().start()
        """,
        """
        connected
        foo.bar b'hello world' None None
        foo.bar b'body' None b'NATS/1.0\\r\\nX-Trace: 42\\r\\n\\r\\n'
        reply: b'ping'
        """,
    ),
    "new, then connect": (
        """
        nats = Nats(on_error=print, on_connect=lambda: (print("ready"), nats.disconnect()))
        nats.on_disconnect(lambda: print("gone"))
        print(nats.is_connected())
        nats.connect(host, port)
        pyev.default_loop().start()
        """,
        """
        False
        ready
        gone
        """,
    ),
    "publish and its aliases": (
        """
        nats = Nats(host=host, port=port)
        nats.subscribe_max("foo", lambda s, payload, reply, headers: print(payload, reply, headers), 4)
        nats.pub("foo", "hello")
        nats.pub("foo", "hello", "reply.subject")
        nats.hpub("foo", "NATS/1.0\\r\\nX-Key: val\\r\\n\\r\\n", "body")
        nats.publish("foo")
        nats.pub("foo", "too many")
        nats.drain()
        pyev.default_loop().start()
        """,
        """
        b'hello' None None
        b'hello' reply.subject None
        b'body' None b'NATS/1.0\\r\\nX-Key: val\\r\\n\\r\\n'
        b'' None None
        """,
    ),
    "request, its errors": (
        """
        nats = Nats(host=host, port=port, no_responders=True)

        def first(response, err, headers):
            print(response, err)
            nats.sub("silence", lambda *message: None)
            nats.req("silence", "data", second, 20)

        def second(response, err, headers):
            print(response, err, isinstance(err, TimeoutError))
            nats.disconnect()

        nats.req("nobody", "data", first, 5000)
        pyev.default_loop().start()
        """,
        """
        None no responders
        None request timeout True
        """,
    ),
    "drain": (
        """
        nats = Nats(host=host, port=port, on_disconnect=lambda: print("disconnected"))

        def drained(err):
            if err:
                raise SystemExit(f"drain failed: {err}")
            print("drained, safe to exit")

        nats.sub("foo", lambda *message: print("last message"))
        nats.pub("foo")
        nats.flush(lambda err: (print("flushed", err), nats.drain(drained)))
        pyev.default_loop().start()
        """,
        """
        last message
        flushed None
        drained, safe to exit
        disconnected
        """,
    ),
    "batch": (
        """
        nats = Nats(host=host, port=port)
        got = []
        nats.sub("foo.*", lambda subject, payload, reply, headers: got.append((subject, payload)))
        nats.batch(lambda: [nats.publish(f"foo.{i}", f"msg-{i}") for i in range(1, 1001)])
        nats.drain(lambda err: print(len(got), got[0], got[-1], err))
        pyev.default_loop().start()
        """,
        """
        1000 ('foo.1', b'msg-1') ('foo.1000', b'msg-1000') None
        """,
    ),
    "slow consumer, stats": (
        """
        nats = Nats(host=host, port=port)

        def slow(pending_bytes):
            print("slow consumer:", pending_bytes > 1024 * 1024)
            nats.drain(lambda err: print(nats.stats()["msgs_out"], nats.stats()["bytes_out"]))

        def connected():
            nats.slow_consumer(1024 * 1024, slow)
            for _ in range(2):
                nats.publish("foo", b"x" * 1024 * 1024)

        nats.on_connect(connected)
        pyev.default_loop().start()
        """,
        """
        slow consumer: True
        2 2097152
        """,
    ),
    "while connecting": (
        """
        nats = Nats(host=host, port=port, reconnect=True)
        nats.publish("foo", "stale")
        nats.request("foo", "stale", lambda response, err, headers: print(response, err))
        print(nats.waiting_count(), nats.server_info())
        nats.skip_waiting()
        print(nats.waiting_count(), nats.reconnect_enabled())
        nats.reconnect(False)
        nats.on_connect(lambda: (print(nats.max_payload(), nats.subscription_count()), nats.disconnect()))
        pyev.default_loop().start()
        """,
        """
        2 None
        0 True
        None disconnected
        1048576 1
        """,
    ),
}


@pytest.mark.parametrize("name", SCRIPTS)
def test_a_snippet_of_the_manual_does_what_the_manual_says(server, name: str) -> None:
    script, expected = (dedent(text) for text in SCRIPTS[name])
    done = subprocess.run(
        [sys.executable, "-c", BEGIN + script, str(server.port)],
        capture_output=True,
        text=True,
        timeout=30,
        env=os.environ | {"PYTHONDEVMODE": "1", "PYTHONWARNINGS": "error"},
    )
    assert (done.stdout, done.stderr, done.returncode) == (expected.lstrip("\n"), "", 0)
