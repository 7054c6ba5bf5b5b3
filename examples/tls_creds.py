"""Connect with TLS and a .creds file, as a managed NATS wants it: `tls_creds.py CREDS [CA]`.

CREDS is the file that `nsc generate creds` writes, or that the provider hands out: who you are. CA is the
authority of the server's certificate (PEM); without it the system's authorities count. The program says who
it is connected to, sends itself a message, and ends. Each connection reads CREDS again, so a new file is used
after the next loss. NATS_URL says where the server is: tls://HOST:PORT.
"""

from __future__ import annotations

import json
import os
import sys

from nats_ev import AuthorizationError, Nats, NatsError, TlsError, pyev

URL = os.environ.get("NATS_URL", "tls://127.0.0.1:4222")


def on_error(err: NatsError) -> None:
    hint = ""
    if isinstance(err, TlsError):
        hint = " (does CA name the authority that has issued the server's certificate?)"
    elif isinstance(err, AuthorizationError):
        hint = " (does the server know this account? has the user expired, or been revoked?)"
    sys.exit(f"error: {err}{hint}")


def connected() -> None:
    server = json.loads(nats.server_info() or "{}")
    print(f"connected to {server['server_name']} {server['version']}", flush=True)
    # Subjects under _INBOX. are allowed to nearly every user.
    inbox = nats.new_inbox()
    nats.subscribe_max(inbox, received, 1)
    nats.publish(inbox, b"hello, me")


def received(subject: str, payload: bytes, reply: str | None, headers: bytes | None) -> None:
    print("received:", payload.decode())
    nats.drain()


match sys.argv[1:]:
    case [creds] | [creds, _]:
        authority = sys.argv[2] if sys.argv[2:] else None
    case _:
        sys.exit(__doc__)
try:
    nats = Nats(
        servers=[URL],
        tls=True,  # never in clear, whatever the server offers
        tls_ca_file=authority,
        creds_file=creds,
        on_connect=connected,
        on_error=on_error,
    )
except (ValueError, OSError) as exc:  # a file that can't be read, or is none
    sys.exit(f"error: {exc}")
pyev.default_loop().start()
