"""What the machine allows: epoll, bare sockets and the GCN. No HTTP but its look, no checks, no
deadline, nothing shed, one model.

python bare.py PORT
"""

import select
import socket
import sys
from contextlib import suppress

from onnx_gcn import GCN

BATCH = 32
BODY = 2560
HEAD = b"HTTP/1.1 200 OK\r\ncontent-length: 4160\r\n\r\n"


def main() -> None:
    """Answers all that one look at the sockets brings, in batches."""
    gcn, poll = GCN(), select.epoll()
    listener = socket.create_server(("127.0.0.1", int(sys.argv[1])), backlog=1024)
    poll.register(listener, select.EPOLLIN)
    open_sockets: dict[int, socket.socket] = {}
    halves: dict[socket.socket, bytes] = {}
    while True:
        pending: list[tuple[socket.socket, bytes]] = []
        for descriptor, _ in poll.poll():
            if descriptor == listener.fileno():
                sock, _ = listener.accept()
                sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                open_sockets[sock.fileno()] = sock
                poll.register(sock, select.EPOLLIN)
                continue
            sock = open_sockets[descriptor]
            try:
                data = sock.recv(8192)
            except OSError:
                data = b""
            if not data:
                open_sockets.pop(descriptor).close()
                continue
            data = halves.pop(sock, b"") + data
            if len(data) > BODY:
                pending.append((sock, data[-BODY:]))
            else:
                halves[sock] = data
        for at in range(0, len(pending), BATCH):
            batch = pending[at : at + BATCH]
            answers = gcn.correct([body for _, body in batch])
            for (sock, _), answer in zip(batch, answers, strict=True):
                with suppress(OSError):  # reset: the next look at it says so
                    sock.send(HEAD + answer)


if __name__ == "__main__":
    main()
