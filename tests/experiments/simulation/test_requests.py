"""Which users are replayed, and by which of the simulations that share the load."""

from typing import Any

import numpy as np
import pytest

from experiments.simulation.requests import Visit, compared, plan_visits


class HeldOut:
    """A cloud that holds out users with so many clicks each."""

    def __init__(self, *clicks: int) -> None:
        self._offsets = np.cumsum([0, *clicks])

    def replay(self, version: str) -> tuple[Any, Any]:
        return np.arange(1, self._offsets[-1] + 1, dtype=np.int32), self._offsets

    def candidate_rows(self, version: str, histories: list[list[int]], *_: Any) -> list[Any]:
        return [np.array([1, 2, 3]) for _ in histories]


def plan(cloud: HeldOut, wanted: int, skip: int = 0) -> list[Visit]:
    return plan_visits(
        cloud,  # type: ignore[arg-type]
        "0123456789abcdef",
        request_count=wanted,
        longest=10,
        candidates=3,
        seed=0,
        skip=skip,
        progress=lambda done, total: None,
    )


def test_simulations_that_share_the_load_play_other_users() -> None:
    cloud = HeldOut(*[6] * 30)
    shares = [{visit.user for visit in plan(cloud, 50, skip=50 * number)} for number in range(3)]
    assert [len(users) for users in shares] == [10, 10, 10]
    assert set().union(*shares) == set(range(30))


def test_a_share_beyond_the_last_user_begins_again_at_the_first() -> None:
    cloud = HeldOut(*[6] * 12)
    first, again = (plan(cloud, 30, skip=skip) for skip in (0, 60))
    assert [visit.user for visit in again] == [visit.user for visit in first]
    assert len({visit.user for visit in plan(cloud, 1000, skip=30)}) == 12


def test_users_of_any_length_are_shared() -> None:
    cloud = HeldOut(3, 30, 1, 2, 12, 5, 8)
    assert {visit.user for visit in plan(cloud, 1000)} >= {0, 1, 3, 4, 5, 6}
    assert sum(len(visit.requests) for visit in plan(cloud, 1000)) == 2 + 10 + 1 + 10 + 4 + 7


def test_a_cloud_with_nobody_to_replay_says_what_to_do() -> None:
    with pytest.raises(ValueError, match="--holdout-users"):
        plan(HeldOut(1, 1), 10)
    with pytest.raises(ValueError, match="--holdout-users"):
        plan(HeldOut(), 10)


def test_a_request_is_known_by_its_user_and_its_place_among_his_clicks() -> None:
    rows = compared(plan(HeldOut(14, 3), 1000))
    assert {(row.user, row.step) for row in rows} == {(0, n) for n in range(3, 13)} | {
        (1, 0),
        (1, 1),
    }
