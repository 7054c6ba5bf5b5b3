"""The classes of a face, made of those of the callback API by the rules in `rules`.

What is asynchronous is written once, as a coroutine function. A face for coroutines shows these as they are;
one that blocks shows a function that runs the coroutine to its end (`Context.run`).
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from functools import partial
from typing import Any, cast

from ..client import Nats
from ..errors import BadOptionsError
from . import objects, rules
from .context import Context, context_of, settle
from .flow import BASES, Flow
from .message import Msg
from .objects import Facing, Later, MessageFace, unwrap
from .rules import Kind, Rule

# The public names of asynchronous methods: in a face for coroutines, in one that blocks.
_PROTOCOL = {
    "_following": ("__anext__", "__next__"),
    "_enter": ("__aenter__", "__enter__"),
    "_leave": ("__aexit__", "__exit__"),
}


Maker = Callable[[Any], Context]


class Face:
    """One face: the classes of the callback API, with methods that return what they have to wait for.

    Args:
        module: the name of the module that users import.
        asynchronous: whether methods are coroutine functions.
    """

    def __init__(self, module: str, asynchronous: bool) -> None:
        self.module = module
        self.asynchronous = asynchronous
        self._classes: dict[str, type] = {}
        self._of_original: dict[type, type | None] = {}

    # From one to the other.

    def wrap(self, thing: Any, context: Context | None = None, make: Maker | None = None) -> Any:
        """Return the face of an object of the callback API; anything else is returned as it is.

        Args:
            thing: the object.
            context: that of its client, if the caller knows it.
            make: ``make(nats)`` returns the context of a client that has none yet.
        """
        kind = type(thing)
        try:
            found = self._of_original[kind]
        except KeyError:
            found = self._of_original[kind] = self._face_of(kind)
        if found is None:
            return thing
        if issubclass(found, kind):  # a message: its face is a subclass
            thing.__class__ = found
            return thing
        return found._of(thing, context or self.context(thing, make))  # type: ignore[attr-defined]

    def _face_of(self, kind: type) -> type | None:
        for base in kind.__mro__:
            name = base.__name__
            shown = ("nats_ev", f"nats_ev.{rules.HOMES.get(name)}")
            if base.__module__ in shown and name in rules.HOMES and name not in BASES:
                # Of messages only those that can be answered: the others are a class of their own.
                return (
                    None
                    if name == "JsMsg" and base is not rules.original(name)
                    else self.named(name)
                )
        return None

    def context(self, thing: Any, make: Maker | None = None) -> Context:
        """Return the context of an object of the callback API, or create it; see `wrap`."""
        nats: Any = getattr(getattr(thing, "js", thing), "nats", thing)
        if not isinstance(nats, Nats):
            raise TypeError(f"{type(thing).__name__} does not tell its client")
        found = context_of(nats)
        if found is None:
            if make is None:
                raise BadOptionsError(
                    f"this client has no face yet: call {self.module}.wrap with it"
                )
            found = make(nats)
            found.logs = True
            self.attach(found)
        elif found.face is not self:
            raise BadOptionsError(f"this client has the face {found.face.module} already")
        return found

    def context_for(self, owner: Any) -> Context:
        """Return the context for what is made from an object of this face or of the callback API.

        Raises `BadOptionsError` for an object of another face: that face waits in another way.
        """
        if not isinstance(owner, Facing):
            return self.context(owner)
        context = owner._context
        if context.face is not self:
            raise BadOptionsError(
                f"this {type(owner).__name__} has the face {context.face.module}, not {self.module}"
            )
        return context

    def attach(self, context: Context) -> None:
        """Let a context know its face."""
        context.face = self
        context.message = partial(self.wrap, context=context)

    def named(self, name: str) -> type:
        """Return the class of this face with a name. Raises KeyError."""
        found = self._classes.get(name)
        if found is None:  # another thread may do the same: one of the two counts
            found = self._classes.setdefault(name, self._build(name))
        return found

    def public(self, name: str) -> type:
        """Return the class with a name. Raises AttributeError; for ``__getattr__`` of the face's module."""
        if name not in rules.HOMES and name not in BASES:
            raise AttributeError(f"module {self.module!r} has no attribute {name!r}")
        return self.named(name)

    # Building.

    def _build(self, name: str) -> type:
        space: dict[str, Any] = {"__module__": self.module}
        bases: tuple[type, ...]
        if name in BASES:
            bases = (BASES[name],)
        elif name == "JsMsg":
            bases = (MessageFace, rules.original(name))
            space["__slots__"] = ()
        elif name in rules.HOMES:
            bases = (objects.BASES.get(name, Facing),)
            space["_context_for"] = staticmethod(self.context_for)
            names = tuple(inspect.signature(cast(Any, rules.original(name)).__init__).parameters)
            space["_adapt"] = staticmethod(partial(_adapt_new, names[2:]))
        else:
            raise KeyError(name)
        if name in rules.HOMES:
            original = rules.original(name)
            if name != "JsMsg":
                space["_original"] = original
            space["__doc__"] = original.__doc__
            for rule in rules.rules(original):
                if not hasattr(bases[0], rule.name) and not (
                    name in BASES and rule.name in rules.OWN
                ):
                    self._add(space, rule, name)
            for method, target in objects.FACTORIES.get(name, {}).items():
                space[method] = self._factory(f"{name}.{method}", target)
        self._colour(space, bases[0])
        return type(name, bases, space)

    def _factory(self, path: str, target: str) -> Callable[..., Any]:
        """Return the method that constructs an object of a class of this face."""

        def factory(owner: Any, *args: Any, **options: Any) -> Any:
            if target == "JetStream" and not args and unwrap(owner).context is not None:
                options = unwrap(owner).context.jetstream_options(**options)
            return self.named(target)(owner, *args, **options)

        owner, *rest = inspect.signature(
            cast(Any, rules.original(target)).__init__
        ).parameters.values()
        factory.__name__ = path.partition(".")[2]
        factory.__qualname__ = path
        factory.__module__ = self.module
        factory.__doc__ = (
            f"Return a `{target}` of this object, which takes the same arguments after it."
        )
        signature = inspect.Signature([owner, *rest[1:]], return_annotation=target)
        factory.__signature__ = signature  # type: ignore[attr-defined]
        return factory

    def _add(self, space: dict[str, Any], rule: Rule, owner: str) -> None:
        if owner == "JsMsg" and rule.kind is Kind.VALUE:
            return  # its face is a subclass
        if rule.bound is staticmethod:
            space[rule.name] = staticmethod(cast(Any, rule.function))
            return
        made = _MAKERS[rule.kind](self, rule, owner)
        if inspect.isfunction(made):
            made.__name__ = rule.name
            made.__qualname__ = f"{owner}.{rule.name}"
            made.__module__ = self.module
            if rule.function is not None:
                made.__doc__ = rule.function.__doc__
                made.__signature__ = (  # type: ignore[attr-defined]
                    inspect.signature(rule.function)
                    if rule.kind in (Kind.HOOK, Kind.THROUGH)
                    else rules.signature_without_cb(rule.function)
                )
            if inspect.iscoroutinefunction(made):
                made = self._coloured(made)
            if rule.bound is classmethod:
                made = classmethod(_of_class(made, rules.original(owner)))
        space[rule.name] = made

    def _coloured(self, steps: Callable[..., Any]) -> Any:
        """Return a coroutine function as a method of this face."""
        if self.asynchronous:
            return steps

        def blocking(self: Any, *args: Any, **options: Any) -> Any:
            return self._context.run(steps(self, *args, **options))

        for name in ("__name__", "__qualname__", "__module__", "__doc__"):
            setattr(blocking, name, getattr(steps, name))
        blocking.__signature__ = inspect.signature(steps)  # type: ignore[attr-defined]
        return blocking

    def _colour(self, space: dict[str, Any], base: type) -> None:
        """Add the asynchronous methods that a base of this package has."""
        for name, (asynchronous, blocking) in _PROTOCOL.items():
            if hasattr(base, name):
                public = asynchronous if self.asynchronous else blocking
                space[public] = self._coloured(getattr(base, name))
        if issubclass(base, Flow):
            space["__aiter__" if self.asynchronous else "__iter__"] = lambda self: self
            if self.asynchronous:
                space["__await__"] = _itself
            else:
                space["__next__"] = _next_of(base)
        for kind in base.__mro__:
            for name, member in vars(kind).items():
                if inspect.iscoroutinefunction(member) and not name.startswith("_"):
                    space.setdefault(name, self._coloured(member))


