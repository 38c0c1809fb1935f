"""The contract between device and cloud: schemas, the wire format, the graphs, errors.

Imports neither side, nor torch, fastapi or onnxruntime.
"""
