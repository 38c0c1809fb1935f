"""`cloud-service evaluate`: data sets x models x seeds, on this machine."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final, Literal

import typer
from rich.table import Table

from cloud_service.commands.output import err, out
from cloud_service.commands.recipe import with_training_options
from cloud_service.recommender.data.named_sets import NAMES
from cloud_service.recommender.recipe import Repeats, Seen, Ties
from experiments.comparison.comparison_recipe import (
    NETWORKS,
    ComparisonRecipe,
    nearest,
    parse,
    read,
    read_toml,
)
from experiments.comparison.names import is_path
from experiments.comparison.plan import Cell, cells
from shared.errors import InvalidRequest

if TYPE_CHECKING:
    from experiments.comparison.datasets import DataFacts

EVALUATE_EXAMPLES: Final = (
    "Example: cloud-service evaluate recipes/quick.toml --workers 2\n\n"
    "Example: cloud-service evaluate recipes/correction.toml --data clicks.csv.gz --seeds 1\n\n"
    "Example: cloud-service evaluate recipes/learning.toml --data clicks.csv.gz --seeds 1\n\n"
    "Example: cloud-service evaluate --data clicks.csv.gz --models scn,scn+gcn --seeds 3 "
    "--epochs 20\n\n"
    "Example: cloud-service evaluate --data synthetic --models scn,scn+gcn "
    "--grid learning_rate=0.002,0.004"
)
PREQUENTIAL: Final = "prequential"
"""The protocol of a recipe that measures learning on devices."""
TABLES_EXAMPLE: Final = "Example: cloud-service tables evaluation --reference scn"


def add_evaluate(app: typer.Typer) -> None:
    """Adds `evaluate` to the commands of `cloud-service`."""
    app.command(epilog=EVALUATE_EXAMPLES)(with_training_options(evaluate))


def add_tables(app: typer.Typer) -> None:
    """Adds `tables` to the commands of `cloud-service`."""
    app.command(epilog=TABLES_EXAMPLE)(tables)


Selected = tuple[set[str], set[str]]
"""Names of data sets, and of models."""


def evaluate(
    training: dict[str, Any],
    recipe: Annotated[
        Path | None, typer.Argument(help="A recipe (TOML); else say --data and --models.")
    ] = None,
    data: Annotated[
        list[str] | None,
        typer.Option(help="A named set or a click log; give it again for more. With a recipe: "
                     "only these of its data sets, or its models on your log in their place."),
    ] = None,
    models: Annotated[
        str | None,
        typer.Option(help="Networks, commas between. With a recipe: only these of its models."),
    ] = None,
    seeds: Annotated[int | None, typer.Option(help="How many seeds. (default: 1)")] = None,
    grid: Annotated[
        list[str] | None,
        typer.Option(help="OPTION=VALUE,VALUE: searched with the first seed, the best on the "
                     "validation click taken for all; give it again for more options."),
    ] = None,
    out_folder: Annotated[
        Path, typer.Option("--out", help="Runs and results; given again, it goes on from there.")
    ] = Path("evaluation"),
    workers: Annotated[
        int | None, typer.Option(min=1, help="Runs at a time. (default: one a GPU, else a core)")
    ] = None,
    device: Annotated[Literal["auto", "cpu", "cuda"], typer.Option()] = "auto",
    data_folder: Annotated[
        Path,
        typer.Option(envvar="CLOUD_DATA_FOLDER", help="Where the named sets lie: fetched ones, or "
                     "copies of them."),
    ] = Path("store/data"),
    columns: Annotated[
        str | None,
        typer.Option(help="user=NAME,item=NAME,time=NAME: the log's columns, where they are not "
                     "user_id, item_id and timestamp."),
    ] = None,
    ties: Annotated[
        Ties | None,
        typer.Option(help="Order of one user's clicks that share a time: one that nothing can be "
                     "learned from, or the file's. (default: shuffled)"),
    ] = None,
    repeats: Annotated[
        Repeats | None,
        typer.Option(help="Whether rows with the same user, item and time count once, or each. "
                     "(default: once)"),
    ] = None,
    max_user_clicks: Annotated[
        int | None,
        typer.Option(min=3, help="Of each user only so many clicks, the newest. (default: all)"),
    ] = None,
    min_item: Annotated[int | None, typer.Option(help="Clicks an item needs. (default: 1)")] = None,
    min_user: Annotated[int | None, typer.Option(help="Clicks a user needs. (default: 3)")] = None,
    iterate_filters: Annotated[
        bool | None, typer.Option(help="Repeat both filters until nothing goes.")
    ] = None,
    seen: Annotated[
        Seen | None,
        typer.Option(help="Whether items clicked before are ranked. (default: auto, which leaves "
                     "them out where nobody clicks twice)"),
    ] = None,
) -> None:  # fmt: skip
    """Trains and tests models on data sets over seeds, and goes on where it was cut off.

    Leaves OUT/results.csv (dataset, model, seed, protocol, metric, value), OUT/runs.csv and every
    user's ranks. Exit code 1 where a run diverged or failed. Training options win over a recipe's.
    """
    filters = {
        "columns": columns,
        "ties": ties,
        "repeats": repeats,
        "max_user_clicks": max_user_clicks,
        "min_item": min_item,
        "min_user": min_user,
        "iterate_filters": iterate_filters,
        "seen": seen,
    }
    overrides = {name: value for name, value in filters.items() if value is not None}
    if recipe is None:
        recipe_chosen = _from_options(data, models, overrides)
        selected = _selected(recipe_chosen, Path(), None, None, {})
    elif read_toml(recipe).get("protocol") == PREQUENTIAL:
        is_done = _evaluate_learning(
            recipe, data, training, overrides, seeds, out_folder, data_folder, workers or 1, device
        )
        raise typer.Exit(0 if is_done else 1)
    else:
        recipe_chosen = read(recipe)
        other_sets = {*NAMES} - {dataset.name for dataset in recipe_chosen.datasets}
        own_logs = [entry for entry in data or () if is_path(entry) or entry in other_sets]
        if own_logs:
            if len(own_logs) < len(data or ()):
                raise InvalidRequest("--data: name sets of the recipe, or your own logs, not both")
            logs = _from_options(own_logs, NETWORKS[0], overrides).datasets
            recipe_chosen, data, overrides = (
                recipe_chosen.model_copy(update={"datasets": logs}),
                None,
                {},
            )
        selected = _selected(recipe_chosen, recipe, data, models, overrides)
    recipe_chosen = _changed(recipe_chosen, seeds, grid)
    planned = cells(recipe_chosen, training)
    if not _run(recipe_chosen, planned, selected, out_folder, workers, device, data_folder):
        raise typer.Exit(1)


def _evaluate_learning(
    path: Path,
    data: list[str] | None,
    training: dict[str, Any],
    treatment: dict[str, Any],
    seeds: int | None,
    out_folder: Path,
    data_folder: Path,
    workers: int,
    device: str,
) -> bool:
    from experiments.learning.command import evaluate_learning
    from experiments.learning.recipe import parse_learning

    if treatment and not data:
        option = next(iter(treatment)).replace("_", "-")
        raise InvalidRequest(
            f"--{option} belongs to a data set: set it in {path}, or name your own log by --data"
        )
    return evaluate_learning(
        parse_learning(read_toml(path), str(path), path.parent),
        data=data,
        overrides=training,
        treatment=treatment,
        seeds=seeds,
        out_folder=out_folder,
        data_folder=data_folder,
        workers=workers,
        device="cpu" if device == "auto" else device,
    )


def tables(
    folder: Annotated[Path, typer.Argument(help="The --out folder of an evaluation.")],
    reference: Annotated[
        str | None,
        typer.Option(help="Row to compare the others with. (default: the recipe's, or scn)"),
    ] = None,
    plots: Annotated[bool, typer.Option(help="Draw the plots too (needs matplotlib).")] = True,
) -> None:
    """Makes tables and plots of an evaluation, also of one that is not complete yet.

    In FOLDER/tables, Markdown and CSV: each data set's figures, its comparison with the reference
    row (95% bootstrap interval, paired t-test, Holm's correction), and a summary; what to doubt
    stands first. In FOLDER/plots, PNG and SVG.
    """
    from experiments.comparison.results_reader import EvaluationResults
    from experiments.comparison.tables import write_tables

    results = EvaluationResults.read(folder)
    written = write_tables(results, results.reference(reference))
    if plots:
        from experiments.comparison.plots import write_plots

        written += write_plots(results)
    for path in written:
        out.print(str(path), soft_wrap=True, highlight=False)


def _from_options(
    data: list[str] | None, models: str | None, filters: dict[str, Any]
) -> ComparisonRecipe:
    if not data or not models:
        raise InvalidRequest(
            "name a recipe, or --data and --models: cloud-service evaluate --data clicks.csv.gz "
            "--models scn,scn+gcn"
        )
    datasets = [{"data": entry} | filters for entry in data]
    rows = [{"network": name.strip()} for name in models.split(",") if name.strip()]
    return parse({"datasets": datasets, "models": rows}, "options")


def _selected(
    recipe: ComparisonRecipe,
    path: Path,
    data: list[str] | None,
    models: str | None,
    filters: dict[str, Any],
) -> Selected:
    """The data sets and the models of a recipe that are asked for, or all. InvalidRequest."""
    if filters:
        option = next(iter(filters)).replace("_", "-")
        raise InvalidRequest(
            f"--{option} belongs to a data set: set it in {path}, or name your own log by --data"
        )
    names = [name.strip() for name in models.split(",")] if models else None
    chosen = []
    for noun, recipe_chosen, rows in (
        ("data set", data, recipe.datasets),
        ("model", names, recipe.models),
    ):
        known_names = [row.name for row in rows]
        for name in recipe_chosen or ():
            if name not in known_names:
                raise InvalidRequest(f"{path}: no {noun} {name}: {nearest(name, known_names)}")
        chosen.append(set(recipe_chosen or known_names))
    return chosen[0], chosen[1]


def _changed(
    recipe: ComparisonRecipe, seeds: int | None, grid: list[str] | None
) -> ComparisonRecipe:
    """With the seeds and the grid of the options."""
    if seeds is not None:
        if seeds < 1:
            raise InvalidRequest("--seeds must be at least 1")
        recipe = recipe.model_copy(update={"seeds": tuple(range(seeds))})
    if grid:
        plain = {"models": [{"network": NETWORKS[0]}], "datasets": [{"data": "synthetic"}]}
        figures = parse(plain | {"grid": dict(map(_axis, grid))}, "--grid")
        if any(level.grid is not None for level in (*recipe.datasets, *recipe.models)):
            raise InvalidRequest("--grid: the recipe has grids of its own: change them there")
        recipe = recipe.model_copy(update={"grid": figures.grid})
    return recipe


def _axis(text: str) -> tuple[str, list[Any]]:
    name, _, values = text.partition("=")
    return name.strip().replace("-", "_"), [_value(v.strip()) for v in values.split(",") if v]


def _value(text: str) -> Any:
    for number_type in (int, float):
        try:
            return number_type(text)
        except ValueError:
            continue
    return text


def _run(
    recipe: ComparisonRecipe,
    planned: tuple[Cell, ...],
    selected: Selected,
    folder: Path,
    workers: int | None,
    device: Literal["auto", "cpu", "cuda"],
    data_folder: Path,
) -> bool:
    """Whether all went well."""
    from experiments.comparison.datasets import open_data
    from experiments.comparison.runs_bar import runs_bar
    from experiments.comparison.scheduler import Evaluation
    from experiments.comparison.workers import default_workers

    device_name = "cpu"
    if device != "cpu":
        from cloud_service.publishing.pipeline import choose_device

        device_name = choose_device(device).type
    datasets, models = selected
    facts = open_data(recipe, data_folder, datasets)
    evaluation = Evaluation(
        recipe,
        planned,
        facts,
        folder,
        data_folder,
        selected=lambda cell: cell.dataset.name in datasets and cell.model.name in models,
    )
    count = workers or default_workers(device_name, evaluation.total)
    try:
        with runs_bar(evaluation, facts, min(count, evaluation.total)) as bar:
            for event in evaluation.run(count, device=device_name):
                bar.show(event)
    except KeyboardInterrupt:
        err.print("stopped: the same command goes on from here")
        raise typer.Exit(130) from None
    out.print(_summary(recipe, evaluation, facts))
    out.print(str(folder / "results.csv"), soft_wrap=True, highlight=False)
    problems = evaluation.problems()
    for problem in problems:
        err.print(problem, markup=False, highlight=False, soft_wrap=True)
    return not problems


def _summary(recipe: ComparisonRecipe, evaluation: Any, facts: "list[DataFacts]") -> Table:
    from experiments.comparison.results import read_results

    caption = "NDCG@10, all items"
    cautions = sum(len(entry.cautions) for entry in facts)
    if cautions:
        noun = "caution" if cautions == 1 else "cautions"
        caption += f"; what to doubt: {cautions} {noun} above"
    table = Table("model", *(entry.name for entry in recipe.datasets), caption=caption)
    figures = read_results(evaluation.out)
    for model in recipe.row_names():
        cells = [
            figures.get((entry.name, model, "all", "ndcg@10"), {}) for entry in recipe.datasets
        ]
        shown = [f"{sum(values.values()) / len(values):.4f}" if values else "-" for values in cells]
        table.add_row(model, *shown)
    chance = {entry.name: f"{entry.random_ndcg:.4f}" for entry in facts}
    table.add_row("(a random ranking)", *(chance.get(entry.name, "-") for entry in recipe.datasets))
    return table
