"""The plots of the report page, as SVG text to put inside HTML.

Colours are CSS variables of the page, so one drawing serves light and dark. Text stays text.
"""

import io
import re
from collections.abc import Callable, Sequence
from typing import Any

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, NullFormatter, PercentFormatter

from experiments.simulation.description import LegRow, leg_rows, ms, occurred, percent
from experiments.simulation.report import CASES, Case, Report, Served
from shared.outcomes import Outcome

INK = "#010101"
"""Placeholder colour, replaced by the colour of the text around the plot."""

GRID = "#020202"
ON_HUE = "#030303"
HUES = 12
WIDTH_IN = 4.6
ROW_IN = 0.27
LEG_NAMES = ("upload ↑", "correction time ○", "download ↓")
LINES = ("-", (0, (5, 1.5)), (0, (1.2, 1.2)))

_STYLE: Any = {
    "svg.fonttype": "none",
    "font.size": 8.5,
    "font.family": "DejaVu Sans",
    "axes.facecolor": "none",
    "axes.edgecolor": INK,
    "axes.labelcolor": INK,
    "text.color": INK,
    "xtick.color": INK,
    "ytick.color": INK,
    "grid.color": GRID,
    "grid.linewidth": 0.6,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.linewidth": 0.7,
    "axes.axisbelow": True,
    "legend.frameon": False,
    "text.parse_math": False,
}


def hue(index: int) -> str:
    """Placeholder for the page's colour `--hue-{index}`."""
    return f"#0a0a{index % HUES + 16:02x}"


def _drawn(name: str, height: float, draw: Callable[[Figure], None]) -> str:
    """SVG text of the figure that `draw` fills; deterministic."""
    with mpl.rc_context({**_STYLE, "svg.hashsalt": name}):
        figure = Figure(figsize=(WIDTH_IN, height), layout="constrained")
        figure.patch.set_alpha(0)
        draw(figure)
        text = io.StringIO()
        FigureCanvasSVG(figure).print_svg(  # type: ignore[no-untyped-call]
            text, metadata={"Date": None, "Creator": None, "Format": None, "Type": None}
        )
    return _for_html(text.getvalue(), name)


def _for_html(svg: str, name: str) -> str:
    """Removes the XML header, makes ids unique in the page, and names the colours."""
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r"<metadata>.*?</metadata>", "", svg, flags=re.DOTALL)
    svg = re.sub(r' xmlns(:\w+)?="[^"]*"| version="[^"]*"', "", svg)
    svg = re.sub(
        r'<svg ([^>]*?)(?:width|height)="[^"]*" ([^>]*?)(?:width|height)="[^"]*"',
        r"<svg \1\2",
        svg,
        count=1,
    )
    svg = svg.replace("<svg ", '<svg aria-hidden="true" focusable="false" ', 1)
    svg = re.sub(r'\bid="', f'id="{name}-', svg)
    svg = re.sub(r'href="#', f'href="#{name}-', svg)
    svg = svg.replace("url(#", f"url(#{name}-")
    for index in range(HUES):
        svg = svg.replace(hue(index), f"var(--hue-{index})")
    for drawn, shown in ((INK, "currentColor"), (GRID, "var(--grid)"), (ON_HUE, "var(--on-hue)")):
        svg = svg.replace(drawn, shown)
    return svg


def legs_plot(report: Report) -> str:
    """Median upload, correction time and download of each network, against the budget."""
    rows = leg_rows(report)
    budget = report.settings.budget_ms
    limit = 2 * budget
    beyond = [row for row in rows if (row.ours[3] or 0) > limit]
    heights = [len(rows), len(beyond)] if beyond else [len(rows)]

    def draw(figure: Figure) -> None:
        axes = figure.subplots(
            len(heights), 1, squeeze=False, height_ratios=[height + 1.6 for height in heights]
        )[:, 0]
        _legs(axes[0], rows, budget, limit)
        axes[0].set_title("up to twice the budget" if beyond else "", fontsize=8.5, loc="left")
        if beyond:
            _legs(axes[1], beyond, budget, max(row.ours[3] or 0 for row in beyond) * 1.12)
            axes[1].set_title("the slower networks, whole", fontsize=8.5, loc="left")
        handles, labels = axes[0].get_legend_handles_labels()
        order = sorted(range(len(labels)), key=lambda index: labels[index] not in LEG_NAMES)
        figure.legend(
            [handles[index] for index in order],
            [labels[index] for index in order],
            loc="outside upper left",
            ncols=2,
        )

    return _drawn("legs", 0.9 + sum(0.62 + ROW_IN * height for height in heights), draw)


def _legs(axes: Axes, rows: Sequence[LegRow], budget: float, limit: float) -> None:
    positions = range(len(rows))
    lefts = [0.0] * len(rows)
    for leg, name in enumerate(LEG_NAMES):
        widths = [row.ours[leg] or 0.0 for row in rows]
        axes.barh(positions, widths, 0.62, left=lefts, color=hue(leg), label=name)
        lefts = [left_edge + width for left_edge, width in zip(lefts, widths, strict=True)]
    papers = [(row.paper[3], position) for position, row in enumerate(rows) if row.paper[3]]
    if papers:
        axes.plot(
            *zip(*papers, strict=True), "D", ms=4.5, mfc="none", mec=INK, label="the paper's sum"
        )
    axes.axvline(budget, color=hue(8), lw=1.4, ls="--", label=f"budget {ms(budget)} ms")
    for position, (row, right_end) in enumerate(zip(rows, lefts, strict=True)):
        if right_end > limit:
            axes.text(1.01 * limit, position, f"{ms(row.ours[3])} →", va="center", fontsize=7.5)
    axes.set_xlim(0, limit)
    _profile_axis(axes, [row.profile for row in rows])
    axes.set_xlabel("median, ms")
    axes.grid(axis="x")


