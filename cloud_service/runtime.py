"""ONNX Runtime as it is used everywhere here: one thread, no spinning."""

import onnxruntime as ort


def open_session(graph: bytes | str) -> ort.InferenceSession:
    """A session on the CPU from ONNX bytes or a path. Thread pools ignore a container's limits."""
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    options.inter_op_num_threads = 1
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    options.log_severity_level = 3
    return ort.InferenceSession(graph, options, providers=["CPUExecutionProvider"])
