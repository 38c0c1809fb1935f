"""Runs the cloud like `cloud-service serve`, with one more address: /nodelay answers whether
TCP_NODELAY is set on the connection of the request."""

import os
import socket
from pathlib import Path

from cloud_service.bootstrap import build_app, build_services, server
from cloud_service.settings import load_settings


def nodelay_of(peer: tuple[str, int]) -> int:
    for path in Path("/proc/self/fd").iterdir():
        try:
            with socket.socket(fileno=os.dup(int(path.name))) as copy:
                if copy.getpeername() == peer:
                    return copy.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
        except OSError:
            continue  # not a socket, or not a connected one
    return -1


def main() -> None:
    settings = load_settings(port=0)
    services = build_services(settings)
    app = build_app(settings, services)

    async def probed(scope, receive, send):
        if scope["type"] != "http" or scope["path"] != "/nodelay":
            await app(scope, receive, send)
            return
        body = str(nodelay_of(tuple(scope["client"]))).encode()
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": body})

    server(probed, settings, services).run()


if __name__ == "__main__":
    main()
