"""What the environment says, as a context."""

from __future__ import annotations

import os
from collections.abc import Mapping

from .context import IDENTITY, LOGIN, Context

# Of the environment: the variables that natscli reads.
_VARIABLES = {
    "NATS_URL": "url",
    "NATS_USER": "user",
    "NATS_PASSWORD": "password",
    "NATS_TOKEN": "token",
    "NATS_CREDS": "creds",
    "NATS_NKEY": "nkey",
    "NATS_JWT": "user_jwt",
    "NATS_SEED": "user_seed",
    "NATS_CERT": "cert",
    "NATS_KEY": "key",
    "NATS_CA": "ca",
    "NATS_SOCKS_PROXY": "socks_proxy",
}


def from_environment(environ: Mapping[str, str] | None = None) -> Context:
    """Return what the environment says, as a context.

    The variables are those of the official tool; `Nats.from_env` lists them. NATS_CONTEXT is a context to
    begin with; the others replace what is in it.

    Args:
        environ: None: that of the process.

    Raises:
        ContextError: NATS_CONTEXT names a context that does not exist or is broken.
    """
    environ = os.environ if environ is None else environ
    named = environ.get("NATS_CONTEXT")
    context = Context.load(named) if named else Context()
    found = {field: name for name, field in _VARIABLES.items() if environ.get(name)}
    if "user" in found and "password" not in found and not context["password"]:
        found.setdefault("token", found.pop("user"))
    if found.keys() & set(IDENTITY) and not (found.keys() <= set(LOGIN) and context["user"]):
        for field in IDENTITY:
            context.fields.pop(field, None)
    for field, name in found.items():
        context.fields[field] = environ[name]
        context._labels[field] = name
    return context