def _profile_axis(axes: Axes, names: Sequence[str]) -> None:
    axes.set_yticks(range(len(names)), names)
    axes.set_ylim(len(names) - 0.45, -0.55)
    axes.tick_params(axis="y", length=0)


def latency_plot(report: Report) -> str:
    """Share of corrections that took longer than a time, to 1 in 1,000, both axes in logs."""

    curves = [result.latency.slower() for result in report.profiles if result.latency.counts]
    right_end = max((points[-1][0] for points in curves), default=1.0) * 1.3

    def draw(figure: Figure) -> None:
        axes = figure.subplots()
        for index, result in enumerate(report.profiles):
            points = result.latency.slower()
            if result.latency.unanswered and points:
                # Unanswered requests count as longer than any time: extend the line to the edge.
                points.append((right_end, points[-1][1]))
            axes.plot(
                [point[0] for point in points],
                [point[1] for point in points],
                color=hue(index),
                ls=LINES[index % len(LINES)],
                lw=1.5,
                label=report.label(result),
            )
        budget = report.settings.budget_ms
        axes.axvline(budget, color=INK, lw=1.2, ls="--", label=f"budget {ms(budget)} ms")
        axes.set_xscale("log")
        axes.set_yscale("log")
        axes.set_ylim(1e-3, 1.1)
        axes.set_xlim(right=right_end)
        axes.yaxis.set_major_formatter(FuncFormatter(lambda share, _: f"{100 * share:g}%"))
        axes.yaxis.set_minor_formatter(NullFormatter())
        axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
        axes.set_xlabel("ms from H to the correction")
        axes.set_ylabel("share that took longer")
        axes.grid(which="major")
        figure.legend(loc="outside lower center", ncols=3, fontsize=8)

    return _drawn("latency", 3.2 + 0.17 * (len(report.profiles) // 3), draw)


def outcomes_plot(report: Report) -> str:
    """Shares of the outcomes of each network, stacked, case by case."""
    results, cases = report.profiles, report.cases

    def draw(figure: Figure) -> None:
        panels = figure.subplots(len(cases), 1, squeeze=False)[:, 0]
        for axes, case in zip(panels, cases, strict=True):
            _outcomes(axes, [result.cases[case] for result in results], occurred(report))
            axes.set_title(f"reranked {CASES[case]}", fontsize=8.5, loc="left")
            _profile_axis(axes, [report.label(result) for result in results])
        panels[-1].set_xlabel("share of reranks")
        figure.legend(*panels[0].get_legend_handles_labels(), loc="outside upper left", ncols=3)

    return _drawn("outcomes", 0.7 + (0.6 + ROW_IN * len(results)) * len(cases), draw)


def _outcomes(axes: Axes, served: Sequence[Served], outcomes: Sequence[Outcome]) -> None:
    lefts = [0.0] * len(served)
    for outcome in outcomes:
        shares = [case.outcomes[outcome] / case.requests for case in served]
        color = hue(list(Outcome).index(outcome))
        axes.barh(range(len(served)), shares, 0.62, left=lefts, color=color, label=outcome)
        for row, (left_edge, share) in enumerate(zip(lefts, shares, strict=True)):
            if share > 0.12:
                axes.text(
                    left_edge + share / 2,
                    row,
                    percent(share),
                    ha="center",
                    va="center",
                    fontsize=7.5,
                    color=ON_HUE,
                )
        lefts = [left_edge + share for left_edge, share in zip(lefts, shares, strict=True)]
    axes.set_xlim(0, 1)
    axes.xaxis.set_major_formatter(PercentFormatter(1))


MARKS: dict[Case, tuple[str, int, int]] = {"at-once": ("o", 1, 6), "after-pause": ("D", 2, 6)}
"""Marker, hue and size of the served rankings."""


def served_plot(report: Report) -> str:
    """NDCG@10 of what was served over each network, between local and always corrected."""
    results, quality = report.profiles, report.quality[0]

    def draw(figure: Figure) -> None:
        axes = figure.subplots()
        axes.axvline(quality.local.ndcg10, color=hue(7), lw=1.4, ls="--", label="local")
        axes.axvline(quality.corrected.ndcg10, color=hue(0), lw=1.4, label="always corrected")
        for case in report.cases:
            marker, color, size = MARKS[case]
            values = [result.cases[case].ranking.ndcg10 for result in results]
            axes.plot(
                values,
                range(len(results)),
                marker,
                ms=size,
                mfc="none",
                mec=hue(color),
                mew=1.6,
                label=f"served {CASES[case]}",
            )
        axes.margins(x=0.15)
        axes.set_xlabel("NDCG@10")
        axes.grid()
        _profile_axis(axes, [report.label(result) for result in results])
        figure.legend(*axes.get_legend_handles_labels(), loc="outside upper left", ncols=2)

    return _drawn("served", 1.25 + ROW_IN * len(results), draw)
