"""The file of a pool: what was written is what is mapped, and damage is named."""

import json
import pickle
import struct

import numpy as np
import pytest

from cloud_service.recommender.pool.inverted_lists import make_lists, unit_rows
from cloud_service.recommender.pool.pool_file import Pool, open_pool, pool_bytes
from shared.errors import BundleInvalid
from tests.instruments.pools import small_pool

DIM, ITEMS = 8, 30


@pytest.fixture
def path(tmp_path):
    path = tmp_path / "pool"
    path.write_bytes(pool_bytes(small_pool(50, DIM, ITEMS)))
    return path


def test_a_pool_comes_back_as_it_was_written(path):
    pool, back = small_pool(50, DIM, ITEMS), open_pool(path, DIM, ITEMS)
    assert (len(back), back.sample_users, back.radius) == (50, 10, 0.1)
    for mine, theirs in ((pool.states, back.states), (pool.histories, back.histories)):
        for name in mine._fields:
            np.testing.assert_array_equal(getattr(mine, name), getattr(theirs, name))
    chosen = np.array([3, 49])
    np.testing.assert_array_equal(back.sample_states(chosen), pool.sample_states(chosen))
    assert not back.states.units.flags.writeable, "it is mapped, not read"


def test_no_array_holds_a_user_or_a_time(path):
    raw = path.read_bytes()
    header = json.loads(raw[8 : 8 + struct.unpack("<Q", raw[:8])[0]])
    assert header.keys() == {
        "__metadata__", "rows", "lengths", "state_units", "state_order", "state_centres",
        "state_offsets", "history_units", "history_order", "history_centres", "history_offsets",
    }  # fmt: skip
    settings = json.loads(header["__metadata__"]["pool"])
    assert settings == {"format": 1, "sample_users": 10, "radius": 0.1}


def with_header(raw, change):
    size = struct.unpack("<Q", raw[:8])[0]
    header = json.loads(raw[8 : 8 + size])
    change(header)
    text = json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + raw[8 + size :]


def with_settings(settings):
    text = json.dumps({"format": 1, "sample_users": 10, "radius": 0.1} | settings)
    return lambda raw: with_header(raw, lambda h: h.update(__metadata__={"pool": text}))


def shaped(name, shape):
    return lambda raw: with_header(raw, lambda h: h[name].update(shape=shape))


DAMAGES = {
    "nothing": lambda raw: b"",
    "seven bytes": lambda raw: raw[:7],
    "half": lambda raw: raw[: len(raw) // 2],
    "one byte more": lambda raw: raw + b"\0",
    "a pickle": lambda raw: pickle.dumps({"rows": [1]}),
    "a header of 16 EB": lambda raw: b"\xff" * 8 + raw[8:],
    "no JSON": lambda raw: raw[:8] + b"\0" * 100 + raw[108:],
    "a deep header": lambda raw: struct.pack("<Q", 60_000) + b"[" * 60_000,
    "a list": lambda raw: struct.pack("<Q", 2) + b"[]",
    "another format": with_settings({"format": 2}),
    "no metadata": lambda raw: with_header(raw, lambda h: h.pop("__metadata__")),
    "an array missing": lambda raw: with_header(raw, lambda h: h.pop("rows")),
    "an array more": lambda raw: with_header(raw, lambda h: h.update(users=h["rows"])),
    "another type": lambda raw: with_header(raw, lambda h: h["rows"].update(dtype="F32")),
    "a shape without end": shaped("rows", [1 << 62, 1 << 62]),
    "a shape below zero": shaped("rows", [-50]),
    "a shape of text": shaped("rows", ["50"]),
    "overlapping": lambda raw: with_header(
        raw, lambda h: h["rows"].update(data_offsets=h["lengths"]["data_offsets"])
    ),
    "far away": lambda raw: with_header(
        raw, lambda h: h["rows"].update(data_offsets=[1 << 60, (1 << 60) + 200])
    ),
    "k of text": with_settings({"sample_users": "ten"}),
    "a radius of nothing": with_settings({"radius": None}),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_file_is_a_named_error(path, damage):
    path.write_bytes(DAMAGES[damage](path.read_bytes()))
    with pytest.raises(BundleInvalid, match="pool of samples"):
        open_pool(path, DIM, ITEMS)


def test_a_pool_of_another_model_is_refused(path):
    for dim, items in ((DIM + 1, ITEMS), (DIM, 5)):
        with pytest.raises(BundleInvalid, match="pool of samples"):
            open_pool(path, dim, items)


def replaced(pool, **arrays):
    return Pool(**(vars(pool) | arrays))


def wrong_pools():
    pool = small_pool(50, DIM, ITEMS)
    states, random = pool.states, np.random.default_rng(0)
    listed = make_lists(unit_rows(random.normal(size=(50, DIM)).astype("f4")), random, exact=10)
    units = states.units.copy()
    units[7, 2] = np.nan
    twice = states.order.copy()
    twice[0] = twice[1]
    yield "row 0", replaced(pool, rows=np.zeros(50, np.uint32))
    yield "a length of NaN", replaced(pool, lengths=np.full(50, np.nan, np.float32))
    yield "fewer lengths", replaced(pool, lengths=pool.lengths[:-1])
    yield "a state of NaN", replaced(pool, states=states._replace(units=units))
    yield "a sample twice", replaced(pool, histories=pool.histories._replace(order=twice))
    yield "another order", replaced(pool, states=states._replace(order=states.order[::-1].copy()))
    yield "no offsets", replaced(pool, states=states._replace(offsets=np.zeros(0, np.int64)))
    for name, offsets in (("too few", [0, 10, 20]), ("back", [0, 60, 50]), ("late", [1, 20, 50])):
        wrong = listed._replace(offsets=np.array(offsets, np.int64), centres=listed.centres[:2])
        yield f"offsets: {name}", replaced(pool, histories=wrong)


WRONG_POOLS = dict(wrong_pools())


@pytest.mark.parametrize("name", WRONG_POOLS)
def test_arrays_that_do_not_fit_each_other_are_a_named_error(path, name):
    path.write_bytes(pool_bytes(WRONG_POOLS[name]))
    with pytest.raises(BundleInvalid, match="pool"):
        open_pool(path, DIM, ITEMS)
