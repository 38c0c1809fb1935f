"""Simulated devices over named networks, and the report of what a correction cost and was worth."""
