"""The long run of JetStream, and its benchmark, in small."""

from __future__ import annotations

import re
import sys

import pytest

from drills import soak_js
from lab.paths import ROOT
from lab.process import run_whole

pytestmark = pytest.mark.slow


@pytest.mark.server
def test_soak_with_restarts_and_cuts(capsys):
    soak_js.main(["--messages", "20000", "--restarts", "2", "--cuts", "5"])
    out = capsys.readouterr().out
    assert "20000 published and consumed, 2 restarts" in out
    assert "20000 in order, 5 cuts" in out


@pytest.mark.server
def test_benchmark_measures_all_rows():
    command = [sys.executable, "bench/bench_js.py", "--messages", "4000", "--runs", "1"]
    out = run_whole(command, 100, cwd=ROOT)
    assert out.returncode == 0, out.stderr
    assert len(re.findall(r"^\| .* \| nats_ev \| [\d,]+ \|", out.stdout, re.MULTILINE)) == 4
