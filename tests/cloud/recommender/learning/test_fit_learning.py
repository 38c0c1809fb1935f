"""What a bundle ships for learning is chosen by validation."""

import torch

from cloud_service.recommender.data.clicks import split
from cloud_service.recommender.data.synthetic import synthetic_log
from cloud_service.recommender.learning.fit import fit_learning
from cloud_service.recommender.recipe import TrainingRecipe
from cloud_service.recommender.training.fit import fit
from shared.model import ModelSettings


def test_what_does_not_validate_better_is_left_out(tmp_path):
    torch.manual_seed(0)
    log = synthetic_log(users=150, items=120, clicks_per_user=20)
    dataset = split(log)
    recipe = TrainingRecipe.of(
        epochs=2, model=ModelSettings(dim=16, heads=2, length=5, segment=5, gcn_dim=16)
    )
    model = fit(dataset, recipe, tmp_path, device=torch.device("cpu")).model
    before = {name: value.clone() for name, value in model.state_dict().items()}
    lines = []
    learning = fit_learning(model, dataset, log=lines.append)
    alone, learned = learning.validation
    assert learned >= alone
    settings = learning.settings
    if settings.patch is None and settings.memory is None:
        assert learned == alone
    assert (learning.amortised is not None) == (
        settings.patch is not None and settings.patch.start == "amortised"
    )
    assert any("validation NDCG@10" in line for line in lines)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    again = fit_learning(model, dataset)
    assert again.settings == settings
