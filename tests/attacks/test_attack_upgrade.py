"""No body is read as another request (request smuggling), whatever its head says."""

import pytest

from shared.wire import correction_path
from tests.attacks.attacking import attacked, hidden, statuses
from tests.instruments.sockets import request

pytestmark = pytest.mark.slow

SMUGGLED = b"GET /v1/jobs HTTP/1.1\r\nHost: x\r\n\r\n"
GOOD = b"GET /health HTTP/1.1\r\nHost: x\r\n\r\n"


@pytest.fixture(scope="module")
def cloud(small_store, tmp_path_factory):
    log = tmp_path_factory.mktemp("upgrade") / "log"
    with attacked(small_store.folder, small_store.production(), log) as cloud:
        assert cloud.correct() == 200
        yield cloud


PATHS = [
    "/health", "/v1/jobs", "/v1/jobs/x/cancel", "/v1/models/production", "/nothing", "/docs",
    "/v1/models/production/candidates", "correction",
]  # fmt: skip
WISHES = {
    "h2c": b"Upgrade: h2c\r\nConnection: Upgrade, HTTP2-Settings\r\nHTTP2-Settings: AAMA\r\n",
    "websocket": b"Connection: upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n",
    "odd case": b"uPGRADE: X\r\ncONNECTION: kEEP-aLIVE, uPGRADE\r\n",
    "two lines": b"Connection: keep-alive\r\nConnection: upgrade\r\nUpgrade: a\r\nUpgrade: b\r\n",
    "no Connection": b"Upgrade: h2c\r\n",
    "close as well": b"Connection: close, upgrade\r\nUpgrade: h2c\r\n",
    "behind a large head": b"x: " + b"y" * 8000 + b"\r\nConnection: upgrade\r\nUpgrade: h2c\r\n",
    "before a large head": b"Connection: upgrade\r\nUpgrade: h2c\r\nx: " + b"y" * 8000 + b"\r\n",
}


def with_hidden_request(cloud, path, lines, method=b"POST"):
    """Returns a request whose body contains another request."""
    if path == "correction":
        body = SMUGGLED + hidden()[len(SMUGGLED) :]
        assert len(body) == 2560
        return request(cloud.version, body, *lines.decode().split("\r\n")[:-1])
    head = b"%s %s HTTP/1.1\r\nHost: x\r\n%sContent-Length: %d\r\n\r\n"
    return head % (method, path.encode(), lines, len(SMUGGLED)) + SMUGGLED


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("wish", WISHES)
def test_a_request_that_wishes_for_another_protocol_has_one_answer_and_then_the_end(
    cloud, path, wish
):
    data = with_hidden_request(cloud, path, WISHES[wish])
    assert len(statuses(cloud.told(data))) == 1
    assert len(statuses(cloud.told(data + SMUGGLED))) == 1
    assert statuses(cloud.told(GOOD + data + SMUGGLED))[0] == 200
    assert len(statuses(cloud.told(GOOD + data + SMUGGLED))) == 2
    known_request = request(cloud.version, hidden())
    assert len(statuses(cloud.told(known_request, data + SMUGGLED))) == 2


@pytest.mark.parametrize("wish", WISHES)
@pytest.mark.parametrize("step", [1, 100, 2049])
def test_it_makes_no_difference_in_which_pieces_it_comes(cloud, wish, step):
    data = with_hidden_request(cloud, "/v1/jobs", WISHES[wish]) + SMUGGLED
    assert statuses(cloud.told(*(data[at : at + step] for at in range(0, len(data), step)))) == [
        401
    ]


@pytest.mark.parametrize("method", [b"GET", b"HEAD", b"DELETE", b"OPTIONS"])
def test_other_methods_with_a_body_are_no_way_round(cloud, method):
    data = with_hidden_request(cloud, "/v1/jobs", WISHES["h2c"], method)
    received = cloud.told(data + SMUGGLED)
    assert received.count(b"HTTP/1.1 ") == 1


def test_a_chunked_body_is_a_body_behind_such_a_wish(cloud):
    chunked = b"Transfer-Encoding: chunked\r\n\r\n%x\r\n%s\r\n0\r\n\r\n" % (
        len(SMUGGLED), SMUGGLED,
    )  # fmt: skip
    head = b"POST /v1/jobs HTTP/1.1\r\nHost: x\r\n" + WISHES["h2c"]
    assert statuses(cloud.told(head + chunked + SMUGGLED)) == [401]


def test_the_body_behind_such_a_wish_is_what_the_application_reads(cloud):
    """The HTTP client of Java requests h2c each time, and must be served anyway."""
    lines = WISHES["h2c"].decode().split("\r\n")[:-1]
    wished = cloud.told(request(cloud.version, hidden(), *lines))
    plain = cloud.told(request(cloud.version, hidden(), "Connection: close"))
    assert statuses(wished) == statuses(plain) == [200]
    assert wished.partition(b"\r\n\r\n")[2] == plain.partition(b"\r\n\r\n")[2]
    assert b"connection: close\r\n" in wished


