"""Benchmark of TLS: nats_ev in clear text and under TLS, and nats-py under TLS, on two private servers.

Rows, turns, checks and report are those of `benchmark.py`. The first client is nats_ev under TLS; the
ratio after each other client says how many times as fast nats_ev under TLS is.

    python bench/bench_tls.py [--runs 5] [--messages 200000] [--payload 100]
"""

from __future__ import annotations

import os
import platform
import ssl
import sys
import tempfile
from pathlib import Path

from benchmark import IN_FLIGHT, Client, Row, parse_args, report, run_once, traffic

from lab.natsserver import NatsServer
from nats_ev.testing.certificates import Certificates, server_config


def main(argv: list[str] | None = None) -> int:
    """Run the benchmark and return the exit status: 1 if nats_ev has lost or mixed up a message."""
    args = parse_args(argv)
    rows = [
        Row("PUB + flush", "pub", args.messages, args.payload),
        Row("PUB + SUB on one connection", "pubsub", args.messages, args.payload),
        Row("PUB + SUB on one connection", "pubsub", args.messages, 8),
        Row("PUB + SUB on one connection", "pubsub", max(2, args.messages // 50), 64 * 1024),
        Row(f"REQ/REP, {IN_FLIGHT} in flight", "request", args.requests, args.payload),
    ]
    with tempfile.TemporaryDirectory() as folder:
        certs = Certificates(Path(folder))
        config = server_config(certs.issue("bench", "127.0.0.1"), timeout=5)
        os.environ.pop("BENCH_TLS_CA", None)
        under_tls = ["env", f"BENCH_TLS_CA={certs.ca.cert_file}"]
        with NatsServer(config=config) as encrypted, NatsServer() as clear:
            pairs = [
                (
                    Client("ev TLS", "", [*under_tls, sys.executable, "client_nats_ev.py"]),
                    encrypted,
                ),
                (Client("ev clear", "", [sys.executable, "client_nats_ev.py"]), clear),
                (
                    Client("py TLS", "", [*under_tls, sys.executable, "client_nats_py.py"]),
                    encrypted,
                ),
            ]
            print(f"nats-server {'.'.join(map(str, clear.version))}; {ssl.OPENSSL_VERSION};")
            print(f"Python {platform.python_version()}; {args.runs} runs: median (least … most)")
            for number in range(args.runs):
                turn = number % len(pairs)
                for row in rows:
                    for client, server in pairs[turn:] + pairs[:turn]:
                        before = traffic(server)
                        result = run_once(client, row, server.host, server.port)
                        seen = tuple(b - a for a, b in zip(before, traffic(server), strict=True))
                        result["lost"] = int(seen != row.expected(row.payload))
                        row.results.setdefault(client.name, []).append(result)
    clients = [client for client, _ in pairs]
    report(rows, clients)
    ours = [result for row in rows for result in row.results["ev TLS"]]
    return int(any(result["wrong"] or result["lost"] for result in ours))


if __name__ == "__main__":
    sys.exit(main())
