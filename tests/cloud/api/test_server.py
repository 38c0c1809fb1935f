"""The server, started as a process, on real sockets."""

import os
import signal
import socket
import subprocess
import sys
from contextlib import ExitStack
from pathlib import Path

import httpx
import pytest

from tests.instruments.processes import BIN, listening, running

pytestmark = pytest.mark.slow

TOKEN = "a-token-of-these-tests"
SCRIPT = Path(__file__).with_name("probed_server.py")


def environment(**settings):
    environment = {
        name: value for name, value in os.environ.items() if not name.startswith("CLOUD_")
    }
    return environment | settings


@pytest.fixture(scope="module")
def address(tmp_path_factory):
    folder = tmp_path_factory.mktemp("server")
    output = folder / "output"
    settings = {
        "CLOUD_STORE": str(folder / "store"),
        "CLOUD_MAX_JSON_BYTES": "1024",
        "CLOUD_ADMIN_TOKEN": TOKEN,
    }
    with running([sys.executable, str(SCRIPT)], output, **settings) as process:
        yield listening(process, output)
    assert process.returncode in (0, -signal.SIGTERM)
    assert "Traceback" not in output.read_text()


def test_accepted_connections_do_not_wait_for_more_bytes(address):
    with httpx.Client(base_url=address, trust_env=False) as http:
        for _ in range(2):
            assert http.get("/nodelay").text == "1"


def raw(address, request):
    host, port = address.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port)), 5) as line:
        line.sendall(request)
        received = b""
        while chunk := line.recv(65536):
            received += chunk
    return received


def test_a_chunked_body_over_the_limit_is_refused_and_the_line_closed(address):
    head = b"POST /v1/jobs HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n"
    received = raw(address, head + b"400\r\n" + b"x" * 1024 + b"\r\n" + b"1\r\nx\r\n")
    assert received.startswith(b"HTTP/1.1 413 ")
    assert b"problem:request-too-large" in received


def test_a_length_over_the_limit_is_refused_before_the_body_is_sent(address):
    received = raw(
        address, b"POST /v1/jobs HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1025\r\n\r\n"
    )
    assert received.startswith(b"HTTP/1.1 413 ")


@pytest.mark.parametrize(
    "sent", [b"\x16\x03\x01\x02\0", b"BREW /tea HTTP/1.1", b"POST / HTTP/1.1\r\nContent-Length: -1"]
)
def test_what_is_no_http_is_refused_with_a_problem_and_the_line_closed(address, sent):
    received = raw(address, sent + b"\r\n\r\n")
    assert received.startswith(b"HTTP/1.1 400 Bad Request\r\n")
    assert b"content-type: application/problem+json\r\n" in received
    assert b"problem:bad-http" in received


@pytest.mark.parametrize("protocol", [b"h2c", b"websocket"])
def test_a_wish_for_another_protocol_is_ignored_and_the_body_read(address, protocol):
    """The HTTP client of Java sends Upgrade with every request without TLS."""
    head = (
        b"POST /v1/jobs HTTP/1.1\r\nHost: localhost\r\nUpgrade: %s\r\n"
        b"Connection: Upgrade, HTTP2-Settings, close\r\nHTTP2-Settings: AAMAAABkAAQAAP__\r\n"
        b"Authorization: Bearer " + TOKEN.encode() + b"\r\n"
        b"Content-Type: application/json\r\nContent-Length: 2\r\n\r\n"
    )
    assert raw(address, head % protocol + b"{}").startswith(b"HTTP/1.1 201 ")


def test_one_connection_too_many_is_refused_with_a_problem_that_says_when_to_come_back(tmp_path):
    limit = {"CLOUD_STORE": str(tmp_path / "store"), "CLOUD_MAX_CONNECTIONS": "4"}
    with running(["cloud-service", "serve", "--port", "0"], tmp_path / "log", **limit) as process:
        address = listening(process, tmp_path / "log")
        host, port = address.removeprefix("http://").split(":")
        lines = [socket.create_connection((host, int(port)), 5) for _ in range(4)]
        for line in lines:
            line.sendall(b"GET /health HTTP/1.1\r\nHost: x\r\n\r\n")
        received = raw(address, b"GET /v1/models HTTP/1.1\r\nHost: x\r\n\r\n")
        for line in lines:
            line.close()
    assert received.startswith(b"HTTP/1.1 503 Service Unavailable\r\n")
    assert b"retry-after: 1\r\n" in received
    assert b"problem:too-many-connections" in received


def test_admin_calls_on_a_real_connection_need_the_token(address):
    with httpx.Client(base_url=address, trust_env=False) as http:
        assert http.post("/v1/jobs", json={}).status_code == 401
        admin = {"authorization": f"Bearer {TOKEN}"}
        assert http.post("/v1/jobs", json={}, headers=admin).status_code == 201


def test_the_server_does_not_name_itself(address):
    assert "server" not in httpx.get(f"{address}/health", trust_env=False).headers


def test_serving_needs_neither_torch_nor_a_dataframe_library():
    code = (
        "import sys\n"
        "from cloud_service.bootstrap import build_app, server\n"
        "import cloud_service.cli\n"
        "heavy = {'torch', 'polars', 'onnx', 'onnxscript', 'onnx_ir'} & set(sys.modules)\n"
        "sys.exit(', '.join(sorted(heavy)) or 0)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment(), capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr


def test_more_devices_connect_than_the_process_may_have_files_open_at_first(tmp_path):
    log, serve = tmp_path / "output", f"exec '{BIN / 'cloud-service'}' serve --port 0"
    command = ["/bin/sh", "-c", f"ulimit -S -n 64 && {serve}"]
    with (
        running(command, log, CLOUD_STORE=str(tmp_path / "store")) as process,
        ExitStack() as lines,
    ):
        host, port = listening(process, log).removeprefix("http://").split(":")
        for _ in range(100):
            extra = lines.enter_context(socket.create_connection((host, int(port)), 10))
        extra.sendall(b"GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n")
        assert extra.recv(65536).startswith(b"HTTP/1.1 200 ")
