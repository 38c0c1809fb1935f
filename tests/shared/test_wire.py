"""The wire format: golden bytes, round trips, and a folder of hostile payloads."""

import json
import struct
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from shared.errors import EmptyHidden, NotFinite, WireError, WrongLength
from shared.model import ModelSettings
from shared.wire import FullCorrection, RowCorrection, Wire

HOSTILE = Path(__file__).parent / "hostile"
PAPER = Wire(ModelSettings())
HALVES = Wire(ModelSettings(), half=True)
SMALL = ModelSettings(length=2, dim=4, heads=1, segment=2)
FLOATS = st.floats(-1e6, 1e6, width=32)


def test_the_papers_sizes_are_those_of_the_defaults():
    settings = ModelSettings()
    assert settings.hidden_bytes == 2_560
    assert settings.correction_bytes == 4_160
    assert settings.row_bytes == 416


def test_h_is_little_endian_row_by_row_with_padding_at_the_end():
    body = Wire(SMALL).encode_hidden(np.array([[1, -2, 0.5, 3]], np.float32))
    assert body == bytes.fromhex("0000803f 000000c0 0000003f 00004040" + "00000000" * 4)


def test_a_full_correction_is_attn_then_bias_head_by_head():
    attn = np.array([[[1, 2], [3, 4]]], np.float32)
    bias = np.array([[[5, 6, 7, 8], [9, 10, 11, 12]]], np.float32)
    body = Wire(SMALL).encode_full(FullCorrection(attn, bias))
    assert body == struct.pack("<12f", *range(1, 13))
    found = Wire(SMALL).decode_full(body)
    np.testing.assert_array_equal(found.attn, attn)
    np.testing.assert_array_equal(found.bias, bias)


def test_a_compact_correction_is_the_last_clicks_row_of_each():
    full = FullCorrection(
        np.arange(4, dtype=np.float32).reshape(1, 2, 2),
        np.arange(8, dtype=np.float32).reshape(1, 2, 4),
    )
    body = Wire(SMALL).encode_row(RowCorrection(full.attn[:, 1], full.bias[:, 1]))
    assert body == struct.pack("<6f", 2, 3, 4, 5, 6, 7)
    np.testing.assert_array_equal(Wire(SMALL).decode_row(body).bias, [[4, 5, 6, 7]])


@given(arrays.arrays(np.float32, st.tuples(st.integers(1, 10), st.just(64)), elements=FLOATS))
def test_h_survives_the_way_to_the_cloud(hidden):
    if not hidden.any():
        with pytest.raises(EmptyHidden):
            PAPER.encode_hidden(hidden)
        return
    found = PAPER.decode_hidden(PAPER.encode_hidden(hidden))
    np.testing.assert_array_equal(found[: len(hidden)], hidden)
    assert not found[len(hidden) :].any()


@given(
    arrays.arrays(np.float32, (4, 10, 10), elements=FLOATS),
    arrays.arrays(np.float32, (4, 10, 16), elements=FLOATS),
)
def test_corrections_survive_the_way_to_the_device(attn, bias):
    found = PAPER.decode_full(PAPER.encode_full(FullCorrection(attn, bias)))
    np.testing.assert_array_equal(found.attn, attn)
    row = PAPER.decode_row(PAPER.encode_row(RowCorrection(attn[:, 3], bias[:, 3])))
    np.testing.assert_array_equal(row.bias, bias[:, 3])


@pytest.mark.parametrize("wire", [PAPER, HALVES, Wire(SMALL)])
def test_a_row_taken_from_the_full_form_is_that_click_s(wire):
    s, random = wire.settings, np.random.default_rng(0)
    attn = random.normal(size=(s.heads, s.segment, s.segment)).astype(np.float32)
    bias = random.normal(size=(s.heads, s.segment, s.head_dim)).astype(np.float32)
    body = wire.encode_full(FullCorrection(attn, bias))
    whole = wire.decode_full(body)
    for place in range(s.segment):
        row = wire.decode_row_at(body, place)
        np.testing.assert_array_equal(row.attn, whole.attn[:, place])
        np.testing.assert_array_equal(row.bias, whole.bias[:, place])
    with pytest.raises(WrongLength):
        wire.decode_row_at(body[:-1], 0)
    nan = np.full(1, np.nan, wire.wire_dtype).tobytes()
    with pytest.raises(NotFinite):  # in another click's row all the same
        wire.decode_row_at(nan + body[len(nan) :], 1)


