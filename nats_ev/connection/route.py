"""The way from a server's address to a connected socket: directly, through a proxy, or by the user's `dial`.

A `Route` is one attempt's. Through a proxy the way has two stages: the proxy's address is dialled, and a
`Tunnel` lets the proxy connect to the server. What comes after it, TLS included, is the same on every way.
`Attempts` bounds the time of it all.

The user's `dial` gets the server's address, and hands over a socket by `done`, whenever that is. A socket
that comes too late, after the attempt's end, is closed.
"""

from __future__ import annotations

import socket
from collections.abc import Callable
from typing import Any, Protocol

from .. import errors
from ..loops import Loop
from ..net import Deadline, Deadlines, Dialer, Guard, ProxyError, Refs, Resolver, Turn, adopt
from ..options import Options, Proxy, parse_proxy, proxy_of_environment
from ..redact import drop_frames, hide_frames
from .server import Server

# Gets the connected socket, or why there is none.
Done = Callable[[socket.socket | errors.NatsError], None]


class _Stage(Protocol):
    def cancel(self) -> None: ...
    def forked(self) -> None: ...


class Route:
    """One attempt's way to a socket. Ends with exactly one call of done; with none after `cancel`."""

    def __init__(
        self,
        loop: Loop,
        options: Options,
        deadlines: Deadlines,
        turn: Turn,
        guard: Guard,
        resolver: Resolver,
        refs: Refs,
        done: Done,
    ) -> None:
        """Make a route; `begin` starts it. All arguments but done are the client's."""
        self._loop = loop
        self._options = options
        self._deadlines = deadlines
        self._turn = turn
        self._guard = guard
        self._resolver = resolver
        self._refs = refs
        self._done = done
        self._stage: _Stage | None = None
        self._tried: list[str] = []  # by the dialer, also when its stage is over
        self._proxy: Proxy | None = None
        # What the client waits for, if it is not the server's address.
        self.waits_for = ""

    @property
    def tried(self) -> list[str]:
        """What a text about the attempt shows besides the server: numeric addresses, or the proxy."""
        if self._proxy is not None:
            return [f"through {self._proxy.url}"]
        return self._tried

    def begin(self, server: Server) -> None:
        """Start. done may be called before this returns."""
        if server.path is not None:
            self._dial(self._dialed).unix(server.path)
        elif self._options.dial is not None:
            self.waits_for = "the option dial has not called done"
            self._stage = handed = HandedOver(
                self._options, self._deadlines, self._turn, self._guard, self._finish
            )
            handed.ask(server.host, server.port)
        else:
            self._through(server)

    def cancel(self) -> None:
        """Stop. done is not called."""
        stage, self._stage = self._stage, None
        if stage is not None:
            stage.cancel()

    def forked(self) -> None:
        """Cut what is under way off from the parent's, in the child of a fork."""
        if self._stage is not None:
            self._stage.forked()

    def _through(self, server: Server) -> None:
        """Connect to the server, or to its proxy."""
        try:
            proxy = proxy_of(self._options, server)
        except errors.BadOptionsError as exc:  # of a variable of the environment
            drop_frames(exc)
            error = errors.ConnectError(str(exc))
            error.__cause__ = exc
            self._finish(error)
            return
        if proxy is None:
            self._dial(self._dialed).tcp(server.host, server.port)
            return
        self._proxy = proxy
        self.waits_for = "the proxy can't be reached"

        def reached(result: socket.socket | OSError) -> None:
            if isinstance(result, OSError):
                self._proxy_failed(result)
            else:
                self._ask_proxy(result, proxy, server)

        self._dial(reached).tcp(proxy.host, proxy.port)

    def _dial(self, done: Callable[[socket.socket | OSError], None]) -> Dialer:
        options = self._options
        self._stage = dialer = Dialer(
            self._loop,
            self._resolver,
            self._deadlines,
            done,
            keepalive=options.keepalive,
            priority=options.priority,
            timeout=options.connect_timeout / 1000,
            shuffle=options.randomize_servers,
            refs=self._refs,
            order=options.ip_resolution_order,
            local=options.local_address,
            user_timeout=options.tcp_user_timeout,
        )
        self._tried = dialer.tried
        return dialer

    def _dialed(self, result: socket.socket | OSError) -> None:
        if isinstance(result, OSError):
            self._finish(_failed(result.strerror or str(result), result))
        else:
            self._finish(result)

    def _ask_proxy(self, sock: socket.socket, proxy: Proxy, server: Server) -> None:
        """Let the proxy connect to the server."""
        from ..net import Tunnel, handshake_of

        self.waits_for = "the proxy does not answer"
        try:
            exchange = handshake_of(proxy, server.host, server.port)
            tunnel = Tunnel(
                self._loop, self._refs, sock, exchange, self._answered, self._options.priority
            )
        except Exception as exc:  # a name that the proxy can't be told
            sock.close()
            self._answered(exc)
            return
        self._stage = tunnel
        tunnel.begin()

    def _answered(self, result: socket.socket | Exception) -> None:
        if isinstance(result, Exception):
            self._proxy_failed(result)
        else:
            self._finish(result)

    def _proxy_failed(self, error: Exception) -> None:
        if not isinstance(error, ProxyError):
            assert self._proxy is not None
            why = (error.strerror if isinstance(error, OSError) else None) or str(error)
            cause, error = error, ProxyError(f"the proxy: {why}", proxy=self._proxy.url)
            error.__cause__ = cause
        drop_frames(error)
        self._finish(error)

    def _finish(self, result: socket.socket | errors.NatsError) -> None:
        self._stage = None
        self._done(result)


