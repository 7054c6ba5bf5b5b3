"""The user chooses the next server and the delay before it (ADR-40), and may do anything meanwhile."""

from __future__ import annotations

import time
from datetime import timedelta
from typing import Any

import pytest

from lab.steps import collect, flushed
from nats_ev import (
    BadOptionsError,
    NoServersError,
    ServerNotInPoolError,
    Status,
    WriteTimeoutError,
)
from nats_ev.testing import free_port
from nats_ev.testing.certificates import server_config

FAST = {
    "reconnect": True,
    "reconnect_delay": 1,
    "max_reconnect_delay": 1,
    "max_reconnect_attempts": 0,
}


def url_of(server: Any) -> str:
    return f"nats://127.0.0.1:{server.port}"


@pytest.fixture
def three(own_server: Any) -> list[Any]:
    """Three servers that know nothing of each other."""
    return [own_server() for _ in range(3)]


def is_on(nats: Any, server: Any) -> bool:
    return bool(nats.connected_url() == url_of(server))


def test_the_chosen_server_comes_next_and_the_callback_sees_pool_and_info(three, client, run):
    seen: list[Any] = []

    def choose(servers, info):
        seen.append((servers, info))
        return servers[1], 0

    urls = [url_of(server) for server in three]
    nats = client(None, servers=urls, randomize_servers=False, reconnect_to_cb=choose, **FAST)
    run(lambda: is_on(nats, three[0]))
    assert seen == []  # an explicit connect tries the servers in their order
    three[0].kill()
    run(lambda: is_on(nats, three[2]))
    ((servers, info),) = seen
    assert [entry["url"] for entry in servers] == [urls[1], urls[2], urls[0]]
    assert not any(entry["connected"] for entry in servers)
    assert info["server_id"] != nats.connected_server_id()
    assert nats.server_pool()[-1]["connected"]


@pytest.mark.parametrize("shape", ["dict", "url", "pair", "url and ms", "timedelta"])
def test_a_choice_may_have_any_of_its_shapes(three, client, run, shape):
    wanted = url_of(three[2])

    def choose(servers, info):
        entry = next(entry for entry in servers if entry["url"] == wanted)
        return {
            "dict": entry, "url": wanted, "pair": (entry, 1), "url and ms": (wanted, 1.5),
            "timedelta": (entry, timedelta(milliseconds=1)),
        }[shape]  # fmt: skip

    urls = [url_of(server) for server in three]
    nats = client(None, servers=urls, randomize_servers=False, reconnect_to_cb=choose, **FAST)
    run(lambda: is_on(nats, three[0]))
    nats.force_reconnect()
    run(lambda: is_on(nats, three[2]))
    assert not nats.recorder.errors


def test_the_same_server_is_chosen_at_once_if_the_user_forces_it(three, client, run):
    slow = FAST | {"reconnect_delay": 600_000, "max_reconnect_delay": 600_000}
    urls = [url_of(server) for server in three]
    nats = client(
        None, servers=urls, randomize_servers=False,
        reconnect_to_cb=lambda servers, info: urls[0], **slow,
    )  # fmt: skip
    run(lambda: is_on(nats, three[0]))
    nats.force_reconnect()
    run(lambda: nats.stats()["reconnects"] == 1)
    assert is_on(nats, three[0])


def test_a_pool_that_is_set_in_each_attempt_does_not_repeat_it_for_ever(own_server, client, run):
    server = own_server(config="authorization { user: a, password: b }")
    box: list[Any] = []

    def login() -> tuple[str, str]:
        box[0].set_server_pool([url_of(server)])
        return "a", "wrong"

    box.append(client(server, user_cb=login, reconnect=False))
    run(lambda: box[0].status() is Status.CLOSED)
    assert len(box[0].recorder.errors) == 1


BAD = [
    5, b"nats://127.0.0.1", "no url:::", (1, 2, 3), {"url": 5}, ("{url}", -1), ("{url}", "soon"),
    ("{url}", float("nan")), {}, True, ("{url}", True),
]  # fmt: skip


@pytest.mark.parametrize("answer", BAD, ids=repr)
def test_a_bad_choice_is_an_error_that_says_so_and_the_clients_own_order_counts(
    three, client, run, answer
):
    def choose(servers, info):
        if isinstance(answer, tuple) and answer[0] == "{url}":
            return (servers[-1]["url"], *answer[1:])
        return answer

    urls = [url_of(server) for server in three]
    nats = client(None, servers=urls, randomize_servers=False, reconnect_to_cb=choose, **FAST)
    run(lambda: is_on(nats, three[0]))
    nats.force_reconnect()
    run(lambda: is_on(nats, three[1]))
    (error,) = nats.recorder.errors
    assert isinstance(error, BadOptionsError)
    assert str(error).startswith("reconnect_to_cb")


