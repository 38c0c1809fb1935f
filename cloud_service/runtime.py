"""ONNX Runtime as it is used everywhere here: one thread, no spinning."""

import ctypes
from contextlib import suppress

import onnxruntime as ort


def open_session(graph: bytes | str) -> ort.InferenceSession:
    """A session on the CPU from ONNX bytes or a path. Thread pools ignore a container's limits."""
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    options.inter_op_num_threads = 1
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    options.log_severity_level = 3
    return ort.InferenceSession(graph, options, providers=["CPUExecutionProvider"])


def give_back_memory() -> None:
    """Returns to the system what closed sessions left: glibc keeps it otherwise, for the thread
    that took it."""
    with suppress(AttributeError, OSError):  # another C library has no such call
        ctypes.CDLL(None).malloc_trim(0)