def _failed(why: str, cause: BaseException | None) -> errors.ConnectError:
    error = errors.ConnectError(why)
    error.__cause__ = cause
    drop_frames(error)  # they hold the dialer, and the client keeps the error
    return error


def proxy_of(options: Options, server: Server) -> Proxy | None:
    """Return the proxy for a server; None: none. Raises `BadOptionsError` for a bad ``ALL_PROXY``."""
    if options.proxy is None:
        return proxy_of_environment(server.host, server.port)
    return parse_proxy(options.proxy) if options.proxy else None


class Handover:
    """What the user's `dial` gets to call. It holds nothing of the client after its attempt's end."""

    __slots__ = ("_stage",)

    def __init__(self, stage: HandedOver) -> None:
        self._stage: HandedOver | None = stage

    def __call__(self, sock: Any = None, err: Any = None) -> None:
        """Hand over a connected socket, or why there is none.

        Called once, in the call of `dial` or later, in the thread that runs the loop. The client owns the
        socket from then on. After the attempt's end, and when it is called again, this closes the socket.

        Args:
            sock: a connected stream socket; or the error, if it is the only argument.
            err: an exception, or a text.
        """
        if isinstance(sock, (BaseException, str)) and err is None:
            sock, err = None, sock
        stage = self._stage
        if stage is None:
            _close(sock)
        else:
            stage.take(sock, err)

    def forget(self) -> None:
        """Let later calls only close what they are given."""
        self._stage = None


class HandedOver:
    """The stage of the user's `dial`: waits for a socket."""

    def __init__(
        self,
        options: Options,
        deadlines: Deadlines,
        turn: Turn,
        guard: Guard,
        finish: Done,
    ) -> None:
        """Make it; `ask` calls the user's `dial`. finish gets the socket or the error, on the loop."""
        self._options = options
        self._deadlines = deadlines
        self._turn = turn
        self._guard = guard
        self._finish = finish
        self._done = Handover(self)
        self._over = False  # done has been called, or nobody waits for it
        self._result: socket.socket | errors.NatsError | None = None
        self._due: Deadline | None = None

    def ask(self, host: str, port: int) -> None:
        """Call the user's dial."""
        assert self._options.dial is not None
        try:
            self._options.dial(host, port, self._done)
        except BaseException as exc:  # also an interrupt
            hide_frames(exc)
            if not self._over:
                known = isinstance(exc, Exception)
                self._end(_refused(exc if known else "interrupted"))
            elif isinstance(exc, Exception):  # it has come to its result before
                self._turn.failed(exc)
            if not isinstance(exc, Exception):
                raise

    def take(self, sock: Any, err: Any) -> None:
        """Take the socket or the error; see `Handover`."""
        self._guard.check_thread()
        if self._guard.forked:
            _close(sock)
        elif err is not None or sock is None:
            _close(sock)
            self._end(_refused(err))
        else:
            self._end(self._taken(sock))

    def cancel(self) -> None:
        """Stop waiting for done."""
        self._over = True
        self._done.forget()
        self._deadlines.end(self._due)
        self._due = None
        result, self._result = self._result, None
        # Not isinstance(…, socket.socket): that is another class where gevent has replaced it.
        if result is not None and not isinstance(result, errors.NatsError):
            result.close()

    def forked(self) -> None:
        """Let go of the parent's socket, in the child of a fork: closing it there ends nothing."""
        self.cancel()

    def _taken(self, sock: Any) -> socket.socket | errors.NatsError:
        options = self._options
        try:
            return adopt(sock, options.keepalive, options.tcp_user_timeout)
        except Exception as exc:
            _close(sock)
            drop_frames(exc)
            return _refused(exc)

    def _end(self, result: socket.socket | errors.NatsError) -> None:
        """Go on with the result in the loop's next iteration, and not in the user's call of done."""
        self._over = True
        self._done.forget()
        self._result = result
        self._due = self._deadlines.after(0.0, self._go_on)

    def _go_on(self) -> None:
        self._due = None
        result, self._result = self._result, None
        if result is not None:
            self._finish(result)


def _refused(err: Any) -> errors.NatsError:
    """Return the error of an attempt for what `dial` has reported or raised."""
    if err is None:
        return errors.ConnectError("dial: done was called without a socket")
    cause = err if isinstance(err, BaseException) else None
    why = str(err)
    if isinstance(err, OSError):
        why = err.strerror or why
    error = errors.ConnectError(f"dial: {why or type(err).__name__}")
    error.__cause__ = cause
    return error


def _close(sock: Any) -> None:
    close = getattr(sock, "close", None)
    if callable(close):
        close()
