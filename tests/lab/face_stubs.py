"""Write the stubs of the faces, nats_ev/aio.pyi and its like, from the signatures of the callback API.

`make stubs` runs this. A test compares the files with what this makes.
"""

from __future__ import annotations

import ast
import importlib
import inspect
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from lab.structure import PACKAGE, ROOT, modules
from nats_ev.arguments import Omitted
from nats_ev.faces import ConnectOptions, rules
from nats_ev.faces.flow import BASES
from nats_ev.faces.objects import FACTORIES
from nats_ev.options import Options

FACES = ("aio", "green", "blocking")
HEAD = '''"""Types of `nats_ev.{name}`, made by `make stubs`. Do not edit."""

'''
# Results that may be None without an error.
_OR_NONE = {
    "Election.leader", "KV.get", "KV.entry", "Lock.try_acquire", "ObjectStore.info", "Semaphore.try_acquire",
}  # fmt: skip
_RESULT = "ResultCallback["
ITEMS = {
    "Subscription": "Msg",
    "Answers": "Msg",
    "Advisories": "Advisory",
    "Consume": "JsMsg",
    "OrderedConsumer": "JsMsg",
    "PushSubscription": "JsMsg",
    "KvWatch": "KvEntry | None",
    "KvKeys": "str",
    "ObjectWatch": "ObjectInfo | None",
    "Leaders": "Contender | None",
    "SystemEvents": "SystemEvent",
    "GroupMember": "JsMsg",
    "LargeSubscription": "LargeMsg",
}
# Attributes that the constructors set.
ATTRIBUTES = {
    "Nats": {"context": "SavedContext | None"},
    "JetStream": {
        "nats": "_Nats", "prefix": "str", "domain": "str | None", "event_prefix": "str",
    },
    "KV": {"bucket": "str", "stream": "str", "js": "JetStream"},
    "ObjectStore": {"bucket": "str", "stream": "str", "js": "JetStream", "chunk_size": "int"},
    "AtomicBatch": {"size": "int", "closed": "bool"},
    "FastBatch": {"size": "int", "closed": "bool", "sent": "int", "acked": "int"},
    "OrderedFetcher": {"stream": "str"},
    "Service": {
        "name": "str", "version": "str", "description": "str", "metadata": "dict[str, str]", "id": "str",
        "stopping": "bool", "stopped": "bool", "endpoints": "list[Endpoint]",
    },
    "AccountResolver": {"nats": "_Nats"},
    "AuthCallout": {"nats": "_Nats", "service": "Service", "issuer_account": "str"},
    "ConsumerGroups": {"js": "JetStream"},
    "GroupMember": {"stream": "str", "group": "str", "member": "str", "name": "str"},
    "LargeMessages": {"nats": "_Nats"},
    "LargeSubscription": {"sid": "int", "subject": "str"},
    "Consume": {"stream": "str"},
    "OrderedConsumer": {"stream": "str"},
    "PushSubscription": {"stream": "str"},
    "Semaphore": {"permits": "int"},
    "Election": {"id": "str", "value": "str"},
    "Counters": {"stream": "str", "js": "JetStream"},
    "Schedules": {"stream": "str", "js": "JetStream"},
    "WorkQueue": {
        "name": "str", "js": "JetStream", "subjects": "list[str]", "attempts": "int",
    },
    "Worker": {
        "js": "JetStream", "stream": "str", "done": "int", "failed": "int", "dead": "int",
    },
    "Subscription": {"sid": "int", "subject": "str"},
    "Advisories": {"sid": "int", "subject": "str"},
    "SystemEvents": {"sid": "int", "subject": "str"},
    "SystemClient": {"nats": "_Nats"},
    "ServiceClient": {"nats": "_Nats"},
    "Backup": {"js": "JetStream"},
}  # fmt: skip
# Classes that users construct with an object of this face or of the callback API.
CONSTRUCTED = {
    *("JetStream", "KV", "ObjectStore", "Service", "AccountResolver", "AuthCallout"),
    *("Backup", "ConsumerGroups", "Counters", "Election", "LargeMessages", "Lock", "Schedules"),
    *("Semaphore", "ServiceClient", "SystemClient", "WorkQueue"),
}
_CALLBACKS = {"Callback", "MsgCallback", "WatchCallback"}
# What the result depends on: a parameter, and for each way in which it is given the result.
_ON_MSG = (
    ", *, on_msg: Callable[[JsMsg], object] | None = None",
    {"": "list[JsMsg]", ", *, on_msg: Callable[[JsMsg], object]": "int"},
)
_OVERLOADS: dict[tuple[str, str], tuple[str, dict[str, str]]] = {
    ("JetStream", "fetch"): _ON_MSG,
    ("OrderedFetcher", "fetch"): _ON_MSG,
    ("ObjectStore", "get"): (
        "into: Into = None",
        {"into: None = None": "bytes | None", "into: Destination": "ObjectInfo | None"},
    ),
}
# What the type variables of the bases are.
_BUCKETS = {
    "KV": {"ConfigT": "KeyValueConfig", "StatusT": "KeyValueStatus"},
    "ObjectStore": {"ConfigT": "ObjectStoreConfig", "StatusT": "ObjectStoreStatus"},
}
_ELSEWHERE = {
    "Any": "typing",
    "BinaryIO": "typing",
    "TypeVar": "typing",
    "overload": "typing",
    "Callable": "collections.abc",
    "Coroutine": "collections.abc",
    "Generator": "collections.abc",
    "Iterable": "collections.abc",
    "Mapping": "collections.abc",
    "Sequence": "collections.abc",
    "Future": "asyncio",
    "datetime": "datetime",
    "timedelta": "datetime",
    "ZoneInfo": "zoneinfo",
    "SSLContext": "ssl",
    "Self": "typing_extensions",
    "Unpack": "typing_extensions",
}
_KNOWN = {
    "None",
    "bool",
    "bytearray",
    "bytes",
    "dict",
    "float",
    "int",
    "list",
    "memoryview",
    "object",
    "str",
    "tuple",
    "type",
    "T",
}


