"""One client's connections: server pool, attempts, handshake, keep-alive, loss."""
