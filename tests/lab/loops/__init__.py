"""The loops that the behavioural tests run on, and the choice of one for a run of pytest.

``pytest --loop=uvloop tests/kv`` runs these tests on uvloop; ``python -m lab.loops`` is for every loop. The
fixture `loop` then is a loop of that kind: the adapter that users have, with what tests need besides. Tests
without that fixture say nothing about a loop, and are left out.

A process has one kind for its whole life, because gevent patches a process and chooses its loop once.
`exclusions` names the tests that a kind cannot run, with the reason.
"""

from __future__ import annotations

import importlib
import os
import traceback
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any, NamedTuple

from lab.paths import ROOT, TESTS

DEFAULT = "libev"


class Kind(NamedTuple):
    """A kind of loop: where the function `new` is that makes one, and what the process needs."""

    name: str
    title: str  # in the table of the documentation
    module: str  # in this package
    environ: Mapping[str, str] = MappingProxyType({})
    patched: bool = False  # gevent patches the process before anything else is imported


KINDS = {
    kind.name: kind
    for kind in (
        Kind("libev", "`nats_ev.pyev`", "ours"),
        Kind("pyev-like", "a genuine pyev (a stand-in for it)", "pyev_like"),
        *(
            Kind(
                f"gevent-{loop}{'-patched' if patched else ''}",
                f"gevent, {title}{', patched' if patched else ''}",
                "hub",
                {"GEVENT_LOOP": loop},
                patched,
            )
            for loop, title in (
                ("libev-cext", "libev (C)"),
                ("libev-cffi", "libev (CFFI)"),
                ("libuv", "libuv"),
            )
            for patched in (False, True)
        ),
        Kind("asyncio", "asyncio", "tasks"),
        Kind("asyncio-debug", "asyncio in debug mode", "tasks", {"PYTHONASYNCIODEBUG": "1"}),
        Kind("uvloop", "uvloop", "tasks"),
        Kind("host", "a loop that C code owns and runs", "host"),
    )
}

# What tests ask of a loop of ours and another kind does not offer. A test that does is skipped there.
NESTED = "runs the loop inside a callback"
OFFERS = "uses what only libev's loops offer"
BLOCKS = "blocks in a callback, which gevent refuses where it has patched the call"

chosen = KINDS[DEFAULT]
# What the test that runs has asked for in vain.
missed: list[str] = []


class Unable(RuntimeError):
    """A test has asked a loop for what its kind does not offer."""


class UnableAttribute(Unable, AttributeError):
    """The same, where an attribute was asked for."""


def unable(what: str, kind: type[Unable] = Unable) -> Unable:
    """Note that this test asks for what this kind of loop does not offer, and return the error to raise."""
    missed.append(what)
    return kind(f"{chosen.name}: {what}")


def note(exc: BaseException) -> None:
    """Note that a callback of the tests, and not of the client, has blocked in gevent's hub."""
    if type(exc).__name__ == "BlockingSwitchOutError":
        frames = traceback.extract_tb(exc.__traceback__)
        ours = [frame.filename for frame in frames if str(ROOT) in frame.filename]
        if [name for name in ours if "site-packages" not in name][-1].startswith(str(TESTS)):
            missed.append(BLOCKS)


def attribute_of_ours(name: str) -> AttributeError:
    """Return the error for an attribute that a loop does not have; it is noted if ours has it."""
    from nats_ev import pyev

    if hasattr(pyev.Loop, name) and name not in NOT_ASKED_FOR:
        return unable(f"{OFFERS}: {name}", UnableAttribute)  # type: ignore[return-value]
    return AttributeError(name)


# What a client looks for itself, and does without.
NOT_ASKED_FOR = ("thread", "debug", "at_close", "address")


def choose(name: str) -> None:
    """Let `new` make loops of this kind from now on.

    Raises:
        ValueError: there is no such kind, or the process had to be patched by gevent and is not.
    """
    global chosen
    if name not in KINDS:
        raise ValueError(f"--loop={name}: choose one of {', '.join(KINDS)}")
    chosen = KINDS[name]
    os.environ.update(chosen.environ)
    if chosen.patched:
        from gevent import monkey

        if not monkey.is_module_patched("threading"):
            raise ValueError(f"gevent must patch first: python -m lab.loops {name} -- …")


def new() -> Any:
    """Return a loop of the kind that was chosen, with `start`, `stop`, `ref` and `unref` as ours has them."""
    make: Callable[[str], Any] = importlib.import_module(f"lab.loops.{chosen.module}").new
    return make(chosen.name)
