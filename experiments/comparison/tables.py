"""Tables of an evaluation, as Markdown and CSV: each data set alone, and a summary of all."""

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, Final

from cloud_service.recommender.ranking.metrics import ALL, NEGATIVES, SAMPLED
from cloud_service.recommender.ranking.significance import RESAMPLES, Comparison
from experiments.comparison.comparison_recipe import LOCAL
from experiments.comparison.datasets import DataFacts
from experiments.comparison.doubts import doubts_page
from experiments.comparison.files import write_csv
from experiments.comparison.markdown import markdown
from experiments.comparison.model_selection import select_model
from experiments.comparison.results_reader import METRICS, EvaluationResults, Figure
from shared.whole_file import write_whole

FOLDER: Final = "tables"
SHOWN: Final = {ALL: "ranked among all items", SAMPLED: f"ranked among {NEGATIVES} negatives"}
_FIGURES: Final = ("model", "protocol", "metric", "mean", "std", "seeds", "best", "missing")
_COMPARED: Final = (
    "model",
    "reference",
    "protocol",
    "metric",
    "value",
    "reference_value",
    "difference",
    "relative",
    "low",
    "high",
    "p",
    "holm",
    "users",
)
_PAIRED: Final = (
    "Differences are paired by user, each user's figure averaged over seeds. Interval: 95% of the "
    f"means of {RESAMPLES:,} bootstrap samples of the users. p: paired t-test, two-sided; Holm: "
    "that p corrected for all models compared in its metric. In bold where the interval leaves 0 "
    "out and the corrected p is below 0.05: the rest is not told from chance."
)
_CAPPED: Final = (
    "(cap): epochs or minutes ended a training while validation still improved. Such a network is "
    "under-trained, and what is measured against it looks better than it is: give it more."
)
_HEADLINES: Final = {ALL: ("ndcg@10", "hitrate@10"), SAMPLED: ("uauc", "ndcg@10", "hitrate@10")}


def write_tables(results: EvaluationResults, reference: str) -> list[Path]:
    """Writes all tables into FOLDER/tables and gives their paths. Raises InvalidRequest."""
    folder = results.folder / FOLDER
    folder.mkdir(exist_ok=True)
    written = []
    for facts in results.about.datasets:
        name = facts.name
        compared = {entry: results.comparisons(name, reference, entry) for entry in METRICS}
        page, figures = folder / f"{name}.md", folder / f"{name}.csv"
        comparison = folder / f"{name}-comparison.csv"
        write_whole(page, _dataset_page(results, facts, reference, compared).encode())
        _write_figures(figures, results, name)
        _write_comparisons(comparison, reference, compared)
        written += [page, figures, comparison]
    summary = folder / "summary.md"
    write_whole(summary, _summary_page(results).encode())
    return [summary, *written]


def metric_name(metric: str) -> str:
    """ "ndcg@10" as it is printed."""
    return metric.replace("ndcg", "NDCG").replace("hitrate", "HitRate").replace("uauc", "UAUC")


def shown(figure: Figure | None, best: float, missing: str) -> str:
    """A figure in a table: bold where it is the best, a word where there is none."""
    if figure is None:
        # Every run is done, and still there is no figure: nobody has 100 items he has not clicked.
        return missing or "too few items"
    text = f"{figure.mean:.4f}"
    if figure.spread is not None:
        text += f" ±{figure.spread:.4f}"
    return f"**{text}**" if figure.mean == best else text


def _dataset_page(
    results: EvaluationResults,
    facts: DataFacts,
    reference: str,
    compared: dict[str, dict[tuple[str, str], Comparison]],
) -> str:
    sections = [f"# {facts.name}", _described(facts), *doubts_page(results, [facts])]
    sections.append(
        "Test clicks. Mean over seeds ± their standard deviation; the best in bold. A model's "
        f"`{LOCAL}` row is the same network with every correction lost."
    )
    for protocol, metrics in METRICS.items():
        sections += [
            f"## {SHOWN[protocol].capitalize()}",
            _figures(results, facts.name, protocol, metrics),
        ]
    sections += [f"## Against {reference}", _comparison_words(reference)]
    sections += [_comparisons(compared), "## Training", _training(results, facts.name)]
    return "\n\n".join(sections) + "\n"


def _described(facts: DataFacts) -> str:
    origin = "Generated, nobody clicked: " if facts.synthetic else ""
    return (
        f"{origin}{facts.users:,} users, {facts.items:,} items, {facts.clicks:,} clicks. "
        f"Preprocessing: {facts.preprocessing}. Split: {facts.split}."
    )


def _figures(
    results: EvaluationResults, dataset: str, protocol: str, metrics: Sequence[str]
) -> str:
    best = {metric: results.best(dataset, protocol, metric) for metric in metrics}
    rows = []
    for row in results.about.models:
        missing = results.missing(dataset, row)
        figures = {metric: results.figure(dataset, row, protocol, metric) for metric in metrics}
        cells = [shown(figures[metric], best[metric], missing) for metric in metrics]
        count = max((entry.seeds for entry in figures.values() if entry), default=0)
        rows.append([row, *cells, f"{count}" + f" ({missing})" * bool(missing and count)])
    return markdown(["model", *map(metric_name, metrics), "seeds"], rows)


def _comparison_words(reference: str) -> str:
    return f"Difference to {reference}. {_PAIRED} Other metrics are in the CSV beside this page."


def _comparisons(compared: dict[str, dict[tuple[str, str], Comparison]]) -> str:
    rows = []
    for protocol, metrics in _HEADLINES.items():
        for metric in metrics:
            for (row, name), figures in compared[protocol].items():
                if name == metric:
                    rows.append([row, protocol, metric_name(metric), *_compared(figures)])
    if not rows:
        return "There is nothing to compare."
    columns = ["model", "protocol", "metric", "value", "difference", "relative", "95%", "p", "Holm"]
    return markdown(columns, rows)


