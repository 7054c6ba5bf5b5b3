"""The words of errors whose texts begin with their server's address."""

from __future__ import annotations

from typing import Any

from nats_ev.errors import NoServersError, ServerError


def words(error: Any) -> str:
    """Return an error's text without its server's address, with which the text must begin.

    The text of an -ERR is the server's.
    """
    if isinstance(error, ServerError) or not getattr(error, "address", ""):
        return str(error)
    where, colon, rest = str(error).partition(": ")
    assert colon
    if not isinstance(error, NoServersError):
        assert where == error.address or where.startswith(f"{error.address} ("), str(error)
    return rest
