"""The site of `make docs`: it builds without a warning, loads nothing from elsewhere, and is complete."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest

from lab.paths import BENCH, ROOT
from nats_ev.options import _OPTIONS

SITE = ROOT / "docs" / "_site"


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The built site; a warning is an error."""
    pytest.importorskip("mkdocs", reason="mkdocs is not installed")
    folder = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(folder)]
    done = subprocess.run(
        command,
        cwd=ROOT,
        env=os.environ | {"NO_MKDOCS_2_WARNING": "1"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return folder


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


def test_the_site_builds_without_a_warning_and_can_be_searched(site: Path) -> None:
    assert "Times as fast as nats-py" in (site / "index.html").read_text()
    assert (site / "search" / "search_index.json").stat().st_size > 100_000


def test_no_page_loads_anything_from_elsewhere(site: Path) -> None:
    loads = re.compile(r'<(?:script|img|link|iframe)[^>]*\s(?:src|href)="?(?:https?:)?//[^>]*>')
    found = [(path.name, loads.findall(path.read_text())) for path in site.rglob("*.html")]
    assert [each for each in found if each[1]] == []
    styles = [
        path for path in site.rglob("*.css") if re.search(r"url\(.?https?:", path.read_text())
    ]
    assert styles == []


def test_every_public_class_has_its_place_in_the_reference(site: Path) -> None:
    import nats_ev

    pages = "".join(path.read_text() for path in (site / "reference").glob("*.html"))
    names = [name for name in nats_ev.__all__ if isinstance(getattr(nats_ev, name), type)]
    missing = [name for name in names if not re.search(rf'<h\d[^>]* id="[\w.]*\b{name}"', pages)]
    assert missing == []


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
