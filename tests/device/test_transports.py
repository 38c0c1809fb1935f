"""The project's HTTP client and the standard library's: the same answers, the same outcomes."""

import numpy as np
import pytest

from device_client import Budget, Bundle, CorrectionLink, Outcome, Session
from device_client.correction.connection import Connection
from device_client.correction.http_answer import BadAnswer
from device_client.correction.plain_transport import PlainTransport
from device_client.scn import Graphs
from shared.wire import FORMS, RowCorrection, Wire
from tests.device.conftest import answer

TRANSPORTS = (Connection, PlainTransport)
CANDIDATES = np.arange(1, 61)
PATIENT = Budget(tolerance_ms=3_000, request_timeout_s=3)


@pytest.fixture(scope="module")
def graphs(small_bundle):
    return Graphs(Bundle.open(small_bundle))


@pytest.fixture(scope="module")
def body(graphs):
    random = np.random.default_rng(4)
    correction = RowCorrection(
        random.normal(size=(4, 10)).astype(np.float32),
        random.normal(size=(4, 16)).astype(np.float32),
    )
    return Wire(graphs.bundle.manifest.model).encode_row(correction)


def lines_of(head):
    opening, *lines = head.decode().split("\r\n")
    return opening, {tuple(line.lower().split(": ", 1)) for line in lines}


def exchanged(transport, cloud, version, count):
    """Answers to `count` requests, without their times, and the requests as the cloud saw them."""
    connection = transport(cloud.url, version, FORMS["row"], 2560, deadline_ms=3000)
    answers = []
    for index in range(count):
        connection.body[:] = bytes([index + 1]) * 2560
        reply = connection.exchange(3.0)
        answers.append(
            (reply.status, reply.body, reply.content_type, reply.version, reply.retry_after)
        )
        assert 0 < reply.sent_ns <= reply.uploaded_ns <= reply.first_byte_ns <= reply.received_ns
    connection.close()
    return answers, cloud.requests


@pytest.mark.parametrize("status", ["200 OK", "404 Not Found", "503 Service Unavailable"])
def test_both_ask_for_the_same_and_read_the_same(graphs, fake_cloud, body, status):
    version = graphs.bundle.version
    headers = {"retry-after": "7"} if status.startswith("503") else {}
    reply = answer(body, version=version, status=status, headers=headers)
    ours, plain = (
        exchanged(transport, fake_cloud(lambda request: reply), version, 3)
        for transport in TRANSPORTS
    )
    assert ours[0] == plain[0]
    assert [sent for _, sent in ours[1]] == [sent for _, sent in plain[1]]
    for (our_head, _), (plain_head, _) in zip(ours[1], plain[1], strict=True):
        opening, lines = lines_of(our_head)
        plain_opening, plain_lines = lines_of(plain_head)
        assert opening == plain_opening
        hosts = {line for line in lines | plain_lines if line[0] == "host"}
        # The other client names an encoding, which it must not use: nothing is packed here.
        assert plain_lines - lines - hosts == {("accept-encoding", "identity")}
        assert lines - plain_lines - hosts == set()


@pytest.mark.parametrize("transport", TRANSPORTS)
def test_a_body_over_the_limit_and_what_is_no_http_are_bad_answers(fake_cloud, transport, graphs):
    version = graphs.bundle.version
    for reply in (answer(bytes(70_000), version=version), b"SSH-2.0-OpenSSH_9.2\r\n\r\n\r\n"):
        cloud = fake_cloud(lambda request, reply=reply: reply)
        connection = transport(cloud.url, version, FORMS["row"], 2560)
        with pytest.raises(BadAnswer):
            connection.exchange(3.0)
        connection.close()


@pytest.mark.parametrize("transport", TRANSPORTS)
def test_a_session_ranks_with_the_correction_whichever_carries_it(
    graphs, fake_cloud, body, transport
):
    cloud = fake_cloud(lambda request: answer(body, version=graphs.bundle.version))
    link = CorrectionLink.to(cloud.url, graphs.bundle, budget=PATIENT, transport=transport)
    alone = Session(graphs)
    with Session(graphs, link, PATIENT) as session:
        for row in (3, 1, 4):
            session.click_row(row)
            alone.click_row(row)
            ranking = session.rerank_rows(CANDIDATES)
            assert ranking.outcome is Outcome.APPLIED
    correction = Wire(graphs.bundle.manifest.model).decode_row(body)
    np.testing.assert_array_equal(ranking.scores, alone.score_rows(CANDIDATES, correction))


@pytest.mark.parametrize("transport", TRANSPORTS)
def test_a_cloud_that_is_not_there_is_offline_whichever_asks(graphs, fake_cloud, transport):
    cloud = fake_cloud(lambda request: None)
    cloud.close()
    link = CorrectionLink.to(cloud.url, graphs.bundle, budget=PATIENT, transport=transport)
    with Session(graphs, link, PATIENT) as session:
        session.click_row(3)
        ranking = session.rerank_rows(CANDIDATES)
    assert ranking.outcome is Outcome.OFFLINE
    assert ranking.reason.startswith("connection refused by 127.0.0.1:")


def test_the_plain_transport_refuses_what_it_cannot_do():
    with pytest.raises(ValueError, match="http:// over its own sockets"):
        PlainTransport("https://localhost:1", "0" * 16, FORMS["row"], 2560)
