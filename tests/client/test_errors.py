"""What each -ERR does: the server's own action decides, and errors reach whom they concern."""

from __future__ import annotations

import pickle
from typing import Any

import pytest

from lab.located import words
from lab.natsserver import wait_for
from lab.steps import collect
from nats_ev import (
    AuthExpiredError,
    AuthorizationError,
    BadHeadersError,
    ConnectError,
    InvalidSubjectError,
    MaxConnectionsExceededError,
    MaxPayloadError,
    MaxSubscriptionsExceededError,
    NatsError,
    NoServersError,
    NotConnectedError,
    PermissionsViolationError,
    ProtocolError,
    ServerError,
    StaleConnectionError,
    Status,
    UnexpectedEOFError,
    errors,
)

# Text, class, what becomes of a connection that was up.
KEEP, AGAIN, END = "kept", "made anew", "ended"
TEXTS = [
    ("'Unknown Protocol Operation'", ServerError, AGAIN),
    ("'maximum control line exceeded'", ServerError, AGAIN),
    ("'Maximum Payload Violation'", ServerError, AGAIN),
    ("'Authorization Violation'", AuthorizationError, AGAIN),
    ("'Authentication Timeout'", AuthorizationError, AGAIN),
    ("'User Authentication Expired'", AuthExpiredError, AGAIN),
    ("'User Authentication Revoked'", AuthExpiredError, AGAIN),
    ("'Account Authentication Expired'", AuthExpiredError, AGAIN),
    ("'maximum connections exceeded'", MaxConnectionsExceededError, AGAIN),
    ("'maximum account active connections exceeded'", MaxConnectionsExceededError, AGAIN),
    (
        "'Connection throttling is active. Please try again later.'",
        MaxConnectionsExceededError,
        AGAIN,
    ),
    ("'Failed Account Registration'", ServerError, AGAIN),
    ("'invalid client protocol'", ServerError, END),
    ("'no responders requires headers support'", ServerError, END),
    ("'Secure Connection - TLS Required'", ServerError, AGAIN),
    ("'Stale Connection'", StaleConnectionError, AGAIN),
    ("'maximum subscriptions exceeded'", MaxSubscriptionsExceededError, KEEP),
    ("'Permissions Violation for Publish to \"s\"'", PermissionsViolationError, KEEP),
    ("'Permissions Violation for Publish with Reply of \"r\"'", PermissionsViolationError, KEEP),
    ("'Permissions Violation for Subscription to \"s\"'", PermissionsViolationError, KEEP),
    ("'Permissions Violation for Subscription to \"s\", too many tokens'",
     PermissionsViolationError, KEEP),
    ("'Invalid Subject'", InvalidSubjectError, KEEP),
    ("'Invalid Publish Subject'", InvalidSubjectError, KEEP),
    ("'what nobody has ever seen'", ServerError, KEEP),
    ("unquoted", ServerError, KEEP),
    ("''", ServerError, KEEP),
    ("", ServerError, KEEP),
]  # fmt: skip


@pytest.mark.parametrize(("text", "kind", "outcome"), TEXTS, ids=[t[0] for t in TEXTS])
def test_err_does_what_the_server_does_after_it(fake, client, run, text, kind, outcome):
    def script(peer: Any) -> None:
        peer.handshake()
        peer.until("PUB go 0")
        peer.send(f"-ERR {text}\r\n" if text else "-ERR\r\n")
        if outcome == KEEP:
            peer.expect("PING")
            peer.send("PONG\r\n")
        assert peer.at_eof()

    second = fake(script, lambda peer: (peer.handshake(), peer.at_eof()))
    nats, done = client(second, reconnect=True, reconnect_delay=1), []
    recorder = nats.recorder
    kept: list[bytes] = []
    run(nats.is_connected)
    nats.subscribe("other", collect(kept))
    nats.publish("go")
    run(lambda: recorder.errors)
    error = recorder.errors[0]
    assert isinstance(error, kind)
    assert isinstance(error, ServerError)
    if text not in ("", "''"):
        assert str(error) == text.strip("'")
    if outcome == KEEP:
        nats.flush(done.append)
        run(lambda: done)
        assert done == [None]
        assert recorder.events.count("disconnect") == 0
        assert nats.subscription_count() == 1
    elif outcome == AGAIN:
        run(lambda: recorder.count("connect") == 2)
        assert recorder.count("disconnect") == 1
    else:
        run(lambda: "disconnect" in recorder.events)
        assert nats.status() is Status.CLOSED
    assert len(recorder.errors) == 1


