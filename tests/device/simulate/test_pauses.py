"""When lists are reranked, and how long users pause before."""

import numpy as np
import pytest

from device_client.simulate.pauses import GAPS_S, HUMAN, Pauses, parse_think


def test_the_gaps_are_seconds_within_a_session_and_rise() -> None:
    assert list(GAPS_S) == sorted(GAPS_S)
    assert GAPS_S[0] > 0
    assert GAPS_S[-1] < 30 * 60


def test_pauses_have_the_quantiles_they_are_drawn_from() -> None:
    drawn = Pauses("", (0.0, 1.0, 10.0)).draw(20_000, seed=1)
    assert np.quantile(drawn, [0, 0.25, 0.5, 0.75, 1]) == pytest.approx(
        [0, 0.5, 1, 5.5, 10], abs=0.2
    )


def test_a_human_pause_ends_within_the_gap() -> None:
    drawn = HUMAN.draw(20_000, seed=1)
    assert drawn.min() >= 0
    assert drawn.max() < GAPS_S[-1]
    assert np.mean(drawn > 0.2) > 0.95
    assert np.median(drawn) == pytest.approx(17, abs=2)


def test_the_same_seed_gives_the_same_pauses() -> None:
    assert HUMAN.draw(50, seed=3).tolist() == HUMAN.draw(50, seed=3).tolist()
    assert HUMAN.draw(50, seed=3).tolist() != HUMAN.draw(50, seed=4).tolist()


def test_reranks_are_at_once_after_a_pause_or_both() -> None:
    both, none, human = (parse_think(word) for word in ("both", "none", "human"))
    assert (both.at_once, both.pauses) == (True, HUMAN)
    assert (none.at_once, none.pauses) == (True, None)
    assert (human.at_once, human.pauses) == (False, HUMAN)
    assert parse_think("0") == none


def test_a_number_is_a_pause_of_so_many_ms() -> None:
    think = parse_think("300")
    assert not think.at_once
    assert think.pauses is not None
    assert think.pauses.draw(5, seed=0).tolist() == [0.3] * 5


@pytest.mark.parametrize("text", ["-1", "soon", "", "nan", "inf", "600001"])
def test_what_is_no_pause_is_refused_with_what_is(text: str) -> None:
    with pytest.raises(ValueError, match="--think is both, none, human or a number of ms"):
        parse_think(text)
