"""Two models on the same validation clicks, each as the store holds it."""

import shutil
from dataclasses import replace
from datetime import UTC, datetime

import numpy as np
import pytest
import torch

from cloud_service.publishing import judge
from cloud_service.publishing.publish import publish
from cloud_service.recommender.data.clicks import split
from cloud_service.recommender.data.synthetic import synthetic_log
from cloud_service.recommender.ranking.evaluate import validation_ndcg
from cloud_service.recommender.ranking.significance import Comparison
from cloud_service.recommender.recipe import TrainingRecipe
from cloud_service.recommender.training.fit import fit
from cloud_service.storage.store import Store
from shared import bundle as names
from shared.model import PAPER, ModelSettings

pytestmark = pytest.mark.slow(20)

SHAPE = {"dim": 16, "heads": 2}
FEW = TrainingRecipe(
    model=ModelSettings(**SHAPE), epochs=1, batch_size=64, min_user=5, learning_rate=0.01
)
CREATED = datetime(2026, 1, 1, tzinfo=UTC)


@pytest.fixture(scope="module")
def parts():
    return split(synthetic_log(users=150, items=90, clicks_per_user=15, seed=3))


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    return Store(tmp_path_factory.mktemp("store"))


@pytest.fixture(scope="module")
def trained(parts, store, tmp_path_factory):
    """The paper's model after 1 epoch and after 12, and a projected one: (model, version) each."""
    found, paper = [], PAPER.model_copy(update=SHAPE)
    for change in ({"model": paper}, {"model": paper, "epochs": 12, "patience": 12}, {}):
        recipe = FEW.changed(**change)
        fitted = fit(parts, recipe, tmp_path_factory.mktemp("work"), device=torch.device("cpu"))
        version = publish(store, fitted.model, parts, {}, created=CREATED, training=fitted.training)
        found.append((fitted.model.eval(), version))
    return found


def test_a_model_read_from_the_store_ranks_as_the_one_that_was_trained(parts, store, trained):
    rows = np.arange(len(parts.train_users))
    for seen in (False, True):
        here = replace(parts, seen_left_out=seen)
        for model, version in trained:
            gains = judge.gained(judge.opened(store, version), here, rows)
            assert gains.mean() == pytest.approx(validation_ndcg(model, here), abs=1e-3)


def test_a_model_of_one_epoch_does_not_replace_one_of_twelve_but_the_other_way_round(
    parts, store, trained, monkeypatch, tmp_path
):
    monkeypatch.setattr(judge, "read_data", lambda recipe, folder: parts)
    (_, short), (_, long), _ = trained
    worse = judge.judged(FEW, store, tmp_path, short, long)
    assert not worse.promoted
    assert worse.reason.startswith("its NDCG@10 on 150 validation clicks is 0.")
    assert f"of version {long}" in worse.reason
    assert judge.judged(FEW, store, tmp_path, long, short).promoted
    assert judge.judged(FEW, store, tmp_path, long, long).promoted


def test_a_click_on_an_item_that_a_model_lacks_is_a_miss_and_items_that_went_are_not_ranked(
    parts, store, trained
):
    log, (_, version) = parts.log, trained[1]
    rows = np.arange(len(parts.train_users))
    served = judge.opened(store, version)
    before = judge.gained(served, parts, rows)
    # The same clicks in a catalogue that has another name for one item in three.
    renamed = tuple(f"new-{n}" if n % 3 == 0 else id_ for n, id_ in enumerate(log.item_ids))
    order = np.argsort(np.array([each.encode() for each in renamed]))
    number = np.empty(len(order) + 1, np.int32)
    number[0], number[order + 1] = 0, np.arange(1, len(order) + 1)
    other = replace(
        log, item_ids=tuple(renamed[n] for n in order), items=number[log.items], titles=None
    )
    after = judge.gained(served, replace(parts, log=other), rows)
    lacking = (log.items[parts.validation_positions] - 1) % 3 == 0
    assert not after[lacking].any()
    assert before[lacking].any()
    assert after[~lacking].any()


def test_a_version_that_cannot_be_read_is_replaced_and_that_is_said(
    parts, trained, store, monkeypatch, tmp_path
):
    monkeypatch.setattr(judge, "read_data", lambda recipe, folder: parts)
    shutil.copytree(store.folder, tmp_path / "damaged")
    damaged = Store(tmp_path / "damaged")
    (_, version), (_, good), _ = trained
    (damaged.version_folder(version) / names.WEIGHTS).write_bytes(b"no weights")
    found = judge.judged(FEW, damaged, tmp_path, good, version)
    assert found.promoted
    assert found.reason.startswith(f"version {version} cannot be read to compare")
    absent = judge.judged(FEW, damaged, tmp_path, good, "0" * 16)
    assert absent.promoted


def test_clicks_that_cannot_be_read_any_more_promote_nothing(store, trained, tmp_path):
    recipe = FEW.changed(data=str(tmp_path / "gone.csv"))
    found = judge.judged(recipe, store, tmp_path, trained[1][1], trained[0][1])
    assert not found.promoted
    assert "cannot be compared" in found.reason


@pytest.mark.parametrize(
    ("low", "high", "promoted"),
    [(-0.0009, 0.004, True), (-0.0011, 0.004, False), (0.01, 0.02, True), (-0.02, -0.01, False)],
)
def test_a_model_is_promoted_where_the_interval_is_above_one_percent_less(low, high, promoted):
    found = Comparison((low + high) / 2 + 0.1, 0.1, low, high, 0.5, 0.5, 1234)
    said = judge.verdict(found, "v")
    assert said.promoted is promoted
    assert "on 1,234 validation clicks" in said.reason
    assert judge.verdict(replace(found, reference=0.0), "v").promoted


def test_no_more_clicks_are_ranked_than_the_limit(parts, store, trained, monkeypatch):
    monkeypatch.setattr(judge, "USERS", 40)
    both = [judge.opened(store, version) for _, version in trained[:2]]
    assert judge.compared(*both, parts).users == 40


def test_the_end_of_the_device_networks_training_is_in_the_manifest(store, trained):
    training = store.manifest(trained[0][1]).training
    assert (training.epochs, training.best_epoch, training.limit) == (1, 1, "1 epoch")
