"""Benchmark of WebSocket: nats_ev, nats-py (on aiohttp) and nats.js, on one private server.

Rows, turns, checks and report are those of `benchmark.py`. The first client is nats_ev; the ratio after each
other client says how many times as fast nats_ev over WebSocket is. nats_ev also runs with masked frames,
with compression, over TLS, and without WebSocket. nats-py has no row of large messages. nats.js needs
Node.js and what `make peers` has fetched.

    python bench/bench_ws.py [--runs 5] [--messages 200000] [--payload 100] [--clients "ev ws,py ws"]
"""

from __future__ import annotations

import os
import platform
import shutil
import sys
import tempfile
from pathlib import Path

from benchmark import IN_FLIGHT, Client, Row, parse_args, report, run_once, traffic

from lab.natsserver import NatsServer
from lab.paths import CACHE
from nats_ev.testing.certificates import Certificates

EV = [sys.executable, "client_nats_ev.py"]
PY = [sys.executable, "client_nats_py.py"]


def with_nats_js(url: str) -> list[Client]:
    """Return the client nats.js if it can run here; say on stderr if not."""
    modules, node = CACHE / "js", shutil.which("node")
    if node is None or not (modules / "node_modules" / "@nats-io" / "nats-core").is_dir():
        print("nats.js is not there: Node.js, and make peers", file=sys.stderr)
        return []
    # Before Node.js 22 its WebSocket has to be asked for; later ones know the flag, too.
    command = ["env", f"BENCH_URL={url}", f"BENCH_MODULES={modules}", node]
    return [Client("js ws", "", [*command, "--experimental-websocket", "client_nats_js.mjs"])]


def main(argv: list[str] | None = None) -> int:
    """Run the benchmark and return the exit status: 1 if nats_ev has lost or mixed up a message."""
    args = parse_args(argv)
    rows = [
        Row("PUB + flush", "pub", args.messages, args.payload),
        Row("PUB + SUB on one connection", "pubsub", args.messages, args.payload),
        Row("PUB + SUB on one connection", "pubsub", max(2, args.messages // 50), 64 * 1024),
        Row(f"REQ/REP, {IN_FLIGHT} in flight", "request", args.requests, args.payload),
    ]
    with tempfile.TemporaryDirectory() as folder:
        for name in ("BENCH_TLS_CA", "BENCH_URL", "BENCH_MASKED", "BENCH_COMPRESSED"):
            os.environ.pop(name, None)
        certs = Certificates(Path(folder))
        secure = NatsServer(tls=certs, websocket=True)
        with NatsServer(websocket=True) as clear, secure as encrypted:
            ws = ["env", f"BENCH_URL={clear.ws_url}"]
            wss = ["env", f"BENCH_URL={encrypted.ws_url}", f"BENCH_TLS_CA={certs.ca.cert_file}"]
            pairs = [
                (Client("ev ws", "", [*ws, *EV]), clear),
                (Client("ev masked", "", [*ws, "BENCH_MASKED=1", *EV]), clear),
                (Client("ev deflate", "", [*ws, "BENCH_COMPRESSED=1", *EV]), clear),
                (Client("ev wss", "", [*wss, *EV]), encrypted),
                (Client("ev tcp", "", EV), clear),
                (Client("py ws", "", [*ws, *PY]), clear),
                *((client, clear) for client in with_nats_js(clear.ws_url)),
            ]
            if args.clients:
                pairs = [pair for pair in pairs if pair[0].name in args.clients.split(",")]
            print(f"nats-server {'.'.join(map(str, clear.version))}; Python", end=" ")
            print(f"{platform.python_version()}; {args.runs} runs: median (least … most)")
            for number in range(args.runs):
                turn = number % len(pairs)
                for row in rows:
                    for client, server in pairs[turn:] + pairs[:turn]:
                        if row.payload > args.payload and client.name == "py ws":
                            continue  # it stalls now and then with 16 MiB on the way
                        before = traffic(server)
                        result = run_once(client, row, server.host, server.port)
                        seen = tuple(b - a for a, b in zip(before, traffic(server), strict=True))
                        result["lost"] = int(seen != row.expected(row.payload))
                        row.results.setdefault(client.name, []).append(result)
    clients = [client for client, _ in pairs]
    for row in rows:
        report([row], [client for client in clients if client.name in row.results])
    ours = [
        r for row in rows for name, found in row.results.items() if name[:2] == "ev" for r in found
    ]
    return int(any(result["wrong"] or result["lost"] for result in ours))


if __name__ == "__main__":
    sys.exit(main())
