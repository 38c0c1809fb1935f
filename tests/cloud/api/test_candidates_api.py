"""Candidate lists: known results, limits, and speed."""

import time

import numpy as np
import pytest
from calling import IDS as STORED
from calling import code_of, publish
from safetensors.numpy import save_file

from cloud_service.services.candidates import DECAY, Retrieval
from shared import bundle as files
from shared.errors import BundleInvalid, BundleMissing

IDS = [stored.decode() for stored in STORED]


@pytest.fixture
def ask(cloud):
    cloud.promoted()

    def call(body, form="candidates"):
        return cloud.call("POST", f"/v1/models/production/{form}", json=body)

    return call


@pytest.mark.parametrize(
    ("rows", "count", "expected"),
    [
        ([1], 2, [2, 3]),
        ([1], 4, [2, 3, 6, 5]),  # then what is popular, without what is there already
        ([1, 2], 3, [3, 2, 6]),  # 3: 1.0 + 0.8 * 0.5; 2: 0.8 * 1.0
        ([4, 1], 3, [2, 1, 5]),  # 1 and 5 have 0.8 * 0.9: the lower number first
        ([], 3, [6, 5, 4]),
        ([6], 2, [6, 5]),
        ([1], 1000, [2, 3, 6, 5, 4, 1]),
    ],
)
def test_candidates_are_those_worked_out_by_hand(ask, rows, count, expected):
    answer = ask({"rows": rows, "count": count}).json()
    assert (answer["rows"], "candidates" in answer) == (expected, False)
    clicks = [IDS[row - 1] for row in rows]
    answer = ask({"clicks": clicks, "count": count}).json()
    assert answer["candidates"] == [IDS[row - 1] for row in expected]
    assert "rows" not in answer


def test_a_click_that_is_an_integer_is_the_item_of_these_digits_and_never_a_row(cloud):
    version = publish(cloud.store, "numbered", ids=[b"3", b"30", b"4", b"5", b"6", b"87"])
    path = f"/v1/models/{version}/candidates"

    def ask(clicks):
        return cloud.call("POST", path, json={"clicks": clicks, "count": 2})

    assert ask([3]).json()["candidates"] == ask(["3"]).json()["candidates"] == ["30", "4"]
    assert ask([87]).status_code == 200
    assert code_of(ask([2])) == "unknown-item", "the second row is no item '2'"
    assert ask([3.0]).json() == ask([3]).json(), "in JSON 3.0 is the integer 3"
    assert code_of(ask([2.0**53])) == "invalid-request", "there a float is several integers"


def test_clicked_items_are_left_out_when_asked(ask):
    body = {"rows": [4, 1], "count": 10, "exclude_clicked": True}
    assert ask(body).json()["rows"] == [2, 5, 3, 6]


def test_clicked_items_are_left_out_by_default_where_nobody_clicks_twice(cloud):
    cloud.store.promote(publish(cloud.store, "loyal", seen_left_out=True))
    body = {"clicks": ["d4", "a1"], "count": 10}
    for wish, is_excluded in (({}, False), ({"exclude_clicked": False}, True)):
        answer = cloud.call("POST", "/v1/models/production/candidates", json=body | wish).json()
        assert ("d4" in answer["candidates"]) is is_excluded


def test_only_the_last_ten_clicks_count(ask):
    assert ask({"rows": [1] + [6] * 10, "count": 2}).json()["rows"] == [6, 5]


def test_a_batch_gives_the_same_lists_in_order(ask):
    for name, answered, users in (
        ("clicks", "candidates", [["a1"], [], ["b2", "d4"]]),
        ("rows", "rows", [[1], [], [2, 4]]),
    ):
        single = [ask({name: clicks, "count": 4}).json()[answered] for clicks in users]
        batch = ask({name: users, "count": 4}, "candidates:batch").json()
        assert batch[answered] == single


