"""The client of a command: its settings from command line, environment and context, and the connection."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from nats_ev import (
    ConnectionClosedError,
    Context,
    Nats,
    NatsError,
    PermissionsViolationError,
    Status,
    blocking,
    pyev,
)

from .output import complain, note
from .values import DURATION

if TYPE_CHECKING:
    from nats_ev.blocking import JetStream
    from nats_ev.blocking import Nats as Client

_TIMEOUT = timedelta(seconds=5)
# Variables of the environment that say where to connect, and as whom: `Nats.from_env` reads them.
_VARIABLES = (
    *("NATS_CONTEXT", "NATS_URL", "NATS_USER", "NATS_PASSWORD", "NATS_TOKEN", "NATS_CREDS"),
    *("NATS_NKEY", "NATS_JWT", "NATS_SEED", "NATS_CERT", "NATS_KEY", "NATS_CA", "NATS_SOCKS_PROXY"),
)
# What the official tool takes for no proxy.
_NO_PROXY = ("none", "NONE", "-")
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
    proxy: str | None = None
    timeout: timedelta | None = None
    js_domain: str | None = None
    js_api_prefix: str | None = None
    inbox_prefix: str | None = None
    connection_name: str | None = None
    trace: bool | None = None

    def __post_init__(self) -> None:
        # With debug, exceptions of callbacks come out of the loop, and so out of the command.
        self.loop = pyev.Loop(debug=True)
        self._nats: Nats | None = None
        self._error: NatsError | None = None

    @property
    def wait(self) -> timedelta:
        """The limit of each step."""
        if self.timeout is None:
            given = os.environ.get("NATS_TIMEOUT")
            try:
                self.timeout = DURATION(given) if given else _TIMEOUT
            except click.BadParameter as error:
                raise click.UsageError(f"NATS_TIMEOUT: {error.message}") from None
        return self.timeout

    @property
    def proxy_url(self) -> str | None:
        """The URL of the proxy; "": none, whatever else says so; None: it is not said."""
        return "" if self.proxy in _NO_PROXY else self.proxy

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
            "servers": None if self.server is None else [u.strip() for u in self.server.split(",")],
            "tls_handshake_first": self.tlsfirst,
            "inbox_prefix": self.inbox_prefix,
            "proxy": self.proxy_url,
        }
        options: dict[str, Any] = {
            name: value for name, value in given.items() if value is not None
        }
        if "user" in options and "password" not in options:
            password = os.environ.get("NATS_PASSWORD")
            options |= {"password": password} if password else {"token": options.pop("user")}
        options["name"] = self.connection_name or "nats-ev"
        options["connect_timeout"] = self.wait
        return options

    def create(self, **options: Any) -> Nats:
        """Create the client: from the context of the command line, the environment or the selected context.

        The first of these that there is counts; the options win over what it says.
        """
        selected = self.context
        if selected is None and not any(os.environ.get(name) for name in _VARIABLES):
            selected = Context.selected()
        if selected is None:
            return Nats.from_env(**options)
        return Nats.from_context(selected, **options)

    @contextmanager
    def connect(self, *, lasting: bool = False, **more: Any) -> Iterator[Client]:
        """Connect for a ``with`` block, at whose end the client is drained.

        The client is one of `nats_ev.blocking`; ``nc.nats`` is that of the callback API, whose loop is run
        by `run`.

        Args:
            lasting: reconnect when the connection is lost, and tell about it on standard error.
            more: further options of the client.
        """
        with _traced() if self.trace else nullcontext(), self._connected(lasting, more) as nc:
            yield nc

    @contextmanager
    def _connected(self, lasting: bool, more: dict[str, Any]) -> Iterator[Client]:
        errors: list[NatsError] = []
        options = self.options() | {"loop": self.loop, "no_responders": True} | more
        if lasting:
            options |= _LASTING
        nats = self.create(**options, on_error=errors.append)
        nc = blocking.wrap(nats, self.loop)
        try:
            nc.flush()
        except NatsError as error:
            raise errors[-1] if errors else error from None
        except BaseException:
            nats.disconnect()
            raise
        self._nats = nats
        nats.on_error(self._survive if lasting else _fail)
        if lasting:
            nats.on_disconnect(lambda: note("nats-ev: disconnected"))
            nats.on_reconnect(lambda: note(f"nats-ev: reconnected to {nats.connected_url()}"))
        with nc:
            try:
                yield nc
            finally:
                nats.on_disconnect(None)

    def _survive(self, error: NatsError) -> None:
        """Report an error, and go on; a subscription that the server refuses ends the command."""
        if isinstance(error, PermissionsViolationError) and error.kind == "subscription":
            raise error
        self._error = error
        complain(error)

    def run(self, limit: timedelta | None = None) -> None:
        """Run the loop until `stop`.

        Args:
            limit: a time after which the loop stops.

        Raises:
            NatsError: the client has ended.
        """
        timer = None
        if limit is not None:
            timer = self.loop.timer(limit.total_seconds(), 0.0, lambda *_: self.loop.stop())
            timer.start()
        self.loop.start()
        if timer is not None:
            timer.stop()
        if self._nats is not None and self._nats.status() is Status.CLOSED:
            raise self._error or ConnectionClosedError("disconnected")

    def stop(self) -> None:
        """Let `run` return, in a callback."""
        self.loop.stop()

    @contextmanager
    def jetstream(self, *, lasting: bool = False) -> Iterator[JetStream]:
        """Connect for a ``with`` block as `connect` does, and return the client's JetStream."""
        with self.connect(lasting=lasting) as nc:
            yield self.jetstream_of(nc)

    def jetstream_of(self, nc: Client) -> JetStream:
        """Return the JetStream of a client, with the domain or prefix of the command line or the context."""
        given = {"domain": self.js_domain, "prefix": self.js_api_prefix}
        own: dict[str, Any] = {name: value for name, value in given.items() if value is not None}
        if nc.nats.context is not None:
            own = nc.nats.context.jetstream_options(**own)
        return nc.jetstream(timeout=self.wait, **own)


@contextmanager
def _traced() -> Iterator[None]:
    """Let the logger of the protocol write to standard error, for a ``with`` block."""
    logger = logging.getLogger("nats_ev.protocol")
    handler = logging.StreamHandler()
    handler.setFormatter(logging.Formatter("%(asctime)s.%(msecs)03d %(message)s", "%H:%M:%S"))
    logger.addHandler(handler)
    before = logger.level, logger.propagate
    logger.setLevel(logging.DEBUG)
    logger.propagate = False
    try:
        yield
    finally:
        logger.propagate = before[1]
        logger.setLevel(before[0])
        logger.removeHandler(handler)


def _fail(error: NatsError) -> None:
    """Let an error that no call raises end the command, such as a refused publish."""
    raise error


def _read(path: str | None) -> str | None:
    """Return the text of a file. Raises `click.FileError`."""
    if path is None:
        return None
    try:
        return Path(path).expanduser().read_text()
    except OSError as error:
        raise click.FileError(path, error.strerror or str(error)) from None
