"""The cloud over HTTP."""