def test_a_server_that_is_not_in_the_pool_is_named(three, client, run):
    stranger = f"nats://u:s3cret@127.0.0.1:{free_port()}"
    urls = [url_of(server) for server in three[:2]]
    nats = client(
        None,
        servers=urls,
        randomize_servers=False,
        reconnect_to_cb=lambda servers, info: stranger,
        **FAST,
    )
    run(lambda: is_on(nats, three[0]))
    nats.force_reconnect()
    run(lambda: is_on(nats, three[1]))
    (error,) = nats.recorder.errors
    assert isinstance(error, ServerNotInPoolError)
    assert error.server == stranger.replace("u:s3cret@", "")
    assert "s3cret" not in str(error)


def test_none_means_the_clients_own_choice(three, client, run):
    urls = [url_of(server) for server in three]
    nats = client(
        None, servers=urls, randomize_servers=False, reconnect_to_cb=lambda servers, info: None,
        reconnect_delay_cb=lambda attempt: None, **FAST,
    )  # fmt: skip
    run(lambda: is_on(nats, three[0]))
    nats.force_reconnect()
    run(lambda: is_on(nats, three[1]))
    assert not nats.recorder.errors


@pytest.mark.parametrize("name", ["reconnect_to_cb", "reconnect_delay_cb"])
def test_a_callback_that_raises_changes_nothing(own_server, client, run, excepthook, name):
    server = own_server()

    def fails(*args):
        raise ZeroDivisionError(name)

    nats = client(server, **FAST, **{name: fails})
    run(nats.is_connected)
    server.stop()
    run(lambda: excepthook)
    server.start()
    run(nats.is_connected)
    assert {str(exc) for exc in excepthook} == {name}


def test_the_delay_is_asked_for_before_each_round_with_its_number(own_server, client, run):
    server, seen = own_server(), []

    def delay(attempt):
        seen.append(attempt)
        return timedelta(milliseconds=1) if attempt % 2 else 1

    urls = [url_of(server), f"nats://127.0.0.1:{free_port()}"]
    nats = client(None, servers=urls, **FAST, reconnect_delay_cb=delay)
    run(nats.is_connected)
    server.stop()
    run(lambda: len(seen) >= 4)
    server.start()
    run(nats.is_connected)
    assert seen == list(range(1, len(seen) + 1))


@pytest.mark.parametrize("value", ["soon", -1, float("inf"), True, [1]], ids=repr)
def test_a_bad_delay_is_an_error_and_the_default_counts(own_server, client, run, value):
    server = own_server()
    nats = client(server, **FAST, reconnect_delay_cb=lambda attempt: value)
    run(nats.is_connected)
    server.stop()
    run(lambda: any(isinstance(error, BadOptionsError) for error in nats.recorder.errors))
    server.start()
    run(nats.is_connected)
    bad = next(error for error in nats.recorder.errors if isinstance(error, BadOptionsError))
    assert str(bad).startswith("reconnect_delay_cb")


def test_a_delay_of_the_callback_counts_for_the_retries_of_the_first_connect(client, run):
    seen: list[int] = []

    def delay(attempt):
        seen.append(attempt)
        return 1

    nats = client(
        None, host="127.0.0.1", port=free_port(), reconnect=True, reconnect_delay=60_000,
        max_reconnect_attempts=3, reconnect_delay_cb=delay,
    )  # fmt: skip
    run(lambda: nats.status() is Status.CLOSED)
    assert seen == [1, 2, 3]
    assert isinstance(nats.recorder.errors[-1], NoServersError)


def test_a_delay_of_0_does_not_make_thousands_of_attempts(client, run):
    times: list[float] = []

    def choose(servers, info):
        times.append(time.monotonic())
        return servers[0], 0

    nats = client(
        None, host="127.0.0.1", port=free_port(), reconnect_to_cb=choose, reconnect_delay_cb=lambda n: 0,
        **FAST | {"max_reconnect_attempts": 20},
    )  # fmt: skip
    run(lambda: nats.status() is Status.CLOSED)
    assert times[-1] - times[0] > 0.01 * 0.9 * (len(times) - 2)


# Pairs: what the callback does beside choosing.


def doing(nats_box: list[Any], act: Any) -> Any:
    done: list[int] = []

    def choose(servers, info):
        if not done:
            done.append(1)
            act(nats_box[0])
        return servers[0]

    return choose


def test_a_callback_that_disconnects_ends_the_client(own_server, client, run):
    server, box = own_server(), []
    nats = client(server, **FAST, reconnect_to_cb=doing(box, lambda nats: nats.disconnect()))
    box.append(nats)
    run(nats.is_connected)
    server.stop()
    run(lambda: nats.status() is Status.CLOSED)
    server.start()
    flushed_at = nats.recorder.count("connect")
    assert flushed_at == 1
    nats.connect()
    run(nats.is_connected)


