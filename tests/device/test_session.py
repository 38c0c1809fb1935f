"""A session always ranks: with the correction if it is in time, else exactly as without."""

import math
import struct
import threading
import time

import numpy as np
import pytest

from device_client.bundle import Bundle
from device_client.correction.budget import Budget
from device_client.correction.link import CorrectionLink
from device_client.scn import Graphs
from device_client.session import Session
from shared.outcomes import Outcome
from shared.wire import RowCorrection, Wire
from tests.device.conftest import answer

CANDIDATES = np.arange(1, 61)
PATIENT = Budget(tolerance_ms=3_000, request_timeout_s=3)
HASTY = Budget(tolerance_ms=5, request_timeout_s=2)


@pytest.fixture(scope="module")
def graphs(small_bundle):
    return Graphs(Bundle.open(small_bundle))


@pytest.fixture(scope="module")
def correction():
    random = np.random.default_rng(4)
    return RowCorrection(
        random.normal(size=(4, 10)).astype(np.float32),
        random.normal(size=(4, 16)).astype(np.float32),
    )


@pytest.fixture(scope="module")
def body(graphs, correction):
    return Wire(graphs.bundle.manifest.model).encode_row(correction)


@pytest.fixture
def good(graphs, body):
    """A reply with a valid correction."""
    return lambda request: answer(body, version=graphs.bundle.version)


def session_to(cloud, graphs, budget=PATIENT, form="row"):
    link = CorrectionLink.to(cloud.url, graphs.bundle, budget=budget, form=form)
    return Session(graphs, link, budget)


def test_a_correction_in_time_is_applied(graphs, fake_cloud, good, correction):
    with session_to(fake_cloud(good), graphs) as session:
        session.click_row(3)
        ranking = session.rerank_rows(CANDIDATES)
        assert ranking.outcome is Outcome.APPLIED
        np.testing.assert_array_equal(ranking.scores, session.score_rows(CANDIDATES, correction))
        assert not np.array_equal(ranking.scores, session.score_rows(CANDIDATES))
        assert session.outcomes == {Outcome.APPLIED: 1}


def test_h_goes_up_exactly_as_the_wire_says(graphs, fake_cloud, good):
    cloud = fake_cloud(good)
    with session_to(cloud, graphs) as session:
        session.preload_rows([5, 6], ask=False)
        session.click_row(7)
        session.rerank_rows(CANDIDATES)
        head, sent = cloud.requests[0]
        assert len(sent) == 2_560
        assert Wire(graphs.bundle.manifest.model).encode_hidden(session._scn.hidden[:3]) == sent
        assert f"/v1/models/{graphs.bundle.version}/correction".encode() in head


def test_the_timeline_is_in_order_and_names_every_moment(graphs, fake_cloud, good):
    with session_to(fake_cloud(good), graphs) as session:
        session.click_row(3)
        t = session.rerank_rows(CANDIDATES).timeline
        assert 0 < t.clicked_ns <= t.hidden_ns <= t.uploaded_ns <= t.first_byte_ns
        assert t.first_byte_ns <= t.received_ns <= t.applied_ns <= t.ranked_ns
        assert t.hidden_ns <= t.reranked_ns
        assert (t.queue_ms, t.compute_ms) == (0.02, 0.11)


def test_late_correction_is_dropped_and_the_local_ranking_served(graphs, fake_cloud, good):
    def slow(request):
        time.sleep(0.3)
        return good(request)

    with session_to(fake_cloud(slow), graphs, HASTY) as session:
        session.click_row(3)
        begun = time.perf_counter()
        ranking = session.rerank_rows(CANDIDATES)
        assert time.perf_counter() - begun < 0.25
        assert ranking.outcome is Outcome.LATE
        np.testing.assert_array_equal(ranking.scores, session.score_rows(CANDIDATES))


def test_late_correction_serves_the_next_rerank_of_the_same_clicks(graphs, fake_cloud, good):
    def slow(request):
        time.sleep(0.1)
        return good(request)

    with session_to(fake_cloud(slow), graphs, HASTY) as session:
        session.click_row(3)
        assert session.rerank_rows(CANDIDATES).outcome is Outcome.LATE
        assert session.settle(2).outcome is Outcome.APPLIED
        assert session.rerank_rows(CANDIDATES).outcome is Outcome.APPLIED


def test_correction_for_earlier_clicks_is_stale_and_never_applied(graphs, fake_cloud, good):
    asked, done = threading.Event(), threading.Event()

    def slow(request):
        asked.set()
        done.wait(10)
        return good(request)

    with session_to(fake_cloud(slow), graphs, HASTY) as session:
        session.click_row(3)
        session.rerank_rows(CANDIDATES)
        assert asked.wait(10)
        session.click_row(4)
        ranking = session.rerank_rows(CANDIDATES)
        done.set()
        assert ranking.outcome is Outcome.STALE
        np.testing.assert_array_equal(ranking.scores, session.score_rows(CANDIDATES))


