"""The server's HTTP layer: connections, their limits, and problem documents."""
