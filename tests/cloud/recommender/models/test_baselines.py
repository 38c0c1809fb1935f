"""Baselines against answers worked out by hand, term by term or pair by pair."""

from dataclasses import replace

import numpy as np
import polars as pl
import pytest
import torch
from safetensors.torch import load_file

from cloud_service.recommender.data.clicks import split
from cloud_service.recommender.data.prepare import prepare
from cloud_service.recommender.models.baselines import din as din_module
from cloud_service.recommender.models.baselines import parts
from cloud_service.recommender.models.baselines.deepfm import DeepFM
from cloud_service.recommender.models.baselines.din import DIN
from cloud_service.recommender.models.baselines.fm import FM
from cloud_service.recommender.models.baselines.item_knn import ItemKNN
from cloud_service.recommender.models.baselines.mf import MF
from cloud_service.recommender.models.baselines.neumf import NeuMF
from cloud_service.recommender.models.baselines.popularity import Popularity
from cloud_service.recommender.ranking.evaluate import validation_ndcg
from cloud_service.recommender.recipe import TrainingRecipe
from cloud_service.recommender.training.neighbours import Counting, fit_neighbours
from cloud_service.recommender.training.trainer import Trainer
from cloud_service.recommender.training.tune_knn import KNNSettings, item_knn, tune_item_knn
from shared.model import ModelSettings

ITEMS, USERS, LENGTH, DIM = 23, 11, 5, 8
CLICKS = torch.tensor([[3, 9, 3, 0, 0], [7, 1, 2, 20, 5], [4, 0, 0, 0, 0]])
OWNERS = torch.tensor([2, 0, 11])
SHAPE = {"length": LENGTH, "dim": DIM, "dropout": 0.0}
SMALL = TrainingRecipe(
    model=ModelSettings(length=10, dim=16, heads=2, gcn="causal"),
    epochs=8,
    patience=8,
    batch_size=16,
    learning_rate=0.01,
    negatives=20,
    seed=5,
)


def large(model):
    """The model with weights so large that every part of a score shows."""
    torch.manual_seed(1)
    with torch.no_grad():
        for weight in model.parameters():
            weight.normal_(std=0.7)
        for name, table in model.named_parameters():
            if name.endswith(("embedding", "factors")):
                table[0] = 0.0
    return model.eval()


def paired(name):
    """A model whose score is no dot product."""
    models = {
        "neumf": lambda: NeuMF(ITEMS, USERS, layers=3, **SHAPE),
        "deepfm": lambda: DeepFM(ITEMS, USERS, layers=3, **SHAPE),
        "din": lambda: DIN(ITEMS, layers=3, **SHAPE),
    }
    return large(models[name]())


def split_of(**sequences):
    """A split of one sequence of item ids for each user."""
    rows = [
        (user, item, time)
        for user in sorted(sequences)
        for time, item in enumerate(sequences[user])
    ]
    frame = pl.DataFrame(rows, schema=["user_id", "item_id", "timestamp"], orient="row")
    return split(prepare(frame, name="hand"))


def test_popularity_scores_everyone_by_training_clicks():
    log = split_of(u="aabcc", v="abbca")
    model = Popularity(log.train_counts())
    states = model.last_states(CLICKS[:, :1], OWNERS)
    # Training clicks: u a a b, v a b b.
    assert model.score_all(states).tolist() == [[3.0, 3.0, 0.0]] * 3
    assert model.score(states, torch.tensor([[3, 1], [2, 3], [1, 1]])).tolist() == [
        [0.0, 3.0],
        [3.0, 0.0],
        [3.0, 3.0],
    ]


def test_item_knn_adds_up_the_neighbours_of_the_last_clicks():
    near = fit_neighbours(split_of(u="abcab", v="abcc"), Counting(count=2))
    counts = np.array([0, 2, 2, 1])
    model = ItemKNN(near.ids, near.weights, counts, 3, decay=0.5)
    # From test_neighbours: a: b 1, c 0.5 / sqrt 2; b: c 1 / sqrt 2, a 0.5.
    root = 2**-0.5
    clicks = torch.tensor([[1, 2, 0], [1, 0, 0]])
    scores = model.score_all(model.last_states(clicks, OWNERS[:2]))
    wanted = torch.tensor([[0.5, 0.5 * 1.0, root + 0.5 * 0.5 * root], [0.0, 1.0, 0.5 * root]])
    torch.testing.assert_close(scores, wanted, atol=0.05, rtol=0)
    exact = scores[0] - model.behind[1:]
    torch.testing.assert_close(exact, wanted[0], atol=1e-6, rtol=0)
    assert scores[1].argmin() == 0


