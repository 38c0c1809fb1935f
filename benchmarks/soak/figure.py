"""Memory over the time of a soak."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import matplotlib as mpl
from matplotlib.figure import Figure

from benchmarks.device_cost.figure import STYLE

_BLUE, _GREY, _RED = "#1769b0", "#6b747d", "#c81e1e"


def draw(
    times: Sequence[float],
    memory: Mapping[str, Sequence[float]],
    kills: Sequence[float],
    path: Path,
) -> None:
    """Writes the figure as SVG: MB of PSS of the cloud and of each process of devices."""
    with mpl.rc_context(STYLE | {"svg.hashsalt": "soak", "svg.fonttype": "none"}):
        figure = Figure(figsize=(7.2, 3.0), layout="constrained")
        axes = figure.subplots()
        minutes = [time / 60 for time in times]
        for name, values in memory.items():
            is_cloud = name == "cloud"
            label = name if is_cloud else "a process of devices" if name.endswith("0") else None
            axes.plot(
                minutes, values, color=_BLUE if is_cloud else _GREY, linewidth=1.0, label=label
            )
        for index, kill in enumerate(kills):
            axes.axvline(
                kill / 60, color=_RED, linewidth=0.7, linestyle="--",
                label=None if index else "cloud killed (-9)",
            )  # fmt: skip
        axes.set(ylim=(0, None), xlim=(0, None), xlabel="minutes", ylabel="MB (PSS)")
        axes.grid(visible=True)
        axes.legend(loc="lower right")
        path.parent.mkdir(parents=True, exist_ok=True)
        figure.savefig(path, metadata={"Date": None})