def test_err_before_the_handshake_fails_the_attempt_and_the_next_server_is_tried(fake, client, run):
    full = fake(lambda peer: (peer.send("-ERR 'maximum connections exceeded'\r\n"), peer.close()))
    good = fake(lambda peer: (peer.handshake(), peer.at_eof()))
    nats = client(servers=[full.url, good.url], randomize_servers=False)
    run(nats.is_connected)
    assert [type(e) for e in nats.recorder.errors] == [MaxConnectionsExceededError]
    assert isinstance(nats.recorder.errors[0], ConnectError)
    assert nats.connected_url() == good.url
    assert "disconnect" not in nats.recorder.events


def test_a_fatal_err_in_the_handshake_ends_it_whatever_reconnect_says(fake, client, run):
    def script(peer: Any) -> None:
        peer.send_info()
        peer.until("PING")
        peer.send("-ERR 'invalid client protocol'\r\n")
        peer.at_eof()

    nats = client(fake(script), reconnect=True, reconnect_delay=1)
    run(lambda: nats.status() is Status.CLOSED)
    assert nats.recorder.events == ["error: invalid client protocol"]


def test_denied_subscription_ends_alone_and_is_not_subscribed_again(own_server, connected, run):
    config = 'authorization { default_permissions { subscribe: { deny: ["secret", "q.>"] } } \n'
    config += 'users: [{user: "u", password: "p"}] }'
    server = own_server(config=config)
    nats, got, events = (
        connected(server, user="u", password="p", reconnect=True, reconnect_delay=10),
        [],
        [],
    )
    nats.on_error(events.append)
    ours = [nats.subscribe("open", collect(got)), nats.subscribe("secret", collect(got))]
    ours.append(nats.subscribe("q.a", collect(got), "workers"))
    run(lambda: len(events) == 2)
    assert [(e.subject, e.queue, e.sid, e.kind) for e in events] == [
        ("secret", None, ours[1], "subscription"),
        ("q.a", "workers", ours[2], "subscription"),
    ]
    assert all(isinstance(e, PermissionsViolationError) for e in events)
    assert nats.subscription_count() == 1
    nats.unsubscribe(ours[1])
    nats.publish("open", b"1")
    run(lambda: got == [b"1"])
    server.restart()
    run(lambda: nats.recorder.count("connect") == 2)
    nats.publish("open", b"2")
    run(lambda: got == [b"1", b"2"])
    assert [e for e in events if isinstance(e, PermissionsViolationError)] == events[:2]


def test_of_two_alike_the_one_that_the_error_is_about_ends(fake, client, run):
    def script(peer: Any) -> None:
        peer.handshake()
        peer.until("SUB s 2")
        peer.send("-ERR 'Permissions Violation for Subscription to \"s\"'\r\n")
        peer.send("MSG s 2 1\r\nx\r\n")
        peer.send('-ERR \'Permissions Violation for Subscription to "s" (sid "2")\'\r\n')
        peer.send("MSG s 2 1\r\ny\r\nMSG t 3 1\r\nz\r\n")
        peer.at_eof()

    nats, first, second, third = client(fake(script)), [], [], []
    run(nats.is_connected)
    nats.subscribe("s", collect(first))
    nats.subscribe("s", collect(second))
    nats.subscribe("t", collect(third))
    run(lambda: third)
    assert (first, second) == ([], [b"x"])
    run(lambda: len(nats.recorder.errors) == 2)
    assert [e.sid for e in nats.recorder.errors] == [1, 2]


