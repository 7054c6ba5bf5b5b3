"""Server URLs and the pool: order, rounds, back-off, refusals, discovered servers. No clock, no socket."""

from __future__ import annotations

from typing import Any

import pytest

from lab import inside
from nats_ev import AuthorizationError, BadOptionsError, NatsError, errors
from nats_ev.connection.pool import MAX_DISCOVERED, ServerPool
from nats_ev.connection.server import parse_server
from nats_ev.options import Options


def pool(*servers: str, jitter: float = 1.0, **options: Any) -> ServerPool:
    """Not shuffled, and the random factor fixed."""
    options.setdefault("randomize_servers", False)
    made = Options.from_kwargs({"servers": list(servers), **options})
    return ServerPool(made, lambda low, high: low + (high - low) * jitter)


def names(p: ServerPool, count: int) -> list[tuple[str, float]]:
    """The next turns: (host, ms to wait), all failing."""
    turns = []
    for _ in range(count):
        turn = p.next()
        if turn is None:
            break
        server, delay = turn
        turns.append((server.host, delay))
        p.failed(NatsError("refused"))
    return turns


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("nats://a", "nats://a:4222"),
        ("a", "nats://a:4222"),
        ("a:1", "nats://a:1"),
        ("tls://a:1", "tls://a:1"),
        ("nats://10.0.0.1:5", "nats://10.0.0.1:5"),
        ("[::1]:5", "nats://[::1]:5"),
        ("::1", "nats://[::1]:4222"),
        ("nats://[fe80::1]", "nats://[fe80::1]:4222"),
        ("unix:///run/nats.sock", "unix:///run/nats.sock"),
        ("nats://a:4222/", "nats://a:4222"),
        (" a ", "nats://a:4222"),
    ],
)
def test_urls_hosts_and_ports_are_understood(url, expected):
    assert parse_server(url).url == expected


def test_credentials_in_a_url_are_percent_decoded_and_never_shown():
    server = parse_server("nats://us%40er:p%3Ass%25@h:1")
    assert (server.user, server.password, server.token) == ("us@er", "p:ss%", None)
    assert parse_server("to%2Fken@h").token == "to/ken"
    assert server.url == "nats://h:1"
    assert "p:ss" not in repr(server)
    assert parse_server("nats://u:@h").password == ""


@pytest.mark.parametrize(
    "url",
    ["", "nats://", "http://a", "a:0", "a:99999", "a:b", "nats://a/path", "nats://a?x=1", "unix://",
     "nats://se%63ret:x@a:b", "nats://[::1", "a b", "a\r\nb", "nats://a\x00b",
     "nats://u:ret\udcff@a", "a\ud800"],
)  # fmt: skip
def test_bad_urls_are_refused_without_their_secrets(url):
    with pytest.raises(BadOptionsError) as caught:
        parse_server(url)
    assert "ret" not in str(caught.value)


def test_servers_that_name_others_each_time_make_no_round_without_an_end():
    p = pool("a", "b", reconnect_delay=100, max_reconnect_attempts=0)
    turns = []
    for number in range(12):
        server, delay = p.next()
        turns.append((server.host[0], delay))
        p.update_discovered([f"d{number}"])
        p.failed(NatsError("refused"))
    delays = [delay for _, delay in turns]
    assert delays[0] == delays[1] == 0
    assert sum(delay > 0 for delay in delays) >= 3  # and not one delay in twelve attempts
    assert {"a", "b"} <= {host for host, _ in turns[:4]}
    assert p.discovered_urls  # they are still followed


def test_each_configured_server_is_tried_whatever_the_others_name():
    p = pool("a", "b", "c", reconnect=False)
    for _ in range(2):
        p.next()
        p.update_discovered([f"d{i}" for i in range(3)])
        p.update_discovered([])
        p.failed(NatsError("refused"))
        assert not p.round_complete
    assert p.next()[0].host == "c"
    assert p.round_complete


def test_a_round_tries_each_server_at_once_and_waits_twice_as_long_before_the_next():
    p = pool("a", "b", reconnect_delay=100, max_reconnect_delay=500, max_reconnect_attempts=0)
    assert names(p, 10) == [
        ("a", 0), ("b", 0), ("a", 100), ("b", 0), ("a", 200), ("b", 0), ("a", 400), ("b", 0),
        ("a", 500), ("b", 0),
    ]  # fmt: skip


