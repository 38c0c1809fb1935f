"""The server's connections: limits, admission, problems."""
