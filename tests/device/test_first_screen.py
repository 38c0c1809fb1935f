"""After a restart: the history is restored, its correction asked for, and the first rerank has it.

An outcome never says what is not so.
"""

import errno
import threading
import time

import numpy as np
import pytest

from device_client import Budget, Bundle, CorrectionLink, Outcome, Session
from device_client.correction.received import CLOSED, ON_ITS_WAY
from device_client.correction.sockets import tcp_connect
from device_client.scn import Graphs
from shared.model import ModelSettings
from shared.wire import RowCorrection, Wire
from tests.device.conftest import answer

CANDIDATES = np.arange(1, 61)
PATIENT = Budget(tolerance_ms=3_000, request_timeout_s=3)
NONE = Budget(tolerance_ms=0, request_timeout_s=3)
HISTORY = list(range(1, 26))


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


@pytest.fixture
def good(graphs, correction):
    body = Wire(graphs.bundle.manifest.model).encode_row(correction)
    return lambda request: answer(body, version=graphs.bundle.version)


def session_to(cloud, graphs, budget=PATIENT):
    return Session(graphs, CorrectionLink.to(cloud.url, graphs.bundle, budget=budget), budget)


def restored(graphs, session):
    """The catalogue ids of HISTORY, preloaded."""
    assert session.preload([graphs.bundle.item_id(row) for row in HISTORY]) == []


def test_the_first_rerank_after_a_restart_has_the_correction_of_the_history(
    graphs, fake_cloud, good, correction
):
    cloud, alone = fake_cloud(good), Session(graphs)
    for row in HISTORY:
        alone.click_row(row)
    with session_to(cloud, graphs) as session:
        restored(graphs, session)
        ranking = session.rerank_rows(CANDIDATES)
    assert (ranking.outcome, ranking.reason) == (Outcome.APPLIED, "")
    np.testing.assert_array_equal(ranking.scores, alone.score_rows(CANDIDATES, correction))
    assert len(cloud.requests) == 1, "one request for the last click of the history, no other"
    wire = Wire(graphs.bundle.manifest.model)
    np.testing.assert_array_equal(wire.decode_hidden(cloud.requests[0][1]), alone._scn.hidden)


def test_a_rerank_long_after_the_restart_finds_the_correction_there(
    graphs, fake_cloud, good, eventually
):
    cloud = fake_cloud(good)
    with session_to(cloud, graphs, NONE) as session:
        restored(graphs, session)

        def corrected():
            return session.rerank_rows(CANDIDATES).outcome is Outcome.APPLIED

        eventually(corrected)


def test_the_budget_of_the_first_rerank_counts_from_the_end_of_the_history(
    graphs, fake_cloud, good
):
    go_on = threading.Event()

    def slow(request):
        go_on.wait(10)
        return good(request)

    budget = Budget(tolerance_ms=30, request_timeout_s=5)
    with session_to(fake_cloud(slow), graphs, budget) as session:
        restored(graphs, session)
        time.sleep(0.05)
        ranking = session.rerank_rows(CANDIDATES)
        go_on.set()
        times = ranking.timeline
        assert (ranking.outcome, ranking.reason) == (Outcome.LATE, ON_ITS_WAY)
        assert times.applied_ns - times.reranked_ns < 40e6, (
            "the budget was over, so it did not wait"
        )
        assert session.settle(5).outcome is Outcome.APPLIED
        assert session.rerank_rows(CANDIDATES).outcome is Outcome.APPLIED


def test_a_history_without_asking_is_asked_for_by_the_first_rerank(graphs, fake_cloud, good):
    cloud = fake_cloud(good)
    with session_to(cloud, graphs) as session:
        session.preload_rows(HISTORY, ask=False)
        assert session.ticket == 0
        ranking = session.rerank_rows(CANDIDATES)
    assert ranking.outcome is Outcome.APPLIED
    assert ranking.timeline.reranked_ns <= ranking.timeline.hidden_ns, "it counts from the asking"


