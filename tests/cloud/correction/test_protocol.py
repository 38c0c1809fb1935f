"""The short cut of corrections on real sockets: the same answers as on the general route."""

import signal
import socket
import struct
import threading
import time
from contextlib import contextmanager
from urllib.parse import urlsplit

import numpy as np
import pytest

from shared.model import ModelSettings
from shared.wire import FORMS, Wire
from tests.instruments.processes import listening, running
from tests.instruments.sockets import request

pytestmark = pytest.mark.slow(10)

WIRE = Wire(ModelSettings())


def hidden(seed=0, clicks=4):
    rows = np.zeros((10, 64), np.float32)
    rows[:clicks] = np.random.default_rng(seed).normal(size=(clicks, 64))
    return WIRE.encode_hidden(rows)


class Line:
    """A connection that returns responses one at a time."""

    def __init__(self, url):
        address = urlsplit(url)
        self.sock = socket.create_connection((address.hostname, address.port), 10)
        self.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._buffer = b""

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.sock.close()

    def ask(self, data):
        self.sock.sendall(data)
        return self.answer()

    def answer(self):
        """Returns status, headers and body of the next response."""
        while b"\r\n\r\n" not in self._buffer:
            self._more()
        head, _, self._buffer = self._buffer.partition(b"\r\n\r\n")
        status_line, *lines = head.decode().split("\r\n")
        headers = {name.lower(): value for name, value in (line.split(": ", 1) for line in lines)}
        size = int(headers["content-length"])
        while len(self._buffer) < size:
            self._more()
        body, self._buffer = self._buffer[:size], self._buffer[size:]
        return int(status_line.split()[1]), headers, body

    def _more(self):
        chunk = self.sock.recv(65536)
        if not chunk:
            raise ConnectionResetError
        self._buffer += chunk


@pytest.fixture(scope="module")
def version(small_store):
    return small_store.production()


@pytest.fixture
def line(served_store):
    with Line(served_store) as connection:
        yield connection


def test_the_second_request_with_a_head_is_answered_as_the_first_was(line, version):
    for layout in FORMS.values():
        wire = Wire(ModelSettings(), half=layout.half)
        named = {"accept": layout.correction_type, "kind": layout.hidden_type}
        for seed in range(3):
            body = wire.encode_hidden(WIRE.decode_hidden(hidden(seed)))
            data = request(version, body, **named, length=len(body))
            usual = request(version, body, "Connection: keep-alive", **named, length=len(body))
            short, plain = line.ask(data), line.ask(usual)
            assert short[0] == plain[0] == 200
            assert short[2] == plain[2]
            timing, date = short[1].pop("server-timing"), short[1].pop("date")
            assert timing.startswith("queue;dur=0000")
            assert date.endswith("GMT")
            del plain[1]["server-timing"], plain[1]["date"]
            assert short[1] == plain[1]


def test_another_head_of_the_same_length_is_another_request(line, version):
    data = request(version, hidden())
    unknown = data.replace(version.encode(), b"0" * len(version))
    assert len(unknown) == len(data)
    assert [line.ask(data_sent)[0] for data_sent in (data, data, unknown, data, data)] == [
        200, 200, 404, 200, 200,
    ]  # fmt: skip


def test_an_h_in_pieces_is_one_h(line, version):
    data = request(version, hidden())
    expected = line.ask(data)
    for at in range(0, len(data), 700):
        line.sock.sendall(data[at : at + 700])
        time.sleep(0.01)
    assert line.answer()[2] == expected[2]


def test_requests_sent_ahead_are_answered_in_their_order(line, version):
    bodies = [hidden(seed) for seed in range(12)]
    alone = [line.ask(request(version, body))[2] for body in bodies]
    line.sock.sendall(b"".join(request(version, body) for body in bodies))
    together = [line.answer()[2] for _ in bodies]
    for single, batched in zip(alone, together, strict=True):
        np.testing.assert_allclose(
            np.frombuffer(single, "<f4"), np.frombuffer(batched, "<f4"), atol=1e-6
        )


def test_both_ways_may_take_turns_on_one_connection(line, version):
    data = request(version, hidden())
    health = b"GET /health HTTP/1.1\r\nHost: x\r\n\r\n"
    wrong = request(version, b"abc", length=3)
    line.sock.sendall(data + health + data + wrong + data)
    assert [line.answer()[0] for _ in range(5)] == [200, 200, 200, 400, 200]


@pytest.mark.parametrize(
    ("value", "code"),
    [(float("nan"), "not-finite"), (float("inf"), "not-finite"), (0.0, "empty-hidden")],
)
def test_an_h_that_cannot_be_corrected_gets_its_problem_the_short_way(line, version, value, code):
    line.ask(request(version, hidden()))
    status, headers, body = line.ask(request(version, struct.pack("<f", value) * 640))
    assert status == 422
    assert headers["content-type"] == "application/problem+json"
    assert code.encode() in body
    assert line.ask(request(version, hidden()))[0] == 200


