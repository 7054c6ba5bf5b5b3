"""What a user sees of public objects at a prompt or in a log: a repr that says which one, and no secret."""

from __future__ import annotations

import enum
import inspect
from dataclasses import is_dataclass
from typing import Any

import pytest

import nats_ev
from lab.jwts import Key
from nats_ev import Headers, Service, ServiceError, Status
from nats_ev.options import Options

SEED = Key("user").seed
SECRETS = {
    "password": "p4ssw0rd-sentinel", "token": "t0ken-sentinel", "jwt": "j3wt.sentinel.x",
    "nkey_seed": SEED,
}  # fmt: skip
URL = "nats://us3r-sentinel:urlp4ss-sentinel@127.0.0.1:4222"
HIDDEN = (*SECRETS.values(), "urlp4ss-sentinel")

CHECKED = sorted(
    name
    for name in nats_ev.__all__
    if inspect.isclass(getattr(nats_ev, name)) and not name.endswith("Error")
)


def shows_itself(kind: type) -> bool:
    """Return whether instances have a repr other than object's <… at 0x…>."""
    generated = issubclass(kind, (tuple, dict, enum.Enum)) or is_dataclass(kind)
    return generated or kind.__repr__ is not object.__repr__


@pytest.mark.parametrize("name", CHECKED)
def test_public_objects_have_a_repr_of_their_own(name):
    kind = getattr(nats_ev, name)
    assert inspect.isclass(kind)
    assert shows_itself(kind)


def test_reprs_say_which_object_it_is(client):
    nats = client()
    assert repr(Status.CONNECTED) == "<Status.CONNECTED: 'CONNECTED'>"
    assert repr(Headers({"a": ["1", "2"]})) == "Headers([('a', '1'), ('a', '2')])"
    parsed = Headers.parse(b"NATS/1.0 503 No Responders\r\n\r\n")
    assert repr(parsed) == "Headers([], status=503, description='No Responders')"
    assert repr(nats) == "<Nats DISCONNECTED>"
    math = Service(nats, name="math", version="1.0.0")
    assert repr(math) == f"<Service math 1.0.0 {math.id}>"
    group = math.group("sums").group("v1")
    assert repr(group) == "<Group 'sums.v1' of math>"
    assert repr(group.add_endpoint("add", print)) == "<Endpoint add sums.v1.add>"
    assert repr(ServiceError(400, "no")) == "ServiceError('400:no')"


def test_reprs_show_no_secret(client):
    nats = client(user="us3r-sentinel", **SECRETS)
    nats.set_server_pool([URL])
    shown = [repr(nats), str(nats), repr(nats.server_info()), repr(nats.stats())]
    for where in ({"host": URL}, {"servers": [URL]}, {"path": "/nowhere"}):
        options = Options.from_kwargs({"user": "us3r-sentinel", **SECRETS, **where})
        shown += [repr(options), str(options)]
    assert "user='us3r-sentinel'" in shown[-1], "what is no secret is shown"
    for text in shown:
        for secret in HIDDEN:
            assert secret not in text


# What completion offers at a prompt.
OFFERED: dict[str, set[str]] = {
    "Endpoint": {
        "info", "last_error", "metadata", "name", "num_errors", "num_requests",
        "processing_time", "queue_group", "reset", "sid", "stats", "subject",
    },
    "Group": {"add_endpoint", "add_group", "group"},
    "Service": {
        "add_endpoint", "add_group", "description", "endpoints", "group", "id", "info", "metadata",
        "name", "ping", "reset", "stats", "stop", "stopped", "stopping", "version",
    },
    "ServiceRequest": {
        "data", "header", "headers", "reply", "respond", "respond_error", "respond_json", "subject",
    },
}  # fmt: skip


def test_handles_of_a_service_offer_what_a_user_may_call(connected, server, run):
    nats, requests = connected(server), []
    math = Service(nats, name="math", version="1.0.0")
    group = math.group("sums")
    endpoint = group.add_endpoint("add", requests.append)
    nats.request("sums.add", b"1", lambda response, err, headers: None)
    run(lambda: requests)
    things: list[Any] = [math, group, endpoint, requests[0]]
    offered = {
        type(thing).__name__: {name for name in dir(thing) if not name.startswith("_")}
        for thing in things
    }
    assert offered == OFFERED