def test_the_wait_is_random_between_half_and_all_of_it():
    assert pool("a", reconnect_delay=100, jitter=0.0).delay(0) == 50
    assert pool("a", reconnect_delay=100, jitter=1.0).delay(3) == 800
    made = ServerPool(Options.from_kwargs({"host": "a", "reconnect_delay": 100}))
    waits = {made.delay(0) for _ in range(50)}
    assert len(waits) > 10
    assert all(50 <= wait <= 100 for wait in waits)
    assert pool("a", reconnect_delay=100, max_reconnect_delay=0).delay(2) == 400  # no bound


def test_servers_are_shuffled_unless_told_not_to():
    urls = [f"s{i}" for i in range(50)]
    assert [s.removeprefix("nats://s").removesuffix(":4222") for s in pool(*urls).urls] == [
        str(i) for i in range(50)
    ]
    assert pool(*urls, randomize_servers=True).urls != pool(*urls).urls
    assert pool("a", "b", "A:4222", "nats://a").urls == ["nats://a:4222", "nats://b:4222"]


def test_as_many_retries_as_allowed_follow_the_first_failure_then_none():
    assert len(names(pool("a", max_reconnect_attempts=3), 20)) == 4
    assert len(names(pool("a", "b", max_reconnect_attempts=3), 20)) == 4
    assert len(names(pool("a", max_reconnect_attempts=0), 200)) == 200


def test_attempts_count_from_the_last_success_and_from_an_explicit_connect():
    p = pool("a", max_reconnect_attempts=2)
    assert len(names(p, 10)) == 3
    assert p.exhausted
    p.restart()
    assert not p.exhausted
    p.next()
    p.succeeded()
    p.lost(None, lived=5)
    assert len(names(p, 10)) == 2


def test_after_a_loss_the_others_come_first_at_once_and_the_lost_one_last_after_a_wait():
    p = pool("a", "b", "c", reconnect_delay=100)
    p.next()
    p.succeeded()
    p.lost(None, lived=60)
    assert names(p, 4) == [("b", 0), ("c", 0), ("a", 100), ("b", 0)]


def test_the_lost_server_chosen_again_and_again_has_waits_and_an_end():
    p = pool("a", "b", reconnect_delay=100, max_reconnect_delay=400, max_reconnect_attempts=5)
    lost, _ = p.next()
    p.succeeded()
    p.set_servers(["a", "b"])  # each of them is to be tried once, unless the choice is another one
    p.lost(None, lived=60)
    waits = []
    while (turn := p.next(p.current)) is not None:
        assert turn[0].key == lost.key
        waits.append(turn[1])
        p.failed(NatsError("refused"))
    assert waits == [100, 200, 400, 400, 400]


def test_a_server_that_drops_us_at_once_is_not_asked_at_full_speed():
    p = pool("a", "b", reconnect_delay=100, max_reconnect_delay=400)
    waits = []
    for _ in range(10):
        turn = p.next()
        assert turn is not None
        waits.append(turn[1])
        p.succeeded()
        p.lost(None, lived=0.1)
    assert waits == [0, 0, 100, 0, 200, 0, 400, 0, 400, 0]
    p.next()
    p.succeeded()
    p.lost(None, lived=1.5)  # that one lasted: the waits begin anew
    assert names(p, 2) == [("b", 0), ("a", 100)]


def test_the_second_same_refusal_drops_a_server_and_a_success_forgives():
    p = pool("a", "b", reconnect_delay=0)
    refused = AuthorizationError("Authorization Violation")
    seen = []
    while (turn := p.next()) is not None:
        seen.append(turn[0].host)
        if turn[0].host == "a":
            p.failed(refused)
        else:
            p.failed(NatsError("down"))
        if len(seen) > 8:
            break
    assert seen[:6] == ["a", "b", "a", "b", "b", "b"]
    assert p.urls == ["nats://b:4222"]
    p.restart()  # an explicit connect asks all of them again
    assert len(p) == 2
    again = pool("a")
    for _ in range(5):
        again.next()
        again.failed(refused)
        again.next()
        again.succeeded()
        again.lost(refused, 5)
        again.next()
        again.succeeded()
        again.lost(None, 5)
    assert len(again) == 1
    stubborn = pool("a", ignore_auth_error_abort=True)
    for _ in range(5):
        stubborn.next()
        stubborn.failed(refused)
    assert len(stubborn) == 1


