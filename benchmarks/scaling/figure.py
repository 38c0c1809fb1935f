"""Three panels: what a further version, a larger catalogue and more devices cost."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, NullFormatter

from benchmarks.device_cost.figure import STYLE

_BLUE, _GREEN, _ORANGE, _RED = "#1769b0", "#1f8a5b", "#c2570c", "#c81e1e"
Line = tuple[str, str, Callable[[dict[str, Any]], float | None]]

_VERSIONS: list[Line] = [
    ("PSS of the cloud, MB", _BLUE, lambda row: row["after"]["pss"] / 1e6),
    ("round robin, median, µs", _GREEN, lambda row: row["round_robin"]["median"] * 1e3),
    ("round robin, p99, µs", _ORANGE, lambda row: row["round_robin"]["p99"] * 1e3),
]
_CATALOGUE: list[Line] = [
    ("bundle, MB", _ORANGE, lambda row: row["bundle_bytes"] / 1e6),
    ("device: private memory, MB", _BLUE, lambda r: r["device"]["memory_used"]["private"] / 1e6),
    ("device: rerank of 100, µs", _GREEN, lambda row: row["device"]["rerank"]["median"] * 1e3),
    ("cloud: correction, causal, ms", "#6b747d", lambda r: r["causal"]["correction"]["median"]),
    (
        "cloud: correction, projected, ms",
        _RED,
        lambda r: (
            r["projected"]["correction"]["median"] if "correction" in r["projected"] else None
        ),
    ),
]
_DEVICES: list[Line] = [
    ("asked, a second", "#6b747d", lambda row: row["asked_per_s"]),
    ("reached, a second", _BLUE, lambda row: row["reached_per_s"]),
    ("CPU of the simulator, % of a core", _ORANGE, lambda row: 100 * row["simulator_cpu"]),
    ("CPU of the cloud, % of a core", _GREEN, lambda row: 100 * row["cloud_cpu"]),
]
_PANELS = {
    "versions": ("versions that are asked for", _VERSIONS),
    "catalogue": ("items in the catalogue", _CATALOGUE),
    "devices": ("devices, 2 clicks a second each", _DEVICES),
}


def draw(results: dict[str, Any], path: Path) -> None:
    """Writes the figure as SVG, a panel for every part that was measured."""
    with mpl.rc_context(STYLE | {"svg.hashsalt": "scaling"}):
        figure = Figure(figsize=(3.3 * len(results), 4.0), layout="constrained")
        panels = figure.subplots(1, len(results), squeeze=False)[0]
        for axes, (name, rows) in zip(panels, results.items(), strict=True):
            _panel(axes, rows, *_PANELS[name])
        path.parent.mkdir(parents=True, exist_ok=True)
        figure.savefig(path, metadata={"Date": None})


def _panel(axes: Axes, rows: dict[str, Any], title: str, lines: list[Line]) -> None:
    for label, colour, value in lines:
        points = [(int(name), value(row)) for name, row in rows.items()]
        known_points = [(at, figure) for at, figure in points if figure is not None]
        axes.plot(
            *zip(*known_points, strict=True), color=colour, marker="o", ms=3, lw=1.4, label=label
        )
    axes.set(xscale="log", yscale="log", xlabel=title)
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.6g}"))
        axis.set_minor_formatter(NullFormatter())
    axes.grid(which="major")
    axes.legend(loc="upper center", bbox_to_anchor=(0.5, -0.18))
