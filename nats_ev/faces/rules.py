"""What a face makes of each public method of the callback API, read from the method's signature.

The rule: a method that takes `cb` becomes one that returns the result and raises the error. The tables
here hold what a signature does not tell: which methods call `cb` more than once (`FLOWS`), which of them
keep their callback (`HOOKS`), and which return before their answer comes (`LATER`, `FORGET`).
"""

from __future__ import annotations

import importlib
import inspect
import re
from collections.abc import Callable, Iterator
from enum import Enum
from typing import Any, NamedTuple


class Kind(Enum):
    """How a face treats a public name of a class."""

    ANSWER = "cb(result, err): the method returns the result"
    DONE = "cb(err): the method returns None"
    READY = "cb(): the method returns None"
    REQUEST = "cb(response, err, headers): the method returns a Msg"
    FLOW = "cb is called for each message: the method returns an iterator"
    LATER = "cb(result, err): the method returns at once, with a future of the result"
    FORGET = "cb may be left out: the method takes none"
    HOOK = "cb is for an event: it stays"
    THROUGH = "no cb: the method is the same"
    VALUE = "a property, or another attribute"


# The classes that have a face, and the folder or module that each is in.
HOMES = {
    "Nats": "client",
    "JetStream": "jetstream",
    "AtomicBatch": "jetstream",
    "FastBatch": "jetstream",
    "OrderedFetcher": "jetstream",
    "Consume": "jetstream",
    "OrderedConsumer": "jetstream",
    "PushSubscription": "jetstream",
    "JsMsg": "jetstream",
    "KV": "kv",
    "KvWatch": "kv",
    "ObjectStore": "object_store",
    "ObjectWatch": "object_store",
    "Service": "service",
    "Group": "service",
    "AccountResolver": "accounts",
    "AuthCallout": "accounts",
    "ServiceClient": "service",
    "SystemClient": "system",
    "Backup": "extras",
    "Lock": "extras",
    "Semaphore": "extras",
    "Election": "extras",
    "Counters": "extras",
    "Schedules": "extras",
    "WorkQueue": "extras",
    "Worker": "extras",
    "ConsumerGroups": "extras",
    "GroupMember": "extras",
    "LargeMessages": "extras",
    "LargeSubscription": "extras",
}

# Methods that call cb more than once, and the class of the iterator that a face's method returns.
FLOWS = {
    ("Nats", "subscribe"): "Subscription",
    ("Nats", "sub"): "Subscription",
    ("Nats", "subscribe_max"): "Subscription",
    ("Nats", "request_many"): "Answers",
    ("JetStream", "advisories"): "Advisories",
    ("JetStream", "consume"): "Consume",
    ("JetStream", "ordered_consumer"): "OrderedConsumer",
    ("JetStream", "push_subscribe"): "PushSubscription",
    ("KV", "watch"): "KvWatch",
    ("KV", "list_keys"): "KvKeys",
    ("ObjectStore", "watch"): "ObjectWatch",
    ("SystemClient", "events"): "SystemEvents",
    ("Election", "observe"): "Leaders",
    ("ConsumerGroups", "static_consume"): "GroupMember",
    ("ConsumerGroups", "elastic_consume"): "GroupMember",
    ("LargeMessages", "subscribe"): "LargeSubscription",
}
LATER = {("JetStream", "publish_async")}
FORGET = {("FastBatch", "add")}
# Methods of `Nats` whose cb is not for an answer. All of those named on_… are, too.
HOOKS = {
    "slow_consumer",
    "add_status_listener",
    "remove_status_listener",
    "add_error_listener",
    "remove_error_listener",
    "call",
    "call_soon",
    "call_later",
    "call_threadsafe",
    "hold_drain",
}
# Methods of classes that create an object: a face has `connect`.
CREATING = {"from_context", "from_env"}
# Methods of handles that an iterator does not show: it calls them itself.
OWN = {"ask", "pause", "paused", "resume"}
# Parameters for callbacks each call of which is a task, in a face that has tasks: their results count for
# nothing. `on_…` are, too.
TASKS = {"cb", "handler", "job_handler", "done_handler", "error_handler"}
# Parameters for callables whose result is used at once.
PLAIN = {"coderef", "data", "ended", "into", "progress", "sentinel", "stats_handler"}