def test_of_many_fast_clicks_only_the_newest_is_asked_about(graphs, fake_cloud, good):
    def slow(request):
        time.sleep(0.1)
        return good(request)

    cloud = fake_cloud(slow)
    with session_to(cloud, graphs) as session:
        for item in range(1, 9):
            session.click_row(item)
        assert session.rerank_rows(CANDIDATES).outcome is Outcome.APPLIED
        assert len(cloud.requests) <= 2


def fault_replies(good, version, body):
    nan = struct.pack("<f", math.nan) + body[4:]
    return {
        "the cloud hangs up": (lambda r: None, Outcome.OFFLINE),
        "it answers 500": (
            lambda r: answer(b"", version=version, status="500 Oh"),
            Outcome.REFUSED,
        ),
        "it sheds the request": (
            lambda r: answer(b"", version=version, status="503 Busy"),
            Outcome.REFUSED,
        ),
        "it does not know the model": (
            lambda r: answer(b"{}", version=version, status="404 No"),
            Outcome.WRONG_MODEL,
        ),
        "it has retired the model": (
            lambda r: answer(b"{}", version=version, status="410 Gone"),
            Outcome.WRONG_MODEL,
        ),
        "it answers for another model": (
            lambda r: answer(body, version="0" * 16),
            Outcome.WRONG_MODEL,
        ),
        "it names no model": (lambda r: answer(body, version=""), Outcome.WRONG_MODEL),
        "the body is a byte short": (
            lambda r: answer(body[:-1], version=version),
            Outcome.BAD_PAYLOAD,
        ),
        "the body is a byte long": (
            lambda r: answer(body + b"x", version=version),
            Outcome.BAD_PAYLOAD,
        ),
        "the body is empty": (lambda r: answer(b"", version=version), Outcome.BAD_PAYLOAD),
        "the body holds NaN": (lambda r: answer(nan, version=version), Outcome.BAD_PAYLOAD),
        "the form is another": (
            lambda r: answer(body, version=version, form="full"),
            Outcome.BAD_PAYLOAD,
        ),
        "the body is endless": (
            lambda r: answer(bytes(1 << 20), version=version),
            Outcome.BAD_PAYLOAD,
        ),
        "the head is endless": (
            lambda r: b"HTTP/1.1 200 OK\r\n" + b"x: y\r\n" * 200_000,
            Outcome.BAD_PAYLOAD,
        ),
        "it speaks no HTTP": (lambda r: b"\x00\x01\x02 hello\r\n\r\n", Outcome.BAD_PAYLOAD),
        "it is a web page": (
            lambda r: answer(b"<html>", version="", headers={"content-type": "text/html"}),
            Outcome.WRONG_MODEL,
        ),
    }


@pytest.mark.parametrize("fault", list(fault_replies(None, "", b"0000")))
def test_whatever_the_cloud_does_the_local_ranking_is_served(fault, graphs, fake_cloud, good, body):
    reply, outcome = fault_replies(good, graphs.bundle.version, body)[fault]
    with session_to(fake_cloud(reply), graphs) as session:
        session.click_row(3)
        ranking = session.rerank_rows(CANDIDATES)
        assert ranking.outcome is outcome
        np.testing.assert_array_equal(ranking.scores, session.score_rows(CANDIDATES))
        assert session.outcomes == {outcome: 1}


def test_a_cloud_that_drips_its_answer_runs_into_the_request_timeout(graphs, fake_cloud):
    def drip(request):
        time.sleep(0.6)
        return

    budget = Budget(tolerance_ms=3_000, request_timeout_s=0.2)
    with session_to(fake_cloud(drip), graphs, budget) as session:
        session.click_row(3)
        begun = time.perf_counter()
        assert session.rerank_rows(CANDIDATES).outcome is Outcome.TIMEOUT
        assert time.perf_counter() - begun < 0.5


def test_an_unreachable_cloud_is_offline(graphs, fake_cloud, good):
    cloud = fake_cloud(good)
    cloud.close()
    with session_to(cloud, graphs) as session:
        session.click_row(3)
        assert session.rerank_rows(CANDIDATES).outcome is Outcome.OFFLINE


def test_without_a_link_the_device_ranks_alone(graphs):
    session = Session(graphs)
    session.click_row(3)
    ranking = session.rerank_rows(CANDIDATES)
    assert ranking.outcome is Outcome.OFFLINE
    assert ranking.items[0] == CANDIDATES[int(np.argmax(ranking.scores))]


def test_before_the_first_click_the_clouds_order_is_kept(graphs):
    ranking = Session(graphs).rerank_rows(np.array([9, 2, 5]))
    assert ranking.items == [9, 2, 5]
    assert ranking.outcome is None


