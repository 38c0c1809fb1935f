"""Every outcome comes with its reason in words, and the log hears of failures now and then."""

import json
import logging
import re
import socket
import subprocess
import sys
import threading
import time

import numpy as np
import pytest

from device_client import Budget, Bundle, CorrectionLink, Outcome, Session
from device_client.cloud import Cloud, CloudError
from device_client.correction.received import BUSY, ON_ITS_WAY
from device_client.correction.trouble import QUIET_S, Trouble, refusal
from device_client.scn import Graphs
from device_client.session import NO_CLOUD
from shared.problems import TYPE_PREFIX
from tests.device.conftest import CERTIFICATE, answer

CANDIDATES = np.arange(1, 61)
PATIENT = Budget(tolerance_ms=5_000, request_timeout_s=5)
BRIEF = Budget(tolerance_ms=3_000, request_timeout_s=0.2)


@pytest.fixture(scope="module")
def graphs(small_bundle):
    return Graphs(Bundle.open(small_bundle))


@pytest.fixture
def good(graphs):
    return lambda request: answer(bytes(416), version=graphs.bundle.version)


def ranked(graphs, url, budget=PATIENT):
    """The ranking after one click, with the cloud at `url`."""
    with Session(graphs, CorrectionLink.to(url, graphs.bundle, budget=budget), budget) as session:
        session.click_row(3)
        return session.rerank_rows(CANDIDATES)


def test_an_applied_correction_has_no_reason(graphs, fake_cloud, good):
    ranking = ranked(graphs, fake_cloud(good).url)
    assert (ranking.outcome, ranking.reason) == (Outcome.APPLIED, "")


def test_without_a_link_no_cloud_is_configured(graphs):
    session = Session(graphs)
    session.click_row(3)
    ranking = session.rerank_rows(CANDIDATES)
    assert (ranking.outcome, ranking.reason) == (Outcome.OFFLINE, NO_CLOUD)


def test_nobody_listening_is_a_refused_connection(graphs, closed_port):
    ranking = ranked(graphs, f"http://127.0.0.1:{closed_port}")
    assert ranking.outcome is Outcome.OFFLINE
    assert ranking.reason == f"connection refused by 127.0.0.1:{closed_port}"
    with (
        Cloud(f"http://127.0.0.1:{closed_port}") as cloud,
        pytest.raises(CloudError, match=r"connection refused by .*serve` running there"),
    ):
        cloud.production()


def test_a_name_that_nobody_knows_cannot_be_resolved(graphs):
    ranking = ranked(graphs, "http://cloud.invalid:8000")
    assert ranking.outcome is Outcome.OFFLINE
    assert ranking.reason == "the name cloud.invalid cannot be resolved"
    with (
        Cloud("http://cloud.invalid:8000") as cloud,
        pytest.raises(CloudError, match=r"the name cloud\.invalid cannot be resolved"),
    ):
        cloud.production()


def test_a_certificate_that_nobody_vouches_for_is_not_valid(graphs, fake_cloud, good):
    cloud = fake_cloud(good, CERTIFICATE)
    ranking = ranked(graphs, cloud.url)
    assert ranking.outcome is Outcome.OFFLINE
    assert ranking.reason.startswith("the certificate of 127.0.0.1 is not valid: self")
    with Cloud(cloud.url) as asked, pytest.raises(CloudError, match="is not valid: self"):
        asked.production()


def test_a_certificate_that_the_system_trusts_is_valid_for_both(
    graphs, fake_cloud, good, monkeypatch
):
    monkeypatch.setenv("SSL_CERT_FILE", str(CERTIFICATE))
    cloud = fake_cloud(good, CERTIFICATE)
    assert ranked(graphs, cloud.url).outcome is Outcome.APPLIED
    other = fake_cloud(lambda request: b"HTTP/1.1 503 No\r\ncontent-length: 0\r\n\r\n", CERTIFICATE)
    version = graphs.bundle.version
    with Cloud(other.url) as asked, pytest.raises(CloudError, match="answered 503"):
        asked.candidate_rows(version, [[1]], 3)


def test_https_to_an_http_port_says_so(graphs, fake_cloud, served_store):
    secure = served_store.replace("http://", "https://")
    ranking = ranked(graphs, secure)
    assert ranking.outcome is Outcome.OFFLINE
    assert ranking.reason.endswith("speaks no TLS: is its address http:// rather than https://?")
    with Cloud(secure) as cloud, pytest.raises(CloudError, match="speaks no TLS: is its address"):
        cloud.production()


