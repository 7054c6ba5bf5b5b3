"""The sizes that a connection keeps to: by the client's options, by the server's INFO, and by the status."""

from __future__ import annotations

from typing import Any

from ..errors import MaxPayloadError
from ..instrumentation import Journal
from ..net import Deadline, Deadlines
from ..options import Options
from ..protocol import Outbound, ServerInfo

# Bytes: an inbound message may have as many whatever the server's max_payload is.
_LEAST_MESSAGE_LIMIT = 64 * 1024 * 1024
# Seconds between two looks whether the unsent bytes have fallen below slow_consumer_bytes.
_LOOK = 0.05
# The options that `Limits.set_buffer` looks at.
OF_THE_BUFFER = frozenset(
    {"max_pending_bytes", "reconnect_buffer_size", "slow_consumer_bytes", "max_control_line"}
)


def largest_message(options: Options, max_payload: int = 0) -> int:
    """Return the bytes that an inbound message may have; max_payload: of the server, 0 if it is unknown."""
    return options.max_message_size or max(_LEAST_MESSAGE_LIMIT, 2 * max_payload)


class Limits:
    """Sets the limits of a write buffer, and knows that of an inbound message."""

    def __init__(self, buffer: Any, options: Options) -> None:
        self._buffer = buffer  # `Outbound.limits`
        self._options = options
        self._server = 0  # max_payload of the last server; 0: not known

    def set_buffer(self, *, connected: bool, active: bool, refusing: bool) -> None:
        """Set what the write buffer accepts.

        Args:
            connected: messages may be written now.
            active: they may be queued, because a connection is up or on the way.
            refusing: the drain's last PING is framed: accept no message at all.
        """
        buffer, options = self._buffer, self._options
        buffer.held = not connected
        buffer.closed = not active or refusing
        buffer.slow_mark = options.slow_consumer_bytes
        buffer.max_control_line = options.max_control_line
        if connected or not active:
            buffer.max_pending = options.max_pending_bytes
        else:
            size = options.reconnect_buffer_size
            # C's 0 is "unlimited", the option's 0 is "nothing": no frame fits in one byte.
            buffer.max_pending = 0 if size < 0 else max(1, size)

    def set_server(self, info: ServerInfo) -> None:
        """Follow a server's INFO: our own max_payload and the server's both count, the smaller one wins."""
        self._server = info.max_payload
        self.set_max_payload()

    def set_max_payload(self) -> None:
        """Follow the option max_payload."""
        both = (self._options.max_payload, self._server)
        self._buffer.max_payload = min([size for size in both if size], default=0)

    @property
    def max_message(self) -> int:
        """Largest inbound message (headers and payload), in bytes."""
        return largest_message(self._options, self._server)


class Unsent:
    """Notices the end of the time in which more bytes were unsent than slow_consumer_bytes.

    The write buffer reports the beginning. It falls below the mark with no word, and asking at each write
    would be more work for each turn: so a timer asks, while there is such a time.
    """

    def __init__(self, options: Options, deadlines: Deadlines, journal: Journal) -> None:
        self._options = options
        self._deadlines = deadlines
        self._journal = journal
        self._due: Deadline | None = None

    def too_many(self, out: Outbound) -> None:
        """Note that out has too many unsent bytes."""
        self._journal.sending_slow(len(out))
        self._deadlines.end(self._due)
        self._due = self._deadlines.after(_LOOK, lambda: self._look(out))

    def _look(self, out: Outbound) -> None:
        if len(out) > self._options.slow_consumer_bytes > 0:
            self._due = self._deadlines.after(_LOOK, lambda: self._look(out))
        else:
            self.end()

    def end(self) -> None:
        """Note the end, if there was a beginning: the bytes were sent, or the connection has ended."""
        self._deadlines.end(self._due)
        self._due = None
        self._journal.sending_caught_up()


def unacceptable(discarded: int, limit: int, headers: bool) -> MaxPayloadError:
    """Return the error for queued messages that a new server would not take.

    Args:
        discarded: how many.
        limit: max_payload, in bytes.
        headers: whether the server supports headers.
    """
    return MaxPayloadError(
        f"queued messages that this server does not take were discarded: {discarded} "
        f"(max_payload {limit}, headers {'yes' if headers else 'no'})",
        limit=limit,
        discarded=discarded,
    )
