"""Decide who may connect: `auth_callout.py setup` makes keys and callout.conf, then `auth_callout.py`.

Between the two start a server: `nats-server -c callout.conf`. It asks this service for each client (ADR-26),
encrypted. Who may connect is in people.json, which is read again for each client: names, salted hashes of
passwords, subjects. `auth_callout.py add NAME PASSWORD SUBJECT…` adds a person. Start several: they share the
work. On Ctrl-C or SIGTERM each answers what it has received. NATS_HOST and NATS_PORT say where the server is.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import os
import secrets
import signal
import sys
from datetime import timedelta
from pathlib import Path
from typing import Any

from nats_ev import Nats, NatsError, Status, pyev
from nats_ev.accounts import AuthCallout, AuthRequest, KeyPair

KEYS, PEOPLE = Path("callout.keys"), Path("people.json")
CONFIG = """\
accounts: {{ AUTH: {{ users: [ {{ user: auth, password: "{password}" }} ] }}, APP: {{}} }}
authorization {{
  auth_callout {{ account: AUTH, auth_users: [ auth ], issuer: {issuer}, xkey: {xkey} }}
}}
"""


def setup() -> None:
    issuer, xkey = KeyPair.create_account(), KeyPair.create_curve_keys()
    found = {"issuer": issuer.seed(), "xkey": xkey.seed(), "password": secrets.token_urlsafe()}
    write(KEYS, json.dumps(found))
    text = CONFIG.format(
        password=found["password"], issuer=issuer.public_key(), xkey=xkey.public_key()
    )
    write(Path("callout.conf"), text)
    print("written: callout.keys, callout.conf; only you can read them")


def write(path: Path, text: str) -> None:
    """Write a file that only its owner can read."""
    path.touch(0o600)
    path.chmod(0o600)
    path.write_text(text)


def hashed(password: str, salt: str) -> str:
    return hashlib.scrypt(password.encode(), salt=salt.encode(), n=2**12, r=8, p=1).hex()


def people() -> dict[str, Any]:
    found: dict[str, Any] = json.loads(PEOPLE.read_text()) if PEOPLE.exists() else {}
    return found


def add(name: str, password: str, *subjects: str) -> None:
    salt = secrets.token_hex(8)
    known = people()
    known[name] = {"salt": salt, "hash": hashed(password, salt), "subjects": subjects}
    write(PEOPLE, json.dumps(known, indent=2))
    print(f"{name} may use {', '.join(subjects)}")


def decide(request: AuthRequest) -> None:
    sent = request.connect_opts
    name = sent.get("user", "")
    person = people().get(name, {"salt": "", "hash": "", "subjects": []})
    # The hash is computed for strangers, too: the time tells nobody who exists.
    right = hmac.compare_digest(hashed(sent.get("pass", ""), person["salt"]), person["hash"])
    if right:
        user = request.user_claims(name=name, expires=timedelta(hours=8))
        user.allow_pub(*person["subjects"]).allow_sub(*person["subjects"], "_INBOX.>")
        request.accept(user.allow_responses())
    else:
        request.refuse("unknown name or wrong password")
    host = request.client_info.get("host")
    print(f"{name!r} from {host}: {'accepted' if right else 'refused'}", flush=True)


def serve() -> None:
    found = json.loads(KEYS.read_text())
    loop = pyev.default_loop(debug=True)
    nats = Nats(
        host=os.environ.get("NATS_HOST", "127.0.0.1"),
        port=int(os.environ.get("NATS_PORT", "4222")),
        user="auth",
        password=found["password"],
        reconnect=True,
        retry_on_failed_connect=False,
        on_error=lambda err: on_error(err),
    )

    def on_error(err: NatsError) -> None:
        print("nats:", err, file=sys.stderr, flush=True)
        if nats.status() is Status.CLOSED:  # no other attempt follows
            sys.exit(1)

    def leave(watcher: pyev.Signal, revents: int) -> None:
        for stop in stops:
            stop.stop()
        callout.stop(lambda ok, err: nats.disconnect())

    callout = AuthCallout(nats, found["issuer"], decide, found["xkey"], account="APP")
    stops = [loop.signal(number, leave) for number in (signal.SIGINT, signal.SIGTERM)]
    for stop in stops:
        stop.start()
    nats.flush(lambda err: print(err or "ready", flush=True))
    loop.start()
    stats = callout.stats()
    print(f"{stats['accepted']} accepted, {stats['refused']} refused")


match sys.argv[1:]:
    case ["setup"]:
        setup()
    case ["add", name, password, *subjects] if subjects:
        add(name, password, *subjects)
    case []:
        serve()
    case _:
        sys.exit(__doc__)
