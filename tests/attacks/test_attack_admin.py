"""Admin calls through a proxy or a forwarder on the cloud's machine still need the token."""

import http.client
import http.server
import os
import socket
import stat
import subprocess
import threading
from contextlib import contextmanager, suppress

import httpx
import pytest

from cloud_service.admin_token import TOKEN_FILE
from tests.instruments.processes import BIN, listening, running

pytestmark = pytest.mark.slow(10)

SERVE = ["cloud-service", "serve", "--port", "0"]
ADMIN_CALLS = [
    "/v1/jobs", "/v1/jobs/x/cancel", "/v1/models/0123456789abcdef/promote",
    "/v1/models/0123456789abcdef/retire",
]  # fmt: skip


class Cloud:
    """A cloud that was started without settings except its folder."""

    def __init__(self, folder, url):
        self.folder, self.url = folder, url
        self.port = int(url.rpartition(":")[2])
        self.token = (folder / "store" / TOKEN_FILE).read_text().strip()


@pytest.fixture(scope="module")
def cloud(tmp_path_factory):
    folder = tmp_path_factory.mktemp("quickstart")
    log = folder / "log"
    with running(SERVE, log, CLOUD_STORE=str(folder / "store"), CLOUD_LOG_LEVEL="debug") as process:
        served = Cloud(folder, listening(process, log))
        yield served
    assert served.token not in log.read_text()


@contextmanager
def forwarder(port):
    """Runs a TCP forwarder for one connection at a time; yields its port."""
    listener = socket.create_server(("127.0.0.1", 0))

    def pass_on(source, target):
        with suppress(OSError):
            while data := source.recv(65536):
                target.sendall(data)
            target.shutdown(socket.SHUT_WR)

    def serve():
        while True:
            try:
                line, _ = listener.accept()
            except OSError:
                return
            with line, socket.create_connection(("127.0.0.1", port)) as up:
                back = threading.Thread(target=pass_on, args=(up, line))
                back.start()
                pass_on(line, up)
                back.join()

    thread = threading.Thread(target=serve)
    thread.start()
    try:
        yield listener.getsockname()[1]
    finally:
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()
        thread.join()


@contextmanager
def reverse_proxy(port):
    """Runs a reverse proxy that changes only Host and Connection; yields its port."""

    class Passing(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self):  # the base class's name
            body = self.rfile.read(int(self.headers.get("content-length", "0")))
            headers = {
                k: v for k, v in self.headers.items() if k.lower() not in ("host", "connection")
            }
            up = http.client.HTTPConnection("127.0.0.1", port)
            up.request(self.command, self.path, body, headers)
            answer = up.getresponse()
            content = answer.read()
            up.close()
            self.send_response(answer.status)
            self.send_header("content-length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *_):
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Passing)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield server.server_address[1]
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


NAMES = ["localhost", "127.0.0.1", "localhost:8000", "[::1]", "cloud.example"]


@pytest.mark.parametrize("proxy", [forwarder, reverse_proxy])
@pytest.mark.parametrize("path", ADMIN_CALLS)
def test_an_admin_call_through_a_neighbour_of_the_cloud_needs_the_token(cloud, proxy, path):
    with proxy(cloud.port) as port, httpx.Client(trust_env=False) as line:
        url = f"http://127.0.0.1:{port}{path}"
        for name in NAMES:
            answer = line.post(url, json={}, headers={"host": name, "connection": "close"})
            assert answer.status_code == 401, name
        # That a page of the neighbour's own sends it makes no difference.
        pretended = {"origin": "http://localhost", "x-forwarded-for": "127.0.0.1"}
        answer = line.post(url, json={}, headers=pretended | {"connection": "close"})
        assert answer.status_code == 401
    assert httpx.get(f"{cloud.url}/v1/jobs", trust_env=False).json() == []


@pytest.mark.parametrize("path", ADMIN_CALLS)
def test_nor_does_the_machine_itself_pass_without_it(cloud, path):
    assert httpx.post(cloud.url + path, json={}, trust_env=False).status_code == 401
    near = {"authorization": f"Bearer {cloud.token[:-1]}"}
    assert httpx.post(cloud.url + path, json={}, headers=near, trust_env=False).status_code == 401


@pytest.mark.parametrize("proxy", [forwarder, reverse_proxy])
def test_with_the_token_every_way_is_open(tmp_path, proxy):
    log = tmp_path / "log"
    with running(SERVE, log, CLOUD_STORE=str(tmp_path / "store")) as process:
        served = Cloud(tmp_path, listening(process, log))
        headers = {"authorization": f"Bearer {served.token}", "connection": "close"}
        with proxy(served.port) as port, httpx.Client(trust_env=False) as line:
            answer = line.post(f"http://127.0.0.1:{port}/v1/jobs", json={}, headers=headers)
    assert answer.status_code == 201


def submitted(folder, url, **settings):
    """Runs `cloud-service jobs submit` in `folder`."""
    outside = {k: v for k, v in os.environ.items() if not k.startswith("CLOUD_")}
    return subprocess.run(
        [str(BIN / "cloud-service"), "jobs", "submit", "--url", url, "--epochs", "1"],
        cwd=folder, env=outside | settings, capture_output=True, text=True, check=False,
    )  # fmt: skip


def test_the_quick_start_is_two_commands(tmp_path, monkeypatch):
    """Both commands run in the same folder, without settings."""
    monkeypatch.chdir(tmp_path)
    log = tmp_path / "log"
    with running(SERVE, log) as process:
        url = listening(process, log)
        done = submitted(tmp_path, url)
        assert done.returncode == 0, done.stderr
        (job,) = httpx.get(f"{url}/v1/jobs", trust_env=False).json()
        assert done.stdout.strip() == job["id"]
        assert "store/admin-token" in log.read_text()
        elsewhere = tmp_path / "elsewhere"
        elsewhere.mkdir()
        done = submitted(elsewhere, url)
        assert done.returncode == 2
        assert "there is no store/admin-token: name the cloud's folder with --store" in done.stderr
        done = submitted(elsewhere, url, CLOUD_STORE=str(tmp_path / "store"))
        assert done.returncode == 0, done.stderr
        done = submitted(tmp_path, url, CLOUD_ADMIN_TOKEN="a-wrong-token-that-wins")
        assert done.returncode == 2
        assert "(401 unauthorized)" in done.stderr


def test_the_token_outlives_the_cloud_and_is_for_its_owner_alone(tmp_path):
    tokens = []
    for start in range(2):
        log = tmp_path / f"log{start}"
        with running(SERVE, log, CLOUD_STORE=str(tmp_path / "store")) as process:
            tokens.append(Cloud(tmp_path, listening(process, log)).token)
    assert tokens[0] == tokens[1]
    assert stat.S_IMODE((tmp_path / "store" / TOKEN_FILE).stat().st_mode) == 0o600


def test_a_cloud_does_not_start_on_a_token_that_others_can_read(tmp_path):
    store = tmp_path / "store"
    store.mkdir()
    (store / TOKEN_FILE).write_text("a-token-that-is-long-enough\n")
    (store / TOKEN_FILE).chmod(0o644)
    outside = {k: v for k, v in os.environ.items() if not k.startswith("CLOUD_")}
    done = subprocess.run(
        [str(BIN / "cloud-service"), *SERVE[1:]], env=outside | {"CLOUD_STORE": str(store)},
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert done.returncode == 2
    (line,) = done.stderr.splitlines()
    assert line.startswith("cloud-service: ")
    assert "is open to other users (mode 0644)" in line
    assert "a-token-that-is-long-enough" not in line
