"""Learning wins where users have tastes that no bundle knows, and loses nothing elsewhere."""

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from cloud_service.recommender.data.clicks import split
from cloud_service.recommender.learning.events import events_of
from cloud_service.recommender.recipe import TrainingRecipe
from cloud_service.recommender.training.trainer import Trainer
from experiments.learning.fleet_state import Learned, learn, learning_moments
from experiments.learning.measure import Parts, click_ranks, compare, gains
from experiments.learning.spans import TEST, cut_spans
from experiments.learning.worlds import control_world
from shared.learning import PatchSettings
from shared.model import ModelSettings

MODEL = ModelSettings(dim=32, heads=2, gcn="causal")
BOLD = PatchSettings(size=32, negatives=200, steps=30, learning_rate=0.1, decay=0.01)


def measured(tmp_path, *, tastes):
    """What learning is worth in one world: NDCG@10 of every test click without and with it."""
    torch.manual_seed(0)
    spans = cut_spans(control_world(tastes=tastes, users=200), "position", has_times=False)
    dataset = split(spans.bundle)
    recipe = TrainingRecipe.of(network="scn", model=MODEL, epochs=10, patience=3)
    scn = Trainer(dataset, recipe, tmp_path).fit().eval()
    events = events_of(scn, spans.items, spans.offsets, seen_left_out=dataset.seen_left_out)
    clicks = spans.chosen(TEST)

    def ranked(parts):
        return gains(click_ranks(events, spans, clicks, parts, in_basket=False))

    learned = learn(events, learning_moments(spans), BOLD)
    figures = compare(ranked(Parts(learned=learned)), ranked(Parts()), spans.users[clicks])
    return SimpleNamespace(figures=figures, learned=learned, events=events, spans=spans)


def test_learning_wins_by_far_where_users_have_tastes_of_their_own(tmp_path):
    world = measured(tmp_path, tastes=True)
    assert world.figures.relative > 0.1
    assert world.figures.low > 0
    assert world.learned.adopted.mean() > 0.5


def test_learning_loses_nothing_where_there_is_nothing_to_learn(tmp_path):
    world = measured(tmp_path, tastes=False)
    assert world.figures.high > 0
    assert world.learned.adopted.mean() < 1


def test_a_patch_that_ranks_worse_is_not_used(tmp_path, monkeypatch):
    world = measured(tmp_path, tastes=True)
    # Its devices learn within the sessions too, which the SCN predicts well.
    spans = replace(world.spans, before=np.full_like(world.spans.before, 12))
    moments = learning_moments(spans)

    def hostile(events, moments, settings, **options):
        return torch.randn(len(moments), 32) * 5

    monkeypatch.setattr("experiments.learning.fleet_state.learn_shifts", hostile)
    learned = learn(world.events, moments, BOLD)
    places = world.events.places[moments]
    assert learned.adopted[(places > 40) & (places < 60)].mean() < 0.1
    assert not learned.shifts[torch.from_numpy(~learned.adopted)].any()


@pytest.mark.parametrize("basket", [0, 7])
def test_no_patch_before_the_first_round(basket):
    events = SimpleNamespace(users=np.array([0] * 5 + [1] * 5))
    learned = Learned(np.array([3, 8]), torch.ones(2, 4), np.ones(2, bool))
    assert not learned.before(events, np.array([basket])).any()
    assert learned.before(events, np.array([4])).all()
