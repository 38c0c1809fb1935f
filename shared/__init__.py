"""What the device and the cloud agree on: schemas, the wire format, errors.

Imports neither side, nor torch, fastapi or onnxruntime.
"""
