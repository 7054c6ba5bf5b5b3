"""A request whose subject the user may not publish to ends at once."""

from __future__ import annotations

from typing import Any

import pytest

from lab import inside
from nats_ev import NatsError, PermissionsViolationError

CONFIG = """
accounts { A { users: [
  { user: admin, password: a }
  { user: poor, password: a, permissions: { publish: { deny: ["denied.>"] } } } ] } }
"""


@pytest.fixture
def poor(own_server: Any, connected: Any) -> Any:
    server = own_server(config=CONFIG)
    other = connected(server, user="admin", password="a")
    other.subscribe("echo", lambda subject, payload, reply, headers: other.publish(reply, payload))
    return connected(server, user="poor", password="a", on_error=lambda error: None)


def ends(seen: list[Any]) -> Any:
    return lambda response, error, headers: seen.append(error)


WAYS: dict[str, Any] = {
    "bytes": lambda nats, cb: nats.request("denied.x", b"x", cb, 0),
    "str": lambda nats, cb: nats.request("denied.x", "x", cb, 60_000),
    "headers": lambda nats, cb: nats.request("denied.x", b"x", cb, 0, headers={"A": "b"}),
    "ignoring 503": lambda nats, cb: nats.request("denied.x", b"x", cb, 0, no_responders=False),
    "many answers": lambda nats, cb: nats.request_many("denied.x", b"x", cb, 0),
}


@pytest.mark.parametrize("way", WAYS)
def test_every_kind_of_request_ends_at_once(poor, run, way):
    seen: list[Any] = []
    WAYS[way](poor, ends(seen))
    run(lambda: seen)
    assert [type(error) for error in seen] == [PermissionsViolationError]
    assert seen[0].subject == "denied.x"


@pytest.mark.parametrize("count", [2, 3, 100, 5000])
def test_all_requests_to_the_same_subject_end_and_no_others(poor, run, count):
    seen: list[Any] = []
    answers: list[Any] = []
    for n in range(count):
        poor.request("denied.x", b"%d" % n, ends(seen), 0)
        poor.request("echo", b"%d" % n, lambda response, *rest: answers.append(response), 0)
    run(lambda: len(seen) == count and len(answers) == count)
    assert {type(error) for error in seen} == {PermissionsViolationError}
    assert answers == [b"%d" % n for n in range(count)]


def test_later_requests_end_as_the_first_did(poor, run):
    """Also when the subject was published to before, so that it was fast."""
    for _ in range(3):
        poor.publish("denied.y", b"x")
    flushed: list[Any] = []
    poor.flush(flushed.append)
    run(lambda: flushed)
    seen: list[Any] = []
    for n in range(1, 6):
        poor.request("denied.y", b"x", ends(seen), 0)
        run(lambda n=n: len(seen) == n)
    assert {type(error) for error in seen} == {PermissionsViolationError}


def test_a_callback_may_cancel_another_request_that_is_about_to_end(poor, run):
    seen: list[Any] = []

    def first(response: Any, error: Any, headers: Any) -> None:
        seen.append(error)
        poor.cancel_request(second)

    poor.request("denied.x", b"1", first, 0)
    second = poor.request("denied.x", b"2", ends(seen), 0)
    flushed: list[Any] = []
    poor.flush(flushed.append)
    run(lambda: flushed)
    assert len(seen) == 1


def test_a_drain_goes_on_after_it(poor, run):
    seen: list[Any] = []
    poor.request("denied.x", b"x", ends(seen), 0)
    poor.drain(seen.append)
    run(lambda: len(seen) == 2)
    assert isinstance(seen[0], PermissionsViolationError)
    assert seen[1] is None


def test_a_violation_for_a_publish_ends_no_request(fake, client, run):
    def script(peer: Any) -> None:
        peer.handshake()
        replies = [peer.until("PUB (a|b) .* 1")[-1].split()[2] for _ in range(2)]
        peer.send("-ERR 'Permissions Violation for Publish to \"c\"'\r\n")
        peer.send("-ERR 'Permissions Violation for Subscription to \"a\"'\r\n")
        for reply in replies:
            peer.send(f"MSG {reply} 1 2\r\nok\r\n")
        peer.at_eof()

    errors: list[NatsError] = []
    nats = client(fake(script), on_error=errors.append)
    run(nats.is_connected)
    got: list[Any] = []
    for subject in "ab":
        nats.request(subject, b"x", lambda response, *rest: got.append(response), 0)
    run(lambda: len(got) == 2)
    assert got == [b"ok", b"ok"]
    assert len(errors) == 2


def test_requests_to_ever_new_subjects_leave_nothing(connected, server, run):
    nats, got = connected(server), []
    nats.subscribe("s.*", lambda subject, payload, reply, headers: nats.publish(reply, payload))
    for n in range(3000):
        nats.request(f"s.{n}", b"x", lambda response, *rest: got.append(response), 0)
        if n % 100 == 0:
            run(lambda n=n: len(got) == n + 1)
    run(lambda: len(got) == 3000)
    nats.request("s.last", b"x", lambda response, *rest: got.append(response), 0)
    run(lambda: len(got) == 3001)
    assert inside.subjects_kept(nats) < 1000
