"""A loop of `nats_ev.pyev`."""

from __future__ import annotations

from nats_ev import pyev


def new(name: str) -> pyev.Loop:
    """Return a loop of its own."""
    return pyev.Loop()
