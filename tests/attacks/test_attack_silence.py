"""Connections that send nothing or too little, or read no responses, are closed; health still
answers.
"""

import socket
import time
from contextlib import ExitStack, suppress

import pytest

from shared.wire import correction_path
from tests.attacks.attacking import attacked, hidden, read_to_the_end, statuses
from tests.instruments.sockets import request

pytestmark = pytest.mark.slow(60)

PLACES = 100
SETTINGS = {
    "CLOUD_MAX_CONNECTIONS": str(PLACES),
    "CLOUD_HEAD_SECONDS": "2",
    "CLOUD_BODY_TIMEOUT": "2",
    "CLOUD_WRITE_SECONDS": "2",
}
GET = b"GET /health HTTP/1.1\r\nHost: x\r\n"


@pytest.fixture(scope="module")
def cloud(small_store, tmp_path_factory):
    log = tmp_path_factory.mktemp("silence") / "log"
    with attacked(small_store.folder, small_store.production(), log, **SETTINGS) as cloud:
        until(lambda: cloud.correct() == 200)
        yield cloud


def until(holds, seconds=30):
    """Calls `holds` repeatedly until it returns True; fails after a time."""
    deadline = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.1)


def begun_correction(cloud):
    return f"POST {correction_path(cloud.version)} HTTP/1.1\r\nHost: x\r\n".encode()


SAID = {
    "nothing": lambda cloud: b"",
    "line ends": lambda cloud: b"\r\n\r\n",
    "half a line": lambda cloud: b"GE",
    "half a head": lambda cloud: GET + b"x: ",
    "half a correction's head": begun_correction,
    "a correction's head": lambda cloud: request(cloud.version, b""),
    "half an H": lambda cloud: request(cloud.version, hidden()[:1000]),
    "a JSON body's head": lambda cloud: b"POST /v1/jobs HTTP/1.1\r\nContent-Length: 9\r\n\r\n",
    "half a JSON body": lambda cloud: b"POST /v1/jobs HTTP/1.1\r\nContent-Length: 9\r\n\r\n{",
    "half a chunk": lambda cloud: b"POST /v1/jobs HTTP/1.1\r\n"
    b"Transfer-Encoding: chunked\r\n\r\n9\r\n{",
    "a body that nobody reads": lambda cloud: GET + b"Content-Length: 9\r\n\r\n",
    "a wish for more": lambda cloud: b"POST /v1/jobs HTTP/1.1\r\nExpect: 100-continue\r\n"
    b"Content-Length: 9\r\n\r\n",
}  # fmt: skip


@pytest.mark.parametrize("name", SAID)
def test_a_crowd_that_says_too_little_is_shut_out_and_health_answers_meanwhile(cloud, name):
    until(lambda: cloud.correct() == 200)
    opening = SAID[name](cloud)
    with ExitStack() as lines:
        crowd = [lines.enter_context(cloud.connect()) for _ in range(PLACES)]
        for line in crowd:
            line.sendall(opening)
        assert cloud.get("/health") == 200
        assert cloud.get("/ready") == 200
        assert cloud.get("/v1/models") == 503
        assert cloud.correct() == 503
        until(lambda: cloud.correct() == 200)
        for line in crowd:
            received = read_to_the_end(line).replace(b"HTTP/1.1 100 Continue\r\n\r\n", b"")
            assert statuses(received) in ([], [408], [200]), received


def test_a_crowd_in_the_reserve_does_not_keep_health_from_anybody(cloud):
    until(lambda: cloud.correct() == 200)
    with ExitStack() as lines:
        for _ in range(3 * PLACES):
            lines.enter_context(cloud.connect())
        for _ in range(20):
            assert cloud.get("/health") == 200
    until(lambda: cloud.correct() == 200)


