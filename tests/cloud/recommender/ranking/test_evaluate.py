"""Evaluation against scores worked out user by user."""

import numpy as np
import pytest
import torch

from cloud_service.recommender.data.clicks import split
from cloud_service.recommender.data.synthetic import synthetic_log
from cloud_service.recommender.models.baselines.popularity import Popularity
from cloud_service.recommender.models.cocorrrec import CoCorrRec
from cloud_service.recommender.ranking.evaluate import (
    Clicked,
    clicked_before,
    held_out,
    ranks_over_all,
    user_states,
    validation_ndcg,
)
from cloud_service.recommender.ranking.metrics import ndcg
from shared.model import PAPER, ModelSettings


def test_ranks_over_all_items_are_those_of_a_sort(small_split, small_model):
    log = small_split.log
    positions = small_split.test_positions
    nobody = np.zeros_like(positions)
    users = user_states(small_model, log.items, small_split.starts, positions, nobody)
    found = ranks_over_all(small_model, users, log.items[positions].astype(np.int64))
    scores = small_model.score_all(users).detach().numpy()
    for row, target in enumerate(log.items[positions]):
        above = (scores[row] > scores[row, target - 1]).sum()
        assert found.greater[row] == above


def test_a_model_that_scores_all_items_alike_gets_nothing(small_split):
    model = CoCorrRec(small_split.log.item_count, PAPER)
    with torch.no_grad():
        model.scn.item_embedding[1:] = 0.25
    figures = held_out(model, small_split, small_split.test_positions, seed=0).metrics()
    assert figures["all/ndcg@10"] == 0.0
    assert figures["all/hitrate@20"] == 0.0


def test_scores_that_are_not_finite_are_an_error(small_split):
    model = CoCorrRec(small_split.log.item_count, PAPER)
    with torch.no_grad():
        model.scn.block.output.fill_(float("nan"))
    with pytest.raises(ValueError, match="diverged"):
        validation_ndcg(model, small_split)


def test_popularity_ranks_by_training_clicks_with_ties_against_it(small_split):
    counts = small_split.train_counts()
    targets = small_split.log.items[small_split.test_positions]
    ranks = np.array([(counts[1:] >= counts[t]).sum() for t in targets])
    found = held_out(Popularity(counts), small_split, small_split.test_positions, seed=0)
    assert found.metrics()["all/ndcg@10"] == pytest.approx(ndcg(ranks, 10))


def test_evaluation_leaves_a_model_in_the_mode_it_was_in(small_split):
    model = CoCorrRec(small_split.log.item_count, PAPER)
    model.train()
    validation_ndcg(model, small_split)
    assert model.training


def test_a_carried_history_sees_clicks_a_window_has_forgotten(small_split):
    """Two users who differ only before the last ten clicks get different states by `carry`."""
    items = np.array([1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17], np.int32)
    other = items.copy()
    other[0] = 42
    starts, positions = np.array([0]), np.array([16])
    for history, same in (("window", True), ("carry", False)):
        torch.manual_seed(0)
        settings = ModelSettings(length=4, segment=4, history=history, gcn="causal")
        model = CoCorrRec(small_split.log.item_count, settings, init_std=0.5)
        one = user_states(model, items, starts, positions, np.array([0]))
        two = user_states(model, other, starts, positions, np.array([0]))
        assert torch.equal(one, two) is same


def test_users_who_know_nearly_everything_are_left_out_of_the_sampled_protocol(small_split):
    """The small world has 90 items: nobody has 100 he does not know."""
    model = CoCorrRec(small_split.log.item_count, PAPER)
    figures = held_out(model, small_split, small_split.test_positions, seed=0).metrics()
    assert figures["sampled100/users"] == 0
    assert "sampled100/ndcg@10" not in figures
    log = synthetic_log(users=30, items=130, clicks_per_user=40, seed=1)
    parts = split(log)
    left = [130 - len(set(log.sequence(int(user)).tolist())) for user in parts.train_users]
    model = CoCorrRec(130, PAPER)
    figures = held_out(model, parts, parts.test_positions, seed=0).metrics()
    assert figures["sampled100/users"] == sum(count >= 100 for count in left)
    assert 0 < figures["sampled100/users"] < 30


def test_what_a_user_clicked_before_is_left_out_of_the_ranking(small_split, small_model):
    log, positions = small_split.log, small_split.test_positions
    nobody = np.zeros_like(positions)
    users = user_states(small_model, log.items, small_split.starts, positions, nobody)
    scores = small_model.score_all(users).detach().numpy()
    targets = log.items[positions].astype(np.int64)
    clicked = Clicked(log.items, small_split.starts, positions)
    found = ranks_over_all(small_model, users, targets, clicked)
    for row, (start, at) in enumerate(zip(small_split.starts, positions, strict=True)):
        kept = np.setdiff1d(np.arange(log.item_count), log.items[start:at] - 1)
        if targets[row] - 1 in kept:
            assert found.greater[row] == (scores[row, kept] > scores[row, targets[row] - 1]).sum()
        else:  # clicked again: it cannot be recommended
            assert found.pessimistic[row] == log.item_count


def test_left_out_or_not_is_what_the_split_says():
    log = synthetic_log(users=40, items=60, clicks_per_user=8, seed=2)
    figures = {}
    for seen in ("ranked", "left-out"):
        parts = split(log, seen=seen)
        assert (clicked_before(parts, parts.test_positions) is None) == (seen == "ranked")
        torch.manual_seed(1)
        model = CoCorrRec(log.item_count, PAPER, init_std=0.5)
        figures[seen] = held_out(model, parts, parts.test_positions, seed=0).metrics()
    ranked, left_out = figures.values()  # in the synthetic world people click again
    assert ranked["all/hitrate@20"] > left_out["all/hitrate@20"]


def test_leaving_items_out_changes_nothing_of_a_model_that_shows_its_own_counts():
    log = synthetic_log(users=40, items=60, clicks_per_user=8, seed=2)
    parts = split(log, seen="left-out")
    model = Popularity(parts.train_counts())
    before = {name: value.clone() for name, value in model.state_dict().items()}
    one, two = (held_out(model, parts, parts.test_positions, seed=0).metrics() for _ in range(2))
    assert one == two
    for name, value in model.state_dict().items():
        assert torch.equal(value, before[name]), name
