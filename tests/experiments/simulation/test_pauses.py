"""When lists are reranked, and how long users pause before."""

import gzip
from pathlib import Path

import numpy as np
import pytest

from experiments.simulation.pauses import (
    GAPS_S,
    HUMAN,
    Pauses,
    parse_think,
    pauses_of,
    session_gaps,
)


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


def test_gaps_are_those_of_one_user_within_a_session(tmp_path: Path) -> None:
    log = tmp_path / "clicks.csv"
    log.write_text(
        "item_id,user_id,timestamp\n"
        "a,1,1000000000\nb,2,1000000001\nc,1,1000000030\nd,1,1000000030\n"
        "e,2,1000009001\nf,1,1000000010\n"
    )
    gaps, every = session_gaps(log)
    assert sorted(gaps.tolist()) == [10, 20]
    assert every == 4


def test_pauses_come_from_the_log_that_is_named(tmp_path: Path) -> None:
    log = tmp_path / "mine.csv.gz"
    with gzip.open(log, "wt") as file:
        file.write("user_id,timestamp\n")
        file.writelines(f"u,{1_000_000_000 + 40 * step}\n" for step in range(200))
    think = parse_think("both", log)
    assert think.at_once
    assert think.pauses is not None
    assert "mine.csv.gz" in think.pauses.source
    drawn = think.pauses.draw(5000, seed=1)
    assert drawn.max() <= 40
    assert drawn.mean() == pytest.approx(20, rel=0.05)
    with pytest.raises(ValueError, match="--pauses needs --think both or human"):
        parse_think("300", log)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("user,time\n1,2\n", "no column timestamp and no column user_id: .* it has user, time"),
        ("", "it has none"),
        ("user_id,timestamp\n1,1\n1,2\n", "line 2: '1' is no time in Unix seconds"),
        ("user_id,timestamp\n1,1000000000\n1,1700000000000\n", "line 3: .* milliseconds"),
        ("user_id,timestamp\n1,2024-05-01\n", "'2024-05-01' is no time"),
        ("user_id,timestamp\n1\n", "None is no time"),
        ("timestamp,user_id\n1000000000\n", "line 2 has no user_id"),
        ('user_id,timestamp\n"1,1000000000\n1,1000000009\n', "cannot be read as CSV"),
        ("user_id,timestamp\n1,1000000000\n1,1000000009\n", "has 1 pauses within a session"),
    ],
)
def test_a_log_without_pauses_is_refused_with_the_reason(
    tmp_path: Path, text: str, said: str
) -> None:
    log = tmp_path / "clicks.csv"
    log.write_text(text)
    with pytest.raises(ValueError, match=said):
        pauses_of(log)


@pytest.mark.data
def test_the_built_in_gaps_are_those_of_movielens(real_data: Path) -> None:
    gaps, every = session_gaps(real_data / "ml100k.csv.gz")
    assert (len(gaps), every) == (46_646, 99_057)
    quantiles = np.quantile(gaps, np.linspace(0, 1, len(GAPS_S)), method="inverted_cdf")
    assert quantiles.tolist() == list(GAPS_S)
