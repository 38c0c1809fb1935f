"""The device learns from its user's clicks (DCCL, CoDA)."""