def test_a_click_after_the_history_asks_for_its_own_correction(graphs, fake_cloud, good):
    cloud, alone = fake_cloud(good), Session(graphs)
    for row in [*HISTORY, 40]:
        alone.click_row(row)
    with session_to(cloud, graphs) as session:
        restored(graphs, session)
        session.click_row(40)
        assert session.rerank_rows(CANDIDATES).outcome is Outcome.APPLIED
    wire = Wire(graphs.bundle.manifest.model)
    np.testing.assert_array_equal(wire.decode_hidden(cloud.requests[-1][1]), alone._scn.hidden)


@pytest.mark.slow(10)
@pytest.mark.parametrize(("history", "length", "segment"), [("window", 12, 4), ("carry", 10, 10)])
def test_every_form_of_history_asks_for_the_h_of_its_last_click(
    history, length, segment, small_split, tmp_path, fake_cloud
):
    import torch

    from cloud_service.recommender.models.cocorrrec import CoCorrRec
    from tests.cloud.recommender.export.test_graphs import bundle_of

    torch.manual_seed(5)
    settings = ModelSettings(gcn="causal", length=length, segment=segment, history=history)
    model = CoCorrRec(small_split.log.item_count, settings, init_std=0.5).eval()
    bundle, _ = bundle_of(model, small_split, tmp_path)
    graphs, wire = Graphs(bundle), Wire(settings)
    body = bytes(wire.row_bytes)
    cloud = fake_cloud(lambda request: answer(body, version=bundle.version))
    alone = Session(graphs)
    for row in HISTORY:
        alone.click_row(row)
    with session_to(cloud, graphs) as session:
        session.preload_rows(HISTORY)
        assert session.rerank_rows(CANDIDATES).outcome is Outcome.APPLIED
        np.testing.assert_allclose(
            session.score_rows(CANDIDATES), alone.score_rows(CANDIDATES), atol=1e-5
        )
    (asked,) = cloud.requests
    np.testing.assert_allclose(wire.decode_hidden(asked[1]), alone._scn.hidden, atol=1e-6)


def test_nothing_is_asked_for_without_a_click(graphs, fake_cloud, good):
    cloud = fake_cloud(good)
    with session_to(cloud, graphs) as session:
        assert session.preload(["delisted"]) == ["delisted"]
        ranking = session.rerank_rows(CANDIDATES)
    assert (ranking.outcome, ranking.reason) == (None, "")
    assert cloud.requests == []


def test_once_the_cloud_is_back_a_rerank_without_a_click_has_its_correction(
    graphs, fake_cloud, good, eventually
):
    """The device starts before the network does: the history's request fails, once."""
    cloud = fake_cloud(good)
    connect, back = tcp_connect(cloud.url), threading.Event()

    def sometimes(timeout):
        if not back.is_set():
            raise ConnectionRefusedError(errno.ECONNREFUSED, "Connection refused")
        return connect(timeout)

    link = CorrectionLink.to(cloud.url, graphs.bundle, budget=PATIENT, connect=sometimes)
    with Session(graphs, link, PATIENT) as session:
        restored(graphs, session)
        first = session.rerank_rows(CANDIDATES)
        assert first.outcome is Outcome.OFFLINE
        assert first.reason.startswith("connection refused by 127.0.0.1:")
        back.set()

        def corrected():
            return session.rerank_rows(CANDIDATES).outcome is Outcome.APPLIED

        eventually(corrected)


def test_a_session_whose_link_was_closed_says_so(graphs, fake_cloud, good):
    session = session_to(fake_cloud(good), graphs)
    session.click_row(1)
    session.close()
    session.click_row(2)
    ranking = session.rerank_rows(CANDIDATES)
    assert (ranking.outcome, ranking.reason) == (Outcome.OFFLINE, CLOSED)
