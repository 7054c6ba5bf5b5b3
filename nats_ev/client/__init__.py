"""`Nats`: the client as its user sees it.

Files: `nats` (the verbs), `accessors` (the methods that only read or set), `extension` (the methods for
layers on top), `core` (the parts behind `Nats` and their wiring), `requests`, `request_many` and `expiry`
(requests, those that take many answers, and their time-outs), `subscriptions`, `drain`, `waits` (calls for
later that learn of the client's end).
"""

from .accessors import Statistics as Statistics
from .nats import Nats
from .request_many import RequestCallback as RequestCallback
from .subscriptions import SubscriptionInfo as SubscriptionInfo

__all__ = ["Nats"]