def test_a_timeout_of_authentication_is_no_refusal():
    p = pool("a")
    for _ in range(4):
        p.next()
        p.failed(errors.server_error("'Authentication Timeout'"))
    assert len(p) == 1


def test_discovered_servers_come_go_and_come_back_while_configured_ones_stay():
    p = pool("a")
    p.next()
    p.succeeded()
    assert p.update_discovered(["b:1", "[::1]:2", "a:4222"]) == ["nats://b:1", "nats://[::1]:2"]
    assert set(p.discovered_urls) == {"nats://b:1", "nats://[::1]:2"}
    assert p.update_discovered(["b:1", "[::1]:2"]) == []
    assert p.update_discovered(["[::1]:2"]) == []
    assert "nats://b:1" not in p.urls
    assert p.update_discovered(["b:1"]) == ["nats://b:1"]
    assert set(p.urls) == {"nats://a:4222", "nats://b:1"}
    p.lost(None, 5)
    assert [host for host, _ in names(p, 2)] == ["b", "a"]


def test_the_discovered_server_in_use_stays_until_it_is_left():
    p = pool("a", reconnect_delay=0)
    p.next()
    p.succeeded()
    p.update_discovered(["b:1"])
    p.lost(None, 5)
    server, _ = p.next() or (None, 0)
    assert server is not None
    assert server.host == "b"
    p.succeeded()
    assert p.update_discovered(["c:1"]) == ["nats://c:1"]
    assert "nats://b:1" in p.urls
    p.lost(None, 5)
    p.next()
    p.succeeded()
    p.update_discovered(["c:1"])
    assert "nats://b:1" not in p.urls


def test_garbage_among_the_discovered_is_skipped_and_their_number_bounded():
    p = pool("a")
    p.next()
    assert p.update_discovered(["", "::::", "h:99999999999", "x y", "\x00", "ok:1"]) == [
        "nats://ok:1"
    ]
    assert p.update_discovered(["unix:///run/other.sock"]) == []
    p.update_discovered([f"h{i}:1" for i in range(10 * MAX_DISCOVERED)])
    assert len(p) <= MAX_DISCOVERED + 2


def test_a_flood_of_senseless_addresses_is_not_looked_through_to_the_end():
    p = pool("a")
    addresses = iter(["", ":::", "a b"] * MAX_DISCOVERED + ["h:1"])
    assert p.update_discovered(addresses) == []
    assert len(list(addresses)) == 2 * MAX_DISCOVERED + 1


def test_discovered_servers_inherit_credentials_and_the_name_for_tls():
    p = pool("tls://u:p@name:1")
    p.next()
    p.succeeded()
    p.update_discovered(["10.0.0.1:1", "other:1"])
    by_host = {s.host: s for s in inside.entries_of(p)}
    assert by_host["10.0.0.1"].tls_name == "name"
    assert by_host["other"].tls_name is None
    assert by_host["10.0.0.1"].user == "u"
    assert by_host["10.0.0.1"].tls


def test_a_pool_set_at_run_time_replaces_all_and_puts_the_one_in_use_last():
    p = pool("a", "b")
    p.next()
    p.succeeded()
    p.update_discovered(["d:1"])
    p.set_servers(["a", "c"])
    assert p.urls == ["nats://c:4222", "nats://a:4222"]
    with pytest.raises(BadOptionsError):
        p.set_servers(["x", "bad url"])
    assert p.urls == ["nats://c:4222", "nats://a:4222"]
    p.lost(None, 5)
    assert [host for host, _ in names(p, 2)] == ["c", "a"]


def test_a_pool_without_the_server_in_use_tries_all_of_it():
    p = pool("a")
    p.next()
    p.succeeded()
    p.set_servers(["x", "y"])
    p.lost(None, 5)
    assert names(p, 2) == [("x", 0), ("y", 0)]


def test_a_pool_that_is_set_in_each_attempt_or_connection_has_waits():
    p = pool("a", "b", reconnect_delay=100, max_reconnect_delay=100)
    p.next()
    waits = []
    for _ in range(4):
        p.set_servers(["a"], in_use=True)
        p.failed(NatsError("refused"))
        waits.append(p.next())
    for _ in range(4):
        p.succeeded()
        p.set_servers(["a"], in_use=True)
        p.lost(None, lived=0)
        waits.append(p.next())
    assert [delay for _, delay in waits] == [100] * 8