@pytest.mark.parametrize(
    ("body", "code"),
    [
        ({"rows": [7]}, "unknown-item"),
        ({"rows": [0]}, "unknown-item"),
        ({"rows": [-1]}, "unknown-item"),
        ({"rows": [10**30]}, "unknown-item"),
        ({"rows": ["a1"]}, "invalid-request"),
        ({"rows": [1.5]}, "invalid-request"),
        ({"rows": [True]}, "invalid-request"),
        ({"clicks": [1]}, "unknown-item"),
        ({"clicks": [-1]}, "unknown-item"),
        ({"clicks": ["zz"]}, "unknown-item"),
        ({"clicks": ["a"]}, "unknown-item"),
        ({"clicks": ["\x00"]}, "unknown-item"),
        ({"clicks": [10**30]}, "invalid-request"),
        ({"clicks": [1.5]}, "invalid-request"),
        ({"clicks": [1e300]}, "invalid-request"),
        ({"clicks": [True]}, "invalid-request"),
        ({"clicks": [None]}, "invalid-request"),
        ({"clicks": ["x" * 257]}, "invalid-request"),
        ({"clicks": ["a1"] * 10_001}, "invalid-request"),
        ({"clicks": ["a1"], "count": 0}, "invalid-request"),
        ({"clicks": ["a1"], "count": 1001}, "invalid-request"),
        ({"clicks": ["a1"], "cuont": 3}, "invalid-request"),
        ({"clicks": ["a1"], "rows": [1]}, "invalid-request"),
        ({}, "invalid-request"),
        ([], "invalid-request"),
        ("clicks", "invalid-request"),
    ],
)
def test_a_bad_request_is_a_problem(ask, body, code):
    answer = ask(body)
    assert (answer.status_code, code_of(answer)) == (422, code)


def test_what_is_in_a_bad_request_is_not_repeated(ask):
    assert "hush" not in ask({"clicks": "hush"}).text


@pytest.mark.parametrize("users", [[], [["a1"]] * 257])
def test_a_batch_has_one_to_256_lists(ask, users):
    assert code_of(ask({"clicks": users}, "candidates:batch")) == "invalid-request"


def test_half_a_character_in_an_identifier_is_an_unknown_item(cloud):
    cloud.promoted()
    answer = cloud.call(
        "POST",
        "/v1/models/production/candidates",
        content=b'{"clicks": ["\\ud800"]}',
        headers={"content-type": "application/json"},
    )
    assert answer.status_code == 422


def test_a_list_takes_less_than_a_millisecond():
    generator = np.random.default_rng(0)
    ids = generator.integers(0, 10_000, (10_000, 50), dtype=np.int32)
    weights = generator.random((10_000, 50), dtype=np.float32)
    retrieval = Retrieval(ids, weights, np.arange(1, 2001, dtype=np.int32))
    clicks = [int(click) for click in generator.integers(1, 10_000, 20)]
    times = []
    for _ in range(50):
        begun = time.perf_counter()
        assert len(retrieval.candidates(clicks, 1000)) == 1000
        times.append(time.perf_counter() - begun)
    assert np.median(times) < 1e-3


def test_decay_favours_the_newest_click():
    assert 0 < DECAY < 1


@pytest.mark.parametrize(
    "change",
    [
        {"ids": np.full((3, 2), 3, np.int32)},
        {"ids": np.full((3, 2), -1, np.int32)},
        {"ids": np.zeros((3, 2), np.int64)},
        {"weights": np.zeros((3, 1), np.float32)},
        {"weights": np.full((3, 2), np.nan, np.float32)},
        {"popular": np.array([9], np.int32)},
    ],
)
def test_tables_that_do_not_fit_are_refused(tmp_path, change):
    good = {
        "ids": np.zeros((3, 2), np.int32),
        "weights": np.zeros((3, 2), np.float32),
        "popular": np.array([1], np.int32),
    }
    path = tmp_path / "neighbours.safetensors"
    save_file(good, path)
    Retrieval.load(tmp_path / files.NEIGHBOURS)
    save_file(good | change, path)
    with pytest.raises(BundleInvalid):
        Retrieval.load(tmp_path / files.NEIGHBOURS)


def test_a_file_that_is_none_is_refused(tmp_path):
    with pytest.raises(BundleMissing):
        Retrieval.load(tmp_path / files.NEIGHBOURS)
    (tmp_path / "neighbours.safetensors").write_bytes(b"not safetensors")
    with pytest.raises(BundleInvalid):
        Retrieval.load(tmp_path / files.NEIGHBOURS)


@pytest.mark.parametrize(
    "fields", [{"count": True}, {"count": "5"}, {"exclude_clicked": "yes"}, {"exclude_clicked": 1}]
)
def test_a_value_of_another_type_is_refused_as_the_description_says(cloud, fields):
    cloud.promoted()
    path = "/v1/models/production/candidates"
    answer = cloud.call("POST", path, json={"clicks": ["a1"]} | fields)
    assert (answer.status_code, code_of(answer)) == (422, "invalid-request")
    assert cloud.call("POST", path, json={"rows": [1.0], "count": 3.0}).status_code == 200