def test_work_that_nobody_wants_any_more_is_not_done(line, version):
    status, _, body = line.ask(request(version, hidden(), "Correction-Deadline: 0"))
    assert (status, b"deadline-passed" in body) == (504, True)
    assert line.ask(request(version, hidden(), "Correction-Deadline: 2000.5"))[0] == 200


@pytest.mark.parametrize("odd", ["", "-1", "soon", "1e3", "nan", "9" * 40])
def test_a_deadline_that_is_none_is_refused(line, version, odd):
    status, _, body = line.ask(request(version, hidden(), f"Correction-Deadline: {odd}"))
    assert (status, b"bad-deadline" in body) == (400, True)


def test_many_devices_at_once_each_get_their_own_correction(served_store, version):
    bodies = [hidden(seed, clicks=1 + seed % 10) for seed in range(24)]
    with Line(served_store) as connection:
        expected = [connection.ask(request(version, body))[2] for body in bodies]
    answers = {}

    def device(device_index):
        with Line(served_store) as mine:
            for turn in range(20):
                body_index, status = (device_index + turn) % len(bodies), 503
                while status == 503:  # a busy machine sheds
                    status, _, body = mine.ask(request(version, bodies[body_index]))
                answers[device_index, turn] = body_index, body

    threads = [threading.Thread(target=device, args=(device_index,)) for device_index in range(24)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert len(answers) == 24 * 20
    for body_index, body in answers.values():
        np.testing.assert_allclose(
            np.frombuffer(body, "<f4"), np.frombuffer(expected[body_index], "<f4"), atol=1e-5
        )


@contextmanager
def all_at_once(process, lines, data):
    """Stops the process, sends all requests, and lets it continue: it finds all of them at once."""
    assert lines[0].ask(data)[0] == 200
    process.send_signal(signal.SIGSTOP)
    for line in lines:
        line.sock.sendall(data)
    yield
    process.send_signal(signal.SIGCONT)


def test_what_would_wait_too_long_is_shed_at_once_and_the_rest_served(small_store, tmp_path):
    version, log = small_store.production(), tmp_path / "log"
    settings = {"CLOUD_STORE": str(small_store.folder), "CLOUD_MAX_QUEUE_MS": "0.1"}
    with running(["cloud-service", "serve", "--port", "0"], log, **settings) as process:
        lines = [Line(listening(process, log)) for _ in range(60)]
        with all_at_once(process, lines, request(version, hidden())):
            pass
        answers = [line.answer() for line in lines]
        for line in lines:
            line.sock.close()
    statuses = [status for status, _, _ in answers]
    assert set(statuses) == {200, 503}
    for status, headers, body in answers:
        if status == 503:
            assert headers["retry-after"] == "1"
            assert b"overloaded" in body


def test_sigterm_answers_what_is_in_the_queue(small_store, tmp_path):
    version, log = small_store.production(), tmp_path / "log"
    settings = {"CLOUD_STORE": str(small_store.folder), "CLOUD_MAX_QUEUE_MS": "5000"}
    with running(["cloud-service", "serve", "--port", "0"], log, **settings) as process:
        lines = [Line(listening(process, log)) for _ in range(40)]
        with all_at_once(process, lines, request(version, hidden())):
            process.send_signal(signal.SIGTERM)
        ended = []
        for line in lines:
            try:
                ended.append(line.answer()[0])
            except ConnectionError:
                ended.append(0)
            line.sock.close()
        assert process.wait(10) in (0, -signal.SIGTERM)
    assert "Traceback" not in log.read_text()
    assert ended.count(200) >= 8
    assert set(ended) <= {0, 200}


def test_an_idle_connection_is_closed_after_the_keep_alive_time(small_store, tmp_path):
    version, log = small_store.production(), tmp_path / "log"
    settings = {"CLOUD_STORE": str(small_store.folder), "CLOUD_KEEP_ALIVE": "2"}
    with (
        running(["cloud-service", "serve", "--port", "0"], log, **settings) as process,
        Line(listening(process, log)) as line,
    ):
        for _ in range(4):
            assert line.ask(request(version, hidden()))[0] == 200
            time.sleep(0.5)
        begun = time.monotonic()
        assert line.sock.recv(1) == b""
        assert time.monotonic() - begun < 5


def test_a_device_that_takes_no_answers_is_not_read_from_any_more(line, version):
    data = request(version, hidden())
    expected = line.ask(data)[2]
    line.sock.settimeout(1.0)
    sent = 0
    for _ in range(40_000):  # 110 MB: far more than sockets hold
        try:
            line.sock.sendall(data)
        except TimeoutError:
            break
        sent += 1
    assert 0 < sent < 40_000
    line.sock.settimeout(10)
    statuses = set()
    for _ in range(sent):
        status, _, body = line.answer()
        statuses.add(status)
        assert status == 503 or len(body) == len(expected)
    assert 200 in statuses