def test_a_reload_that_denies_a_subscription_ends_it(own_server, connected, run):
    def config(deny: str) -> str:
        return f"""authorization {{ users: [{{user: "u", password: "p",
            permissions: {{ subscribe: {{ allow: [">"] {deny} }} }} }}] }}"""

    server = own_server(config=config(""))
    nats, got = connected(server, user="u", password="p"), []
    nats.subscribe("a", collect(got))
    sid = nats.subscribe("b", collect(got))
    done: list[Any] = []
    nats.flush(done.append)
    run(lambda: done)
    server.reload(config(', deny: ["b"]'))
    run(lambda: nats.recorder.errors)
    error = nats.recorder.errors[0]
    assert isinstance(error, PermissionsViolationError)
    assert (error.subject, error.sid) == ("b", sid)
    assert nats.is_connected()
    assert nats.subscription_count() == 1


@pytest.mark.parametrize("size", [1025, 900_000])
def test_a_reload_that_lowers_max_payload_costs_one_connection_and_is_known_after_it(
    own_server, any_binary, connected, run, size
):
    """The server does not tell of it before the first message that is too big, and then closes."""
    server = own_server(config="max_payload: 1MB", binary=any_binary)
    nats, got, answers = connected(server, reconnect=True, reconnect_delay=10), [], []
    nats.subscribe("a", collect(got))
    server.reload("max_payload: 1KB")
    nats.publish("a", b"before")
    run(lambda: got)
    assert (nats.max_payload(), nats.recorder.errors) == (1024 * 1024, [])
    nats.request("nobody", b"", lambda *answer: answers.append(answer), 60_000)
    nats.publish("a", b"x" * size)
    run(lambda: nats.recorder.count("reconnect"))
    assert [str(error) for error in nats.recorder.errors] == ["Maximum Payload Violation"]
    assert nats.recorder.events[-3:] == ["disconnect", "connect", "reconnect"]
    assert [str(error) for _, error, _ in answers] == ["disconnected"]
    assert nats.max_payload() == 1024
    with pytest.raises(MaxPayloadError, match=r"max_payload \(1024\)"):
        nats.publish("a", b"x" * size)
    nats.publish("a", b"x" * 1024)
    run(lambda: got == [b"before", b"x" * 1024])


def test_a_reload_that_removes_the_user_is_a_plain_end_and_then_a_refusal(
    own_server, any_binary, connected, run
):
    def config(user: str) -> str:
        return f'authorization {{ users: [{{user: "{user}", password: "p"}}] }}'

    server = own_server(config=config("u"), binary=any_binary)
    nats = connected(server, user="u", password="p", reconnect=True, reconnect_delay=10)
    server.reload(config("other"))
    run(lambda: nats.status() is Status.CLOSED)
    assert nats.recorder.events == [
        "connect", "disconnect", *["error: Authorization Violation"] * 2,
        "error: no servers available for connection",
    ]  # fmt: skip
    nats.connect()  # the user is back meanwhile: an explicit connect asks anew
    server.reload(config("u"))
    run(lambda: nats.recorder.count("connect") == 2)


def test_a_server_that_drops_us_as_a_slow_consumer_breaks_no_protocol(
    own_server, any_binary, connected, run
):
    """It closes in the middle of a frame, and says nothing."""
    server = own_server(
        config='max_payload: 64KB\nmax_pending: 128KB\nwrite_deadline: "100ms"', binary=any_binary
    )
    nats, other = connected(server, reconnect=True, reconnect_delay=10), connected(server)
    got: list[bytes] = []
    nats.subscribe("flood", collect(got))
    flushed: list[Any] = []
    nats.flush(flushed.append)
    run(lambda: flushed)
    nats.pause_reading()
    payload = bytes(range(256)) * 128
    for _ in range(1000):  # more than all buffers on the way hold
        other.publish("flood", payload)
    other.flush(flushed.append)
    run(lambda: len(flushed) == 2 and server.monitor()["slow_consumers"])
    nats.resume_reading()
    run(lambda: nats.recorder.count("reconnect"))
    assert not any(isinstance(error, ProtocolError) for error in nats.recorder.errors)
    assert nats.recorder.count("disconnect") == 1
    assert 0 < len(got) < 1000
    assert set(got) == {payload}
    other.publish("flood", b"after")
    run(lambda: got[-1] == b"after")


