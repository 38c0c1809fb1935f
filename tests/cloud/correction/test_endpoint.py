"""The correction endpoint of a real cloud process: bytes, forms and all errors."""

import http.client
import json
import re
import socket
import struct
from pathlib import Path
from urllib.parse import urlsplit

import httpx
import numpy as np
import pytest

from cloud_service.runtime import open_session
from shared.model import ModelSettings
from shared.wire import (
    FORMS,
    FULL_TYPE,
    HALF_HIDDEN_TYPE,
    HIDDEN_TYPE,
    ROW_TYPE,
    Wire,
    check_of,
    correction_path,
)

WIRE = Wire(ModelSettings())
HOSTILE = Path(__file__).parents[2] / "shared" / "hostile"


@pytest.fixture(scope="module")
def hidden():
    rows = np.zeros((10, 64), np.float32)
    rows[:4] = np.random.default_rng(0).normal(size=(4, 64))
    return rows


@pytest.fixture
def ask(served_store, small_store):
    """Returns a function that posts bytes to the endpoint of the production version."""

    def post(body, version=None, **headers):
        path = correction_path(version or small_store.production())
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        return httpx.post(
            served_store + path, content=body, headers={"content-type": HIDDEN_TYPE} | named
        )

    return post


def test_the_full_form_is_what_the_gcns_graph_gives(ask, hidden, small_bundle):
    answer = ask(WIRE.encode_hidden(hidden))
    assert answer.status_code == 200
    assert len(answer.content) == 4_160
    assert answer.headers["content-type"] == FULL_TYPE
    assert answer.headers["model-version"] == small_bundle.name
    attn, bias = open_session(str(small_bundle / "gcn.onnx")).run(None, {"hidden": hidden[None]})
    correction = WIRE.decode_full(answer.content)
    np.testing.assert_array_equal(correction.attn, attn[0])
    np.testing.assert_array_equal(correction.bias, bias[0])


def test_the_compact_form_is_the_last_clicks_row_of_the_full_one(ask, hidden):
    body = WIRE.encode_hidden(hidden)
    answer = ask(body, accept=ROW_TYPE)
    assert len(answer.content) == 416
    assert answer.headers["content-type"] == ROW_TYPE
    full, row = WIRE.decode_full(ask(body).content), WIRE.decode_row(answer.content)
    np.testing.assert_allclose(row.attn, full.attn[:, 3], atol=1e-6)
    np.testing.assert_allclose(row.bias, full.bias[:, 3], atol=1e-6)


@pytest.mark.parametrize("form", FORMS)
def test_every_form_is_the_full_one_cut_and_rounded(ask, hidden, form):
    layout = FORMS[form]
    full = row = WIRE.decode_full(ask(WIRE.encode_hidden(hidden)).content)
    wire = Wire(ModelSettings(), half=layout.half)
    body = wire.encode_hidden(hidden)
    answer = ask(body, accept=layout.correction_type, content_type=layout.hidden_type)
    assert answer.status_code == 200
    assert answer.headers["content-type"] == layout.correction_type
    assert answer.headers["correction-check"] == check_of(body, answer.content)
    if layout.row:
        correction, row = wire.decode_row(answer.content), (full.attn[:, 3], full.bias[:, 3])
    else:
        correction = wire.decode_full(answer.content)
    for actual, expected in zip(correction, row, strict=True):
        np.testing.assert_allclose(actual, expected, atol=1e-2 if layout.half else 1e-6)


def test_h_in_float16_and_a_correction_in_float32_may_go_together(ask, hidden):
    wire = Wire(ModelSettings(), half=True)
    answer = ask(wire.encode_hidden(hidden), accept=ROW_TYPE, content_type=HALF_HIDDEN_TYPE)
    assert len(answer.content) == 416
    WIRE.decode_row(answer.content)


