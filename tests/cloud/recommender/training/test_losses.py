"""The losses against PyTorch's own, values and gradients."""

import pytest
import torch
from torch.nn import functional

from cloud_service.recommender.training import losses


@pytest.mark.parametrize("limit", [1, 200, 1 << 20], ids=["rows of 16", "some rows", "all rows"])
def test_full_softmax_is_cross_entropy_and_so_are_its_gradients(monkeypatch, limit):
    monkeypatch.setattr(losses, "_CPU_SCORES", limit)
    torch.manual_seed(0)
    states = torch.randn(70, 8, dtype=torch.float64, requires_grad=True)
    vectors = torch.randn(9, 8, dtype=torch.float64, requires_grad=True)
    targets = torch.randint(1, 10, (70,))
    wanted = functional.cross_entropy(states @ vectors.T, targets - 1)
    expected = torch.autograd.grad(3 * wanted, (states, vectors))
    found = losses.full_softmax(states, vectors, targets)
    gradients = torch.autograd.grad(3 * found, (states, vectors))
    torch.testing.assert_close(found, wanted)
    torch.testing.assert_close(gradients, expected)


def test_full_softmax_bears_scores_that_would_overflow():
    states = torch.tensor([[200.0, 0.0], [0.0, -200.0]], requires_grad=True)
    vectors = torch.tensor([[1.0, 0.0], [0.0, 1.0]])
    loss = losses.full_softmax(states, vectors, torch.tensor([1, 1]))
    torch.testing.assert_close(loss, torch.tensor(0.0))


def test_sampled_losses_fall_as_the_positive_rises():
    low, high = torch.tensor([[0.0, 1.0, 1.0]]), torch.tensor([[3.0, 1.0, 1.0]])
    for loss in (losses.sampled_bce, losses.sampled_softmax):
        assert loss(high) < loss(low)
