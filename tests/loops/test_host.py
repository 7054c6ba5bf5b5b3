"""A C program that owns its loop and embeds Python: `examples/host`, and hosts that behave oddly.

The lock of the interpreter is released around ``ev_run``, released while libev waits, or held.
"""

from __future__ import annotations

import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import sysconfig
import textwrap
from collections.abc import Callable, Iterable
from pathlib import Path

import pytest

from lab.inside import needs_shared_libev
from lab.paths import EXAMPLES, ROOT
from lab.process import die_with_us, run_whole

MODES = ["release", "poll", "hold"]
HERE = Path(__file__).parent
LIMIT = 60
WITHOUT_RANDOM_BYTES = (
    "--undef-value-errors=no"  # valgrind does not know that the kernel fills them
)
VALGRIND = ["valgrind", "--quiet", "--error-exitcode=9", "--leak-check=no", WITHOUT_RANDOM_BYTES]

pytestmark = [
    needs_shared_libev,
    pytest.mark.skipif(shutil.which("cc") is None, reason="needs a C compiler named cc"),
]


def build(source: Path, folder: Path, libev_is: Iterable[str] = ("-lev",)) -> Path:
    """Compile a host and link it to this Python and to libev, by default the one that the binding uses."""
    get = sysconfig.get_config_var
    if not get("Py_ENABLE_SHARED") and not Path(get("LIBPL"), get("LIBRARY")).exists():
        pytest.skip("this Python has no library to embed")
    prefix = os.environ.get("LIBEV_PREFIX")
    libev = [f"-I{prefix}/include", f"-L{prefix}/lib", f"-Wl,-rpath,{prefix}/lib"] if prefix else []
    where = [f"-L{get('LIBDIR')}", f"-L{get('LIBPL')}", f"-Wl,-rpath,{get('LIBDIR')}"]
    words = " ".join(get(name) or "" for name in ("LINKFORSHARED", "LIBS", "SYSLIBS"))
    program = folder / source.stem
    done = subprocess.run(
        [
            *("cc", "-g", "-std=gnu11", "-Wall", "-Wextra", f"-I{get('INCLUDEPY')}", *libev),
            *(source, *where, f"-lpython{get('LDVERSION')}", *shlex.split(words), *libev_is),
            *("-o", program),
        ],
        capture_output=True,
        text=True,
        timeout=LIMIT,
    )
    assert (done.returncode, done.stderr) == (0, "")
    return program


def environ(server: object = None, **more: str) -> dict[str, str]:
    """The environment of a host, whose Python is to find what this one finds."""
    folders = [EXAMPLES / "host", ROOT, *filter(None, sys.path[1:])]
    found = {"PYTHONPATH": os.pathsep.join(map(str, folders)), "PYTHONWARNINGS": "error"}
    if server is not None:
        found |= {"NATS_HOST": server.host, "NATS_PORT": str(server.port)}  # type: ignore[attr-defined]
    return os.environ | found | more


