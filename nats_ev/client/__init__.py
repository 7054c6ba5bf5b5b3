"""`Nats`: the client."""

from .nats import Nats

__all__ = ["Nats"]
