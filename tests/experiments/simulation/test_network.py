"""The shaped socket against a real TCP server on this machine: lower bounds are exact."""

import random
import socket
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest

from experiments.simulation.network import (
    MIN_RTO_S,
    PROFILES,
    NetworkProfile,
    profile,
)
from experiments.simulation.shaping import CountedSocket, ShapedSocket, shaped

Connect = Callable[..., Any]
SLACK_S = 0.25
"""How late a busy machine may be before a test fails."""


def _echo(listener: socket.socket) -> None:
    while True:
        try:
            peer, _ = listener.accept()
        except OSError:
            return
        threading.Thread(target=_echo_one, args=(peer,), daemon=True).start()


def _echo_one(peer: socket.socket) -> None:
    with peer:
        peer.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        try:
            while data := peer.recv(65_536):
                if data == b"silence":
                    continue
                if data == b"quit":
                    return
                peer.sendall(data)
        except OSError:
            return


@pytest.fixture
def connect() -> Iterator[Connect]:
    listener = socket.create_server(("127.0.0.1", 0))
    thread = threading.Thread(target=_echo, args=(listener,), daemon=True)
    thread.start()
    opened: list[ShapedSocket | CountedSocket] = []

    def connected(network: NetworkProfile, rng: object = None) -> ShapedSocket | CountedSocket:
        real = socket.create_connection(listener.getsockname())
        real.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        opened.append(shaped(real, network, rng or random.Random(0)))  # type: ignore[arg-type]
        return opened[-1]

    yield connected
    for each in opened:
        each.close()
    listener.shutdown(socket.SHUT_RDWR)
    listener.close()
    thread.join(timeout=5)


def _read(shaped: Any, count: int) -> tuple[bytes, float]:
    """All `count` bytes, and when the first one was there."""
    buffer = bytearray(65_536)
    data = bytearray()
    first = 0.0
    while len(data) < count:
        size = shaped.recv_into(buffer)
        assert size, "the stream ended early"
        first = first or time.perf_counter()
        data += buffer[:size]
    return bytes(data), first


def _legs(shaped: Any, payload: bytes) -> tuple[float, float, float]:
    """Seconds of upload, of the wait for the first byte, and of the download of an echo."""
    start = time.perf_counter()
    shaped.sendall(payload)
    sent = time.perf_counter()
    data, first = _read(shaped, len(payload))
    done = time.perf_counter()
    assert data == payload
    return sent - start, first - sent, done - first


def test_a_profile_is_found_by_its_name() -> None:
    assert profile("4g-15").up_bytes_per_s == 15e6
    assert {"loopback", "wifi-home", "lte-good", "lte-typical", "lte-poor", "3g"} <= set(PROFILES)
    assert all(name == entry.name and entry.description for name, entry in PROFILES.items())


def test_an_unknown_profile_is_refused_with_the_nearest_name() -> None:
    with pytest.raises(ValueError, match="did you mean 'lte-typical'"):
        profile("lte-typica")


@pytest.mark.parametrize(
    "wrong",
    [{"up_bytes_per_s": 0}, {"down_bytes_per_s": -1}, {"rtt_s": -1}, {"loss": 1}, {"loss": -0.1}],
)
def test_a_profile_refuses_numbers_no_network_has(wrong: dict[str, float]) -> None:
    with pytest.raises(ValueError):
        NetworkProfile("odd", "", **wrong)


@pytest.mark.parametrize(
    ("name", "up_ms", "down_ms"),
    [
        ("4g-5", 0.51, 0.83),
        ("4g-15", 0.17, 0.28),
        ("5g-50", 0.051, 0.083),
        ("5g-100", 0.026, 0.042),
    ],
)
def test_the_papers_profiles_give_the_papers_legs(name: str, up_ms: float, down_ms: float) -> None:
    network = profile(name)
    assert network.serialisation_s(2_560, up=True) * 1e3 == pytest.approx(up_ms, abs=0.006)
    assert network.serialisation_s(4_160, up=False) * 1e3 == pytest.approx(down_ms, abs=0.006)
    assert network.latency_s(random.Random(0)) == network.recovery_s(9, random.Random(0)) == 0


