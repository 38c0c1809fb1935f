"""The link leaves a failing cloud alone for a while, and comes back by itself."""

import threading
import time

import numpy as np
import pytest

from device_client.bundle import Bundle
from device_client.correction.breaker import Breaker
from device_client.correction.connection import Connection
from device_client.correction.http_answer import BadAnswer
from device_client.correction.link import CorrectionLink
from device_client.correction.received import cloud_times
from device_client.correction.sockets import tcp_connect
from device_client.scn import Graphs
from device_client.session import Session
from shared.outcomes import Outcome
from shared.wire import FORMS, FullCorrection, RowCorrection, Wire
from tests.device.conftest import answer

CANDIDATES = np.arange(1, 20)


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture(scope="module")
def graphs(small_bundle):
    return Graphs(Bundle.open(small_bundle))


def test_three_failures_in_a_row_pause_the_calls_and_success_ends_it():
    clock = Clock()
    breaker = Breaker(clock)
    breaker.failed()
    breaker.failed()
    assert not breaker.open
    breaker.failed()
    assert breaker.open
    clock.now += 1.01
    assert not breaker.open
    breaker.succeeded()
    breaker.failed()
    assert not breaker.open


def test_each_further_failure_doubles_the_pause_up_to_half_a_minute():
    clock = Clock()
    breaker = Breaker(clock)
    pauses = []
    for _ in range(12):
        breaker.failed()
        begun = clock.now
        while breaker.open:
            clock.now += 0.25
        pauses.append(clock.now - begun)
    assert pauses[:6] == [0, 0, 1, 2, 4, 8]
    assert pauses[-1] == 30


def test_the_cloud_may_ask_for_a_pause_but_not_for_ever():
    clock = Clock()
    breaker = Breaker(clock)
    breaker.failed(retry_after_s=5.0)
    assert breaker.open
    clock.now += 5.1
    assert not breaker.open
    breaker.failed(retry_after_s=1e9)
    clock.now += 30.1
    assert not breaker.open


def test_a_paused_link_answers_offline_without_a_call_and_tries_again(graphs, fake_cloud):
    working = threading.Event()
    body = bytes(416)

    def reply(request):
        if working.is_set():
            return answer(body, version=graphs.bundle.version)
        return answer(b"", version="", status="500 Oh")

    cloud = fake_cloud(reply)
    clock = Clock()
    link = CorrectionLink.to(cloud.url, graphs.bundle, breaker=Breaker(clock))
    with Session(graphs, link) as session:
        for item in range(1, 7):
            session.click_row(item)
            session.settle(2)
        assert len(cloud.requests) == 3
        assert session.rerank_rows(CANDIDATES).outcome is Outcome.OFFLINE
        assert link.outcomes == {Outcome.REFUSED: 3, Outcome.OFFLINE: 3}
        working.set()
        clock.now += 1.01
        session.click_row(9)
        assert session.settle(2).outcome is Outcome.APPLIED


def test_a_connection_is_kept_for_all_requests(graphs, fake_cloud):
    cloud = fake_cloud(lambda r: answer(bytes(416), version=graphs.bundle.version))
    with Session(graphs, CorrectionLink.to(cloud.url, graphs.bundle)) as session:
        for item in range(1, 20):
            session.click_row(item)
            assert session.settle(2).outcome is Outcome.APPLIED
    assert cloud.connections == 1
    assert len(cloud.requests) == 19


def test_a_connection_closed_while_idle_is_opened_again_unnoticed(graphs, fake_cloud, eventually):
    cloud = fake_cloud(lambda r: answer(bytes(416), version=graphs.bundle.version))
    with Session(graphs, CorrectionLink.to(cloud.url, graphs.bundle)) as session:
        session.click_row(1)
        assert session.settle(2).outcome is Outcome.APPLIED
        cloud._open[0].shutdown(2)
        session.click_row(2)
        assert session.settle(2).outcome is Outcome.APPLIED
    assert cloud.connections == 2


def test_closing_a_link_ends_its_thread_and_its_connection(graphs, fake_cloud):
    cloud = fake_cloud(lambda r: answer(bytes(416), version=graphs.bundle.version))
    before = threading.active_count()
    for _ in range(20):
        session = Session(graphs, CorrectionLink.to(cloud.url, graphs.bundle))
        session.click_row(1)
        session.settle(2)
        session.close()
    alive = [t for t in threading.enumerate() if t.name == "corrections"]
    assert not alive, before