@pytest.fixture(scope="module")
def example(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(build(EXAMPLES / "host" / "host.c", tmp_path_factory.mktemp("host")))


@pytest.fixture(scope="module")
def embed(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., str]:
    """embed(script, mode, order): what the host prints that does this."""
    folder = tmp_path_factory.mktemp("embed")
    program = build(HERE / "embed.c", folder)

    def embed(code: str, mode: str, order: str, server: object = None, *tool: str) -> str:
        script = folder / "script.py"
        script.write_text(textwrap.dedent(code))
        more = {"PYTHONMALLOC": "malloc"} if tool else {}
        command = [*tool, str(program), str(script), mode, order]
        done = run_whole(command, LIMIT, env=environ(server, **more))
        assert (done.returncode, done.stderr) == (0, ""), done.stdout + done.stderr
        return done.stdout.strip()

    return embed


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("name", ["127.0.0.1", "localhost"])
def test_the_example_receives_in_its_own_loop_and_ends_cleanly(server, example, mode, name):
    done = run_whole([example, mode], LIMIT, env=environ(server) | {"NATS_HOST": name})
    lines = [f"ticks: {number}" for number in range(1, 11)]
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.splitlines() == [*lines, "host: 10 sent, 10 received, 0 signals"]


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_the_example_drains_on_a_signal_which_its_own_loop_watches(server, example, mode, number):
    with subprocess.Popen(
        [example, mode, "1000000"],
        env=environ(server),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        preexec_fn=die_with_us,
    ) as process:
        assert process.stdout is not None
        try:
            assert process.stdout.readline() == "ticks: 1\n"
            process.send_signal(number)
            output, _ = process.communicate(timeout=LIMIT)
        finally:
            process.kill()
    assert process.returncode == 0
    counts = re.fullmatch(r"host: (\d+) sent, (\d+) received, 1 signals", output.splitlines()[-1])
    assert counts is not None
    assert counts[1] == counts[2]


@pytest.mark.parametrize("mode", MODES)
def test_an_exception_of_a_callback_ends_the_examples_loop_with_a_status(server, example, mode):
    folder = Path(example).parent / "exits"
    folder.mkdir(exist_ok=True)
    plugin = (EXAMPLES / "host" / "plugin.py").read_text()
    exits = "def tick(number):\n    loop.timer(0.0, 0.0, lambda *event: sys.exit(7)).start()\n"
    (folder / "plugin.py").write_text(plugin + "\n\nimport sys\n\n" + exits)
    env = environ(server)
    env["PYTHONPATH"] = f"{folder}{os.pathsep}{env['PYTHONPATH']}"
    done = run_whole([example, mode], LIMIT, env=env)
    assert done.returncode == 7, done.stdout + done.stderr
    assert "SystemExit: 7" in done.stderr


PRELUDE = """
import os, sys, threading, time
from nats_ev import Nats, pyev
loop = pyev.Loop.from_address(ADDRESS)
def connected():
    return Nats(loop=loop, host=os.environ["NATS_HOST"], port=int(os.environ["NATS_PORT"]))
"""


@pytest.mark.parametrize(("mode", "run"), [("release", True), ("poll", True), ("hold", False)])
def test_other_threads_run_while_the_host_waits_unless_it_holds_the_lock(embed, mode, run):
    code = """
    steps = []
    def work():
        while len(steps) < 3:
            time.sleep(0.01)
            steps.append(loop.iteration)
        wake.send()
    wake = loop.async_(lambda watcher, revents: loop.stop())
    wake.start()
    thread = threading.Thread(target=work, daemon=True)
    # The loop runs when the thread begins; if it holds the lock, one timer alone ends it.
    loop.timer(0.01, 0.0, lambda watcher, revents: thread.start()).start()
    end = loop.timer(4.0 if %r else 0.3, 0.0, lambda watcher, revents: loop.stop())
    end.start()
    def after():
        print(len(steps) == 3)
        sys.stdout.flush()
        os._exit(0)
    """
    assert embed(PRELUDE + textwrap.dedent(code) % run, mode, "rp") == str(run)


ORDERS = {
    "f": "the client is alive when Python is finalised, and the loop is left alone",
    "fd": "Python first, then the loop",
    "df": "the loop first: what is left here must not touch it",
    "frd": "the loop runs on after Python has ended",
    "rdpf": "the loop is destroyed after a run, and Python goes on",
}


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("order", ORDERS)
def test_a_live_client_survives_any_order_of_the_end(server, embed, mode, order):
    assert embed(PRELUDE + LIVE, mode, order, server) == ("gone" if "p" in order else "")


LIVE = """
nats = connected()
nats.flush(lambda err: loop.stop())
nats.subscribe("foo", print)
timers = [loop.timer(0.1, 0.1, lambda watcher, revents: None) for _ in range(3)]
for timer in timers:
    timer.start()
def after():
    try:
        timers[0].stop(), timers[0].start()
    except pyev.Error:
        print("gone")
    nats.disconnect()
"""


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("valgrind") is None, reason="needs valgrind")
@pytest.mark.parametrize("order", ORDERS)
def test_the_same_touches_no_freed_memory(server, embed, order):
    assert embed(PRELUDE + LIVE, "release", order, server, *VALGRIND) in ("", "gone")


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("valgrind") is None, reason="needs valgrind")
@pytest.mark.parametrize("mode", MODES)
def test_the_example_touches_no_freed_memory(server, example, mode):
    env = environ(server, PYTHONMALLOC="malloc")
    done = run_whole([*VALGRIND, example, mode], 2 * LIMIT, env=env)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.endswith("host: 10 sent, 10 received, 0 signals\n")


