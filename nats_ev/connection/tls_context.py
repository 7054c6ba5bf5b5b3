"""The TLS context of a client, made from its options, files and callbacks."""

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
        parts = _parts(options)
        made_of = (options.tls_skip_verify, *(each.identity() for each in parts))
        if self._made is None or self._made[0] != made_of:
            self._made = None
            self._made = (made_of, _make_context(options.tls_skip_verify, *parts))
        return self._made[1]


class _Part:
    """Something in PEM: a file, or its content in memory.

    Args:
        path: of the file, None if there is none.
        content: in its place.
        source: the option that it comes from, for errors.
    """

    def __init__(
        self,
        path: str | os.PathLike[str] | None = None,
        content: bytes | None = None,
        source: str = "",
    ) -> None:
        self.path = path
        self.content = content
        self.shown = path if path is not None else source

    def __bool__(self) -> bool:
        return self.path is not None or self.content is not None

    def identity(self) -> object:
        """Return what changes when the content does. Raises `TlsError`."""
        return _identity(self.path) if self.path is not None else self.content


def _parts(options: Options) -> tuple[_Part, _Part, _Part]:
    """Return the authorities, the certificate and its key; callbacks are asked. Raises `TlsError`."""
    ca = _Part(options.tls_ca_file, options.tls_ca, "tls_ca")  # type: ignore[arg-type]
    cert = _Part(options.tls_cert_file, options.tls_cert, "tls_cert")  # type: ignore[arg-type]
    key = _Part(options.tls_key_file, options.tls_key, "tls_key")  # type: ignore[arg-type]
    if options.root_cas_cb is not None:
        ca = _Part(None, _pem(options.root_cas_cb(), "root_cas_cb"), "root_cas_cb")
    if options.tls_cert_cb is not None:
        result = options.tls_cert_cb()
        pair = result if isinstance(result, (tuple, list)) else (result, None)
        if len(pair) != 2:
            raise errors.TlsError("SSL setup failed: tls_cert_cb must return certificate and key")
        cert = _Part(None, _pem(pair[0], "tls_cert_cb"), "tls_cert_cb")
        if pair[1] is not None:
            key = _Part(None, _pem(pair[1], "tls_cert_cb"), "tls_cert_cb")
    return ca, cert, key


def _pem(value: object, source: str) -> bytes:
    """Return what a callback has returned. The error does not show it: it may be a key."""
    if isinstance(value, str):
        value = value.encode("utf-8", "replace")
    if not isinstance(value, (bytes, bytearray, memoryview)):
        raise errors.TlsError(f"SSL setup failed: {source} must return PEM, bytes or str")
    return bytes(value)


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


def _make_context(skip_verify: bool, ca: _Part, cert: _Part, key: _Part) -> ssl.SSLContext:
    """Return a client's context: TLS 1.2 or later, verifying unless skip_verify. Raises `TlsError`."""
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
    if skip_verify:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
        complain(WARNING, "tls_skip_verify: the server's certificate is not verified")
    try:
        if ca.content is not None:
            # Comments between the certificates may have any bytes; Python takes ASCII only.
            text = ca.content.decode("latin-1").encode("ascii", "replace").decode()
            context.load_verify_locations(cadata=text)
        elif ca.path is not None:
            context.load_verify_locations(cafile=ca.path)
        elif not skip_verify:
            context.load_default_certs(ssl.Purpose.SERVER_AUTH)
    except (OSError, ValueError) as exc:
        raise _setup_error(ca.shown, exc) from exc
    if cert:
        try:
            _load_chain(context, cert, key)
        except (OSError, ValueError) as exc:
            raise _setup_error((key or cert).shown, exc) from exc
    return context


def _load_chain(context: ssl.SSLContext, cert: _Part, key: _Part) -> None:
    if cert.path is not None:
        context.load_cert_chain(cert.path, key.path, _no_password)
        return
    assert cert.content is not None
    # OpenSSL's function, as Python offers it, reads files only. This one is in memory where that exists.
    chain = cert.content + b"\n" + (key.content or b"")
    if hasattr(os, "memfd_create") and os.path.isdir("/proc/self/fd"):
        fd = os.memfd_create("nats_ev", os.MFD_CLOEXEC)
        path = f"/proc/self/fd/{fd}"
    else:  # pragma: no cover
        import tempfile

        fd, path = tempfile.mkstemp()
    try:
        with open(fd, "wb", closefd=False) as stream:
            stream.write(chain)
        context.load_cert_chain(path, None, _no_password)
    finally:
        os.close(fd)
        if not path.startswith("/proc/"):  # pragma: no cover
            os.unlink(path)


def _no_password() -> str:
    """Refuse an encrypted key; without a callback OpenSSL would ask for the password on the terminal."""
    raise ValueError("the private key is encrypted; use tls_context")
