"""The program that ends a killed test's servers and removes their folders: see `process`.

It reads names of folders, each followed by a zero byte. At the end of its input the program that wrote them
has ended: it kills the servers whose files of ports are in these folders, and removes the folders.
"""

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import time

_ATTEMPTS = 100  # to remove a folder in which a server still writes
_PAUSE = 0.05


def _command(pid: str) -> bytes:
    """Return the command line of a process, empty if it has ended."""
    with contextlib.suppress(OSError), open(f"/proc/{pid}/cmdline", "rb") as file:
        return file.read()
    with contextlib.suppress(OSError):
        return subprocess.run(["ps", "-o", "args=", "-p", pid], stdout=subprocess.PIPE).stdout
    return b""


def _kill_servers(folder: str) -> None:
    """Kill the servers that have written their ports here: nats-server_PID.ports."""
    for name in os.listdir(folder):
        pid = name.rpartition("_")[2].removesuffix(".ports")
        # The number may be that of another process by now.
        if name.endswith(".ports") and pid.isdigit() and os.fsencode(folder) in _command(pid):
            with contextlib.suppress(OSError):
                os.kill(int(pid), signal.SIGKILL)


def clean(folder: str) -> None:
    """Remove a folder, and end the servers in it."""
    for _ in range(_ATTEMPTS):
        if not os.path.isdir(folder):
            return
        with contextlib.suppress(OSError):
            _kill_servers(folder)
        shutil.rmtree(folder, ignore_errors=True)
        time.sleep(_PAUSE)


if __name__ == "__main__":
    for each in sys.stdin.buffer.read().split(b"\0"):
        if each:
            clean(os.fsdecode(each))
