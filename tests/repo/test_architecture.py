"""What the code base promises about itself: which module may import what, and what is public."""

from __future__ import annotations

import ast
import importlib
import inspect
import pickle
import re
from pathlib import Path
from types import ModuleType

import pytest

import nats_ev
from lab.structure import PACKAGE, ROOT, Structure, arrows, imports_of, modules, room_of, target_of

MODULES = modules()

# Lower layers first: a room imports from earlier layers, or from its own layer as the next list says.
LAYERS = [
    {
        "_version",
        "_parser",
        "compiled",
        "errors",
        "imports",
        "loops",
        "nuid",
        "redact",
        "status",
        "steps",
        "times",
    },
    {"arguments", "auth", "headers", "instrumentation", "net", "subjects"},
    {"options", "protocol"},
    {"connection", "contexts"},
    {"inquiries"},
    {"client"},
    {"jetstream", "service"},
    {"buckets"},
    {"kv", "object_store"},
    {"accounts", "extras", "system"},
    {"faces"},
    {"aio", "blocking", "green", "types"},
    {""},
    {"cli", "testing"},
    {"__main__"},
]
# Loops: they import nothing of the rest, and the client takes one only when it is given none.
LOOPS = {"pyev", "asyncio_loop", "gevent_loop"}
# Modules that users import, each for one kind of loop, which they and the modules for them in `faces` know.
FACES = {"aio", "blocking", "green"}
# The command line: nothing imports it, and it uses what users may use.
COMMAND = {"__main__", "cli"}
# What users import for annotations; its names are not the package's.
ANNOTATIONS = {"types"}
# What is built on the client for those who import it; the client can be read without knowing these.
ON_TOP = {"accounts", "extras", "system"}

PURE = {
    "arguments",
    "auth",
    "errors",
    "headers",
    "nuid",
    "options",
    "protocol",
    "subjects",
    "times",
}
IMPURE_IMPORTS = {"socket", "ssl", "select", "selectors", "threading", "time", "asyncio"}
# cryptography: what a client signs with, what account tools sign and seal with, certificates of tests.
IMPORTERS = {
    "_parser": {"compiled"},
    "cryptography": {"auth.nkeys", "accounts.crypto", "testing.certificates"},
}
# Who may read the wall clock: what the wire dates.
DATED = {
    "accounts.validation",
    "inquiries.expiry",
    "jetstream.consumer",
    "kv.store",
    "object_store",
    "service",
    "cli",
    "testing.certificates",
}


@pytest.fixture(scope="module")
def structure() -> Structure:
    return Structure()


def foreign_imports(path: Path) -> set[str]:
    """Top-level names of what a module imports from elsewhere."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and not node.level:
            found.add(str(node.module).partition(".")[0])
    return found


def layer(room: str) -> int:
    return next(i for i, rooms in enumerate(LAYERS) if room in rooms)


def test_dependencies_point_one_way(structure: Structure) -> None:
    homeless = set(structure.rooms) - set().union(*LAYERS, LOOPS)
    assert not homeless, f"say in LAYERS where they stand: {homeless}"
    wrong = [
        f"{room} imports {other}"
        for room, others in structure.rooms.items()
        if room not in LOOPS
        for other in others - LOOPS
        if layer(other) > layer(room)
    ]
    assert not wrong


def test_no_circle_between_rooms_or_inside_one(structure: Structure) -> None:
    """An import for types only counts: what one must know to read the other is the same."""
    assert structure.circles == []
    assert structure.inner_circles == {}


def test_the_house_can_be_overlooked(structure: Structure) -> None:
    assert len(set(structure.rooms) - LOOPS - FACES - COMMAND - ANNOTATIONS - ON_TOP) <= 30
    assert max(structure.floors.values()) < 12
    for folder in {path.parent for path in MODULES.values()} - {PACKAGE}:
        crowd = {name: path for name, path in MODULES.items() if path.parent == folder}
        # A file per group of commands, or feature.
        if not {room_of(name) for name in crowd} & {"jetstream", "cli", "extras"}:
            assert len(crowd) <= 13, crowd


def test_loops_know_nothing_of_the_client_and_the_client_needs_none() -> None:
    for name, path in MODULES.items():
        targets = {room_of(target_of(i, MODULES)) for i in imports_of(path)}
        if room_of(name) in LOOPS:
            assert targets <= {room_of(name)}, name
        elif name != "client.nats" and room_of(name) not in FACES | COMMAND | {"faces", "testing"}:
            assert not targets & LOOPS, name


def test_other_packages_are_entered_by_the_front_door() -> None:
    """What a folder's __init__ hands on is what other folders may use of it."""
    wrong = []
    for name, path in MODULES.items():
        for found in imports_of(path):
            target = target_of(found, MODULES)
            loops_own = room_of(name) in FACES and target.startswith("faces.on_")
            if name and room_of(target) != room_of(name) and "." in target and not loops_own:
                wrong.append(f"{name}:{found.line} takes {found.name} from {target}")
            if room_of(target) != room_of(name) and re.match(r"_(?!_|parser|version)", found.name):
                wrong.append(f"{name}:{found.line} takes the private {found.name} from {target}")
    assert not wrong