def _compared(figures: Comparison) -> list[str]:
    relative = "" if figures.relative is None else f"{figures.relative:+.1%}"
    interval = f"{figures.low:+.4f} to {figures.high:+.4f}"
    return [
        f"{figures.value:.4f}",
        f"{figures.difference:+.4f}",
        relative,
        f"**{interval}**" if figures.certain else interval,
        _small(figures.p),
        _small(figures.holm),
    ]


def _small(p: float) -> str:
    return "<0.0001" if p < 1e-4 else f"{p:.4f}"


def _training(results: EvaluationResults, dataset: str) -> str:
    rows = []
    for model in (row for row in results.about.models if not row.endswith(LOCAL)):
        searched = results.runs_of(dataset, model)
        runs = results.chosen(dataset, model)
        if not searched:
            rows.append([model, "", "not run", "", "", "", "", ""])
            continue
        first_run = runs[0] if runs else {}
        rows.append(
            [
                model,
                searched[0]["points"],
                first_run.get("point") or ("" if runs else results.missing(dataset, model)),
                _mean(runs, "validation_ndcg@10", ".4f"),
                _mean(runs, "epochs", ".1f") + " (cap)" * any(run.get("limit") for run in runs),
                _mean(runs, "seconds", ".0f"),
                f"{int(first_run['parameters']):,}" if first_run.get("parameters") else "",
                first_run.get("loss", "").replace("_", " "),
            ]
        )
    columns = ["model", "points searched", "chosen", "validation NDCG@10", "epochs", "seconds"]
    table = markdown([*columns, "parameters", "loss"], rows)
    if any(" (cap)" in row[4] for row in rows):
        table += f"\n\n{_CAPPED}"
    return table


def _mean(runs: Iterable[dict[str, str]], column: str, form: str) -> str:
    figures = [float(run[column]) for run in runs if run[column]]
    return f"{sum(figures) / len(figures):{form}}" if figures else ""


def _summary_page(results: EvaluationResults) -> str:
    names = [entry.name for entry in results.about.datasets]
    sections = [
        "# Summary",
        *doubts_page(results, results.about.datasets),
        *_selected_models(results),
    ]
    sections.append("Mean over seeds ± their standard deviation; the best in bold.")
    chance = {entry.name: f"{entry.random_ndcg:.4f}" for entry in results.about.datasets}
    for protocol, metric in ((ALL, "ndcg@10"), (SAMPLED, "ndcg@10"), (SAMPLED, "uauc")):
        best = {name: results.best(name, protocol, metric) for name in names}
        rows = []
        for row in results.about.models:
            cells = [
                shown(
                    results.figure(name, row, protocol, metric),
                    best[name],
                    results.missing(name, row),
                )
                for name in names
            ]
            rows.append([row, *cells])
        if protocol == ALL:
            rows.append(["(a random ranking)", *(chance[name] for name in names)])
        sections += [
            f"## {metric_name(metric)}, {SHOWN[protocol]}",
            markdown(["model", *names], rows),
        ]
    return "\n\n".join(sections) + "\n"


def _selected_models(results: EvaluationResults) -> list[str]:
    """What validation would serve, on every data set that has something to choose from."""
    rows = []
    for name in (entry.name for entry in results.about.datasets):
        figures = select_model(results, name)
        if figures is not None:
            compared = figures.comparison
            value, *cells = _compared(compared)
            alone, corrected = f"{figures.alone_validation:.4f}", f"{figures.validation:.4f}"
            rows.append(
                [name, figures.model, f"{compared.reference:.4f}", value, *cells, alone, corrected]
            )
    if not rows:
        return []
    columns = ["data set", "model", "alone", "corrected", "difference", "relative", "95%"]
    columns += ["p", "Holm"]
    return [
        "## What is served",
        "NDCG@10, ranked among all items. The device's network is the one whose validation is best "
        "with every correction lost; of the models that correct it, the one whose validation is "
        "best. " + _PAIRED,
        markdown([*columns, "validation, alone", "validation, corrected"], rows),
    ]


def _write_figures(path: Path, results: EvaluationResults, dataset: str) -> None:
    rows: list[dict[str, Any]] = []
    for protocol, metrics in METRICS.items():
        for metric in metrics:
            best = results.best(dataset, protocol, metric)
            for row in results.about.models:
                figures = results.figure(dataset, row, protocol, metric)
                rows.append(
                    {
                        "model": row,
                        "protocol": protocol,
                        "metric": metric,
                        "mean": figures and repr(figures.mean),
                        "std": figures and figures.spread,
                        "seeds": figures.seeds if figures else 0,
                        "best": "yes" if figures and figures.mean == best else "no",
                        "missing": results.missing(dataset, row),
                    }
                )
    write_csv(path, _FIGURES, rows)


def _write_comparisons(
    path: Path, reference: str, compared: dict[str, dict[tuple[str, str], Comparison]]
) -> None:
    rows = [
        {
            "model": row,
            "reference": reference,
            "protocol": protocol,
            "metric": metric,
            "value": figures.value,
            "reference_value": figures.reference,
            "difference": figures.difference,
            "relative": figures.relative,
            "low": figures.low,
            "high": figures.high,
            "p": figures.p,
            "holm": figures.holm,
            "users": figures.users,
        }
        for protocol, entry in compared.items()
        for (row, metric), figures in entry.items()
    ]
    write_csv(path, _COMPARED, rows)
