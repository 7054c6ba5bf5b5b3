"""The command ``nats-ev``, also ``python -m nats_ev``: `nats_ev.cli`, if what it needs is installed."""

from __future__ import annotations

import sys

from nats_ev.imports import is_installed

_NEEDED = ("click", "rich")


def main() -> int:
    """Run the command line and return its exit status: 1 if a package that it needs is missing."""
    missing = [name for name in _NEEDED if not is_installed(name)]
    if missing:
        print(
            f"nats-ev: the command line needs {' and '.join(missing)}: pip install 'nats_ev[cli]'",
            file=sys.stderr,
        )
        return 1
    try:
        from nats_ev.cli import main as run

        return run()
    except KeyboardInterrupt:  # while the modules are loaded
        return 130


if __name__ == "__main__":
    sys.exit(main())