def test_the_reserve_answers_one_question_and_no_other(cloud):
    until(lambda: cloud.correct() == 200)
    with ExitStack() as lines:
        for _ in range(PLACES):
            lines.enter_context(cloud.connect())
        assert statuses(cloud.told((GET + b"\r\n") * 3)) == [200]
        for path in (b"/health/", b"/healthx", b"/metrics", b"/v1/jobs", b"/docs"):
            assert statuses(cloud.told(b"GET %s HTTP/1.1\r\nHost: x\r\n\r\n" % path)) == [503]
        assert statuses(cloud.told(b"POST /health HTTP/1.1\r\nContent-Length: 0\r\n\r\n")) == [503]
        known_request = request(cloud.version, hidden())
        assert statuses(cloud.told(known_request + known_request)) == [503]
        assert b"retry-after: 1\r\n" in cloud.told(known_request)


def test_who_has_a_place_keeps_it_when_more_come(cloud):
    until(lambda: cloud.correct() == 200)
    with ExitStack() as lines:
        device = lines.enter_context(cloud.connect())
        for _ in range(3 * PLACES):
            lines.enter_context(cloud.connect())
        device.sendall(request(cloud.version, hidden(), "Connection: close"))
        assert statuses(read_to_the_end(device)) == [200]


def test_a_pooled_connection_may_rest_far_longer_than_a_head_may_take(cloud):
    until(lambda: cloud.correct() == 200)
    with cloud.connect() as device:
        device.sendall(request(cloud.version, hidden()))
        assert device.recv(65536).startswith(b"HTTP/1.1 200 ")
        time.sleep(4)
        device.sendall(request(cloud.version, hidden(), "Connection: close"))
        assert b"HTTP/1.1 200 OK\r\n" in read_to_the_end(device)


@pytest.mark.parametrize("dribbled", [b"\r\n", b"G"])
def test_a_used_connection_that_dribbles_is_closed_as_well(cloud, dribbled):
    """After a request, an empty line does not begin a head, but any other byte does."""
    until(lambda: cloud.correct() == 200)
    with cloud.connect() as line:
        line.sendall(GET + b"\r\n")
        assert line.recv(65536).startswith(b"HTTP/1.1 200 ")
        line.sendall(dribbled)
        if dribbled == b"G":
            assert statuses(read_to_the_end(line)) == [408]
        else:  # it rests as any other, and is of use
            line.sendall(GET + b"Connection: close\r\n\r\n")
            assert statuses(read_to_the_end(line)) == [200]


def test_a_head_that_never_ends_gains_no_time_by_coming_slowly(cloud):
    until(lambda: cloud.correct() == 200)
    with cloud.connect() as line, suppress(OSError):
        line.sendall(GET)
        line.settimeout(0.2)
        received = b""
        for _ in range(150):
            line.sendall(b"x: y\r\n"[:1] if received else b"x: y\r\n")
            with suppress(TimeoutError):
                if not (chunk := line.recv(65536)):
                    break
                received += chunk
        else:
            raise AssertionError("it was never closed")
    assert statuses(received) == [408]


def unread(cloud, count=400, room=4096):
    """Opens a connection and requests more than the socket buffers hold, without reading."""
    line = socket.socket()
    line.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, room)
    host, port = cloud.url.removeprefix("http://").split(":")
    line.connect((host, int(port)))
    line.sendall((b"GET /openapi.json HTTP/1.1\r\nHost: x\r\n\r\n") * count)
    return line


def test_who_takes_no_answers_is_shut_out(cloud):
    until(lambda: cloud.correct() == 200)
    before = cloud.open_files()
    with ExitStack() as lines:
        crowd = [lines.enter_context(unread(cloud)) for _ in range(20)]
        until(lambda: cloud.open_files() >= before + len(crowd))
        until(lambda: cloud.open_files() <= before, 60)
        # Cut off: the rest was never sent.
        for line in crowd:
            assert read_to_the_end(line).count(b"HTTP/1.1 200 ") < 400


def test_who_takes_its_answers_slowly_gets_them_all(cloud):
    until(lambda: cloud.correct() == 200)
    with unread(cloud, 250, 65536) as line:
        line.sendall(GET + b"Connection: close\r\n\r\n")
        received, begun = b"", time.monotonic()
        while chunk := line.recv(65536):
            received += chunk
            # For far longer than who takes nothing may stay.
            time.sleep(max(0.0, len(received) / 2e6 - (time.monotonic() - begun)))
    assert statuses(received) == [200] * 251