def test_http_to_an_https_port_is_never_silent(graphs, fake_cloud, good):
    alert = b"\x15\x03\x03\x00\x02\x02\x46"
    ranking = ranked(graphs, fake_cloud(lambda request: alert).url)
    assert ranking.outcome is Outcome.BAD_PAYLOAD
    assert ranking.reason == "the cloud speaks TLS: is its address https://?"


def test_silence_is_a_timeout_of_so_many_seconds(graphs, fake_cloud):
    cloud = fake_cloud(lambda request: time.sleep(1))
    with Session(graphs, CorrectionLink.to(cloud.url, graphs.bundle, budget=BRIEF)) as session:
        session.click_row(1)
        received = session.settle(5)
    assert received.outcome is Outcome.TIMEOUT
    assert re.match(r"no answer (within|from 127)", received.reason)


def test_silence_on_an_open_connection_is_a_timeout_as_well(graphs, fake_cloud, good):
    asked = []
    cloud = fake_cloud(
        lambda request: time.sleep(1) if asked else (asked.append(request) or good(request))
    )
    with Session(graphs, CorrectionLink.to(cloud.url, graphs.bundle, budget=BRIEF)) as session:
        session.click_row(1)
        assert session.settle(5).outcome is Outcome.APPLIED
        session.click_row(2)
        received = session.settle(5)
    assert received.outcome is Outcome.TIMEOUT
    assert received.reason.startswith("no answer within 0.2 s")


def test_a_refusal_repeats_the_status_and_what_the_cloud_says(graphs, fake_cloud):
    problem = {
        "type": TYPE_PREFIX + "overloaded",
        "title": "Too many at once",
        "status": 503,
        "detail": "try again\r\nin a second",
    }
    body = json.dumps(problem).encode()
    reply = answer(body, version="", status="503 No")
    ranking = ranked(graphs, fake_cloud(lambda request: reply).url)
    assert ranking.outcome is Outcome.REFUSED
    assert ranking.reason == (
        "the cloud answered 503 overloaded: Too many at once: try again  in a second"
    )
    ranking = ranked(graphs, fake_cloud(lambda r: answer(b"?", version="", status="404 No")).url)
    assert (ranking.outcome, ranking.reason) == (Outcome.WRONG_MODEL, "the cloud answered 404")


def test_a_refusal_of_any_size_stays_short():
    problem = {"type": "x", "title": "t" * 9000, "status": 500, "detail": "d"}
    assert len(refusal(500, json.dumps(problem).encode())) == 200
    assert refusal(500, b"\xff\xfe") == "the cloud answered 500"


def test_an_answer_of_another_model_names_both(graphs, fake_cloud):
    ranking = ranked(graphs, fake_cloud(lambda r: answer(bytes(416), version="f" * 16)).url)
    assert ranking.outcome is Outcome.WRONG_MODEL
    assert graphs.bundle.version in ranking.reason
    assert "f" * 16 in ranking.reason


@pytest.mark.parametrize(
    ("reply", "words"),
    [
        (lambda v: answer(bytes(415), version=v), "416 bytes"),
        (lambda v: answer(b"\xff" * 416, version=v), "must be finite"),
        (lambda v: answer(bytes(416), version=v, headers={"content-type": "text/html"}), "html"),
        (lambda v: b"SSH-2.0-OpenSSH_9.2\r\n", "not HTTP"),
    ],
)
def test_an_answer_that_breaks_the_format_says_how(graphs, fake_cloud, reply, words):
    ranking = ranked(graphs, fake_cloud(lambda request: reply(graphs.bundle.version)).url)
    assert ranking.outcome is Outcome.BAD_PAYLOAD
    assert words in ranking.reason


def test_a_cloud_that_hangs_up_is_named(graphs, fake_cloud):
    ranking = ranked(graphs, fake_cloud(lambda request: None).url)
    assert ranking.outcome is Outcome.OFFLINE
    assert "closed the connection" in ranking.reason


def test_a_pause_says_how_long_after_how_many_failures_and_why(graphs, closed_port):
    link = CorrectionLink.to(f"http://127.0.0.1:{closed_port}", graphs.bundle)
    with Session(graphs, link) as session:
        for row in range(1, 4):
            session.click_row(row)
            assert session.settle(5).outcome is Outcome.OFFLINE
        session.click_row(4)
        ranking = session.rerank_rows(CANDIDATES)
    assert ranking.outcome is Outcome.OFFLINE
    assert re.fullmatch(
        r"calls are paused for [01]\.\d s after 3 failures: connection refused by 127\.0\.0\.1:\d+",
        ranking.reason,
    )