def test_the_full_form_is_cut_to_the_row_of_the_last_click(graphs, fake_cloud):
    full = np.arange(1040, dtype="<f4")
    cloud = fake_cloud(lambda r: answer(full.tobytes(), version=graphs.bundle.version, form="full"))
    with Session(graphs, CorrectionLink.to(cloud.url, graphs.bundle, form="full")) as session:
        session.preload_rows([1, 2], ask=False)
        session.click_row(3)
        found = session.settle(2).correction
    np.testing.assert_array_equal(found.attn, full[:400].reshape(4, 10, 10)[:, 2])
    np.testing.assert_array_equal(found.bias, full[400:].reshape(4, 10, 16)[:, 2])


@pytest.mark.parametrize("form", ["full-half", "row-half"])
def test_the_half_forms_send_h_and_take_corrections_in_float16(graphs, fake_cloud, form):
    wire = Wire(graphs.bundle.manifest.model, half=True)
    full = FullCorrection(
        np.linspace(-3, 3, 400, dtype=np.float32).reshape(4, 10, 10),
        np.linspace(-2, 2, 640, dtype=np.float32).reshape(4, 10, 16),
    )
    row = RowCorrection(full.attn[:, 2], full.bias[:, 2])
    body = wire.encode_full(full) if form == "full-half" else wire.encode_row(row)
    assert len(body) == {"full-half": 2_080, "row-half": 208}[form]
    cloud = fake_cloud(lambda r: answer(body, version=graphs.bundle.version, form=form))
    with Session(graphs, CorrectionLink.to(cloud.url, graphs.bundle, form=form)) as session:
        session.preload_rows([1, 2], ask=False)
        session.click_row(3)
        found = session.settle(2).correction
        hidden = session._scn.hidden.copy()
    np.testing.assert_allclose(found.attn, row.attn, rtol=1e-3, atol=1e-6)
    np.testing.assert_allclose(found.bias, row.bias, rtol=1e-3, atol=1e-6)
    head, sent = cloud.requests[0]
    assert b"Content-Type: application/vnd.device-cloud.hidden-half" in head
    assert len(sent) == 1_280
    np.testing.assert_allclose(wire.decode_hidden(sent), hidden, rtol=1e-3, atol=1e-6)


@pytest.mark.parametrize(
    "url",
    [
        "ftp://x",
        "localhost:8000",
        "",
        "http://",
        "http://[",
        "http://a..b",
        f"http://{'x' * 70}.org",
        "http://x:0",
        "http://x:99999",
        "http://user:secret@x",
        "http://x/ä",
    ],
)
def test_an_address_that_is_none_is_refused(url):
    with pytest.raises(ValueError, match="address"):
        tcp_connect(url)


def test_an_answer_that_is_cut_off_is_no_answer(fake_cloud):
    cloud = fake_cloud(lambda r: answer(bytes(416), version="v")[:-20])
    connection = Connection(cloud.url, "0" * 16, FORMS["row"], 4)
    with pytest.raises(TimeoutError):
        connection.exchange(0.2)


def test_a_chunked_answer_is_read_like_any_other(fake_cloud):
    head = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n"
    cloud = fake_cloud(lambda r: head + b"2\r\nab\r\n3\r\ncde\r\n0\r\n\r\n")
    connection = Connection(cloud.url, "0" * 16, FORMS["row"], 4)
    assert connection.exchange(2).body == b"abcde"
    connection.close()
    with pytest.raises(BadAnswer):
        Connection(cloud.url, "0" * 16, FORMS["row"], 4, body_limit=4).exchange(2)


def testcloud_times_that_makes_no_sense_is_left_out():
    assert cloud_times("queue;dur=0.5, gcn;dur=x, total") == {"queue": 0.5}
    assert cloud_times("") == {}


def test_an_address_in_another_script_is_asked_for_as_dns_spells_it():
    connection = Connection("https://bücher.example/shop/", "0" * 16, FORMS["row"], 4)
    head = bytes(connection._request).split(b"\r\n")
    assert head[0].startswith(b"POST /shop/v1/models/")
    assert head[1] == b"Host: xn--bcher-kva.example"


def test_an_answer_that_came_while_nobody_waited_is_there_at_the_rerank(
    graphs, fake_cloud, eventually
):
    cloud = fake_cloud(lambda r: answer(bytes(416), version=graphs.bundle.version))
    link = CorrectionLink.to(cloud.url, graphs.bundle)
    with Session(graphs, link) as session:
        session.click_row(1)
        session.settle(2)
        session.click_row(2)  # straight from the caller: the line is open and idle
        eventually(lambda: len(cloud.requests) == 2)
        time.sleep(0.02)  # long past the tolerance of 4.21 ms
        assert session.rerank_rows(CANDIDATES).outcome is Outcome.APPLIED


