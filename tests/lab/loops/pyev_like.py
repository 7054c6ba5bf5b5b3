"""A loop that offers what a genuine pyev does: by position only, and nothing that only ours has."""

from __future__ import annotations

from lab.strict_loop import Strict
from nats_ev import pyev

WATCHER = (
    "start", "stop", "set", "reset", "invoke", "feed", "clear", "send",
    "active", "pending", "priority", "callback", "data", "loop",
)  # fmt: skip
LOOP = (
    "io", "timer", "prepare", "check", "idle", "async", "signal", "periodic", "scheduler", "child",
    "fork", "embed", "start", "stop", "now", "update", "ref", "unref", "reset", "suspend", "resume",
    "verify", "invoke",
    "depth", "iteration", "pending", "default", "backend", "data", "debug", "io_interval", "timeout_interval",
)  # fmt: skip


def new(name: str) -> Strict:
    """Return a loop of its own."""
    return Strict(pyev.Loop(), LOOP, WATCHER)
