"""A client whose calls of the kernel `flaky_calls` makes fail. Prints what came back, as JSON.

python flaky_program.py HOST PORT COUNT    messages one by one, half of them before the connection is up
python flaky_program.py HOST PORT lose     with FLAKY_ONCE: a call that fails for good, then a reconnect
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from nats_ev import Nats, pyev

host, port, what = sys.argv[1:]
loop = pyev.default_loop()
events: list[str] = []
errors: list[str] = []
nats = Nats(
    host=host, port=int(port), connect_timeout=0, reconnect=True, reconnect_delay=10,
    on_error=lambda error: errors.append(str(error)),
    on_disconnect=lambda: events.append("disconnect"),
    on_reconnect=lambda: events.append("reconnect"),
)  # fmt: skip
got: list[str] = []
subject = nats.new_inbox()
nats.subscribe(subject, lambda s, payload, r, h: got.append(payload.decode()))


def run(condition: Callable[[], Any]) -> None:
    """Run the loop until the condition is true; a watchdog ends the process."""
    while not condition():
        loop.start(pyev.EVRUN_ONCE)


watchdog = loop.timer(60.0, 0.0, lambda *_: os._exit(3))
watchdog.start()
if what == "lose":
    flushed: list[Any] = []
    nats.flush(flushed.append)
    run(lambda: flushed)
    Path(os.environ["FLAKY_ONCE"]).touch()
    nats.publish(subject, b"kept whole")
    run(lambda: "reconnect" in events)
    nats.publish(subject, b"last")
    run(lambda: "last" in got)
else:
    count = int(what)
    sent = [f"{i} " * (i % 17) for i in range(count)]
    for payload in sent[: count // 2]:
        nats.publish(subject, payload)
    run(lambda: len(got) >= count // 2)
    for payload in sent[count // 2 :]:
        nats.publish(subject, payload)
    run(lambda: len(got) >= count)
    got = ["same"] if got == sent else got
print(json.dumps({"got": got, "events": events, "errors": errors}))
os._exit(0)
