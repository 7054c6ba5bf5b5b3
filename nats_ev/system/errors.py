"""What requests to the system account can end with."""

from __future__ import annotations

from ..errors import NatsError, NoRespondersError

__all__ = ["NotSystemAccountError", "SystemRequestError", "UnknownServerError"]


class SystemRequestError(NatsError):
    """A server has answered a request of the system account with an error.

    `code` is the server's, like one of HTTP; `description` its text; `server` the server's name.

    What to do: look at the description. 400 means that the options are wrong, 500 that they can't be met.
    """

    text = "system request failed"
    code: int = 0
    description: str = ""
    server: str = ""


class UnknownServerError(NatsError):
    """No server with this id answers; servers do.

    What to do: take the id of a running server, which `SystemClient.idz_ping` lists; a server that starts
    again has another one. A name is not an id.
    """

    text = "unknown server"


class NotSystemAccountError(NoRespondersError):
    """No server answers requests of the system account: is this user in the system account?

    What to do: connect as a user of the system account, which ``system_account`` in the server's
    configuration names.
    """

    text = "no responders: is this user in the system account?"
