"""What all tests share: a small model in a store, and the real logs where they are."""

import os

# Several pytest processes share the cores (see the Makefile), and many tests start processes of
# their own: each takes one thread. Read by torch and NumPy when they are first imported.
os.environ.setdefault("OMP_NUM_THREADS", "1")

import sys
from datetime import UTC, datetime
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
REAL_DATA = ROOT.parent / "shared" / "data"
PARITY_FILE = ROOT.parent / "shared" / "parity" / "published_model.npz"

if "torch" in sys.modules or __import__("importlib").util.find_spec("torch"):
    # Shapes in the models' signatures are checked wherever a test calls them.
    from jaxtyping import install_import_hook

    install_import_hook("cloud_service.recommender.models", "beartype.beartype")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Puts the files that take longest first: where several processes share the files, the last
    ones are short. `pytest.mark.slow(30)` says that a file takes about 30 seconds."""
    seconds: dict[Path, float] = {}
    for item in items:
        if "served_store" in getattr(item, "fixturenames", ()):
            item.add_marker(pytest.mark.slow)  # a process is started for it
        marks = [mark.args for mark in item.iter_markers("slow")]
        longest = max((sum(arguments) or 1.0 for arguments in marks), default=0.0)
        seconds[item.path] = max(longest, seconds.get(item.path, 0.0))
    items.sort(key=lambda item: -seconds[item.path])


@pytest.fixture(scope="session")
def real_data() -> Path:
    """The folder of real click logs; the test is skipped where there is none."""
    if not REAL_DATA.is_dir():
        pytest.skip("no real click logs at ../shared/data")
    return REAL_DATA


@pytest.fixture(scope="session")
def parity_file() -> Path:
    """The published model's arrays; the test is skipped where they are not."""
    if not PARITY_FILE.is_file():
        pytest.skip("no parity file at ../shared/parity")
    return PARITY_FILE


@pytest.fixture(scope="session")
def small_split():
    """A synthetic world of 120 users and 90 items, 10% of the users held out."""
    from cloud_service.recommender.data.clicks import split
    from cloud_service.recommender.data.synthetic import synthetic_log

    return split(
        synthetic_log(users=120, items=90, clicks_per_user=15, seed=3), holdout_users=0.1, seed=1
    )


@pytest.fixture(scope="session")
def small_model(small_split):
    """An untrained model of the paper's shape whose correction is not switched off (P = 0)."""
    import torch

    from cloud_service.recommender.models.cocorrrec import CoCorrRec
    from shared.model import PAPER

    torch.manual_seed(7)
    model = CoCorrRec(small_split.log.item_count, PAPER, init_std=0.5)
    with torch.no_grad():
        model.scn.block.fusion_attn.fill_(0.7)
    return model.eval()


@pytest.fixture(scope="session")
def small_store(tmp_path_factory, small_split, small_model):
    """A store with that model in production. Not to be changed by a test."""
    from cloud_service.publishing.publish import publish
    from cloud_service.storage.store import Store

    store = Store(tmp_path_factory.mktemp("store"))
    created = datetime(2026, 1, 2, tzinfo=UTC)
    store.promote(publish(store, small_model, small_split, {"x": 0.5}, created=created))
    return store


@pytest.fixture(scope="session")
def small_bundle(small_store):
    """The folder of that model's bundle."""
    return small_store.version_folder(small_store.production())


@pytest.fixture
def clean_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """No CLOUD_* variable of the outside reaches the test."""
    for name in list(os.environ):
        if name.startswith("CLOUD_"):
            monkeypatch.delenv(name)


@pytest.fixture(scope="session")
def served_store(small_store, tmp_path_factory):
    """The address of a real cloud process that serves the small model."""
    from tests.instruments.processes import listening, running

    log = tmp_path_factory.mktemp("cloud") / "cloud.log"
    command = ["cloud-service", "serve", "--port", "0"]
    settings = {"CLOUD_STORE": str(small_store.folder), "CLOUD_SERVE_REPLAYS": "true"}
    with running(command, log, **settings) as process:
        yield listening(process, log)