def test_item_knn_puts_items_that_are_no_neighbours_behind_by_popularity(small_split):
    near = fit_neighbours(small_split, Counting(count=3))
    model = item_knn(small_split, 10, KNNSettings(decay=0.4), near)
    clicks = torch.tensor([[5, 17, 0]])
    scores = model.score_all(clicks)[0]
    reached = torch.from_numpy(np.setdiff1d(near.ids[[5, 17]], [0])).long() - 1
    others = torch.ones(len(scores), dtype=torch.bool)
    others[reached] = False
    assert scores[reached].min() > scores[others].max()
    counts = torch.from_numpy(small_split.train_counts()[1:])
    assert torch.equal(scores[others].argsort(stable=True), counts[others].argsort(stable=True))


def test_item_knn_excludes_clicked_items_only_where_it_is_told_to(small_split):
    near = fit_neighbours(small_split)
    clicks = torch.tensor([[5, 17, 0]])
    for exclude in (False, True):
        model = item_knn(small_split, 10, KNNSettings(exclude=exclude), near)
        scores = model.score_all(clicks)[0]
        behind = set((scores < scores.sort().values[2]).nonzero().flatten().tolist())
        assert (behind == {4, 16}) is exclude


def test_item_knn_finds_that_people_come_back_for_the_same():
    """Everyone clicks one item again and again: no other item is a neighbour of it."""
    loyal = split_of(**{f"u{number:02d}": chr(97 + number % 20) * 6 for number in range(40)})
    plain = item_knn(loyal, 5, KNNSettings(), fit_neighbours(loyal))
    assert not plain.weights.any()
    assert validation_ndcg(plain, loyal) < 0.5
    assert tune_item_knn(loyal, 5).reached == 1.0


def test_item_knn_is_tuned_on_validation_clicks_alone(small_split):
    plain = item_knn(small_split, 10, KNNSettings(), fit_neighbours(small_split))
    tuned = tune_item_knn(small_split, 10)
    assert tuned.reached > validation_ndcg(plain, small_split)
    items = small_split.log.items.copy()
    items[small_split.test_positions] = 1
    other = replace(small_split, log=replace(small_split.log, items=items))
    again = tune_item_knn(other, 10)
    assert again.settings == tuned.settings
    for name, value in tuned.model.state_dict().items():
        assert torch.equal(value, again.model.state_dict()[name]), name


def test_mf_is_user_times_item_plus_bias():
    model = large(MF(ITEMS, USERS, **SHAPE))
    scores = model.score_all(model.last_states(CLICKS, OWNERS))
    for row, user in enumerate(OWNERS):
        for item in range(1, ITEMS + 1):
            product = model.user_embedding[user] @ model.item_embedding[item]
            wanted = product * (user > 0) + model.item_bias[item]
            torch.testing.assert_close(scores[row, item - 1], wanted)


def test_mf_learns_from_the_first_click_of_a_window_too():
    model = MF(ITEMS, USERS, **SHAPE)
    clicks, targets = torch.tensor([[3, 9], [4, 0]]), torch.tensor([[9, 5], [6, 0]])
    read, wanted = model.examples(clicks, targets)
    assert wanted.tolist() == [[3, 9, 5], [4, 6, 0]]
    assert model.states(read, OWNERS[:2]).shape == (2, 3, DIM + 1)


def features(clicks, user, candidate):
    """(weight, field, number) of every feature that is not zero."""
    filled = [int(click) for click in clicks if click]
    bag = [(1 / len(filled), "bag", click) for click in filled]
    return [(1.0, "user", user), (1.0, "last", filled[-1]), *bag, (1.0, "item", candidate)]


def pairwise_sum(model, found):
    """The linear terms that are not left out, and the product of every two features' vectors."""
    vectors = [x * getattr(model, f"{field}_embedding")[n] for x, field, n in found]
    total = sum(one @ other for at, one in enumerate(vectors) for other in vectors[at + 1 :])
    return total + model.item_bias[found[-1][2]]


