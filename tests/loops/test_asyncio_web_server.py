"""An asyncio web server, aiohttp's, whose handlers make NATS requests; the connection is cut meanwhile."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Coroutine
from typing import Any

import pytest

from nats_ev import NatsError, aio

web = pytest.importorskip("aiohttp.web", reason="aiohttp is not installed")
aiohttp = pytest.importorskip("aiohttp", reason="aiohttp is not installed")
uvloop = pytest.importorskip("uvloop", reason="uvloop is not installed")

REQUESTS, AT_ONCE = 1000, 20
RUNS: dict[str, Callable[[Coroutine[Any, Any, None]], None]] = {
    "asyncio": asyncio.run,
    "uvloop": uvloop.run,
}


async def serve(url: str, use: Callable[[str, Any], Coroutine[Any, Any, None]]) -> None:
    """Run an application on a free port while use(address, client) asks it."""

    async def handle(request: Any) -> Any:
        try:
            answer = await nc.request("web.upper", await request.read(), 5000)
        except NatsError as exc:
            return web.Response(status=503, text=str(exc))
        return web.Response(body=answer.payload)

    async with aio.connect(url, reconnect=True, reconnect_delay=20) as nc:
        app = web.Application()
        app.router.add_post("/", handle)
        runner = web.AppRunner(app)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        port = site._server.sockets[0].getsockname()[1]
        try:
            await asyncio.wait_for(use(f"http://127.0.0.1:{port}/", nc), 60)
        finally:
            await runner.cleanup()


@pytest.mark.parametrize("loop", RUNS)
def test_a_thousand_requests_with_a_reconnect_in_between(
    server: Any, proxy: Any, loop: str
) -> None:
    between = proxy(server.port)
    counts: Counter[int] = Counter()
    late: Counter[int] = Counter()

    async def use(address: str, nc: Any) -> None:
        reconnected = asyncio.Event()
        nc.nats.on_reconnect(reconnected.set)
        responder = await aio.connect(server.url)
        responder.nats.subscribe(
            "web.upper", lambda s, payload, reply, h: responder.publish(reply, payload.upper())
        )
        await responder.flush()
        numbers = iter(range(REQUESTS))

        async def ask(session: Any) -> None:
            for number in numbers:
                if number == REQUESTS // 2:
                    between.cut()
                seen = late if reconnected.is_set() else counts
                async with session.post(address, data=b"n%d" % number) as response:
                    body = await response.read()
                    if response.status == 200:
                        assert body == b"N%d" % number
                    seen[response.status] += 1

        async with aiohttp.ClientSession() as session:
            await asyncio.gather(*(ask(session) for _ in range(AT_ONCE)))
        await asyncio.wait_for(reconnected.wait(), 10)
        await responder.drain()

    RUNS[loop](serve(f"nats://127.0.0.1:{between.port}", use))
    assert (counts + late).total() == REQUESTS
    assert set(counts) <= {200, 503}
    assert counts[503] <= AT_ONCE  # those that were in flight at the cut
    assert set(late) <= {200}