@pytest.mark.parametrize("size", [1025, 900_000])
def test_messages_kept_while_a_restart_lowers_max_payload_are_discarded_and_reported(
    own_server, connected, run, size
):
    server = own_server(config="max_payload: 1MB")
    nats, got = connected(server, reconnect=True, reconnect_delay=10), []
    nats.subscribe("a", collect(got))
    server.kill()
    run(lambda: nats.recorder.count("disconnect"))
    nats.publish("a", b"x" * size)
    nats.publish("a", b"fits")
    server.configure("max_payload: 1KB")
    server.start()
    run(lambda: got == [b"fits"])
    (error,) = [e for e in nats.recorder.errors if isinstance(e, MaxPayloadError)]
    assert (error.discarded, error.limit) == (1, 1024)
    assert nats.recorder.count("connect") == 2


def test_requests_fail_clearly_when_the_inbox_is_denied(own_server, connected, run):
    server = own_server(
        config="""authorization { users: [{user: "u", password: "p",
            permissions: { subscribe: { deny: ["_INBOX.>"] } } }] }"""
    )
    nats, answers = connected(server, user="u", password="p"), []
    nats.request("x", b"", lambda *a: answers.append(a), 60_000)
    nats.request("y", b"", lambda *a: answers.append(a), 60_000)
    run(lambda: len(answers) == 2)
    for response, error, headers in answers:
        assert (response, headers) == (None, None)
        assert isinstance(error, PermissionsViolationError)
    assert nats.is_connected()
    nats.request("x", b"", lambda *a: answers.append(a), 60_000)  # asks the server anew
    run(lambda: len(answers) == 3)
    assert isinstance(answers[2][1], PermissionsViolationError)
    assert nats.subscription_count() == 0


def test_publishing_where_it_is_denied_is_reported_and_nothing_else(own_server, connected, run):
    server = own_server(
        config="""authorization { users: [{user: "u", password: "p",
            permissions: { publish: { deny: ["secret"] } } }] }"""
    )
    nats = connected(server, user="u", password="p")
    nats.subscribe("secret", print)
    nats.publish("secret", b"1")
    run(lambda: nats.recorder.errors)
    error = nats.recorder.errors[0]
    assert (error.kind, error.subject, error.sid) == ("publish", "secret", None)
    assert nats.is_connected()
    assert nats.subscription_count() == 1


def test_too_many_subscriptions_is_reported_and_ends_none(own_server, connected, run):
    server = own_server(config="max_subscriptions: 2")
    nats, got = connected(server), []
    for subject in ("a", "b", "c"):
        nats.subscribe(subject, collect(got))
    run(lambda: nats.recorder.errors)
    assert isinstance(nats.recorder.errors[0], MaxSubscriptionsExceededError)
    assert nats.subscription_count() == 3
    nats.publish("a", b"1")
    run(lambda: got == [b"1"])


def test_a_full_server_is_left_for_another(own_server, any_binary, connected, client, server, run):
    full = own_server(config="max_connections: 1", binary=any_binary)
    wait_for(lambda: not full.monitor()["connections"])  # that of the helper that started it
    wait_for(lambda: full.monitor()["connections"] == 0)  # whoever asked whether it is up
    connected(full)
    nats = client(servers=[full.url, server.url], randomize_servers=False)
    run(nats.is_connected)
    (error,) = nats.recorder.errors
    assert isinstance(error, MaxConnectionsExceededError)
    assert str(error) == "maximum connections exceeded"
    assert nats.connected_url() == server.url


def test_a_line_too_long_for_the_server_costs_one_connection(
    own_server, any_binary, connected, run
):
    small = own_server(config="max_control_line: 512", binary=any_binary)
    nats = connected(small, reconnect=True, reconnect_delay=10)
    got: list[bytes] = []
    nats.subscribe("short", collect(got))
    nats.publish("long." + "x" * 600)
    run(lambda: nats.recorder.count("reconnect"))
    # It may have closed the socket before we could read why.
    assert len(nats.recorder.errors) <= 1
    nats.publish("short", b"1")
    run(lambda: got)
    assert nats.recorder.count("disconnect") == 1


def test_what_a_pedantic_or_a_strict_server_dislikes_keeps_the_connection(
    own_server, any_binary, connected, run
):
    strict = own_server(binary=any_binary)
    nats = connected(strict, pedantic=True)
    nats.publish("a..b")
    run(lambda: nats.recorder.errors)
    assert isinstance(nats.recorder.errors[0], InvalidSubjectError)
    nats.publish("fine", b"", "_R_.reserved")
    run(lambda: len(nats.recorder.errors) == 2)
    error = nats.recorder.errors[1]
    assert isinstance(error, PermissionsViolationError)
    assert (error.kind, error.subject) == ("publish", "_R_.reserved")
    assert nats.is_connected()


