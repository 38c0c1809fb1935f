"""The contract of every network that can be trained, and an answer known by construction."""

from functools import cache
from typing import get_args

import numpy as np
import pytest
import torch

from cloud_service.recommender.data.clicks import ClickLog, split
from cloud_service.recommender.data.synthetic import synthetic_log
from cloud_service.recommender.models.recommender import DotProduct, Stepwise, at_last
from cloud_service.recommender.recipe import Network, TrainingRecipe
from cloud_service.recommender.training.build import build
from cloud_service.recommender.training.trainer import Trainer
from shared.model import ModelSettings

LENGTH = 6
SETTINGS = ModelSettings(length=LENGTH, dim=16, heads=2, segment=LENGTH, gcn="causal")
USERS = torch.tensor([0, 1, 7, 0])
CLICKS = torch.tensor([[5, 2, 9, 2, 30, 4], [8, 8, 1, 0, 0, 0], [3, 0, 0, 0, 0, 0], [0] * 6])

WITHOUT_CLICKS = {"popularity", "mf", "neumf"}
FITTED = {"popularity", "item-knn"}

every_network = pytest.mark.parametrize("network", get_args(Network))


def recipe_of(network, **changes):
    return TrainingRecipe(network=network, model=SETTINGS, layers=2, dropout=0.2, **changes)


@cache
def small_world():
    return split(synthetic_log(users=60, items=45, clicks_per_user=8, seed=3))


@cache
def built(network):
    """An untrained network with embeddings large enough for a difference to show."""
    torch.manual_seed(2)
    model = build(small_world(), recipe_of(network)).eval()
    with torch.no_grad():
        for table in tables(model).values():
            table.mul_(25)
    return model


def tables(model):
    """Every table with a row for each item or user, by name."""
    log = small_world().log
    rows = (log.item_count + 1, log.user_count + 1)
    return {n: p for n, p in model.named_parameters() if p.ndim == 2 and p.shape[0] in rows}


@every_network
def test_states_and_scores_have_the_shapes_that_are_promised(network):
    model = built(network)
    states, last = model.states(CLICKS, USERS), model.last_states(CLICKS, USERS)
    assert states.shape[:2] == CLICKS.shape
    assert states.shape[2:] == last.shape[1:]
    assert model.length <= LENGTH
    assert model.score_all(last).shape == (4, model.items) == (4, small_world().log.item_count)
    assert model.score(last, torch.ones(4, 3, dtype=torch.int64)).shape == (4, 3)
    assert model.factorised == isinstance(model, DotProduct)


@every_network
def test_the_score_of_a_candidate_is_its_column_among_all(network):
    model = built(network)
    states = model.last_states(CLICKS[:3], USERS[:3])
    candidates = torch.stack([torch.randperm(model.items) + 1 for _ in states])
    wanted = model.score_all(states).gather(1, candidates - 1)
    torch.testing.assert_close(model.score(states, candidates), wanted, atol=1e-5, rtol=1e-4)
    if isinstance(model, DotProduct):
        torch.testing.assert_close(states @ model.catalogue().T, model.score_all(states))


@every_network
def test_a_state_knows_no_later_click(network):
    model = built(network)
    states = model.states(CLICKS[:1], USERS[:1])
    for place in range(LENGTH - 1):
        later = CLICKS[:1].clone()
        later[:, place + 1 :] = torch.arange(LENGTH - place - 1) + 11
        found = model.states(later, USERS[:1])[:, : place + 1]
        torch.testing.assert_close(found, states[:, : place + 1], atol=1e-5, rtol=1e-4)


@every_network
def test_padding_changes_no_score(network):
    model = built(network)
    for row, count in ((1, 3), (2, 1)):
        clicks, user = CLICKS[row : row + 1], USERS[row : row + 1]
        padded = model.score_all(model.last_states(clicks, user))
        bare = model.score_all(model.last_states(clicks[:, :count], user))
        among = model.score_all(model.last_states(CLICKS, USERS))[row : row + 1]
        torch.testing.assert_close(padded, bare, atol=1e-5, rtol=1e-4)
        torch.testing.assert_close(padded, among, atol=1e-5, rtol=1e-4)


@every_network
def test_the_last_state_is_the_state_after_the_last_click(network):
    model = built(network)
    states = at_last(model.states(CLICKS, USERS), CLICKS)
    last = model.last_states(CLICKS, USERS)
    torch.testing.assert_close(model.score_all(states), model.score_all(last), atol=1e-5, rtol=1e-4)


@every_network
def test_nothing_is_left_to_chance_when_it_ranks(network):
    model = built(network)
    one, two = (model.score_all(model.last_states(CLICKS, USERS)) for _ in range(2))
    assert torch.equal(one, two)


@every_network
def test_nobody_and_somebody_without_a_click_are_ranked_for(network):
    model = built(network)
    clicks = torch.zeros(2, LENGTH, dtype=torch.int64)
    assert model.score_all(model.last_states(clicks, torch.tensor([0, 1]))).isfinite().all()


@every_network
def test_padding_has_no_embedding_and_gets_no_gradient(network):
    model = built(network).train()
    found = tables(model)
    clicks, wanted = model.examples(CLICKS[:3], CLICKS[:3].roll(-1, 1) * (CLICKS[:3] > 0))
    states = model.training_states(clicks, USERS[:3])[wanted > 0]
    loss = model.score_all(states).logsumexp(1).sum()
    if found:
        gradients = torch.autograd.grad(loss, list(found.values()), allow_unused=True)
        for (name, table), gradient in zip(found.items(), gradients, strict=True):
            assert not table[0].any(), name
            assert gradient is None or not gradient[0].any(), name
    model.eval()


