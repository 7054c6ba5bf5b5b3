"""Names, argument order, units and defaults: what programs are written against."""

from __future__ import annotations

import inspect
from datetime import timedelta
from typing import Any

import pytest

import nats_ev
from lab import inside
from nats_ev import Nats, NatsError, pyev

# The manual's methods: positional names in order, those with a default marked by "=".
METHODS = {
    "connect": "host= port=",
    "connect_unix": "path",
    "disconnect": "",
    "is_connected": "",
    "publish": "subject payload= reply_to=",
    "hpublish": "subject headers payload= reply_to=",
    "subscribe": "subject cb queue_group=",
    "subscribe_max": "subject cb max_msgs queue_group=",
    "unsubscribe": "sid max_msgs=",
    "request": "subject payload cb timeout_ms=",
    "drain": "cb=",
    "ping": "",
    "flush": "cb=",
    "creds_file": "path",
    "new_inbox": "",
    "subscription_count": "",
    "server_info": "",
    "max_payload": "limit=",
    "waiting_count": "",
    "skip_waiting": "",
    "reconnect": "enable delay_ms= max_attempts=",
    "reconnect_enabled": "",
    "connect_timeout": "ms=",
    "ping_interval": "ms=",
    "max_pings_outstanding": "num=",
    "priority": "num=",
    "keepalive": "seconds=",
    "batch": "coderef",
    "slow_consumer": "bytes_threshold cb=",
    "on_lame_duck": "cb=",
    "nkey_seed": "seed",
    "jwt": "token",
    "tls": "enable ca_file= skip_verify=",
    "stats": "",
    "reset_stats": "",
    "on_error": "cb=",
    "on_connect": "cb=",
    "on_disconnect": "cb=",
    "nkey_generate_user_seed": "",
    "nkey_public_from_seed": "seed",
}
ALIASES = {
    "pub": "publish",
    "hpub": "hpublish",
    "sub": "subscribe",
    "unsub": "unsubscribe",
    "req": "request",
}
# Accessor → (default, another value).
ACCESSORS = {
    "connect_timeout": (2000, 1500),
    "ping_interval": (120_000, 5000),
    "max_pings_outstanding": (2, 5),
    "priority": (0, -2),
    "keepalive": (0, 30),
}
HOOKS = [
    "on_error",
    "on_connect",
    "on_disconnect",
    "on_reconnect",
    "on_lame_duck",
    "on_slow_consumer",
    "on_discovered_servers",
]
# Option → default, beyond the accessors.
DEFAULTS = {
    "host": None,
    "port": 4222,
    "path": None,
    "servers": None,
    "loop": None,
    "name": None,
    "user": None,
    "password": None,
    "token": None,
    "nkey_seed": None,
    "jwt": None,
    "tls_ca_file": None,
    "tls_skip_verify": False,
    "verbose": False,
    "pedantic": False,
    "echo": True,
    "no_responders": False,
    "reconnect": False,
    "reconnect_delay": 2000,
    "max_reconnect_delay": 30_000,
    "max_reconnect_attempts": 60,
    "retry_on_failed_connect": None,
    "reconnect_buffer_size": 8 * 1024 * 1024,
    "max_pending_bytes": 256 * 1024 * 1024,
    "randomize_servers": True,
    "ignore_discovered_servers": False,
    "slow_consumer_bytes": 0,
    "inbox_prefix": "_INBOX",
    "tls_hostname": None,
    "tls_handshake_first": False,
    "tls_cert_file": None,
    "tls_key_file": None,
    "tls_context": None,
    "creds_file": None,
    "user_credential_bytes": None,
    "creds_cb": None,
    "nkey_seed_file": None,
    "tls_ca": None,
    "tls_cert": None,
    "tls_key": None,
    "root_cas_cb": None,
    "tls_cert_cb": None,
    "on_auth_expiring": None,
    "auth_expiring_before": 60_000,
    "user_cb": None,
    "token_cb": None,
    "jwt_cb": None,
    "signature_cb": None,
}


@pytest.mark.parametrize(("name", "expected"), METHODS.items())
def test_methods_take_the_manuals_arguments_in_its_order(name: str, expected: str) -> None:
    signature = inspect.signature(getattr(Nats, name))
    found = [
        p.name + ("=" if p.default is not p.empty else "")
        for p in signature.parameters.values()
        if p.kind is p.POSITIONAL_OR_KEYWORD and p.name != "self"
    ]
    assert " ".join(found) == expected


@pytest.mark.parametrize(("alias", "name"), ALIASES.items())
def test_aliases(alias: str, name: str) -> None:
    assert getattr(Nats, alias) is getattr(Nats, name)


@pytest.mark.parametrize("name", ACCESSORS)
def test_accessors_read_without_and_set_with_an_argument(client: Any, name: str) -> None:
    default, other = ACCESSORS[name]
    nats = Nats(loop=pyev.Loop())
    accessor = getattr(nats, name)
    assert accessor() == default
    accessor(other)
    assert accessor() == other
    assert getattr(Nats(loop=pyev.Loop(), **{name: other}), name)() == other


@pytest.mark.parametrize("name", ["connect_timeout", "ping_interval"])
def test_a_timedelta_is_a_duration_anywhere(name: str) -> None:
    nats = Nats(loop=pyev.Loop(), **{name: timedelta(seconds=1.5)})
    assert getattr(nats, name)() == 1500
    with pytest.raises(ValueError, match=name):
        getattr(nats, name)(-1)
    assert getattr(nats, name)() == 1500