class _OfClass:
    """What a method of a class needs in the place of an object."""

    def __init__(self, context: Context, callee: type) -> None:
        self._context = context
        self._callee = callee


def _of_class(method: Callable[..., Any], original: type) -> Callable[..., Any]:
    """Return a class method for one that `build` has made; its first argument is a `JetStream`."""

    @functools.wraps(method)
    def of_class(cls: Any, js: Any, *args: Any, **options: Any) -> Any:
        context = cls._context_for(js)
        return method(_OfClass(context, original), unwrap(js), *args, **options)

    return of_class


def _itself(self: Any) -> Any:
    """Let ``await nc.subscribe(…)``, as programs of other clients have it, be the iterator at once."""
    return self
    yield


def _next_of(base: type) -> Callable[[Any], Any]:
    """Return ``__next__`` for an iterator that blocks."""

    def __next__(self: Any) -> Any:
        if self._items and self._may_go_on():
            return self._take()
        self._buffer.iterated = True
        try:
            return self._context.run(self._next(None))
        except StopAsyncIteration:
            raise StopIteration from None

    return __next__


def _with_cb(
    rule: Rule, cb: Any, args: tuple[Any, ...], options: dict[str, Any]
) -> tuple[Any, ...]:
    """Return the positional arguments of a call with cb in its place, or put it into options."""
    if "cb" in options:
        raise _no_cb(rule)
    if 0 <= rule.position < len(args):
        if callable(args[rule.position]):
            raise _no_cb(rule)
        return (*args[: rule.position], cb, *args[rule.position :])
    options["cb"] = cb
    return args


