"""The device learns from its own clicks; nothing in here sends anything."""
