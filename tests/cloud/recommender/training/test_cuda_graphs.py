"""Steps that are recorded on a GPU and replayed."""

import pytest
import torch
from torch import Tensor, nn

from cloud_service.recommender.models.baselines.sasrec import SASRec
from cloud_service.recommender.models.recommender import Recommender
from cloud_service.recommender.models.scn import SCN
from cloud_service.recommender.training.cuda_graphs import GraphedTrainingStates
from shared.model import ModelSettings

ITEMS = 50


def clicks_of(batch: int, seed: int) -> Tensor:
    return torch.randint(1, ITEMS + 1, (batch, 10), generator=torch.Generator().manual_seed(seed))


class Doubled(nn.Module):
    """What stands for a recording: not what the model gives."""

    def __init__(self, model: Recommender) -> None:
        super().__init__()
        self.model = model

    def forward(self, clicks: Tensor, users: Tensor) -> Tensor:
        return 2 * self.model.training_states(clicks, users)


def test_the_first_shape_is_replayed_and_the_last_batch_of_an_epoch_is_not(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    model = SCN(ITEMS, ModelSettings())
    recorded = []

    def record(replayed: GraphedTrainingStates, clicks: Tensor, users: Tensor) -> nn.Module:
        recorded.append(clicks.shape)
        return Doubled(model)

    monkeypatch.setattr(GraphedTrainingStates, "_record", record)
    states, whole, rest = GraphedTrainingStates(model), clicks_of(8, 1), clicks_of(3, 2)
    nobody = torch.zeros(8, dtype=torch.int64)
    own = model.training_states(whole, nobody)
    assert torch.equal(states(whole, nobody), 2 * own)
    assert torch.equal(states(rest, nobody[:3]), model.training_states(rest, nobody[:3]))
    assert torch.equal(states(whole, nobody), 2 * own)
    assert recorded == [whole.shape]


def test_a_model_that_cannot_be_recorded_takes_the_usual_way_and_is_not_tried_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    tried = []
    monkeypatch.setattr(GraphedTrainingStates, "_record", lambda *_: tried.append(1))
    model = SCN(ITEMS, ModelSettings())
    states, clicks, nobody = (
        GraphedTrainingStates(model),
        clicks_of(8, 1),
        torch.zeros(8, dtype=torch.int64),
    )
    for _ in range(2):
        assert torch.equal(states(clicks, nobody), model.training_states(clicks, nobody))
    assert tried == [1]


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize("kind", ["scn", "sasrec"])
def test_replayed_gradients_are_those_of_the_usual_way(kind: str) -> None:
    model: Recommender = (
        SCN(ITEMS, ModelSettings())
        if kind == "scn"
        else SASRec(ITEMS, length=10, dim=16, heads=2, layers=1, dropout=0.0)
    )
    model.cuda().train()
    states, nobody = GraphedTrainingStates(model), torch.zeros(8, dtype=torch.int64, device="cuda")
    for seed in range(3):
        clicks = clicks_of(8, seed).cuda()
        gradients = []
        for way in (states, model.training_states):
            model.zero_grad()
            way(clicks, nobody).square().sum().backward()
            gradients.append([each.grad for each in model.parameters() if each.grad is not None])
        torch.testing.assert_close(*gradients, rtol=1e-4, atol=1e-6)
