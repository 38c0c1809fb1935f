"""The environment's proxy: one rule for bundles, for corrections, and for `cloud-service`."""

import socket
import threading
from contextlib import suppress

import numpy as np
import pytest

from device_client import Budget, Bundle, CorrectionLink, Outcome, Session
from device_client.cli import entry, main
from device_client.cloud import Cloud, CloudError
from device_client.scn import Graphs
from shared.errors import UnusableProxy
from tests.device.conftest import CERTIFICATE, answer
from tests.instruments.fault_proxy import accepted

CANDIDATES = np.arange(1, 61)
PATIENT = Budget(tolerance_ms=5_000, request_timeout_s=5)


class TinyProxy:
    """An HTTP proxy: takes CONNECT, and requests with a whole address; every name is 127.0.0.1."""

    def __init__(self, reply: bytes | None = None) -> None:
        """`reply`: sent in place of doing anything."""
        self.heads, self._reply = [], reply
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.where = f"127.0.0.1:{self._listener.getsockname()[1]}"
        self._open: list[socket.socket] = []
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self) -> None:
        with suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        for sock in [self._listener, *self._open]:
            with suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)
            sock.close()

    def _accept(self) -> None:
        for sock in accepted(self._listener):
            self._open.append(sock)
            threading.Thread(target=self._serve, args=(sock,), daemon=True).start()

    def _serve(self, sock: socket.socket) -> None:
        with suppress(OSError, IndexError, ValueError):
            data = b""
            while b"\r\n\r\n" not in data:
                part = sock.recv(65536)
                if not part:
                    return
                data += part
            self.heads.append(data.partition(b"\r\n\r\n")[0])
            if self._reply is not None:
                sock.sendall(self._reply)
                sock.shutdown(socket.SHUT_WR)
                return
            method, target, _ = data.split(b" ", 2)
            port = int(target.removeprefix(b"http://").split(b"/")[0].rpartition(b":")[2])
            cloud = socket.create_connection(("127.0.0.1", port))
            self._open.append(cloud)
            if method == b"CONNECT":
                sock.sendall(b"HTTP/1.1 200 Connection established\r\nvia: tiny\r\n\r\n")
            else:
                cloud.sendall(data)
            threading.Thread(target=pipe, args=(cloud, sock), daemon=True).start()
            pipe(sock, cloud)


def pipe(one: socket.socket, other: socket.socket) -> None:
    """What comes from one goes to the other, until it ends."""
    with suppress(OSError):
        while data := one.recv(65536):
            other.sendall(data)
    with suppress(OSError):
        other.shutdown(socket.SHUT_RDWR)


@pytest.fixture
def make_proxy():
    made = []

    def make(reply: bytes | None = None) -> TinyProxy:
        made.append(TinyProxy(reply))
        return made[-1]

    yield make
    for proxy in made:
        proxy.close()


@pytest.fixture(scope="module")
def graphs(small_bundle):
    return Graphs(Bundle.open(small_bundle))


@pytest.fixture
def good(graphs):
    return lambda request: answer(bytes(416), version=graphs.bundle.version)


def ranked(graphs, url, clicks=1):
    """The last ranking after so many clicks."""
    link = CorrectionLink.to(url, graphs.bundle, budget=PATIENT)
    with Session(graphs, link, PATIENT) as session:
        for row in range(1, clicks + 1):
            session.click_row(row)
            ranking = session.rerank_rows(CANDIDATES)
    return ranking


def test_corrections_go_through_a_tunnel_that_is_opened_once(
    graphs, fake_cloud, good, make_proxy, monkeypatch
):
    proxy, cloud = make_proxy(), fake_cloud(good)
    monkeypatch.setenv("HTTP_PROXY", f"http://device:secret@{proxy.where}")
    ranking = ranked(graphs, f"http://cloud.test:{cloud.port}", clicks=5)
    assert (ranking.outcome, ranking.reason) == (Outcome.APPLIED, "")
    (head,) = proxy.heads
    assert head.startswith(b"CONNECT cloud.test:%d HTTP/1.1\r\n" % cloud.port)
    assert b"Proxy-Authorization: Basic ZGV2aWNlOnNlY3JldA==" in head
    assert len(cloud.requests) == 5
    assert all(b"roxy" not in head for head, _ in cloud.requests), "the cloud gets no password"


