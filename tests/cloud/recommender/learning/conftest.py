"""Clicks of a few users and an SCN, small enough to compute everything by hand."""

import numpy as np
import pytest
import torch

from cloud_service.recommender.learning.events import Events, events_of
from cloud_service.recommender.models.scn import SCN
from shared.model import ModelSettings

ITEMS = 50
COUNTS = (1, 3, 12, 30, 7)


@pytest.fixture(scope="session")
def small_scn() -> SCN:
    torch.manual_seed(2)
    return SCN(ITEMS, ModelSettings(dim=8, heads=2, segment=5, length=5), init_std=0.5).eval()


def events_with(scn: SCN, *, seen_left_out: bool) -> Events:
    """The clicks of five users, with repetitions unless rankings leave items out."""
    random = np.random.default_rng(5)
    offsets = np.concatenate([[0], np.cumsum(COUNTS)]).astype(np.int64)
    items = [
        random.permutation(ITEMS)[:count] + 1
        if seen_left_out
        else random.integers(1, ITEMS // 4, count)
        for count in COUNTS
    ]
    flat = np.concatenate(items).astype(np.int32)
    return events_of(scn, flat, offsets, seen_left_out=seen_left_out)


@pytest.fixture(scope="session")
def once_events(small_scn) -> Events:
    """Nobody clicks an item twice, and rankings leave out what was clicked."""
    return events_with(small_scn, seen_left_out=True)


@pytest.fixture(scope="session")
def repeated_events(small_scn) -> Events:
    """Users click again, and rankings show everything."""
    return events_with(small_scn, seen_left_out=False)