def test_private_attributes_stay_in_their_package() -> None:
    """An attribute with an underscore that is set nowhere in a package is not touched in it."""
    made: dict[str, set[str]] = {}
    used: dict[str, list[tuple[str, str, int]]] = {}
    for name, path in MODULES.items():
        mine = made.setdefault(room_of(name), set())
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, (ast.FunctionDef, ast.ClassDef)):
                mine.add(node.name)
            elif isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
                mine.add(node.target.id)
            elif isinstance(node, ast.Assign):
                mine |= {
                    str(constant.value)
                    for target in node.targets
                    if isinstance(target, ast.Name) and target.id == "__slots__"
                    for constant in ast.walk(node.value)
                    if isinstance(constant, ast.Constant)
                }
                mine |= {t.id for t in node.targets if isinstance(t, ast.Name)}
            elif isinstance(node, ast.Attribute) and re.match(r"_[a-z]", node.attr):
                if isinstance(node.ctx, ast.Store):
                    mine.add(node.attr)
                elif ast.unparse(node.value) not in ("self", "cls", "super()"):  # inherited hooks
                    used.setdefault(room_of(name), []).append((name, node.attr, node.lineno))
    standard = {"_replace", "_getframe", "_accept"}  # of named tuples, of sys, of C sockets
    wrong = [
        f"{name}:{line} .{attr}"
        for room, uses in used.items()
        for name, attr, line in uses
        if attr not in made[room] | standard
    ]
    assert not wrong


def test_the_clients_time_is_monotonic() -> None:
    """Setting the system's clock changes no deadline: the wall clock is for what the wire dates."""
    wall = re.compile(r"\btime\.time|\bdatetime\.(?:now|today|utcnow)|\bloop\.now\b|\.periodic\(")
    readers = {
        name
        for name, path in MODULES.items()
        if room_of(name) != "pyev" and wall.search(path.read_text())
    }
    assert {name for name in readers if name not in DATED and room_of(name) not in DATED} == set()


def test_pure_layers_know_no_socket_loop_clock_or_thread() -> None:
    for name, path in MODULES.items():
        if room_of(name) in PURE:
            assert not foreign_imports(path) & IMPURE_IMPORTS, name


@pytest.mark.parametrize(("module", "importers"), IMPORTERS.items())
def test_one_importer_each(module: str, importers: set[str]) -> None:
    found = {
        name
        for name, path in MODULES.items()
        if module in foreign_imports(path) | {i.name for i in imports_of(path)}
        or any(target_of(i, MODULES) == module for i in imports_of(path))
    }
    assert found == importers


def test_upper_layers_use_public_methods_of_the_client_only() -> None:
    for name, path in MODULES.items():
        if room_of(name) in ("jetstream", "buckets", "kv", "object_store", "service"):
            found = re.search(r"\b_?(nats|client)\._[a-z]\w*", path.read_text())
            assert not found, f"{name}: {found and found[0]}"


@pytest.mark.parametrize("path", MODULES.values(), ids=MODULES.keys())
def test_modules_and_functions_stay_readable(path: Path) -> None:
    text = path.read_text()
    assert len(text.splitlines()) <= 640, "a file should be one thing"
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.FunctionDef):
            doc = ast.get_docstring(node, clean=False)
            size = (node.end_lineno or 0) - node.lineno - (doc.count("\n") if doc else 0)
            assert size <= 70, f"{node.name} has {size} lines"


