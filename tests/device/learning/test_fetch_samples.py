"""A device gets whole samples of its own model, or one named error, whatever a cloud sends."""

import gzip
import struct
import threading
import time

import numpy as np
import pytest

from device_client.bundle import Bundle
from device_client.correction.http_answer import ERROR_BODY_LIMIT
from device_client.learning.samples import SamplesUnavailable, fetch_samples
from shared.errors import Unauthorized
from shared.problems import MEDIA_TYPE, Problem
from shared.samples import (
    CHECK_HEADER,
    MOST_SAMPLES,
    SAMPLE_TYPES,
    Query,
    Samples,
    SampleWire,
    check_of,
)
from shared.wire import VERSION_HEADER

TOKEN = "the-token-of-devices"


@pytest.fixture(scope="module")
def bundle(small_bundle):
    return Bundle.open(small_bundle)


@pytest.fixture(scope="module")
def wire(bundle):
    return SampleWire(bundle.manifest.model.dim, bundle.manifest.items)


@pytest.fixture(scope="module")
def samples(bundle):
    random = np.random.default_rng(0)
    states = random.normal(size=(MOST_SAMPLES, bundle.manifest.model.dim)).astype(np.float32)
    rows = random.integers(1, bundle.manifest.items + 1, MOST_SAMPLES)
    return Samples(states, rows)


@pytest.fixture
def states(bundle):
    return np.random.default_rng(1).normal(size=(3, bundle.manifest.model.dim))


def http(body, lines, status="200 OK"):
    head = "".join(f"{name}: {value}\r\n" for name, value in lines.items() if value is not None)
    return f"HTTP/1.1 {status}\r\n{head}\r\n".encode("latin-1") + body


def good(bundle, query, body, form="int8", **changes):
    lines = {
        "content-type": SAMPLE_TYPES[form],
        VERSION_HEADER: bundle.version,
        CHECK_HEADER: check_of(query, body),
        "content-length": str(len(body)),
    } | {name.replace("_", "-"): value for name, value in changes.items()}
    return http(body, lines)


@pytest.mark.parametrize("form", SAMPLE_TYPES)
def test_what_was_sent_arrives(fake_cloud, bundle, wire, samples, states, form):
    cloud = fake_cloud(lambda query: good(bundle, query, wire.encode_samples(samples, form), form))
    fetched = fetch_samples(cloud.url, bundle, TOKEN, Query(states=states), form=form)
    step = np.abs(samples.states).max() / (127 if form == "int8" else 1024)
    np.testing.assert_allclose(fetched.states, samples.states, atol=step / 2 * 1.01)
    assert (fetched.states.dtype, fetched.rows.dtype) == (np.float32, np.int64)
    assert (fetched.rows == samples.rows).all()
    ((head, body),) = cloud.requests
    sent = head.decode().lower().split("\r\n")
    assert f"authorization: bearer {TOKEN}" in sent
    assert "accept-encoding: identity" in sent
    assert sent[0].startswith(f"post /v1/models/{bundle.version}/samples ")
    np.testing.assert_array_equal(
        wire.decode_query("application/vnd.device-cloud.query-states", body).states,
        states.astype(np.float16).astype(np.float32),
    )


def test_rows_and_nothing_are_queries_too(fake_cloud, bundle, wire, samples):
    few = Samples(samples.states[:2], samples.rows[:2])
    cloud = fake_cloud(lambda query: good(bundle, query, wire.encode_samples(few, "int8")))
    assert len(fetch_samples(cloud.url, bundle, TOKEN).rows) == 2
    fetch_samples(cloud.url, bundle, TOKEN, Query(rows=np.array([1, 2, 3])), most=2)
    assert [body for _, body in cloud.requests] == [b"", struct.pack("<3I", 1, 2, 3)]


def corrupted(body, at, replacement):
    return body[:at] + replacement + body[at + len(replacement) :]