def test_late_and_stale_say_what_they_waited_for(graphs, fake_cloud, good):
    asked, go_on = threading.Event(), threading.Event()

    def slow(request):
        asked.set()
        go_on.wait(10)
        return good(request)

    hasty = Budget(tolerance_ms=1, request_timeout_s=5)
    link = CorrectionLink.to(fake_cloud(slow).url, graphs.bundle, budget=hasty)
    with Session(graphs, link, hasty) as session:
        session.click_row(1)
        first = session.rerank_rows(CANDIDATES)
        assert asked.wait(10)
        session.click_row(2)
        second = session.rerank_rows(CANDIDATES)
        go_on.set()
    assert (first.outcome, first.reason) == (Outcome.LATE, ON_ITS_WAY)
    assert (second.outcome, second.reason) == (Outcome.STALE, BUSY)


def test_the_log_hears_of_the_first_failure_of_the_pause_and_of_the_end(
    graphs, fake_cloud, good, caplog
):
    caplog.set_level(logging.DEBUG, "device_client")
    replies = [None, None, None, good]
    cloud = fake_cloud(lambda r: replies.pop(0)(r) if replies[0] else replies.pop(0))
    link = CorrectionLink.to(cloud.url, graphs.bundle, budget=PATIENT)
    with Session(graphs, link, PATIENT) as session:
        for row in range(1, 4):
            session.click_row(row)
            session.settle(5)
        assert link.breaker.open
        link.breaker._until = 0.0  # the pause is over
        session.click_row(4)
        assert session.settle(5).outcome is Outcome.APPLIED
    said = [(record.name, record.levelname, record.getMessage()) for record in caplog.records]
    assert [(name, level) for name, level, _ in said] == [
        ("device_client.correction.link", "WARNING"),
        ("device_client.correction.link", "WARNING"),
        ("device_client.correction.link", "INFO"),
    ]
    first, pause, end = (message for _, _, message in said)
    assert "closed the connection" in first
    assert "rankings are the device's own" in first
    assert "paused for 1.0 s" in pause
    assert "are back" in end


def test_the_log_is_not_flooded_and_a_broken_log_breaks_no_ranking(caplog, monkeypatch):
    caplog.set_level(logging.DEBUG, "device_client")
    now = [0.0]
    from device_client.correction.sockets import address_of

    trouble = Trouble(lambda: now[0], address_of("http://cloud.example:8000"))
    for number in range(100):
        trouble.began(Outcome.OFFLINE, f"reason {number}", 1.0)
        trouble.ended()
    assert len(caplog.records) == 3
    now[0] = QUIET_S
    trouble.began(Outcome.OFFLINE, "another", 0.0)
    assert "another" in caplog.records[-1].getMessage()

    def broken(*_):
        raise OSError("no space left")

    monkeypatch.setattr("device_client.correction.trouble._log.log", broken)
    now[0] = 2 * QUIET_S
    trouble.began(Outcome.OFFLINE, "a third", 0.0)
    assert trouble.reason == "a third"


def test_nothing_is_said_on_the_good_path(graphs, fake_cloud, good, caplog):
    caplog.set_level(logging.DEBUG)
    link = CorrectionLink.to(fake_cloud(good).url, graphs.bundle, budget=PATIENT)
    with Session(graphs, link, PATIENT) as session:
        for row in range(1, 20):
            session.click_row(row)
            assert session.rerank_rows(CANDIDATES).outcome is Outcome.APPLIED
    assert [record for record in caplog.records if record.name.startswith("device_client")] == []


def test_the_library_is_quiet_until_logging_is_set_up(small_bundle, closed_port):
    script = (
        "import sys; from pathlib import Path; from device_client import *\n"
        f"bundle = Bundle.open(Path({str(small_bundle)!r}))\n"
        f"link = CorrectionLink.to('http://127.0.0.1:{closed_port}', bundle)\n"
        "with Session(bundle, link) as session:\n"
        "    session.click_row(1); print(session.settle(5).outcome)\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert (done.stdout, done.stderr) == ("offline\n", "")


@pytest.fixture
def closed_port():
    """A port of this machine on which nobody listens."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return listener.getsockname()[1]
