"""A job and an evaluation of one recipe give the same model: both train it in the same stages."""

import numpy as np
import torch

from cloud_service.recommender.data.clicks import split
from cloud_service.recommender.data.treatment import Treatment
from cloud_service.recommender.ranking.evaluate import held_out
from cloud_service.recommender.training.fit import fit
from experiments.comparison.comparison_recipe import parse
from experiments.comparison.datasets import open_data
from experiments.comparison.files import read_ranks
from experiments.comparison.plan import cells
from experiments.comparison.run import NEGATIVES_SEED, perform
from experiments.comparison.tasks import Task

CPU = torch.device("cpu")


def test_a_job_and_an_evaluation_rank_the_same(clicks_file, tmp_path):
    comparison = parse(
        {
            "datasets": [{"data": str(clicks_file)}],
            "models": [{"network": "scn+gcn", "gcn": "projected", "teachers": "item-knn,gru4rec"}],
            "epochs": 2, "batch_size": 64, "dim": 16, "heads": 2, "gcn_dim": 24, "gcn_layers": 1,
        },
        "test",
    )  # fmt: skip
    (facts,) = open_data(comparison, tmp_path)
    (cell,) = cells(comparison)
    recipe = cell.training({}, 3)
    task = Task(recipe, str(clicks_file), tmp_path, facts.digest, tmp_path / "runs", test=True)
    trained = perform(task, CPU, lambda progress: None)

    dataset = split(Treatment.of(recipe.data).load(str(clicks_file), tmp_path))
    fitted = fit(dataset, recipe, tmp_path / "job", device=CPU)
    ranks = held_out(fitted.model, dataset, dataset.test_positions, seed=NEGATIVES_SEED)
    evaluated, _ = read_ranks(task.folder.ranks_file(""))["all"]
    assert fitted.best == trained.best
    assert np.array_equal(ranks.all.greater, evaluated.greater)
    assert np.array_equal(ranks.all.equal, evaluated.equal)
