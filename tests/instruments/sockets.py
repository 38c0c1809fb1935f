"""What tests share that talk through sockets of their own."""

from shared.wire import FULL_TYPE, HIDDEN_TYPE, correction_path


def request(
    version: str,
    body: bytes,
    *lines: str,
    accept: str = FULL_TYPE,
    kind: str = HIDDEN_TYPE,
    length: int = 2560,
) -> bytes:
    """A device's request with that H, and more header lines."""
    head = [
        f"POST {correction_path(version)} HTTP/1.1",
        "Host: x",
        f"Accept: {accept}",
        f"Content-Type: {kind}",
        f"Content-Length: {length}",
        *lines,
    ]
    return "\r\n".join([*head, "", ""]).encode() + body
