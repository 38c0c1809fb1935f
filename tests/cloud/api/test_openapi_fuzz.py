"""Sends generated requests, valid and invalid, to a real cloud and checks the answers by OpenAPI.

By default a few hundred fixed requests. OPENAPI_CASES=2000 sends that many random requests per
operation.
"""

import base64
import os
import shutil
import socket
from datetime import UTC, datetime
from urllib.parse import urlsplit

import numpy as np
import pytest
import schemathesis
from calling import code_of
from hypothesis import HealthCheck, Phase, given
from hypothesis import strategies as st
from hypothesis.errors import Unsatisfiable
from schemathesis import GenerationMode, checks

from cloud_service.correction.openapi import OPENAPI_PATH
from cloud_service.recommender.pool.pool_file import pool_bytes
from cloud_service.storage.store import Store
from shared.manifest import MANIFEST_NAME
from shared.model import ModelSettings
from shared.problems import MEDIA_TYPE as PROBLEM_TYPE
from shared.problems import Problem
from shared.samples import QUERY_TYPES
from shared.wire import FULL_TYPE, HIDDEN_TYPE, ROW_TYPE, Wire, correction_path
from tests.instruments.cases import drawn
from tests.instruments.pools import small_pool
from tests.instruments.processes import listening, running
from tests.instruments.versions import published_again

pytestmark = pytest.mark.slow(10)

CASES = int(os.environ.get("OPENAPI_CASES", "0"))
HIDDEN = np.zeros((10, 64), np.float32)
HIDDEN[:4] = np.random.default_rng(61).normal(size=(4, 64))
BODY = Wire(ModelSettings()).encode_hidden(HIDDEN)
CORRECTION = "POST /v1/models/{version}/correction"
SAMPLES = "POST /v1/models/{version}/samples"
UNKNOWN = "0123456789abcdef"
ELSEWHERE = ["", ".", "..", "a/b"]
"""Names that make another address, perhaps another operation's."""
STRANGE = [*ELSEWHERE, "%2e%2e", "production\0", "é", "x" * 5000, UNKNOWN.upper()]
FOLLOWED = (True, "true", "True", "1", "on", "yes")
TOKEN = "a-token-of-these-tests"
ADMIN = {"Authorization": f"Bearer {TOKEN}"}
DEVICE_TOKEN = "a-token-of-their-devices"
DEVICE = {"Authorization": f"Bearer {DEVICE_TOKEN}"}
schemathesis.serializer.alias(list(QUERY_TYPES), "application/octet-stream")
CHECKED = (
    checks.status_code_conformance,
    checks.content_type_conformance,
    checks.response_headers_conformance,
    checks.response_schema_conformance,
    checks.negative_data_rejection,
)


def cases(count):
    """Returns Hypothesis settings for `count` fixed examples, or for OPENAPI_CASES random ones."""
    phases = [Phase.generate, Phase.shrink] if CASES else [Phase.generate]
    return drawn("OPENAPI_CASES", count, phases=phases, suppress_health_check=list(HealthCheck))


class Place:
    """A cloud without a worker, and names that exist in it."""

    def __init__(self, url, log, versions, untouched):
        self.url, self.log, self.versions, self.untouched = url, log, versions, untouched
        self.page = schemathesis.openapi.from_url(f"{url}/openapi.json")
        self.operations = {
            operation.ok().label: operation.ok() for operation in self.page.get_all_operations()
        }
        self.jobs = [self.job() for _ in range(3)]

    def job(self):
        answer = self.operations["POST /v1/jobs"].Case(body={}, media_type="application/json")
        return answer.call(headers=ADMIN).json()["id"]

    def names(self, data, label, path_parameters, negative):
        """Generates path parameters, some of which exist."""
        parameters = {
            "version": ["production", *self.versions, UNKNOWN, *STRANGE],
            "name": [MANIFEST_NAME, "hidden.onnx", "gcn.onnx", *STRANGE],
            "job": [*self.jobs, *STRANGE],
        }
        if label in (CORRECTION, SAMPLES):  # path parameters with a form that is described
            parameters["version"] = [*self.versions, UNKNOWN]
        if negative and label in (CORRECTION, SAMPLES):
            return path_parameters
        return {
            name: data.draw(st.sampled_from(parameters[name]))
            if data.draw(st.booleans())
            else value
            for name, value in path_parameters.items()
        }