def test_upload_and_download_take_the_bytes_over_the_bandwidth(connect: Connect) -> None:
    payload = bytes(range(256)) * 80  # 20,480 bytes
    shaped = connect(NetworkProfile("narrow", "", up_bytes_per_s=1e6, down_bytes_per_s=5e5))
    up, _, down = _legs(shaped, payload)
    assert 0.020_48 <= up <= 0.020_48 + SLACK_S
    # The first byte is one of those that have to be serialised.
    assert 0.9 * 0.040_96 <= down <= 0.040_96 + SLACK_S


def test_the_first_byte_comes_alone_so_that_one_packet_has_a_download_too(
    connect: Connect,
) -> None:
    shaped = connect(NetworkProfile("narrow", "", down_bytes_per_s=2e4))
    _, cloud, down = _legs(shaped, bytes(1_400))
    assert cloud < 0.05
    assert 0.9 * 0.07 <= down <= 0.07 + SLACK_S


def test_a_short_delay_is_not_rounded_up_to_the_sleep_of_the_system(connect: Connect) -> None:
    shaped = connect(profile("5g-100"))
    ups = [_legs(shaped, bytes(2_560))[0] for _ in range(60)]
    assert min(ups) >= 25.6e-6
    assert min(ups) <= 1e-3


def test_half_the_round_trip_is_paid_each_way(connect: Connect) -> None:
    up, cloud, down = _legs(connect(NetworkProfile("far", "", rtt_s=0.08)), bytes(4_000))
    assert 0.04 <= up <= 0.04 + SLACK_S
    assert 0.04 <= cloud <= 0.04 + SLACK_S
    assert down <= SLACK_S


def test_an_answer_in_two_writes_pays_the_way_once(connect: Connect) -> None:
    shaped = connect(NetworkProfile("far", "", rtt_s=0.4))
    start = time.perf_counter()
    shaped.sendall(b"head")
    shaped.sendall(b"body")
    assert time.perf_counter() - start < 0.4
    assert _read(shaped, 8)[0] == b"headbody"
    assert 0.4 <= time.perf_counter() - start < 0.6


def test_jitter_is_drawn_anew_for_every_message_and_is_never_negative() -> None:
    network = NetworkProfile("shaky", "", rtt_s=0.02, jitter_s=0.01)
    rng = random.Random(3)
    draws = np.array([network.latency_s(rng) for _ in range(20_000)])
    assert draws.min() >= 0.01
    assert draws.mean() == pytest.approx(0.015, rel=0.05)
    assert len(np.unique(draws)) == len(draws)


def test_a_loss_costs_a_retransmission_timeout() -> None:
    network = NetworkProfile("lossy", "", rtt_s=0.05, loss=0.1)
    rng = np.random.default_rng(4)
    draws = np.array([network.recovery_s(1, rng) for _ in range(20_000)])
    assert np.mean(draws > 0) == pytest.approx(0.1, rel=0.1)
    assert min(draws[draws > 0]) == pytest.approx(0.05 + MIN_RTO_S)
    several = np.mean([network.recovery_s(4, rng) > 0 for _ in range(20_000)])
    assert several == pytest.approx(1 - 0.9**4, rel=0.1)


def test_a_lost_packet_holds_the_bytes_back(connect: Connect) -> None:
    class OnlyTheFirstIsLost:
        def __init__(self) -> None:
            self.draws = iter([0.0])

        def random(self) -> float:
            return next(self.draws, 0.9)

    shaped = connect(NetworkProfile("lossy", "", loss=0.5), OnlyTheFirstIsLost())
    up, cloud, _ = _legs(shaped, b"x" * 100)
    assert MIN_RTO_S <= up <= MIN_RTO_S + SLACK_S
    assert cloud < MIN_RTO_S