def result_of(owner: str, name: str, annotation: str) -> str:
    """Return the type of what a method's cb gets, by its annotation."""
    found = next((each for each in _members(_parsed(annotation)) if each.startswith(_RESULT)), None)
    if found is None:
        assert annotation.startswith(("Completion", "Callable[[]")), f"{owner}.{name}: {annotation}"
        return "None"
    result = found.removeprefix(_RESULT).removesuffix("]")
    return f"{result} | None" if f"{owner}.{name}" in _OR_NONE else result


def definitions() -> dict[str, list[str]]:
    """Return the modules that define a name at their top level."""
    found: dict[str, list[str]] = {}
    for module, path in modules().items():
        for node in ast.parse(path.read_text()).body:
            names = []
            if isinstance(node, (ast.ClassDef, ast.FunctionDef)):
                names = [node.name]
            elif isinstance(node, ast.Assign):
                names = [target.id for target in node.targets if isinstance(target, ast.Name)]
            for name in names:
                found.setdefault(name, []).append(module)
    return found


class Stub:
    """The text of one face's stub, class by class."""

    def __init__(self, face: str) -> None:
        self.face = face
        self.asynchronous = face == "aio"
        self.module = importlib.import_module(f"nats_ev.{face}")
        self.imports: set[tuple[str, str]] = set()
        self._defined = definitions()
        self._owner = ""  # the class at work
        self._own = {*rules.HOMES, *BASES, "Msg", "Later"} - {"Later" if self.asynchronous else ""}

    def text(self) -> str:
        """Return the whole stub."""
        parts = [self._class(name) for name in sorted({*rules.HOMES, *BASES})]
        self._owner = ""
        functions = self._functions()
        imports = self._import_lines()
        return "\n".join(
            [HEAD.format(name=self.face) + imports, 'T = TypeVar("T")', "", *parts, functions]
        )

    # Types.

    def type_of(self, annotation: str, module: str = "") -> str:
        """Return an annotation without callbacks, and note what it needs."""
        kept = [each for each in _members(_parsed(annotation)) if not _is_callback(each)]
        text = " | ".join(kept)
        text = text.replace("errors.NatsError", "NatsError")
        for variable, kind in _BUCKETS.get(self._owner, {}).items():
            text = text.replace(variable, kind)
        for node in ast.walk(ast.parse(text, mode="eval")):
            if isinstance(node, ast.Name):
                self._need(node.id, module)
        return text

    def _need(self, name: str, module: str) -> None:
        if (
            name in _KNOWN
            or name in self._own
            or (name in self.module.__dict__ and name == "Later")
        ):
            return
        if name == "os":
            self.imports.add(("", "os"))
        elif name == "SavedContext":
            self.imports.add((".contexts", "Context as SavedContext"))
        elif name in _ELSEWHERE:
            self.imports.add((_ELSEWHERE[name], name))
        elif name.startswith("_"):
            self.imports.add((f".{rules.HOMES[name[1:]]}", f"{name[1:]} as {name}"))
        else:
            homes = self._defined[name]
            home = module if module in homes else homes[0]
            self.imports.add((f".{home}", name))

    def _import_lines(self) -> str:
        self.imports |= {("typing", "TypeVar"), ("typing", "overload"), ("typing", "Any")}
        self.imports |= {("collections.abc", "Sequence"), (".faces", "Msg as Msg")}
        self.imports.add((".faces", "unwrap as unwrap"))
        by_module: dict[str, set[str]] = {}
        for module, name in self.imports:
            by_module.setdefault(module, set()).add(name)
        lines = [f"import {name}" for name in sorted(by_module.pop("", set()))]
        for module in sorted(by_module, key=lambda name: (name.startswith("."), name)):
            lines.append(f"from {module} import {', '.join(sorted(by_module[module]))}")
        return "\n".join(lines) + "\n"

    # Classes.

    def _class(self, name: str) -> str:
        kind = getattr(self.module, name)
        self._owner = name
        if name == "JsMsg":
            self._need("_JsMsg", "")
            lines = ["class JsMsg(_JsMsg):"]
        else:
            lines = [f"class {name}:"]
            for attribute, annotation in ATTRIBUTES.get(name, {}).items():
                lines.append(f"    {attribute}: {self.type_of(annotation)}")
        if name in rules.HOMES and name not in BASES and name != "JsMsg":
            lines += self._constructor(name)
        for member in self._members(kind, name):
            lines += self._member(kind, name, member)
        text = "\n".join([*lines, ""])
        if name == "ObjectStore":  # whose method of this name hides the type
            self.imports.add(("", "builtins"))
            text = re.sub(r"\blist\[", "builtins.list[", text)
        return text

    def _members(self, kind: type, name: str) -> Iterator[str]:
        special = {"__await__", "__aenter__", "__aexit__", "__anext__", "__aiter__"}
        special |= {"__enter__", "__exit__", "__next__", "__iter__"}
        for member in dir(kind):
            if member.startswith("_") and member not in special:
                continue
            if name == "JsMsg" and member not in ("ack_sync", "double_ack"):
                continue
            if member in ATTRIBUTES.get(name, {}) or member == "mro":
                continue
            yield member

    def _constructor(self, name: str) -> list[str]:
        original = rules.original(name)
        if name in CONSTRUCTED:
            function = original.__init__
            parameters = list(inspect.signature(function).parameters.values())
            owner = parameters[1]
            text = self._parameters([parameters[0], owner, *parameters[2:]], _module(function))
            # Both APIs' objects will do.
            text = text.replace(
                f"{owner.name}: {owner.annotation}", f"{owner.name}: {self._either(owner)}"
            )
            return [f"    def __init__({text}) -> None: ..."]
        return []

    def _either(self, owner: inspect.Parameter) -> str:
        self._need(f"_{owner.annotation}", "")
        return f"{owner.annotation} | _{owner.annotation}"

    def _member(self, kind: type, owner: str, name: str) -> list[str]:
        member = inspect.getattr_static(kind, name)
        if isinstance(member, property):
            return self._property(owner, name, member)
        wrapper = ""
        if isinstance(member, (staticmethod, classmethod)):
            wrapper = type(member).__name__
            member = member.__func__
        if name.startswith("__"):
            return self._special(kind, owner, name)
        asynchronous = inspect.iscoroutinefunction(inspect.unwrap(member))
        signature = inspect.signature(member)
        module = self._module_of(owner, name, member)
        parameters = list(signature.parameters.values())
        if wrapper == "classmethod" and parameters[0].name != "cls":
            parameters.insert(0, inspect.Parameter("cls", inspect.Parameter.POSITIONAL_ONLY))
        text = self._parameters(parameters, module)
        lines = [f"    @{wrapper}"] if wrapper else []
        returns = self._returns(owner, name, signature, module)
        if len(parameters) == 2 and isinstance(parameters[1].default, Omitted):
            return self._accessor(name, text, returns)
        word = "async def" if asynchronous else "def"
        if (owner, name) in _OVERLOADS:
            written, signatures = _OVERLOADS[owner, name]
            assert written in text, f"{owner}.{name}"
            for instead, result in signatures.items():
                self.type_of(
                    f"{result} | {instead.rpartition(': ')[2].partition(' =')[0] or 'None'}"
                )
                changed = text.replace(written, instead)
                lines += ["    @overload", f"    {word} {name}({changed}) -> {result}: ..."]
            return lines
        override = "  # type: ignore[override]" if owner == "JsMsg" else ""
        return [*lines, f"    {word} {name}({text}) -> {returns}: ...{override}"]

    def _accessor(self, name: str, text: str, returns: str) -> list[str]:
        """Return a method that reads without its argument and sets with it."""
        return [
            "    @overload",
            f"    def {name}(self) -> {returns}: ...",
            "    @overload",
            f"    def {name}({text.removesuffix(' = ...')}) -> {returns}: ...",
        ]

    def _module_of(self, owner: str, name: str, member: Any) -> str:
        if owner in rules.HOMES and hasattr(rules.original(owner), name):
            found = inspect.getattr_static(rules.original(owner), name)
            return _module(inspect.unwrap(getattr(found, "__func__", found)))
        return _module(member)

    def _returns(self, owner: str, name: str, signature: inspect.Signature, module: str) -> str:
        if owner in ITEMS and name == "next":
            return self.type_of(ITEMS[owner])
        if name in FACTORIES.get(owner, {}):
            return FACTORIES[owner][name]
        if (owner, name) in rules.FLOWS:
            return rules.FLOWS[owner, name]
        original = rules.original(owner) if owner in rules.HOMES else None
        if original is not None and hasattr(original, name):
            rule = rules.rule(original, name)
            answer = ""
            if (owner, name) in _OVERLOADS:
                return answer
            if rule.kind.name in ("ANSWER", "DONE", "READY", "LATER") and rule.function:
                cb = inspect.signature(rule.function).parameters["cb"]
                answer = result_of(owner, name, str(cb.annotation))
            if rule.kind is rules.Kind.REQUEST:
                return "Msg"
            if rule.kind.name in ("ANSWER", "DONE", "READY"):
                return "None" if owner in ITEMS else self.type_of(answer, module)  # drain
            if rule.kind is rules.Kind.LATER:
                result = self.type_of(answer, module)
                if self.asynchronous:
                    return self.type_of(f"Future[{result}]")
                self.imports.add((".faces", "Later"))
                return "Later"
        return self.type_of(str(signature.return_annotation), module)

    def _property(self, owner: str, name: str, member: property) -> list[str]:
        getter = member.fget
        if owner in rules.HOMES:
            found = inspect.getattr_static(rules.original(owner), name, member)
            getter = getattr(found, "fget", getter)
        assert getter is not None
        annotation = str(getter.__annotations__.get("return", "Any"))
        if owner == "Nats" and name == "nats":
            annotation = "_Nats"
        return [
            "    @property",
            f"    def {name}(self) -> {self.type_of(annotation, _module(getter))}: ...",
        ]

    def _special(self, kind: type, owner: str, name: str) -> list[str]:
        word = "async def" if self.asynchronous and name != "__aiter__" else "def"
        if name in ("__aiter__", "__iter__", "__aenter__", "__enter__"):
            return [f"    {word} {name}(self) -> {self.type_of('Self')}: ..."]
        if name == "__await__":
            return [f"    def __await__(self) -> {self.type_of('Generator[Any, Any, Self]')}: ..."]
        if name in ("__anext__", "__next__"):
            return [f"    {word} {name}(self) -> {self.type_of(ITEMS[owner])}: ..."]
        return [f"    {word} {name}(self, *exc_info: object) -> None: ..."]

    def _parameters(self, parameters: list[inspect.Parameter], module: str) -> str:
        texts = []
        keyword = False
        for each in parameters:
            if each.kind is each.KEYWORD_ONLY and not keyword:
                texts.append("*")
            keyword = keyword or each.kind in (each.KEYWORD_ONLY, each.VAR_POSITIONAL)
            star = {each.VAR_POSITIONAL: "*", each.VAR_KEYWORD: "**"}.get(each.kind, "")
            text = star + each.name
            if each.annotation is not each.empty:
                text += f": {self._parameter_type(str(each.annotation), module)}"
            if each.default is not each.empty:
                text += f" = {_default(each.default)}"
            texts.append(text)
        return (
            ", ".join(texts).replace("owner", "self", 1)
            if texts[:1] == ["owner"]
            else ", ".join(texts)
        )

    def _parameter_type(self, annotation: str, module: str) -> str:
        # These get the object of the callback API.
        annotation = re.sub(r"\[\[(Service|AuthCallout)\b", r"[[_\1", annotation)
        return self.type_of(annotation, module)

    # Functions.

    def _functions(self) -> str:
        lines = []
        loop = ", loop: Any = None" if self.face == "blocking" else ""
        for name in ("Nats", "JetStream", "KV", "ObjectStore", "Service"):
            self._need(f"_{name}", "")
            lines += ["@overload", f"def wrap(thing: _{name}{loop}) -> {name}: ..."]
        servers = "servers: str | Sequence[str] | None = None"
        keywords = ", ".join(self._options())
        if self.asynchronous:
            for name in ("Coroutine", "Generator"):
                self._need(name, "")
            lines += [
                "class _Connecting(Coroutine[Any, Any, Nats]):",
                "    def __await__(self) -> Generator[Any, Any, Nats]: ...",
                "    def send(self, value: Any) -> Any: ...",
                "    def throw(self, *error: Any) -> Any: ...",
                "    def close(self) -> None: ...",
                "    async def __aenter__(self) -> Nats: ...",
                "    async def __aexit__(self, *exc_info: object) -> None: ...",
                f"def connect({servers}, *, {keywords}) -> _Connecting: ...",
            ]
        else:
            background = "background: bool = False, " if self.face == "blocking" else ""
            lines.append(f"def connect({servers}, *, {background}{keywords}) -> Nats: ...")
        return "\n".join([*lines, ""])

    def _options(self) -> Iterator[str]:
        """Yield the options of connect() as keywords, for editors that do not know Unpack."""
        for name, hint in ConnectOptions.__annotations__.items():
            kind = self.type_of(hint.__forward_arg__, "options")
            yield f"{name}: {kind} = {_default(getattr(Options, name, None))}"


