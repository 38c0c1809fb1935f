"""`cloud-service evaluate` with a recipe whose protocol is `prequential`."""

from collections.abc import Mapping
from concurrent.futures import ProcessPoolExecutor, as_completed
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import torch

from cloud_service.commands.output import err, out
from experiments.comparison.names import is_path
from experiments.learning.recipe import LearningDataSet, LearningRecipe
from experiments.learning.results import read_rows, write_page, write_results
from experiments.learning.run import Job, perform
from shared.errors import InvalidRequest, RecommendationError


def evaluate_learning(
    recipe: LearningRecipe,
    *,
    data: list[str] | None,
    overrides: Mapping[str, Any],
    treatment: Mapping[str, Any],
    seeds: int | None,
    out_folder: Path,
    data_folder: Path,
    workers: int,
    device: str,
) -> bool:
    """Runs what is not done, and writes results.csv and summary.md; whether all went well.

    `data` names data sets of the recipe, or logs in their place, which `treatment` describes.
    """
    chosen = _datasets(recipe, data, treatment)
    numbers = recipe.seeds if seeds is None else tuple(range(seeds))
    jobs = [
        Job(
            dataset,
            recipe.bundle_recipe(dataset, seed, overrides),
            recipe.rows,
            out_folder / "devices" / f"{dataset.name}-seed{seed}",
            data_folder,
            device,
        )
        for dataset in chosen
        for seed in numbers
    ]
    failed = _run(jobs, min(workers, len(jobs)))
    folders = {
        dataset.name: [job.folder for job in jobs if job.dataset.name == dataset.name]
        for dataset in chosen
    }
    read = read_rows(folders, recipe.rows)
    results = write_results(out_folder, read)
    page = write_page(out_folder, read, folders)
    out.print(page.read_text("utf-8"), markup=False, highlight=False, soft_wrap=True)
    out.print(f"{results}\n{page}", soft_wrap=True, highlight=False)
    return not failed


def _datasets(
    recipe: LearningRecipe, data: list[str] | None, treatment: Mapping[str, Any]
) -> tuple[LearningDataSet, ...]:
    known = {dataset.name: dataset for dataset in recipe.datasets}
    if not data:
        return recipe.datasets
    if all(name in known for name in data):
        return tuple(known[name] for name in data)
    if any(name in known for name in data):
        raise InvalidRequest("--data: name sets of the recipe, or your own logs, not both")
    own = [{"data": entry} | dict(treatment) for entry in data]
    names = [Path(entry).name.split(".")[0] if is_path(entry) else entry for entry in data]
    return tuple(
        LearningDataSet.model_validate({"name": name} | entry)
        for name, entry in zip(names, own, strict=True)
    )


def _run(jobs: list[Job], workers: int) -> bool:
    """Runs all jobs; whether one failed."""
    failed = False
    with ProcessPoolExecutor(workers, mp_context=get_context("spawn")) as pool:
        pending = {pool.submit(_perform, job): job for job in jobs}
        for done, future in enumerate(as_completed(pending), 1):
            job = pending[future]
            try:
                future.result()
                err.print(f"{done}/{len(jobs)} {job.folder.name}: done", highlight=False)
            except RecommendationError as error:
                failed = True
                err.print(f"{job.folder.name}: {error.detail}", markup=False, highlight=False)
    return failed


def _perform(job: Job) -> None:
    torch.set_num_threads(1)
    name = job.folder.name
    perform(job, lambda line: err.print(f"{name}: {line}", markup=False, highlight=False))
