"""A cloud of the tests' own: a real socket that answers as a test says."""

import hashlib
import json
import shutil
import socket
import ssl
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest

from shared.wire import FORMS, VERSION_HEADER, Form
from tests.instruments.fault_proxy import accepted


class FakeCloud:
    """Listens on a real port; `reply` turns each request's bytes into what is sent back.

    `reply` may give None to close without an answer, and may sleep. With `certificate`, it speaks
    TLS.
    """

    def __init__(
        self, reply: Callable[[bytes], bytes | None], certificate: Path | None = None
    ) -> None:
        self.reply, self.requests, self.connections = reply, [], 0
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}"
        self._tls = None
        if certificate is not None:
            self.url = f"https://127.0.0.1:{self.port}"
            self._tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            self._tls.load_cert_chain(certificate)
        self._open: list[socket.socket] = []
        self._thread = threading.Thread(target=self._accept, daemon=True)
        self._thread.start()

    def close(self) -> None:
        with suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for sock in self._open:
            sock.close()

    def _accept(self) -> None:
        for sock in accepted(self._listener):
            self._open.append(sock)
            self.connections += 1
            threading.Thread(target=self._serve, args=(sock,), daemon=True).start()

    def _serve(self, sock: socket.socket) -> None:
        buffer = b""
        try:
            if self._tls is not None:
                sock = self._tls.wrap_socket(sock, server_side=True)
                self._open.append(sock)
            while data := sock.recv(65536):
                buffer += data
                head, mark, body = buffer.partition(b"\r\n\r\n")
                if not mark:
                    continue
                length = int(head.lower().split(b"content-length: ")[1].split(b"\r\n")[0])
                if len(body) < length:
                    continue
                buffer = body[length:]
                self.requests.append((head, body[:length]))
                answer = self.reply(body[:length])
                if answer is None:
                    return
                sock.sendall(answer)
        except OSError:
            return
        finally:
            sock.close()  # `close` may have run before this connection was accepted


def answer(
    body: bytes,
    *,
    version: str,
    status: str = "200 OK",
    form: Form = "row",
    headers: dict[str, str] | None = None,
) -> bytes:
    """An HTTP answer as the cloud gives it."""
    lines = {
        "content-type": FORMS[form].correction_type,
        VERSION_HEADER: version,
        "server-timing": "queue;dur=0.020, gcn;dur=0.110",
        "content-length": str(len(body)),
    } | (headers or {})
    head = "".join(f"{name}: {value}\r\n" for name, value in lines.items() if value)
    return f"HTTP/1.1 {status}\r\n{head}\r\n".encode() + body


@pytest.fixture
def fake_cloud():
    """Makes fake clouds that are closed after the test."""
    made = []

    def make(reply: Callable[[bytes], bytes | None], certificate: Path | None = None) -> FakeCloud:
        made.append(FakeCloud(reply, certificate))
        return made[-1]

    yield make
    for cloud in made:
        cloud.close()


@pytest.fixture
def eventually():
    """Waits until a condition holds, 5 s at most."""

    def wait(condition: Callable[[], bool]) -> None:
        deadline = time.monotonic() + 5
        while not condition():
            assert time.monotonic() < deadline, "it did not happen within 5 s"
            time.sleep(0.002)

    return wait


CERTIFICATE = Path(__file__).with_name("localhost.pem")
"""For localhost and 127.0.0.1, signed by itself."""


@pytest.fixture(autouse=True)
def no_proxies_from_outside(monkeypatch):
    """The environment's proxies are none of the tests', unless they set one."""
    for name in ("http_proxy", "https_proxy", "all_proxy", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)


def numbered(row: int) -> int:
    """The integer that is the catalogue id of a row of `integer_bundle`: never the row itself."""
    return 1007 + 10 * row


@pytest.fixture(scope="session")
def integer_bundle(small_bundle, tmp_path_factory):
    """The small bundle with integers for catalogue ids, as most logs have them."""
    folder = tmp_path_factory.mktemp("integers") / "bundle"
    shutil.copytree(small_bundle, folder)
    manifest = json.loads((folder / "manifest.json").read_text())
    ids = [str(numbered(row)).encode() for row in range(1, manifest["items"] + 1)]
    np.save(folder / "item_ids.npy", np.array(ids))
    raw = (folder / "item_ids.npy").read_bytes()
    for entry in manifest["files"]:
        if entry["name"] == "item_ids.npy":
            entry.update(size=len(raw), sha256=hashlib.sha256(raw).hexdigest())
    (folder / "manifest.json").write_text(json.dumps(manifest))
    return folder