def test_no_candidates_give_an_empty_ranking(graphs):
    session = Session(graphs)
    session.click_row(1)
    assert session.rerank_rows([]).items == []


def test_scores_already_given_do_not_change_later(graphs):
    session = Session(graphs)
    session.click_row(1)
    first = session.rerank_rows(CANDIDATES).scores
    kept = first.copy()
    session.click_row(2)
    session.rerank_rows(CANDIDATES)
    np.testing.assert_array_equal(first, kept)


def test_a_preloaded_history_gives_the_scores_of_the_same_clicks_one_by_one(graphs):
    one, two = Session(graphs), Session(graphs)
    history = list(range(1, 26))
    one.preload_rows(history)
    for item in history:
        two.click_row(item)
    np.testing.assert_allclose(one.score_rows(CANDIDATES), two.score_rows(CANDIDATES), atol=1e-6)


@pytest.mark.parametrize("wrong", [-1.0, math.nan, math.inf])
def test_a_budget_that_is_no_time_is_refused(wrong):
    with pytest.raises(ValueError, match="tolerance"):
        Budget(tolerance_ms=wrong)
    with pytest.raises(ValueError, match="timeout"):
        Budget(request_timeout_s=wrong)


def test_candidate_lists_may_have_another_length_every_time(graphs, fake_cloud, good):
    with session_to(fake_cloud(good), graphs) as session:
        session.click_row(1)
        for count in (3, 2, 5, 60, 1, 0, 7):
            ranking = session.rerank_rows(np.arange(1, count + 1))
            assert ranking.scores.shape == (count,)
            if count > 1:
                np.testing.assert_allclose(
                    ranking.scores, session.rerank_rows(CANDIDATES).scores[:count], atol=1e-5
                )


def test_a_correction_too_large_to_compute_with_is_a_bad_payload(graphs, fake_cloud):
    body = np.tile(np.array([3e38, -3e38], "<f4"), 52).tobytes()
    cloud = fake_cloud(lambda request: answer(body, version=graphs.bundle.version))
    with session_to(cloud, graphs) as session:
        session.click_row(3)
        ranking = session.rerank_rows(CANDIDATES)
        assert ranking.outcome is Outcome.BAD_PAYLOAD
        np.testing.assert_array_equal(ranking.scores, session.score_rows(CANDIDATES))


def test_the_largest_correction_the_wire_takes_still_gives_finite_scores(graphs):
    session = Session(graphs)
    session.click_row(3)
    for scale in (1e15, 1e-30, 0.0):
        rows = [np.resize(np.array([scale, -scale, 0], np.float32), n) for n in ((4, 10), (4, 16))]
        assert np.isfinite(session.score_rows(CANDIDATES, RowCorrection(*rows))).all()


def test_an_interim_answer_is_not_the_answer(graphs, fake_cloud, good):
    """103 Early Hints, then the answer in a packet of its own: each click gets its own."""
    count = 0

    def reply(request):
        nonlocal count
        count += 1
        return b"HTTP/1.1 103 Early Hints\r\nlink: x\r\n\r\n" + good(request)

    cloud = fake_cloud(reply)
    with session_to(cloud, graphs) as session:
        for item in range(1, 6):
            session.click_row(item)
            assert session.settle(2).outcome is Outcome.APPLIED
    assert cloud.connections == 1


def test_an_answer_nobody_asked_for_is_never_taken_for_one(graphs, fake_cloud, good, eventually):
    """A second answer on the line: the connection is dropped before the next request."""
    wrong = answer(bytes(416), version=graphs.bundle.version)
    cloud = fake_cloud(good)
    with session_to(cloud, graphs) as session:
        session.click_row(1)
        kept = session.settle(2).correction
        eventually(lambda: len(cloud._open) == 1)
        cloud._open[0].sendall(wrong)
        time.sleep(0.05)
        session.click_row(2)
        found = session.settle(2)
        assert found.outcome is Outcome.APPLIED
        np.testing.assert_array_equal(found.correction.attn, kept.attn)
    assert cloud.connections == 2


def test_two_answers_at_once_are_a_bad_payload(graphs, fake_cloud, good):
    with session_to(fake_cloud(lambda r: good(r) + good(r)), graphs) as session:
        session.click_row(1)
        assert session.settle(2).outcome is Outcome.BAD_PAYLOAD


def test_a_change_of_protocol_is_refused_and_the_link_lives_on(graphs, fake_cloud, good):
    switch = (
        b"HTTP/1.1 101 Switching Protocols\r\nupgrade: websocket\r\nconnection: upgrade\r\n\r\n"
    )
    replies = [lambda r: switch, good, good]
    with session_to(fake_cloud(lambda r: replies.pop(0)(r)), graphs) as session:
        session.click_row(1)
        assert session.settle(2).outcome is Outcome.BAD_PAYLOAD
        session.click_row(2)
        assert session.settle(2).outcome is Outcome.APPLIED
