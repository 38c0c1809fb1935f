"""Plots of an evaluation, as PNG and SVG: how models compare, and how they came to it."""

import io
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import numpy as np

from cloud_service.recommender.ranking.significance import bootstrap
from experiments.comparison.comparison_recipe import LOCAL
from experiments.comparison.results_reader import METRICS, EvaluationResults
from experiments.comparison.tables import SHOWN
from shared.whole_file import write_whole

FOLDER: Final = "plots"
_SHOWN_METRIC: Final = "ndcg@10"
_COLOURS: Final = (
    *("#1769b0", "#c2570c", "#1f8a5b", "#8f4bb0", "#b8336a", "#8a6d1a"),
    *("#0e7f91", "#6b747d", "#c81e1e", "#4a55c4", "#5f7d12", "#9c4a3c"),
)
_DASHES: Final = ("-", (0, (5, 1.5)), (0, (1.2, 1.2)))
_STYLE: Final[Any] = {
    "svg.fonttype": "none",
    "font.size": 8.5,
    "font.family": "DejaVu Sans",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.linewidth": 0.7,
    "axes.axisbelow": True,
    "grid.color": "#e4e6e9",
    "grid.linewidth": 0.6,
    "legend.frameon": False,
    "text.parse_math": False,
}


def write_plots(results: EvaluationResults) -> list[Path]:
    """Writes all plots into FOLDER/plots and gives their paths. Raises InvalidRequest."""
    folder = results.folder / FOLDER
    folder.mkdir(exist_ok=True)
    written = []
    for facts in results.about.datasets:
        name = facts.name
        drawn = (
            (f"{name}-{_SHOWN_METRIC.replace('@', '')}", _bars(results, name)),
            (f"{name}-validation", _curves(results, name)),
        )
        for stem, draw in drawn:
            if draw is not None:
                written += _draw(folder, stem, *draw)
    return written


Draw = tuple[float, Callable[[Any], None]]
"""The height in inches, and what draws on a figure."""


def _draw(folder: Path, stem: str, height: float, draw: Callable[[Any], None]) -> list[Path]:
    """PNG and SVG of one plot: the same bytes for the same numbers."""
    import matplotlib as mpl
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    written = []
    with mpl.rc_context({**_STYLE, "svg.hashsalt": stem}):
        figure = Figure(figsize=(8.0, height), layout="constrained")
        FigureCanvasAgg(figure)
        draw(figure)
        for ending, metadata in (("png", {"Software": None}), ("svg", {"Date": None})):
            content = io.BytesIO()
            with warnings.catch_warnings():
                # A PNG shows a box for a script that the font lacks; the SVG keeps the text.
                warnings.filterwarnings("ignore", "Glyph .* missing from font")
                figure.savefig(content, format=ending, dpi=150, metadata=metadata)
            path = folder / f"{stem}.{ending}"
            write_whole(path, content.getvalue())
            written.append(path)
    return written


def _bars(results: EvaluationResults, dataset: str) -> Draw | None:
    """NDCG@10 of every row in both protocols, with 95% intervals over the users."""
    bars = {protocol: _intervals(results, dataset, protocol) for protocol in METRICS}
    bars = {protocol: panel_bars for protocol, panel_bars in bars.items() if panel_bars}
    if not bars:
        return None

    def draw(figure: Any) -> None:
        panels = figure.subplots(1, len(bars), sharey=True, squeeze=False)[0]
        rows = results.about.models
        for axes, (protocol, panel_bars) in zip(panels, bars.items(), strict=True):
            for row_index, row in enumerate(rows):
                if row not in panel_bars:
                    label = results.missing(dataset, row) or "not run"
                    axes.text(0, row_index, f" {label}", va="center", fontsize=7.5)
                    continue
                mean, low, high = panel_bars[row]
                axes.barh(row_index, mean, 0.62, color=_COLOURS[row_index % len(_COLOURS)])
                axes.errorbar(
                    mean, row_index, xerr=[[mean - low], [high - mean]], color="#1c2024",
                    capsize=2.5, lw=1.1,
                )  # fmt: skip
                axes.text(high, row_index, f"  {mean:.4f}", va="center", fontsize=7.5)
            axes.set_yticks(range(len(rows)), rows)
            axes.set_ylim(len(rows) - 0.45, -0.55)
            axes.tick_params(axis="y", length=0)
            axes.margins(x=0.16)
            axes.set_xlim(left=0)
            axes.set_xlabel(f"NDCG@10, {SHOWN[protocol]}")
            axes.grid(axis="x")
        figure.suptitle(f"{dataset}: test clicks, 95% intervals over users", fontsize=9)

    return 1.1 + 0.29 * len(results.about.models), draw


def _intervals(
    results: EvaluationResults, dataset: str, protocol: str
) -> dict[str, tuple[float, float, float]]:
    column = METRICS[protocol].index(_SHOWN_METRIC)
    columns = {
        row: users[:, column]
        for row in results.about.models
        if (users := results.users(dataset, row, protocol)) is not None
    }
    if not columns:
        return {}
    stacked = np.stack(list(columns.values()), axis=1)
    low, high = bootstrap(stacked)
    means = stacked.mean(axis=0)
    return {
        row: (float(means[at]), float(low[at]), float(high[at])) for at, row in enumerate(columns)
    }


def _curves(results: EvaluationResults, dataset: str) -> Draw | None:
    """Validation NDCG@10 of every run, over epochs and over seconds."""
    rows = results.about.models
    trained = {
        row_index: runs
        for row_index, row in enumerate(rows)
        if not row.endswith(LOCAL) and (runs := list(results.curves(dataset, row)))
    }
    if not trained:
        return None

    def draw(figure: Any) -> None:
        panels = figure.subplots(1, 2, sharey=True)
        for row_index, runs in trained.items():
            colour = _COLOURS[row_index % len(_COLOURS)]
            dash = _DASHES[row_index // len(_COLOURS) % len(_DASHES)]
            for run_index, run in enumerate(runs):
                look = {"color": colour, "ls": dash, "lw": 1.4, "marker": ".", "ms": 3.5}
                look["alpha"] = 0.4 if run_index else 1.0
                epochs = range(1, len(run.metrics) + 1)
                panels[0].plot(
                    epochs, run.metrics, label=None if run_index else rows[row_index], **look
                )
                known_seconds = [seconds for seconds in run.seconds if seconds is not None]
                typical = sum(known_seconds) / len(known_seconds) if known_seconds else 0.0
                elapsed = np.cumsum(
                    [typical if seconds is None else seconds for seconds in run.seconds]
                )
                panels[1].plot(elapsed, run.metrics, **look)
        panels[0].set_ylabel("validation NDCG@10, all items")
        panels[0].set_xlabel("epochs")
        panels[0].xaxis.get_major_locator().set_params(integer=True)
        panels[1].set_xlabel("seconds of training, validation included")
        for axes in panels:
            axes.grid()
        figure.suptitle(f"{dataset}: the first seed drawn full, the others pale", fontsize=9)
        figure.legend(loc="outside lower center", ncols=5, fontsize=8)

    return 3.4 + 0.18 * (len(trained) // 5), draw
