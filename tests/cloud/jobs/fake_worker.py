"""A worker process whose training only counts, with checkpoints and progress like a real one.

It takes a second. The recipe's seed says how it ends: 0 success, 1 invalid data, 2 an unexpected
error, 3 success, but the first worker dies after it has published and before it reports that,
4 success with a model that ranks worse than any other, 5 success after at most 3 epochs.
"""

import os
import signal
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

from cloud_service.bootstrap import log_to_stderr
from cloud_service.publishing.promotion import Verdict
from cloud_service.recommender.progress import Progress
from cloud_service.recommender.recipe import TrainingRecipe
from cloud_service.settings import load_settings
from cloud_service.storage.port import StoreFile
from cloud_service.storage.store import Store
from cloud_service.worker import run_worker
from shared.errors import DataError
from shared.manifest import FileEntry, Manifest, TrainingData, TrainingEnd

TICK = 0.1


def train(
    recipe: TrainingRecipe,
    *,
    store: Store,
    work: Path,
    data_folder: Path,
    device: str,
    report: Callable[[Progress], None],
    log: Callable[[str], None],
) -> str:
    count, draft = work / "count", work / ".count"
    start = int(count.read_text()) if count.exists() else 0
    seed = recipe.optimisation.seed
    for tick in range(start, recipe.optimisation.epochs):
        log(f"tick {tick} in {os.getpid()}")
        draft.write_text(str(tick + 1))
        draft.replace(count)  # killed at any moment, the count is the old or the new one
        report(Progress(phase="training", epoch=tick, epochs=recipe.optimisation.epochs))
        time.sleep(TICK)
    if seed == 1:
        raise DataError(f"{recipe.data.data}: no item was clicked twice")
    if seed == 2:
        raise RuntimeError(f"token {os.environ['CLOUD_ADMIN_TOKEN']} is in here")

    def describe(entries: tuple[FileEntry, ...]) -> Manifest:
        data = TrainingData(
            name=recipe.data.data, users=1, items=1, clicks=1, synthetic=True, preprocessing="none"
        )
        return Manifest(
            model=recipe.network.model, items=1, opset=18, data=data, metrics={"seed": seed},
            training=TrainingEnd(epochs=3, best_epoch=3, limit="3 epochs" * (seed == 5)),
            created=datetime(2026, 1, 1, tzinfo=UTC), files=entries,
        )  # fmt: skip

    version = store.publish({"a.bin": StoreFile(b"x", "device")}, describe)
    if seed == 3 and not (died := work / "died").exists():
        died.touch()
        os.kill(os.getpid(), signal.SIGKILL)
    return version


def judge(
    recipe: TrainingRecipe, store: Store, data_folder: Path, version: str, current: str
) -> Verdict:
    seed = recipe.optimisation.seed
    return Verdict(seed != 4, f"it is{' not' * (seed == 4)} as good as {current}")


if __name__ == "__main__":
    settings = load_settings()
    log_to_stderr(settings)
    run_worker(settings, train, judge)
