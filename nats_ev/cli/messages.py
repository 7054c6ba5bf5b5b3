"""Commands for messages: ``pub``, ``sub``, ``req`` and ``reply``."""

from __future__ import annotations

import itertools
import os
import shlex
import subprocess
import sys
import time
from collections.abc import Iterator
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import click

from nats_ev import Headers, MsgIteratorClosedError, RequestTimeoutError, pyev

from .client import Settings
from .command import Command, with_settings
from .output import complain, note, printable, progress, write, write_bytes, write_json
from .values import DURATION, Number, Pair, body_of, filled, headers_of, now, shown_duration

if TYPE_CHECKING:
    from nats_ev import Nats as CallbackClient
    from nats_ev.blocking import JetStream, JsMsg, Msg, Nats
    from nats_ev.headers import HeadersLike

# How many messages are published between two looks at the network.
_CHUNK = 1000

_HEADER = click.option(
    "--header", "-H", "pairs", type=Pair(), multiple=True, help="add a header, as name:value"
)


@click.command(
    cls=Command,
    aliases=("publish",),
    examples="""
        pub orders.new '{"id": 42}'
        pub orders.new 'order {{Count}}' --count 10 --sleep 100ms --templates
        pub orders.new -H X-Trace:42 < order.json
        tail -f app.log | nats-ev pub logs --send-on newline
    """,
)
@click.argument("subject")
@click.argument("body", required=False)
@_HEADER
@click.option("--reply", help="subject for answers")
@click.option("--count", default=1, type=Number(1), help="publish so many times")
@click.option("--sleep", type=DURATION, help="time between two messages")
@click.option("--jetstream", "-J", is_flag=True, help="wait until a stream has stored each message")
@click.option("--templates", is_flag=True, help="fill in {{Count}}, {{Time}}, {{Unix}}, {{ID}}")
@click.option("--force-stdin", is_flag=True, help="read the body from standard input in any case")
@click.option(
    "--send-on",
    type=click.Choice(["eof", "newline"]),
    default="eof",
    help="of standard input: publish all of it, or each line",
)
@click.option("--quiet", "-q", is_flag=True, help="print nothing when all is well")
@click.option("--json", "as_json", is_flag=True, help="print JSON")
@with_settings
def pub(settings: Settings, subject: str, body: str | None, send_on: str, **how: Any) -> None:
    """Publish a message.

    Without BODY, or with -, the payload is read from standard input, if that is no terminal.
    """
    if how["jetstream"] and how["reply"] is not None:
        raise click.UsageError("--jetstream has a subject of its own for the answer: no --reply")
    by_line = send_on == "newline"
    with settings.connect(lasting=by_line, strict_subjects=True) as nc:
        sender = _Sender(nc, settings, subject, how)
        if by_line:
            _Lines(settings, sender).read()
        else:
            sender.repeat(body_of(body, force=how["force_stdin"]), how["count"], how["sleep"])
        nc.flush()
    sender.report()


class _Sender:
    """Publishes the messages of one command, with or without a stream's acknowledgements."""

    def __init__(self, nc: Nats, settings: Settings, subject: str, how: dict[str, Any]) -> None:
        self._nc = nc
        self._settings = settings
        self._js: JetStream | None = settings.jetstream_of(nc) if how["jetstream"] else None
        self._subject = subject
        self._headers = headers_of(how["pairs"])
        self._how = how
        self._sent = self._bytes = 0

    def repeat(self, body: bytes, count: int, sleep: timedelta | None) -> None:
        """Publish a body several times."""
        text = body.decode(errors="surrogateescape") if self._how["templates"] else ""
        with progress(quiet=self._how["quiet"] or count < 2) as bar:
            task = bar.add_task(self._subject, total=count)
            for number in range(1, count + 1):
                if self._how["templates"]:
                    body = filled(text, number).encode(errors="surrogateescape")
                    self.send(body, filled(self._subject, number))
                else:
                    self.send(body)
                if sleep is not None and number < count:
                    self._settings.run(sleep)
                if sleep is not None or number % _CHUNK == 0:
                    bar.update(task, completed=number)

    def send(self, body: bytes, subject: str | None = None) -> None:
        """Publish one message, by default to the subject of the command."""
        subject = self._subject if subject is None else subject
        if self._js is not None:
            ack = self._js.publish(subject, body, headers=self._headers)
            if self._how["as_json"]:
                write_json(ack, line=True)
            elif not self._how["quiet"]:
                again = ", a duplicate" if ack.get("duplicate") else ""
                write(f"Stored in {ack['stream']} as {ack['seq']}{again}")
        else:
            self._nc.publish(subject, body, self._how["reply"], headers=self._headers)
        self._sent += 1
        self._bytes += len(body)
        if self._sent % _CHUNK == 0:
            self._nc.flush()

    def report(self) -> None:
        """Say what has been published."""
        if self._js is not None or self._how["quiet"]:
            return
        if self._how["as_json"]:
            write_json({"subject": self._subject, "messages": self._sent, "bytes": self._bytes})
        else:
            what = "message" if self._sent == 1 else "messages"
            size = "1 byte" if self._bytes == 1 else f"{self._bytes:,} bytes"
            note(f"Published {self._sent:,} {what}, {size}, to {self._subject!r}")