def test_a_callback_that_connects_elsewhere_wins(three, client, run):
    box: list[Any] = []

    def act(nats):
        nats.connect("127.0.0.1", three[2].port)

    nats = client(three[0], **FAST, reconnect_to_cb=doing(box, act))
    box.append(nats)
    run(nats.is_connected)
    three[0].kill()
    run(lambda: is_on(nats, three[2]))
    assert nats.recorder.count("connect") == 2


def test_a_callback_that_replaces_the_pool_wins(three, client, run):
    box: list[Any] = []
    nats = client(
        three[0],
        **FAST,
        reconnect_to_cb=doing(box, lambda nats: nats.set_server_pool([url_of(three[1])])),
    )
    box.append(nats)
    run(nats.is_connected)
    three[0].kill()
    run(lambda: is_on(nats, three[1]))


def test_a_callback_may_publish_force_and_drain(own_server, client, run):
    server, box = own_server(), []

    def act(nats):
        nats.publish("p", b"meanwhile")
        nats.force_reconnect()

    nats = client(server, **FAST, reconnect_to_cb=doing(box, act))
    box.append(nats)
    nats.subscribe("p", collect(got := []))
    run(nats.is_connected)
    flushed(nats, run)
    server.stop()
    server.start()
    run(lambda: got == [b"meanwhile"])
    drained: list[Any] = []
    box2: list[Any] = []
    other = client(
        server, **FAST, reconnect_to_cb=doing(box2, lambda nats: nats.drain(drained.append))
    )
    box2.append(other)
    run(other.is_connected)
    other.force_reconnect()
    run(lambda: other.status() is Status.CLOSED)
    assert drained == [None]


def test_switching_reconnect_off_in_the_callback_ends_the_client(own_server, client, run):
    server, box = own_server(), []
    nats = client(server, **FAST, reconnect_to_cb=doing(box, lambda nats: nats.reconnect(False)))
    box.append(nats)
    run(nats.is_connected)
    server.stop()
    run(lambda: nats.status() is Status.CLOSED)


def test_on_disconnect_comes_before_the_question(own_server, client, run):
    server, order = own_server(), []

    def choose(servers, info):
        order.append("choose")
        return None

    nats = client(
        server, on_disconnect=lambda: order.append("disconnect"), reconnect_to_cb=choose, **FAST
    )
    run(nats.is_connected)
    nats.force_reconnect()
    run(lambda: nats.recorder.count("connect") == 2)
    assert order == ["disconnect", "choose"]


# A write that is stuck.


def test_a_write_that_is_stuck_loses_the_connection_and_what_was_unsent_follows(
    server, proxy, connected, run
):
    between = proxy(server.port)
    nats = connected(between, write_timeout=300, **FAST)
    between.stall()
    for _ in range(100):
        nats.publish("stuck", bytes(200_000))
    run(lambda: nats.recorder.errors, 20)
    error = nats.recorder.errors[0]
    assert isinstance(error, WriteTimeoutError)
    assert isinstance(error, TimeoutError)
    assert error.pending > 0
    assert "write timeout: the server has taken no byte for" in str(error)
    assert nats.disconnect_reason() is error
    between.resume()
    run(lambda: nats.is_connected() and nats.stats()["waiting"] == 0, 20)


@pytest.mark.parametrize("secure", [False, True])
def test_a_slow_write_that_goes_on_is_none_that_is_stuck(
    own_server, proxy, client, certs, run, secure
):
    config = server_config(certs.issue("server", "127.0.0.1")) if secure else ""
    between = proxy(own_server(config=config).port)
    options = {"tls_ca_file": str(certs.ca.cert_file)} if secure else {}
    nats = client(between, write_timeout=1500, **options)
    run(nats.is_connected)
    between.delay = 0.02
    for _ in range(100):
        nats.publish("slow", bytes(100_000))
    run(lambda: nats.stats()["waiting"] == 0, 60)
    flushed(nats, run)
    assert not nats.recorder.errors
    assert nats.recorder.count("connect") == 1


def test_a_stuck_write_under_tls_is_noticed_and_0_waits_for_ever(
    own_server, proxy, client, certs, run
):

    between = proxy(own_server(config=server_config(certs.issue("server", "127.0.0.1"))).port)
    ca = str(certs.ca.cert_file)
    nats = client(between, write_timeout=300, tls_ca_file=ca)
    patient = client(between, write_timeout=0, tls_ca_file=ca)
    run(lambda: nats.is_connected() and patient.is_connected())
    between.stall()
    for _ in range(100):
        nats.publish("stuck", bytes(200_000))
        patient.publish("stuck", bytes(200_000))
    run(lambda: nats.recorder.errors, 20)
    assert isinstance(nats.recorder.errors[0], WriteTimeoutError)
    assert patient.is_connected()
    between.resume()
    run(lambda: patient.stats()["waiting"] == 0, 20)