@pytest.fixture(scope="module")
def fuzzed(small_store, tmp_path_factory):
    folder = tmp_path_factory.mktemp("fuzzed")
    shutil.copytree(small_store.folder, folder / "store")
    store = Store(folder / "store")
    used = store.production()
    retired = published_again(store, used, datetime(2026, 2, 1, tzinfo=UTC))
    store.retire(retired)
    beside = published_again(store, used, datetime(2026, 3, 1, tzinfo=UTC))
    versions = [used, beside, retired]
    untouched = published_again(
        store, used, datetime(2026, 4, 1, tzinfo=UTC)
    )  # never named: it stays
    manifest = store.manifest(used)
    store.write_pool(used, pool_bytes(small_pool(300, manifest.model.dim, manifest.items)))
    set_to = {
        "CLOUD_STORE": str(store.folder),
        "CLOUD_SERVE_REPLAYS": "true",
        "CLOUD_ADMIN_TOKEN": TOKEN,
        "CLOUD_DEVICE_TOKEN": DEVICE_TOKEN,
        "CLOUD_LOG_LEVEL": "debug",  # whatever could be logged, is
    }
    log = folder / "log"
    with running(["cloud-service", "serve", "--port", "0"], log, **set_to) as process:
        yield Place(listening(process, log), log, versions, untouched)
        assert process.poll() is None


def is_a_sound_refusal(response):
    """Returns whether an answer is a problem document that does not report an internal error."""
    assert response.status_code != 500
    if response.status_code >= 400:
        code_of(response)
    if response.status_code == 503:
        assert response.headers["retry-after"] in ("1", ["1"])


@pytest.mark.parametrize("mode", list(GenerationMode), ids=lambda mode: mode.value)
def test_every_operation_answers_as_its_description_says(fuzzed, mode):
    """Valid and invalid requests; half of the names in paths exist."""
    count = sum(ask(fuzzed, label, mode) for label in fuzzed.operations)
    assert count > 100


def ask(fuzzed, label, mode):
    """Sends requests to one operation, checks the answers; returns the number of requests."""
    count, negative = 0, mode is GenerationMode.NEGATIVE

    @cases(20)
    @given(fuzzed.operations[label].as_strategy(generation_mode=mode), st.data())
    def answers(case, data):
        nonlocal count
        case.path_parameters = fuzzed.names(data, label, case.path_parameters, negative)
        if case.query.get("follow") in FOLLOWED:
            # Of a job that no worker ends, it would go on for ever (test_jobs_survive.py).
            case.query["follow"] = "false"
        if not negative and label == CORRECTION and data.draw(st.booleans()):
            case.body = BODY  # random bytes are an H once in a lifetime
        response = case.call(timeout=30, headers=DEVICE if label == SAMPLES else ADMIN)
        count += 1
        is_a_sound_refusal(Answer(response))
        if not negative and response.status_code == 422:
            fault = response.json()
            # What JSON Schema cannot say (how heads divide a width) is a rule that is named.
            ruled = "Value error" in fault["detail"]
            assert ruled or not fault["type"].endswith(":invalid-request"), fault
        if not set(ELSEWHERE) & set(case.path_parameters.values()):
            case.validate_response(response, checks=CHECKED)

    try:
        answers()
    except Unsatisfiable:
        assert negative, label  # it takes nothing that could be wrong
    return count


class Answer:
    """A response in the form that `code_of` reads."""

    def __init__(self, response):
        self.status_code, self.text, self.json = response.status_code, "", response.json
        self.headers = {name.lower(): value[0] for name, value in response.headers.items()}


