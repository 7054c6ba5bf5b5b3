"""A million requests whose time-outs all differ: flat memory, and what they cost beside equal ones.

`python -m drills.timeouts [REQUESTS]`, a part of `make soak`. A deadline that is handed on gives each request
another time-out. Answered requests must leave nothing until their time would be over, and requests that
nobody answers, a tenth of them, must expire one by one.
"""

from __future__ import annotations

import gc
import sys
import time
from typing import Any

from lab.natsserver import NatsServer
from lab.process import resident
from nats_ev import Nats, RequestTimeoutError, pyev

REQUESTS = 1_000_000
AT_ONCE = 256
LONG, SHORT = 60_000.0, 20.0  # ms: of requests that are answered, and of those that are not
# Bytes that memory may grow by, per request and in all; a deadline that stays has some 1,000.
EACH, SPARE = 1, 1024 * 1024


class Requests:
    """Requests, so many at once, until all have come to their ends."""

    def __init__(self, nats: Nats, loop: pyev.Loop, count: int, distinct: bool) -> None:
        self._nats = nats
        self._loop = loop
        self._count = count
        self._distinct = distinct
        self._begun = self.answered = self.expired = 0
        self.samples: list[int] = []
        self.cpu = 0.0

    def run(self) -> None:
        """Run the loop until all requests have ended."""
        self.cpu = -time.process_time()
        for _ in range(min(AT_ONCE, self._count)):
            self._next()
        self._loop.start()
        self.cpu += time.process_time()

    def _next(self) -> None:
        number = self._begun
        self._begun = number + 1
        more = number * 1e-4 if self._distinct else 0.0
        if number % 10:
            self._nats.request("timeouts.echo", b"x", self._done, LONG + more)
        else:
            self._nats.request("timeouts.silent", b"x", self._done, SHORT + more % SHORT)

    def _done(self, response: Any, error: Any, headers: Any) -> None:
        if error is None:
            self.answered += 1
        elif isinstance(error, RequestTimeoutError):
            self.expired += 1
        else:
            raise error
        ended = self.answered + self.expired
        if ended % max(1, self._count // 10) == 0:
            gc.collect()
            self.samples.append(resident())
        if self._begun < self._count:
            self._next()
        elif ended == self._count:
            self._loop.stop()


def timeouts(count: int) -> list[str]:
    """Run; return what was measured. Raises AssertionError for growing memory or a wrong number of ends."""
    loop = pyev.Loop(debug=True)  # what a callback raises ends the run
    spent = {}
    texts = []
    with NatsServer() as server:
        nats = Nats(loop=loop, host=server.host, port=server.port)
        nats.subscribe(
            "timeouts.echo", lambda s, payload, reply, headers: nats.publish(reply, payload)
        )
        nats.subscribe("timeouts.silent", lambda *message: None)
        nats.on_connect(loop.stop)
        loop.start()
        for distinct in (False, True):
            requests = Requests(nats, loop, count, distinct)
            requests.run()
            grown = requests.samples[-1] - requests.samples[0]
            spent[distinct] = requests.cpu / count
            texts.append(
                f"{count:,} requests, time-outs {'all differ' if distinct else 'equal'}: "
                f"{requests.answered:,} answered, {requests.expired:,} expired, "
                f"{spent[distinct] * 1e6:.2f} µs of CPU each; memory "
                f"{grown / 1024:+.0f} KiB since the first tenth (of {requests.samples[-1] >> 20} MiB)"
            )
            assert requests.expired == (count + 9) // 10, texts[-1]
            assert requests.answered + requests.expired == count, texts[-1]
            assert grown <= EACH * count + SPARE, texts[-1]
        nats.disconnect()
        loop.start()
    texts.append(
        f"time-outs that differ cost {spent[True] / spent[False]:.2f} times as much as equal ones"
    )
    return texts


def main() -> None:
    for text in timeouts(int(sys.argv[1]) if len(sys.argv) > 1 else REQUESTS):
        print("timeouts:", text)


if __name__ == "__main__":
    main()
