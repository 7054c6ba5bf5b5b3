"""Certificates for tests: good ones, and such as must be refused."""

from __future__ import annotations

import ipaddress
import ssl
from datetime import datetime, timedelta, timezone
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

DAY = timedelta(days=1)
# RFC 5280 wants it of every authority.
_AUTHORITY_USAGE = x509.KeyUsage(
    digital_signature=False, content_commitment=False, key_encipherment=False,
    data_encipherment=False, key_agreement=False, key_cert_sign=True, crl_sign=True,
    encipher_only=False, decipher_only=False,
)  # fmt: skip


class Pair:
    """A certificate and its key, as objects and as files.

    Attributes:
        name: the subject's common name.
        cert_file: the certificate, PEM.
        key_file: its key, PEM, not encrypted.
        cert: the certificate.
        key: its key.
    """

    def __init__(
        self, folder: Path, name: str, cert: x509.Certificate, key: ec.EllipticCurvePrivateKey
    ) -> None:
        self.cert, self.key, self.name = cert, key, name
        self.cert_file = folder / f"{name}.pem"
        self.key_file = folder / f"{name}.key"
        self.cert_file.write_bytes(cert.public_bytes(serialization.Encoding.PEM))
        self.key_file.write_bytes(
            key.private_bytes(
                serialization.Encoding.PEM,
                serialization.PrivateFormat.PKCS8,
                serialization.NoEncryption(),
            )
        )

    def server_context(self, ca: Pair | None = None) -> ssl.SSLContext:
        """Return a context for a server; with ca it wants a client certificate of that authority."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(self.cert_file, self.key_file)
        if ca is not None:
            context.verify_mode = ssl.CERT_REQUIRED
            context.load_verify_locations(ca.cert_file)
        return context


class Certificates:
    """An authority and the certificates that it issues, each with its key in files of one folder.

    Attributes:
        ca: the authority, a `Pair`.
        other_ca: another one, which nobody has a reason to trust.

    Args:
        folder: of the files: NAME.pem and NAME.key.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.ca = self.authority("ca")
        self.other_ca = self.authority("other-ca")

    def authority(self, name: str, key_usage: bool = True) -> Pair:
        """Return another authority, signed by itself.

        Args:
            name: of the files and the subject.
            key_usage: False: one that RFC 5280, and Python from 3.13 on, refuses.
        """
        return self._make(name, None, authority=True, key_usage=key_usage)

    def issue(self, name: str, *sans: str, by: Pair | None = None, expired: bool = False) -> Pair:
        """Return a certificate, for servers and clients alike.

        Args:
            name: of the files and the subject.
            sans: host names and IP addresses.
            by: the authority; default: `ca`.
            expired: whether its time was over yesterday.
        """
        return self._make(name, by or self.ca, sans, expired=expired)

    def self_signed(self, name: str, *sans: str) -> Pair:
        """Return a certificate that is signed by itself and is no authority's."""
        return self._make(name, None, sans)

    def _make(
        self,
        name: str,
        issuer: Pair | None,
        sans: tuple[str, ...] = (),
        authority: bool = False,
        expired: bool = False,
        key_usage: bool = True,
    ) -> Pair:
        key = ec.generate_private_key(ec.SECP256R1())
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        now = datetime.now(timezone.utc)
        builder = (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(subject if issuer is None else issuer.cert.subject)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - 30 * DAY)
            .not_valid_after(now - DAY if expired else now + DAY)
            .add_extension(x509.BasicConstraints(ca=authority, path_length=None), critical=True)
            .add_extension(
                x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False
            )
        )
        signer = key if issuer is None else issuer.key
        builder = builder.add_extension(
            x509.AuthorityKeyIdentifier.from_issuer_public_key(signer.public_key()), critical=False
        )
        if authority and key_usage:
            builder = builder.add_extension(_AUTHORITY_USAGE, critical=True)
        if not authority:
            usage = [ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH]
            builder = builder.add_extension(x509.ExtendedKeyUsage(usage), critical=False)
        if sans:
            names = [_general_name(san) for san in sans]
            builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=False)
        return Pair(self._folder, name, builder.sign(signer, hashes.SHA256()), key)


def _general_name(text: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(text))
    except ValueError:
        # "DNS:127.0.0.1" is a name that looks like an address.
        return x509.DNSName(text.removeprefix("DNS:"))


def server_config(
    pair: Pair, ca: Pair | None = None, first: bool = False, more: str = "", timeout: float = 2
) -> str:
    """Return the tls block of a nats-server's configuration.

    Args:
        pair: the server's certificate.
        ca: the authority of the clients; None: they need no certificate.
        first: whether TLS begins before the server's INFO (handshake_first).
        more: text that is added after the block.
        timeout: seconds for the handshake.
    """
    lines = [f"cert_file: {str(pair.cert_file)!r}", f"key_file: {str(pair.key_file)!r}"]
    lines.append(f"timeout: {timeout}")
    if ca is not None:
        lines += [f"ca_file: {str(ca.cert_file)!r}", "verify: true"]
    if first:
        lines.append("handshake_first: true")
    return "tls {\n  " + "\n  ".join(lines) + "\n}\n" + more