def _no_cb(rule: Rule) -> TypeError:
    return TypeError(f"{rule.name}() takes no cb: it returns what cb would get")


def _adapted(
    context: Context, rule: Rule, args: tuple[Any, ...], options: dict[str, Any], shift: bool
) -> tuple[Any, ...]:
    """Return the positional arguments of a call with all other callbacks as the face passes them on."""
    changed = list(args)
    for name, place in rule.callables:
        adapt = context.task if rules.is_task(name) else context.plain
        if shift and 0 <= rule.position < place:
            place -= 1  # without cb
        if name in options:
            options[name] = adapt(name, options[name])
        elif 0 <= place < len(changed):
            changed[place] = adapt(name, changed[place])
    return tuple(changed)


def _adapt_new(
    names: tuple[str, ...], context: Context, args: tuple[Any, ...], options: dict[str, Any]
) -> tuple[Any, ...]:
    """Replace the callbacks that a new object is given by those that the face passes on.

    Args:
        names: of the constructor's parameters after the object's owner.
        context: of the client.
        args, options: of the call. The former are returned, the latter are changed.
    """

    def adapted(name: str, value: Any) -> Any:
        if rules.is_task(name):
            return context.task(name, value)
        return context.plain(name, value) if name in rules.PLAIN else value

    for name, value in options.items():
        options[name] = adapted(name, value)
    named = [adapted(name, value) for name, value in zip(names, args, strict=False)]
    return (*named, *args[len(named) :])


def _give_up(context: Context, rule: Rule, handle: Any) -> None:
    """Cancel what a call has begun, after its caller has stopped waiting."""
    if isinstance(handle, int) and rule.kind is Kind.REQUEST:
        context.nats.cancel_request(handle)
    elif hasattr(handle, "cancel"):
        handle.cancel()
    elif hasattr(handle, "stop"):
        handle.stop()


def _answer(face: Face, rule: Rule, owner: str) -> Callable[..., Any]:
    name, kind = rule.name, rule.kind
    convert = face.wrap if (owner, name) in _MESSAGES else None

    async def method(self: Any, *args: Any, **options: Any) -> Any:
        context = self._context
        waiter = context.waiter()

        def answered(*answer: Any) -> None:
            settle(waiter, answer[0] if len(answer) > 1 else None, answer[-1] if answer else None)

        if rule.callables:
            args = _adapted(context, rule, args, options, True)
        if rule.takes_faces:
            args = tuple(map(unwrap, args))
            options = {name: unwrap(value) for name, value in options.items()}
        if convert is not None and options.get("on_msg") is not None:
            on_msg = options["on_msg"]
            options["on_msg"] = lambda msg: on_msg(convert(msg, context))
        args = _with_cb(rule, answered, args, options)
        handle = getattr(self._callee, name)(*args, **options)
        try:
            result = await waiter
        except BaseException:
            if not waiter.done() or waiter.cancelled():
                _give_up(context, rule, handle)
            raise
        if convert is not None:
            if type(result) is list:
                return [convert(each, context) for each in result]
            return convert(result, context)
        return result if kind is Kind.ANSWER else None

    return method


