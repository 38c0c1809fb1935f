"""The item embeddings that training begins from."""

import polars as pl
import torch

from cloud_service.recommender.data.clicks import split
from cloud_service.recommender.data.prepare import prepare
from cloud_service.recommender.recipe import TrainingRecipe
from cloud_service.recommender.training.build import build
from cloud_service.recommender.training.spectral import spectral_embedding
from cloud_service.recommender.training.stages import stages
from shared.model import ModelSettings

RECIPE = TrainingRecipe(model=ModelSettings(dim=16, gcn="causal"))


def split_of(*users):
    rows = [(f"u{n:02}", item, t) for n, items in enumerate(users) for t, item in enumerate(items)]
    frame = pl.DataFrame(rows, schema=["user_id", "item_id", "timestamp"], orient="row")
    return split(prepare(frame, name="hand"))


def test_items_that_are_clicked_near_each_other_lie_near_each_other():
    # Items in order of their names; the last two clicks of a user are not for training.
    parts = split_of(*["abcabcabxy", "bcacbacbxy", "defdefdexy", "efdfedfexy"] * 3)
    table = spectral_embedding(parts, 4)
    assert table.shape == (9, 4)
    alike = torch.cosine_similarity(table[:, None], table[None], dim=-1)
    assert alike[1, 2] > 0.9
    assert alike[1, 3] > 0.9
    assert alike[4, 5] > 0.9
    assert alike[1, 4] < 0.1
    # x and y are clicked in validation and test alone, and row 0 is padding.
    assert not table[[0, 7, 8]].any()
    torch.testing.assert_close(table[1:7].square().sum(1).mean(), torch.tensor(1.0))


def test_a_catalogue_smaller_than_the_embedding_is_padded_with_zeros(small_split):
    table = spectral_embedding(split_of("abcab", "bacba", "abccb"), 8)
    assert table.shape == (4, 8)
    assert table.isfinite().all()
    assert not table[:, 3:].any()


def test_a_log_without_pairs_leaves_noise_alone():
    assert not spectral_embedding(split_of("aaaaa", "bbbbb"), 4).any()


def test_it_is_the_same_every_time_and_leaves_torchs_randomness_alone(small_split):
    torch.manual_seed(3)
    one = spectral_embedding(small_split, 16)
    drawn = torch.rand(1)
    torch.manual_seed(3)
    assert torch.equal(drawn, torch.rand(1))
    assert torch.equal(one, spectral_embedding(small_split, 16))


def test_networks_that_read_clicks_begin_with_it_unless_told_otherwise(small_split):
    wanted = spectral_embedding(small_split, 16)
    for network in ("scn", "scn+gcn", "gru4rec", "sasrec", "bert4rec", "mamba4rec"):
        recipe = RECIPE.changed(network=network)
        noise = table_of(small_split, recipe.changed(item_init="random"))
        assert noise.square().mean().sqrt() < 0.03
        torch.testing.assert_close(table_of(small_split, recipe) - noise, wanted)
        # Weights will be loaded: nothing is counted for them.
        assert torch.equal(table_of(small_split, recipe, fit=False), noise)


def test_items_with_many_clicks_begin_from_noise(small_split, monkeypatch):
    few = len(small_split.train_positions) / small_split.log.item_count
    for limit, begun in ((few + 1, True), (few - 1, False)):
        for name in ("FEW_CLICKS", "FEW_REPEATED"):
            monkeypatch.setattr(f"cloud_service.recommender.training.defaults.{name}", limit)
        noise = table_of(small_split, RECIPE.changed(item_init="random"))
        assert torch.equal(table_of(small_split, RECIPE), noise) != begun


def test_a_stage_begins_as_its_recipe_says():
    recipe = RECIPE.changed(
        model=ModelSettings(gcn="projected"), teachers="item-knn,sasrec", item_init="random"
    )
    starts = [stage.optimisation.item_init for stage in stages(recipe)]
    assert starts == ["random", "auto", "random"]


def table_of(parts, recipe, **fit):
    torch.manual_seed(0)
    model = build(parts, recipe, **fit)
    return getattr(model, "scn", model).item_embedding.detach()