NAN, HUGE = struct.pack("<f", np.nan), struct.pack("<f", 3e38)
COUNT = MOST_SAMPLES
HOSTILE = {
    "a sample too many": lambda b, q, body: good(b, q, body + body[:72]),
    "a byte short": lambda b, q, body: good(b, q, body[:-1]),
    "nothing": lambda b, q, body: good(b, q, b""),
    "cut off": lambda b, q, body: good(b, q, body)[:-100],
    "a scale of NaN": lambda b, q, body: good(b, q, corrupted(body, COUNT * 64, NAN)),
    "a scale without end": lambda b, q, body: good(b, q, corrupted(body, COUNT * 64, HUGE)),
    "a scale below zero": lambda b, q, body: good(
        b, q, corrupted(body, COUNT * 64, struct.pack("<f", -1.0))
    ),
    "row 0": lambda b, q, body: good(b, q, corrupted(body, len(body) - 4, bytes(4))),
    "a row beyond the table": lambda b, q, body: good(
        b, q, corrupted(body, len(body) - 4, struct.pack("<I", b.manifest.items + 1))
    ),
    "the largest row": lambda b, q, body: good(b, q, corrupted(body, len(body) - 4, b"\xff" * 4)),
    "another version": lambda b, q, body: good(b, q, body, model_version="0" * 16),
    "no version": lambda b, q, body: good(b, q, body, model_version=None),
    "another form": lambda b, q, body: good(b, q, body, content_type=SAMPLE_TYPES["half"]),
    "a page": lambda b, q, body: good(b, q, b"<html>", content_type="text/html"),
    "no type": lambda b, q, body: good(b, q, body, content_type=None),
    "another query's": lambda b, q, body: good(b, q, body, sample_check=check_of(b"x", body)),
    "unchecked": lambda b, q, body: good(b, q, body, sample_check=None),
    "compressed": lambda b, q, body: good(b, q, gzip.compress(body), content_encoding="gzip"),
    "a length of 4 GB": lambda b, q, body: good(b, q, body, content_length=str(1 << 32)),
    "no length": lambda b, q, body: good(b, q, body, content_length=None),
    "two lengths": lambda b, q, body: good(b, q, body, x=f"1\r\ncontent-length: {len(body)}"),
    "no HTTP": lambda b, q, body: b"SSH-2.0-OpenSSH\r\n" * 99,
    "TLS": lambda b, q, body: b"\x15\x03\x01\x00\x02\x02\x46",
    "a head without end": lambda b, q, body: b"HTTP/1.1 200 OK\r\n" + b"x: y\r\n" * 100_000,
    "a name without end": lambda b, q, body: b"HTTP/1.1 200 OK\r\n" + b"x" * 1_000_000,
    "interim answers": lambda b, q, body: b"HTTP/1.1 100 Continue\r\n\r\n" * 50_000,
    "an upgrade": lambda b, q, body: http(
        b"", {"upgrade": "x", "connection": "upgrade"}, "101 Switching Protocols"
    ),
    "no content": lambda b, q, body: http(b"", {}, "204 No Content"),
    "elsewhere": lambda b, q, body: http(
        b"", {"location": "http://127.0.0.1:1/", "content-length": "0"}, "302 Found"
    ),
    "a large error": lambda b, q, body: http(
        b"{" * (ERROR_BODY_LIMIT + 1), {"content-length": str(1 << 30)}, "500 Error"
    ),
    "a deep error": lambda b, q, body: http(b"[" * 50_000, {"content-length": "50000"}, "500 E"),
    "no answer": lambda b, q, body: None,
}


@pytest.mark.parametrize("case", HOSTILE)
def test_whatever_is_not_samples_of_this_model_is_one_named_error(
    fake_cloud, bundle, wire, samples, states, case
):
    whole = wire.encode_samples(samples, "int8")
    cloud = fake_cloud(lambda query: HOSTILE[case](bundle, query, whole))
    with pytest.raises(SamplesUnavailable) as caught:
        fetch_samples(cloud.url, bundle, TOKEN, Query(states=states), timeout_s=1.0)
    assert TOKEN not in caught.value.detail
    assert len(caught.value.detail) < 400


def test_every_damaged_byte_of_an_answer_is_noticed(fake_cloud, bundle, wire, samples):
    few = Samples(samples.states[:2], samples.rows[:2])
    body = wire.encode_samples(few, "int8")
    at = iter(range(len(body)))

    def damaged(query):
        index = next(at)
        wrong = corrupted(body, index, bytes([body[index] ^ 1]))
        return good(bundle, query, wrong, sample_check=check_of(query, body))

    cloud = fake_cloud(damaged)
    for _ in range(0, len(body), 10):
        with pytest.raises(SamplesUnavailable):
            fetch_samples(cloud.url, bundle, TOKEN)