class Rule(NamedTuple):
    """How a face treats one public name.

    Attributes:
        kind: see `Kind`.
        name: the method's or attribute's name.
        function: the function in Python; None for a property.
        position: the place of cb among the positional parameters after self; -1 if there is no cb.
        callables: the other parameters that take a callable, with their places (-1: keyword only).
        returns: the annotation of what the method returns.
        bound: staticmethod or classmethod, if the method is one.
        takes_faces: whether an argument may be an object of a face.
    """

    kind: Kind
    name: str
    function: Callable[..., Any] | None = None
    position: int = -1
    callables: tuple[tuple[str, int], ...] = ()
    returns: str = ""
    bound: type | None = None
    takes_faces: bool = False


def original(name: str) -> type:
    """Return the class of the callback API with a name in `HOMES`, and load its layer."""
    package = __name__.partition(".")[0]
    return getattr(importlib.import_module(f"{package}.{HOMES[name]}"), name)  # type: ignore[no-any-return]


def is_task(parameter: str) -> bool:
    """Return whether each call of what this parameter takes is a task of its own."""
    return parameter in TASKS or parameter.startswith("on_")


def public_names(kind: type) -> list[str]:
    """Return the public names of a class, those of its bases included."""
    return [name for name in dir(kind) if not name.startswith("_") and name not in CREATING]


def rules(kind: type) -> Iterator[Rule]:
    """Yield the rule for each public name of a class of the callback API."""
    for name in public_names(kind):
        yield rule(kind, name)


def rule(kind: type, name: str) -> Rule:
    """Return the rule for one public name of a class."""
    member = inspect.getattr_static(kind, name)
    function: Any = member
    if isinstance(member, (staticmethod, classmethod)):
        function = member.__func__
    if not callable(function):
        return Rule(Kind.VALUE, name)
    function = inspect.unwrap(function)
    parameters = list(inspect.signature(function).parameters.values())
    if not isinstance(member, staticmethod):
        parameters = parameters[1:]
    annotations = {each.name: str(each.annotation) for each in parameters}
    position = next((i for i, each in enumerate(parameters) if each.name == "cb"), -1)
    found = _kind(kind.__name__, name, annotations)
    stays = found in (Kind.HOOK, Kind.THROUGH)
    callables = tuple(
        (each.name, place if each.kind is each.POSITIONAL_OR_KEYWORD else -1)
        for place, each in enumerate(parameters)
        if (stays or each.name != "cb") and (is_task(each.name) or each.name in PLAIN)
    )
    returns = str(function.__annotations__.get("return", ""))
    bound = type(member) if isinstance(member, (staticmethod, classmethod)) else None
    takes_faces = any(
        re.search(r"\b(ObjectStore|JetStream)\b", each) for each in annotations.values()
    )
    return Rule(found, name, function, position, callables, returns, bound, takes_faces)


def _kind(kind: str, name: str, annotations: dict[str, str]) -> Kind:
    if "cb" not in annotations:
        return Kind.THROUGH
    if kind == "Nats" and (name in HOOKS or name.startswith("on_")):
        return Kind.HOOK
    for table, found in ((FLOWS, Kind.FLOW), (LATER, Kind.LATER), (FORGET, Kind.FORGET)):
        if (kind, name) in table:
            return found
    takes = annotations["cb"]
    if takes.startswith("Completion"):
        return Kind.DONE
    if takes.startswith("Callable[[]"):
        return Kind.READY
    return Kind.REQUEST if takes.startswith("RequestCallback") else Kind.ANSWER


def signature_without_cb(function: Callable[..., Any]) -> inspect.Signature:
    """Return a function's signature without its parameter cb."""
    whole = inspect.signature(function)
    kept = [each for each in whole.parameters.values() if each.name != "cb"]
    return whole.replace(parameters=kept)
