"""A real cloud behind a network that fails: the device ranks, and never with a wrong correction."""

import shutil
import socket
import threading
import time
from collections import Counter
from datetime import UTC, datetime
from urllib.parse import urlsplit

import numpy as np
import pytest

from cloud_service.storage.store import Store
from device_client.bundle import Bundle
from device_client.correction.breaker import Breaker
from device_client.correction.budget import Budget
from device_client.correction.link import CorrectionLink
from device_client.scn import Graphs
from device_client.session import Session
from shared.outcomes import Outcome
from shared.wire import ROW_TYPE
from tests.instruments.fault_proxy import (
    Proxy,
    cut_then_closed,
    cut_then_reset,
    delayed,
    dripped,
    flipped,
    of_the_click_before,
    passed,
    silence,
    twice,
)
from tests.instruments.processes import listening, running
from tests.instruments.sockets import request
from tests.instruments.versions import published_again

pytestmark = pytest.mark.slow(20)

CANDIDATES = np.arange(1, 60)
BUDGET = Budget(tolerance_ms=400, request_timeout_s=0.8)
"""As patient as a test must be on a busy machine; what matters is that the wait ends."""
LOCAL = {
    Outcome.LATE,
    Outcome.STALE,
    Outcome.TIMEOUT,
    Outcome.OFFLINE,
    Outcome.REFUSED,
    Outcome.BAD_PAYLOAD,
    Outcome.WRONG_MODEL,
}


@pytest.fixture(scope="module")
def graphs(small_bundle):
    return Graphs(Bundle.open(small_bundle))


@pytest.fixture
def proxied(served_store):
    made = []

    def make(fault):
        made.append(Proxy(served_store, fault))
        return made[-1]

    yield make
    for proxy in made:
        proxy.close()


def _nan(exchange):
    body = np.frombuffer(exchange.body, "<f4").copy()
    body[7] = np.nan
    exchange.send(exchange.with_body(body.tobytes()))


def _shuffled(exchange):
    body = np.frombuffer(exchange.body, "<f4")
    exchange.send(exchange.with_body(body[::-1].tobytes()))


def _with_a_longer_length(exchange):
    exchange.send(exchange.answer.replace(b"content-length: 416", b"content-length: 500"))


def _with_a_shorter_length(exchange):
    exchange.send(exchange.answer.replace(b"content-length: 416", b"content-length: 400"))


def _with_no_length(exchange):
    exchange.send(exchange.answer.replace(b"content-length: 416\r\n", b""))


def _of_another_model(exchange):
    head, _, rest = exchange.answer.partition(b"model-version: ")
    exchange.send(head + b"model-version: " + b"f" * 16 + rest[16:])


FAULTS = {
    "an answer that never comes": silence,
    "a connection closed before the answer": lambda exchange: exchange.close(),
    "a connection reset before the answer": lambda exchange: exchange.reset(),
    "an answer cut off by a close": cut_then_closed,
    "an answer cut off by a reset": cut_then_reset,
    "an answer cut off by silence": lambda exchange: exchange.send(exchange.answer[:-100]),
    "a head without its body": lambda exchange: exchange.send(exchange.head + b"\r\n\r\n"),
    "half a head": lambda exchange: exchange.send(exchange.head[:40]),
    "an answer byte by byte": dripped,
    "one flipped bit": flipped,
    "one number that is none": _nan,
    "the numbers in another order": _shuffled,
    "the answer to the click before": of_the_click_before,
    "the answer twice": twice,
    "a length that is too long": _with_a_longer_length,
    "a length that is too short": _with_a_shorter_length,
    "no length at all": _with_no_length,
    "another model's name": _of_another_model,
    "no HTTP": lambda exchange: exchange.send(b"220 smtp ready\r\n"),
    "another server's error": lambda exchange: exchange.send(
        b"HTTP/1.1 502 Bad Gateway\r\ncontent-length: 3\r\n\r\nbad"
    ),
    "a redirection": lambda exchange: exchange.send(
        b"HTTP/1.1 307 Moved\r\nlocation: http://127.0.0.1:1/\r\ncontent-length: 0\r\n\r\n"
    ),
    "an endless head": lambda exchange: exchange.send(
        b"HTTP/1.1 200 OK\r\n" + b"x-more: and more\r\n" * 8000
    ),
    "an endless body": lambda exchange: exchange.send(
        b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n" + b"8000\r\n" + b"x" * 300_000
    ),
}