# Methods whose results are messages.
_MESSAGES = {
    ("JetStream", "fetch"), ("JetStream", "next"), ("OrderedFetcher", "fetch"), ("OrderedFetcher", "next"),
}  # fmt: skip


def _request(face: Face, rule: Rule, owner: str) -> Callable[..., Any]:
    # By its parameters, not by *args: this is the hot path of a face.
    name = rule.name
    assert rule.function is not None
    default = inspect.signature(rule.function).parameters["timeout_ms"].default

    async def method(
        self: Any, subject: str, payload: Any, timeout_ms: Any = default, **options: Any
    ) -> Any:
        context = self._context
        waiter = context.waiter()

        def answered(response: bytes | None, error: Any, headers: bytes | None) -> None:
            if waiter.done():
                return
            if error is not None:
                waiter.set_exception(error)
            else:
                waiter.set_result(Msg(context, subject, response or b"", None, headers))

        send = getattr(self._it, name)
        if options:
            _with_cb(rule, answered, (), options)
            number = send(subject, payload, timeout_ms=timeout_ms, **options)
        else:
            number = send(subject, payload, answered, timeout_ms)
        try:
            return await waiter
        except BaseException:
            if not waiter.done() or waiter.cancelled():
                context.nats.cancel_request(number)
            raise

    return method


def _flow(face: Face, rule: Rule, owner: str) -> Callable[..., Any]:
    name = rule.name
    named = rules.FLOWS[owner, name]

    def method(self: Any, *args: Any, **options: Any) -> Any:
        if 0 < len(args) <= rule.position and callable(args[-1]):  # where options could stand
            raise _no_cb(rule)
        context = self._context
        flow = face.named(named)(context)
        if rule.callables:
            args = _adapted(context, rule, args, options, True)
        args = _with_cb(rule, flow._callback(), args, options)
        context.on_loop(_begin, flow, getattr(self._it, name), args, options)
        return flow

    return method


def _begin(flow: Any, method: Callable[..., Any], args: Any, options: Any) -> None:
    flow._begin(method(*args, **options))


def _later(face: Face, rule: Rule, owner: str) -> Callable[..., Any]:
    name = rule.name

    def method(self: Any, *args: Any, **options: Any) -> Any:
        context = self._context
        later: Any = context.waiter() if face.asynchronous else Later(context)
        cb = partial(settle, later) if face.asynchronous else later
        args = _with_cb(rule, cb, args, options)
        context.on_loop(getattr(self._it, name), *args, **options)
        return later

    return method


def _forget(face: Face, rule: Rule, owner: str) -> Callable[..., Any]:
    name = rule.name

    def method(self: Any, *args: Any, **options: Any) -> Any:
        return self._context.on_loop(getattr(self._it, name), *args, **options)

    return method


def _through(face: Face, rule: Rule, owner: str) -> Callable[..., Any]:
    name = rule.name
    faced = rule.returns in rules.HOMES

    def method(self: Any, *args: Any, **options: Any) -> Any:
        context = self._context
        if rule.callables:
            args = _adapted(context, rule, args, options, False)
        if context is None:  # a message that can't be answered
            return getattr(self._callee, name)(*args, **options)
        result = context.on_loop(getattr(self._callee, name), *args, **options)
        return face.wrap(result, context) if faced else result

    return method


def _value(face: Face, rule: Rule, owner: str) -> Any:
    name = rule.name
    return property(lambda self: getattr(self._it, name))


_MAKERS: dict[Kind, Callable[[Face, Rule, str], Any]] = {
    Kind.ANSWER: _answer,
    Kind.DONE: _answer,
    Kind.READY: _answer,
    Kind.REQUEST: _request,
    Kind.FLOW: _flow,
    Kind.LATER: _later,
    Kind.FORGET: _forget,
    Kind.HOOK: _through,
    Kind.THROUGH: _through,
    Kind.VALUE: _value,
}