def test_the_same_seed_gives_the_same_delays_however_the_bytes_fall() -> None:
    network = NetworkProfile("both", "", rtt_s=0.01, jitter_s=0.01, loss=0.3)

    def dues(reads: list[int], seed: int) -> list[float]:
        near, far = socket.socketpair()
        with near, far:
            shaped = ShapedSocket(near, network, random.Random(seed))
            for size in reads:
                far.sendall(bytes(size))
                shaped._arrive()
            lost = shaped._due - shaped._free - shaped._latency
            return [round(shaped._latency, 9), round(lost, 4)]

    assert dues([5_000], seed=7) == dues([700, 2_000, 2_300], seed=7)
    assert dues([5_000], seed=7) != dues([5_000], seed=8)


def test_a_timeout_holds_while_the_upload_is_on_its_way(connect: Connect) -> None:
    shaped = connect(NetworkProfile("far", "", rtt_s=4.0))
    shaped.settimeout(0.05)
    start = time.perf_counter()
    with pytest.raises(TimeoutError):
        shaped.sendall(b"H")
    assert 0.05 <= time.perf_counter() - start <= 0.05 + SLACK_S
    assert shaped.sent_bytes == 0


def test_a_timeout_holds_while_the_answer_is_on_its_way_and_loses_nothing(
    connect: Connect,
) -> None:
    shaped = connect(NetworkProfile("far", "", rtt_s=0.6))
    shaped.sendall(b"H")
    time.sleep(0.05)
    shaped.settimeout(0.05)
    start = time.perf_counter()
    with pytest.raises(TimeoutError):
        shaped.recv_into(bytearray(10))
    assert 0.05 <= time.perf_counter() - start <= 0.05 + SLACK_S
    shaped.settimeout(None)
    assert _read(shaped, 1)[0] == b"H"
    assert time.perf_counter() - start >= 0.3


@pytest.mark.parametrize("name", ["loopback", "4g-5"])
def test_a_timeout_holds_when_the_cloud_says_nothing(connect: Connect, name: str) -> None:
    shaped = connect(profile(name))
    shaped.settimeout(0.03)
    shaped.sendall(b"silence")
    start = time.perf_counter()
    with pytest.raises(TimeoutError):
        shaped.recv_into(bytearray(10))
    assert 0.03 <= time.perf_counter() - start <= 0.03 + SLACK_S


def test_a_timeout_of_nothing_is_refused(connect: Connect) -> None:
    for seconds in (0, -1):
        with pytest.raises(ValueError):
            connect(profile("4g-5")).settimeout(seconds)


@pytest.mark.parametrize("name", ["loopback", "4g-5", "5g-100", "wifi-home"])
def test_a_large_message_arrives_whole_and_is_counted(connect: Connect, name: str) -> None:
    payload = random.Random(5).randbytes(60_000)
    shaped = connect(profile(name), np.random.default_rng(5))
    _legs(shaped, payload)
    assert shaped.sent_bytes == shaped.received_bytes == len(payload)


@pytest.mark.parametrize("name", ["loopback", "4g-5"])
def test_a_small_buffer_takes_the_answer_in_parts(connect: Connect, name: str) -> None:
    shaped = connect(profile(name))
    shaped.sendall(b"abcdefgh")
    buffer = bytearray(8)
    parts = b""
    while len(parts) < 8:
        parts += bytes(buffer[: shaped.recv_into(buffer, 3)])
    assert parts == b"abcdefgh"


@pytest.mark.parametrize("name", ["loopback", "4g-5"])
def test_the_end_of_the_stream_is_seen_and_stays(connect: Connect, name: str) -> None:
    shaped = connect(profile(name))
    shaped.sendall(b"quit")
    assert [shaped.recv_into(bytearray(4)) for _ in range(2)] == [0, 0]


def test_nothing_shaped_adds_nearly_nothing(connect: Connect) -> None:
    shaped = connect(profile("loopback"))
    totals = [sum(_legs(shaped, bytes(2_560))) for _ in range(100)]
    assert min(totals) < 2e-3


def test_it_has_the_descriptor_of_the_real_socket(connect: Connect) -> None:
    shaped = connect(profile("4g-5"))
    assert shaped.fileno() > 0
    shaped.close()
    assert shaped.fileno() == -1
