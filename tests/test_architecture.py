"""What the code base promises about itself: which module may import what, and what is public."""

from __future__ import annotations

import ast
import importlib
import inspect
import re
from pathlib import Path

import pytest

import nats_ev

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = ROOT / "nats_ev"
MODULES = sorted(PACKAGE.rglob("*.py"))

# Lower layers first: a module imports from its own or an earlier layer. Names are relative to the package.
LAYERS = [
    {"_version", "_parser", "_discreet"},
    {"errors", "headers", "subjects", "nuid", "options", "auth", "_wire", "subscription"},
    {"protocol", "_fork", "_deadlines", "_turn", "_servers", "_transport", "_tls"},
    {"_dial", "_attempts", "_limits", "_link", "_pings", "_connection"},
    {"_requests", "_subscriptions", "_drain", "_core", "_accessors", "client"},
    {"jetstream"},
    {"_buckets", "_bucket_stream", "_watch", "kv_codecs"},
    {
        "_kv_bucket",
        "_kv_watch",
        "_object_bucket",
        "_object_meta",
        "_object_get",
        "_object_put",
        "_object_watch",
    },
    {"kv", "object_store"},
]
BESIDE = {
    "gevent_loop",
    "pyev",
    "service",
    "__init__",
}  # pyev imports nothing of the rest; service only the client
PURE = {
    "errors",
    "headers",
    "subjects",
    "nuid",
    "options",
    "auth",
    "_wire",
    "protocol",
    "subscription",
}
IMPURE_IMPORTS = {"socket", "ssl", "select", "selectors", "threading", "time", "asyncio"}
IMPORTERS = {"_parser": {"_wire"}, "cryptography": {"auth"}}


def imports_of(path: Path) -> set[str]:
    """Absolute names of what a module imports; those of this package begin with a dot."""
    found: set[str] = set()
    depth = len(path.relative_to(PACKAGE).parts)
    tree = ast.parse(path.read_text())
    for node in ast.walk(tree):
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
            node.body = []  # a type's name is no dependency
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            if node.level and node.level >= depth:
                names = [node.module] if node.module else [alias.name for alias in node.names]
                found |= {f".{name}" for name in names}
            elif not node.level:
                found.add(str(node.module).replace("nats_ev.", "."))
    return found


def noun(path: Path) -> str:
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def layer(name: str) -> int | None:
    return next((i for i, names in enumerate(LAYERS) if name in names), None)


@pytest.mark.parametrize("path", MODULES, ids=lambda p: str(p.relative_to(PACKAGE)))
def test_dependencies_point_one_way(path: Path) -> None:
    mine = layer(noun(path))
    if mine is None:
        return
    for name in imports_of(path):
        if name.startswith("."):
            theirs = layer(name[1:].partition(".")[0])
            if theirs is not None:
                assert theirs <= mine, f"{path.name} imports {name}, which is above it"


def test_every_module_has_a_layer() -> None:
    homeless = {noun(path) for path in MODULES} - set().union(*LAYERS, BESIDE)
    assert not homeless, f"say in LAYERS where they belong: {homeless}"


def test_the_clients_time_is_monotonic() -> None:
    """Whoever sets the system's clock changes no deadline: the wall clock is for what the wire dates."""
    datings = {"jetstream/consumer.py", "kv.py", "object_store.py", "service.py"}
    wall = re.compile(r"\btime\.time|\bdatetime\.(?:now|today|utcnow)|\bloop\.now\b|\.periodic\(")
    readers = {
        path.relative_to(PACKAGE).as_posix()
        for path in MODULES
        if path.parent.name != "pyev" and wall.search(path.read_text())
    }
    assert readers <= datings


@pytest.mark.parametrize("name", sorted(PURE))
def test_pure_modules_know_no_socket_loop_clock_or_thread(name: str) -> None:
    imported = {i.partition(".")[0] for i in imports_of(PACKAGE / f"{name}.py")}
    assert not imported & IMPURE_IMPORTS


@pytest.mark.parametrize(("module", "importers"), IMPORTERS.items())
def test_one_importer_each(module: str, importers: set[str]) -> None:
    found = {
        noun(path)
        for path in MODULES
        if any(i.lstrip(".").partition(".")[0] == module for i in imports_of(path))
    }
    assert found == importers


def test_importing_the_client_loads_no_event_loop() -> None:
    """A program with a loop of its own needs none of ours."""
    for path in MODULES:
        if noun(path) not in ("pyev", "client", "__init__"):
            assert not any(i.startswith(".pyev") for i in imports_of(path)), path


def test_upper_layers_use_public_methods_only() -> None:
    for path in MODULES:
        if noun(path) in ("jetstream", "kv", "object_store", "service"):
            found = re.search(r"\b_?(nats|client)\._[a-z]\w*", path.read_text())
            assert not found, f"{path}: {found and found[0]}"


@pytest.mark.parametrize("path", MODULES, ids=lambda p: str(p.relative_to(PACKAGE)))
def test_modules_and_functions_stay_readable(path: Path) -> None:
    text = path.read_text()
    assert len(text.splitlines()) <= 730, "a file should be one thing"
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.FunctionDef):
            doc = ast.get_docstring(node, clean=False)
            size = (node.end_lineno or 0) - node.lineno - (doc.count("\n") if doc else 0)
            assert size <= 75, f"{node.name} has {size} lines"


def test_all_is_what_there_is_and_sorted_for_the_reader() -> None:
    assert len(set(nats_ev.__all__)) == len(nats_ev.__all__)
    for name in nats_ev.__all__:
        assert hasattr(nats_ev, name), name


def test_everything_public_is_documented() -> None:
    silent = []
    for path in MODULES:
        parts = path.relative_to(ROOT).with_suffix("").parts
        module = importlib.import_module(".".join(p for p in parts if p != "__init__"))
        assert module.__doc__, path
        for name, thing in vars(module).items():
            if name.startswith("_") or getattr(thing, "__module__", None) != module.__name__:
                continue
            if inspect.isfunction(thing) and not thing.__doc__:
                silent.append(f"{module.__name__}.{name}")
            if inspect.isclass(thing):
                silent += [] if thing.__doc__ else [f"{module.__name__}.{name}"]
                silent += [
                    f"{module.__name__}.{name}.{member}"
                    for member, value in vars(thing).items()
                    if inspect.isfunction(value)
                    and not member.startswith("_")
                    and not value.__doc__
                ]
    assert not silent


def test_no_swear_words_of_unfinished_work() -> None:
    words = re.compile("TO" + "DO|FIX" + "ME|XX" + "X|NotImplemented" + r"\b")
    for path in [*MODULES, *ROOT.glob("csrc/*.[ch]"), *ROOT.glob("bench/*.py")]:
        assert not words.search(path.read_text()), path


def test_the_version_is_in_one_place() -> None:
    assert re.fullmatch(r"\d+\.\d+\.\d+(\.\w+)?", nats_ev.__version__)
    for path in [*MODULES, ROOT / "pyproject.toml", ROOT / "setup.py"]:
        if path.name != "_version.py":
            assert nats_ev.__version__ not in path.read_text(), path
