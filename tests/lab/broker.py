"""A broker of one connection, for `FakeServer`: it delivers to a client what the client publishes.

A real server takes no message whose reply subject is a consumer's. This one delivers any message, and says
that it is as new as the newest server, so no feature is refused.
"""

from __future__ import annotations

from typing import Any


def matches(pattern: str, subject: str) -> bool:
    """Return whether a subscription's subject covers a message's."""
    wanted, tokens = pattern.split("."), subject.split(".")
    for number, token in enumerate(wanted):
        if token == ">":
            return len(tokens) > number
        if number >= len(tokens) or token not in ("*", tokens[number]):
            return False
    return len(wanted) == len(tokens)


def broker(peer: Any, **info: Any) -> None:
    """Serve one connection until the client closes it; info are fields of INFO that differ."""
    peer.send_info(**info)
    peer.sock.settimeout(60)
    subscriptions: dict[str, str] = {}
    left: dict[str, int] = {}
    try:
        while True:
            verb, _, rest = peer.line().partition(" ")
            words = rest.split()
            if verb == "PING":
                peer.send("PONG\r\n")
            elif verb == "SUB":
                subscriptions[words[-1]] = words[0]
            elif verb == "UNSUB":
                if len(words) == 1:
                    subscriptions.pop(words[0], None)
                else:
                    left[words[0]] = int(words[1])
            elif verb in ("PUB", "HPUB"):
                _deliver(peer, verb, words, subscriptions, left)
    except (EOFError, OSError):
        return


def _deliver(
    peer: Any, verb: str, words: list[str], subscriptions: dict[str, str], left: dict[str, int]
) -> None:
    payload = peer.payload(int(words[-1]))
    sizes = 2 if verb == "HPUB" else 1
    subject, reply, numbers = words[0], words[1:-sizes], words[-sizes:]
    takers = [sid for sid, pattern in subscriptions.items() if matches(pattern, subject)]
    for sid in takers:
        line = " ".join([verb.replace("PUB", "MSG"), subject, sid, *reply, *numbers])
        peer.send(line.encode() + b"\r\n" + payload + b"\r\n")
        if sid in left:
            left[sid] -= 1
            if not left[sid]:
                subscriptions.pop(sid)
    if not takers and reply:  # nobody listens: the requester learns of it
        block = "NATS/1.0 503\r\n\r\n"
        for sid, pattern in subscriptions.items():
            if matches(pattern, reply[0]):
                peer.send(f"HMSG {reply[0]} {sid} {len(block)} {len(block)}\r\n{block}\r\n")