@pytest.mark.parametrize("network", ["gru4rec", "mamba4rec"])
def test_a_click_at_a_time_gives_the_states_of_the_whole_sequence(network):
    model = built(network)
    assert isinstance(model, Stepwise)
    users = torch.zeros(2, dtype=torch.int64)
    clicks = torch.randint(1, model.items + 1, (2, 40), generator=torch.Generator().manual_seed(4))
    wanted = model.states(clicks, users)
    state = model.initial_state(2)
    sizes = [part.shape for part in state]
    assert len(sizes) == len(model.carried)
    for place in range(40):
        found, state = model.step(state, clicks[:, place])
        assert [part.shape for part in state] == sizes
        torch.testing.assert_close(found, wanted[:, place], atol=1e-5, rtol=1e-4)


def world_of(sequences):
    """A split of one sequence of item numbers for each user."""
    items = np.concatenate(sequences).astype(np.int32)
    count = int(items.max())
    log = ClickLog(
        name="constructed",
        synthetic=True,
        preprocessing="",
        item_ids=tuple(f"i{number:03d}" for number in range(count)),
        items=items,
        timestamps=np.arange(len(items)),
        offsets=np.cumsum([0, *map(len, sequences)]),
        user_ids=tuple(f"u{number:03d}" for number in range(len(sequences))),
    )
    return split(log)


RING = 16


@cache
def ring_world():
    """Items in a ring: whoever clicks one clicks the next, 4 to 10 clicks from anywhere."""
    random = np.random.default_rng(0)
    return world_of(
        [(np.arange(random.integers(4, 11)) + random.integers(RING)) % RING + 1 for _ in range(96)]
    )


@cache
def taste_world():
    """Half of the users click the first twelve items, half the last, the low numbers most."""
    random = np.random.default_rng(1)
    share = np.arange(12, 0, -1) / 78
    return world_of([random.choice(12, 9, p=share) + 12 * (n % 2) + 1 for n in range(48)])


def trained(network, world, folder, report=lambda progress: None, **changes):
    """A network after a short training, and its run."""
    recipe = {"epochs": 6, "batch_size": 8, "learning_rate": 0.01, "seed": 3, "patience": 100}
    trainer = Trainer(world, recipe_of(network, **(recipe | changes)), folder, report=report)
    return trainer.fit().eval(), trainer.run


# What else a network needs to learn the ring, and the share of successors it then ranks first.
# BERT4Rec has to learn to look at the click before; DIN's negatives are far from the successor.
NEEDS = {
    "gru4rec": ({"learning_rate": 0.02, "epochs": 10}, 0.9),
    "bert4rec": ({"learning_rate": 0.003, "epochs": 30}, 0.5),
    "din": ({"epochs": 10}, 0.6),
}


@pytest.mark.slow(12)
@pytest.mark.parametrize("network", sorted(set(get_args(Network)) - WITHOUT_CLICKS))
def test_what_always_comes_next_is_ranked_first(network, tmp_path):
    changes, share = NEEDS.get(network, ({}, 0.9))
    model, run = trained(network, ring_world(), tmp_path, **changes)
    assert network in FITTED or run.losses[-1] < run.losses[0] - 0.7
    starts = torch.arange(RING)
    for count in (3, LENGTH):
        clicks = torch.zeros(RING, LENGTH, dtype=torch.int64)
        clicks[:, :count] = (starts[:, None] + torch.arange(count)) % RING + 1
        scores = model.score_all(model.last_states(clicks, torch.zeros_like(starts)))
        scores = scores.scatter(1, clicks[:, :count] - 1, -torch.inf)  # not what was just clicked
        first = scores.argmax(1) == (starts + count) % RING
        assert first.float().mean() >= share, count


@pytest.mark.parametrize("network", sorted(WITHOUT_CLICKS))
def test_a_taste_is_learned_where_clicks_are_not_read(network, tmp_path):
    model, run = trained(network, taste_world(), tmp_path, epochs=9)
    users = torch.arange(1, 49)
    clicks = torch.ones(48, 1, dtype=torch.int64)
    scores = model.score_all(model.last_states(clicks, users))
    if network == "popularity":
        counts = torch.from_numpy(taste_world().train_counts()[1:])
        assert torch.equal(scores, counts.float().expand(48, -1))
        return
    assert run.losses[-1] < run.losses[0] - 0.3
    halves = scores.unflatten(1, (2, 12)).mean(2)
    assert torch.equal(halves.argmax(1), (users - 1) % 2)
    nobody = model.score_all(model.last_states(clicks[:1], torch.tensor([0])))[0]
    assert {0, 12} <= set(nobody.topk(6).indices.tolist())


@pytest.mark.parametrize("network", sorted(set(get_args(Network)) - FITTED))
def test_a_training_cut_off_after_an_epoch_ends_as_the_unbroken_one(network, tmp_path):
    whole, _ = trained(network, taste_world(), tmp_path / "whole", epochs=2)

    class CutOff(Exception):
        pass

    def cut(progress):
        if progress.epoch == 1:
            raise CutOff

    with pytest.raises(CutOff):
        trained(network, taste_world(), tmp_path / "cut", epochs=2, report=cut)
    resumed, _ = trained(network, taste_world(), tmp_path / "cut", epochs=2)
    for name, value in whole.state_dict().items():
        assert torch.equal(value, resumed.state_dict()[name]), name