def test_what_is_discovered_during_a_round_is_tried_in_it():
    p = pool("a", "b", reconnect_delay=100)
    p.next()
    p.succeeded()
    p.lost(None, 5)
    server, _ = p.next() or (None, 0)
    assert server is not None
    p.update_discovered(["c:1"])
    p.failed(NatsError("down"))
    assert names(p, 3) == [("c", 0), ("a", 100), ("b", 0)]


# What a pool set anew forgets, and what it keeps.


def fail_all(pool, times: int) -> list[str]:
    """Let that many attempts fail; return the servers of those that were made."""
    tried = []
    for _ in range(times):
        turn = pool.next()
        if turn is None:
            break
        tried.append(turn[0].url)
        pool.failed(errors.ConnectError("refused"))
    return tried


def test_each_server_is_tried_once_whatever_the_number_of_attempts():
    urls = [f"nats://h{i}:1" for i in range(64)]
    pool = ServerPool(Options(servers=urls, max_reconnect_attempts=3))
    pool.restart()
    assert sorted(fail_all(pool, 1000)) == sorted(urls)
    assert pool.exhausted


def test_a_pool_set_at_run_time_starts_without_failures():
    pool = ServerPool(Options(servers=["nats://a:1"], max_reconnect_attempts=2))
    pool.restart()
    pool.next()
    pool.succeeded()
    pool.lost(None, 60.0)
    assert len(fail_all(pool, 1)) == 1
    pool.set_servers(["nats://b:1", "nats://c:1", "nats://d:1"])
    assert sorted(fail_all(pool, 1000)) == ["nats://b:1", "nats://c:1", "nats://d:1"]


def test_two_refusals_with_another_failure_in_between_are_not_in_a_row():
    pool = ServerPool(Options(servers=["nats://a:1"], max_reconnect_attempts=0))
    for error in (
        AuthorizationError("no"),
        errors.ConnectError("refused"),
        AuthorizationError("no"),
    ):
        assert pool.next() is not None
        pool.failed(error)
    assert len(pool) == 1
    pool.next()
    pool.failed(AuthorizationError("no"))
    assert len(pool) == 0


@pytest.mark.parametrize("urls", [["nats://u:p@h", "tls://h"], ["tls://h", "nats://u:p@h"]])
def test_a_server_that_is_named_twice_keeps_tls_and_credentials(urls):
    pool = ServerPool(Options(servers=urls))
    assert pool.urls == ["tls://h:4222"]
    assert pool.secure
    entry = inside.entries_of(pool)[0]
    assert (entry.user, entry.password) == ("u", "p")


def test_tls_that_was_asked_for_or_seen_stays_when_the_pool_is_set():
    seen = ServerPool(Options(servers=["nats://a:1"]))
    seen.next()
    seen.secured()
    asked = ServerPool(Options(servers=["tls://a:1"]))
    for pool in (seen, asked):
        pool.set_servers(["nats://a:1", "nats://b:1"])
        assert pool.secure
        pool.set_servers(["nats://c:1"])
        assert pool.secure
        pool.forget_tls()  # the option is the user's word
        assert not pool.secure


def test_a_server_that_had_tls_keeps_it_when_it_is_connected_to_again():
    pool = ServerPool(Options(servers=["nats://a:1"]))
    pool.next()
    pool.secured()
    pool.set_tcp("b", 1)
    assert not pool.secure
    pool.set_tcp("a", 1)
    assert pool.secure


@pytest.mark.parametrize("delay", [0, 0.001, 1, 1e308])
def test_the_wait_between_rounds_has_a_floor_and_a_ceiling(delay):
    pool = ServerPool(Options(reconnect_delay=delay, max_reconnect_delay=0))
    for number in range(100):
        assert 10 <= pool.delay(number) <= 1e12
    assert len({pool.delay(0) for _ in range(10)}) > 1


@pytest.mark.parametrize(
    "where", ["h", "H.example:4222", "10.0.0.1:1", "a_b-c.d:65535", "h/", "h:", "0:07", ".:1"]
)
@pytest.mark.parametrize("scheme", ["", "nats://", "tls://"])
def test_a_plain_address_means_the_same_as_one_with_credentials(scheme: str, where: str) -> None:
    """The latter is read by urllib.parse, which the former does without."""
    plain = parse_server(scheme + where)
    full = parse_server((scheme or "nats://") + "user:word@" + where)
    assert (plain.host, plain.port, plain.tls) == (full.host, full.port, full.tls)
    assert (plain.user, plain.token, full.user) == (None, None, "user")