@pytest.mark.parametrize(
    ("media_type", "size"),
    [(HIDDEN_TYPE, 1_280), (HALF_HIDDEN_TYPE, 2_560), (HALF_HIDDEN_TYPE, 1_279)],
)
def test_h_of_another_length_than_its_media_type_has_is_refused(ask, media_type, size):
    answer = ask(b"\0\x3c" * (size // 2) + b"\0" * (size % 2), content_type=media_type)
    assert (answer.status_code, answer.json()["type"].rsplit(":", 1)[1]) == (400, "wrong-length")


def test_infinite_float16_is_refused_as_any_other_infinity(ask):
    answer = ask(b"\0\x7c" * 640, content_type=HALF_HIDDEN_TYPE)
    assert (answer.status_code, answer.json()["type"].rsplit(":", 1)[1]) == (422, "not-finite")


@pytest.mark.parametrize(
    ("accept", "form"),
    [
        ("*/*", FULL_TYPE),
        ("application/*", FULL_TYPE),
        (f"{ROW_TYPE}, {FULL_TYPE};q=0.5", ROW_TYPE),
        (f"{ROW_TYPE};q=0.1, {FULL_TYPE};q=0.5", FULL_TYPE),
        (f"text/html, {ROW_TYPE};q=0.2", ROW_TYPE),
    ],
)
def test_the_form_is_negotiated_as_http_says(ask, hidden, accept, form):
    answer = ask(WIRE.encode_hidden(hidden), accept=accept)
    assert answer.headers["content-type"] == form


def test_server_timing_says_how_long_it_queued_and_computed(ask, hidden):
    timing = ask(WIRE.encode_hidden(hidden)).headers["server-timing"]
    durations = dict(entry.strip().split(";dur=") for entry in timing.split(","))
    assert set(durations) == {"queue", "gcn"}
    assert 0 <= float(durations["queue"]) < 1000
    assert 0 < float(durations["gcn"]) < 1000


@pytest.mark.parametrize("path", sorted(HOSTILE.glob("*hidden*.json")), ids=lambda path: path.stem)
def test_every_hostile_h_gets_its_problem(ask, path):
    case = json.loads(path.read_text())
    body = b"".join(struct.pack("<f", float(x)) * n for x, n in case["floats"])
    answer = ask(body + bytes.fromhex(case.get("tail", "")))
    assert 400 <= answer.status_code < 500
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.json()["type"].endswith(case["error"])
    assert answer.json()["status"] == answer.status_code


@pytest.mark.parametrize(
    ("headers", "status", "code"),
    [
        ({"accept": "text/html"}, 406, "not-acceptable"),
        ({"accept": f"{FULL_TYPE};q=0"}, 406, "not-acceptable"),
        ({"accept": ";;;,,,q=x"}, 406, "not-acceptable"),
        ({"content_type": "application/json"}, 415, "wrong-media-type"),
        ({"content_encoding": "gzip"}, 415, "wrong-media-type"),
    ],
)
def test_headers_that_cannot_be_served_get_their_problem(ask, hidden, headers, status, code):
    answer = ask(WIRE.encode_hidden(hidden), **headers)
    assert (answer.status_code, answer.json()["type"].rsplit(":", 1)[1]) == (status, code)


@pytest.mark.parametrize("version", ["0" * 16, "x", "..%2F..%2Fetc", "0" * 4000, "%00"])
def test_a_model_that_is_not_there_is_404(ask, hidden, version):
    answer = ask(WIRE.encode_hidden(hidden), version=version)
    assert answer.status_code == 404
    assert answer.json()["type"].endswith(("unknown-model", "unknown-path"))


def test_huge_but_finite_numbers_never_come_back_as_nan(ask):
    answer = ask(np.full((10, 64), 3e38, np.float32).tobytes())
    assert answer.status_code == 422
    assert answer.json()["type"].endswith("not-finite")
    answer = ask(np.full((10, 64), 9e14, np.float32).tobytes())
    assert answer.status_code == 200
    WIRE.decode_full(answer.content)


def test_another_method_is_not_allowed(served_store, small_store):
    answer = httpx.get(served_store + correction_path(small_store.production()))
    assert answer.status_code == 405
    assert answer.headers["allow"] == "POST"


def raw(served_store, request: bytes) -> bytes:
    address = urlsplit(served_store)
    with socket.create_connection((address.hostname, address.port), 5) as sock:
        sock.sendall(request)
        return sock.recv(65536)


def test_an_endless_body_is_refused_from_its_head(served_store, small_store):
    path = correction_path(small_store.production()).encode()
    head = b"POST " + path + b" HTTP/1.1\r\nhost: x\r\ncontent-length: 99999999999\r\n\r\n"
    assert b" 413 " in raw(served_store, head).split(b"\r\n")[0]


def test_a_chunked_body_must_say_how_long_it_is(served_store, small_store):
    path = correction_path(small_store.production()).encode()
    head = b"POST " + path + b" HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n"
    assert b" 411 " in raw(served_store, head).split(b"\r\n")[0]


def test_a_body_in_many_small_pieces_is_still_one_h(served_store, small_store, hidden):
    address = urlsplit(served_store)
    connection = http.client.HTTPConnection(address.hostname, address.port, timeout=5)
    body = WIRE.encode_hidden(hidden)
    connection.putrequest("POST", correction_path(small_store.production()))
    connection.putheader("content-length", str(len(body)))
    connection.endheaders()
    for at in range(0, len(body), 100):
        connection.send(body[at : at + 100])
    assert len(connection.getresponse().read()) == 4_160
    connection.close()


def test_no_log_line_and_no_metric_holds_h(served_store, small_store, ask, tmp_path_factory):
    ask(np.full((10, 64), 123.456, np.float32).tobytes())
    ask(b"123.456")
    log = next(tmp_path_factory.getbasetemp().glob("cloud*/cloud.log")).read_text()
    assert "123.45" not in log + httpx.get(f"{served_store}/metrics").text


def test_metrics_count_what_was_served_and_what_was_refused(served_store, ask, hidden):
    def counted(label):
        lines = httpx.get(f"{served_store}/metrics").text.splitlines()
        return sum(float(line.split()[-1]) for line in lines if label in line and "_count" in line)

    before = counted("full"), counted("wrong-length")
    ask(WIRE.encode_hidden(hidden))
    ask(b"short")
    assert counted("full") == before[0] + 1
    assert counted("wrong-length") == before[1] + 1


@pytest.mark.slow
def test_an_h_that_never_arrives_is_given_up(served_store, small_store):
    path = correction_path(small_store.production()).encode()
    address = urlsplit(served_store)
    with socket.create_connection((address.hostname, address.port), 15) as sock:
        sock.sendall(b"POST " + path + b" HTTP/1.1\r\nhost: x\r\ncontent-length: 2560\r\n\r\nabc")
        received = b""
        while chunk := sock.recv(65536):
            received += chunk
    assert b" 408 " in received.split(b"\r\n")[0]


def test_the_page_of_the_api_needs_nothing_from_the_internet(served_store):
    page = httpx.get(f"{served_store}/docs").text
    addresses = re.findall(r'(?:src|href)="([^"]+)"', page)
    assert any(address.endswith(".js") for address in addresses)
    for address in addresses:
        assert address.startswith("/"), address
        assert httpx.get(served_store + address).status_code == 200
