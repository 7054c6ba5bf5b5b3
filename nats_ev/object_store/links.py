"""Links of an object store (ADR-20): following them to an object, and adding them.

A link is an info without content whose options name another object, in this store or in another one, or a
whole store. A read follows up to eight links, one leading to the next, so a circle of links ends in an error.
A link is only ever made to an object, never to a link; chains come from objects that were
replaced by links later.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from ..arguments import Callback
from ..buckets import ObjectExistsError, ObjectLinkError, ObjectNotFoundError, call_or_report
from ..errors import NatsError, NoRespondersError
from ..nuid import next_nuid
from .infos import FIRST_RETRY_FOR, RETRY_FOR, Infos, may_pass
from .meta import Info, check_name, link_of

if TYPE_CHECKING:
    from .download import ObjectReader

_MAX_LINKS = 8
# After an error that may pass, before an object is looked for again.
_RETRY_WAIT_MS = 50.0


class Search:
    """The search of a download for its object: reads infos, over all links, until one has content."""

    def __init__(self, infos: Infos, name: str, reader: ObjectReader) -> None:
        self._infos = infos
        self._name = name
        self._reader = reader
        self._links_left = _MAX_LINKS
        self._began_at = time.monotonic()
        self._nobody_since = 0.0  # since when nobody listens; 0: the last error was another one

    def start(self) -> None:
        """Read the first info. Raises what a request raises."""
        self._infos.last(self._name, self._found)

    def _found(self, info: Info | None, error: NatsError | None) -> None:
        reader = self._reader
        if reader.done:
            return
        if error is not None and may_pass(error, self._infos.js) and self._patient(error):
            self._try_again(error)
        elif error is not None:
            reader.fail(error)
        elif info is None or info["deleted"]:
            reader.missing()
        elif (link := link_of(info)) is None:
            reader.start(self._infos, info)
        else:
            self._follow(link)

    def _patient(self, error: NatsError) -> bool:
        """Return whether to try again: for 30 s, but not long when nobody listens."""
        now = time.monotonic()
        if isinstance(error, NoRespondersError):
            self._nobody_since = self._nobody_since or now
            return now - self._nobody_since < FIRST_RETRY_FOR
        self._nobody_since = 0.0
        return now - self._began_at < RETRY_FOR

    def _try_again(self, error: NatsError) -> None:
        self._infos.js.nats.call_later(
            _RETRY_WAIT_MS,
            call_or_report,
            self._found,
            self.start,
            ended=lambda: self._reader.fail(error),
            step=True,
        )

    def _follow(self, link: Mapping[str, Any]) -> None:
        target, bucket = link.get("name"), link.get("bucket") or self._infos.bucket
        if not target:
            self._reader.fail(
                ObjectLinkError(f"{self._name} is a link to bucket {link.get('bucket')!r}")
            )
            return
        if not self._links_left:
            self._reader.fail(ObjectLinkError(f"too many links: {self._name}"))
            return
        self._links_left -= 1
        try:
            self._infos = self._infos.of_bucket(bucket)
            self._name = check_name(target)
        except (NatsError, TypeError) as exc:  # another client has stored names that can't be
            self._reader.fail(ObjectLinkError(f"{self._name} is a malformed link: {exc}"))
            return
        call_or_report(self._found, self.start)


def add_link(infos: Infos, name: str, target: Infos, target_name: str, cb: Callback) -> None:
    """Store a link from name to an object of target, if it is one; ``cb(info, err)``."""

    def found(info: Info | None, error: NatsError | None) -> None:
        if error is None and (info is None or info["deleted"]):
            error = ObjectNotFoundError(
                f"object not found: {target_name}", bucket=target.bucket, name=target_name
            )
        elif error is None and info is not None and link_of(info) is not None:
            error = ObjectLinkError(f"{target_name} is a link itself")
        if error is not None:
            cb(None, error)
        else:
            link = {"bucket": target.bucket, "name": target_name}
            call_or_report(cb, lambda: put_link(infos, name, link, cb))

    target.last(target_name, found)


def put_link(infos: Infos, name: str, link: Mapping[str, str], cb: Callback) -> None:
    """Store a link under a name, unless that is an object's; ``cb(info, err)``."""

    def change(info: Info | None) -> Info | NatsError:
        if info is not None and not info["deleted"] and link_of(info) is None:
            return ObjectExistsError(
                f"an object already exists with that name: {name}", bucket=infos.bucket, name=name
            )
        return {
            "name": name,
            "options": {"link": dict(link)},
            "bucket": infos.bucket,
            "nuid": next_nuid(),
            "size": 0,
            "chunks": 0,
        }

    infos.change(name, change, cb)
