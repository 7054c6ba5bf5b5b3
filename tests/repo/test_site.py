"""The site of `make docs`: it builds without a warning, loads nothing from elsewhere, and is complete."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from html import unescape
from pathlib import Path
from types import ModuleType

import pytest

import nats_ev
from lab.paths import BENCH, ROOT
from nats_ev.options.options import _OPTIONS

SITE = ROOT / "docs" / "_site"


def build(folder: Path) -> None:
    """Build the site; a warning is an error."""
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(folder)]
    command += ["-f", str(SITE / "mkdocs.yml")]
    done = subprocess.run(
        command,
        cwd=ROOT,
        env=os.environ | {"NO_MKDOCS_2_WARNING": "1"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout + done.stderr


def module(name: str, folder: Path) -> Iterator[ModuleType]:
    """A program beside the package, as a module."""
    sys.path.insert(0, str(folder))
    try:
        yield __import__(name)
    finally:
        sys.path.remove(str(folder))
        sys.modules.pop(name, None)


@pytest.fixture
def catalogue() -> Iterator[ModuleType]:
    yield from module("catalogue", SITE)


@pytest.fixture
def chart() -> Iterator[ModuleType]:
    yield from module("chart", BENCH)


def loaded_from_elsewhere(site: Path) -> list[str]:
    """What the pages and styles would fetch from other hosts."""
    loads = re.compile(r'<(?:script|img|link|iframe)[^>]*\s(?:src|href)="?(?:https?:)?//[^>]*>')
    imports = re.compile(r"url\(.?https?:[^)]*")
    found = [each for page in site.rglob("*.html") for each in loads.findall(page.read_text())]
    return found + [
        each for css in site.rglob("*.css") for each in imports.findall(css.read_text())
    ]


def without_a_place(site: Path) -> list[str]:
    """Public classes that no page of the reference describes."""
    pages = "".join(path.read_text() for path in (site / "reference").glob("*.html"))
    names = [name for name in nats_ev.__all__ if isinstance(getattr(nats_ev, name), type)]
    return [name for name in names if not re.search(rf'<h\d[^>]* id="[\w.]*\b{name}"', pages)]


def dead_links(site: Path) -> list[str]:
    """Links within the site whose page or place does not exist, as when a docstring names no method."""
    pages = {page.resolve(): page.read_text() for page in site.rglob("*.html")}
    places = {page: set(re.findall(r'\bid="?([^\s">]+)', text)) for page, text in pages.items()}
    found = []
    for page, text in pages.items():
        if page.name == "404.html":  # its links are those of the server's root
            continue
        for link in re.findall(r'<a\s[^>]*?href="([^":]*)"', text):
            target, _, place = unescape(link).partition("#")
            path = (page.parent / target).resolve() if target else page
            if not path.exists() or (place and place not in places.get(path, ())):
                found.append(f"{page.name}: {link}")
    return found


# One test, because each process of a parallel run would build the site again.
def test_the_site_builds_without_a_warning_loads_nothing_from_elsewhere_and_is_complete(
    tmp_path: Path,
) -> None:
    pytest.importorskip("mkdocs", reason="mkdocs is not installed")
    build(tmp_path)
    assert "Times as fast as nats-py" in (tmp_path / "index.html").read_text()
    assert (tmp_path / "search" / "search_index.json").stat().st_size > 100_000
    assert loaded_from_elsewhere(tmp_path) == []
    assert without_a_place(tmp_path) == []
    assert dead_links(tmp_path) == []


def test_every_error_is_in_the_catalogue_with_its_cause_and_cure(catalogue: ModuleType) -> None:
    entries = [catalogue.entry(kind) for kind in catalogue.public().values()]
    assert len(entries) > 85
    assert [each.name for each in entries if not each.cause] == []
    assert [each.name for each in entries if not each.cure] == []
    page = catalogue.page()
    assert [each.name for each in entries if f"{{#{each.name}}}" not in page] == []


def test_the_table_of_options_is_complete_and_its_defaults_are_the_true_ones() -> None:
    table = (ROOT / "docs" / "reference" / "options.md").read_text()
    rows = dict(re.findall(r"^\| `(\w+)` \| `([^|]*)` \|", table, re.MULTILINE))
    assert rows == {name: repr(option.default) for name, option in _OPTIONS.items()}


def test_the_chart_shows_the_figures_of_the_performance_page(chart: ModuleType) -> None:
    page = (ROOT / "docs" / "performance.md").read_text()
    assert len(chart.bars(page)) == len(chart.ROWS)
    for path, content in chart.charts(page).items():
        assert (ROOT / "docs" / path).read_text() == content, "run: python bench/chart.py"


def test_a_chart_of_a_page_that_lacks_rows_has_the_others(
    chart: ModuleType, tmp_path: Path
) -> None:
    shutil.copy(ROOT / "docs" / "performance.md", tmp_path)
    (tmp_path / "performance").mkdir()
    page = tmp_path / "performance.md"
    page.write_text(page.read_text().split("### On other loops")[0])
    chart.main(tmp_path)
    assert "asyncio" not in (tmp_path / chart.FILES["dark"]).read_text()
