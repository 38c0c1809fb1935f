"""The figure of the results: three panels over the length of the history, both axes in logs."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, NullFormatter

from benchmarks.device_cost.models import NEW_SEGMENT, network_of

COLOURS = {
    "scn": "#1769b0",
    "projected scn": "#0b9bb5",
    "din": "#6b747d",
    "gru4rec": "#1f8a5b",
    "sasrec": "#c2570c",
    "bert4rec": "#c81e1e",
    "mamba4rec": "#8f4bb0",
}
STYLE: Any = {
    "font.size": 8.5,
    "font.family": "DejaVu Sans",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.linewidth": 0.7,
    "axes.axisbelow": True,
    "grid.linewidth": 0.6,
    "grid.color": "#e4e6e9",
    "legend.frameon": False,
}

Results = Mapping[str, Mapping[int, Mapping[str, Any]]]
"""Model, clicks, figure."""


def draw(results: Results, path: Path) -> None:
    """Writes the figure as PNG."""
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(9.2, 3.4), layout="constrained")
        left_axis, two, three = figure.subplots(1, 3)
        _panel(left_axis, results, "MFLOPs", lambda point: point["flops"] / 1e6)
        _panel(two, results, "ms, median and quartiles", lambda point: point["median"])
        for name, points in results.items():
            low, high = (
                [point["quartiles"][quartile] for point in points.values()] for quartile in (0, 1)
            )
            two.fill_between(list(points), low, high, color=_colour(name), alpha=0.2, lw=0)
        _panel(three, results, "MB at the peak", lambda point: point["memory_bytes"] / 1e6)
        handles, labels = left_axis.get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside lower center", ncols=5)
        path.parent.mkdir(parents=True, exist_ok=True)
        figure.savefig(path, dpi=160)


def _panel(
    axes: Axes, results: Results, title: str, value: Callable[[Mapping[str, Any]], float]
) -> None:
    for name, points in results.items():
        axes.plot(
            list(points),
            [value(point) for point in points.values()],
            color=_colour(name),
            ls=":" if name.endswith(NEW_SEGMENT) else "--" if "(" in name else "-",
            marker="o",
            ms=3,
            lw=1.4,
            label=name,
        )
    axes.set_xscale("log")
    axes.set_yscale("log")
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
        axis.set_minor_formatter(NullFormatter())
    axes.set_title(title, fontsize=8.5, loc="left")
    axes.set_xlabel("clicks of history")
    axes.grid(which="major")


def _colour(name: str) -> str:
    return COLOURS[network_of(name)]
