"""`KvWatch`, a running watch of keys. `buckets.watch` does the work, `encoding` makes the entries."""

from __future__ import annotations

from ..buckets import Watch


class KvWatch(Watch):
    """A running watch of keys: what `KV.watch` and `KV.list_keys` return.

    `stop` ends the watch, `stopped` tells whether the watch has ended, `bucket` is the bucket's name.
    """
