"""The faces are complete, and their stubs say what there is."""

from __future__ import annotations

import ast
import importlib
import inspect
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import nats_ev
from lab import face_stubs
from lab.structure import PACKAGE
from nats_ev.faces import rules
from nats_ev.faces.flow import BASES

FACES = ["aio", "green", "blocking"]


def face_module(name: str) -> Any:
    if name == "green":
        pytest.importorskip("gevent")
    return importlib.import_module(f"nats_ev.{name}")


def taking_cb(kind: type) -> list[str]:
    """The public methods of a class that take cb."""
    found = []
    for name in dir(kind):
        member = inspect.getattr_static(kind, name)
        member = getattr(member, "__func__", member)
        if not name.startswith("_") and callable(member) and not inspect.isclass(member):
            try:
                parameters = inspect.signature(member).parameters
            except ValueError:  # of a type in C
                continue
            found += [name] if "cb" in parameters else []
    return found


def test_every_public_class_with_a_method_that_takes_cb_has_a_face() -> None:
    without = {
        name
        for name in nats_ev.__all__
        if inspect.isclass(kind := getattr(nats_ev, name)) and taking_cb(kind)
    } - set(rules.HOMES)
    assert without == set()


@pytest.mark.parametrize("name", FACES)
@pytest.mark.parametrize("kind", sorted(rules.HOMES))
def test_no_method_is_missing_and_each_takes_the_same_but_cb(name: str, kind: str) -> None:
    original, faced = rules.original(kind), getattr(face_module(name), kind)
    for rule in rules.rules(original):
        if kind in BASES and rule.name in rules.OWN:
            continue
        assert hasattr(faced, rule.name), rule.name
        if rule.function is None:
            continue
        member = inspect.getattr_static(faced, rule.name)
        wanted = list(inspect.signature(rule.function).parameters.values())
        if rule.kind not in (rules.Kind.HOOK, rules.Kind.THROUGH):
            wanted = [each for each in wanted if each.name != "cb"]
        has = list(inspect.signature(getattr(member, "__func__", member)).parameters.values())
        assert [(p.name, p.kind, p.default) for p in has] == [
            (p.name, p.kind, p.default) for p in wanted
        ], rule.name


@pytest.mark.parametrize("kind", sorted(rules.HOMES))
def test_a_callable_parameter_is_known_to_the_rules(kind: str) -> None:
    for rule in rules.rules(rules.original(kind)):
        if rule.function is None or rule.kind is rules.Kind.HOOK:
            continue
        for each in inspect.signature(rule.function).parameters.values():
            words = ("Callable", "Hook", "Sentinel")
            if each.name != "cb" and any(word in str(each.annotation) for word in words):
                assert rules.is_task(each.name) or each.name in rules.PLAIN, each


@pytest.mark.parametrize("name", FACES)
def test_coroutine_functions_are_those_that_wait(name: str) -> None:
    module = face_module(name)
    for kind in rules.HOMES:
        for rule in rules.rules(rules.original(kind)):
            waits = rule.kind.name in ("ANSWER", "DONE", "READY", "REQUEST")
            member = inspect.getattr_static(getattr(module, kind), rule.name, None)
            member = inspect.unwrap(getattr(member, "__func__", member) or rule.name.strip)
            if kind not in BASES:
                is_coroutine = inspect.iscoroutinefunction(member)
                assert is_coroutine == (waits and name == "aio"), f"{kind}.{rule.name}"


def test_the_stubs_are_what_the_generator_makes(tmp_path: Path) -> None:
    pytest.importorskip("ruff")
    pytest.importorskip("gevent")
    face_stubs.write(tmp_path)
    for face in FACES:
        made = (tmp_path / f"{face}.pyi").read_text()
        assert made == (PACKAGE / f"{face}.pyi").read_text(), "call `make stubs`"


