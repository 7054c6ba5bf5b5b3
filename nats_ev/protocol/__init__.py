"""The NATS protocol without I/O: bytes in, events out; commands in, bytes out."""
