"""Measure the structure of nats_ev/: rooms, floors, arrows, circles and the longest files.

A room is a folder or a top-level module, an arrow an import from one room to another, those for types
included. A room's floor is the longest way down: 0 for a room that imports no other. `make structure`
prints the figures, `test_architecture.py` bounds them.
"""

from __future__ import annotations

import ast
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent
PACKAGE = ROOT / "nats_ev"


@dataclass(frozen=True)
class Import:
    """One name that a module imports from the package."""

    module: str  # dotted, without the package's name; "" for nats_ev itself
    name: str
    line: int


def modules() -> dict[str, Path]:
    """Return all modules of the package by dotted name; a folder's is that of its __init__."""
    found = {}
    for path in sorted(PACKAGE.rglob("*.py")):
        parts = list(path.relative_to(PACKAGE).with_suffix("").parts)
        if parts[-1] == "__init__":
            parts.pop()
        found[".".join(parts)] = path
    return found


def imports_of(path: Path) -> Iterator[Import]:
    """Yield what a module imports from the package, wherever the statement stands and whatever it is for."""
    folder = path.relative_to(PACKAGE).parts[:-1]
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            for alias in node.names:
                if alias.name.split(".")[0] == "nats_ev":
                    yield Import(alias.name.partition(".")[2], "", node.lineno)
        elif isinstance(node, ast.ImportFrom):
            base = (node.module or "").split(".") if node.module else []
            if node.level:
                base = [*folder[: len(folder) - node.level + 1], *base]
            elif base and base[0] == "nats_ev":
                base = base[1:]
            else:
                continue
            for alias in node.names:
                yield Import(".".join(base), alias.name, node.lineno)


def target_of(found: Import, known: Iterable[str]) -> str:
    """Return the dotted name of the module that an import statement takes its name from."""
    whole = f"{found.module}.{found.name}" if found.module else found.name
    return whole if whole in known else found.module


def room_of(module: str) -> str:
    """Return the room of a module: its folder, or the module itself."""
    return module.partition(".")[0]


Graph = dict[str, set[str]]


def arrows(pick: Callable[[str], str] = room_of, within: str | None = None) -> Graph:
    """Return who imports whom: between rooms, or with another pick between modules."""
    known = modules()
    graph: Graph = {}
    for module, path in known.items():
        if within is not None and room_of(module) != within:
            continue
        here = pick(module)
        graph.setdefault(here, set())
        for found in imports_of(path):
            target = target_of(found, known)
            if within is not None and room_of(target) != within:
                continue
            if pick(target) != here:
                graph[here].add(pick(target))
    return graph


def circles(graph: Graph) -> list[list[str]]:
    """Return the groups of nodes that can reach each other."""
    reach: dict[str, set[str]] = {}
    for start in graph:
        seen: set[str] = set()
        todo = list(graph[start])
        while todo:
            node = todo.pop()
            if node not in seen:
                seen.add(node)
                todo.extend(graph.get(node, ()))
        reach[start] = seen
    groups = {
        tuple(sorted(other for other in reach[node] if node in reach.get(other, ())))
        for node in graph
        if node in reach[node]
    }
    return [list(group) for group in sorted(groups)]


def floors(graph: Graph) -> dict[str, int]:
    """Return each node's floor. The graph must not have circles."""
    found: dict[str, int] = {}

    def floor(node: str) -> int:
        if node not in found:
            found[node] = 1 + max((floor(other) for other in graph.get(node, ())), default=-1)
        return found[node]

    for node in graph:
        floor(node)
    return found


@dataclass
class Structure:
    """The figures of the package."""

    rooms: Graph = field(default_factory=arrows)

    def __post_init__(self) -> None:
        self.circles = circles(self.rooms)
        self.inner_circles = {
            room: found
            for room in self.rooms
            if (found := circles(arrows(lambda module: module, room)))
        }
        self.floors = floors(self.rooms) if not self.circles else {}
        self.sizes = sorted(
            ((len(path.read_text().splitlines()), name) for name, path in modules().items()),
            reverse=True,
        )

    def text(self) -> str:
        """Return the figures as lines of text."""
        levels: dict[int, list[str]] = {}
        for room, floor in self.floors.items():
            levels.setdefault(floor, []).append(room or "nats_ev")
        crowds = {room: sum(room_of(m) == room for m in modules()) for room in self.rooms}
        largest = max(crowds, key=lambda room: crowds[room])
        lines = [
            f"rooms {len(self.rooms)}, floors {len(levels)}, "
            f"arrows {sum(map(len, self.rooms.values()))}, "
            f"circles {len(self.circles) + sum(map(len, self.inner_circles.values()))}, "
            f"modules {len(modules())} (most in one folder: {crowds[largest]}, {largest})"
        ]
        lines += [f"  {floor:2}  {', '.join(sorted(levels[floor]))}" for floor in sorted(levels)]
        lines += [f"circle: {' <-> '.join(group)}" for group in self.circles]
        for groups in self.inner_circles.values():
            lines += [f"circle: {' <-> '.join(group)}" for group in groups]
        lines.append("longest files:")
        lines += [f"  {size:4}  {name}" for size, name in self.sizes[:5]]
        return "\n".join(lines)


if __name__ == "__main__":
    print(Structure().text())
