"""Noise through the whole evaluation: no model is told from chance, and real order is.

The whole of it, ten disguises of twenty seeds each: python -m benchmarks.noise_control.
"""

import numpy as np
import pytest

from benchmarks.noise_control.evaluated import evaluated
from benchmarks.noise_control.verdict import (
    Against,
    against_chance,
    allowed,
    fair_gains,
    verdicts,
)
from benchmarks.noise_control.worlds import DISGUISES, PLANTED
from cloud_service.recommender.ranking.metrics import Ranks
from tests.experiments.comparison.in_process import InProcess

pytestmark = pytest.mark.slow(17)

MODELS = ({"network": "popularity"}, {"network": "item-knn"}, {"network": "scn"})


def judged(disguise, folder, *, seeds=2, **treatment):
    """The verdicts on a disguise, and the cautions given on the way."""
    (folder / "worlds").mkdir()
    paths = [disguise.write(folder / "worlds", seed) for seed in range(seeds)]
    board, parts = evaluated(
        paths, folder, models=MODELS, epochs=8, pool=InProcess, treatment=treatment
    )
    found = [
        each
        for world, mine in parts.items()
        for each in against_chance(board, mine, world, skewed=disguise.skewed)
    ]
    cautions = {words for facts in board.about.datasets for words in facts.cautions}
    return verdicts(found, one_sided=disguise.skewed), " ".join(cautions)


@pytest.mark.parametrize(
    ("name", "caution"),
    [
        ("repeated-rows", "3,600 of 7,200 rows"),
        ("one-date", "most clicks of 100% of the users share their time"),
        ("sorted-by-item", ""),
        ("one-bot", "one user has 35.7% of all clicks"),
        ("skewed", ""),
    ],
)
def test_noise_is_told_from_chance_in_no_disguise(name, caution, tmp_path):
    found, cautions = judged(DISGUISES[name], tmp_path)
    assert [each.holds for each in found] == [True, True], found
    assert caution in cautions


@pytest.mark.parametrize(
    ("disguise", "treatment"),
    [
        (PLANTED, {}),
        (DISGUISES["repeated-rows"], {"repeats": "all"}),
        (DISGUISES["one-date"], {"ties": "file"}),
    ],
    ids=["planted", "repeats counted", "ties in the file's order"],
)
def test_what_can_be_learned_is_told_from_chance(disguise, treatment, tmp_path):
    found, _ = judged(disguise, tmp_path, seeds=1, **treatment)
    assert [each.holds for each in found] == [False, False], found
    assert max(each.holm for each in found) < 1e-4


def test_there_are_ten_disguises_and_the_same_seed_writes_the_same_file(tmp_path):
    assert len(DISGUISES) == 10
    (tmp_path / "again").mkdir()
    contents = set()
    for disguise in DISGUISES.values():
        path = disguise.write(tmp_path, 3)
        assert path.read_bytes() == disguise.write(tmp_path / "again", 3).read_bytes()
        assert path.read_bytes() != disguise.write(tmp_path / "again", 4).read_bytes()
        contents.add(path.read_bytes())
    assert len(contents) == 10


def test_a_tie_gains_the_mean_over_its_places():
    found = Ranks(np.array([0, 0, 9, 10, 8]), np.array([0, 1, 1, 3, 0]))
    gain = 1.0 / np.log2(np.arange(2, 12))
    expected = [1.0, (gain[0] + gain[1]) / 2, gain[9] / 2, 0.0, gain[8]]
    assert fair_gains(found) == pytest.approx(expected)


def test_the_binomials_bounds_are_those_of_the_tables():
    # P(X <= 10) = 0.9885 and P(X <= 11) = 0.9957 of 100 at 5%; 3 of 20: 0.9841, 4: 0.9974.
    assert allowed(100, 0.05) == 11
    assert allowed(20, 0.05) == 4
    assert allowed(0, 0.05) == 0


def test_what_is_worse_than_popularity_is_no_finding_where_it_is_chance():
    worse = [
        Against("scn", "w", protocol, 0.1, 0.2, -0.2, -0.05, 1e-9, 0.2, 0.01)
        for protocol in ("all", "sampled100")
    ]
    assert [each.holds for each in verdicts(worse, one_sided=True)] == [True, True]
    assert [each.holds for each in verdicts(worse, one_sided=False)] == [False, False]
