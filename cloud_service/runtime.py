"""Opens ONNX Runtime sessions: one thread, no spinning."""

import ctypes
from contextlib import suppress

import onnxruntime as ort


def open_session(graph: bytes | str) -> ort.InferenceSession:
    """Opens a CPU session from ONNX bytes or a path.

    It has one thread, because the default thread pool ignores the CPU limit of a container.
    """
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    options.inter_op_num_threads = 1
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    options.log_severity_level = 3
    return ort.InferenceSession(graph, options, providers=["CPUExecutionProvider"])


def give_back_memory() -> None:
    """Returns the memory of closed sessions to the system; glibc would keep it."""
    with suppress(AttributeError, OSError):  # not every C library has this function
        ctypes.CDLL(None).malloc_trim(0)
