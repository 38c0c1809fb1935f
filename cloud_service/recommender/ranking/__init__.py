"""Evaluation of rankings: metrics, significance, and the metrics of a random ranking."""
