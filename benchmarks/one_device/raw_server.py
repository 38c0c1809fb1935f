"""The yardstick: reads H, runs the GCN, writes the correction. No HTTP, no checks, one client.

python -m benchmarks.one_device.raw_server GRAPH.onnx HIDDEN_BYTES   prints its port
"""

import socket
import sys

import numpy as np

from cloud_service.runtime import open_session


def main() -> None:
    """Serves one connection after another."""
    session, size = open_session(sys.argv[1]), int(sys.argv[2])
    shape = tuple(1 if isinstance(n, str) else n for n in session.get_inputs()[0].shape)
    buffer = bytearray(size)
    view, hidden = memoryview(buffer), np.frombuffer(buffer, np.float32).reshape(shape)
    listener = socket.create_server(("127.0.0.1", 0))
    print(listener.getsockname()[1], flush=True)
    while True:
        sock, _ = listener.accept()
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        while _filled(sock, view):
            attn, bias = session.run(None, {"hidden": hidden})
            sock.sendall(attn.tobytes() + bias.tobytes())


def _filled(sock: socket.socket, view: memoryview) -> bool:
    have = 0
    while have < len(view):
        count = sock.recv_into(view[have:])
        if not count:
            return False
        have += count
    return True


if __name__ == "__main__":
    main()
