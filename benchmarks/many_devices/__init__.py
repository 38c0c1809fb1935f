"""Many devices at once, in open loop, against other ways to serve the same GCN."""
