"""`ServerInfo`: what a server's INFO says."""

from __future__ import annotations

import json
from typing import Any, NamedTuple

from .. import errors

_MAX_PAYLOAD_CEILING = 2**31


class ServerInfo(NamedTuple):
    """The fields of an INFO that the client uses, under the server's names. `raw` is the whole JSON text."""

    raw: str
    server_id: str = ""
    server_name: str = ""
    version: str = ""
    proto: int = 0
    headers: bool = False
    max_payload: int = 1024 * 1024
    auth_required: bool = False
    tls_required: bool = False
    tls_available: bool = False
    nonce: str | None = None
    client_id: int | None = None
    client_ip: str | None = None
    cluster: str | None = None
    jetstream: bool = False
    domain: str | None = None
    ldm: bool = False
    connect_urls: tuple[str, ...] | None = None

    @classmethod
    def parse(cls, raw: str) -> ServerInfo:
        """Return the INFO that a JSON text describes.

        Raises `ProtocolError` unless the text is an object whose known fields have the right types.
        """
        try:
            fields = json.loads(raw)
        except (ValueError, RecursionError) as exc:
            raise errors.ProtocolError("protocol error: INFO is not valid JSON") from exc
        if not isinstance(fields, dict):
            raise errors.ProtocolError("protocol error: INFO is not a JSON object")
        known: dict[str, Any] = {}
        for name, kind in _INFO_TYPES.items():
            value = fields.get(name)
            if value is None:
                continue
            if not isinstance(value, kind) or (kind is int and isinstance(value, bool)):
                raise errors.ProtocolError(f"protocol error: INFO has a bad {name}")
            known[name] = value
        if not 0 < known.get("max_payload", 1) <= _MAX_PAYLOAD_CEILING:
            raise errors.ProtocolError("protocol error: INFO has a bad max_payload")
        if "connect_urls" in known:
            known["connect_urls"] = tuple(u for u in known["connect_urls"] if isinstance(u, str))
        return cls(raw=raw, **known)

    def without_topology(self) -> ServerInfo:
        """Return what may be trusted of an INFO that came before TLS.

        Anybody on the way may have written it. So it must not name other servers (``connect_urls``),
        make the client leave (``ldm``), or name a cluster.
        """
        return self._replace(connect_urls=None, ldm=False, cluster=None)


_INFO_TYPES: dict[str, type] = {
    "server_id": str,
    "server_name": str,
    "version": str,
    "proto": int,
    "headers": bool,
    "max_payload": int,
    "auth_required": bool,
    "tls_required": bool,
    "tls_available": bool,
    "nonce": str,
    "client_id": int,
    "client_ip": str,
    "cluster": str,
    "jetstream": bool,
    "domain": str,
    "ldm": bool,
    "connect_urls": list,
}