@pytest.mark.parametrize("drip", [b"x: y\r\n", b"HTTP/1.1 102 Processing\r\n\r\n"])
def test_a_cloud_that_sends_a_little_for_ever_is_left_at_the_deadline(bundle, drip):
    stop = threading.Event()

    class Dripping:
        """A socket whose every answer is a little more of the head."""

        def __init__(self):
            self.parts = iter([b"HTTP/1.1 102 Processing\r\n\r\n", b"HTTP/1.1 200 OK\r\n"])
            self.closed = False

        def sendall(self, data): ...
        def settimeout(self, value): ...
        def fileno(self):
            return -1

        def close(self):
            self.closed = True

        def recv_into(self, buffer):
            stop.wait(0.01)
            chunk = next(self.parts, drip)
            buffer[: len(chunk)] = chunk
            return len(chunk)

    line = Dripping()
    begun = time.monotonic()
    with pytest.raises(SamplesUnavailable):
        fetch_samples("http://cloud", bundle, TOKEN, timeout_s=0.3, connect=lambda _: line)
    assert time.monotonic() - begun < 20  # not for ever
    assert line.closed


def test_a_cloud_that_says_nothing_is_left_at_the_deadline(fake_cloud, bundle):
    stop = threading.Event()
    cloud = fake_cloud(lambda query: stop.wait(30) and None)
    with pytest.raises(SamplesUnavailable, match=r"no answer in time|timed out"):
        fetch_samples(cloud.url, bundle, TOKEN, timeout_s=0.3)
    stop.set()


def test_a_refusal_is_told_by_its_problem_and_when_to_ask_again(fake_cloud, bundle):
    error = Unauthorized("send it")
    body = Problem.of(error).model_dump_json().encode()
    lines = {"content-type": MEDIA_TYPE, "content-length": len(body), "retry-after": "7"}
    cloud = fake_cloud(lambda query: http(body, lines, "401 Unauthorized"))
    with pytest.raises(SamplesUnavailable) as caught:
        fetch_samples(cloud.url, bundle, TOKEN)
    assert (caught.value.problem, caught.value.retry_after_s) == ("unauthorized", 7.0)


@pytest.mark.parametrize(
    "call",
    [
        {"url": "localhost:1"},
        {"url": "http://127.0.0.1:1"},
        {"url": "http://[::1"},
        {"url": "https://127.0.0.1:1"},
        {"token": "two\r\nlines: x"},
        {"token": "schlüssel"},
        {"most": 0},
        {"most": 201},
        {"form": "full"},
        {"query": Query(rows=np.array([0]))},
        {"query": Query(rows=np.array([1 << 40]))},
        {"query": Query(rows=np.zeros(0, np.int64))},
        {"query": Query(rows=np.ones(65, np.int64))},
        {"query": Query(states=np.full((1, 64), np.inf))},
        {"query": Query(states=np.full((1, 64), 1e9))},
        {"query": Query(states=np.zeros((1, 64)))},
        {"query": Query(states=np.ones((1, 63)))},
        {"query": Query(states=np.ones((9, 64)))},
        {"query": Query(states=np.ones((1, 64)), rows=np.array([1]))},
        {"query": Query(states="states")},
    ],
)
def test_a_call_that_cannot_be_made_is_the_same_error(fake_cloud, bundle, call):
    cloud = fake_cloud(lambda query: None)
    call = {"url": cloud.url, "token": TOKEN} | call
    with pytest.raises(SamplesUnavailable) as caught:
        fetch_samples(bundle=bundle, **call)
    assert "lines: x" not in caught.value.detail
    assert not cloud.requests


def test_a_proxy_that_cannot_be_used_is_the_same_error(bundle, monkeypatch):
    monkeypatch.setenv("http_proxy", "ftp://nowhere")
    with pytest.raises(SamplesUnavailable):
        fetch_samples("http://cloud.example", bundle, TOKEN)