@pytest.mark.parametrize("exports", [False, True])
def test_a_host_with_a_libev_of_its_own_is_refused_unless_it_exports_that(
    server, tmp_path, exports
):
    # Without the refusal the client would hang: the two copies do not even agree on the time.
    libev = ["-Wl,-Bstatic", "-lev", "-Wl,-Bdynamic", "-lm"]
    probe = ["cc", "-shared", *libev, "-o", str(tmp_path / "probe.so")]
    if sys.platform != "linux" or subprocess.run(probe, capture_output=True).returncode:
        pytest.skip("there is no static libev here")
    exported = ["-rdynamic"] if exports else ["-Wl,--exclude-libs,ALL"]
    example = build(EXAMPLES / "host" / "host.c", tmp_path, [*libev, *exported])
    done = run_whole([example, "release"], LIMIT, env=environ(server))
    assert done.returncode == (0 if exports else 1), done.stderr
    if not exports:
        assert "is of another copy of libev than nats_ev is linked to" in done.stderr


@pytest.mark.parametrize("mode", MODES)
def test_the_child_of_the_hosts_own_fork_goes_on_with_the_loop(server, embed, mode):
    code = """
    parents = connected()
    parents.subscribe("foo", lambda *message: None)
    parents.flush(lambda err: loop.stop())
    def after():
        nats = connected()
        nats.subscribe("echo", lambda s, payload, reply, h: nats.publish(reply, payload))
        nats.request("echo", "hello", lambda *answer: (print(answer[0]), nats.drain(stopped)))
    def stopped(err):
        print(err, parents.is_connected())
        loop.stop()
    """
    said = embed(PRELUDE + textwrap.dedent(code), mode, "rkprf", server)
    assert said == "b'hello'\nNone False"


@pytest.mark.parametrize("mode", ["release", "hold"])
def test_no_event_is_lost_when_pythons_own_handler_interrupts_a_hosts_run(embed, mode):
    # The callbacks are C functions: each interrupt strikes before one or after one, in our code.
    code = """
    import _thread
    EVENTS = 20_000
    got, hooked = {}, []
    sys.excepthook = lambda kind, exc, traceback: hooked.append(kind)
    watchers = []
    def begin(watcher, revents):
        for number in range(EVENTS):
            watchers.append(loop.async_(got.__setitem__))
            watchers[-1].feed(pyev.EV_CUSTOM)
        for number in range(20):
            watchers[number * 1000].callback = interrupt
    class interrupt:
        def __new__(cls, watcher, revents):
            got[watcher] = revents
            _thread.interrupt_main()
    loop.timer(0.0, 0.0, begin).start()
    loop.timer(0.5, 0.5, lambda watcher, revents: loop.stop()).start()
    def after():
        print(len(got), set(got.values()) == {pyev.EV_CUSTOM}, hooked == [KeyboardInterrupt] * 20)
        print(type(loop.stopped_by).__name__)
    """
    said = embed(PRELUDE + textwrap.dedent(code), mode, 25 * "r" + "p")
    assert said == "20000 True True\nKeyboardInterrupt"
