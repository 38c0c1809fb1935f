"""The bytes of queries and samples, pinned; and what is refused on either side."""

import struct

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from shared.errors import NotFinite, UnknownItem, WireError, WrongLength
from shared.samples import (
    MOST_SAMPLES,
    QUERY_TYPES,
    RANDOM_TYPE,
    ROWS_TYPE,
    SAMPLE_TYPES,
    STATES_TYPE,
    Query,
    Samples,
    SampleWire,
    check_of,
    samples_path,
)

WIRE = SampleWire(4, 300)
STATES = np.array([[1.0, -2.0, 0.5, 0.0], [127.0, 1.0, -127.0, 63.4]], np.float32)
ROWS = np.array([300, 1])


def test_the_bytes_of_samples_are_pinned():
    samples = Samples(STATES, ROWS)
    half = WIRE.encode_samples(samples, "half")
    assert half.hex() == "003c00c0003800 00f057003cf0d7ed53".replace(" ", "") + "2c01000001000000"
    body = WIRE.encode_samples(samples, "int8")
    codes = bytes([64, 256 - 127, 32, 0, 127, 1, 256 - 127, 63])
    assert body == codes + struct.pack("<2f", 2 / 127, 1.0) + struct.pack("<2I", 300, 1)
    assert (WIRE.sample_bytes("half"), WIRE.sample_bytes("int8")) == (12, 12)
    assert check_of(b"query", body) == f"{__import__('zlib').crc32(b'query' + body):08x}"
    assert samples_path("0123456789abcdef") == "/v1/models/0123456789abcdef/samples"


def test_the_bytes_of_queries_are_pinned():
    assert WIRE.encode_query(Query()) == (RANDOM_TYPE, b"")
    assert WIRE.encode_query(Query(rows=ROWS)) == (ROWS_TYPE, struct.pack("<2I", 300, 1))
    media_type, body = WIRE.encode_query(Query(states=STATES[:1]))
    assert (media_type, body.hex()) == (STATES_TYPE, "003c00c000380000")


@pytest.mark.parametrize("form", SAMPLE_TYPES)
@given(
    states=arrays.arrays(
        np.float32,
        st.tuples(st.integers(1, 5), st.just(4)),
        elements=st.floats(-1000, 1000, width=32),
    )
)
def test_samples_come_back_within_the_precision_of_their_form(form, states):
    samples = Samples(states, np.arange(1, len(states) + 1))
    back = WIRE.decode_samples(WIRE.encode_samples(samples, form), form)
    assert (back.rows == samples.rows).all()
    largest = np.abs(states).max(axis=1, keepdims=True)
    bound = largest / 254 if form == "int8" else np.abs(states) / 2048 + 1e-7
    assert (np.abs(back.states - states) <= bound * 1.01 + 1e-30).all()


@pytest.mark.parametrize("form", SAMPLE_TYPES)
@given(body=st.binary(max_size=100))
def test_no_bytes_do_anything_but_decode_or_raise_a_wire_error(form, body):
    try:
        samples = WIRE.decode_samples(body, form)
    except (WireError, UnknownItem):
        return
    assert np.isfinite(samples.states).all()
    assert ((samples.rows >= 1) & (samples.rows <= 300)).all()
    assert 1 <= len(samples.rows) == len(samples.states) <= MOST_SAMPLES


@given(media_type=st.sampled_from([*QUERY_TYPES, "text/html", ""]), body=st.binary(max_size=100))
def test_no_query_does_anything_but_decode_or_raise_a_wire_error(media_type, body):
    try:
        query = WIRE.decode_query(media_type, body)
    except (WireError, UnknownItem):
        return
    assert WIRE.encode_query(query) == (media_type, body)


def test_more_samples_than_were_asked_for_are_refused():
    body = WIRE.encode_samples(Samples(STATES, ROWS), "int8")
    assert len(WIRE.decode_samples(body, "int8", 2).rows) == 2
    with pytest.raises(WrongLength, match="1 to 1 samples of 12 bytes"):
        WIRE.decode_samples(body, "int8", 1)
    with pytest.raises(WrongLength):
        WIRE.decode_samples(body * (MOST_SAMPLES // 2 + 1), "int8")


@pytest.mark.parametrize("number", [np.nan, np.inf, -np.inf, 3e38])
def test_numbers_that_are_none_are_neither_sent_nor_taken(number):
    states = STATES.copy()
    states[1, 2] = number
    for form in SAMPLE_TYPES:
        with pytest.raises(NotFinite):
            WIRE.encode_samples(Samples(states, ROWS), form)
    with pytest.raises(NotFinite):
        WIRE.encode_query(Query(states=states))


def test_a_state_of_zeros_is_sent_and_no_query():
    samples = Samples(np.zeros((1, 4), np.float32), np.array([1]))
    for form in SAMPLE_TYPES:
        back = WIRE.decode_samples(WIRE.encode_samples(samples, form), form)
        assert not back.states.any()
    with pytest.raises(NotFinite):
        WIRE.encode_query(Query(states=samples.states))
