"""Training learns, stops, resumes exactly, and says when it diverges."""

import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from itertools import count
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from cloud_service.recommender.models.baselines.popularity import Popularity
from cloud_service.recommender.ranking.evaluate import validation_ndcg
from cloud_service.recommender.recipe import TrainingRecipe
from cloud_service.recommender.training import trainer as trainer_module
from cloud_service.recommender.training.trainer import Trainer, TrainingDiverged
from cloud_service.recommender.training.windows import cut_windows, gather
from shared.errors import DataError
from shared.manifest import TrainingEnd
from shared.model import PAPER, ModelSettings

SMALL = TrainingRecipe(
    model=PAPER, epochs=4, patience=10, batch_size=32, learning_rate=0.01, seed=5
)

CARRY = ModelSettings(length=8, dim=16, heads=2, segment=4, history="carry", gcn="causal")


@pytest.mark.slow
def test_an_epoch_after_another_the_loss_falls_and_popularity_is_beaten(small_split, tmp_path):
    trainer = Trainer(small_split, SMALL.changed(epochs=8), tmp_path)
    trainer.fit()
    run = trainer.run
    assert run.losses[-1] < run.losses[0] - 0.3
    popular = validation_ndcg(Popularity(small_split.train_counts()), small_split)
    assert run.best > 1.5 * popular


@pytest.mark.parametrize(
    "change",
    [
        {"loss": "sampled_bce"},
        {"model": ModelSettings(gcn="released", scoring="tower")},
        {"model": CARRY},
        {"drop_corrections": 1.0},
        {"network": "scn"},
        {"model": ModelSettings(gcn="transformer", gcn_dim=32, fusion="shift")},
    ],
    ids=["bce", "released", "carry", "no-correction", "scn", "shift"],
)
def test_every_form_trains(small_split, tmp_path, change):
    trainer = Trainer(small_split, SMALL.changed(**({"epochs": 3} | change)), tmp_path)
    trainer.fit()
    assert trainer.run.losses[-1] < trainer.run.losses[0]


def test_without_corrections_the_gcn_is_never_touched(small_split, tmp_path):
    trainer = Trainer(small_split, SMALL.changed(drop_corrections=1.0), tmp_path)
    trainer.optimiser.param_groups[0]["weight_decay"] = 0.0
    before = trainer.model.gcn.attn.fc3.weight.detach().clone()
    trainer.fit()
    assert torch.equal(before, trainer.model.gcn.attn.fc3.weight)


def test_what_is_kept_is_the_moving_average_of_the_weights(small_split, tmp_path):
    recipe = SMALL.changed(network="scn", epochs=2)
    for ema in (0.0, 0.9):
        trainer = Trainer(small_split, recipe.changed(ema=ema), tmp_path / str(ema))
        mean: dict[str, torch.Tensor] = {}
        update, count = trainer.averaged.update_parameters, 0

        def follow(model, mean=mean, ema=ema, update=update):
            nonlocal count
            kept = min(ema, (1 + count) / (10 + count)) if count else 0.0
            for name, value in model.state_dict().items():
                mean[name] = kept * mean.get(name, value) + (1 - kept) * value
            count += 1
            update(model)

        trainer.averaged.update_parameters = follow
        trainer.fit()
        last = load_file(tmp_path / str(ema) / "epoch-00002.safetensors")
        for name, value in mean.items():
            torch.testing.assert_close(last[f"averaged.module.{name}"], value, msg=name)
        apart = last["averaged.module.item_embedding"] - last["model.item_embedding"]
        assert bool(apart.any()) == bool(ema)
        assert trainer.run.metrics[-1] == validation_ndcg(trainer.averaged.module, small_split)


