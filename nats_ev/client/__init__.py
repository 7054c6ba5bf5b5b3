"""`Nats`: the client as its user sees it.

Files: `nats` (its methods), `accessors` (those that only read or set), `core` (the parts behind it),
`requests`, `request_many` and `expiry` (requests, those with many answers, and their time-outs),
`subscriptions`, `drain`.
"""

from .nats import Nats

__all__ = ["Nats"]
