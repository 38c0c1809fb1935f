"""SCN and GCN trained in stages: the SCN alone, the teachers, and what puts them together."""

import pytest
import torch

from cloud_service.recommender.models.projected import ProjectedGCN
from cloud_service.recommender.recipe import TEACHERS, TrainingRecipe
from cloud_service.recommender.training.build import build
from cloud_service.recommender.training.fit import fit
from cloud_service.recommender.training.stacking import fit_stacking_weights
from cloud_service.recommender.training.stages import NO_GCN, stages
from cloud_service.recommender.training.trainer import Trainer
from shared.manifest import TrainingEnd
from shared.model import PAPER, ModelSettings

SHAPE = {"dim": 16, "heads": 2, "gcn_dim": 24, "gcn_layers": 1}
RECIPE = TrainingRecipe(
    model=ModelSettings(gcn="projected", fusion="shift", **SHAPE),
    teachers="item-knn,gru4rec",
    teacher_learning_rate=0.005,
    teacher_dropout=0.4,
    epochs=2,
    batch_size=32,
    seed=4,
)
CPU = torch.device("cpu")


def test_every_stage_is_what_the_networks_own_recipe_would_be():
    scn, knn, gru = stages(RECIPE)
    assert (scn.network.kind, knn.network.kind, gru.network.kind) == ("scn", "item-knn", "gru4rec")
    plain = ModelSettings(dim=16, heads=2, gcn=NO_GCN)
    assert scn == TrainingRecipe(network="scn", model=plain, epochs=2, batch_size=32, seed=4)
    wide = plain.model_copy(update={"dim": 24})
    assert gru == TrainingRecipe(
        network="gru4rec",
        model=wide,
        layers=1,
        learning_rate=0.005,
        dropout=0.4,
        epochs=2,
        batch_size=32,
        seed=4,
    )
    assert knn == TrainingRecipe(network="item-knn", model=PAPER)
    readout = RECIPE.network.model.model_copy(update={"readout": "mlp"})
    again = stages(RECIPE.changed(teachers="scn", teacher_weight_decay=0.7, model=readout))[1]
    assert again == TrainingRecipe(
        network="scn",
        model=wide.model_copy(update={"readout": "mlp"}),
        learning_rate=0.005,
        dropout=0.4,
        weight_decay=0.7,
        epochs=2,
        batch_size=32,
        seed=4,
    )
    assert stages(TrainingRecipe(model=PAPER)) == stages(scn) == ()


def test_the_devices_half_is_the_scn_trained_alone(small_split, tmp_path):
    alone = Trainer(small_split, stages(RECIPE)[0], tmp_path / "alone").fit()
    fitted = fit(small_split, RECIPE, tmp_path / "both", device=CPU)
    for name, value in alone.state_dict().items():
        assert torch.equal(value, fitted.model.scn.state_dict()[name]), name
    assert fitted.epochs == 2 + 2
    assert fitted.training == TrainingEnd(epochs=2, best_epoch=2, limit="2 epochs")


@pytest.mark.slow
def test_cut_off_in_any_stage_it_goes_on_to_the_same_model(small_split, tmp_path):
    whole = fit(small_split, RECIPE, tmp_path / "whole", device=CPU).model.state_dict()

    class CutOff(Exception):
        pass

    for what in ("scn", "item-knn", "gru4rec"):

        def cut(progress, what=what):
            if progress.message == what and (progress.ndcg or what == "item-knn"):
                raise CutOff

        with pytest.raises(CutOff):
            fit(small_split, RECIPE, tmp_path / "cut", device=CPU, report=cut)
    again = fit(small_split, RECIPE, tmp_path / "cut", device=CPU)
    for name, value in whole.items():
        assert torch.equal(value, again.model.state_dict()[name]), name
    created = again.created
    assert fit(small_split, RECIPE, tmp_path / "cut", device=CPU).created == created
    again.clear()
    assert not list((tmp_path / "cut").rglob("*.safetensors"))


def test_progress_counts_the_epochs_of_all_stages(small_split, tmp_path):
    seen = []
    fit(small_split, RECIPE, tmp_path, device=CPU, report=seen.append)
    assert [p.epoch for p in seen] == sorted(p.epoch for p in seen)
    assert all(p.epoch <= p.epochs for p in seen)
    # Item-kNN trains none: 2 of the SCN and 2 of the GRU.
    assert {p.epochs for p in seen} == {4}
    assert [*dict.fromkeys(p.message for p in seen)] == ["scn", "item-knn", "gru4rec"]


def test_a_teacher_that_knows_the_answer_counts_and_one_that_knows_nothing_does_not(small_split):
    """One teacher is trained for long; of the other two nothing is."""
    torch.manual_seed(0)
    model = build(small_split, RECIPE.changed(teachers="item-knn,gru4rec,sasrec"))
    gcn = model.eval().gcn
    assert isinstance(gcn, ProjectedGCN)
    knn = build(small_split, stages(RECIPE)[1])
    gcn.teachers[0].load_state_dict(knn.state_dict())
    with torch.no_grad():
        gcn.teachers[1].item_embedding.mul_(30)  # noise, and a lot of it
    device, knows, noise, _ = fit_stacking_weights(model, small_split).tolist()
    assert knows > 0.2
    assert noise < 0.1
    assert min(device, noise) >= 0.0


def test_a_model_put_together_of_several_has_no_training_of_its_own(small_split, tmp_path):
    with pytest.raises(ValueError, match="no training of its own"):
        Trainer(small_split, RECIPE, tmp_path)


@pytest.mark.parametrize("teachers", ["", "item-knn,", "popularity", "sasrec,sasrec"])
def test_teachers_that_are_none_are_refused(teachers):
    with pytest.raises(ValueError, match="teacher"):
        TrainingRecipe(teachers=teachers)
    assert TEACHERS


def test_a_projected_gcn_knows_one_h_and_shifts_the_user_state():
    for wrong in (
        {"fusion": "moments"},
        {"fusion": "shift", "scoring": "tower"},
        {"fusion": "shift", "history": "carry"},
        {"fusion": "shift", "length": 20},
    ):
        with pytest.raises(ValueError, match="projected"):
            ModelSettings(gcn="projected", **wrong)
