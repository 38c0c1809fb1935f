"""Differential test: all values of CLOUD_HTTP_PROTOCOL give the same answers.

Each value has a real server. All of them get the same requests, and must give the same status,
headers (except times) and body.
"""

import re
import socket
from contextlib import ExitStack
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

import numpy as np
import pytest

from cloud_service.bootstrap import server
from cloud_service.http import uvicorn_parts
from cloud_service.http.uvicorn_parts import UnknownUvicorn, check_uvicorn
from cloud_service.publishing.publish import publish
from cloud_service.services import no_pickles
from cloud_service.services.no_pickles import UnknownDBOS, refuse_pickles
from cloud_service.settings import CloudSettings
from cloud_service.storage.store import Store
from shared.wire import FORMS, HALF_HIDDEN_TYPE, HIDDEN_TYPE
from tests.instruments.processes import listening, running

ROOT = Path(__file__).parents[3]
PROTOCOLS = ("short-cut", "guarded", "uvicorn")
VARIES = re.compile(rb"(date|server-timing): [^\r]*\r\n")
"""Headers that contain a time."""


@pytest.fixture(scope="module")
def versions(tmp_path_factory, small_model, small_split):
    """A store with a version in production and a retired one."""
    store = Store(tmp_path_factory.mktemp("alike") / "store")
    names = [
        publish(store, small_model, small_split, {}, created=datetime(2026, 1, day, tzinfo=UTC))
        for day in (2, 3)
    ]
    store.promote(names[0])
    store.retire(names[1])
    return store.folder, *names


@pytest.fixture(scope="module")
def addresses(versions, tmp_path_factory):
    """The address of one server per protocol; all use the same store."""
    with ExitStack() as stack:
        servers = {}
        for protocol in PROTOCOLS:
            log = tmp_path_factory.mktemp(protocol) / "cloud.log"
            settings = {"CLOUD_STORE": str(versions[0]), "CLOUD_HTTP_PROTOCOL": protocol}
            command = ["cloud-service", "serve", "--port", "0"]
            process = stack.enter_context(running(command, log, **settings))
            host, _, port = listening(process, log).removeprefix("http://").partition(":")
            servers[protocol] = host, int(port)
        yield servers


def request(version, body, *, method="POST", path="correction", length=None, **headers):
    """Returns the bytes of a request, without the headers whose value is None."""
    lines = {
        "Host": "localhost",
        "Accept": FORMS["row"].correction_type,
        "Content-Type": HIDDEN_TYPE,
        "Content-Length": str(len(body) if length is None else length),
    } | {name.replace("_", "-"): value for name, value in headers.items()}
    head = "".join(f"{name}: {value}\r\n" for name, value in lines.items() if value is not None)
    return f"{method} /v1/models/{version}/{path} HTTP/1.1\r\n{head}\r\n".encode() + body


def answer_of(line, buffer):
    """Reads one response; returns it without its times, and the bytes after it."""
    while b"\r\n\r\n" not in buffer:
        data = line.recv(65536)
        if not data:
            return buffer, b""
        buffer += data
    head, _, body = buffer.partition(b"\r\n\r\n")
    length = int(re.search(rb"content-length: (\d+)", head)[1])
    while len(body) < length:
        body += line.recv(65536)
    return VARIES.sub(b"", head + b"\r\n") + body[:length], body[length:]


def answered(address, *requests):
    """Sends requests one after the other on one connection; returns the responses."""
    answers = []
    with socket.create_connection(address, 5) as line:
        for sent in requests:
            line.sendall(sent)
            answers.append(answer_of(line, b"")[0])
            if b"connection: close" in answers[-1]:
                break
    return answers


def cases(used, retired):
    random = np.random.default_rng(6)
    hidden = random.normal(size=(10, 64)).astype("<f4")
    hidden /= np.linalg.norm(hidden, axis=1, keepdims=True)
    body = hidden.tobytes()
    for name, form in FORMS.items():
        yield f"form {name}", request(used, body, Accept=form.correction_type)
        half = hidden.astype("<f2").tobytes()
        yield (
            f"form {name} of a half",
            request(used, half, Accept=form.correction_type, Content_Type=HALF_HIDDEN_TYPE),
        )
    yield "any form", request(used, body, Accept="*/*")
    yield "no form named", request(used, body, Accept=None)
    yield "in time", request(used, body, Correction_Deadline="60000")
    yield "too late", request(used, body, Correction_Deadline="0")
    yield "no deadline", request(used, body, Correction_Deadline="soon")
    yield "not a number", request(used, np.full((10, 64), np.nan, "<f4").tobytes())
    yield "empty", request(used, bytes(2560))
    yield "too short", request(used, body[:-4])
    yield "too long", request(used, body + bytes(4))
    yield "of another type", request(used, body, Content_Type="application/json")
    yield "packed", request(used, body, Content_Encoding="gzip")
    yield "not acceptable", request(used, body, Accept="text/html")
    yield "unknown", request("0" * 16, body)
    yield "no version", request("PRODUCTION!", body)
    yield "retired", request(retired, body)
    yield "read", request(used, b"", method="GET", Content_Type=None)
    yield "elsewhere", request(used, body, path="corrections")


