"""What servers answer, as TypedDicts. At run time all of these are dicts, and a server may add fields."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypedDict

__all__ = ["ServerAnswer", "ServerError", "ServerIdentity"]

# The options of a request, as JSON: those of the monitoring page of the same name, and those that choose
# among the servers: server_name, cluster, host, exact_match, tags, domain. Durations in ns or as timedelta.
SystemOptions = Mapping[str, Any]


class ServerIdentity(TypedDict, total=False):
    """The server that has answered; time in RFC 3339."""

    name: str
    host: str
    id: str
    cluster: str
    domain: str
    ver: str
    tags: list[str]
    metadata: dict[str, str]
    seq: int
    jetstream: bool
    flags: int
    time: str


class ServerError(TypedDict):
    """The error of one server, in the list of what all have answered."""

    code: int
    description: str


class _ServerAnswer(TypedDict):
    server: ServerIdentity


class ServerAnswer(_ServerAnswer, total=False):
    """One server's answer: data is what its monitoring page shows; missing if the request asks for nothing.

    error is set only in lists of answers, in place of data.
    """

    data: dict[str, Any]
    error: ServerError