def test_a_server_that_refuses_us_twice_is_asked_no_more(own_server, client, run):
    server = own_server(config='authorization { token: "right" }')
    nats = client(server, token="wrong", reconnect=True, reconnect_delay=1)
    run(lambda: nats.status() is Status.CLOSED)
    first, second, last = nats.recorder.errors
    assert str(first) == str(second) == "Authorization Violation"
    assert isinstance(first, AuthorizationError)
    assert isinstance(last, NoServersError)
    with pytest.raises(NotConnectedError):
        nats.publish("x")
    assert "disconnect" not in nats.recorder.events


def test_other_servers_are_tried_when_one_refuses_us(own_server, server, client, run):
    strict = own_server(config='authorization { token: "right" }')
    nats = client(
        servers=[strict.url, server.url], token="wrong", randomize_servers=False, reconnect=True
    )
    run(nats.is_connected)
    assert nats.connected_url() == server.url


def test_end_of_file_right_after_own_bytes_names_the_last_command(fake, client, run):
    def script(peer: Any) -> None:
        peer.handshake()
        peer.until("PUB some.subject 41")
        peer.close()

    nats = client(fake(script))
    run(nats.is_connected)
    nats.publish("some.subject", b"x" * 41)
    run(lambda: "disconnect" in nats.recorder.events)
    (error,) = nats.recorder.errors
    assert isinstance(error, UnexpectedEOFError)
    assert "PUB 'some.subject', 41 B" in str(error)
    assert nats.recorder.events == ["connect", f"error: {words(error)}", "disconnect"]


def test_plain_end_of_file_is_no_error(fake, client, run):
    nats = client(fake(lambda peer: (peer.handshake(), peer.close())))
    run(lambda: "disconnect" in nats.recorder.events)
    assert nats.recorder.events == ["connect", "disconnect"]


def test_end_of_file_in_the_handshake_says_how_far_it_came_and_no_secret(fake, client, run):
    def script(peer: Any) -> None:
        peer.send_info()
        peer.until("PING")
        peer.close()

    nats = client(fake(script), password="s3cret", user="u")
    run(lambda: nats.status() is Status.CLOSED)
    early = client(fake(lambda peer: peer.close()))
    run(lambda: early.status() is Status.CLOSED)
    assert words(nats.recorder.errors[0]) == "connection closed by the server after CONNECT"
    assert words(early.recorder.errors[0]) == "connection closed by the server before INFO"


def test_a_queued_message_that_the_next_server_would_not_take_is_discarded_and_reported(
    fake, client, run
):
    def small(peer: Any) -> None:
        peer.handshake(max_payload=10)
        assert peer.until("PUB .* 3")[-1] == "PUB fits 3"
        peer.at_eof()

    server = fake(lambda peer: (peer.handshake(), peer.close()), small)
    nats, answers = client(server, reconnect=True, reconnect_delay=100), []
    run(lambda: "disconnect" in nats.recorder.events)
    nats.publish("big", b"x" * 11)
    nats.request("big", b"x" * 11, lambda *a: answers.append(a), 60_000)
    nats.publish("fits", b"abc")
    run(lambda: nats.recorder.count("connect") == 2)
    run(lambda: answers and nats.stats()["written"] == 1)
    (error,) = nats.recorder.errors
    assert isinstance(error, MaxPayloadError)
    assert (error.discarded, error.limit) == (2, 10)
    assert isinstance(answers[0][1], MaxPayloadError)
    stats = nats.stats()
    assert (stats["accepted"], stats["written"], stats["discarded"]) == (3, 1, 2)


def test_headers_are_refused_by_us_when_the_server_has_none(fake, client, run):
    def old(peer: Any) -> None:
        fields = peer.handshake(headers=False)
        assert fields["no_responders"] is False
        peer.expect("PUB plain 0")
        peer.at_eof()

    nats = client(fake(old), reconnect=True, no_responders=True)
    nats.hpublish("queued", {"A": "b"})
    nats.publish("plain")
    run(lambda: nats.is_connected() and nats.stats()["written"] == 1)
    assert isinstance(nats.recorder.errors[0], MaxPayloadError)
    assert nats.stats()["discarded"] == 1
    with pytest.raises(BadHeadersError):
        nats.hpublish("now", {"A": "b"})


