"""Exports trained models to ONNX graphs, and counts what a graph costs."""
