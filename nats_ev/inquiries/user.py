"""Who a client is for its server: ``$SYS.REQ.USER.INFO``."""

from __future__ import annotations

import json
from typing import Any

from ..arguments import Callback, Milliseconds, check_result_cb
from ..errors import NatsError, ProtocolError
from .asker import Asker

SUBJECT = "$SYS.REQ.USER.INFO"


def ask_user(nats: Asker, cb: Callback, timeout_ms: Milliseconds) -> None:
    """Ask who the client is; see `Nats.user_info`."""
    check_result_cb(cb)

    def answered(payload: bytes | None, err: NatsError | None, headers: object) -> None:
        data: dict[str, Any] | None = None
        if payload is not None:
            data, err = _read(payload)
        cb(data, err)

    nats.request(SUBJECT, b"", answered, timeout_ms, no_responders=True)


def _read(payload: bytes) -> tuple[dict[str, Any] | None, NatsError | None]:
    try:
        answer = json.loads(payload)
    except (ValueError, RecursionError):
        answer = None
    if not isinstance(answer, dict):
        return None, ProtocolError(f"the answer to {SUBJECT} is not a JSON object")
    failure = answer.get("error")
    if failure:
        said = failure.get("description") if isinstance(failure, dict) else failure
        return None, NatsError(f"{SUBJECT}: {said or 'error'}")
    data = answer.get("data")
    if not isinstance(data, dict):
        return None, ProtocolError(f"the answer to {SUBJECT} has no data")
    expires = data.get("expires")
    if expires is not None and (isinstance(expires, bool) or not isinstance(expires, int)):
        return None, ProtocolError(f"the answer to {SUBJECT} has a bad expires")
    return data, None