@pytest.mark.parametrize("name", FACES)
def test_a_stub_has_the_names_of_the_module(name: str) -> None:
    module = face_module(name)
    tree = ast.parse((PACKAGE / f"{name}.pyi").read_text())
    for node in tree.body:
        if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
            kind = getattr(module, node.name)
            for member in node.body:
                if isinstance(member, (ast.FunctionDef, ast.AsyncFunctionDef)):
                    assert hasattr(kind, member.name), f"{node.name}.{member.name}"


WRONG = "# wrong"
PROGRAMS = {
    "aio": """
import asyncio
from nats_ev import NatsError, ServiceRequest, aio
from nats_ev.types import PubAck

async def handle(request: ServiceRequest) -> None:
    request.respond(request.data)

async def on_error(err: NatsError) -> None:
    print(err)

async def main() -> None:
    async with aio.connect("nats://127.0.0.1:4222", on_error=on_error) as nc:
        answer: aio.Msg = await nc.request("svc", b"x", headers={"a": "b"})
        payload: bytes = answer.payload
        async for msg in nc.subscribe("foo.>"):
            msg.respond(payload)
        one: aio.Msg = await nc.subscribe("foo").next(timeout=100)
        js = nc.jetstream(timeout=1000)
        ack = await js.publish("s.1", b"x", msg_id="1")
        sequence: int = ack["seq"]
        later: asyncio.Future[PubAck] = js.publish_async("s.1", b"x")
        async for job in js.consume("S", "c"):
            await job.ack_sync()
            job.nak(100)
        kv = aio.KV(js, "b")
        revision: int = await kv.put("a", b"1")
        async for entry in kv.watch(">"):
            if entry is not None:
                print(entry.key, entry.value)
        nc.service("a", "1.0.0").add_endpoint("e", handle)
        task = asyncio.create_task(nc.flush())
        await task
    nc = await aio.connect()
    await nc.publish("a")  # wrong
""",
    "green": """
from nats_ev import ServiceRequest, green

def handle(request: ServiceRequest) -> None:
    request.respond(request.data)

with green.connect("nats://127.0.0.1:4222") as nc:
    payload: bytes = nc.request("svc", b"x").payload
    for msg in nc.subscribe("foo.>"):
        msg.respond(payload)
    js = nc.jetstream()
    ack = js.publish_async("s.1", b"x").result(timeout=100)
    for job in js.consume("S", "c"):
        job.ack_sync()
    keys: list[str] = js.key_value("b").keys()
    nc.service("a", "1.0.0").add_endpoint("e", handle)
    nc.publish(5)  # wrong
""",
    "blocking": """
from nats_ev import Nats, blocking

with blocking.connect("nats://127.0.0.1:4222", background=True) as nc:
    nats: Nats = nc.nats
    same: blocking.Nats = blocking.wrap(nats)
    with nc.subscribe("foo.>") as sub:
        msg: blocking.Msg = sub.next(timeout=1000)
    store = nc.jetstream().object_store("b")
    names: list[str] = store.list()
    content = store.get("a")
    for info in store.watch():
        print(info["name"] if info else "")
    nc.publish(5)  # wrong
""",
}


@pytest.mark.slow
@pytest.mark.parametrize("name", FACES)
def test_a_typical_program_is_well_typed_and_a_wrong_call_is_found(
    name: str, tmp_path: Path
) -> None:
    pytest.importorskip("mypy", reason="mypy is not installed")
    (tmp_path / "program.py").write_text(PROGRAMS[name])
    command = [sys.executable, "-m", "mypy", "--strict", "--config-file=", "program.py"]
    env = os.environ | {"MYPYPATH": str(PACKAGE.parent)}
    done = subprocess.run(
        command, cwd=tmp_path, env=env, capture_output=True, text=True, timeout=120
    )
    lines = {line.split(":")[1] for line in done.stdout.splitlines() if ": error:" in line}
    wrong = 1 + [line.strip().endswith(WRONG) for line in PROGRAMS[name].splitlines()].index(True)
    assert lines == {str(wrong)}, done.stdout
