"""Commands that measure: ``bench``. In one process, by callbacks, as fast as the library is."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import click

from nats_ev import JetStream, NatsError

from .client import Settings
from .command import Group, with_settings
from .output import note, progress, write, write_json
from .values import SIZE, Number, shown_duration, shown_size

if TYPE_CHECKING:
    from rich.progress import Progress

    from nats_ev import Nats

# How many messages are published in one turn of the loop.
_CHUNK = 5000


@click.group(cls=Group)
def bench() -> None:
    """Measure how fast messages come and go.

    One process and one thread: figures of several processes add up, as far as the server can.
    """


def _options(function: Any) -> Any:
    """Give a command the options that all measurements have."""
    for option in (
        click.option("--json", "as_json", is_flag=True, help="print JSON"),
        click.option("--no-progress", is_flag=True, help="show no progress bar"),
        click.option(
            "--size", type=SIZE, default="128", show_default=True, help="bytes of each payload"
        ),
        click.option(
            "--msgs", type=Number(1), default=100_000, show_default=True, help="number of messages"
        ),
    ):
        function = option(function)
    return function


class _Run:
    """One measurement: what is under way, how much is done, and the result."""

    def __init__(self, settings: Settings, what: str, how: dict[str, Any]) -> None:
        self.settings = settings
        self.msgs: int = how["msgs"]
        self.payload = bytes(how["size"])
        self.done = 0
        self.latencies: list[float] = []
        self._what = what
        self._as_json: bool = how["as_json"]
        self._bar: Progress = progress(quiet=how["no_progress"] or how["as_json"])
        self._task = self._bar.add_task(what, total=self.msgs)
        self._begin = self._end = 0.0

    def measure(self, nats: Nats) -> None:
        """Run the loop until all messages are done, and show the progress meanwhile."""
        with self._bar:
            self._look(nats)
            self._begin = self._begin or time.perf_counter()
            if self.done < self.msgs:
                self.settings.run()
        if self.done < self.msgs:
            raise click.ClickException(f"ended after {self.done:,} of {self.msgs:,} messages")

    def _look(self, nats: Nats) -> None:
        self._bar.update(self._task, completed=self.done)
        if self.done < self.msgs:
            nats.call_later(100, self._look, nats)

    def begin(self) -> None:
        """Start the clock: at the first message of those that others send."""
        self._begin = time.perf_counter()

    def finish(self) -> None:
        """Stop the clock and the loop."""
        self._end = time.perf_counter()
        self.settings.stop()

    def report(self) -> None:
        """Print the result."""
        seconds = max(self._end - self._begin, 1e-9)
        size = len(self.payload)
        result: dict[str, Any] = {
            "what": self._what,
            "messages": self.msgs,
            "size": size,
            "seconds": round(seconds, 6),
            "messages_per_second": round(self.msgs / seconds),
            "bytes_per_second": round(self.msgs * size / seconds),
        }
        if len(self.latencies) > 1:
            import statistics

            cuts = statistics.quantiles(self.latencies, n=100)
            result["latency_ms"] = {"p50": cuts[49], "p90": cuts[89], "p99": cuts[98]}
            result["latency_ms"]["max"] = max(self.latencies)
        if self._as_json:
            write_json(result)
            return
        write(
            f"{self._what}: {result['messages_per_second']:,} messages/s, "
            f"{shown_size(result['bytes_per_second'])}/s, "
            f"{self.msgs:,} messages of {size:,} bytes in {shown_duration(seconds * 1e9)}"
        )
        if "latency_ms" in result:
            shown = ", ".join(
                f"{name} {shown_duration(ms * 1e6)}" for name, ms in result["latency_ms"].items()
            )
            write(f"  latency: {shown}")


@bench.command(
    "pub",
    examples="""
        bench pub bench.test --msgs 1000000 --size 64
        bench pub bench.test --json
    """,
)
@click.argument("subject")
@_options
@with_settings
def pub(settings: Settings, subject: str, **how: Any) -> None:
    """Publish as fast as the server takes it. The clock stops when the server has processed the last one."""
    with settings.connect() as nc:
        nats, run = nc.nats, _Run(settings, "pub", how)

        def publish() -> None:
            count = min(_CHUNK, run.msgs - run.done)
            for _ in range(count):
                nats.publish(subject, run.payload)
            run.done += count
            nats.flush(published)

        def published(error: NatsError | None) -> None:
            if error is not None:
                raise error  # out of the loop, and so out of the command
            if run.done < run.msgs:
                publish()
            else:
                run.finish()

        nats.call_soon(publish)
        run.measure(nats)
    run.report()


@bench.command(
    "sub",
    examples="""
        bench sub bench.test --msgs 1000000
        bench sub bench.test --queue workers
    """,
)
@click.argument("subject")
@click.option("--queue", help="queue group")
@_options
@with_settings
def sub(settings: Settings, subject: str, queue: str | None, **how: Any) -> None:
    """Receive what others publish. The clock runs from the first message to the last."""
    with settings.connect() as nc:
        nats, run = nc.nats, _Run(settings, "sub", how)
        run.payload = b""

        def received(subject: str, payload: bytes, reply: str | None, headers: object) -> None:
            if not run.done:
                run.begin()
                run.payload = payload
            run.done += 1
            if run.done == run.msgs:
                run.finish()

        nats.subscribe(subject, received, queue)
        nc.flush()
        if not how["as_json"]:
            note(f"Waiting for {run.msgs:,} messages on {subject!r}")
        run.measure(nats)
    run.report()


@bench.command("pubsub", examples="bench pubsub bench.test --msgs 500000")
@click.argument("subject")
@_options
@with_settings
def pubsub(settings: Settings, subject: str, **how: Any) -> None:
    """Publish to itself, and count what comes back."""
    with settings.connect() as nc:
        nats, run = nc.nats, _Run(settings, "pubsub", how)
        sent = 0

        def publish() -> None:
            nonlocal sent
            count = min(_CHUNK, run.msgs - sent)
            for _ in range(count):
                nats.publish(subject, run.payload)
            sent += count

        def received(subject: str, payload: bytes, reply: str | None, headers: object) -> None:
            run.done += 1
            if run.done == run.msgs:
                run.finish()
            elif sent - run.done == _CHUNK // 2:  # the next ones go before these are all back
                publish()

        nats.subscribe(subject, received)
        nc.flush()
        nats.call_soon(publish)
        run.measure(nats)
    run.report()


@bench.command(
    "request",
    aliases=("req",),
    examples="""
        bench request bench.echo --msgs 100000 --in-flight 64
        bench request bench.echo --in-flight 1
    """,
)
@click.argument("subject")
@click.option(
    "--in-flight", type=Number(1), default=64, show_default=True, help="requests at a time"
)
@_options
@with_settings
def request(settings: Settings, subject: str, in_flight: int, **how: Any) -> None:
    """Send requests, and time the answers. What answers may be `nats-ev bench reply`."""
    with settings.connect() as nc:
        nats, run = nc.nats, _Run(settings, "request", how)
        failed: list[NatsError] = []
        left = run.msgs

        def ask() -> None:
            nonlocal left
            left -= 1
            begin = time.perf_counter()

            def answered(response: bytes | None, err: NatsError | None, headers: object) -> None:
                if err is not None:
                    failed.append(err)
                    run.finish()
                    return
                run.latencies.append((time.perf_counter() - begin) * 1000)
                run.done += 1
                if run.done == run.msgs:
                    run.finish()
                elif left:
                    ask()

            nats.request(subject, run.payload, answered, settings.wait)

        for _ in range(min(in_flight, run.msgs)):
            ask()
        try:
            run.measure(nats)
        finally:
            if failed:
                raise failed[0]
    run.report()


@bench.command("reply", examples="bench reply bench.echo --queue workers")
@click.argument("subject")
@click.option("--queue", default="bench", show_default=True, help="queue group")
@with_settings
def reply(settings: Settings, subject: str, queue: str) -> None:
    """Answer requests with their payload until Ctrl-C."""
    with settings.connect(lasting=True) as nc:
        nats = nc.nats

        def asked(subject: str, payload: bytes, reply: str | None, headers: object) -> None:
            if reply is not None:
                nats.publish(reply, payload)

        nats.subscribe(subject, asked, queue)
        nc.flush()
        note(f"Answering requests on {subject!r}")
        settings.run()


@bench.command("js", examples="bench js bench.stored --msgs 50000 --in-flight 1000")
@click.argument("subject")
@click.option(
    "--in-flight",
    type=Number(1),
    default=1000,
    show_default=True,
    help="messages without their ack",
)
@_options
@with_settings
def js(settings: Settings, subject: str, in_flight: int, **how: Any) -> None:
    """Publish to a stream, and wait for each acknowledgement."""
    with settings.connect() as nc:
        found = settings.jetstream_of(nc)
        name = found.stream_name_by_subject(subject)
        stream = JetStream(nc.nats, found.prefix, settings.wait, max_ack_pending=in_flight)
        run = _Run(settings, "js", how)
        failed: list[NatsError] = []
        left = run.msgs

        def store() -> None:
            nonlocal left
            left -= 1
            stream.publish(subject, run.payload, stored)

        def stored(ack: Any, err: NatsError | None) -> None:
            if err is not None:
                failed.append(err)
                run.finish()
                return
            run.done += 1
            if run.done == run.msgs:
                run.finish()
            elif left:
                store()

        if not how["as_json"]:
            note(f"Publishing to stream {name}")
        for _ in range(min(in_flight, run.msgs)):
            store()
        try:
            run.measure(nc.nats)
        finally:
            if failed:
                raise failed[0]
    run.report()


COMMANDS = (bench,)
