"""DCCL's tables, from a small log to the page."""

import json

import numpy as np
import pytest
import torch

from cloud_service.recommender.data.clicks import split
from cloud_service.recommender.data.synthetic import synthetic_log
from cloud_service.recommender.models.scn import SCN
from cloud_service.recommender.ranking.evaluate import held_out
from cloud_service.recommender.ranking.metrics import rank_metrics
from experiments.learning.dccl import main, run
from experiments.learning.dccl_rounds import DCCLSettings, world_of
from shared.errors import DataError
from shared.model import ModelSettings

SETTINGS = DCCLSettings(
    rounds=2,
    size=4,
    learning_rates=(0.1,),
    window=5,
    steps=2,
    negatives=20,
    decays=(0.1,),
    betas=(1.0,),
    most=256,
)


@pytest.fixture(scope="module")
def parts():
    return split(synthetic_log(users=60, items=150, clicks_per_user=12))


@pytest.fixture(scope="module")
def scn(parts):
    torch.manual_seed(0)
    model = ModelSettings(dim=8, heads=2, segment=5, length=5)
    return SCN(parts.log.item_count, model, init_std=0.3).eval()


def test_the_backbone_is_ranked_as_by_the_evaluation(parts, scn):
    world = world_of(parts, scn, SETTINGS)
    row = world.ranked("backbone", world.validate())
    expected = held_out(scn, parts, parts.test_positions, seed=0)
    np.testing.assert_array_equal(row.all.pessimistic, expected.all.pessimistic)
    np.testing.assert_array_equal(row.sampled.pessimistic, expected.sampled.pessimistic)
    validated = held_out(scn, parts, parts.validation_positions, seed=0).all
    assert row.validation == pytest.approx(rank_metrics("all", validated)["all/ndcg@10"])


def test_nothing_is_trained_on_a_held_out_click(parts, scn):
    world = world_of(parts, scn, SETTINGS)
    held = np.concatenate([world.validations, world.tests])
    assert not np.isin(world.training, held).any()
    assert len(world.training) + len(held) == len(world.events)


def test_every_row_stands_on_the_page(parts, scn, tmp_path):
    page = run(parts, scn, SETTINGS, tmp_path)
    rows = json.loads((tmp_path / "dccl.json").read_text("utf-8"))
    names = [row["row"] for row in rows]
    assert names[0] == "backbone"
    assert {
        "DCCL-m round 1",
        "DCCL-m round 2",
        "trained on, no teacher",
        "distilled from itself",
    } <= set(names)
    assert sum(name.startswith("DCCL-e round 1") for name in names) == 4
    assert sum(name.startswith("DCCL-e round 2") for name in names) == 1
    assert rows[0]["difference"] == [0.0, 0.0]
    assert all(name in page for name in names)
    assert (tmp_path / "dccl.md").read_text("utf-8") == page


def test_a_log_of_few_items_is_refused(scn, parts):
    few = split(synthetic_log(users=60, items=80, clicks_per_user=12))
    with pytest.raises(DataError, match="100 items left"):
        world_of(few, scn, SETTINGS)


def test_the_command_trains_its_backbone(tmp_path, capsys):
    log = tmp_path / "clicks.csv"
    random = np.random.default_rng(0)
    lines = [f"{u},{i},{t}" for u in range(60) for t, i in enumerate(random.permutation(150)[:8])]
    log.write_text("user_id,item_id,timestamp\n" + "\n".join(lines))
    main(
        ["--data", str(log), "--out", str(tmp_path / "out"), "--rounds", "1", "--minutes", "0.01",
         "--users", "10", "--most", "64", "--places", "junction 3"]
    )  # fmt: skip
    assert "10 devices" in capsys.readouterr().out
