"""The device learns from its own clicks. Only `samples` sends something: a query for samples."""
