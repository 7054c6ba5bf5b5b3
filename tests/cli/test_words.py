"""The command line without a server: names, help, values, what it is built on."""

from __future__ import annotations

import ast
import io
import shlex
from collections.abc import Iterator
from datetime import timedelta

import click
import pytest

import nats_ev
from lab.structure import PACKAGE, imports_of
from nats_ev.cli import root
from nats_ev.cli.client import Settings
from nats_ev.cli.command import Command, Group
from nats_ev.cli.output import complain, note
from nats_ev.cli.values import (
    DURATION,
    SIZE,
    TIME,
    filled,
    shown_age,
    shown_duration,
    shown_size,
    shown_time,
)

from .conftest import Run

# Modules that the guide tells users to import.
PUBLIC = {
    f"nats_ev{name}" for name in ("", ".accounts", ".blocking", ".headers", ".pyev", ".types")
}


def commands(
    group: click.Group = root, path: tuple[str, ...] = ()
) -> Iterator[tuple[tuple[str, ...], click.Command]]:
    """All commands, with the words that call them."""
    for name, command in group.commands.items():
        if isinstance(command, click.Group):
            yield from commands(command, (*path, name))
        else:
            yield (*path, name), command


COMMANDS = dict(commands())


@pytest.mark.parametrize("path", sorted(PACKAGE.glob("cli/*.py")), ids=lambda path: path.stem)
def test_it_uses_the_public_api_only(path) -> None:
    for found in imports_of(path):
        if found.module == "cli" or found.module.startswith("cli."):
            continue
        module = ".".join(filter(None, ("nats_ev", found.module)))
        assert module in PUBLIC, f"{path.name}:{found.line} imports {module}"
        if module == "nats_ev" and f"nats_ev.{found.name}" not in PUBLIC:
            assert found.name in nats_ev.__all__, found.name
        assert not found.name.startswith("_") or found.name == "__version__"
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Attribute) and node.attr.startswith("_"):
            private = node.attr.strip("_") != node.attr.lstrip("_")
            assert private or ast.unparse(node.value) in ("self", "pages"), ast.unparse(node)


@pytest.mark.parametrize("path", COMMANDS, ids=" ".join)
def test_the_help_of_a_command_has_examples_that_can_be_called(
    path: tuple[str, ...], offline: Run
) -> None:
    command = COMMANDS[path]
    assert isinstance(command, Command)
    assert command.examples
    for example in command.examples:
        if "| nats-ev " in example:
            example = example.partition("| nats-ev ")[2]
        words = shlex.split(example.partition(" | ")[0].partition(" < ")[0].partition(" > ")[0])
        assert tuple(words[: len(path)]) == path, example
        command.make_context(words[len(path) - 1], words[len(path) :], obj=Settings())
    shown = offline(*path, "--help")
    assert shown.status == 0
    assert "Examples:" in shown.out
    help_lines = shown.out.partition("Examples:")[0].splitlines()
    assert max(map(len, help_lines)) <= 80
    assert "..." not in command.get_short_help_str(60), "too long for the list of commands"


