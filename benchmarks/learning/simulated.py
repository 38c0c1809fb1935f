"""A bundle that learns, own clicks, and the same round in PyTorch: what the benchmark compares."""

from collections.abc import Callable
from pathlib import Path
from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import functional

from benchmarks.served import CREATED, untrained
from cloud_service.publishing.publish import publish
from cloud_service.recommender.data.clicks import split
from cloud_service.recommender.data.synthetic import synthetic_log
from cloud_service.recommender.learning.amortised import AmortisedPatch
from cloud_service.recommender.learning.events import Events
from cloud_service.recommender.learning.fit import Learning
from cloud_service.recommender.learning.fleet import learn_shifts
from cloud_service.storage.store import Store
from device_client.bundle import Bundle
from device_client.learning.learner import Learner
from device_client.session import Session
from shared.learning import LearningSettings, MemorySettings, PatchSettings

ITEMS: Final = 2000
CLICKS: Final = 75
"""The newest 12 are held out, the 60 before them are trained on."""
SETTINGS: Final = PatchSettings(start="amortised")
"""A window of 60 clicks, 20 steps, 500 negatives."""


def published(folder: Path) -> tuple[Bundle, Bundle]:
    """The same untrained model in two bundles: without learning, and with it."""
    dataset = split(synthetic_log(users=300, items=ITEMS, clicks_per_user=15, seed=3), seed=1)
    store, model = Store(folder), untrained(dataset, "projected")
    memory = MemorySettings(base=0.5, count=0.5, age=0.1)
    settings = LearningSettings(patch=SETTINGS, memory=memory)
    network = AmortisedPatch(model.settings.dim).eval()
    learning = Learning(settings, network, (0.0, 0.0))
    plain = publish(store, model, dataset, {}, created=CREATED)
    learns = publish(store, model, dataset, {}, created=CREATED, learning=learning)
    opened = [Bundle.open(store.version_folder(version)) for version in (plain, learns)]
    return opened[0], opened[1]


def taught_session(bundle: Bundle, clicks: int = CLICKS) -> tuple[Session, Learner]:
    """A session that has clicks of its own, and its learner."""
    session = Session(bundle)
    learner = Learner(session)
    for row in np.random.default_rng(0).integers(1, bundle.manifest.items + 1, clicks):
        session.click_row(int(row))
    return session, learner


def torch_round(bundle: Bundle) -> Callable[[], NDArray[np.float32]]:
    """A round of the same sizes with autograd and torch's Adam, as it is usually written."""
    random, d = np.random.default_rng(0), bundle.manifest.model.dim
    table = torch.from_numpy(np.array(bundle.item_table, np.float32))
    states = torch.from_numpy(random.normal(size=(SETTINGS.window, d)).astype(np.float32))
    items = bundle.manifest.items
    rows = torch.from_numpy(random.integers(1, items + 1, SETTINGS.window))
    drawn = torch.from_numpy(random.permutation(items)[: SETTINGS.negatives] + 1)
    first = torch.zeros(SETTINGS.window, dtype=torch.int64)

    def run() -> NDArray[np.float32]:
        shift = torch.zeros(d, requires_grad=True)
        optimiser = torch.optim.Adam([shift], lr=SETTINGS.learning_rate)
        positives, negatives = table[rows], table[drawn]
        for _ in range(SETTINGS.steps):
            optimiser.zero_grad()
            users = states + shift
            positive = (users * positives).sum(1, keepdim=True)
            scores = torch.cat((positive, users @ negatives.T), 1)
            loss = functional.cross_entropy(scores, first)
            loss = loss + 0.5 * SETTINGS.decay * shift.square().sum()
            loss.backward()
            optimiser.step()
        return shift.detach().numpy()

    return run


def fleet_round(devices: int) -> Callable[[], object]:
    """A round of many devices at once, with 64 clicks each."""
    random = np.random.default_rng(0)
    items = random.integers(1, ITEMS + 1, devices * 64).astype(np.int32)
    offsets = np.arange(0, devices * 64 + 1, 64, dtype=np.int64)
    torch.manual_seed(0)
    table, states = torch.randn(ITEMS + 1, 64) * 0.3, torch.randn(devices * 64, 64)
    events = Events(items, offsets, states, table, seen_left_out=False)
    return lambda: learn_shifts(events, offsets[1:] - 1, PatchSettings())
