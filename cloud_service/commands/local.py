"""`cloud-service train` and `fetch`, which run on this machine without a server."""

import shutil
import uuid
from pathlib import Path
from typing import Annotated, Literal

import typer

from cloud_service.commands.output import download_bar, err, out, training_bar
from cloud_service.commands.recipe import PromoteOption
from cloud_service.recommender.data.named_sets import NAMED_SETS
from cloud_service.recommender.recipe import TrainingRecipe

Folder = Annotated[Path, typer.Option(help="Folder of model versions.")]


def train(
    recipe: TrainingRecipe,
    store: Folder = Path("store"),
    work: Annotated[
        Path | None,
        typer.Option(help="Folder of checkpoints: given again, training goes on from there."),
    ] = None,
    data_folder: Annotated[
        Path | None,
        typer.Option(envvar="CLOUD_DATA_FOLDER", help="Where the named sets lie; else STORE/data."),
    ] = None,
    device: Annotated[Literal["auto", "cpu", "cuda"], typer.Option()] = "auto",
    promote: PromoteOption = "better",
) -> None:
    """Trains here and now, and publishes the result. `--data` takes a named set or a path."""
    from cloud_service.publishing import promotion
    from cloud_service.publishing.judge import judged
    from cloud_service.publishing.pipeline import train_and_publish
    from cloud_service.services.job_files import job_folder
    from cloud_service.storage.store import Store

    target = Store(store)
    folder = work or job_folder(store, str(uuid.uuid4()))
    folder.mkdir(parents=True, exist_ok=True)
    err.print(f"checkpoints: {folder} (--work to go on from there)", highlight=False)
    with training_bar() as bar:
        version = train_and_publish(
            recipe,
            store=target,
            work=folder,
            data_folder=data_folder or store / "data",
            device=device,
            report=bar.show,
            log=bar.say,
        )
    outcome = promotion.promote(
        target,
        version,
        promote,
        lambda new, current: judged(recipe, target, data_folder or store / "data", new, current),
    )
    if work is None:
        shutil.rmtree(folder, ignore_errors=True)
    out.print(outcome, markup=False, highlight=False, soft_wrap=True)


def fetch(
    name: Annotated[str, typer.Argument(help=f"{', '.join(NAMED_SETS)}.")],
    folder: Annotated[
        Path,
        typer.Option(
            "--folder", "--data-folder", envvar="CLOUD_DATA_FOLDER", help="Where it goes."
        ),
    ] = Path("store/data"),
    published: Annotated[
        Path | None,
        typer.Option("--from", help="The publisher's file, downloaded by hand (yelp needs it)."),
    ] = None,
) -> None:
    """Downloads a named data set from its publisher, checks it and converts it."""
    from cloud_service.recommender.data import catalog

    with download_bar(name) as bar:
        task = bar.add_task(name, total=None)
        path = catalog.fetch(
            name,
            folder,
            progress=lambda done, total: bar.update(task, completed=done, total=total or None),
            published=published,
            warn=lambda text: err.print(text, markup=False, highlight=False, soft_wrap=True),
        )
    out.print(str(path), soft_wrap=True)
