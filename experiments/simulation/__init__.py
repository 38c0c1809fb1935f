"""Simulated devices over named networks, and the report: cost and gain of the correction."""
