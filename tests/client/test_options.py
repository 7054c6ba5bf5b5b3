"""What options and accessors do to a connection: the fields of CONNECT, and what a server sees."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from lab import inside
from lab.steps import collect, flushed
from nats_ev import BadOptionsError, BadSubjectError, __version__

ALWAYS = {
    "verbose", "pedantic", "echo", "tls_required", "lang", "version", "protocol", "headers",
    "no_responders",
}  # fmt: skip


@pytest.fixture
def connect_fields(fake, client, run):
    """connect_fields(options, info) → what CONNECT says."""

    def ask(options: dict[str, Any], **info: Any) -> dict[str, Any]:
        seen: list[dict[str, Any]] = []
        server = fake(lambda peer: (seen.append(peer.handshake(**info)), peer.at_eof()))
        nats = client(server, **options)
        run(nats.is_connected)
        return seen[0]

    return ask


@pytest.mark.parametrize(
    ("options", "fields"),
    [
        ({}, {}),
        ({"name": 'näme "quoted"\n'}, {"name": 'näme "quoted"\n'}),
        ({"verbose": True, "pedantic": True, "echo": False},
         {"verbose": True, "pedantic": True, "echo": False}),
        ({"user": "u", "password": "p"}, {"user": "u", "pass": "p"}),
        ({"token": "t"}, {"auth_token": "t"}),
        ({"user_cb": lambda: ("cu", "cp")}, {"user": "cu", "pass": "cp"}),
        ({"token_cb": lambda: "ct"}, {"auth_token": "ct"}),
        ({"jwt": "j" * 5000}, {"jwt": "j" * 5000}),
    ],
)  # fmt: skip
def test_connect_says_exactly_what_the_options_say(connect_fields, options, fields):
    usual = {
        "verbose": False, "pedantic": False, "echo": True, "tls_required": False, "protocol": 1,
        "headers": True, "no_responders": True, "version": __version__,
    }  # fmt: skip
    told = connect_fields(options)
    assert told.pop("lang").startswith("python")
    assert told == {**usual, **fields}


def test_connect_never_holds_other_options(connect_fields):
    told = connect_fields({"connect_timeout": 1000, "inbox_prefix": "_X", "keepalive": 3})
    assert set(told) == ALWAYS


def test_credential_callbacks_are_asked_at_every_connect(fake, client, run):
    told: list[Any] = []

    def short(peer: Any) -> None:
        told.append(peer.handshake())
        peer.expect("PUB x 0")
        peer.close()

    def last(peer: Any) -> None:
        told.append(peer.handshake())
        peer.at_eof()

    server = fake(short, short, last)
    passwords = iter(["one", "two", "three"])
    nats = client(server, user_cb=lambda: ("u", next(passwords)), reconnect=True, reconnect_delay=1)
    for count in (1, 2):
        run(lambda n=count: nats.recorder.count("connect") == n)
        nats.publish("x")
        run(lambda n=count: nats.recorder.count("disconnect") == n)
    run(lambda: nats.recorder.count("connect") == 3)
    assert [t["pass"] for t in told] == ["one", "two", "three"]


def test_a_callback_that_fails_is_an_error_of_the_attempt(fake, client, run):
    def bad() -> Any:
        raise KeyError("vault is closed")

    nats = client(fake(lambda peer: (peer.send_info(), peer.at_eof())), token_cb=bad)
    run(lambda: nats.recorder.errors)
    error = nats.recorder.errors[0]
    assert isinstance(error.__cause__, KeyError)
    assert not nats.is_connected()


def test_without_echo_own_messages_do_not_come_back(connected, server, run):
    quiet, loud, got = connected(server, echo=False), connected(server), []
    quiet.subscribe("e", collect(got))
    flushed(quiet, run)
    quiet.publish("e", b"mine")
    flushed(quiet, run)
    loud.publish("e", b"theirs")
    run(lambda: got)
    assert got == [b"theirs"]


def test_verbose_and_pedantic_connections_work_as_any_other(connected, server, run):
    nats, got = connected(server, verbose=True, pedantic=True), []
    nats.subscribe("v", collect(got))
    for i in range(100):
        nats.publish("v", b"%d" % i)
    run(lambda: len(got) == 100)
    flushed(nats, run)
    nats.publish("not..valid")  # pedantic: the server looks at every subject
    run(lambda: nats.recorder.errors)
    flushed(nats, run)
    assert str(nats.recorder.errors[0]) == "Invalid Publish Subject"


def test_name_and_language_are_what_the_server_shows(own_server, connected):
    server = own_server()
    nats = connected(server, name="shown")
    (shown,) = server.monitor("connz")["connections"]
    assert (shown["name"], shown["cid"], shown["version"]) == (
        "shown", nats.client_id(), __version__,
    )  # fmt: skip
    assert nats.client_ip() == "127.0.0.1"
    assert nats.connected_url() == server.url
    nats.disconnect()
    assert nats.client_id() is nats.client_ip() is nats.connected_url() is None


def test_inboxes_begin_with_the_prefix_and_bad_prefixes_are_refused(connected, server, run):
    nats, replies = connected(server, inbox_prefix="_MINE.a"), []
    nats.subscribe("svc", lambda s, p, reply, h: replies.append(reply))
    nats.request("svc", b"", lambda *a: None, 10)
    run(lambda: replies)
    assert replies[0].startswith("_MINE.a.")
    for bad in ("", "a..b", "a.*", "a.>", "a b"):
        with pytest.raises(BadOptionsError):
            connected(server, inbox_prefix=bad)


def test_a_subject_that_the_server_lengthens_does_not_cost_the_connection(
    own_server, connected, run
):
    long = "x" * 4000
    mapped = ".".join(["m", *["{{wildcard(1)}}"] * 12])
    server = own_server(config=f'mappings {{ "p.*": "{mapped}" }}')
    nats, got = connected(server), []
    nats.subscribe("m.>", lambda subject, *rest: got.append(len(subject)))
    nats.publish(f"p.{long}", b"poison")
    nats.publish("p.y", b"the next one")
    run(lambda: len(got) == 2)
    assert got == [12 * 4001 + 1, 25]
    assert nats.recorder.events == ["connect"]


def test_max_control_line_bounds_what_is_sent(connected, server, run):
    nats = connected(server, max_control_line=100)
    for call in (
        lambda: nats.publish("x" * 100),
        lambda: nats.publish("x", b"", "r" * 100),
        lambda: nats.hpublish("x" * 90, {"A": "b"}),
        lambda: nats.subscribe("x" * 100, print),
        lambda: nats.subscribe("x", print, "q" * 100),
        lambda: nats.request("x" * 80, b"", print),
    ):
        with pytest.raises(BadSubjectError, match="max_control_line"):
            call()
    nats.publish("x" * (100 - len("PUB  0")))
    flushed(nats, run)


def test_rtt_is_measured_in_milliseconds(connected, server, run):
    nats, measured = connected(server), []
    nats.rtt(lambda ms, error: measured.append((ms, error)))
    run(lambda: measured)
    ms, error = measured[0]
    assert error is None
    assert 0 < ms < 5000
    nats.rtt(lambda ms, error: measured.append((ms, str(error))))
    nats.disconnect()
    run(lambda: len(measured) == 2)
    assert measured[1] == (None, "disconnected")


def test_ping_interval_set_at_run_time_counts_from_now(fake, client, run):
    def script(peer: Any) -> None:
        peer.handshake()
        peer.expect("PING")
        peer.send("PONG\r\n")
        peer.at_eof()

    nats = client(fake(script))
    run(nats.is_connected)
    nats.ping_interval(timedelta(milliseconds=20))
    assert nats.ping_interval() == 20
    run(lambda: inside.unanswered_pings(nats) == 1)
    nats.ping_interval(0)


def test_an_inbox_that_the_server_has_rewritten_still_reaches_the_only_request(fake, client, run):
    def script(peer: Any) -> None:
        peer.handshake()
        peer.until("PUB svc .* 0")
        peer.send("MSG mapped.elsewhere 1 2\r\nok\r\n")
        peer.until("PUB svc .* 1")
        peer.send("MSG mapped.elsewhere 1 2\r\nno\r\n")
        peer.at_eof()

    nats, answers = client(fake(script)), []
    run(nats.is_connected)
    nats.request("svc", b"", lambda *a: answers.append(a[0]))
    run(lambda: answers)
    assert answers == [b"ok"]
    nats.request("svc", b"1", lambda *a: answers.append(str(a[1])), 60)
    nats.request("svc", b"1", lambda *a: answers.append(str(a[1])), 60)
    run(lambda: len(answers) == 3)
    assert answers[1:] == ["request timeout"] * 2


def test_a_backlog_is_delivered_also_when_the_client_has_ended(fake, client, run):
    def script(peer: Any) -> None:
        peer.handshake()
        peer.until("PING")
        peer.send("MSG a 1 1\r\nx\r\n" * 300 + "PONG\r\n")
        peer.expect("PING")
        peer.close()

    nats, got = client(fake(script)), []

    def slow(*message: Any) -> None:
        got.append(message)
        sum(range(10_000))  # so that it takes several turns

    run(nats.is_connected)
    sid = nats.subscribe("a", slow)
    nats.pause(sid)
    flushed(nats, run)
    nats.resume(sid)
    nats.flush(lambda error: None)
    run(lambda: len(got) == 300)
