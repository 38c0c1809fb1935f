"""The HTTP API of the cloud."""
