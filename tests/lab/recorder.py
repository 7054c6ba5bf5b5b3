"""What a client has told: attached to each client of the fixture `client`."""

from __future__ import annotations

from typing import Any

from lab.located import words


class Recorder:
    """What a client's callbacks have seen, in order."""

    def __init__(self) -> None:
        self.events: list[Any] = []
        self.errors: list[BaseException] = []

    def count(self, event: str) -> int:
        return self.events.count(event)

    def on_error(self, error: BaseException) -> None:
        self.errors.append(error)
        self.events.append(f"error: {words(error)}")
