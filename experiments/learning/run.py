"""One run of an evaluation of learning: a bundle of one log and seed, and all its devices."""

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
from numpy.typing import NDArray

from cloud_service.recommender.data.clicks import split
from cloud_service.recommender.data.treatment import Treatment
from cloud_service.recommender.learning.events import events_of
from cloud_service.recommender.models.cocorrrec import ProjectedCoCorrRec
from cloud_service.recommender.recipe import TrainingRecipe, identity
from cloud_service.recommender.training.fit import fit
from experiments.learning.measure import click_ranks, gains
from experiments.learning.recipe import LearningDataSet
from experiments.learning.rows import Devices
from experiments.learning.spans import SHARES, TEST, Spans, cut_spans, of_users
from shared.whole_file import write_whole

ABOUT: Final = "about.json"
NEXT: Final = "next"
"""Clicks ranked from the state before their basket."""
IN: Final = "in"
"""Clicks ranked from the state before themselves, earlier clicks of their basket included."""
Say = Callable[[str], None]


@dataclass(frozen=True)
class Job:
    """A run: where it keeps what, and what decides its figures."""

    dataset: LearningDataSet
    recipe: TrainingRecipe
    rows: tuple[str, ...]
    folder: Path
    data_folder: Path
    device: str = "cpu"

    @property
    def seed(self) -> int:
        """The seed of the bundle and of its devices."""
        return self.recipe.optimisation.seed


def gains_file(folder: Path, row: str, view: str) -> Path:
    """Where the NDCG@10 of every test click of a row lies."""
    return folder / f"{row}-{view}.npy"


def perform(job: Job, say: Say) -> None:
    """Trains the bundle, chooses settings between t1 and t2, and ranks every click after t2.

    Rows that were ranked by an earlier call of the same job are not ranked again.
    """
    job.folder.mkdir(parents=True, exist_ok=True)
    log = Treatment.of(job.dataset).load(job.dataset.data, job.data_folder)
    cut = job.dataset.cut_of(log)
    spans = cut_spans(log, cut, has_times=cut == "time")
    dataset = split(spans.bundle, seed=job.seed, seen=job.dataset.seen)
    identity_now = {
        "recipe": identity(job.recipe), "clicks": log.digest(), "cut": cut,
        "users": job.dataset.users,
    }  # fmt: skip
    about = _about(job.folder, identity_now)
    views = (NEXT, IN) if spans.has_times else (NEXT,)
    missing = [
        row
        for row in job.rows
        if not all(gains_file(job.folder, row, view).is_file() for view in views)
    ]
    if not missing:
        return
    say(f"training the bundle on {len(dataset.train_positions):,} clicks")
    model = fit(
        dataset, job.recipe, job.folder / "bundle", device=torch.device(job.device), log=say
    ).model
    assert isinstance(model, ProjectedCoCorrRec)
    model = model.cpu().eval()
    spans = of_users(spans, job.dataset.users)
    about |= _facts(spans, dataset.cautions)
    events = events_of(model.scn, spans.items, spans.offsets, seen_left_out=dataset.seen_left_out)
    devices = Devices(events, spans, model, job.seed, say)
    clicks = spans.chosen(TEST)
    np.save(job.folder / "users.npy", spans.users[clicks])
    np.save(job.folder / "known.npy", spans.is_known[spans.users[clicks]])
    for row in missing:
        parts = devices.parts(row)
        for view in views:
            ranks = click_ranks(events, spans, clicks, parts, in_basket=view == IN)
            np.save(gains_file(job.folder, row, view), gains(ranks))
        say(f"{row}: ranked {len(clicks):,} clicks")
        about["chosen"] = about.get("chosen", {}) | devices.chosen
        about["adopted"] = about.get("adopted", {}) | devices.adopted
        write_whole(job.folder / ABOUT, json.dumps(about, indent=1))


def _about(folder: Path, identity_now: dict[str, Any]) -> dict[str, Any]:
    """What an earlier call of the same job has written, or a beginning.

    Figures of another job in the same folder are removed.
    """
    path = folder / ABOUT
    if path.is_file():
        about: dict[str, Any] = json.loads(path.read_text("utf-8"))
        if about.get("identity") == json.loads(json.dumps(identity_now)):
            return about
        for old in folder.glob("*.npy"):
            old.unlink()
    return {"identity": identity_now}


def _facts(spans: Spans, cautions: tuple[str, ...]) -> dict[str, Any]:
    """What the figures are of."""
    tests = spans.chosen(TEST)
    users: NDArray[np.int64] = np.unique(spans.users[tests])
    return {
        "clicks": len(tests),
        "users": len(users),
        "known_users": float(spans.is_known[users].mean()) if len(users) else 0.0,
        "items": spans.bundle.item_count,
        "bundle_clicks": spans.bundle.click_count,
        "unknown_items": spans.unknown[TEST],
        "shares": SHARES,
        "has_times": spans.has_times,
        "cautions": list(cautions),
    }