class _Lines:
    """Publishes the lines of standard input as they come, by a watcher of the loop on which the client is."""

    def __init__(self, settings: Settings, sender: _Sender) -> None:
        self._settings = settings
        self._send = sender.send
        self._input = sys.stdin.fileno()
        self._rest = b""

    def read(self) -> None:
        """Run the loop until the end of standard input."""
        watcher = self._settings.loop.io(self._input, pyev.EV_READ, self._readable)
        watcher.start()
        try:
            self._settings.run()
        finally:
            watcher.stop()

    def _readable(self, watcher: Any, revents: int) -> None:
        watcher.stop()  # what is called here may run the loop
        data = os.read(self._input, 65536)
        *lines, self._rest = (self._rest + data).split(b"\n")
        if not data and self._rest:
            lines.append(self._rest)
        for line in lines:
            self._send(line.removesuffix(b"\r"))
        if data:
            watcher.start()
        else:
            self._settings.stop()


def show_message(
    subject: str,
    payload: bytes,
    raw_headers: bytes | None,
    *,
    number: int | None = None,
    about: str = "",
    more: dict[str, Any] | None = None,
    how: dict[str, Any],
) -> None:
    """Print a message as the options of a command say.

    Args:
        subject, payload, raw_headers: of the message.
        number: of the message; None: the heading has none.
        about: what else the heading says.
        more: what else the JSON has.
        how: ``as_json``, ``raw``, ``headers_only``, ``subjects_only`` and ``timestamp`` of the options.
    """
    if how.get("raw"):
        write_bytes(payload + b"\n")
        return
    headers = Headers.parse(raw_headers)
    if how.get("as_json"):
        shown = {"subject": subject, "payload": payload, "time": now()}
        if headers:
            shown["headers"] = {name: headers.get_all(name) for name in headers}
        write_json(shown | (more or {}), line=True)
        return
    if how.get("subjects_only"):
        write(printable(subject))
        return
    moment = f"{now().astimezone():%H:%M:%S.%f} " if how.get("timestamp") else ""
    counted = f"[#{number}] " if number is not None else ""
    write(f"{moment}{counted}{printable(subject)}{about}", flush=False)
    for name in headers:
        for value in headers.get_all(name):
            write(f"{printable(name)}: {printable(value)}", flush=False)
    if headers and not how.get("headers_only"):
        write(flush=False)
    write("" if how.get("headers_only") else printable(payload).removesuffix("\n") + "\n")


_SHOWN = (
    click.option("--raw", "-r", is_flag=True, help="print payloads and nothing else"),
    click.option("--headers-only", is_flag=True, help="print no payloads"),
    click.option("--subjects-only", is_flag=True, help="print subjects and nothing else"),
    click.option("--timestamp", "-t", is_flag=True, help="print when each message came"),
    click.option("--json", "as_json", is_flag=True, help="print each message as a line of JSON"),
)


def shows_messages(function: Any) -> Any:
    """Give a command the options of `show_message`."""
    for option in reversed(_SHOWN):
        function = option(function)
    return function


@click.command(
    cls=Command,
    aliases=("subscribe",),
    examples="""
        sub 'orders.>'
        sub 'orders.*' --queue workers --count 10
        sub 'orders.>' --raw | grep urgent
        sub 'orders.>' --stream ORDERS --all --wait 1s --json
    """,
)
@click.argument("subjects", nargs=-1, required=True)
@click.option("--queue", help="share the messages with others of this queue group")
@click.option("--count", type=Number(1), help="end after so many messages")
@click.option("--wait", type=DURATION, help="end after so long without a message")
@click.option("--stream", help="read what this stream has stored, without a durable consumer")
@click.option("--all", "deliver", flag_value="all", help="of a stream: from the first message")
@click.option("--new", "deliver", flag_value="new", help="of a stream: from the next message")
@click.option("--last", "deliver", flag_value="last", help="of a stream: from the last message")
@click.option(
    "--last-per-subject",
    "deliver",
    flag_value="last_per_subject",
    help="of a stream: from the last message of each subject",
)
@click.option("--start-sequence", type=Number(1), help="of a stream: from this sequence")
@click.option("--since", type=DURATION, help="of a stream: what was stored in this time")
@shows_messages
@with_settings
def sub(settings: Settings, subjects: tuple[str, ...], **how: Any) -> None:
    """Print the messages of SUBJECTS as they come, until Ctrl-C."""
    if how["stream"]:
        _read_stream(settings, subjects, how)
        return
    if any(how[name] is not None for name in ("deliver", "start_sequence", "since")):
        raise click.UsageError("where to begin is asked of a stream: --stream NAME")
    with settings.connect(lasting=True) as nc:
        printer = Printer(settings, how)
        for subject in subjects:
            nc.nats.subscribe(subject, printer.message, how["queue"])
        nc.flush()
        if not how["raw"] and not how["as_json"]:
            note(f"Subscribed to {', '.join(map(repr, subjects))}")
        printer.run()


