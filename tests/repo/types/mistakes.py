"""Mistakes on purpose: each type checker must report each line that has a mark, and no other one.

A mark has the code of mypy and the rule of pyright. `lab.planted` compares; `right.py` has the right uses.
"""

from __future__ import annotations

from typing import Any

from nats_ev import Nats, NatsError, aio, blocking, green


def takes_nothing() -> None: ...
def takes_a_number(number: int) -> None: ...
def on_error(err: NatsError) -> None: ...


anything: Any = "nats://127.0.0.1"

# Options.
Nats(reconect=True)  # expect: call-arg | reportCallIssue
Nats(host=5)  # expect: arg-type | reportArgumentType
Nats(port="4222")  # expect: arg-type | reportArgumentType
Nats(anything)  # expect: call-arg | reportCallIssue
Nats(servers=[1, 2])  # expect: list-item | reportArgumentType
Nats(loop=5)  # expect: arg-type | reportArgumentType
Nats(reconnect="yes")  # expect: arg-type | reportArgumentType
Nats(reconnect_delay="2 s")  # expect: arg-type | reportArgumentType
Nats(tls_context=True)  # expect: arg-type | reportArgumentType
Nats(on_error=takes_nothing)  # expect: arg-type | reportArgumentType
Nats(on_connect=on_error)  # expect: arg-type | reportArgumentType
Nats(user_cb=lambda: "user")  # expect: arg-type,return-value | reportArgumentType
aio.connect(reconect=True)  # expect: call-arg | reportCallIssue
aio.connect(port="4222")  # expect: arg-type | reportArgumentType
aio.connect(loop=None)  # expect: call-arg | reportCallIssue
blocking.connect(name=5)  # expect: arg-type | reportArgumentType
blocking.connect(background=True, reconect=True)  # expect: call-arg | reportCallIssue
green.connect(max_payload="1")  # expect: arg-type | reportArgumentType

# Accessors.
nats = Nats()
nats.ping_interval("5")  # expect: call-overload | reportArgumentType
nats.max_payload(1.5)  # expect: call-overload | reportArgumentType
nats.on_error(takes_nothing)  # expect: arg-type | reportArgumentType
nats.on_error(1)  # expect: call-overload | reportArgumentType
interval: str = nats.ping_interval()  # expect: assignment | reportAssignmentType
print(nats.stats()["messages"])  # expect: typeddict-item | reportGeneralTypeIssues
