"""Sockets, TLS and time on an event loop. Knows nothing of NATS."""
