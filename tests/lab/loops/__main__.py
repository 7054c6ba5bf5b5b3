"""Run tests on one kind of loop after the other: see `runs`.

``--in-process KIND`` runs pytest in this process, and lets gevent patch it before anything is imported that
gevent replaces.
"""

import os
import sys

from lab.loops import KINDS

if __name__ == "__main__":
    if sys.argv[1:2] == ["--in-process"]:
        kind = KINDS[sys.argv[2]]
        os.environ.update(kind.environ)
        if kind.patched:
            from gevent import monkey

            monkey.patch_all()
        import pytest

        raise SystemExit(pytest.main([f"--loop={kind.name}", *sys.argv[3:]]))

    from lab.loops.runs import main

    raise SystemExit(main())
