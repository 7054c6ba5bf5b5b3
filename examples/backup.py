"""Copy all streams of an account into a folder, again and again, and keep the newest copies.

    python examples/backup.py FOLDER [EVERY_SECONDS [KEEP]]
    python examples/backup.py FOLDER restore      # the newest copy; streams that exist are left alone

Without EVERY_SECONDS it makes one copy. Each copy is a folder named after its time, which the official
tool's ``nats account restore FOLDER/…/streams`` takes, too. An unfinished copy has no manifest and does not
count.
"""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Iterator
from datetime import datetime, timezone
from pathlib import Path

from nats_ev import JetStream, Nats, NatsError, pyev
from nats_ev.extras import Backup


def copies(folder: Path) -> Iterator[Path]:
    """Yield the complete copies, the newest first."""
    for path in sorted(folder.glob("*/manifest.json"), reverse=True):
        yield path.parent


class Copies:
    """Makes copies, one after the other."""

    def __init__(self, nats: Nats, folder: Path, every: float, keep: int) -> None:
        self.nats = nats
        self.backup = Backup(JetStream(nats))
        self.folder = folder
        self.every = every
        self.keep = keep

    def begin(self) -> None:
        """Make a copy."""
        name = datetime.now(timezone.utc).strftime("%Y-%m-%dT%H%M%S.%fZ")
        self.backup.backup_account(self.folder / name, self.copied)

    def copied(self, manifest, err: NatsError | None) -> None:
        """Say what was copied, remove what is too old, and wait for the next time."""
        if err is not None:
            print(f"failed: {err}", flush=True)
            if not self.every:
                raise err
        else:
            size = sum(stream["bytes"] for stream in manifest["streams"])
            print(f"{len(manifest['streams'])} streams, {size:,} bytes", flush=True)
            for name, reason in manifest["skipped"].items():
                print(f"skipped {name}: {reason}", flush=True)
            for old in list(copies(self.folder))[self.keep :]:
                shutil.rmtree(old)
        if self.every:
            self.nats.call_later(1000 * self.every, self.begin)
        else:
            self.nats.drain()

    def restore(self) -> None:
        """Create the streams of the newest copy that don't exist."""
        newest = next(copies(self.folder), None)
        if newest is None:
            raise SystemExit(f"no copy in {self.folder}")

        def restored(found, err: NatsError | None) -> None:
            if err is not None:
                raise err
            print(f"restored {', '.join(found['restored']) or 'nothing'}", flush=True)
            self.nats.drain()

        self.backup.restore_account(newest, restored, skip_existing=True)


def main() -> None:
    """Copy or restore, as the command line says."""
    if len(sys.argv) < 2:
        raise SystemExit(__doc__)
    where = os.environ.get("NATS_URL") or "nats://{}:{}".format(
        os.environ.get("NATS_HOST", "127.0.0.1"), os.environ.get("NATS_PORT", "4222")
    )
    rest = sys.argv[2:]
    restores = rest == ["restore"]
    every = float(rest[0]) if rest and not restores else 0.0
    keep = int(rest[1]) if len(rest) > 1 else 7
    nats = Nats(servers=[where], name="backup", reconnect=bool(every))
    job = Copies(nats, Path(sys.argv[1]), every, keep)
    if restores:
        job.restore()
    else:
        job.begin()
    pyev.default_loop(debug=True).start()


if __name__ == "__main__":
    main()