class Printer:
    """Prints the messages that its callback gets, as far as the options of a command want them."""

    def __init__(self, settings: Settings, how: dict[str, Any]) -> None:
        self._settings = settings
        self._how = how
        self._number = self._seen = 0

    def message(
        self, subject: str, payload: bytes, reply: str | None, headers: bytes | None
    ) -> None:
        """Print a message: the callback of a subscription."""
        count = self._how["count"]
        if count is not None and self._number >= count:
            return
        self._number += 1
        about = f" (reply {printable(reply)})" if reply else ""
        more = {"reply": reply} if reply else {}
        show_message(
            subject, payload, headers, number=self._number, about=about, more=more, how=self._how
        )
        if self._number == count:
            self._settings.stop()

    def run(self) -> None:
        """Run the loop until all is printed that the options want."""
        wait = self._how["wait"]
        while self._how["count"] is None or self._number < self._how["count"]:
            self._seen = self._number
            self._settings.run(wait)
            if wait is None or self._number == self._seen:
                break


def _read_stream(settings: Settings, subjects: tuple[str, ...], how: dict[str, Any]) -> None:
    """Print what a stream has stored under some subjects, and what comes."""
    config: Any = {"deliver_policy": how["deliver"] or "all"}
    if subjects != (">",):
        config["filter_subjects" if len(subjects) > 1 else "filter_subject"] = (
            list(subjects) if len(subjects) > 1 else subjects[0]
        )
    if how["start_sequence"] is not None:
        config |= {"deliver_policy": "by_start_sequence", "opt_start_seq": how["start_sequence"]}
    if how["since"] is not None:
        config |= {"deliver_policy": "by_start_time", "opt_start_time": now() - how["since"]}
    with (
        settings.jetstream(lasting=True) as js,
        js.ordered_consumer(how["stream"], config, stop_after=how["count"]) as messages,
    ):
        for number in itertools.count(1):
            try:
                msg = messages.next(how["wait"])
            except (RequestTimeoutError, MsgIteratorClosedError):
                break
            show_stored(msg, number, how)


def show_stored(msg: JsMsg, number: int, how: dict[str, Any]) -> None:
    """Print a message of a stream, with its sequence.

    Args:
        msg: the message.
        number: how many have been printed, this one included.
        how: as for `show_message`.
    """
    meta = msg.metadata
    again = f", delivery {meta.num_delivered}" if meta.num_delivered > 1 else ""
    about = f" ({meta.stream} {meta.stream_sequence}, {meta.num_pending} left{again})"
    more = {
        "stream": meta.stream,
        "seq": meta.stream_sequence,
        "stored": meta.timestamp,
        "delivered": meta.num_delivered,
        "pending": meta.num_pending,
    }
    show_message(msg.subject, msg.data, msg.headers, number=number, about=about, more=more, how=how)


@click.command(
    "req",
    cls=Command,
    aliases=("request",),
    examples="""
        req time.now
        req orders.total '{"customer": 7}' --timeout 2s
        req '$SRV.PING' --replies 0 --json
    """,
)
@click.argument("subject")
@click.argument("body", required=False)
@_HEADER
@click.option("--count", default=1, type=Number(1), help="ask so many times")
@click.option("--replies", default=1, type=Number(0), help="wait for so many answers; 0: for all")
@click.option(
    "--reply-timeout",
    type=DURATION,
    default="300ms",
    show_default=True,
    help="with --replies: end after so long without another answer",
)
@click.option("--templates", is_flag=True, help="fill in {{Count}}, {{Time}}, {{Unix}}, {{ID}}")
@click.option("--raw", "-r", is_flag=True, help="print payloads and nothing else")
@click.option("--json", "as_json", is_flag=True, help="print each answer as a line of JSON")
@with_settings
def req(settings: Settings, subject: str, body: str | None, **how: Any) -> None:
    """Publish a request, and print the answer.

    Without BODY, or with -, the payload is read from standard input, if that is no terminal.
    """
    given, headers = body_of(body), headers_of(how["pairs"])
    text = given.decode(errors="surrogateescape")
    with settings.connect(strict_subjects=True) as nc:
        for number in range(1, how["count"] + 1):
            asked, payload = subject, given
            if how["templates"]:
                asked = filled(subject, number)
                payload = filled(text, number).encode(errors="surrogateescape")
            begin = time.monotonic()
            for answer in _answers(nc, settings, asked, payload, headers, how):
                ms = (time.monotonic() - begin) * 1000
                show_message(
                    answer.subject,
                    answer.payload,
                    answer.headers,
                    about=f" answered in {shown_duration(ms * 1e6)}",
                    more={"ms": round(ms, 3)},
                    how=how,
                )