def test_the_words_of_the_official_tool_work() -> None:
    words = """
        pub sub req request reply rtt bench account trace completion|
        stream add|stream create|stream ls|stream info|stream edit|stream rm|stream purge|
        stream get|stream view|str ls|consumer add|consumer next|consumer sub|con info|
        consumer pause|consumer resume|
        kv add|kv put|kv get|kv create|kv update|kv del|kv purge|kv watch|kv history|kv ls|kv info|kv revert|
        object add|object put|object get|object ls|object info|object rm|object del|object watch|object seal|
        service ping|service ls|service info|service stats|micro ls|
        context add|context save|context ls|context select|context rm|
        context show|context info|context validate
    """
    first, *rest = [line.split() for line in words.split("|")]
    for path in [[word] for word in first] + rest:
        found: click.Command | None = root
        for word in path:
            assert isinstance(found, Group)
            found = found.get_command(click.Context(found), word)
        assert found is not None, path


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (["pbu", "a"], "no command 'pbu': did you mean 'pub'?"),
        (["stream", "infoo", "A"], "no command 'infoo': did you mean 'info'?"),
        (["pub"], "Missing argument 'SUBJECT'."),
        (
            ["pub", "a", "b", "--timeout", "5"],
            "'5' is no duration: write a number with its unit, such as 5s",
        ),
        (["pub", "a", "b", "-H", "x"], "'x' is not name:value"),
        (["stream", "add", "A", "--max-bytes", "much"], "'much' is no size"),
        (["stream", "rm", "A"], "this can't be undone: confirm it with --force"),
        (["sub", "a", "--last"], "where to begin is asked of a stream"),
        (["reply", "a"], "answer with one of these: BODY, --echo or --command"),
        (["stream", "get", "A"], "name one message: SEQ, or --last-for SUBJECT"),
        (["consumer", "add", "A", "b", "--deliver", "x"], "'x' is none of all, new, last"),
        (["completion", "tcsh"], "'tcsh' is not one of 'bash', 'zsh', 'fish'"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_wrong_usage_is_one_line_and_status_2(
    arguments: list[str], text: str, offline: Run
) -> None:
    done = offline(*arguments)
    assert done.status == 2
    first, *rest = done.err.splitlines()
    assert first.startswith("nats-ev: ")
    assert text in first
    assert [line.split()[0] for line in rest] == ["Usage:", "Try"]
    assert done.out == ""


def test_without_a_command_it_shows_the_help(offline: Run) -> None:
    done = offline()
    assert done.status == 2
    for word in ("pub", "stream", "--server", "NATS_CREDS", "Exit status: 0 done, 1 failed"):
        assert word in done.err


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("5s", timedelta(seconds=5)),
        ("1h30m", timedelta(minutes=90)),
        ("250ms", timedelta(milliseconds=250)),
        ("1.5d", timedelta(hours=36)),
        ("2w", timedelta(days=14)),
        ("1y", timedelta(days=365)),
        ("0", timedelta(0)),
    ],
)
def test_durations(text: str, value: timedelta) -> None:
    assert DURATION(text) == value


@pytest.mark.parametrize("text", ["", "5", "s", "-5s", "5 s", "5x", "1h5", "300y", "nan"])
def test_what_is_no_duration(text: str) -> None:
    with pytest.raises(click.BadParameter):
        DURATION(text)


@pytest.mark.parametrize(
    ("text", "value"),
    [("512", 512), ("64KB", 65536), ("10MB", 10485760), ("1.5GiB", 1610612736), ("1t", 1 << 40)],
)
def test_sizes(text: str, value: int) -> None:
    assert SIZE(text) == value


def test_times() -> None:
    assert TIME("2026-01-02T03:04:05Z").isoformat() == "2026-01-02T03:04:05+00:00"
    assert shown_age(TIME("3d")) == "3d"
    with pytest.raises(click.BadParameter):
        TIME("yesterday")


def test_what_is_shown() -> None:
    assert [shown_duration(ns) for ns in (0, 1500, 2_500_000, 90 * 10**9, 86_400 * 10**9)] == [
        "0s",
        "1.5µs",
        "2.5ms",
        "1m30s",
        "1d",
    ]
    assert [shown_size(n) for n in (-1, 0, 1023, 1536, 1 << 30)] == [
        "unlimited",
        "0 B",
        "1023 B",
        "1.5 KiB",
        "1.0 GiB",
    ]
    assert shown_time("0001-01-01T00:00:00Z") == "never"


def test_placeholders() -> None:
    assert filled("a {{Count}} {{.Count}} {{ cnt }}", 7) == "a 7 7 7"
    assert len(filled("{{ID}}", 1)) == 32
    assert int(filled("{{Unix}}", 1)) > 1_700_000_000
    with pytest.raises(click.UsageError, match="unknown placeholder"):
        filled("{{What}}", 1)


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion(shell: str, offline: Run) -> None:
    done = offline("completion", shell)
    assert done.status == 0
    assert f"_NATS_EV_COMPLETE={shell}_complete" in done.out


def test_texts_of_others_are_no_commands_for_the_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    """Also in errors, whose text a server may have chosen."""

    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    for stream, wanted in ((Terminal(), r"\x1b[31mred"), (io.StringIO(), "\x1b[31mred")):
        monkeypatch.setattr("sys.stderr", stream)
        note("a \x1b[31mred")
        complain("b \x1b[31mred\nline")
        assert stream.getvalue() == f"a {wanted}\nnats-ev: b {wanted} line\n"