def _parsed(annotation: str) -> ast.expr:
    return ast.parse(annotation, mode="eval").body


def _is_callback(annotation: str) -> bool:
    return annotation in _CALLBACKS or annotation.startswith(_RESULT)


def _members(tree: ast.expr) -> list[str]:
    """Return the members of a union, as text."""
    if isinstance(tree, ast.BinOp) and isinstance(tree.op, ast.BitOr):
        return [*_members(tree.left), *_members(tree.right)]
    return [ast.unparse(tree)]


def _module(function: Any) -> str:
    return str(function.__module__).removeprefix("nats_ev.")


def _default(value: object) -> str:
    return repr(value) if isinstance(value, (int, float, str, bytes, type(None))) else "..."


def write(folder: Path) -> None:
    """Write all stubs into a folder, in the project's style."""
    paths = [folder / f"{face}.pyi" for face in FACES]
    for face, path in zip(FACES, paths, strict=True):
        path.write_text(Stub(face).text())
    ruff = [sys.executable, "-m", "ruff"]
    config = ["--config", str(ROOT / "pyproject.toml"), "--quiet", "--no-cache"]
    for command in (["check", "--fix", "--select", "I,F401"], ["format"]):
        subprocess.run([*ruff, *command, *config, *paths], check=True)


if __name__ == "__main__":
    write(PACKAGE)
