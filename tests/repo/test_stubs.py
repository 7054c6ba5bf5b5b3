"""The stubs of the compiled modules say what the C declarations say, and so mypy checks every call."""

from __future__ import annotations

import ast
from pathlib import Path
from typing import Any

import pytest
from cffi import FFI

ROOT = next(p for p in Path(__file__).resolve().parents if (p / "pyproject.toml").exists())
MODULES = {
    "csrc/cdef.h": "nats_ev/_parser.pyi",
    "csrc/libev_cdef.h": "nats_ev/pyev/_libev.pyi",
}
# What cffi calls a C type → what a stub calls it. Other numbers are int.
TYPES = {
    "void": "None", "double": "float", "void *": "CData", "char *": "CharPointer",
    "int32_t *": "Int32Pointer", "uint64_t *": "Uint64Pointer", "size_t *": "SizePointer",
    "nats_parser *": "Parser", "nats_wbuf *": "Wbuf", "nats_wbuf_limits *": "Limits",
    "nats_wbuf_counts *": "Counts", "struct ev_loop *": "EvLoop", "nats_ev_loop *": "Loop",
    "nats_ev_watcher *": "Watcher", "ev_timer *": "EvTimer", "ev_periodic *": "EvPeriodic",
    "ev_child *": "EvChild",
}  # fmt: skip


def stub_type(ctype: Any) -> str:
    """The name that a stub has for a C type of cffi's model."""
    name = ctype.get_c_name().replace("const ", "").replace(" const", "").strip()
    if name in TYPES:
        return TYPES[name]
    assert "*" not in name, name
    return "int"


class Declared:
    """What a cdef declares: constants, functions with their types, and fields of structs."""

    def __init__(self, path: Path) -> None:
        ffi = FFI()
        ffi.cdef(path.read_text())
        self.constants: set[str] = set()
        self.functions: dict[str, tuple[list[str], str]] = {}
        self.fields: dict[str, set[str]] = {}
        for key, (kind, _) in ffi._parser._declarations.items():
            what, name = key.split(" ", 1)
            if what == "macro":
                self.constants.add(name)
            elif hasattr(kind, "enumerators"):
                self.constants |= set(kind.enumerators)
            elif what == "function":
                self.functions[name] = [*map(stub_type, kind.args)], stub_type(kind.result)
            elif what == "typedef" and getattr(kind, "fldnames", None):
                self.fields[TYPES[f"{name} *"]] = set(kind.fldnames)


class Stub:
    """What a stub declares, in the same shape."""

    def __init__(self, path: Path) -> None:
        self.constants: set[str] = set()
        self.functions: dict[str, tuple[list[str], str]] = {}
        self.fields: dict[str, set[str]] = {}
        for node in ast.parse(path.read_text()).body:
            if not isinstance(node, ast.ClassDef):
                continue
            names = {n.target.id for n in node.body if isinstance(n, ast.AnnAssign)}  # type: ignore[union-attr]
            if node.name == "Lib":
                self.constants = names
                for method in node.body:
                    if isinstance(method, ast.FunctionDef):
                        args = method.args.posonlyargs[1:] or method.args.args[1:]
                        types = [ast.unparse(a.annotation) for a in args if a.annotation]
                        types = ["CData" if t == "Bytes" else t for t in types]
                        assert method.returns is not None
                        self.functions[method.name] = types, ast.unparse(method.returns)
            elif names and any(ast.unparse(base) == "CData" for base in node.bases):
                self.fields[node.name] = names


@pytest.mark.parametrize(("cdef", "stub"), MODULES.items())
def test_the_stub_has_every_constant_function_and_field_of_the_cdef(cdef: str, stub: str) -> None:
    declared, stated = Declared(ROOT / cdef), Stub(ROOT / stub)
    assert stated.constants == declared.constants
    assert set(stated.functions) == set(declared.functions)
    assert stated.fields == declared.fields


@pytest.mark.parametrize(("cdef", "stub"), MODULES.items())
def test_the_stub_has_the_arguments_and_results_of_the_cdef(cdef: str, stub: str) -> None:
    declared, stated = Declared(ROOT / cdef), Stub(ROOT / stub)
    for name, signature in declared.functions.items():
        assert stated.functions[name] == signature, name


@pytest.mark.parametrize("module", ["nats_ev._parser", "nats_ev.pyev._libev"])
def test_the_compiled_module_has_what_its_stub_declares(module: str) -> None:
    compiled = __import__(module, fromlist=["lib"])
    stated = Stub(ROOT / (module.replace(".", "/") + ".pyi"))
    for name in [*stated.constants, *stated.functions]:
        assert hasattr(compiled.lib, name), name