@given(
    arrays.arrays(np.float32, (4, 10), elements=FLOATS),
    arrays.arrays(np.float32, (4, 16), elements=FLOATS),
)
def test_half_the_bytes_keep_three_digits_or_say_that_they_cannot(attn, bias):
    row = RowCorrection(attn, bias)
    if max(np.abs(attn).max(), np.abs(bias).max()) >= 65_520:  # what rounds to no float16
        with pytest.raises(NotFinite):
            HALVES.encode_row(row)
        return
    body = HALVES.encode_row(row)
    assert len(body) == HALVES.row_bytes == 208
    found = HALVES.decode_row(body)
    for part, sent in zip(found, row, strict=True):
        assert part.dtype == np.float32
        np.testing.assert_allclose(part, sent, rtol=2**-11, atol=2**-25)


def test_the_sizes_in_float16_are_half_of_the_papers():
    sizes = HALVES.hidden_bytes, HALVES.correction_bytes, HALVES.row_bytes
    assert sizes == (1_280, 2_080, 208)


@given(st.binary(max_size=5_000))
def test_no_bytes_at_all_make_a_decoder_do_anything_but_decode_or_name_the_fault(body):
    for wire in (PAPER, HALVES):
        for decode in (wire.decode_hidden, wire.decode_full, wire.decode_row):
            try:
                decode(body)
            except WireError as error:
                assert error.detail
                assert 400 <= error.status < 500


@pytest.mark.parametrize("path", sorted(HOSTILE.glob("*.json")), ids=lambda path: path.stem)
def test_every_hostile_payload_meets_its_named_error(path):
    case = json.loads(path.read_text())
    body = b"".join(struct.pack("<f", float(x)) * n for x, n in case["floats"])
    body += bytes.fromhex(case.get("tail", ""))
    decode = {"hidden": PAPER.decode_hidden, "full": PAPER.decode_full, "row": PAPER.decode_row}
    with pytest.raises(WireError) as caught:
        decode[case["as"]](body)
    assert caught.value.code == case["error"]


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_what_is_not_finite_is_never_sent(value):
    hidden = np.ones((3, 64), np.float32)
    hidden[2, 5] = value
    with pytest.raises(NotFinite):
        PAPER.encode_hidden(hidden)
    row = RowCorrection(np.full((4, 10), value, np.float32), np.zeros((4, 16), np.float32))
    with pytest.raises(NotFinite):
        PAPER.encode_row(row)


@pytest.mark.parametrize("shape", [(11, 64), (0, 64), (10, 63), (10, 65)])
def test_h_of_another_shape_is_refused_before_it_is_sent(shape):
    with pytest.raises(WrongLength):
        PAPER.encode_hidden(np.ones(shape, np.float32))


def test_shapes_follow_the_settings():
    wire = Wire(ModelSettings(length=20, dim=32, heads=2, segment=5, gcn="causal"))
    assert wire.settings.hidden_bytes == 5 * 32 * 4
    assert wire.settings.correction_bytes == 2 * 5 * (5 + 16) * 4
    assert wire.decode_row(bytes(wire.settings.row_bytes)).attn.shape == (2, 5)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, 3e38, 0.0])
def test_one_unsound_h_among_many_is_noticed(value):
    wire = Wire(ModelSettings())
    hidden = np.full((5, 10, 64), 0.5, np.float32)
    assert wire.are_sound(hidden)
    hidden[3] = value
    assert not wire.are_sound(hidden)