@pytest.mark.parametrize("network", ["neumf", "din", "sasrec"])
@pytest.mark.parametrize("loss", ["sampled_softmax", "sampled_bce"])
def test_a_sampled_loss_in_parts_has_the_gradients_of_the_whole(
    small_split, tmp_path, monkeypatch, network, loss
):
    recipe = SMALL.changed(network=network, loss=loss, dropout=0.0)
    found = []
    for pairs in (1, 1 << 30):
        monkeypatch.setattr("cloud_service.recommender.training.trainer._CPU_PAIRS", pairs)
        trainer = Trainer(small_split, recipe, tmp_path / str(pairs))
        calls = []
        score = trainer.model.score
        trainer.model.score = lambda *given, calls=calls, score=score: (
            calls.append(len(given[0])) or score(*given)
        )
        trainer._descend = lambda: None
        windows = cut_windows(small_split, 10, np.random.default_rng(0))
        inputs, targets = gather(small_split.log.items, windows.starts[:32], windows.lengths[:32])
        value = trainer._step(inputs, targets, windows.users[:32], np.random.default_rng(1))
        gradients = [each.grad for each in trainer.model.parameters()]
        found.append((value, gradients, calls))
    (parts, some, several), (whole, all_, one) = found
    assert len(several) > 1 == len(one)
    assert sum(several) == sum(one)
    assert parts == pytest.approx(whole, rel=1e-5)
    for ours, theirs in zip(some, all_, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-3, atol=1e-7)


def test_every_epoch_cuts_and_orders_its_windows_anew(small_split, tmp_path, monkeypatch):
    seen = []

    def noted(*given):
        seen.append(cut_windows(*given))
        return seen[-1]

    monkeypatch.setattr(trainer_module, "cut_windows", noted)
    recipe = SMALL.changed(network="scn", epochs=2)
    Trainer(small_split, recipe, tmp_path).fit()
    first, second = seen
    assert not np.array_equal(first.starts, second.starts)
    assert set(first.starts) != set(second.starts), "long histories begin at another phase"


def test_a_gradient_is_clipped_to_the_largest_norm(small_split, tmp_path):
    trainer = Trainer(small_split, SMALL, tmp_path)
    for parameter in trainer.model.parameters():
        parameter.grad = torch.full_like(parameter, 100.0)
    trainer._descend()
    norms = [each.grad.norm() for each in trainer.model.parameters()]
    assert float(torch.stack(norms).norm()) == pytest.approx(trainer_module.CLIP, rel=1e-3)


@pytest.mark.slow
def test_training_stops_when_validation_no_longer_improves(small_split, tmp_path):
    recipe = SMALL.changed(epochs=50, patience=1, learning_rate=0.1)
    trainer = Trainer(small_split, recipe, tmp_path)
    trainer.fit()
    assert trainer.run.epoch == trainer.run.best_epoch + 1 < 50
    best = load_file(tmp_path / "best.safetensors")
    assert torch.equal(best["scn.item_embedding"], trainer.model.scn.item_embedding)


def test_the_same_seed_gives_the_same_weights_and_another_seed_others(small_split, tmp_path):
    recipe = SMALL.changed(epochs=1)
    one = Trainer(small_split, recipe, tmp_path / "1").fit().state_dict()
    two = Trainer(small_split, recipe, tmp_path / "2").fit().state_dict()
    other = Trainer(small_split, recipe.changed(seed=6), tmp_path / "3").fit()
    assert all(torch.equal(one[name], two[name]) for name in one)
    assert not torch.equal(one["scn.item_embedding"], other.state_dict()["scn.item_embedding"])


@pytest.mark.slow
def test_a_run_cut_off_after_an_epoch_ends_as_the_unbroken_one(small_split, tmp_path):
    whole = Trainer(small_split, SMALL, tmp_path / "whole")
    whole.fit()

    class CutOff(Exception):
        pass

    def cut(progress):
        if progress.epoch == 2:
            raise CutOff

    with pytest.raises(CutOff):
        Trainer(small_split, SMALL, tmp_path / "cut", report=cut).fit()
    resumed = Trainer(small_split, SMALL, tmp_path / "cut")
    assert resumed.run.epoch == 2
    resumed.fit()
    assert resumed.run == whole.run
    for name, value in whole.model.state_dict().items():
        assert torch.equal(value, resumed.model.state_dict()[name]), name


