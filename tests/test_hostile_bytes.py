"""Whatever bytes come, from network or disk: an answer, or the error that is documented.

Here some hundreds of cases, always the same. With HOSTILE_CASES=20000 in the environment, so many
of each kind, others each time.
"""

import gzip
import socket
from contextlib import suppress
from itertools import pairwise
from urllib.parse import urlsplit

import httpx
import numpy as np
import pytest
from hypothesis import HealthCheck, given
from hypothesis import strategies as st

from cloud_service.recommender.data.log import read_log, read_titles
from device_client.bundle import Bundle
from device_client.correction.connection import Connection
from device_client.correction.http_answer import Answer, BadAnswer
from experiments.parity import read_arrays
from shared.bundle import parse_manifest
from shared.errors import BundleError, DataError, WireError
from shared.manifest import MANIFEST_NAME
from shared.model import ModelSettings
from shared.wire import FORMS, Wire, check_of
from tests.instruments.cases import drawn
from tests.instruments.sockets import request

WIRE = Wire(ModelSettings(length=2, dim=4, heads=1, segment=2))
BODY = bytes(range(WIRE.settings.correction_bytes))
HIDDEN = bytes(WIRE.settings.hidden_bytes)


def cases(count):
    """So many, or HOSTILE_CASES."""
    unhealthy = [HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
    return drawn("HOSTILE_CASES", count, suppress_health_check=unhealthy)


@st.composite
def damaged(draw, good):
    """Good bytes with a few pieces changed, put in, doubled, taken out or cut off."""
    found = bytearray(good)
    for _ in range(draw(st.integers(1, 4))):
        at = draw(st.integers(0, len(found)))
        end = min(len(found), at + draw(st.integers(0, 12)))
        piece = draw(st.one_of(st.binary(max_size=12), st.sampled_from(WORDS)))
        kind = draw(st.integers(0, 4))
        if kind == 0:
            found[at:end] = piece
        elif kind == 1:
            found[at:at] = piece
        elif kind == 2:
            found[at:at] = found[at:end]
        elif kind == 3:
            del found[at:end]
        else:
            del found[at:]
    return bytes(found)


WORDS = [
    b"\r\n", b"\r\n\r\n", b"\n", b"\0", b" ", b":", b",", b'"', b"'", b"-1", b"0", b"1e999", b"NaN",
    b"99999999999999999999", b"content-length: 3\r\n", b"transfer-encoding: chunked\r\n",
    b"HTTP/1.1 100 Continue\r\n\r\n", b"HTTP/1.1 200 OK\r\n", b"connection: close\r\n",
    b"expect: 100-continue\r\n", b"upgrade: websocket\r\n", b"\xff\xfe", b"\xf0\x9f\x98\x80",
    b"../", b"[", b"{", b"null", b"true",
]  # fmt: skip


def good_answer(body=BODY):
    head = (
        "HTTP/1.1 200 OK\r\ncontent-type: x/y\r\nmodel-version: 0123456789abcdef\r\n"
        "server-timing: queue;dur=00000.010, gcn;dur=00000.200\r\n"
        f"correction-check: {check_of(HIDDEN, body)}\r\ncontent-length: {len(body)}\r\n\r\n"
    )
    return head.encode() + body


class Sent:
    """A socket on which these bytes come, in these pieces."""

    def __init__(self, pieces):
        self._pieces = list(pieces)
        self._ends = socket.socketpair()

    def sendall(self, data):
        pass

    def recv_into(self, buffer):
        piece = self._pieces.pop(0) if self._pieces else b""
        count = min(len(piece), len(buffer))
        buffer[:count] = piece[:count]
        if count < len(piece):
            self._pieces.insert(0, piece[count:])
        return count

    def settimeout(self, value):
        pass

    def fileno(self):
        return self._ends[0].fileno()

    def close(self):
        for end in self._ends:
            end.close()


def cut(data, places):
    places = sorted({0, len(data), *(place % (len(data) + 1) for place in places)})
    return [data[one:two] for one, two in pairwise(places)]


def read(pieces, times=1):
    """What a device makes of the answers that come in these pieces: the last of them."""
    connection = Connection(
        "http://cloud", "0123456789abcdef", FORMS["full"], len(HIDDEN), lambda _: Sent(pieces)
    )
    connection.body[:] = HIDDEN
    try:
        return [connection.exchange(1.0) for _ in range(times)][-1]
    finally:
        connection.close()


@cases(100)
@given(st.lists(st.integers(0, 400), max_size=20))
def test_an_answer_in_any_pieces_is_that_answer(places):
    found = read(cut(good_answer(), places))
    assert (found.status, found.body) == (200, BODY)
    assert found.version == "0123456789abcdef"


@cases(300)
@given(damaged(good_answer()), st.lists(st.integers(0, 400), max_size=3))
def test_a_damaged_answer_is_refused_or_carries_what_was_sent(data, places):
    with suppress(BadAnswer, OSError):
        found = read(cut(data, places))
        assert isinstance(found, Answer)
        if found.check:
            assert found.check == check_of(HIDDEN, found.body)


@cases(300)
@given(damaged(good_answer()))
def test_after_a_good_answer_a_damaged_one_is_judged_as_strictly(data):
    """The second is compared with the first where it looks like it, not parsed."""
    with suppress(BadAnswer, OSError):
        found = read([good_answer(), data], times=2)
        if found.check:
            assert found.check == check_of(HIDDEN, found.body)


@cases(200)
@given(st.binary(max_size=200))
def test_any_bytes_are_an_h_or_a_correction_or_a_wire_error(data):
    for decode in (WIRE.decode_hidden, WIRE.decode_full, WIRE.decode_row):
        with suppress(WireError):
            decode(data)


@cases(300)
@given(st.data())
def test_any_manifest_opens_or_says_what_is_wrong(small_bundle, data):
    good = (small_bundle / MANIFEST_NAME).read_bytes()
    with suppress(BundleError):
        parse_manifest(data.draw(st.one_of(st.binary(max_size=64), damaged(good))))


@cases(100)
@given(st.data())
def test_a_bundle_with_a_damaged_file_never_opens(small_bundle, tmp_path_factory, data):
    folder = tmp_path_factory.mktemp("bundle")
    for file in small_bundle.iterdir():
        (folder / file.name).symlink_to(file)
    names = sorted(entry.name for entry in Bundle.open(folder).manifest.files)
    name = data.draw(st.sampled_from([name for name in names if (folder / name).exists()]))
    good = (folder / name).read_bytes()
    bad = bytearray(good)
    place = data.draw(st.integers(0, len(good) - 1))
    bad[place] ^= data.draw(st.integers(1, 255))
    (folder / name).unlink()
    (folder / name).write_bytes(bad)
    role = {each.name: each.role for each in Bundle.open(small_bundle).manifest.files}[name]
    if role == "device":
        with pytest.raises(BundleError, match=name):
            Bundle.open(folder)
    else:
        Bundle.open(folder)


LOG = b"user_id,item_id,timestamp\n" + b"".join(
    b"u%d,i%d,%d\n" % (row % 4, row % 5, 1_700_000_000 + row) for row in range(30)
)
TITLES = b"item_id,title\n" + b"".join(b"i%d,Title %d\n" % (row, row) for row in range(5))


@cases(200)
@given(data=st.one_of(st.binary(max_size=300), damaged(LOG)), packed=st.booleans())
def test_any_click_log_is_read_or_said_to_be_none(tmp_path, data, packed):
    path = tmp_path / ("log.csv.gz" if packed else "log.csv")
    path.write_bytes(gzip.compress(data, 1) if packed else data)
    with suppress(DataError):
        assert read_log(path).frame.columns == ["user_id", "item_id", "timestamp"]


@cases(100)
@given(data=st.one_of(st.binary(max_size=300), damaged(gzip.compress(LOG))))
def test_any_packed_or_column_file_is_read_or_said_to_be_none(tmp_path, data):
    for name in ("log.csv.gz", "log.parquet"):
        (tmp_path / name).write_bytes(data)
        with suppress(DataError):
            read_log(tmp_path / name)


@cases(100)
@given(data=st.one_of(st.binary(max_size=300), damaged(TITLES)))
def test_any_title_file_is_read_or_said_to_be_none(tmp_path, data):
    path = tmp_path / "items.csv"
    path.write_bytes(data)
    with suppress(DataError):
        read_titles(path)


@cases(100)
@given(st.data())
def test_any_parity_file_is_read_or_said_to_be_none(tmp_path, data):
    path = tmp_path / "good.npz"
    np.savez(path, a=np.arange(6.0), b=np.ones((2, 2)))
    bad = tmp_path / "bad.npz"
    bad.write_bytes(data.draw(st.one_of(st.binary(max_size=200), damaged(path.read_bytes()))))
    with suppress(DataError):
        read_arrays(bad)


def told(url, data):
    """What a cloud answers to bytes after which nothing more will come."""
    parts = urlsplit(url)
    with socket.create_connection((parts.hostname, parts.port), 10) as sock, suppress(OSError):
        sock.sendall(data)
        sock.shutdown(socket.SHUT_WR)
        return b"".join(iter(lambda: sock.recv(65536), b""))
    return b""


@pytest.mark.slow
@cases(150)
@given(st.data())
def test_no_request_keeps_a_cloud_from_answering_the_next(served_store, small_store, data):
    wire = Wire(ModelSettings())
    hidden = np.zeros((10, 64), np.float32)
    hidden[:3] = np.random.default_rng(0).normal(size=(3, 64))
    good = request(small_store.production(), wire.encode_hidden(hidden))
    answer = told(served_store, data.draw(damaged(good)))
    assert not answer or answer.startswith(b"HTTP/1.1 ")
    assert b" 500 " not in answer.split(b"\r\n")[0]
    with httpx.Client(trust_env=False) as http:
        assert http.get(f"{served_store}/health").status_code == 200
    assert told(served_store, good).startswith(b"HTTP/1.1 200 OK\r\n")
