"""Fixtures of this folder: `js` on the shared server."""

from lab.buckets import js  # noqa: F401