@pytest.mark.parametrize("name", HOOKS)
def test_callbacks_can_be_read_replaced_and_cleared(name: str) -> None:
    def one(*args: object) -> None: ...
    def two(*args: object) -> None: ...

    nats = Nats(loop=pyev.Loop(), **{name: one})
    accessor = getattr(nats, name)
    assert accessor() is one
    accessor(two)
    assert accessor() is two
    accessor(None)
    assert accessor() is None
    with pytest.raises(TypeError):
        accessor(42)


@pytest.mark.parametrize(("name", "default"), DEFAULTS.items())
def test_options_have_the_contracts_defaults(name: str, default: Any) -> None:
    from nats_ev.options import Options

    assert getattr(Options(), name) == default


@pytest.mark.parametrize("name", HOOKS)
def test_callbacks_are_options_too(name: str) -> None:
    Nats(loop=pyev.Loop(), **{name: print})
    Nats(loop=pyev.Loop(), **{name: None})


def test_unknown_options_are_type_errors_that_help() -> None:
    with pytest.raises(TypeError, match="reconnect_delay"):
        Nats(loop=pyev.Loop(), reconect_delay=5)
    with pytest.raises(TypeError, match="frobnicate"):
        Nats(loop=pyev.Loop(), frobnicate=1)


@pytest.mark.parametrize(
    "options",
    [
        {"host": "a", "servers": ["b"]},
        {"path": "/a", "servers": ["b"]},
        {"host": "a", "path": "/b"},
        {"servers": []},
        {"servers": ["http://a"]},
        {"port": 0, "host": "a"},
        {"host": "a\r\nb"},
        {"host": "a b"},
        {"path": "/a\0b"},
        {"priority": 3},
        {"max_message_size": 2**31},
        {"max_payload": 2**63},
        {"max_pending_bytes": 2**63},
        {"reconnect_buffer_size": 2**63},
        {"slow_consumer_bytes": 2**63},
        {"max_control_line": 2**63},
        {"reconnect_delay": -1},
        {"reconnect_delay": float("nan")},
        {"inbox_prefix": "a.>"},
        {"inbox_prefix": ""},
    ],
)
def test_options_that_make_no_sense_are_value_errors(options: dict[str, Any]) -> None:
    with pytest.raises(ValueError):
        Nats(loop=pyev.Loop(), **options)


@pytest.mark.parametrize(
    "call",
    [
        lambda nats: nats.tls(True, 5),
        lambda nats: nats.tls(True, "ca.pem", "yes"),
        lambda nats: nats.reconnect(True, "soon"),
        lambda nats: nats.reconnect(True, 5, -1),
        lambda nats: nats.slow_consumer(5, "no callback"),
    ],
)
def test_setting_several_options_at_once_sets_all_or_none(call: Any) -> None:
    nats = Nats(loop=pyev.Loop())
    before = repr(inside.options_of(nats))
    with pytest.raises((TypeError, ValueError)):
        call(nats)
    assert repr(inside.options_of(nats)) == before


def test_sids_count_from_one_and_are_never_used_again() -> None:
    nats = Nats(loop=pyev.Loop())
    assert nats.subscribe("a", print) == 1
    nats.unsubscribe(1)
    assert nats.subscribe("a", print) == 2
    assert Nats(loop=pyev.Loop()).subscribe("a", print) == 1


def test_units_of_keepalive_are_seconds() -> None:
    assert Nats(loop=pyev.Loop(), keepalive=timedelta(minutes=1)).keepalive() == 60


def test_errors_are_what_callers_expect_to_catch() -> None:
    assert issubclass(nats_ev.NotConnectedError, ConnectionError)
    assert issubclass(nats_ev.RequestTimeoutError, TimeoutError)
    assert issubclass(nats_ev.DrainTimeoutError, TimeoutError)
    for name in ("BadSubjectError", "BadOptionsError", "MaxPayloadError", "BadHeadersError"):
        assert issubclass(getattr(nats_ev, name), ValueError)
    for name in nats_ev.errors.__all__:
        assert issubclass(getattr(nats_ev, name), NatsError)
    assert str(nats_ev.NotConnectedError()) == "not connected"
    assert str(nats_ev.RequestTimeoutError()) == "request timeout"
    assert str(nats_ev.NoRespondersError()) == "no responders"
    assert str(nats_ev.ConnectionLostError()) == "disconnected"
    assert str(nats_ev.ConnectionClosedError()) == "disconnected"
    assert str(nats_ev.StaleConnectionError()) == "stale connection"
    assert str(nats_ev.ConnectTimeoutError()) == "connect timeout"
    assert str(nats_ev.AlreadyConnectedError()) == "already connected"


def test_a_jetstream_error_class_knows_its_code() -> None:
    assert nats_ev.StreamNotFoundError.err_code == 10059
    assert nats_ev.StreamNotFoundError().err_code == 10059
    assert nats_ev.APIError.err_code == 0


def test_the_names_that_nats_ev_exports() -> None:
    wanted = {"Nats", "pyev", "Headers", "Service", "NatsError", "KV", "ObjectStore"}
    wanted |= {"HAS_TLS", "HAS_NKEY", "Status", "JetStream", "JsMsg", "JetStreamError"}
    missing = {name for name in wanted if not hasattr(nats_ev, name)}
    assert not missing
    assert nats_ev.HAS_TLS
    assert nats_ev.HAS_NKEY
