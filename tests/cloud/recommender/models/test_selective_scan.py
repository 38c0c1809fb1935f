"""The selective scan against the recurrence it stands for, written as a plain loop."""

import pytest
import torch

from cloud_service.recommender.models.baselines.selective_scan import selective_scan


def plain(inputs, rate, decay, write, read):
    memory = inputs.new_zeros(len(inputs), *decay.shape)
    outputs = []
    for t in range(inputs.shape[1]):
        kept = torch.exp(rate[:, t, :, None] * decay)
        memory = kept * memory + inputs[:, t, :, None] * write[:, t, None, :]
        outputs.append((memory * read[:, t, None, :]).sum(-1))
    return torch.stack(outputs, dim=1)


def drawn(batch, length, channels=5, memory=3, rates=1.0):
    torch.manual_seed(length)
    parts = (
        torch.randn(batch, length, channels, dtype=torch.float64),
        torch.rand(batch, length, channels, dtype=torch.float64) * rates,
        -torch.rand(channels, memory, dtype=torch.float64) * 4,
        torch.randn(batch, length, memory, dtype=torch.float64),
        torch.randn(batch, length, memory, dtype=torch.float64),
    )
    return [part.requires_grad_() for part in parts]


@pytest.mark.parametrize("batch", [1, 3], ids=["one user", "a batch"])
@pytest.mark.parametrize("length", [1, 2, 3, 10, 17, 200])
def test_the_scan_and_its_gradients_are_those_of_the_plain_loop(batch, length):
    parts = drawn(batch, length)
    wanted, found = plain(*parts), selective_scan(*parts)
    torch.testing.assert_close(found, wanted)
    expected = torch.autograd.grad(wanted.sin().sum(), parts)
    torch.testing.assert_close(torch.autograd.grad(found.sin().sum(), parts), expected)


def test_the_written_gradient_is_the_numerical_one():
    assert torch.autograd.gradcheck(selective_scan, drawn(2, 5, 3, 2))


@pytest.mark.parametrize("batch", [1, 2], ids=["one user", "a batch"])
def test_rates_that_forget_everything_overflow_nothing(batch):
    parts = drawn(batch, 50, rates=1e4)
    found = selective_scan(*parts)
    torch.testing.assert_close(found, plain(*parts))
    assert all(each.isfinite().all() for each in torch.autograd.grad(found.sum(), parts))
