"""Errors of sockets and of TLS in the client's words, without loading `ssl`.

Programs without TLS load neither `ssl` nor `tls`. An error of TLS can exist only after `ssl` was loaded.
"""

from __future__ import annotations

import sys
from types import ModuleType

from .. import errors
from ..imports import is_installed
from ..redact import drop_frames

# False in a Python that was built without OpenSSL: all but TLS works. The module ssl alone says nothing: each
# Python has that file.
HAS_TLS = is_installed("_ssl")


class TruncatedError(OSError):
    """The TCP connection ended without TLS's close_notify: an attacker may have cut it."""

    def __init__(self) -> None:
        super().__init__("TLS connection was cut off (no close_notify)")


class StreamError(OSError):
    """What a protocol between NATS and the socket has found, in the client's words.

    Attributes:
        error: for on_error, of a connection that is up or of an attempt.
    """

    def __init__(self, error: errors.NatsError) -> None:
        super().__init__(str(error))
        self.error = error


def _loaded_ssl() -> ModuleType | None:
    return sys.modules.get("ssl")


def describe(exc: BaseException) -> str:
    """Return the error in words, without OpenSSL's source lines."""
    ssl = _loaded_ssl()
    if ssl is not None and isinstance(exc, ssl.SSLCertVerificationError):
        return f"certificate verify failed: {exc.verify_message}"
    if ssl is not None and isinstance(exc, ssl.SSLError) and exc.reason:
        return str(exc.reason).replace("_", " ").lower()
    return getattr(exc, "strerror", None) or str(exc)


def handshake_error(exc: OSError) -> errors.TlsError:
    """Return the client's error for what `TlsStream.handshake` raised, without frames."""
    drop_frames(exc)
    text = "connection closed by the server" if isinstance(exc, TruncatedError) else describe(exc)
    error = errors.TlsError(f"SSL handshake failed: {text}")
    error.__cause__ = exc
    return error


def is_tls_error(exc: OSError) -> bool:
    """Return whether an error of `send` or `recv` is one of TLS, and not of the socket below."""
    ssl = _loaded_ssl()
    return ssl is not None and isinstance(exc, ssl.SSLError)


def read_error(exc: OSError, connected: bool) -> errors.NatsError:
    """Return the client's error for what a stream's `recv` or `send` raised, without frames.

    Args:
        exc: of a `Stream`, a `TlsStream` or a `WsStream`.
        connected: whether the NATS handshake is complete. Before that the error is one of the attempt: a
            `ConnectError`, and a `TlsError` for an error of TLS, because with TLS 1.3 the server rejects our
            certificate only after the client has finished.
    """
    if is_tls_error(exc) and not connected:
        return handshake_error(exc)
    drop_frames(exc)
    error: errors.NatsError
    if isinstance(exc, StreamError):
        if connected or not isinstance(exc.error, errors.ConnectionLostError):
            return exc.error
        return errors.ConnectError(str(exc.error))
    if not connected:
        error = errors.ConnectError(describe(exc))
    elif isinstance(exc, TruncatedError):
        error = errors.UnexpectedEOFError(str(exc))
    else:
        error = errors.ConnectionLostError(describe(exc))
    error.__cause__ = exc
    return error
