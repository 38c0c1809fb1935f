"""A real cloud behind a network that fails: the device ranks, and never with a wrong correction."""

import random
import time

import numpy as np
import pytest

from device_client.budget import Budget
from device_client.bundle import Bundle
from device_client.link import CorrectionLink
from device_client.scn import Graphs
from device_client.session import Session
from shared.outcomes import Outcome
from tests.proxy import Proxy

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


def _flipped(exchange):
    body = bytearray(exchange.body)
    body[random.Random(exchange.number).randrange(len(body))] ^= 1
    exchange.send(exchange.with_body(bytes(body)))


def _dripped(exchange):
    for byte in exchange.answer:
        exchange.send(bytes([byte]))
        time.sleep(0.003)


def _cut_then(end):
    def fault(exchange):
        exchange.send(exchange.answer[:-100])
        getattr(exchange, end)()

    return fault


def _jitter(exchange):
    time.sleep(random.Random(exchange.number).uniform(0, 0.02))
    exchange.send()


def _nan(exchange):
    body = np.frombuffer(exchange.body, "<f4").copy()
    body[7] = np.nan
    exchange.send(exchange.with_body(body.tobytes()))


def _shuffled(exchange):
    body = np.frombuffer(exchange.body, "<f4")
    exchange.send(exchange.with_body(body[::-1].tobytes()))


def _of_the_click_before(exchange):
    exchange.send(exchange.earlier[-1] if exchange.earlier else exchange.answer)


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
    "an answer that never comes": lambda exchange: None,
    "a connection closed before the answer": lambda exchange: exchange.close(),
    "a connection reset before the answer": lambda exchange: exchange.reset(),
    "an answer cut off by a close": _cut_then("close"),
    "an answer cut off by a reset": _cut_then("reset"),
    "an answer cut off by silence": lambda exchange: exchange.send(exchange.answer[:-100]),
    "a head without its body": lambda exchange: exchange.send(exchange.head + b"\r\n\r\n"),
    "half a head": lambda exchange: exchange.send(exchange.head[:40]),
    "an answer byte by byte": _dripped,
    "one flipped bit": _flipped,
    "one number that is none": _nan,
    "the numbers in another order": _shuffled,
    "the answer to the click before": _of_the_click_before,
    "the answer twice": lambda exchange: exchange.send(2 * exchange.answer),
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
            session.click(click)
            alone.click(click)
            ranking = session.rerank(CANDIDATES)
            if click == 3:
                assert ranking.outcome is Outcome.APPLIED
                continue
            assert ranking.outcome in LOCAL
            np.testing.assert_array_equal(ranking.scores, alone.scores(CANDIDATES))


def test_delays_that_differ_cost_no_correction_and_mix_none_up(graphs, proxied):
    proxy, direct = proxied(_jitter), proxied(lambda each: each.send())
    with (
        Session(graphs, CorrectionLink.to(proxy.url, graphs.bundle), BUDGET) as session,
        Session(graphs, CorrectionLink.to(direct.url, graphs.bundle), BUDGET) as other,
    ):
        for click in range(1, 25):
            session.click(click)
            other.click(click)
            one, two = session.rerank(CANDIDATES), other.rerank(CANDIDATES)
            assert one.outcome is two.outcome is Outcome.APPLIED
            np.testing.assert_array_equal(one.scores, two.scores)


def test_the_network_comes_back_and_so_do_corrections(graphs, proxied):
    proxy = proxied(lambda each: each.reset() if 2 <= each.number <= 4 else each.send())
    with Session(graphs, CorrectionLink.to(proxy.url, graphs.bundle), BUDGET) as session:
        outcomes = []
        for click in range(1, 12):
            session.click(click)
            outcomes.append(session.rerank(CANDIDATES).outcome)
            if outcomes[-1] is not Outcome.APPLIED:
                time.sleep(0.3)  # the breaker leaves it alone for a second
        assert outcomes[0] is outcomes[-1] is Outcome.APPLIED
        assert Outcome.OFFLINE in outcomes
