"""Programs of examples/ that run beside a test, on the test's server."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

from lab.paths import EXAMPLES
from lab.process import die_with_us

LIMIT = 30  # seconds


class Program:
    """An example that runs, its output line by line."""

    def __init__(self, server: Any, name: str, *args: str, cwd: Path | None = None) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-W", "error", str(EXAMPLES / name), *args],
            env=os.environ
            | {"NATS_HOST": server.host, "NATS_PORT": str(server.port), "NATS_URL": server.url},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            cwd=cwd,
            preexec_fn=die_with_us,
        )

    def expect(self, pattern: str) -> re.Match[str]:
        """The next line of output that matches; the test's own time limit bounds the wait."""
        assert self.process.stdout is not None
        for line in self.process.stdout:
            if found := re.search(pattern, line):
                return found
        raise AssertionError(f"the program ended without {pattern!r}")

    def say(self, text: str) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(text)
        self.process.stdin.flush()

    def fails(self) -> str:
        """The rest of its output, once it has ended with the status 1."""
        output, _ = self.process.communicate(timeout=LIMIT)
        assert self.process.returncode == 1, output
        return output

    def end(self) -> str:
        """Close its input; the rest of its output, once it has ended well."""
        output, _ = self.process.communicate(timeout=LIMIT)
        assert self.process.returncode == 0, output
        return output
