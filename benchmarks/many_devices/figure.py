"""This project's cloud up to four times what it holds: latency, and what is served and shed."""

from pathlib import Path
from typing import Any

import matplotlib as mpl
from matplotlib.figure import Figure

from benchmarks.device_cost.figure import STYLE

_ASKED = "corrections asked for, a second"
_BLUE, _GREY, _RED = "#1769b0", "#6b747d", "#c81e1e"


def draw(results: dict[str, Any], path: Path) -> None:
    """Writes the figure as PNG."""
    rows = results["sweep"]
    offered_rates = [row["rate"] for row in rows]
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(7.2, 3.0), layout="constrained")
        left_axis, right = figure.subplots(1, 2)
        left_axis.plot(
            offered_rates, [row["median_ms"] for row in rows], color=_BLUE, label="median"
        )
        left_axis.plot(offered_rates, [row["p99_ms"] for row in rows], color=_RED, label="p99")
        left_axis.axhline(4.21, color=_GREY, linewidth=0.8, linestyle="--")
        left_axis.set(ylim=(0, None), xlabel=_ASKED, ylabel="ms, where served")
        left_axis.legend()
        right.plot(offered_rates, [row["served"] for row in rows], color=_BLUE, label="served")
        right.plot(
            offered_rates,
            [row["rate"] * row["shed"] for row in rows],
            color=_GREY,
            label="shed (503)",
        )
        right.set(ylim=(0, None), xlabel=_ASKED, ylabel="a second")
        right.legend()
        for axes in (left_axis, right):
            axes.grid(visible=True)
            axes.axvline(results["this project"]["knee"], color=_GREY, linewidth=0.8)
        path.parent.mkdir(parents=True, exist_ok=True)
        figure.savefig(path, dpi=160)