def packages() -> dict[str, ModuleType]:
    """The rooms that have a public face."""
    rooms = sorted(
        {room_of(name) for name in MODULES} - LOOPS - FACES - ANNOTATIONS - ON_TOP - {"", "testing"}
    )
    loaded = {room: importlib.import_module(f"nats_ev.{room}") for room in rooms}
    return {room: module for room, module in loaded.items() if hasattr(module, "__all__")}


def test_what_the_packages_call_public_is_what_the_package_offers() -> None:
    offered = [name for module in packages().values() for name in module.__all__]
    assert sorted(offered) == sorted(set(nats_ev.__all__) - {"__version__"})
    assert len(set(nats_ev.__all__)) == len(nats_ev.__all__)
    for room, module in packages().items():
        for name in module.__all__:
            assert getattr(nats_ev, name) is getattr(module, name), f"{room}.{name}"


def test_a_public_class_shows_the_path_that_it_is_imported_from() -> None:
    for name in nats_ev.__all__:
        thing = getattr(nats_ev, name)
        if inspect.isclass(thing) or inspect.isfunction(thing):
            assert thing.__module__ == "nats_ev", name
            assert pickle.loads(pickle.dumps(thing)) is thing, name


@pytest.mark.parametrize("room", sorted(ON_TOP & {room_of(name) for name in MODULES}))
def test_what_is_built_on_top_is_imported_from_its_own_package(room: str) -> None:
    module = importlib.import_module(f"nats_ev.{room}")
    for name in module.__all__:
        thing = getattr(module, name)
        if inspect.isclass(thing) or inspect.isfunction(thing):
            assert thing.__module__ == f"nats_ev.{room}", name
            assert pickle.loads(pickle.dumps(thing)) is thing, name


@pytest.mark.parametrize(
    "path",
    [
        "nats_ev",
        *(f"nats_ev.{name}" for name in ("errors", "headers", "jetstream", "kv", "object_store")),
        *(
            f"nats_ev.{name}"
            for name in (
                "service",
                "pyev",
                "gevent_loop",
                "asyncio_loop",
                "loops",
                "options",
                "types",
            )
        ),
        "nats_ev.testing",
        "nats_ev.testing.loop_conformance",
    ],
)
def test_public_import_paths_stay(path: str) -> None:
    if path.endswith("gevent_loop"):
        pytest.importorskip("gevent")
    assert importlib.import_module(path).__doc__


def test_everything_public_is_documented() -> None:
    silent = []
    for dotted in MODULES:
        module = importlib.import_module(f"nats_ev.{dotted}" if dotted else "nats_ev")
        assert module.__doc__, dotted
        own = ("nats_ev", f"nats_ev.{room_of(dotted)}", module.__name__)
        for name, thing in vars(module).items():
            if name.startswith("_") or getattr(thing, "__module__", None) not in own:
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


def test_the_figures_in_the_docs_are_todays(structure: Structure) -> None:
    """docs/contributing.md shows what `make structure` prints."""
    text = (ROOT / "docs" / "contributing.md").read_text()
    assert structure.text().splitlines()[0] in text


def test_no_swear_words_of_unfinished_work() -> None:
    words = re.compile("TO" + "DO|FIX" + "ME|XX" + "X|NotImplemented" + r"\b")
    for path in [*MODULES.values(), *ROOT.glob("csrc/*.[ch]"), *ROOT.glob("bench/*.py")]:
        assert not words.search(path.read_text()), path


def test_the_version_is_in_one_place() -> None:
    assert re.fullmatch(r"\d+\.\d+\.\d+(\.\w+)?", nats_ev.__version__)
    for path in [*MODULES.values(), ROOT / "pyproject.toml", ROOT / "setup.py"]:
        if path.name != "_version.py":
            assert nats_ev.__version__ not in path.read_text(), path


def test_arrows_see_imports_for_types() -> None:
    """`net` imports `errors`, `kv` imports `jetstream` for types alone in places: both are arrows."""
    assert "errors" in arrows()["net"]
    assert "jetstream" in arrows()["kv"]
    assert PACKAGE.is_dir()
