"""The workflow files say what the project has: its make targets, Pythons and lines of nats-server."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = next(p for p in Path(__file__).parents if p.name == "tests").parent
WORKFLOWS = sorted((ROOT / ".github/workflows").glob("*.yml"))
if not WORKFLOWS:  # the sanitized suite runs in a copy of the tests and of what they test
    pytest.skip("no workflow files in this copy of the tree", allow_module_level=True)
MAKEFILE = (ROOT / "Makefile").read_text()


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.name)
def test_each_make_target_of_a_workflow_exists(path):
    called = re.findall(r"\bmake ([a-z][a-z-]*)", path.read_text())
    targets = {
        name for line in re.findall(r"^([\w .-]+):(?!=)", MAKEFILE, re.M) for name in line.split()
    }
    assert called
    assert set(called) <= targets


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.name)
def test_each_action_is_pinned_by_a_commit_and_names_its_version(path):
    for line in re.findall(r"uses: .*", path.read_text()):
        assert re.fullmatch(r"uses: [\w/.-]+@[0-9a-f]{40} # v\d+\.\d+\.\d+", line), line


def test_the_oldest_line_of_nats_server_is_one_that_make_fetches():
    matrix = (ROOT / ".github/workflows/ci.yml").read_text()
    lines = set(re.findall(r'server: "([\d.]+)"', matrix))
    fetched = re.findall(r"^SERVER_LINES := (.*)$", MAKEFILE, re.M)[0].split()
    assert lines == {min(fetched).rpartition(".")[0]}


def test_every_python_that_the_package_names_is_in_the_matrix():
    named = re.findall(r"Python :: (3\.\d+)", (ROOT / "pyproject.toml").read_text())
    matrix = (ROOT / ".github/workflows/ci.yml").read_text()
    (pythons,) = re.findall(r"^ +python: \[(.*)\]$", matrix, re.M)
    assert named
    assert set(named) <= set(re.findall(r"3\.\d+", pythons))
    wheels = (ROOT / ".github/workflows/wheels.yml").read_text()
    assert set(re.findall(r"cp3\{([\d,]+)\}", wheels)) == {",".join(v[2:] for v in named)}
