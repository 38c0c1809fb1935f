"""Opens a graph of a bundle in ONNX Runtime, for a device: one thread, little memory."""

import onnxruntime as ort


def open_graph(path: str, *, lean: bool = False) -> ort.InferenceSession:
    """Opens a graph for one thread; `lean` takes less memory for large ones, and longer."""
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1  # thread pools ignore a container's CPU limit
    options.inter_op_num_threads = 1
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    # For graphs this small, the arena and the reuse of buffers cost 2 µs of 40.
    options.enable_mem_pattern = not lean
    options.enable_cpu_mem_arena, options.enable_mem_reuse = lean, lean
    options.add_session_config_entry("session.disable_prepacking", "1" if lean else "0")
    options.log_severity_level = 3
    return ort.InferenceSession(path, options, providers=["CPUExecutionProvider"])