def test_corrections_under_tls_go_through_the_tunnel_too(
    graphs, fake_cloud, good, make_proxy, monkeypatch
):
    proxy, cloud = make_proxy(), fake_cloud(good, CERTIFICATE)
    monkeypatch.setenv("SSL_CERT_FILE", str(CERTIFICATE))
    monkeypatch.setattr("shared.proxies._is_this_machine", lambda host: False)
    monkeypatch.setenv("HTTPS_PROXY", f"http://{proxy.where}")
    assert ranked(graphs, f"https://localhost:{cloud.port}", clicks=2).outcome is Outcome.APPLIED
    assert len(proxy.heads) == 1


def test_a_cloud_on_this_machine_is_reached_without_the_proxy(
    graphs, fake_cloud, good, make_proxy, monkeypatch
):
    proxy = make_proxy()
    monkeypatch.setenv("HTTP_PROXY", f"http://{proxy.where}")
    assert ranked(graphs, fake_cloud(good).url).outcome is Outcome.APPLIED
    assert proxy.heads == []


def test_a_bundle_is_pulled_by_way_of_the_proxy(served_store, make_proxy, monkeypatch, tmp_path):
    proxy, port = make_proxy(), served_store.rpartition(":")[2]
    monkeypatch.setenv("HTTP_PROXY", f"http://{proxy.where}")
    with Cloud(f"http://cloud.test:{port}") as cloud:
        assert Bundle.open(cloud.pull(tmp_path))
    assert proxy.heads[0].startswith(b"GET http://cloud.test:")


@pytest.mark.parametrize(
    ("reply", "words"),
    [
        (b"HTTP/1.1 407 Proxy Authentication Required\r\n\r\n", "(407 Proxy Authentication Requ"),
        (b"HTTP/1.1 403 Forbidden\r\ncontent-length: 0\r\n\r\n", "(403 Forbidden): let it, or set"),
        (b"SSH-2.0\r\n\r\n", "no HTTP answer"),
        (b"", "no HTTP answer"),
        (b"HTTP/1.1 200 OK\r\n\r\nmore", "more than the answer"),
        (b"HTTP/1.1 200 OK\r\n" + b"x: y\r\n" * 9000, "no HTTP answer"),
    ],
)
def test_a_proxy_that_opens_no_tunnel_is_named_with_what_to_do(
    graphs, make_proxy, reply, words, monkeypatch
):
    proxy = make_proxy(reply)
    monkeypatch.setenv("HTTP_PROXY", f"http://device:secret@{proxy.where}")
    ranking = ranked(graphs, "http://cloud.test:8000")
    assert ranking.outcome is Outcome.OFFLINE
    assert f"the proxy http://{proxy.where} (HTTP_PROXY)" in ranking.reason
    assert words in ranking.reason
    assert "secret" not in ranking.reason


def test_a_proxy_that_is_away_is_named(graphs, make_proxy, monkeypatch):
    proxy = make_proxy()
    proxy.close()
    monkeypatch.setenv("HTTP_PROXY", f"http://device:secret@{proxy.where}")
    ranking = ranked(graphs, "http://cloud.test:8000")
    assert ranking.outcome is Outcome.OFFLINE
    where = proxy.where
    assert ranking.reason == (
        f"no way by the proxy http://{where} (HTTP_PROXY): connection refused by {where}"
    )


def test_a_proxy_that_says_nothing_is_a_timeout_that_names_it(graphs, monkeypatch):
    with socket.create_server(("127.0.0.1", 0)) as silent:
        where = f"127.0.0.1:{silent.getsockname()[1]}"
        monkeypatch.setenv("ALL_PROXY", where)
        budget = Budget(tolerance_ms=5_000, request_timeout_s=0.2)
        link = CorrectionLink.to("http://cloud.test:8000", graphs.bundle, budget=budget)
        with Session(graphs, link, budget) as session:
            session.click_row(1)
            ranking = session.rerank_rows(CANDIDATES)
    assert ranking.outcome is Outcome.TIMEOUT
    assert ranking.reason == f"no answer from the proxy http://{where} (ALL_PROXY) in time"


