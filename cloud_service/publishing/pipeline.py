"""Runs a recipe to a published model version: data, training, test, export, publication."""

import platform
from collections.abc import Callable
from pathlib import Path

import torch

from cloud_service.publishing.pool import publish_pool
from cloud_service.publishing.publish import publish
from cloud_service.recommender.data.clicks import ClickLog, Split, split
from cloud_service.recommender.data.treatment import Treatment
from cloud_service.recommender.learning.fit import fit_learning
from cloud_service.recommender.models.baselines.popularity import Popularity
from cloud_service.recommender.models.cocorrrec import SCNAndGCN
from cloud_service.recommender.progress import Progress
from cloud_service.recommender.ranking.evaluate import held_out
from cloud_service.recommender.recipe import TrainingRecipe
from cloud_service.recommender.training.fit import fit
from cloud_service.recommender.training.sample import sampled
from cloud_service.recommender.training.trainer import Report
from cloud_service.storage.port import VersionStore
from shared.errors import DataError
from shared.whole_file import write_whole

PUBLISHED = "published.txt"


def train_and_publish(
    recipe: TrainingRecipe,
    *,
    store: VersionStore,
    work: Path,
    data_folder: Path,
    device: str = "auto",
    report: Report = lambda progress: None,
    log: Callable[[str], None] = lambda line: None,
) -> str:
    """Runs a recipe to the end and gives the version it published.

    All state is in `work`: called again with the same recipe, it resumes a run that was cut off,
    and gives the same version if the run was complete. `report` may raise to stop it.

    Raises DataError for data that cannot be used, TrainingDiverged.
    """
    if recipe.network.kind != "scn+gcn":
        raise DataError(
            f"a device runs scn+gcn: {recipe.network.kind} is there for comparison, and is not "
            "published. Train scn+gcn, or compare with `cloud-service evaluate`"
        )
    learns = recipe.samples.learning == "on"
    if learns and recipe.network.model.gcn != "projected":
        raise DataError(
            f"devices learn beside a projected GCN only, not {recipe.network.model.gcn}: use "
            "--gcn projected or --learning off"
        )
    report(Progress(phase="data", epochs=recipe.optimisation.epochs))
    dataset = read_data(recipe, data_folder)
    log(_describe(dataset.log))
    for caution in dataset.cautions:
        log(f"doubtful: {caution}")
    target = choose_device(device)
    log(f"training on {target} with PyTorch {torch.__version__}, {platform.machine()}")

    def report_and_log(progress: Progress) -> None:
        report(progress)
        if not progress.step and progress.loss is not None:
            log(
                f"epoch {progress.epoch}: loss {progress.loss:.4f}, "
                f"validation NDCG@10 {progress.ndcg:.4f}"
            )

    done = work / PUBLISHED
    if done.exists():
        version = done.read_text("ascii").strip()
        store.manifest(version)
        log(f"this run is complete: it published version {version}")
        return version
    fitted = fit(dataset, recipe, work, device=target, report=report_and_log, log=log)
    report(fitted.at("testing"))
    metrics = test(fitted.model, dataset, recipe.optimisation.seed)
    log(
        "test NDCG@10, all items: "
        f"corrected {metrics['corrected/all/ndcg@10']:.4f}, "
        f"local {metrics['local/all/ndcg@10']:.4f}, "
        f"popularity {metrics['popularity/all/ndcg@10']:.4f}"
    )
    exporting = fitted.at("exporting")
    report(exporting)
    model = fitted.model.cpu()
    learning = None
    if learns:
        learning = fit_learning(model, dataset, seed=recipe.optimisation.seed, log=log)
        report(exporting)
    version = publish(
        store,
        model,
        dataset,
        metrics,
        # The time of the weights, not the current time: a resumed run must give the same version.
        created=fitted.created,
        training=fitted.training,
        learning=learning,
        tick=lambda: report(exporting),
    )
    publish_pool(store, version, model.scn, dataset, recipe.samples, recipe.optimisation.seed, log)
    write_whole(done, f"{version}\n")
    fitted.clear()
    log(f"published version {version}")
    report(fitted.at("done"))
    return version


def read_data(recipe: TrainingRecipe, data_folder: Path) -> Split:
    """The recipe's click log, filtered and split. Raises DataError."""
    data, seed = recipe.data, recipe.optimisation.seed
    items = Path(data.items) if data.items else None
    log = Treatment.of(data).load(data.data, data_folder, items)
    if data.max_clicks is not None:
        log = sampled(log, data.max_clicks, seed)
    return split(log, holdout_users=data.holdout_users, seed=seed, seen=data.seen)


def test(model: SCNAndGCN, dataset: Split, seed: int) -> dict[str, float]:
    """All metrics on the test clicks: `corrected/`, `local/` and `popularity/`."""
    popular = Popularity(dataset.train_counts())
    metrics: dict[str, float] = {}
    for name, network in (("corrected", model), ("local", model.scn), ("popularity", popular)):
        figures = held_out(network, dataset, dataset.test_positions, seed=seed).metrics()
        metrics |= {f"{name}/{key}": value for key, value in figures.items()}
    return metrics


def choose_device(name: str) -> torch.device:
    """`cpu`, `cuda`, or with `auto` the GPU where there is one. Raises DataError."""
    available = torch.cuda.is_available()
    if name not in ("auto", "cpu", "cuda"):
        raise DataError(f"the device is auto, cpu or cuda, got {name!r}")
    if name == "cuda" and not available:
        raise DataError("PyTorch sees no GPU here: use --device cpu, or install a GPU build")
    return torch.device("cuda" if available and name != "cpu" else "cpu")


def _describe(log: ClickLog) -> str:
    origin = "synthetic (nobody clicked)" if log.synthetic else "real clicks"
    return (
        f"{log.name}: {origin}, {log.user_count:,} users, {log.item_count:,} items, "
        f"{log.click_count:,} clicks; {log.preprocessing}"
    )
