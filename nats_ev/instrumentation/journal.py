"""The events of one client: logged, counted, remembered, and told to its `Instrumentation`.

`Connection` and `Core` call one method for each event. All of these are rare: nothing here is called for a
message. Texts name servers by their URL without credentials; an error's text has no secret in it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

from ..errors import ConnectionClosedError, ConnectionLostError, NatsError
from .hook import Observers
from .log import DEBUG, ERROR, INFO, WARNING, log, protocol_logger

# Why a connection is lost if nothing else is known.
_CLOSED = "the server has closed the connection"
# Different errors of the server that one connection remembers. All others count as new.
_MOST_TEXTS = 100


class Greeting(Protocol):
    """What the journal shows of a server's INFO."""

    @property
    def server_name(self) -> str:
        """The server's own name."""

    @property
    def version(self) -> str:
        """That of nats-server."""

    @property
    def client_id(self) -> int | None:
        """The number of the connection."""


class Journal:
    """What has happened to one client."""

    def __init__(
        self, observers: Observers | None, soon: Callable[..., object], clock: Callable[[], float]
    ) -> None:
        """Make an empty journal.

        Args:
            observers: who is told, or None.
            soon: ``soon(cb, *args)`` calls cb at the end of the loop's turn.
            clock: seconds, monotonic.
        """
        self.observers = observers
        self._soon = soon
        self._clock = clock
        self.reconnects = 0  # connections that replaced a lost one
        self.slow_episodes = 0
        self.last_error: NatsError | None = None
        self.disconnect_reason: NatsError | None = None
        self._attempts = 0  # since the last connection
        self._server_errors: set[str] = set()  # that this connection has brought
        self._lost_at: float | None = None
        self._slow_since: float | None = None  # an episode of too many unsent bytes

    def _tell(self, event: str, *args: object) -> None:
        if self.observers is not None:
            self._soon(self.observers.event, event, *args)

    def traced(self, stream: Any) -> Any:
        """Return a stream, or one that traces it, if the logger ``nats_ev.protocol`` wants that now."""
        logger = protocol_logger()
        if logger is None:
            return stream
        from .trace import Traced

        return Traced(stream, logger)

    def attempt(self, url: str) -> None:
        """Note that an attempt to connect begins."""
        self._attempts += 1
        log(DEBUG, "connecting to %s (attempt %d)", url, self._attempts)

    def planned(self, before: str, failed: NatsError | None, url: str, delay: float) -> None:
        """Note when the next attempt is made.

        Args:
            before: the URL of the server that was in use, or tried.
            failed: why the attempt before has failed; None: no failed attempt precedes.
            url: of the server that comes next.
            delay: in ms.
        """
        if failed is None:
            log(DEBUG, "next attempt: %s in %.0f ms", url, delay)
            return
        text = "attempt %d at %s failed: %s; next attempt: %s in %.0f ms"
        # The first one of an outage is news; the others only show that the outage goes on.
        level = WARNING if self._attempts == 1 else INFO
        log(level, text, self._attempts, before, failed, url, delay)
        self._tell("attempt_failed", before, failed, delay)

    def attempt_failed(self, url: str, error: NatsError) -> None:
        """Note that an attempt has failed, and that no other one follows."""
        log(ERROR, "attempt %d at %s failed: %s; no other attempt", self._attempts, url, error)
        self._tell("attempt_failed", url, error, None)

    def gave_up(self, url: str, last: NatsError | None, error: NatsError) -> None:
        """Note that no server is left to try; last: why the last attempt, at url, has failed."""
        if last is not None:
            self.attempt_failed(url, last)
        log(ERROR, "gave up: %s", error)

    def connected(
        self, url: str, address: str, info: Greeting, resubscribed: int, again: bool
    ) -> None:
        """Note the end of a handshake.

        Args:
            url: of the server.
            address: its numeric address.
            info: what the server has said about itself.
            resubscribed: how many subscriptions the handshake has restored.
            again: whether the connection replaces a lost one.
        """
        self.reconnects += again
        server = info.server_name or "?"
        if again:
            down = 0.0 if self._lost_at is None else self._clock() - self._lost_at
            text = (
                "reconnected to %s (%s, server %s, version %s, client %s) "
                "after %.1f s and %d attempts; resubscribed: %d"
            )
            shown = (url, address, server, info.version, info.client_id, down, self._attempts)
            log(INFO, text, *shown, resubscribed)
        else:
            text = "connected to %s (%s, server %s, version %s, client %s)"
            log(INFO, text, url, address, server, info.version, info.client_id)
        self._attempts = 0
        self._server_errors.clear()
        self._lost_at = None
        self._tell("connected", url, again)

    def lost(self, url: str, reason: NatsError | None, again: bool, forced: bool) -> None:
        """Note the loss of a connection.

        Args:
            url: of the server.
            reason: None: the server has closed the connection without a word, or the program forces a
                reconnect.
            again: another connection is wanted.
            forced: by `Nats.force_reconnect`.
        """
        self._lost_at = self._clock()
        if forced and reason is None:
            self.disconnect_reason = ConnectionClosedError("force_reconnect was called")
            log(INFO, "left %s: force_reconnect was called", url)
        else:
            self.disconnect_reason = reason or ConnectionLostError(_CLOSED, server=url)
            then = "" if again else "; no reconnect"
            log(WARNING, "lost the connection to %s: %s%s", url, reason or _CLOSED, then)
        self._tell("disconnected", url, self.disconnect_reason)

    def left(self, url: str, reason: NatsError, drained: bool) -> None:
        """Note the end of a connection that the program has asked for; drained: by `Nats.drain`."""
        self.disconnect_reason = reason
        self._lost_at = self._clock()
        log(INFO, "%s %s", "drained, and left" if drained else "left", url)
        self._tell("disconnected", url, reason)

    def ended(self, reason: NatsError) -> None:
        """Note that the client has no connection and will have none."""
        log(DEBUG, "closed: %s", reason.__cause__ or reason)
        self._tell("closed", reason)

    def error(self, error: NatsError) -> None:
        """Note an error that on_error gets."""
        self.last_error = error
        self._tell("error", error)

    def server_error(self, url: str, error: NatsError) -> None:
        """Note an -ERR that leaves the connection open.

        A server says the same for each message to a subject that is not permitted: once is news.
        """
        text = str(error)
        known = text in self._server_errors
        if len(self._server_errors) < _MOST_TEXTS:
            self._server_errors.add(text)
        log(DEBUG if known else WARNING, "%s: %s", url, error)

    def discovered(self, urls: list[str]) -> None:
        """Note servers of the cluster that were not known before."""
        log(INFO, "discovered: %s", ", ".join(urls))
        self._tell("discovered", urls)

    def lame_duck(self, url: str) -> None:
        """Note that the server has announced its shutdown."""
        log(WARNING, "%s is in lame duck mode: it will close the connection", url)
        self._tell("lame_duck", url)

    def subscription_slow(self, subject: str, pending: int) -> None:
        """Note that a subscription has begun to discard messages."""
        self.slow_episodes += 1
        text = "slow consumer: %s has %d pending messages and discards more"
        log(WARNING, text, subject, pending)
        self._tell("slow_consumer", subject, pending)

    def subscription_caught_up(self, subject: str, dropped: int) -> None:
        """Note that a subscription keeps messages again."""
        log(
            INFO, "slow consumer: %s has caught up (%d messages discarded in all)", subject, dropped
        )
        self._tell("caught_up", subject)

    def sending_slow(self, pending: int) -> None:
        """Note that more bytes are unsent than slow_consumer_bytes."""
        if self._slow_since is None:
            self._slow_since = self._clock()
            self.slow_episodes += 1
            log(WARNING, "slow consumer: the server does not read, %d bytes are unsent", pending)
            self._tell("slow_consumer", None, pending)

    def sending_caught_up(self) -> None:
        """Note that no more than slow_consumer_bytes are unsent, or that the connection has ended."""
        since, self._slow_since = self._slow_since, None
        if since is not None:
            log(INFO, "slow consumer: the server reads again, after %.1f s", self._clock() - since)
            self._tell("caught_up", None)