def test_fm_is_the_sum_over_all_pairs_of_features():
    """But for what is the same for every candidate, so differences are compared."""
    model = large(FM(ITEMS, USERS, **SHAPE))
    scores = model.score_all(model.last_states(CLICKS, OWNERS))
    for row, user in enumerate(OWNERS):
        found = [features(CLICKS[row], user, item) for item in range(1, ITEMS + 1)]
        wanted = torch.stack([pairwise_sum(model, each) for each in found])
        torch.testing.assert_close(scores[row] - scores[row, 0], wanted - wanted[0])


def test_deepfm_is_fm_and_an_mlp_over_the_same_embeddings():
    model = paired("deepfm")
    fm = FM(ITEMS, USERS, **SHAPE).eval()
    own = {name: value for name, value in model.state_dict().items() if "mlp" not in name}
    fm.load_state_dict(own)
    first = torch.nn.Linear(4 * DIM, DIM)
    with torch.no_grad():
        first.weight.copy_(torch.cat((model.mlp.of_state.weight, model.mlp.of_item.weight), 1))
        first.bias.copy_(model.mlp.of_state.bias)
    scores = model.score_all(model.last_states(CLICKS, OWNERS))
    wanted = fm.score_all(fm.last_states(CLICKS, OWNERS))
    for row, user in enumerate(OWNERS):
        clicks = CLICKS[row][CLICKS[row] > 0]
        fields = (
            model.user_embedding[user],
            model.last_embedding[clicks[-1]],
            model.bag_embedding[clicks].mean(0),
        )
        for item in range(1, ITEMS + 1):
            x = torch.cat((*fields, model.item_embedding[item]))
            for layer in (first, *model.mlp.later):
                x = layer(x).relu()
            torch.testing.assert_close(
                scores[row, item - 1], wanted[row, item - 1] + x @ model.of_mlp
            )


def test_neumf_is_a_weighted_product_and_an_mlp():
    model = paired("neumf")
    scores = model.score_all(model.last_states(CLICKS, OWNERS))
    for row, user in enumerate(OWNERS):
        for item in range(1, ITEMS + 1):
            product = model.user_factors[user] * model.item_factors[item]
            mlp = model.mlp
            x = mlp.of_state(model.user_embedding[user]) + mlp.of_item(model.item_embedding[item])
            x = x.relu()
            for layer in mlp.later:
                x = layer(x).relu()
            wanted = product @ model.of_product + x @ model.of_mlp
            torch.testing.assert_close(scores[row, item - 1], wanted)


@pytest.mark.parametrize("name", ["neumf", "deepfm", "din"])
def test_all_items_are_scored_block_by_block_as_candidates_are(name, monkeypatch):
    monkeypatch.setattr(parts, "_BLOCK", {"cpu": 1})
    monkeypatch.setattr(din_module, "_ROWS", {"cpu": 2})
    monkeypatch.setattr(din_module, "_RANKED", {"cpu": 2})
    model = paired(name)
    states = model.last_states(CLICKS, OWNERS)
    candidates = torch.arange(1, ITEMS + 1).expand(3, -1)
    wanted = model.score_all(states)
    torch.testing.assert_close(model.score(states, candidates), wanted)
    torch.testing.assert_close(model.train().score(states, candidates), wanted)


def din_by_hand(model, clicks, item):
    """DIN as the paper writes it: [q, k, q - k, q * k] of every pair of candidate and click."""
    q = model.item_embedding[item]
    keys, weights = [], []
    for age, click in enumerate(reversed([int(click) for click in clicks if click])):
        k = model.item_embedding[click] + model.place[age]
        hidden = model.attention(torch.cat((q, k, q - k, q * k)))
        hidden = torch.nn.functional.prelu(hidden, model.attention_slope)
        keys.append(k)
        weights.append(model.attention_out(hidden))
    u = sum(weight * key for weight, key in zip(weights, keys, strict=True))
    x = model.of_interest(u) + model.of_item(q) + model.of_both(u * q)
    for number, slope in enumerate(model.slopes):
        x = x if number == 0 else model.later[number - 1](x)
        x = torch.nn.functional.prelu(x, slope)
    return model.out(x)[0] + model.item_bias[item]


