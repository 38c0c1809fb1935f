"""What a session takes for an item: catalogue ids, and nothing that only looks like one."""

import math
from collections import deque

import numpy as np
import pytest

from device_client import Bundle, Outcome, Session
from device_client.scn import Graphs
from shared.errors import InvalidItem, RecommendationError, UnknownItem
from tests.device.conftest import numbered

CLICK, ROWS = 9, [4, 30, 17]
INTEGERS = [numbered(row) for row in ROWS]
TEXTS = [str(item) for item in INTEGERS]


def without_address(value):
    """Its repr as a test's id; the type alone where that holds an address, new in each process."""
    return type(value).__name__ if " at 0x" in repr(value) else repr(value)


@pytest.fixture(scope="module")
def graphs(integer_bundle):
    return Graphs(Bundle.open(integer_bundle))


@pytest.fixture
def session(graphs):
    session = Session(graphs)
    session.click(str(numbered(CLICK)))
    return session


@pytest.fixture
def by_row(graphs):
    """The ranking of the same items by their rows."""
    session = Session(graphs)
    session.click_row(CLICK)
    return session.rerank_rows(np.array(ROWS))


@pytest.mark.parametrize(
    "click", [str(numbered(CLICK)), numbered(CLICK), np.int64(numbered(CLICK)),
              np.str_(numbered(CLICK)), np.uint16(numbered(CLICK))], ids=repr,
)  # fmt: skip
@pytest.mark.parametrize(
    "candidates",
    [TEXTS, INTEGERS, tuple(INTEGERS), deque(TEXTS), [INTEGERS[0], *TEXTS[1:]],
     np.array(INTEGERS), np.array(TEXTS), np.array(INTEGERS, np.uint16),
     np.array(INTEGERS, object), [np.int32(item) for item in INTEGERS],
     dict.fromkeys(TEXTS).keys(), dict.fromkeys(INTEGERS).keys(),
     dict(enumerate(INTEGERS)).values()],
    ids=repr,
)  # fmt: skip
def test_text_and_integers_mean_the_same_catalogue_ids(graphs, by_row, click, candidates):
    session = Session(graphs)
    session.click(click)
    ranking = session.rerank(candidates)
    np.testing.assert_array_equal(ranking.scores, by_row.scores)
    assert [str(item) for item in ranking.items] == [str(numbered(r)) for r in by_row.items]
    assert (list(ranking.unknown), ranking.outcome) == ([], Outcome.OFFLINE)
    np.testing.assert_array_equal(session.scores(candidates), by_row.scores)


def test_a_generator_is_listed_once_and_ranked(session, by_row):
    ranking = session.rerank(item for item in TEXTS)
    np.testing.assert_array_equal(ranking.scores, by_row.scores)
    assert sorted(ranking.items) == sorted(TEXTS)


def test_an_integer_is_never_a_row(session):
    with pytest.raises(UnknownItem, match="item 3 is not"):
        session.click(3)
    ranking = session.rerank([*INTEGERS, *ROWS])
    assert list(ranking.unknown) == ROWS
    assert np.isneginf(ranking.scores[3:]).all()
    assert np.isfinite(ranking.scores[:3]).all()


def test_an_id_with_leading_zeros_or_a_sign_is_another_id(session):
    for other in (f"0{INTEGERS[0]}", f" {INTEGERS[0]}", f"+{INTEGERS[0]}", f"{INTEGERS[0]}.0"):
        with pytest.raises(UnknownItem):
            session.click(other)


@pytest.mark.parametrize(
    "wrong",
    [87.0, 1.5, math.nan, True, False, None, b"1017", bytearray(b"1017"), ["1017"], ("1017",),
     np.float64(1017), np.float32(1017), np.bool_(True), np.timedelta64(1017), 1017j, object()],
    ids=without_address,
)  # fmt: skip
def test_what_is_no_catalogue_id_is_refused_at_the_door_and_changes_nothing(session, wrong):
    before = session.scores(TEXTS)
    for call in (
        lambda: session.click(wrong),
        lambda: session.rerank([TEXTS[0], wrong]),
        lambda: session.scores([wrong]),
        lambda: session.preload([TEXTS[0], wrong]),
    ):
        with pytest.raises(InvalidItem, match="no catalogue id but a") as refused:
            call()
        assert "give text or an integer" in str(refused.value) or "decode" in str(refused.value)
    assert isinstance(refused.value, (TypeError, RecommendationError))
    np.testing.assert_array_equal(session.scores(TEXTS), before)
    assert session.outcomes == {}


def test_a_float_is_refused_with_the_integer_that_was_meant(session):
    with pytest.raises(InvalidItem, match=r"1017\.0 .* float: .* such as 1017"):
        session.rerank([1017.0, 1027.0])
    with pytest.raises(InvalidItem, match="as text") as refused:
        session.rerank(np.array([1e16, 2e16]))
    assert "such as" not in str(refused.value), "which integer it was cannot be told any more"


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ("SKU-1", r"give \['SKU-1'\]"),
        ("107", r"give \['107'\]"),
        (b"107", "alone"),
        (107, r"give \[107\]"),
        (None, "alone"),
        ({"1017"}, "set, whose order"),
        (frozenset({1017}), "set, whose order"),
        ({"1017": "a title"}, "mapping"),
        (np.array([[1017, 1027]]), "2 dimensions"),
        (np.array(1017), "0 dimensions"),
    ],
    ids=repr,
)
def test_what_is_no_list_of_ids_is_refused_with_what_to_give(session, wrong, words):
    for call in (session.rerank, session.scores, session.preload):
        with pytest.raises(InvalidItem, match=words):
            call(wrong)


