"""How a network trains where its recipe leaves that to the log."""

import math
from dataclasses import replace

import numpy as np
import pytest

from cloud_service.recommender.data.clicks import ClickLog, Split, split
from cloud_service.recommender.recipe import TrainingRecipe
from cloud_service.recommender.training.defaults import (
    FEW_CLICKS,
    ResolvedHyperparameters,
    resolve_hyperparameters,
)
from cloud_service.recommender.training.trainer import Trainer
from cloud_service.recommender.training.windows import cut_windows
from shared.model import ModelSettings

FEW = ResolvedHyperparameters(64, 0.001, 0.3, 0.3, True)
MANY = ResolvedHyperparameters(256, 0.002, 0.01, 0.1, False)


@pytest.fixture(params=[(1, FEW), (-1, MANY)], ids=["few clicks an item", "many clicks an item"])
def log(request, small_split, monkeypatch):
    """What suits an SCN on a log that lies just this side of the limit."""
    more, wanted = request.param
    clicks = len(small_split.train_positions) / small_split.log.item_count
    again = not small_split.nobody_clicks_twice
    limit, other = ("FEW_REPEATED", "FEW_CLICKS") if again else ("FEW_CLICKS", "FEW_REPEATED")
    monkeypatch.setattr(f"cloud_service.recommender.training.defaults.{limit}", clicks + more)
    monkeypatch.setattr(f"cloud_service.recommender.training.defaults.{other}", clicks - more)
    return small_split, wanted


@pytest.mark.parametrize(("repeats", "few"), [(False, True), (True, False)])
def test_where_people_click_again_fewer_clicks_are_many(small_split, monkeypatch, repeats, few):
    clicks = len(small_split.train_positions) / small_split.log.item_count
    monkeypatch.setattr(Split, "nobody_clicks_twice", not repeats)
    monkeypatch.setattr("cloud_service.recommender.training.defaults.FEW_CLICKS", clicks * 1.5)
    monkeypatch.setattr("cloud_service.recommender.training.defaults.FEW_REPEATED", clicks / 1.5)
    parts = replace(small_split)  # which has not looked yet
    assert resolve_hyperparameters(TrainingRecipe(network="scn"), parts) == (FEW if few else MANY)


def test_what_a_recipe_leaves_out_is_the_logs(log):
    parts, wanted = log
    assert resolve_hyperparameters(TrainingRecipe(network="scn"), parts) == wanted


def test_what_a_recipe_says_counts(log):
    parts, wanted = log
    said = TrainingRecipe(
        network="scn", batch_size=7, learning_rate=0.5, weight_decay=0.0, dropout=0.0
    )
    assert resolve_hyperparameters(said, parts) == ResolvedHyperparameters(
        7, 0.5, 0.0, 0.0, wanted.spectral
    )
    for begun in ("spectral", "random"):
        recipe = TrainingRecipe(network="scn", item_init=begun)
        assert resolve_hyperparameters(recipe, parts).spectral == (begun == "spectral")


def test_each_network_is_held_back_as_suits_it(log):
    parts, wanted = log
    decay = {
        name: resolve_hyperparameters(TrainingRecipe(network=name), parts).weight_decay
        for name in ("scn+gcn", "sasrec", "gru4rec", "mamba4rec")
    }
    few = {"scn+gcn": 0.3, "sasrec": 0.03, "gru4rec": 0.03, "mamba4rec": 0.03}
    many = {"scn+gcn": 0.01, "sasrec": 0.01, "gru4rec": 0.1, "mamba4rec": 0.1}
    assert decay == (few if wanted is FEW else many)
    wide = TrainingRecipe(network="scn", model=ModelSettings(dim=128))
    assert resolve_hyperparameters(wide, parts).weight_decay == (0.3 if wanted is FEW else 0.1)


def test_a_training_takes_the_logs_settings(log, tmp_path):
    parts, wanted = log
    trainer = Trainer(parts, TrainingRecipe(network="scn", epochs=1), tmp_path)
    group = trainer.optimiser.param_groups[0]
    assert (group["lr"], group["weight_decay"]) == (wanted.learning_rate, wanted.weight_decay)
    assert trainer.model.dropout == wanted.dropout
    steps = []
    trainer._step = lambda *given: steps.append(given) or 1.0
    trainer._epoch(0)
    windows = cut_windows(parts, trainer.recipe.network.model.length, np.random.default_rng((0, 0)))
    assert len(steps) == math.ceil(len(windows) / wanted.batch_size)


def test_a_bot_does_not_make_few_clicks_many(small_split):
    few = resolve_hyperparameters(TrainingRecipe(network="scn"), small_split)
    log = small_split.log
    bot = np.resize(np.arange(1, log.item_count + 1, dtype=np.int32), 100_000)
    with_bot = ClickLog(
        name="bot",
        synthetic=True,
        preprocessing="",
        item_ids=log.item_ids,
        items=np.concatenate([log.items, bot]),
        timestamps=np.concatenate([log.timestamps, np.arange(len(bot))]),
        offsets=np.append(log.offsets, log.click_count + len(bot)),
        user_ids=(*log.user_ids, "zz"),
    )
    assert len(split(with_bot).train_positions) > FEW_CLICKS * log.item_count
    assert few.spectral
    assert resolve_hyperparameters(TrainingRecipe(network="scn"), split(with_bot)) == few
