"""A transfer whose user lacks a right ends at once, with the violation."""

from __future__ import annotations

from typing import Any

import pytest

from nats_ev import JetStream, ObjectStore, PermissionsViolationError


@pytest.mark.parametrize("denied", ["$O.>", "$O.b.C.>", "$O.b.M.>", "$JS.API.>"])
def test_without_the_right_a_put_ends_at_once(client, own_server, call, tmp_path, denied):
    admin, poor = stores_with_and_without(
        client, own_server, tmp_path, f'publish: {{deny: ["{denied}"]}}'
    )
    call(admin.create_bucket, {"storage": "memory"})
    info, error = call(poor.put, "n", bytes(500_000))
    assert info is None
    assert isinstance(error, PermissionsViolationError)
    assert error.subject
    assert error.subject.startswith(denied.rstrip(">"))


@pytest.mark.parametrize(
    "denied", ["publish: {deny: ['$JS.API.>']}", "subscribe: {deny: ['_INBOX.>']}"]
)
def test_without_the_right_a_get_and_a_list_end_at_once(client, own_server, call, tmp_path, denied):
    admin, poor = stores_with_and_without(client, own_server, tmp_path, denied)
    call(admin.create_bucket, {"storage": "memory"})
    assert call(admin.put, "n", b"content")[1] is None
    for method, *args in ((poor.get, "n"), (poor.list,), (poor.info, "n")):
        result, error = call(method, *args)
        assert result is None
        assert isinstance(error, PermissionsViolationError)


def test_without_the_right_to_its_consumer_a_get_ends_at_once(client, own_server, call, tmp_path):
    denied = 'publish: {deny: ["$JS.API.CONSUMER.>"]}'
    admin, poor = stores_with_and_without(client, own_server, tmp_path, denied)
    call(admin.create_bucket, {"storage": "memory"})
    assert call(admin.put, "n", b"content")[1] is None
    assert isinstance(call(poor.get, "n")[1], PermissionsViolationError)


def stores_with_and_without(
    client: Any, own_server: Any, tmp_path: Any, denied: str
) -> tuple[ObjectStore, ObjectStore]:
    """Return one store twice: for a user with all rights, and for one without some."""
    config = f"""
    jetstream {{ store_dir: "{tmp_path}" }}
    accounts {{ A {{ jetstream: enabled, users: [
      {{ user: admin, password: a }}
      {{ user: poor, password: a, permissions: {{ {denied} }} }} ] }} }}
    """
    server = own_server(config=config)
    admin = client(server, user="admin", password="a")
    poor = client(server, user="poor", password="a", on_error=lambda error: None)
    # A timeout that the test would not survive.
    return ObjectStore(JetStream(admin), "b"), ObjectStore(JetStream(poor, timeout=60_000), "b")