@pytest.mark.slow
def test_every_protocol_gives_the_same_answer_to_every_kind_of_request(addresses, versions):
    _, used, retired = versions
    for name, sent in cases(used, retired):
        # Twice on one connection: the short cut handles the second one differently.
        alike = {protocol: answered(addresses[protocol], sent, sent) for protocol in PROTOCOLS}
        expected = alike["uvicorn"]
        assert expected[0].startswith(b"HTTP/1.1 "), name
        for protocol in PROTOCOLS:
            assert alike[protocol] == expected, f"{name}, {protocol}"


def test_requests_that_come_together_are_answered_alike(addresses, versions):
    _, used, _ = versions
    by_name = dict(cases(used, versions[2]))
    sent = [by_name["form row"], by_name["form full"], by_name["empty"], by_name["too late"]]
    alike = {}
    for protocol, address in addresses.items():
        with socket.create_connection(address, 5) as line:
            line.sendall(b"".join(sent))
            answers, buffer = [], b""
            for _ in sent:
                answer, buffer = answer_of(line, buffer)
                answers.append(answer)
            alike[protocol] = answers
    assert alike["short-cut"] == alike["guarded"] == alike["uvicorn"]
    assert [answer[9:12] for answer in alike["uvicorn"]] == [b"200", b"200", b"422", b"504"]


MALFORMED = {
    "no HTTP": b"correct this\r\n\r\n",
    "folded header": b"POST /v1/models/x/correction HTTP/1.1\r\nHost: a\r\n b\r\n\r\n",
    "two lengths": b"POST /v1/models/x/correction HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\n"
    b"Content-Length: 5\r\n\r\n",
    "negative length": b"POST /v1/models/x/correction HTTP/1.1\r\nHost: a\r\n"
    b"Content-Length: -1\r\n\r\n",
    "long head": b"POST /v1/models/x/correction HTTP/1.1\r\nHost: a\r\nX: "
    + b"x" * 20_000
    + b"\r\n\r\n",
    "proxy": b"CONNECT cloud:443 HTTP/1.1\r\nHost: cloud\r\n\r\n",
}


@pytest.mark.parametrize("name", MALFORMED)
def test_malformed_requests_get_the_same_problem_with_and_without_the_short_cut(
    addresses, versions, name
):
    # uvicorn's own protocol has plain texts for these, and no limit of a head.
    (_, good), *_ = cases(versions[1], versions[2])
    short_cut, guarded = (
        answered(addresses[protocol], good, good, MALFORMED[name])
        for protocol in ("short-cut", "guarded")
    )
    assert short_cut == guarded
    assert short_cut[2][9:12] in (b"400", b"431")


@pytest.mark.parametrize("size", [1, 100, 700, 2_000])
def test_a_request_in_pieces_gets_the_same_answer(addresses, versions, size):
    (_, sent), *_ = cases(versions[1], versions[2])
    answers = {}
    for protocol, address in addresses.items():
        with socket.create_connection(address, 5) as line:
            line.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            for start in range(0, len(sent), size):
                line.sendall(sent[start : start + size])
            answers[protocol] = answer_of(line, b"")[0]
    assert answers["short-cut"] == answers["guarded"] == answers["uvicorn"]
    assert answers["uvicorn"].startswith(b"HTTP/1.1 200")


def test_another_uvicorn_is_one_sentence_that_says_what_to_do(monkeypatch):
    check_uvicorn()
    monkeypatch.setattr(uvicorn_parts, "_METHODS", (*uvicorn_parts._METHODS, "_no_such_part"))
    with pytest.raises(UnknownUvicorn) as raised:
        check_uvicorn()
    assert "lacks _no_such_part" in raised.value.detail
    assert "CLOUD_HTTP_PROTOCOL=uvicorn" in raised.value.detail
    for protocol in ("short-cut", "guarded"):
        with pytest.raises(UnknownUvicorn):
            server(_no_application, CloudSettings(http_protocol=protocol), None)
    server(_no_application, CloudSettings(http_protocol="uvicorn"), None)


async def _no_application(scope, receive, send):
    raise AssertionError


@pytest.mark.parametrize(
    ("library", "tested"), [("uvicorn", uvicorn_parts.TESTED), ("dbos", no_pickles.TESTED)]
)
def test_a_library_whose_private_parts_are_used_is_pinned_to_one_minor_version(library, tested):
    major, minor = tested.split(".")
    project = (ROOT / "pyproject.toml").read_text()
    assert f'"{library}>={tested},<{major}.{int(minor) + 1}"' in project
    assert re.search(rf"^{library}=={tested}\.", (ROOT / "constraints.txt").read_text(), re.M)
    assert version(library).startswith(f"{tested}.")


def test_a_dbos_that_would_read_a_pickle_is_refused(monkeypatch):
    from dbos import _serialization

    refuse_pickles()
    monkeypatch.setattr(_serialization, "deserialize_value", lambda *_: None)
    with pytest.raises(UnknownDBOS, match=f"install dbos {no_pickles.TESTED}"):
        refuse_pickles()