@pytest.mark.parametrize("fault", FAULTS.values(), ids=FAULTS.keys())
def test_the_local_ranking_is_served_after(fault, graphs, proxied):
    """After the first click, whose answer is let through, every answer has the fault."""
    proxy = proxied(lambda each: each.send() if each.number == 1 else fault(each))
    alone = Session(graphs)
    with Session(graphs, CorrectionLink.to(proxy.url, graphs.bundle), BUDGET) as session:
        for click in (3, 5, 7, 9):
            session.click_row(click)
            alone.click_row(click)
            ranking = session.rerank_rows(CANDIDATES)
            if click == 3:
                assert ranking.outcome is Outcome.APPLIED
                continue
            assert ranking.outcome in LOCAL
            np.testing.assert_array_equal(ranking.scores, alone.score_rows(CANDIDATES))


def test_delays_that_differ_cost_no_correction_and_mix_none_up(graphs, proxied):
    proxy, direct = proxied(delayed(0.02)), proxied(passed)
    with (
        Session(graphs, CorrectionLink.to(proxy.url, graphs.bundle), BUDGET) as session,
        Session(graphs, CorrectionLink.to(direct.url, graphs.bundle), BUDGET) as other,
    ):
        for click in range(1, 25):
            session.click_row(click)
            other.click_row(click)
            one, two = session.rerank_rows(CANDIDATES), other.rerank_rows(CANDIDATES)
            assert one.outcome is two.outcome is Outcome.APPLIED
            np.testing.assert_array_equal(one.scores, two.scores)


def test_the_network_comes_back_and_so_do_corrections(graphs, proxied):
    proxy = proxied(lambda each: each.reset() if 2 <= each.number <= 4 else each.send())
    with Session(graphs, CorrectionLink.to(proxy.url, graphs.bundle), BUDGET) as session:
        outcomes = []
        for click in range(1, 12):
            session.click_row(click)
            outcomes.append(session.rerank_rows(CANDIDATES).outcome)
            if outcomes[-1] is not Outcome.APPLIED:
                time.sleep(0.3)  # the breaker leaves it alone for a second
        assert outcomes[0] is outcomes[-1] is Outcome.APPLIED
        assert Outcome.OFFLINE in outcomes


CLICKS = (3, 5, 7, 9, 11, 13)


def _known(graphs, url):
    """Scores after each of CLICKS, without a correction and with it."""
    known = []
    with Session(graphs, CorrectionLink.to(url, graphs.bundle), BUDGET) as session:
        for click in CLICKS:
            session.click_row(click)
            ranking = session.rerank_rows(CANDIDATES)
            assert ranking.outcome is Outcome.APPLIED
            known.append((session.score_rows(CANDIDATES), ranking.scores))
    return known