def _answers(
    nc: Nats,
    settings: Settings,
    subject: str,
    payload: bytes,
    headers: Headers | None,
    how: dict[str, Any],
) -> Iterator[Msg]:
    """Send one request, and yield its answers."""
    if how["replies"] == 1:
        yield nc.request(subject, payload, settings.wait, headers=headers)
        return
    yield from nc.request_many(
        subject,
        payload,
        settings.wait,
        headers=headers,
        stall_ms=how["reply_timeout"],
        max_msgs=how["replies"],
    )


@click.command(
    cls=Command,
    examples="""
        reply greet 'hello, number {{Count}}'
        reply echo --echo
        reply upper --command 'tr a-z A-Z' --queue workers
    """,
)
@click.argument("subject")
@click.argument("body", required=False)
@_HEADER
@click.option("--echo", is_flag=True, help="answer with the request's payload and headers")
@click.option(
    "--command",
    help="answer with the output of this command, which reads the payload from its standard input",
)
@click.option("--queue", default="NATS-RPLY-22", show_default=True, help="queue group")
@click.option("--count", type=Number(1), help="end after so many requests")
@click.option("--sleep", type=DURATION, help="wait before each answer")
@click.option("--quiet", "-q", is_flag=True, help="print no requests")
@with_settings
def reply(settings: Settings, subject: str, body: str | None, **how: Any) -> None:
    """Answer requests until Ctrl-C.

    The answer is BODY, an echo, or the output of a command.

    The command sees the subject as NATS_REQUEST_SUBJECT. If it fails, its request gets no answer.
    """
    if sum((body is not None, how["echo"], how["command"] is not None)) != 1:
        raise click.UsageError("answer with one of these: BODY, --echo or --command")
    if how["command"] is not None:
        how["program"] = _words(how["command"])
    with settings.connect(lasting=True) as nc:
        responder = _Responder(settings, nc.nats, body or "", how)
        nc.nats.subscribe(subject, responder.request, how["queue"])
        nc.flush()
        note(f"Answering requests on {subject!r}")
        settings.run()


def _words(command: str) -> list[str]:
    """Return a command line as a program and its arguments."""
    try:
        words = shlex.split(command)
    except ValueError as error:
        raise click.UsageError(f"--command: {error}") from None
    if not words:
        raise click.UsageError("--command: it is empty")
    return words


class _Responder:
    """Answers requests in its callback."""

    def __init__(
        self, settings: Settings, nats: CallbackClient, body: str, how: dict[str, Any]
    ) -> None:
        self._settings = settings
        self._nats = nats
        self._body = body
        self._how = how
        self._headers = headers_of(how["pairs"])
        self._number = 0

    def request(
        self, subject: str, payload: bytes, reply: str | None, headers: bytes | None
    ) -> None:
        """Answer a request: the callback of the subscription."""
        count = self._how["count"]
        if count is not None and self._number >= count:
            return
        self._number += 1
        if not self._how["quiet"]:
            show_message(subject, payload, headers, number=self._number, how={})
        if reply is not None:
            answer = self._answer(subject, payload)
            echoed = headers if self._how["echo"] and self._headers is None else self._headers
            if answer is not None:
                delay = self._how["sleep"] or 0
                self._nats.call_later(delay, self._send, reply, answer, echoed)
        if self._number == count:
            self._nats.call_later(self._how["sleep"] or 0, self._settings.stop)

    def _send(self, reply: str, answer: bytes, headers: HeadersLike | None) -> None:
        self._nats.publish(reply, answer, headers=headers)

    def _answer(self, subject: str, payload: bytes) -> bytes | None:
        if self._how["echo"]:
            return payload
        if self._how["command"] is None:
            return filled(self._body, self._number).encode(errors="surrogateescape")
        done = subprocess.run(
            self._how["program"],
            input=payload,
            stdout=subprocess.PIPE,
            env=os.environ | {"NATS_REQUEST_SUBJECT": subject},
            check=False,
        )
        if done.returncode:
            complain(f"{self._how['command']}: exit status {done.returncode}")
            return None
        return done.stdout


COMMANDS = (pub, sub, req, reply)