SCRIPT = """
import sys
from pathlib import Path
from cloud_service.recommender.data.clicks import split
from cloud_service.recommender.data.synthetic import synthetic_log
from cloud_service.recommender.training import trainer as trainer_module
from cloud_service.recommender.training.trainer import Trainer
from cloud_service.recommender.recipe import TrainingRecipe
from shared.model import PAPER
log = synthetic_log(users=120, items=90, clicks_per_user=15, seed=3)
recipe = TrainingRecipe(model=PAPER, epochs=60, patience=60, batch_size=8, seed=5)
trainer = Trainer(split(log), recipe, Path(sys.argv[1]))
trainer.recipe = recipe.changed(epochs=12) if len(sys.argv) > 2 else recipe
trainer.fit()
"""


@pytest.mark.slow(22)
def test_a_run_killed_with_minus_nine_goes_on_to_the_same_weights(tmp_path):
    """A real process, killed in the middle of an epoch, then run again to the same end."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    killed = subprocess.Popen([sys.executable, "-c", SCRIPT, tmp_path / "cut"], env=environment)
    deadline = time.monotonic() + 60
    while len(list((tmp_path / "cut").glob("epoch-*.safetensors"))) < 2:
        assert time.monotonic() < deadline
        assert killed.poll() is None
        time.sleep(0.01)
    os.kill(killed.pid, signal.SIGKILL)
    assert killed.wait() == -signal.SIGKILL
    newest = max((tmp_path / "cut").glob("epoch-*.safetensors"))
    assert int(newest.stem.split("-")[1]) < 12
    for folder in ("cut", "whole"):
        subprocess.run(
            [sys.executable, "-c", SCRIPT, tmp_path / folder, "to the end"],
            env=environment,
            check=True,
            timeout=120,
        )
    cut = load_file(tmp_path / "cut" / "epoch-00012.safetensors")
    whole = load_file(tmp_path / "whole" / "epoch-00012.safetensors")
    assert cut.keys() == whole.keys()
    for name, value in whole.items():
        assert torch.equal(value, cut[name]), name


def test_a_checkpoint_that_was_cut_while_written_falls_back_to_the_one_before(
    small_split, tmp_path
):
    Trainer(small_split, SMALL, tmp_path).fit()
    newest = max(tmp_path.glob("epoch-*.safetensors"))
    newest.write_bytes(newest.read_bytes()[:1000])
    assert Trainer(small_split, SMALL, tmp_path).run.epoch == 3


def test_a_work_folder_of_another_recipe_is_refused(small_split, tmp_path):
    Trainer(small_split, SMALL.changed(epochs=1), tmp_path)
    with pytest.raises(DataError, match="another recipe"):
        Trainer(small_split, SMALL, tmp_path)


def test_a_work_folder_of_other_clicks_is_refused(small_split, tmp_path):
    Trainer(small_split, SMALL, tmp_path)
    items = small_split.log.items.copy()
    items[0] = items[0] % 90 + 1
    other = replace(small_split, log=replace(small_split.log, items=items))
    with pytest.raises(DataError, match="other clicks"):
        Trainer(other, SMALL, tmp_path)


def test_a_checkpoint_that_cannot_be_written_says_so(small_split, tmp_path, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("cloud_service.recommender.training.checkpoint.save_file", full)
    with pytest.raises(DataError, match="No space"):
        Trainer(small_split, SMALL, tmp_path).fit()
    assert not list(tmp_path.glob("*.draft"))


def test_a_diverging_run_is_an_error_and_never_a_zero(small_split, tmp_path):
    trainer = Trainer(small_split, SMALL, tmp_path)
    with torch.no_grad():
        trainer.model.scn.item_embedding[1:] = np.nan
    with pytest.raises(TrainingDiverged, match="learning rate"):
        trainer.fit()
    assert not list(tmp_path.glob("epoch-*"))


def test_progress_rises_and_names_loss_and_metric(small_split, tmp_path):
    seen = []
    Trainer(small_split, SMALL, tmp_path, report=seen.append).fit()
    shares = [each.share for each in seen]
    assert shares == sorted(shares)
    assert seen[-1].epoch == 4
    assert seen[-1].ndcg is not None
    assert seen[-1].loss > 0


@pytest.mark.slow
@pytest.mark.parametrize(("matmul", "said"), [("exact", "highest"), ("fast", "medium")])
def test_only_training_takes_fast_products(small_split, tmp_path, monkeypatch, matmul, said):
    trainer = Trainer(small_split, SMALL.changed(matmul=matmul), tmp_path)
    seen = {"step": set(), "validation": set()}

    def noted(name, call):
        def run(*given):
            seen[name].add(torch.get_float32_matmul_precision())
            return call(*given)

        return run

    monkeypatch.setattr(trainer, "_descend", noted("step", trainer._descend))
    monkeypatch.setattr(
        "cloud_service.recommender.training.trainer.validation_ndcg",
        noted("validation", validation_ndcg),
    )
    trainer.fit()
    assert seen == {"step": {said}, "validation": {"highest"}}
    assert torch.get_float32_matmul_precision() == "highest"
    assert trainer.run.losses[-1] < trainer.run.losses[0] - 0.2


@pytest.mark.parametrize(
    ("metrics", "epochs", "patience", "limit"),
    [
        ([0.1, 0.2, 0.3], 3, 2, "3 epochs"),
        ([0.1, 0.3, 0.2], 3, 2, "3 epochs"),
        ([0.3, 0.2, 0.1], 3, 2, ""),
        ([0.1, 0.3, 0.2, 0.1], 50, 2, ""),
        ([0.1], 1, 1, "1 epoch"),
    ],
)
def test_a_training_that_ends_at_its_cap_while_validation_improves_says_so(
    small_split, tmp_path, monkeypatch, metrics, epochs, patience, limit
):
    left = iter(metrics)
    monkeypatch.setattr(trainer_module, "validation_ndcg", lambda model, split: next(left))
    recipe = SMALL.changed(epochs=epochs, patience=patience, network="scn")
    trainer = Trainer(small_split, recipe, tmp_path)
    trainer.fit()
    best = metrics.index(max(metrics)) + 1
    assert trainer.outcome() == TrainingEnd(epochs=len(metrics), best_epoch=best, limit=limit)


def test_minutes_end_a_training_within_an_epoch_and_are_counted_over_processes(
    small_split, tmp_path, monkeypatch
):
    """By a clock that moves 10 seconds whenever somebody looks at it."""
    now = count(step=10)
    clock = SimpleNamespace(monotonic=lambda: float(next(now)))
    monkeypatch.setattr(trainer_module, "time", clock)
    recipe = SMALL.changed(network="scn", minutes=3.0, batch_size=1)
    trainer = Trainer(small_split, recipe, tmp_path)
    trainer.fit()
    assert trainer.outcome() == TrainingEnd(epochs=1, best_epoch=1, limit="3 minutes")
    assert trainer.run.seconds >= 180
    again = Trainer(small_split, recipe, tmp_path)
    again.fit()
    assert again.run == trainer.run, "what was spent before counts: nothing is trained any more"


def test_a_network_that_counts_instead_of_training_has_no_limit(small_split, tmp_path):
    recipe = TrainingRecipe(network="popularity", model=PAPER)
    trainer = Trainer(small_split, recipe, tmp_path)
    trainer.fit()
    assert trainer.outcome() == TrainingEnd(epochs=0, best_epoch=0, limit="")
