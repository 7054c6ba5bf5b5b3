"""The command ``nats-ev``, also ``python -m nats_ev``: `nats_ev.cli`, if what it needs is installed."""

from __future__ import annotations

import signal
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
    ours = signal.getsignal(signal.SIGINT) is signal.default_int_handler
    if ours:  # while modules are loaded, Python may lose a KeyboardInterrupt or show its traceback
        signal.signal(signal.SIGINT, signal.SIG_DFL)
    from nats_ev.cli import main as run

    if ours:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        return run()
    except KeyboardInterrupt:  # before or after the command itself
        return 130


if __name__ == "__main__":
    sys.exit(main())