def test_a_pull_that_fails_names_the_proxy(make_proxy, monkeypatch, tmp_path):
    refused = make_proxy()
    refused.close()
    monkeypatch.setenv("HTTP_PROXY", f"http://device:secret@{refused.where}")
    with Cloud("http://cloud.test:8000") as cloud, pytest.raises(CloudError) as failed:
        cloud.pull(tmp_path)
    assert str(failed.value) == (
        f"no cloud at http://cloud.test:8000 by way of the proxy http://{refused.where} "
        f"(HTTP_PROXY) (connection refused by {refused.where}): check the proxy and the cloud's "
        "address"
    )
    bad = make_proxy(b"HTTP/1.1 502 Bad Gateway\r\ncontent-length: 0\r\n\r\n")
    monkeypatch.setenv("HTTP_PROXY", f"http://{bad.where}")
    with Cloud("http://cloud.test:8000") as cloud, pytest.raises(CloudError) as failed:
        cloud.pull(tmp_path)
    assert f"by way of the proxy http://{bad.where} (HTTP_PROXY) answered 502" in str(failed.value)


ODD = [
    {"HTTP_PROXY": "http://127.0.0.1:9"},
    {"ALL_PROXY": "socks5://user:secret@127.0.0.1:9"},
    {"NO_PROXY": "::1,[::1]"},
    {"HTTP_PROXY": "http://user:secret@127.0.0.1:9", "NO_PROXY": "::1,[::1]"},
    {"HTTP_PROXY": "http://127.0.0.1:99999999"},
]


@pytest.mark.parametrize("environment", ODD, ids=str)
@pytest.mark.parametrize("url", ["http://cloud.invalid:8000", "http://127.0.0.1:9"])
@pytest.mark.parametrize(
    "command",
    [
        ["device-client", "pull"],
        ["device-client", "rerank", "--clicks", "1"],
        ["device-client", "simulate", "--requests", "1"],
        ["cloud-service", "jobs", "list"],
        ["cloud-service", "models", "list"],
    ],
    ids=" ".join,
)
def test_whatever_the_environment_says_a_command_gets_one_line(
    command, environment, url, monkeypatch, capsys, tmp_path
):
    from cloud_service.cli import main as cloud_main

    monkeypatch.chdir(tmp_path)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr("sys.argv", [*command, "--url", url])
    with pytest.raises(SystemExit) as ended:
        (entry if command[0] == "device-client" else cloud_main)()
    status = ended.value.code
    said = capsys.readouterr().err
    assert (status, said.count("\n")) == (2, 1)
    assert "secret" not in said
    if "127.0.0.1:9" in url:
        assert "proxy" not in said, "this machine is reached without one"
    elif not {"HTTP_PROXY", "ALL_PROXY"} & set(environment):
        assert "cannot be resolved" in said
    else:
        assert "HTTP_PROXY" in said or "ALL_PROXY" in said


@pytest.mark.parametrize("environment", ODD[:4], ids=str)
def test_a_cloud_on_this_machine_is_served_whatever_the_environment_says(
    environment, served_store, monkeypatch, capsys, tmp_path
):
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    given = ["--url", served_store, "--bundles", str(tmp_path), "--budget-ms", "5000"]
    assert main(["rerank", "--user", "0", *given]) == 0
    assert "served: applied" in capsys.readouterr().out


def test_a_socks_proxy_is_refused_before_anything_is_asked(graphs, monkeypatch):
    monkeypatch.setenv("ALL_PROXY", "socks5://127.0.0.1:9")
    for make in (Cloud, lambda url: CorrectionLink.to(url, graphs.bundle)):
        with pytest.raises(UnusableProxy, match=r"NO_PROXY=cloud\.test"):
            make("http://cloud.test:8000")