def test_an_answer_nobody_waited_for_makes_room_for_the_next_h(graphs, fake_cloud, eventually):
    cloud = fake_cloud(lambda r: answer(bytes(416), version=graphs.bundle.version))
    link = CorrectionLink.to(cloud.url, graphs.bundle)
    with Session(graphs, link) as session:
        for number, item in enumerate(range(1, 8), start=1):
            session.click_row(item)
            eventually(lambda number=number: len(cloud.requests) == number)
            time.sleep(0.01)
        assert session.settle(2).outcome is Outcome.APPLIED
    assert link.outcomes == {Outcome.APPLIED: 7}
    assert cloud.connections == 1


@pytest.mark.parametrize(
    ("second", "outcome"),
    [
        ({"version": "f" * 16}, Outcome.WRONG_MODEL),
        ({"status": "503 No", "headers": {"retry-after": "0"}}, Outcome.REFUSED),
        ({"headers": {"content-type": "application/octet-strean"}}, Outcome.BAD_PAYLOAD),
        ({"headers": {"content-length": "415"}}, Outcome.BAD_PAYLOAD),
        ({"headers": {"server-timing": "queue;dur=7.125, gcn;dur=1.5"}}, Outcome.APPLIED),
        ({"headers": {"server-timing": "queue;dur=9.020, gcn;dur=8.110"}}, Outcome.APPLIED),
        ({"headers": {"x-more": "of something"}}, Outcome.APPLIED),
    ],
)
def test_an_answer_that_is_like_the_last_but_for_one_header_is_read_as_it_is(
    graphs, fake_cloud, second, outcome
):
    version = graphs.bundle.version
    cloud = fake_cloud(
        lambda r: answer(
            bytes(416), **({"version": version} | (second if len(cloud.requests) == 3 else {}))
        )
    )
    with Session(graphs, CorrectionLink.to(cloud.url, graphs.bundle)) as session:
        for item in (1, 2):
            session.click_row(item)
            assert session.settle(2).outcome is Outcome.APPLIED
        session.click_row(3)
        received = session.settle(2)
        assert received.outcome is outcome
        wanted = second.get("headers", {}).get("server-timing")
        if wanted:
            assert received.server_timing == wanted


def test_an_answer_in_pieces_is_put_together(graphs, fake_cloud):
    version = graphs.bundle.version
    body = np.arange(104, dtype="<f4").tobytes()
    whole = answer(body, version=version)
    pieces = []

    def reply(request):
        if len(cloud.requests) == 1:
            return whole
        sock = cloud._open[0]
        for at in range(0, len(whole) - 100, 100):
            sock.sendall(whole[at : at + 100])
            pieces.append(at)
            time.sleep(0.002)
        return whole[len(pieces) * 100 :]

    cloud = fake_cloud(reply)
    with Session(graphs, CorrectionLink.to(cloud.url, graphs.bundle)) as session:
        for item in (1, 2):
            session.click_row(item)
            received = session.settle(2)
            assert received.outcome is Outcome.APPLIED
            np.testing.assert_array_equal(received.correction.attn.ravel(), np.arange(40))
    assert len(pieces) > 3


def test_an_h_that_waits_is_answered_as_itself_though_the_breaker_kept_a_newer_one_back(
    graphs, fake_cloud, eventually
):
    """The newer one is offline and stays so: it must not get the correction of the older."""
    released = threading.Event()

    def reply(request):
        released.wait(5)
        return answer(bytes(416), version=graphs.bundle.version)

    cloud = fake_cloud(reply)
    clock = Clock()
    link = CorrectionLink.to(cloud.url, graphs.bundle, breaker=Breaker(clock))
    with Session(graphs, link) as session:
        session.click_row(1)  # on its way
        eventually(lambda: len(cloud.requests) == 1)
        session.click_row(2)  # waits for the line
        link.breaker.failed(retry_after_s=5.0)
        session.click_row(3)
        assert session.settle(2).outcome is Outcome.OFFLINE
        released.set()
        eventually(lambda: link.outcomes[Outcome.APPLIED] == 2)
        assert session.settle(2).outcome is Outcome.OFFLINE
        assert session.rerank_rows(CANDIDATES).outcome is Outcome.OFFLINE
