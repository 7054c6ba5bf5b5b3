"""A JetStream API that answers what a test says, for answers that no good server gives.

It listens on any server, under a prefix of its own. A test whose messages have a consumer's reply subject
needs `broker` as the server.
"""

from __future__ import annotations

import itertools
import json
from typing import Any

from nats_ev import JetStream, Nats

_numbers = itertools.count(1)


class ScriptedApi:
    """The answers to API requests, by the beginning of their verbs.

    `asked` has the (verb, body) of each request so far; `js` is a `JetStream` that asks here.
    """

    def __init__(self, nats: Nats, **options: Any) -> None:
        """options are those of `JetStream`."""
        self.nats = nats
        self.prefix = f"SCRIPTED.{nats.new_inbox().rpartition('.')[2]}{next(_numbers)}"
        self.asked: list[tuple[str, Any]] = []
        self._answers: dict[str, list[Any]] = {}
        self.js = JetStream(nats, prefix=self.prefix, **options)
        nats.subscribe(f"{self.prefix}.>", self._on_request)

    def on(self, verb: str, *answers: Any) -> None:
        """Give these answers to requests whose verb begins so, one after another, the last one for ever.

        A dict is sent as JSON, bytes as they are, None is silence. A function is called with the reply
        subject instead. The longest beginning counts.
        """
        self._answers[verb] = list(answers)

    def count(self, verb: str) -> int:
        """Return how many requests have come whose verb begins so."""
        return sum(asked.startswith(verb) for asked, _ in self.asked)

    def _on_request(self, subject: str, payload: bytes, reply: str | None, headers: Any) -> None:
        verb = subject.removeprefix(f"{self.prefix}.")
        if verb.startswith("$"):  # a write to a bucket: the test answers it
            return
        self.asked.append((verb, json.loads(payload) if payload[:1] == b"{" else payload))
        known = [beginning for beginning in self._answers if verb.startswith(beginning)]
        if not known and verb == "INFO":  # the question for the API level, if no test is about it
            self.asked.pop()
            self.nats.publish(reply or "", "{}")
            return
        if not known:
            raise AssertionError(f"no answer to {verb} {payload!r}")
        answers = self._answers[max(known, key=len)]
        answer = answers.pop(0) if len(answers) > 1 else answers[0]
        if callable(answer):
            answer(reply)
        elif answer is not None and reply:
            self.nats.publish(reply, answer if isinstance(answer, bytes) else json.dumps(answer))


def failure(code: int, err_code: int, description: str) -> dict[str, Any]:
    """Return the answer that tells of an error."""
    return {"error": {"code": code, "err_code": err_code, "description": description}}


OVERLOADED = failure(503, 10008, "JetStream system temporarily unavailable")


def ack_reply(consumer_seq: int, stream_seq: int | None = None, pending: int = 0) -> str:
    """Return the reply subject of a consumer's message."""
    return (
        f"$JS.ACK.S.C.1.{stream_seq or consumer_seq}.{consumer_seq}.1700000000000000000.{pending}"
    )
