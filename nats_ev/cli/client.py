"""The client of a command: its settings from command line, environment and context, and the connection."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from nats_ev import Nats, NatsError, blocking, pyev

from .output import complain, note
from .values import DURATION

if TYPE_CHECKING:
    from nats_ev.blocking import JetStream
    from nats_ev.blocking import Nats as Client

_DEFAULT = "nats://127.0.0.1:4222"
_TIMEOUT = timedelta(seconds=5)
# Variable of the environment → field of `Settings`: the official tool's.
_VARIABLES = {
    "NATS_URL": "server",
    "NATS_CONTEXT": "context",
    "NATS_USER": "user",
    "NATS_PASSWORD": "password",
    "NATS_TOKEN": "token",
    "NATS_CREDS": "creds",
    "NATS_NKEY": "nkey",
    "NATS_CERT": "tlscert",
    "NATS_KEY": "tlskey",
    "NATS_CA": "tlsca",
    "NATS_TIMEOUT": "timeout",
}

# Options of a client that lasts until Ctrl-C, once it has been connected.
_LASTING = {
    "reconnect": True,
    "retry_on_failed_connect": False,
    "max_reconnect_attempts": 0,
    "reconnect_delay": 500,
}


@dataclass
class Settings:
    """What the command line says about the connection; None: nothing."""

    server: str | None = None
    context: str | None = None
    user: str | None = None
    password: str | None = None
    token: str | None = None
    creds: str | None = None
    nkey: str | None = None
    tlscert: str | None = None
    tlskey: str | None = None
    tlsca: str | None = None
    tlsfirst: bool | None = None
    timeout: timedelta | None = None
    js_domain: str | None = None
    js_api_prefix: str | None = None
    inbox_prefix: str | None = None
    connection_name: str | None = None
    trace: bool | None = None

    def __post_init__(self) -> None:
        # With debug, exceptions of callbacks come out of the loop, and so out of the command.
        self.loop = pyev.Loop(debug=True)

    def read_environment(self) -> None:
        """Take what the command line leaves open from the environment."""
        for variable, field in _VARIABLES.items():
            value = os.environ.get(variable)
            if value and getattr(self, field) is None:
                setattr(self, field, DURATION(value) if field == "timeout" else value)

    @property
    def wait(self) -> timedelta:
        """The limit of each step."""
        return _TIMEOUT if self.timeout is None else self.timeout

    def options(self) -> dict[str, Any]:
        """Return the options of the client that the command line and the environment ask for."""
        given = {
            "user": self.user,
            "password": self.password,
            "token": self.token,
            "creds_file": self.creds,
            "nkey_seed": _read(self.nkey),
            "tls_cert_file": self.tlscert,
            "tls_key_file": self.tlskey,
            "tls_ca_file": self.tlsca,
            "servers": _listed(self.server),
            "tls_handshake_first": self.tlsfirst,
            "inbox_prefix": self.inbox_prefix,
        }
        options: dict[str, Any] = {
            name: value for name, value in given.items() if value is not None
        }
        if "user" in options and "password" not in options and "token" not in options:
            options["token"] = options.pop("user")
        options.setdefault("servers", [_DEFAULT])
        options["name"] = self.connection_name or "nats-ev"
        options["connect_timeout"] = self.wait
        return options

    @contextmanager
    def connect(self, *, lasting: bool = False, **more: Any) -> Iterator[Client]:
        """Connect for a ``with`` block, at whose end the client is drained.

        The client is one of `nats_ev.blocking`; ``nc.nats`` is that of the callback API, whose loop is run
        by `run`.

        Args:
            lasting: reconnect when the connection is lost, and tell about it on standard error.
            more: further options of the client.
        """
        self.read_environment()
        errors: list[NatsError] = []
        options = self.options() | {"loop": self.loop, "no_responders": True} | more
        if lasting:
            options |= _LASTING
        nats = Nats(**options, on_error=errors.append)
        nc = blocking.wrap(nats, self.loop)
        try:
            nc.flush()
        except NatsError as error:
            raise errors[-1] if errors else error from None
        except BaseException:
            nats.disconnect()
            raise
        if lasting:
            nats.on_error(complain)
            nats.on_disconnect(lambda: note("nats-ev: disconnected"))
            nats.on_reconnect(lambda: note(f"nats-ev: reconnected to {nats.connected_url()}"))
        else:
            nats.on_error(_ignore)
        with nc:
            try:
                yield nc
            finally:
                nats.on_disconnect(None)

    def run(self, limit: timedelta | None = None) -> None:
        """Run the loop until `stop`, or until the client has ended.

        Args:
            limit: a time after which the loop stops.
        """
        timer = None
        if limit is not None:
            timer = self.loop.timer(limit.total_seconds(), 0.0, lambda *_: self.loop.stop())
            timer.start()
        self.loop.start()
        if timer is not None:
            timer.stop()

    def stop(self) -> None:
        """Let `run` return, in a callback."""
        self.loop.stop()

    @contextmanager
    def jetstream(self, *, lasting: bool = False) -> Iterator[JetStream]:
        """Connect for a ``with`` block as `connect` does, and return the client's JetStream."""
        with self.connect(lasting=lasting) as nc:
            prefix = self.js_api_prefix or "$JS.API"
            yield nc.jetstream(prefix, timeout=self.wait, domain=self.js_domain)


def _ignore(error: NatsError) -> None:
    """Leave an error to the call that it ends."""


def _listed(servers: str | None) -> list[str] | None:
    """Return the URLs of an option, which has commas between them."""
    return None if servers is None else [each.strip() for each in servers.split(",")]


def _read(path: str | None) -> str | None:
    """Return the text of a file. Raises `click.FileError`."""
    if path is None:
        return None
    try:
        return Path(path).expanduser().read_text()
    except OSError as error:
        raise click.FileError(path, error.strerror or str(error)) from None
