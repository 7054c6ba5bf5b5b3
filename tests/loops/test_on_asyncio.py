"""The client in programs of Tornado and Twisted, whose loops are asyncio's."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
import textwrap
from typing import Any

import pytest


def program(server: Any, code: str) -> str:
    code = textwrap.dedent(code).replace("PORT", str(server.port))
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", code], capture_output=True, text=True, timeout=30
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    return done.stdout.strip()


def needs(name: str) -> None:
    if importlib.util.find_spec(name) is None:
        pytest.skip(f"{name} is not installed")


@pytest.mark.parametrize("loop", ["", "tornado.ioloop.IOLoop.current().asyncio_loop"])
def test_a_web_server_of_tornado_answers_with_what_nats_answers(server: Any, loop: str) -> None:
    needs("tornado")
    code = """
    import asyncio, tornado.httpclient, tornado.httpserver, tornado.ioloop, tornado.netutil, tornado.web
    from nats_ev import Nats
    from nats_ev.asyncio_loop import AsyncioLoop

    class Upper(tornado.web.RequestHandler):
        async def get(self, text):
            answer = asyncio.get_running_loop().create_future()
            nats.request("tornado.upper", text.encode(), lambda r, err, h: answer.set_result(err or r))
            self.write(await answer)

    async def main():
        global nats
        nats = Nats(host="127.0.0.1", port=PORT, loop=AsyncioLoop(LOOP))
        nats.subscribe("tornado.upper", lambda s, payload, reply, h: nats.publish(reply, payload.upper()))
        web = tornado.httpserver.HTTPServer(tornado.web.Application([("/(.*)", Upper)]))
        [sock] = tornado.netutil.bind_sockets(0, "127.0.0.1")
        web.add_sockets([sock])
        fetch = tornado.httpclient.AsyncHTTPClient().fetch
        url = f"http://127.0.0.1:{sock.getsockname()[1]}/a"
        answers = await asyncio.gather(*(fetch(url + str(number)) for number in range(50)))
        print([answer.body for answer in answers] == [b"A%d" % number for number in range(50)])
        drained = asyncio.get_running_loop().create_future()
        nats.drain(drained.set_result)
        print(await drained)
        web.stop()
        await web.close_all_connections()

    tornado.ioloop.IOLoop.current().run_sync(main, timeout=20)
    """
    code = code.replace("LOOP)", f"{loop})")
    code = "import asyncio\nasyncio.set_event_loop(asyncio.new_event_loop())\n" + textwrap.dedent(
        code
    )
    assert program(server, code).split() == ["True", "None"]


@pytest.mark.parametrize("uvloop", [False, True])
def test_twisted_on_its_asyncio_reactor(server: Any, uvloop: bool) -> None:
    needs("twisted")
    if uvloop:
        needs("uvloop")
    code = """
    import asyncio
    from twisted.internet import asyncioreactor
    loop = NEW_LOOP()
    asyncioreactor.install(loop)
    from twisted.internet import defer, reactor, task
    from nats_ev import Nats
    from nats_ev.asyncio_loop import AsyncioLoop

    def ask(nats, text):
        answer = defer.Deferred()
        done = lambda r, err, h: answer.errback(err) if err else answer.callback(r)
        nats.request("twisted.upper", text, done)
        return answer

    @defer.inlineCallbacks
    def main(reactor):
        nats = Nats(host="127.0.0.1", port=PORT, loop=AsyncioLoop(loop))
        nats.subscribe("twisted.upper", lambda s, payload, reply, h: nats.publish(reply, payload.upper()))
        answers = yield defer.gatherResults([ask(nats, b"t%d" % number) for number in range(50)])
        print(answers == [b"T%d" % number for number in range(50)])
        yield task.deferLater(reactor, 0.01, lambda: None)
        drained = defer.Deferred()
        nats.drain(drained.callback)
        print((yield drained))

    try:
        task.react(main)
    finally:
        loop.close()  # Twisted leaves it open
    """
    new_loop = "__import__('uvloop').new_event_loop" if uvloop else "asyncio.new_event_loop"
    assert program(server, code.replace("NEW_LOOP", new_loop)).split() == ["True", "None"]
