"""`make bench-full` measures every row, verifies what it received, and writes the page. No word on speed."""

from __future__ import annotations

import json
import subprocess
import sys
import xml.etree.ElementTree as ElementTree
from pathlib import Path
from typing import Any

import pytest

from lab.paths import BENCH, ROOT
from lab.process import run_whole

KEYS = [
    "pub", "pubsub", "pubsub-8", "sub", "subjects", "raw-headers", "headers", "request", "request-1024",
    "request-16384", "serial", "pubsub-64k", "pubsub-1m", "js-publish", "js-fetch", "js-consume",
    "js-ordered", "kv-get", "kv-put", "kv-watch", "object-put", "object-get",
]  # fmt: skip
LOOPS = ["loop-pub", "loop-pubsub", "loop-iterate", "loop-request", "loop-serial"]
DECADES = [
    "payload", "subjects", "subscriptions", "in-flight", "connections", "headers", "windows",
]  # fmt: skip


def full(*args: str) -> subprocess.CompletedProcess[str]:
    return run_whole([sys.executable, str(BENCH / "full.py"), "--scale", "0.002", *args], 300)


@pytest.fixture
def docs(tmp_path: Path) -> Path:
    """A folder with a page whose generated part is empty."""
    begin, end = page_module().BEGIN, page_module().END
    (tmp_path / "performance.md").write_text(f"before\n{begin}\nold\n{end}\nafter\n")
    return tmp_path


def page_module() -> Any:
    sys.path.insert(0, str(BENCH))
    try:
        import page
    finally:
        sys.path.remove(str(BENCH))
    return page


def results_of(row: dict[str, Any]) -> list[tuple[int, int]]:
    return [(r["wrong"], r["lost"]) for r in row["results"]["nats_ev"]]


