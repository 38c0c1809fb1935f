"""The cloud."""
