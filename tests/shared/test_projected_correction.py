"""The projected correction: golden bytes, round trips, and what it refuses to pack."""

import struct

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.errors import WrongLength
from shared.model import ModelSettings
from shared.projected import LARGEST_CATALOGUE, ProjectedCorrection, rank_inputs
from shared.wire import RowCorrection, Wire

SMALL = ModelSettings(length=4, dim=8, heads=2, segment=4)  # room for two items
DEFAULTS = ModelSettings()


def projected(shift, items, residuals):
    return ProjectedCorrection(
        np.array(shift, np.float32), np.array(items, np.int64), np.array(residuals, np.float32)
    )


def test_the_bytes_are_high_digits_low_digits_and_residuals_and_then_the_shift():
    correction = projected(range(1, 9), [5000, 7], [0.5, -2])
    body = Wire(SMALL).encode_row(correction.pack(SMALL))
    assert body == struct.pack("<16f", 2, 0, 904, 7, 0.5, -2, 0, 0, *range(1, 9))
    half = Wire(SMALL, half=True).encode_row(correction.pack(SMALL))
    assert half == struct.pack("<16e", 2, 0, 904, 7, 0.5, -2, 0, 0, *range(1, 9))


@given(
    st.lists(st.integers(0, LARGEST_CATALOGUE - 1), max_size=DEFAULTS.boosted_items),
    st.booleans(),
)
def test_items_survive_the_way_to_the_device(items, half):
    sent = projected(np.arange(64) / 8, items, np.arange(len(items)) / 4)
    wire = Wire(DEFAULTS, half=half)
    received = ProjectedCorrection.unpack(wire.decode_row(wire.encode_row(sent.pack(DEFAULTS))))
    np.testing.assert_array_equal(received.shift, sent.shift)
    empty = DEFAULTS.boosted_items - len(items)
    assert received.items.tolist() == items + [0] * empty
    assert received.residuals.tolist() == sent.residuals.tolist() + [0.0] * empty


@pytest.mark.parametrize(
    "correction",
    [
        projected([1] * 7, [], []),
        projected([1] * 8, [1, 2, 3], [1, 1, 1]),
        projected([1] * 8, [1], []),
        projected([1] * 8, [LARGEST_CATALOGUE], [1]),
        projected([1] * 8, [-1], [1]),
    ],
    ids=["narrow-shift", "too-many-items", "no-residual", "large-item", "negative-item"],
)
def test_what_does_not_fit_is_not_packed(correction):
    with pytest.raises(WrongLength):
        correction.pack(SMALL)


def test_inputs_of_the_graph_share_the_memory_of_a_correction():
    """A device binds them once, and copies each correction into the two arrays."""
    correction = RowCorrection(np.zeros((4, 10), np.float32), np.zeros((4, 16), np.float32))
    inputs = rank_inputs(correction)
    shapes = {name: array.shape for name, array in inputs.items()}
    assert shapes == {
        "shift": (1, 64),
        "higher": (13, 1),
        "lower": (13, 1),
        "residuals": (1, 13),
    }
    correction.attn[...] = np.arange(40).reshape(4, 10)
    correction.bias[...] = 1
    assert inputs["higher"][:, 0].tolist() == list(range(13))
    assert inputs["lower"][:, 0].tolist() == list(range(13, 26))
    assert inputs["residuals"][0].tolist() == list(range(26, 39))
    assert inputs["shift"].all()