def test_din_is_an_mlp_of_every_pair_of_candidate_and_click():
    model = paired("din")
    scores = model.score_all(model.last_states(CLICKS, OWNERS))
    for row, clicks in enumerate(CLICKS):
        for item in range(1, ITEMS + 1):
            wanted = din_by_hand(model, clicks, item)
            torch.testing.assert_close(scores[row, item - 1], wanted, atol=1e-4, rtol=1e-4)


def test_din_weighs_the_same_clicks_anew_for_every_candidate():
    model = paired("din")
    keys, filled = model._keys(CLICKS)
    weights = model.weights(keys, filled, model.item_embedding[None, [6, 14]].expand(3, -1, -1))
    assert weights.shape == (3, 2, LENGTH)
    assert not weights[:, :, :][~filled[:, None].expand_as(weights)].any()
    one, two = weights[1]
    assert (one - two).abs().min() > 1e-3
    ratio = one / two
    assert ratio.max() - ratio.min() > 0.01, "not merely scaled"


def test_din_does_not_see_padding_nor_how_much_of_it_there_is():
    model = paired("din")
    bare = model.score_all(CLICKS[2:, :1])
    torch.testing.assert_close(model.score_all(CLICKS[2:]), bare)
    with torch.no_grad():
        model.item_embedding[0] = 1e6
    torch.testing.assert_close(model.score_all(CLICKS[2:]), bare)
    torch.testing.assert_close(model.score(CLICKS, torch.full((3, 1), 4))[2], bare[0, 3:4])


@pytest.mark.slow
@pytest.mark.parametrize("network", ["mf", "fm", "neumf", "deepfm", "din"])
def test_each_learns_and_beats_popularity(network, small_split, tmp_path):
    trainer = Trainer(small_split, SMALL.changed(network=network), tmp_path)
    trainer.fit()
    run = trainer.run
    assert run.losses[-1] < run.losses[0] - 0.05
    popular = validation_ndcg(Popularity(small_split.train_counts()), small_split)
    assert run.best > popular, (run.best, popular)


@pytest.mark.parametrize(
    ("network", "asked", "used"),
    [
        ("din", "softmax", "sampled_softmax"),
        ("din", "sampled_bce", "sampled_bce"),
        ("fm", "softmax", "softmax"),
        ("fm", "sampled_softmax", "sampled_softmax"),
    ],
)
def test_only_dot_products_train_by_the_softmax_over_all_items(
    network, asked, used, small_split, tmp_path
):
    recipe = SMALL.changed(network=network, loss=asked, epochs=1)
    trainer = Trainer(small_split, recipe, tmp_path)
    assert trainer.loss == used
    trainer.fit()


@pytest.mark.parametrize("network", ["popularity", "item-knn"])
def test_a_model_without_parameters_is_validated_and_kept_without_an_epoch(
    network, small_split, tmp_path
):
    said = []
    recipe = SMALL.changed(network=network)
    trainer = Trainer(small_split, recipe, tmp_path, report=said.append)
    model = trainer.fit()
    assert (trainer.run.epoch, trainer.run.losses) == (0, [])
    assert trainer.run.metrics == [trainer.run.best] == [validation_ndcg(model, small_split)]
    assert [(each.epochs, each.loss, each.ndcg) for each in said] == [(0, None, trainer.run.best)]
    kept = load_file(tmp_path / "best.safetensors")
    assert all(torch.equal(value, kept[name]) for name, value in model.state_dict().items())
    again = Trainer(small_split, recipe, tmp_path, report=said.append)
    assert again.run == trainer.run
    again.fit()
    assert len(said) == 1, "it was validated before"


def test_the_gradient_that_din_writes_out_is_that_of_autograd(monkeypatch):
    monkeypatch.setattr(din_module, "_TOGETHER", {"cpu": 2})  # three rows: two parts
    torch.manual_seed(0)
    shapes = (3, 4, 6), (3, 5, 6), (3, 4 * 2), (2, 6), (2, 6)
    parts = [torch.randn(shape, dtype=torch.float64, requires_grad=True) for shape in shapes]
    torch.testing.assert_close(din_module._Hidden.apply(*parts), din_module._hidden(*parts))
    assert torch.autograd.gradcheck(din_module._Hidden.apply, parts)
