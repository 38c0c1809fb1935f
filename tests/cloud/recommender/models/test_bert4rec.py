"""What BERT4Rec hides in training, and what it sees."""

import pytest
import torch

from cloud_service.recommender.models.baselines.bert4rec import LAST_ALONE, MASKED, BERT4Rec


@pytest.fixture
def model():
    torch.manual_seed(1)
    return BERT4Rec(40, length=8, dim=16, heads=2, layers=1, dropout=0.0)


def windows(count):
    """Clicks and targets of windows of 1 to 8 clicks that go 1, 2, 3, ..."""
    places = torch.arange(8)
    filled = places < torch.arange(count)[:, None] % 8 + 1
    return (places + 1) * filled, (places + 2) * filled


def test_what_is_hidden_is_wanted_and_together_they_are_the_whole_sequence(model):
    clicks, targets = windows(400)
    seen, wanted = model.examples(clicks, targets)
    hidden = seen == model.mask
    assert torch.equal(hidden, wanted > 0)
    assert hidden.any(1).all()
    whole = torch.where(hidden, wanted, seen)
    assert torch.equal(whole[:, 0], clicks[:, 0])
    assert torch.equal(whole[:, 1:], targets)


def test_chance_hides_its_share_and_the_last_click_alone_now_and_then(model):
    clicks, targets = (part[7::8] for part in windows(32_000))
    hidden = model.examples(clicks, targets)[1] > 0
    nothing = (1 - MASKED) ** 9
    share = (1 - LAST_ALONE) * (9 * MASKED + nothing) / 9 + LAST_ALONE / 9
    assert hidden.float().mean() == pytest.approx(share, abs=0.01)
    last_alone = LAST_ALONE + (1 - LAST_ALONE) * (nothing + MASKED * (1 - MASKED) ** 8)
    found = (hidden.sum(1) == 1) & hidden[:, -1]
    assert found.float().mean() == pytest.approx(last_alone, abs=0.02)


def test_a_hidden_click_is_guessed_from_both_sides(model):
    seen = torch.tensor([[3, model.mask, 7, 0]])
    users = torch.zeros(1, dtype=torch.int64)
    for place in (0, 2):
        other = seen.clone()
        other[0, place] = 9
        moved = model.training_states(other, users) - model.training_states(seen, users)
        assert moved[0, 1].abs().max() > 1e-3
