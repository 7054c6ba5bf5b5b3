"""`lab.planted`, which `make lint` runs, notices what a checker misses and what it should not report."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from lab import planted


def test_marks_say_what_each_checker_reports(tmp_path: Path) -> None:
    path = tmp_path / "a.py"
    path.write_text("x = 1\ny = x()  # expect: operator,misc | reportCallIssue\n")
    assert planted.expected([path]) == {
        "mypy": {("a.py", 2): {"operator", "misc"}},
        "pyright": {("a.py", 2): {"reportCallIssue"}},
    }


def test_a_mark_that_can_not_be_read_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.py"
    path.write_text("y = 1()  # expect: operator\n")
    with pytest.raises(AssertionError, match=r"a.py:1: not a mark"):
        planted.expected([path])


def test_what_differs_is_shown() -> None:
    wanted = {("a.py", 1): {"arg-type"}, ("a.py", 2): {"misc"}}
    assert planted.differences(wanted, dict(wanted)) == []
    assert planted.differences(wanted, {("a.py", 1): {"arg-type"}, ("a.py", 3): {"index"}}) == [
        "a.py:2: reports nothing, the mark says misc",
        "a.py:3: reports index, the mark says nothing",
    ]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("checker", "code"), [("mypy", "assignment"), ("pyright", "reportAssignmentType")]
)
def test_a_checker_is_heard(tmp_path: Path, checker: str, code: str) -> None:
    pytest.importorskip(checker)
    if checker == "pyright" and shutil.which("node") is None:
        pytest.skip("pyright needs node")
    path = tmp_path / "a.py"
    path.write_text('x: int = 1\ny: int = "1"\n')
    assert getattr(planted, f"by_{checker}")([path]) == {("a.py", 2): {code}}