@pytest.mark.slow
@pytest.mark.server
def test_every_row_and_decade_is_measured_verified_and_shown(docs):
    done = full(
        "--clients", "nats_ev", "--runs", "1", "--decade-runs", "1", "--largest", "20",
        "--docs", str(docs),
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    results = json.loads((docs / "performance" / "results.json").read_text())
    assert [row["key"] for row in results["table"]] == KEYS
    assert [row["key"] for row in results["loops"]] == LOOPS
    assert [decade["key"] for decade in results["decades"]] == DECADES
    points = [point for decade in results["decades"] for point in decade["points"]]
    for row in results["table"] + points:
        assert results_of(row) == [(0, 0)], row["title"]
    text = (docs / "performance.md").read_text()
    assert text.startswith("before\n")
    assert text.endswith("after\n")
    assert "\nold\n" not in text
    for row in results["table"]:
        assert f"| {row['title']} | nats_ev | " in text
    drawn = sorted(path.name for path in (docs / "performance").glob("*.svg"))
    summary = ["summary-dark.svg", "summary-light.svg"]  # of README
    tables = ["table-cpu.svg", "table-wall.svg"]
    assert drawn == sorted([*[f"{key}.svg" for key in DECADES], *tables, *summary])
    for path in (docs / "performance").glob("*.svg"):
        ElementTree.parse(path)
        assert path.name in summary or f"(performance/{path.name})" in text


@pytest.mark.slow
@pytest.mark.server
def test_another_client_is_compared_on_the_same_rows(docs):
    done = full(
        "--clients", "nats_ev,nats-py", "--runs", "1", "--decade-runs", "0", "--no-page",
        "--only", "sub,headers,serial,js-fetch,kv-put,object-get", "--json", str(docs / "out.json"),
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    for row in json.loads((docs / "out.json").read_text())["table"]:
        assert row["failures"] == {}
        for client in ("nats_ev", "nats-py"):
            assert [(r["wrong"], r["lost"]) for r in row["results"][client]] == [(0, 0)], row[
                "title"
            ]
    assert done.stdout.count("(target ≥ ") == 6
    assert not (docs / "performance").exists()


@pytest.mark.slow
@pytest.mark.server
def test_the_faces_are_compared_with_the_peer_on_the_same_loops(docs):
    faces = ["nats_ev.aio", "nats_ev.aio uvloop", "nats_ev.green", "nats_ev.blocking"]
    done = full(
        "--runs", "1", "--decade-runs", "0", "--only", ",".join(LOOPS), "--docs", str(docs),
        "--clients", ",".join(["nats-py", "nats-py uvloop", *faces]),
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    results = json.loads((docs / "performance" / "results.json").read_text())
    text = (docs / "performance.md").read_text()
    for row in results["loops"]:
        ran = set(row["results"]) & set(faces)
        alone = {"loop-pubsub", "loop-request"}  # nothing runs beside a call that blocks
        assert ran == set(faces if row["key"] not in alone else faces[:3]), row["title"]
        for client in ran:
            assert [(r["wrong"], r["lost"]) for r in row["results"][client]] == [(0, 0)]
            assert f"| {row['title']} | {client} | " in text


def run(ns: int, cpu: int, **more: int) -> dict[str, int]:
    return {"ns": ns, "cpu_ns": cpu, "wrong": 0, "lost": 0, "count": 1} | more


def results(**changes: Any) -> dict[str, Any]:
    """Results of one row: nats_ev, and two other clients, one of which has failed."""
    row = {
        "title": "PUB", "key": "pub", "targets": {"cpu": 0.6, "wall": 1.5, "py": 8},
        "results": {
            "nats_ev": [run(100, 50), run(300, 70), run(200, 60)],
            "nats-py": [run(2000, 900)],
            "EV::Nats": [run(250, 80)],
        },
        "failures": {"natsrpy": "it | broke"},
    } | changes  # fmt: skip
    names = ["nats-py", "nats_ev", "EV::Nats", "natsrpy"]
    about = {
        "date": "", "machine": "", "load": 0, "python": "", "python_build": "", "server": "",
        "clients": dict.fromkeys(names, "1"), "runs": 3, "decade_runs": 0, "minutes": 1,
    }  # fmt: skip
    return {"about": about, "table": [row], "loops": [], "decades": []}


def test_the_page_shows_medians_spread_ratios_and_what_falls_short():
    text = page_module().generated(results())
    assert "| PUB | nats_ev | 200 ns (100 ns … 300 ns) | 60 ns (50 ns … 70 ns) |  |" in text
    ratios = ["**0.75x (target ≤ 0.6x)**", "**1.25x (target ≥ 1.5x)**", "10x (target ≥ 8x)"]
    assert " | ".join(ratios) in text
    assert "- PUB: 0.75x" in text
    assert "- PUB: 1.25x" in text
    assert "| PUB | natsrpy | - | - | failed: it / broke |" in text


def test_the_page_says_what_the_checks_have_found():
    wrong = {"nats_ev": [run(1, 1)], "EV::Nats": [run(1, 1, wrong=7, lost=1, p50=5, p99=9)]}
    text = page_module().generated(results(results=wrong))
    assert "p50 5 ns, p99 9 ns; 7 checked messages came back wrong" in text
    assert "the server's counts differ in 1 of 1 runs" in text


def test_a_page_without_markers_is_left_alone(tmp_path):
    path = tmp_path / "performance.md"
    path.write_text("mine")
    with pytest.raises(SystemExit, match="markers"):
        page_module().write(results(), tmp_path)
    assert path.read_text() == "mine"


def test_the_page_in_docs_has_its_markers():
    text = (ROOT / "docs" / "performance.md").read_text()
    assert text.count(page_module().BEGIN) == text.count(page_module().END) == 1


def test_a_mistake_of_ours_makes_it_fail(tmp_path):
    found = tmp_path / "results.json"
    found.write_text(json.dumps(results(results={"nats_ev": [run(1, 1, wrong=1)]})))
    done = full("--from", str(found), "--no-page")
    assert done.returncode == 1
    assert "PUB: messages came back wrong or were lost" in done.stderr