@pytest.mark.parametrize(
    "nothing", [[], (), np.array([]), iter(()), {}.keys()], ids=without_address
)
def test_no_candidates_give_an_empty_ranking_whatever_holds_them(session, nothing):
    ranking = session.rerank(nothing)
    assert (ranking.items, ranking.ranked) == ([], [])
    assert ranking.outcome is Outcome.OFFLINE


def test_an_array_of_times_is_not_taken_for_its_integers(session):
    with pytest.raises(InvalidItem, match="datetime64"):
        session.rerank(np.array([1017, 1027], "datetime64[ns]"))


def test_a_candidate_that_comes_twice_is_ranked_twice_with_one_score(session):
    ranking = session.rerank([TEXTS[0], TEXTS[1], INTEGERS[0]])
    assert ranking.scores[0] == ranking.scores[2]
    places = [ranking.items.index(item) for item in (TEXTS[0], INTEGERS[0])]
    assert places[1] - places[0] == 1, "ties keep the order given"


def test_items_stand_beside_their_own_scores(session):
    ranking = session.rerank(TEXTS)
    scores = dict(zip(TEXTS, ranking.scores, strict=True))
    assert ranking.ranked == [(item, scores[item]) for item in ranking.items]
    assert [score for _, score in ranking.ranked] == sorted(ranking.scores, reverse=True)


def test_unknown_candidates_are_named_and_come_last(session):
    ranking = session.rerank(["new-1", TEXTS[0], 1018, TEXTS[1], "\ud800", "", "1017\0"])
    assert list(ranking.unknown) == ["new-1", 1018, "\ud800", "", "1017\0"]
    assert set(ranking.items[:2]) == set(TEXTS[:2])
    assert np.isneginf(ranking.scores[[0, 2, 4, 5, 6]]).all()
    assert ranking.outcome is Outcome.OFFLINE


def test_candidates_that_are_all_unknown_are_an_outcome_of_their_own(session):
    ranking = session.rerank(["SKU-1", "SKU-2"])
    assert ranking.outcome is Outcome.UNKNOWN_CANDIDATES
    assert (ranking.items, list(ranking.unknown)) == (["SKU-1", "SKU-2"], ["SKU-1", "SKU-2"])
    assert np.isneginf(ranking.scores).all()
    assert "catalogue" in ranking.reason
    assert session.outcomes == {Outcome.UNKNOWN_CANDIDATES: 1}


def test_a_session_without_clicks_says_that_all_candidates_are_unknown_too(graphs):
    assert Session(graphs).rerank(["SKU-1"]).outcome is Outcome.UNKNOWN_CANDIDATES


@pytest.mark.parametrize("wrong", [["1017"], [1.0, 2.0], np.array([1.5]), [[1, 2]], [True, False]])
def test_rows_are_integers_and_ids_are_sent_to_the_other_method(session, wrong):
    for call in (session.rerank_rows, session.score_rows, session.preload_rows):
        with pytest.raises(InvalidItem, match="without _rows"):
            call(wrong)


def test_a_row_that_is_none_is_unknown_and_a_click_on_it_an_error(session):
    ranking = session.rerank_rows(np.array([0, ROWS[0], 10**9, -1]))
    assert list(ranking.unknown) == [0, 10**9, -1]
    assert ranking.items[0] == ROWS[0]
    for row in (0, -1, 10**9):
        with pytest.raises(UnknownItem, match="rows go from 1"):
            session.click_row(row)
    for wrong in (1.0, "1", True, None):
        with pytest.raises(InvalidItem, match="a row is an integer"):
            session.click_row(wrong)


def test_rows_and_catalogue_ids_lead_to_each_other(graphs):
    bundle = graphs.bundle
    for row in (1, 30, bundle.manifest.items):
        assert bundle.item_id(row) == str(numbered(row))
        assert bundle.index(numbered(row)) == bundle.index(bundle.item_id(row)) == row
    assert bundle.rows([numbered(2), "none", str(numbered(1))]).tolist() == [2, 0, 1]
    assert bundle.title(1)


@pytest.mark.parametrize("items", [["1017", "gone", 1027], ("1017", "gone", 1027)])
def test_a_delisted_item_is_left_out_of_a_history_and_named(graphs, items, caplog):
    session, other = Session(graphs), Session(graphs)
    assert session.preload(iter(items)) == ["gone"]
    assert other.preload(["1017", "1027"]) == []
    np.testing.assert_array_equal(session.scores(TEXTS), other.scores(TEXTS))
    assert "1 of 3 clicks of a history were left out" in caplog.text
    assert "gone" not in caplog.text, "what somebody clicked is for no log"


def test_a_history_of_unknown_items_is_no_history(graphs):
    session = Session(graphs)
    assert session.preload(["gone", "gone too"]) == ["gone", "gone too"]
    ranking = session.rerank(TEXTS)
    assert (ranking.items, ranking.outcome) == (TEXTS, None)
