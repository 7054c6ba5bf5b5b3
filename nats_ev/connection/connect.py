"""The fields of CONNECT: what this client can do, and who it is."""

from __future__ import annotations

import sys
from binascii import b2a_base64
from typing import TYPE_CHECKING, Any

from .._version import __version__
from ..arguments import is_unicode
from ..auth import (
    Credentials,
    parse_creds,
    private_key,
    public_key,
    read_creds,
    read_seed,
    undecorated,
    wipe,
)
from ..errors import BadOptionsError
from ..options import Options
from ..protocol import ServerInfo

if TYPE_CHECKING:
    from .server import Server


_MAX_NONCE = 256
_URL_SAFE = bytes.maketrans(b"+/", b"-_")


def identity(options: Options, nonce: str | None, server: Server, turn: int = 0) -> dict[str, Any]:
    """Return the fields of CONNECT that say who the client is; callbacks are asked each time.

    Args:
        options: the client's.
        nonce: what the server's INFO asks to be signed, if it does.
        server: credentials in its URL win over the options.
        turn: which of several .creds files to use; counted from 0, and any number of times through.

    Raises what a callback or reading a file raises, and `BadOptionsError` for a bad result of a callback.
    """
    fields: dict[str, Any] = {}
    user, password, token = options.user, options.password, options.token
    if options.user_cb is not None:
        pair = options.user_cb()
        if not isinstance(pair, (tuple, list)) or len(pair) != 2:
            raise BadOptionsError("user_cb must return (user, password)")
        user, password = (_callback_text(part, "user_cb", "two str") for part in pair)
    if options.token_cb is not None:
        token = _callback_text(options.token_cb(), "token_cb")
    if server.user is not None or server.token is not None:
        user, password, token = server.user, server.password, server.token
    if user is not None:
        fields["user"] = user
        fields["pass"] = password or ""
    if token is not None:
        fields["auth_token"] = token
    fields.update(_nkey_fields(options, nonce, turn))
    return fields


def _callback_text(value: object, name: str, what: str = "str") -> str:
    """Return the text that a callback returned. It is a secret: no error shows it."""
    if not isinstance(value, str):
        raise BadOptionsError(f"{name} must return {what}")
    if not is_unicode(value):
        raise BadOptionsError(f"{name} must return text without lone surrogates")
    return value


def _credentials(options: Options, turn: int) -> Credentials | None:
    """Return the content of the .creds file whose turn it is."""
    if options.creds_cb is not None:
        content = options.creds_cb()
        if not isinstance(content, (bytes, bytearray, str)):
            raise BadOptionsError("creds_cb must return the content of a creds file, bytes or str")
        raw = content.encode("utf-8", "replace") if isinstance(content, str) else content
        return parse_creds(bytearray(raw), "creds_cb")
    creds = options.creds
    if not creds:
        return None
    chosen = creds[turn % len(creds)]
    if isinstance(chosen, bytes):
        return parse_creds(bytearray(chosen), "user_credential_bytes")
    return read_creds(chosen)


def _nkey_fields(options: Options, nonce: str | None, turn: int) -> dict[str, str]:
    credentials = _credentials(options, turn)
    seed: str | bytearray | None = options.nkey_seed
    try:
        jwt = options.jwt
        if jwt is None and credentials is not None:
            jwt = credentials.jwt
        if options.jwt_cb is not None:
            text = _callback_text(options.jwt_cb(), "jwt_cb")
            jwt = undecorated(text) or None  # "": no JWT
        fields = {"jwt": jwt} if jwt is not None else {}
        if nonce is not None:  # else the server asks for no signature, and decides about the rest
            if options.nkey_seed_file is not None:
                seed = read_seed(options.nkey_seed_file)
            elif seed is None and credentials is not None:
                seed = credentials.seed
            fields.update(_signed(options, nonce, seed, jwt is None))
        return fields
    finally:
        if credentials is not None:
            credentials.wipe()
        if isinstance(seed, bytearray):
            wipe(seed)


def _signed(
    options: Options, nonce: str, seed: str | bytearray | None, with_key: bool
) -> dict[str, str]:
    """Return the signature of the nonce, and the public key unless a JWT holds it."""
    if not 0 < len(nonce) <= _MAX_NONCE:
        raise BadOptionsError(f"the server's nonce has {len(nonce)} characters")
    public = options.nkey
    if options.signature_cb is not None:
        signature = options.signature_cb(nonce.encode())
        if not isinstance(signature, bytes):
            raise BadOptionsError("signature_cb must return bytes")
    elif seed is not None:
        prefix, key = private_key(seed)
        signature = key.sign(nonce.encode())
        public = public_key(prefix, key)
    else:
        return {}
    fields = {"sig": _base64url(signature)}
    if with_key and public is not None:
        fields["nkey"] = public
    return fields


def _base64url(data: bytes) -> str:
    return b2a_base64(data, newline=False).translate(_URL_SAFE).decode().rstrip("=")


def capabilities(options: Options, info: ServerInfo, secure: bool) -> dict[str, Any]:
    """Return the other fields of CONNECT, chosen one by one, so that no option slips in."""
    fields: dict[str, Any] = {
        "verbose": options.verbose,
        "pedantic": options.pedantic,
        "echo": options.echo,
        "tls_required": secure,
        "lang": f"python-{sys.implementation.name}-ev",
        "version": __version__,
        "protocol": 1,
        "headers": True,
        "no_responders": info.headers,
    }
    if options.name:
        fields["name"] = options.name
    return fields