class Devices:
    """Devices that click without a pause until told to stop, and check every ranking."""

    def __init__(self, graphs, url, known, count=4):
        self.outcomes, self.wrong, self._ended = Counter(), [], threading.Event()
        self._threads = [
            threading.Thread(target=self._play, args=(graphs, url, known)) for _ in range(count)
        ]
        for thread in self._threads:
            thread.start()

    def _play(self, graphs, url, known):
        breaker = Breaker(time.monotonic, pause_s=0.05, longest_s=0.1)
        link = CorrectionLink.to(url, graphs.bundle, breaker=breaker)
        while not self._ended.is_set():
            session = Session(graphs, link, BUDGET)
            for click, (local, corrected) in zip(CLICKS, known, strict=True):
                session.click_row(click)
                ranking = session.rerank_rows(CANDIDATES)
                self.outcomes[ranking.outcome] += 1
                wanted = corrected if ranking.outcome is Outcome.APPLIED else local
                # Corrections computed together differ in the last bits.
                if not np.allclose(ranking.scores, wanted, atol=1e-4):
                    self.wrong.append((click, ranking.outcome))
        link.close()

    def reach(self, outcome, more=20):
        """Waits until so many more rankings had an outcome."""
        wanted, deadline = self.outcomes[outcome] + more, time.monotonic() + 30
        while self.outcomes[outcome] < wanted:
            assert time.monotonic() < deadline, self.outcomes
            time.sleep(0.01)

    def stop(self):
        self._ended.set()
        for thread in self._threads:
            thread.join(10)


def test_a_cloud_killed_under_load_costs_quality_alone_and_is_found_again(
    graphs, small_store, tmp_path
):
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = str(free.getsockname()[1])
    command = ["cloud-service", "serve", "--port", port]
    settings = {"CLOUD_STORE": str(small_store.folder), "CLOUD_MAX_QUEUE_MS": "1000"}
    with running(command, tmp_path / "first.log", **settings) as process:
        url = listening(process, tmp_path / "first.log")
        devices = Devices(graphs, url, _known(graphs, url))
        try:
            devices.reach(Outcome.APPLIED)
            process.kill()
            devices.reach(Outcome.OFFLINE)
            with running(command, tmp_path / "second.log", **settings) as again:
                listening(again, tmp_path / "second.log")
                devices.reach(Outcome.APPLIED)
                devices.stop()
        finally:
            devices.stop()
    assert not devices.wrong
    assert set(devices.outcomes) <= LOCAL | {Outcome.APPLIED}


def test_a_version_that_is_retired_under_load_is_refused_and_never_answered_by_another(
    graphs, small_store, tmp_path
):
    shutil.copytree(small_store.folder, tmp_path / "store")
    store = Store(tmp_path / "store")
    old = store.production()
    assert old == graphs.bundle.version
    settings = {"CLOUD_STORE": str(store.folder), "CLOUD_MAX_QUEUE_MS": "1000"}
    command = ["cloud-service", "serve", "--port", "0"]
    with running(command, tmp_path / "log", **settings) as process:
        url = listening(process, tmp_path / "log")
        devices = Devices(graphs, url, _known(graphs, url))
        try:
            devices.reach(Outcome.APPLIED)
            new = published_again(store, old, datetime(2026, 1, 3, tzinfo=UTC))
            store.promote(new)
            devices.reach(Outcome.APPLIED, more=200)  # the old one goes on beside the new one
            assert not set(devices.outcomes) & {Outcome.WRONG_MODEL, Outcome.REFUSED}
            store.retire(old)
            devices.reach(Outcome.WRONG_MODEL)
        finally:
            devices.stop()
    assert not devices.wrong
    assert "Traceback" not in (tmp_path / "log").read_text()


def test_a_thousand_connections_that_stall_keep_nobody_from_a_correction(
    served_store, small_store, graphs
):
    """Some say nothing, others stop within the head, after it or within H."""
    head = request(small_store.production(), b"", accept=ROW_TYPE)
    begun = [b"", head[:40], head, head + bytes(1000)]
    parts = urlsplit(served_store)
    lines = []
    try:
        for number in range(1000):
            lines.append(socket.create_connection((parts.hostname, parts.port), 10))
            lines[-1].sendall(begun[number % len(begun)])
        link = CorrectionLink.to(served_store, graphs.bundle)
        with Session(graphs, link, BUDGET) as session:
            outcomes = Counter()
            for item in range(1, 51):
                session.click_row(item)
                outcomes[session.rerank_rows(CANDIDATES).outcome] += 1
        assert outcomes[Outcome.APPLIED] >= 45, outcomes
    finally:
        for line in lines:
            line.close()
