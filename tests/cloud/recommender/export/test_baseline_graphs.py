"""A baseline on the device scores as it does in PyTorch, from any number of clicks."""

from functools import cache

import numpy as np
import onnx
import pytest
import torch

from cloud_service.recommender.export.baselines import export_ranker, export_scorer, export_step
from cloud_service.recommender.recipe import TrainingRecipe
from cloud_service.recommender.training.build import build
from cloud_service.runtime import open_session
from shared.errors import DataError
from shared.model import ModelSettings

pytestmark = pytest.mark.slow(14)

LENGTH = 5
SETTINGS = ModelSettings(length=LENGTH, dim=16, heads=2, segment=LENGTH, gcn="causal")
RANKERS = ["scn", "scn+gcn", "fm", "deepfm", "din", "gru4rec", "sasrec", "bert4rec", "mamba4rec"]
STEPWISE = ["gru4rec", "mamba4rec"]


@pytest.fixture(scope="module")
def model_of(small_split):
    @cache
    def made(network):
        torch.manual_seed(4)
        model = build(small_split, TrainingRecipe(network=network, model=SETTINGS, layers=2)).eval()
        with torch.no_grad():
            for name, table in model.named_parameters():
                if name.endswith("embedding"):
                    table.mul_(25)
        return model

    return made


def table_of(model):
    (name,) = (n for n, _ in model.named_parameters() if n.split(".")[-1] == "item_embedding")
    return model.get_parameter(name).detach().numpy()


def close(found, wanted):
    np.testing.assert_allclose(found, wanted.detach().numpy(), atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("network", RANKERS)
def test_the_device_ranks_every_history_as_the_model_does(network, model_of):
    model = model_of(network)
    graph = export_ranker(model, LENGTH)
    session, table = open_session(graph), table_of(model)
    random = np.random.default_rng(1)
    for count, candidates in ((1, 7), (2, 1), (3, model.items), (LENGTH, 20)):
        clicks = np.zeros(LENGTH, np.int64)
        clicks[:count] = random.integers(1, model.items + 1, count)
        wanted = random.permutation(model.items)[:candidates] + 1
        (found,) = session.run(None, {"item_table": table, "clicks": clicks, "candidates": wanted})
        states = model.last_states(torch.from_numpy(clicks)[None], torch.tensor([0]))
        close(found, model.score(states, torch.from_numpy(wanted)[None])[0])
    assert table.tobytes() not in graph


@pytest.mark.parametrize("network", STEPWISE)
def test_the_device_steps_from_click_to_click_without_its_history(network, model_of):
    model = model_of(network)
    graph, table = export_step(model), table_of(model)
    step, score = open_session(graph), open_session(export_scorer(model))
    clicks = np.random.default_rng(2).integers(1, model.items + 1, 4 * LENGTH)
    wanted = model.states(torch.from_numpy(clicks)[None], torch.tensor([0]))[0]
    state = [part[0].numpy() for part in model.initial_state(1)]
    for click, expected in zip(clicks, wanted, strict=True):
        carried = dict(zip(model.carried, state, strict=True))
        user, *state = step.run(None, {"item_table": table, "click": np.array(click)} | carried)
        close(user, expected)
    candidates = np.arange(1, model.items + 1)
    (scores,) = score.run(None, {"item_table": table, "user_state": user, "candidates": candidates})
    close(scores, model.score_all(wanted[-1:])[0])
    names = [output.name for output in onnx.load_from_string(graph).graph.output]
    assert names == ["user_state", *(f"next_{part}" for part in model.carried)]


@pytest.mark.parametrize("network", ["popularity", "item-knn"])
def test_what_learns_no_item_table_has_no_graph(network, model_of):
    with pytest.raises(DataError, match="no item table"):
        export_ranker(model_of(network), LENGTH)