def test_a_later_info_says_whether_headers_may_be_sent(fake, client, run):
    def changing(peer: Any) -> None:
        peer.handshake(headers=True)
        peer.send_info(headers=False, max_payload=777)
        peer.expect("PUB plain 0")
        peer.line()
        peer.send_info(headers=True, max_payload=888)
        peer.at_eof()

    nats = client(fake(changing))
    run(lambda: nats.is_connected() and nats.max_payload() == 777)
    for headers in ({"A": "b"}, b"NATS/1.0\r\n\r\n"):
        with pytest.raises(BadHeadersError):
            nats.hpublish("now", headers)
    nats.publish("plain")
    run(lambda: nats.max_payload() == 888)
    nats.hpublish("now", {"A": "b"})


def test_without_on_error_the_last_error_leaves_the_loop_when_all_is_settled(fake, loop, run):
    from nats_ev import Nats

    events: list[str] = []
    server = fake(lambda peer: (peer.handshake(), peer.send("rubbish\r\n"), peer.at_eof()))
    nats = Nats(
        loop=loop,
        host=server.host,
        port=server.port,
        on_connect=lambda: events.append("connect"),
        on_disconnect=lambda: events.append("disconnect"),
    )
    with pytest.raises(ProtocolError):
        run(lambda: False)
    assert events == ["connect", "disconnect"]
    assert nats.status() is Status.CLOSED


@pytest.mark.parametrize(
    ("quoted", "subject"),
    [("a.b", "a.b"), (r"a\"b", 'a"b'), (r"a\\b", "a\\b"), (r"\xff", "\udcff"), (r"\u00a0", "\xa0"),
     (r"\t", "\t")],
)  # fmt: skip
def test_subjects_in_errors_are_unquoted(quoted, subject):
    error = errors.server_error(f"'Permissions Violation for Publish to \"{quoted}\"'")
    assert isinstance(error, PermissionsViolationError)
    assert error.subject == subject


@pytest.mark.parametrize(
    "text",
    [
        "Permissions Violation for Subscription to \"a\" (sid \"" + "9" * 5000 + "\")",
        "Permissions Violation for Publish to \"" + r"\Uffffffff" + "\"",
        "Permissions Violation for Publish to \"" + r"\U00110000" + "\"",
        "Permissions Violation for Publish to \"" + r"\ud800" + "\"",
        "Permissions Violation for Publish to \"" + "\\",
        "Permissions Violation for Publish to \"" + r"\x" * 500_000,
        "Permissions Violation for Subscription to \"a\" using queue \"" + r"\u12" * 250_000 + "\"",
    ],
    ids=range(7),
)  # fmt: skip
def test_no_text_of_a_server_makes_the_error_itself_fail(text):
    for quoted in (text, f"'{text}'"):
        error = errors.server_error(quoted)
        assert isinstance(error, PermissionsViolationError)
        assert str(error) == text
        assert error.sid is None


def test_an_error_takes_only_the_data_that_its_class_or_a_base_declares():
    class Late(PermissionsViolationError):
        minutes: int

    late = Late("text", minutes=3, subject="s")
    assert (str(late), late.minutes, late.subject, late.sid) == ("text", 3, "s", None)
    for kind in (Late, PermissionsViolationError, NatsError):
        with pytest.raises(TypeError, match=rf"^{kind.__name__} declares no attribute 'subjekt'$"):
            kind("text", subjekt="s")
    with pytest.raises(TypeError, match="text"):
        NatsError("text", text="data")


def test_errors_survive_pickling_with_their_data():
    error = PermissionsViolationError("text", subject="s", sid=3)
    again = pickle.loads(pickle.dumps(error))
    assert (type(again), str(again), again.subject, again.sid) == (type(error), "text", "s", 3)
    for name in errors.__all__:
        kind = getattr(errors, name)
        assert issubclass(kind, NatsError)
        assert str(kind())
