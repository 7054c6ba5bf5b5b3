"""docs/cli.md: its commands are run, and print what is written below them."""

from __future__ import annotations

import doctest
import re
import shlex

import click
import pytest

from lab.paths import ROOT
from nats_ev.cli import root
from nats_ev.cli.client import Settings

from .conftest import Run
from .test_words import COMMANDS

TEXT = (ROOT / "docs" / "cli.md").read_text()
BLOCKS = re.findall(r"^```(\w+)\n(.*?)^```$", TEXT, re.MULTILINE | re.DOTALL)


@pytest.mark.server
def test_its_commands_print_what_it_says(ev: Run) -> None:
    checker = doctest.OutputChecker()
    sections = [text for language, text in BLOCKS if language == "console"]
    assert len(sections) >= 4
    for text in sections:
        for command, output in re.findall(r"^\$ nats-ev (.*)\n((?:(?!\$ ).*\n)*)", text, re.M):
            done = ev(*shlex.split(command))
            got = re.sub(r" +$", "", done.err + done.out, flags=re.M).rstrip("\n") + "\n"
            want = output.rstrip("\n") + "\n"
            assert checker.check_output(want, got, doctest.ELLIPSIS), f"{command}\n{got}"


def test_what_it_only_shows_can_be_called() -> None:
    lines = [line for language, text in BLOCKS if language == "sh" for line in text.splitlines()]
    assert len(lines) > 8
    for part in [part for line in lines for part in line.split(" | ")]:
        words = shlex.split(part)
        if words[0] == "nats-ev" and words[1] != "--help":
            whole = [tuple(words[1:end]) for end in (4, 3)]
            path = next((words for words in whole if words in COMMANDS), (words[1],))
            rest = words[1 + len(path) :]
            COMMANDS[path].make_context(path[-1], rest, obj=Settings())


def test_it_names_every_command() -> None:
    rows = re.findall(r"^\| (`.*?`) \| .* \|$", TEXT, re.M)
    for path in COMMANDS:
        first, last = path[0], path[-1]
        mine = [row for row in rows if row.startswith((f"`{first} ", f"`{first}`"))]
        shown = re.search(rf"`(?:{first} )?{last}\b", " ".join(mine)) or f"nats-ev {first}" in TEXT
        assert shown, " ".join(path)


def test_every_option_for_connecting_is_on_it() -> None:
    for option in root.params:
        if isinstance(option, click.Option) and option.name not in ("version", "help"):
            assert f"`{option.opts[0]}" in TEXT, option.opts
