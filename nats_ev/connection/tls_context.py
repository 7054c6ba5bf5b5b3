"""The TLS context of a client, made from its options and files."""

from __future__ import annotations

import os
import stat
import sys
from typing import TYPE_CHECKING, Any

from .. import errors
from ..instrumentation import WARNING, complain
from ..net import HAS_TLS, Stream, describe

if TYPE_CHECKING:
    import ssl

    from ..net import TlsStream
    from ..options import Options
    from .server import Server


class TlsContext:
    """Makes the SSLContext that the options ask for, and again when a file of it has changed."""

    def __init__(self, options: Options) -> None:
        self._options = options
        self._made: tuple[Any, ssl.SSLContext] | None = None

    def load(self) -> None:
        """Load the module ssl, so that the handshake does not: the other callbacks would wait for it."""
        if HAS_TLS:
            from ..net import TlsStream  # noqa: F401

    def wrap(self, stream: Stream, server: Server) -> TlsStream:
        """Return a TLS stream on a plain one's socket, its handshake not yet begun. Raises `TlsError`."""
        if not HAS_TLS:  # pragma: no cover
            raise errors.TlsError("SSL setup failed: this Python has no ssl module")
        from ..net import TlsStream

        try:
            context = self._context()
            name = self._name_of(server)
            if name is None and context.check_hostname:
                raise errors.TlsError(
                    "SSL setup failed: no name to verify the server by, set tls_hostname"
                )
            return TlsStream(stream.sock, context, name)
        except errors.TlsError:
            raise
        except (
            Exception
        ) as exc:  # of a context of the user's: anything. It ends the attempt at once.
            error = errors.TlsError(f"SSL setup failed: {str(exc) or type(exc).__name__}")
            raise error from exc

    def _name_of(self, server: Server) -> str | None:
        name = self._options.tls_hostname or server.tls_name or server.host
        # An IPv6 zone is local to this machine: no certificate has it.
        return name.partition("%")[0].rstrip(".") or None

    def _context(self) -> ssl.SSLContext:
        options = self._options
        if options.tls_context is not None:
            return options.tls_context  # type: ignore[no-any-return]
        files = [options.tls_ca_file, options.tls_cert_file, options.tls_key_file]
        key = (options.tls_skip_verify, *(_identity(f) for f in files if f is not None))
        if self._made is None or self._made[0] != key:
            self._made = None
            self._made = (key, _make_context(options))
        return self._made[1]


def _identity(path: str | os.PathLike[str]) -> tuple[object, ...]:
    """Return what changes when a file does. Raises `TlsError` if it is not a readable regular file."""
    try:
        found = os.stat(path)
    except OSError as exc:
        raise _setup_error(path, exc) from exc
    if not stat.S_ISREG(found.st_mode):  # reading a FIFO would block the loop
        raise errors.TlsError(f"SSL setup failed: {os.fspath(path)}: not a regular file")
    return os.fspath(path), found.st_ino, found.st_size, found.st_mtime_ns


def _setup_error(path: object, exc: Exception) -> errors.TlsError:
    return errors.TlsError(f"SSL setup failed: {path}: {describe(exc)}")


def _make_context(options: Options) -> ssl.SSLContext:
    """Return a client's context: TLS 1.2 or later, verifying unless tls_skip_verify. Raises `TlsError`."""
    import ssl

    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.options |= ssl.OP_NO_RENEGOTIATION
    context.hostname_checks_common_name = False
    # As in Go: whatever the CA file holds is trusted, an intermediate CA too.
    context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
    # As strict as ssl.create_default_context() of this Python: certificates that violate RFC 5280 fail.
    if sys.version_info >= (3, 13):
        context.verify_flags |= ssl.VERIFY_X509_STRICT
    if options.tls_skip_verify:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
        complain(WARNING, "tls_skip_verify: the server's certificate is not verified")
    ca = options.tls_ca_file
    try:
        if ca is not None:
            context.load_verify_locations(cafile=ca)
        elif not options.tls_skip_verify:
            context.load_default_certs(ssl.Purpose.SERVER_AUTH)
    except (OSError, ValueError) as exc:
        raise _setup_error(ca, exc) from exc
    cert = options.tls_cert_file
    if cert is not None:
        try:
            context.load_cert_chain(cert, options.tls_key_file, _no_password)
        except (OSError, ValueError) as exc:
            raise _setup_error(options.tls_key_file or cert, exc) from exc
    return context


def _no_password() -> str:
    """Refuse an encrypted key; without a callback OpenSSL would ask for the password on the terminal."""
    raise ValueError("the private key is encrypted; use tls_context")
