"""The backbone learns from patched models; hostile patches do it no harm."""

from functools import cache

import numpy as np
import pytest
import torch

from cloud_service.recommender.learning.basis import BasisSettings, fit_basis
from cloud_service.recommender.learning.distill import (
    DistillSettings,
    clip_patches,
    distill,
    weights_digest,
)
from cloud_service.recommender.learning.events import events_of
from cloud_service.recommender.learning.metapatches import patched_states
from cloud_service.recommender.learning.ranking import event_ranks
from cloud_service.recommender.models.scn import SCN
from cloud_service.recommender.ranking.metrics import rank_metrics
from shared.model import ModelSettings

USERS, CLICKS, ITEMS, SIZE = 200, 15, 60, 4
MODEL = ModelSettings(dim=16, heads=2, segment=5, length=5)


@cache
def small_world():
    """Users click items of one of six kinds, mostly the next one; an SCN knows it by half."""
    random = np.random.default_rng(0)
    kind = np.repeat(np.arange(USERS) % 6, CLICKS)
    step = np.where(random.random(USERS * CLICKS) < 0.6, 1, random.integers(0, 10, USERS * CLICKS))
    items = (kind * 10 + step.reshape(USERS, CLICKS).cumsum(1).ravel() % 10 + 1).astype(np.int32)
    offsets = np.arange(USERS + 1, dtype=np.int64) * CLICKS
    torch.manual_seed(0)
    scn = SCN(ITEMS, MODEL, init_std=0.2)
    events = events_of(scn.eval(), items, offsets, seen_left_out=False)
    chosen = np.flatnonzero(events.places < CLICKS - 5)
    settings = DistillSettings(beta=0, rate=0.01, epochs=5, batch=128)
    basis, patches = fit_basis(scn, events, chosen, BasisSettings(SIZE, epochs=1))
    scn, _ = distill(scn, basis, events, chosen, patches, settings)
    events = events_of(scn, items, offsets, seen_left_out=False)
    basis, patches = fit_basis(scn, events, chosen, BasisSettings(SIZE, epochs=3, rate=0.01))
    return scn, events, chosen, basis, patches


def quality(scn, events):
    """NDCG@10 of everybody's last five clicks."""
    events = events_of(scn, events.items, events.offsets, seen_left_out=False)
    tests = np.flatnonzero(events.places >= CLICKS - 5)
    ranks = event_ranks(events, tests, events.items[tests].astype(np.int64))
    return rank_metrics("all", ranks)["all/ndcg@10"]


def poisoned(patches, attack):
    """The patches of 5% of the users replaced."""
    hostile = patches.clone()
    rows = torch.arange(0, USERS, 20)
    random = torch.Generator().manual_seed(1)
    directions = torch.randn(len(rows), SIZE, generator=random)
    hostile[rows] = {
        "noise": 1e4 * directions,
        "together": 1e30 * torch.ones(len(rows), SIZE),
        "reversed": -1e3 * patches[rows],
        "not finite": torch.full((len(rows), SIZE), torch.nan),
    }[attack]
    return hostile


@pytest.mark.parametrize("attack", ["noise", "together", "reversed", "not finite"])
def test_hostile_patches_cost_the_backbone_at_most_one_percent(attack):
    scn, events, chosen, basis, patches = small_world()
    settings = DistillSettings(beta=1.0, epochs=2, batch=128, rate=1e-3)
    honest, _ = distill(scn, basis, events, chosen, patches, settings)
    attacked, lineage = distill(
        scn, basis, events, chosen, poisoned(patches, attack), settings, turn=2
    )
    assert quality(attacked, events) >= 0.99 * quality(honest, events)
    is_finite = attack != "not finite"
    assert lineage.clipped >= 10 * is_finite
    assert lineage.refused == 10 * (not is_finite)
    assert lineage.patches + lineage.refused == USERS


def test_clipping_keeps_hostile_devices_from_pushing_items():
    scn, events, chosen, basis, patches = small_world()
    hostile = poisoned(patches, "together").clamp_max(1e4)
    part = chosen[(events.users[chosen] % 20 == 0) & (events.places[chosen] > 0)]
    with torch.no_grad():
        states = patched_states(scn, basis, events, part, hostile[events.users[part]])
    pushed = (states @ events.catalogue.T).argmax(1, keepdim=True)

    def share(norm_limit):
        """The mean share that the distilled backbone gives to what the hostile devices push."""
        settings = DistillSettings(epochs=4, batch=128, rate=3e-3, norm_limit=norm_limit)
        made, _ = distill(scn, basis, events, chosen, hostile, settings)
        after = events_of(made, events.items, events.offsets, seen_left_out=False)
        return float((after.states[part] @ after.catalogue.T).softmax(1).gather(1, pushed).mean())

    shares = share(1e9), share(2.0)
    assert shares[0] > 1.2 * shares[1]


def test_a_distilled_backbone_comes_nearer_to_its_teachers():
    scn, events, chosen, basis, patches = small_world()
    patches = 3 * patches
    part = chosen[events.places[chosen] > 0]
    with torch.no_grad():
        states = patched_states(scn, basis, events, part, patches[events.users[part]])
    taught = (states @ events.catalogue.T).log_softmax(1)

    def divergence(model):
        after = events_of(model, events.items, events.offsets, seen_left_out=False)
        log_share = (after.states[part] @ after.catalogue.T).log_softmax(1)
        return float((taught.exp() * (taught - log_share)).sum(1).mean())

    plain, teach = (
        distill(scn, basis, events, chosen, patches, DistillSettings(beta=beta, rate=1e-3))[0]
        for beta in (0.0, 5.0)
    )
    assert divergence(teach) < divergence(plain)


def test_a_distilled_backbone_is_a_new_one_with_its_lineage():
    scn, events, chosen, basis, patches = small_world()
    before = weights_digest(scn)
    patches = patches.clone()
    patches[:7] = 0.0  # devices that have not learned
    settings = DistillSettings(beta=0.5, epochs=1, most=256, norm_limit=1e9)
    made, lineage = distill(scn, basis, events, chosen, patches, settings, turn=3)
    assert weights_digest(scn) == before == lineage.parent
    assert weights_digest(made) != before
    assert made.settings == scn.settings
    assert (lineage.turn, lineage.beta, lineage.patches) == (3, 0.5, USERS - 7)
    again, _ = distill(scn, basis, events, chosen, patches, settings, turn=3)
    assert weights_digest(again) == weights_digest(made)


def test_a_norm_is_clipped_to_the_median():
    patches = torch.tensor([[1.0, 0], [0, 1], [3, 4], [0, 0], [1e38, 1e38], [torch.inf, 0]])
    clipped = clip_patches(patches, 2.0)
    assert clipped.teaches.tolist() == [True, True, True, False, True, False]
    norms = clipped.patches.norm(dim=1)
    torch.testing.assert_close(norms, torch.tensor([1.0, 1, 2, 0, 2, 0]))
    assert clipped.count == 2
    assert not clip_patches(torch.full((3, 2), torch.nan), 2.0).teaches.any()


def test_a_tower_is_refused():
    _, events, chosen, basis, patches = small_world()
    tower = SCN(ITEMS, ModelSettings(scoring="tower", gcn="causal", dim=16, heads=2))
    with pytest.raises(ValueError, match="tied scoring"):
        distill(tower, basis, events, chosen, patches, DistillSettings())
