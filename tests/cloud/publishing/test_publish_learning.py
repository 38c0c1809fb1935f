"""A job that is asked to publishes what devices learn, and a device learns from it."""

import numpy as np
import pytest

from cloud_service.publishing.pipeline import train_and_publish
from cloud_service.recommender.recipe import TrainingRecipe
from cloud_service.storage.store import Store
from device_client.bundle import Bundle
from device_client.learning.learner import Learner
from device_client.session import Session
from shared.errors import DataError
from shared.model import ModelSettings

SMALL = ModelSettings(dim=16, heads=2, length=5, segment=5, gcn_dim=16)
CLICKS = 3000


def publish(tmp_path, lines, **options):
    recipe = TrainingRecipe.of(
        data=str(tmp_path / "clicks.csv"), epochs=2, **({"model": SMALL} | options)
    )
    return train_and_publish(
        recipe,
        store=Store(tmp_path / "store"),
        work=tmp_path / "work",
        data_folder=tmp_path,
        device="cpu",
        log=lines.append,
    )


@pytest.fixture(scope="module")
def loyal(tmp_path_factory):
    """A log whose users return to five items of their own: a memory is worth something."""
    folder = tmp_path_factory.mktemp("loyal")
    random = np.random.default_rng(0)
    users = np.repeat(np.arange(60), CLICKS // 60)
    own = random.integers(0, 120, (60, 5))
    items = own[users, random.integers(0, 5, CLICKS)]
    lines = [f"u{u},i{i:03d},{t}" for t, (u, i) in enumerate(zip(users, items, strict=True))]
    (folder / "clicks.csv").write_text("\n".join(["user_id,item_id,timestamp", *lines]) + "\n")
    return folder


def test_a_published_memory_ranks_what_the_user_returns_to(loyal):
    lines = []
    version = publish(loyal, lines, learning="on")
    bundle = Bundle.open(Store(loyal / "store").version_folder(version))
    learning = bundle.manifest.learning
    assert bundle.manifest.format == 6
    assert learning is not None
    assert learning.memory is not None
    assert any(line.startswith("memory: validation NDCG@10") for line in lines)
    session, plain = Session(bundle), Session(bundle)
    learner = Learner(session)
    rows = [int(row) for row in bundle.rows(["i001", "i002", "i003"]) if row]
    for _ in range(4):
        for row in rows:
            session.click_row(row)
            plain.click_row(row)
    everything = np.arange(1, bundle.manifest.items + 1)
    higher = session.score_rows(everything) - plain.score_rows(everything)
    best = set(everything[np.argsort(-higher)[: len(rows)]].tolist())
    assert best == set(rows)
    learner.learn(budget_ms=2000)
    # The same recipe again publishes the same version.
    assert publish(loyal, [], learning="on") == version


def test_a_form_that_devices_cannot_learn_beside_is_refused_before_training(loyal):
    causal = ModelSettings(dim=16, heads=2, length=5, segment=5, gcn="causal")
    with pytest.raises(DataError, match="projected GCN only, not causal"):
        publish(loyal, [], learning="on", model=causal)