GOOD = {
    "host": b"localhost",
    "accept": ROW_TYPE.encode(),
    "content-type": HIDDEN_TYPE.encode(),
    "content-length": b"2560",
    "correction-deadline": b"2000",
}
MORE = [
    "expect", "transfer-encoding", "connection", "upgrade", "range", "if-none-match", "origin",
    "authorization", "content-encoding", "accept-encoding", "x-forwarded-for", "cookie", *GOOD,
]  # fmt: skip
ABSURD = [
    b"", b" ", b"0", b"-1", b"+2560", b"2560, 2560", b"0xa00", b"2559", b"2561", b"1e3", b"NaN",
    b"inf", b"9" * 40, b"99999999", b"text/html", b"*/*", b"*/*;q=0", b"*/*;q=nan", b"a/b;q=-1",
    b",", b";", b"chunked", b"gzip, chunked", b"identity", b"close", b"keep-alive", b"websocket",
    b"100-continue", b"bytes=0-1", b"\xff\xfe", b"\t", b"x" * 20_000, HIDDEN_TYPE.encode(),
    ROW_TYPE.encode() + b";q=0.1, */*;q=0.01", b"application/octet-stream; charset=utf-8",
]  # fmt: skip


@st.composite
def heads(draw):
    """Generates headers of a correction request: some absent, some absurd, some unrelated."""
    absurd = st.one_of(st.sampled_from(ABSURD), st.binary(max_size=20).map(_of_a_header))
    lines = []
    for name, good in GOOD.items():
        choice = draw(st.sampled_from(["good", "good", "good", "absent", "absurd"]))
        if choice != "absent":
            lines.append((name.encode(), good if choice == "good" else draw(absurd)))
    for _ in range(draw(st.integers(0, 2))):
        lines.append((draw(st.sampled_from(MORE)).encode(), draw(absurd)))
    return lines


def _of_a_header(value):
    return bytes(byte for byte in value if byte not in b"\r\n\0")


def first_answer(sock):
    """Returns status, media type and body of the first final (not 1xx) response."""
    received = b""
    while True:
        head, mark, buffer = received.partition(b"\r\n\r\n")
        if mark and head.startswith(b"HTTP/1.1 100"):
            received = buffer
            continue
        lines = head.lower().split(b"\r\n")
        fields = dict(line.split(b": ", 1) for line in lines[1:]) if mark else {}
        if mark and len(buffer) >= (length := int(fields[b"content-length"])):
            return int(lines[0].split()[1]), fields[b"content-type"].decode(), buffer[:length]
        chunk = sock.recv(65536)
        assert chunk, "no answer"
        received += chunk


@cases(300)
@given(heads())
def test_whatever_headers_a_correction_is_asked_with_the_answer_is_documented(fuzzed, lines):
    head = b"".join(b"%s: %s\r\n" % line for line in lines)
    path = correction_path(fuzzed.untouched).encode()
    address = urlsplit(fuzzed.url)
    with socket.create_connection((address.hostname, address.port), 30) as sock:
        sock.sendall(b"POST %s HTTP/1.1\r\n%s\r\n%s" % (path, head, BODY))
        # What follows the first answer is of bytes that the head called another request.
        status, media_type, body = first_answer(sock)
    assert str(status) in OPENAPI_PATH["post"]["responses"]
    if status >= 400:
        assert media_type == PROBLEM_TYPE
        assert Problem.model_validate_json(body).status == status
        assert status != 500
    else:
        assert media_type in (FULL_TYPE, ROW_TYPE)


def test_nothing_that_was_asked_left_h_or_a_traceback_in_the_log(fuzzed):
    """Runs after the tests above, which all sent the same H; the cloud logs at debug level."""
    answer = (
        fuzzed.operations[CORRECTION]
        .Case(path_parameters={"version": fuzzed.untouched}, body=BODY, media_type=HIDDEN_TYPE)
        .call()
    )
    assert answer.status_code == 200
    log = fuzzed.log.read_bytes()
    assert b"Traceback" not in log
    values = HIDDEN[:4].ravel()
    written = {BODY[:12], BODY[:12].hex().encode(), base64.b64encode(BODY)[:12]}
    written |= {repr(BODY[:12])[2:-1].encode()} | {f"{x:.4f}".encode() for x in values}
    assert not [form for form in written if form in log]
    assert TOKEN.encode() not in log
    assert DEVICE_TOKEN.encode() not in log
