"""Which tests a kind of loop cannot run, and why."""

from __future__ import annotations

import re
from typing import NamedTuple


class Exclusion(NamedTuple):
    """Tests whose id matches a pattern, and the kinds of loop that cannot run them."""

    kinds: str  # a pattern of their names
    tests: str  # a pattern of the tests' ids
    why: str


GEVENT = "gevent-.*"
ASYNCIO = "asyncio|asyncio-debug|uvloop"
HELD_INTERRUPTS = (
    "Ctrl-C at any instruction: only `nats_ev.pyev` holds it back until a callback has ended"
)
GREENLETS = "the test's threads are greenlets there, and Ctrl-C is raised in the one that runs"
PIPES = "the tests' pipes to other clients are not for long values where gevent has patched them"
HOSTS_SIGNALS = "signals are the host's affair while C code runs the loop: Python sees them later"
PREPARE = "a Prepare watcher can be fed, and cannot be started"
DEBUG = "an exception of a callback does not come out of `start`, also not with `loop.debug`"
THREAD = "the loop does not tell which thread runs it, so calls from other threads are not refused"
LATE_INTERRUPT = (
    "uvloop makes the calls that are ready, also new ones, before a KeyboardInterrupt or SystemExit of a "
    "callback comes out of `run_forever`"
)
FORK = "the child of a fork cannot `reset` the loop: `gevent.os.fork` does it, and asyncio needs a new loop"
GENERATOR_EXIT = (
    "of the exceptions that are no Exception only KeyboardInterrupt and SystemExit come out"
)
DESCRIPTORS = "uvloop needs free descriptors to run"
BLOCKS = "the test counts blocks of memory, and asyncio keeps a cancelled timer for a while"
ENDS_START = (
    "an error that ends a client without `on_error` comes out of `start` of `nats_ev.pyev` alone"
)
UNREF = "asyncio's loops do not end for want of watchers, so `unref` has nothing to do"
DIALS = (
    "the tests' dial blocks, and nothing may block in gevent's hub where gevent has patched sockets"
)

EXCLUSIONS = (
    Exclusion(f"{GEVENT}-patched", "connection/test_dial_option.py", DIALS),
    Exclusion(f"{GEVENT}|{ASYNCIO}", "client/test_interrupts.py", HELD_INTERRUPTS),
    Exclusion(
        f"{GEVENT}|{ASYNCIO}",
        r"test_an_interrupt_comes_out_of_the_loop_at_once_and_the_client_goes_on\[True\]",
        HELD_INTERRUPTS,
    ),
    Exclusion(f"{GEVENT}-patched", "test_an_interrupt_comes_out_of_the_loop_at_once", GREENLETS),
    Exclusion(f"{GEVENT}-patched", "/test_interop.py", PIPES),
    Exclusion("host", "client/test_interrupts.py", HOSTS_SIGNALS),
    Exclusion("host", "test_an_interrupt_comes_out_of_the_loop_at_once", HOSTS_SIGNALS),
    Exclusion(
        f"{GEVENT}|{ASYNCIO}",
        "test_an_error_without_on_error_is_raised_after_the_completions",
        DEBUG,
    ),
    Exclusion(
        f"gevent-libuv.*|{ASYNCIO}",
        "test_coalescing.py::test_published_from_a_prepare_watcher",
        PREPARE,
    ),
    Exclusion(ASYNCIO, "test_life.py::test_no_operation_leaves_memory_behind", BLOCKS),
    Exclusion(
        "uvloop", "test_an_exception_that_stops_the_loop_leaves_the_rest_pending", LATE_INTERRUPT
    ),
    Exclusion(
        "uvloop", "test_an_interrupt_in_a_flush_callback_loses_no_other_pong", LATE_INTERRUPT
    ),
    Exclusion(
        "uvloop", r"test_whatever_the_callback_of_one_answer_does.*-interrupt\]", LATE_INTERRUPT
    ),
    Exclusion(
        "uvloop", "test_the_rest_expires_after_a_callback_that_stops_the_loop", LATE_INTERRUPT
    ),
    Exclusion(
        f"{GEVENT}|{ASYNCIO}",
        r"test_an_interrupted_source_is_not.*-GeneratorExit\]",
        GENERATOR_EXIT,
    ),
    Exclusion(
        f"{GEVENT}|{ASYNCIO}",
        "test_fork.py::test_the_child_sends_nothing_and_reads_nothing_of_the_parents",
        FORK,
    ),
    Exclusion(
        f"{GEVENT}|{ASYNCIO}", "test_fork.py::test_a_fork_while_a_socket_is_being_connected", FORK
    ),
    Exclusion(f"{GEVENT}|{ASYNCIO}", "test_fork.py::test_a_fork_while_a_name_is_looked_up", FORK),
    Exclusion("uvloop", "test_running_out_of_descriptors_is_survived", DESCRIPTORS),
    Exclusion(
        "uvloop", "test_running_out_of_descriptors_is_waited_for_without_spinning", DESCRIPTORS
    ),
    Exclusion(
        f"pyev-like|host|{GEVENT}|{ASYNCIO}", "client/test_the_end_of_a_script.py", ENDS_START
    ),
    Exclusion(
        f"pyev-like|host|{GEVENT}|{ASYNCIO}",
        "test_without_on_error_the_last_error_leaves_the_loop_when_all_is_settled",
        ENDS_START,
    ),
    Exclusion(ASYNCIO, "client/test_unref.py", UNREF),
    Exclusion(
        "pyev-like", "test_calls_from_another_thread_than_the_loops_are_clear_errors", THREAD
    ),
)


def excluded(kind: str, nodeid: str) -> str | None:
    """Return why a kind of loop cannot run a test, None if it can."""
    for entry in EXCLUSIONS:
        if re.fullmatch(entry.kinds, kind) and re.search(entry.tests, nodeid):
            return entry.why
    return None