@pytest.mark.parametrize(
    "data",
    [
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        b"CONNECT localhost:8000 HTTP/1.1\r\nHost: x\r\n\r\n",
        b"CONNECT / HTTP/1.1\r\nHost: x\r\nContent-Length: 34\r\n\r\n",
        b"CONNECT /v1/jobs HTTP/1.1\r\nUpgrade: h2c\r\nConnection: upgrade\r\n\r\n",
    ],
)
@pytest.mark.parametrize("before", [b"", GOOD])
def test_what_begins_another_protocol_is_refused_and_closed(cloud, data, before):
    answered = [200] if before else []
    assert statuses(cloud.told(before + data + SMUGGLED)) == [*answered, 400]


FRAMINGS = {
    "two lengths": b"Content-Length: 34\r\nContent-Length: 0\r\n",
    "two equal lengths": b"Content-Length: 34\r\nContent-Length: 34\r\n",
    "a list of lengths": b"Content-Length: 34, 34\r\n",
    "a length and chunks": b"Content-Length: 34\r\nTransfer-Encoding: chunked\r\n",
    "chunks and a length": b"Transfer-Encoding: chunked\r\nContent-Length: 34\r\n",
    "a plus sign": b"Content-Length: +34\r\n",
    "a minus sign": b"Content-Length: -0\r\n",
    "an underscore": b"Content-Length: 3_4\r\n",
    "hexadecimal": b"Content-Length: 0x22\r\n",
    "more than 64 bits": b"Content-Length: 18446744073709551650\r\n",
    "no length": b"Content-Length: \r\n",
    "a space before the colon": b"Content-Length : 34\r\n",
    "a folded line": b"Content-Length:\r\n 34\r\n",
    "a folded length": b"Content-Length: 3\r\n 4\r\n",
    "a folded other line": b"x: y\r\n Content-Length: 34\r\n",
    "a bare line feed": b"Content-Length: 34\n",
    "a line feed before the length": b"x: y\nContent-Length: 34\r\n",
    "a bare carriage return": b"x: y\rContent-Length: 34\r\n",
    "a zero byte": b"x: \0\r\nContent-Length: 34\r\n",
    "an end of line feeds": b"x: y\r\n\n",
    "chunks of another name": b"Transfer-Encoding: xchunked\r\n",
    "chunks that are not last": b"Transfer-Encoding: chunked, identity\r\n",
    "chunks twice": b"Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n",
    "chunks after a tab": b"Transfer-Encoding:\x0bchunked\r\n",
    "an expectation and two lengths": b"Expect: 100-continue\r\nContent-Length: 1\r\n"
    b"Content-Length: 34\r\n",
}  # fmt: skip


@pytest.mark.parametrize("path", ["/v1/jobs", "correction"])
@pytest.mark.parametrize("framing", FRAMINGS)
def test_a_body_whose_length_can_be_read_in_two_ways_is_refused_and_closed(cloud, path, framing):
    target = correction_path(cloud.version) if path == "correction" else path
    head = b"POST %s HTTP/1.1\r\nHost: x\r\nContent-Type: application/octet-stream\r\n"
    data = head % target.encode() + FRAMINGS[framing] + b"\r\n" + SMUGGLED
    known_request = request(cloud.version, hidden())
    assert statuses(cloud.told(data)) == [400]
    assert statuses(cloud.told(known_request, data + known_request)) == [200, 400]
    assert statuses(cloud.told(known_request + known_request + data)) == [200, 200, 400]


@pytest.mark.parametrize("framing", FRAMINGS)
def test_a_second_length_beside_a_corrections_own_is_refused_and_closed(cloud, framing):
    lines = FRAMINGS[framing]
    if framing == "two equal lengths":
        lines = b"Content-Length: 2560\r\n"
    data = request(cloud.version, b"").removesuffix(b"\r\n") + lines + b"\r\n" + hidden()
    known_request = request(cloud.version, hidden())
    assert statuses(cloud.told(known_request, known_request, data)) == [200, 200, 400]


@pytest.mark.parametrize(
    "chunk", [b"22\n", b"22 \r\n", b"0x22\r\n", b"+22\r\n", b"-1\r\n", b"\r\n"]
)
def test_a_chunk_whose_size_is_odd_is_refused_and_closed(cloud, chunk):
    head = b"POST /v1/jobs HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"
    assert statuses(cloud.told(head + chunk + SMUGGLED + b"\r\n0\r\n\r\n")) == [400]


def test_nothing_is_answered_behind_a_request_that_closes(cloud):
    closing = b"GET /health HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
    older = b"GET /health HTTP/1.0\r\nHost: x\r\n\r\n"
    for data in (closing, older):
        assert statuses(cloud.told(data + SMUGGLED)) == [200]
