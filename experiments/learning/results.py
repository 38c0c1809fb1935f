"""Figures of an evaluation of learning: one CSV, and a page of tables."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from experiments.comparison.files import write_csv
from experiments.comparison.markdown import markdown
from experiments.learning.measure import Difference, compare
from experiments.learning.run import ABOUT, IN, NEXT, gains_file
from shared.whole_file import write_whole

REFERENCES: Final = ("scn", "memory", "corrected")
_COLUMNS: Final = (
    "dataset", "row", "view", "users", "ndcg@10", "reference", "reference_ndcg@10", "relative",
    "low", "high", "clicks", "seeds",
)  # fmt: skip
_WORDS: Final = {
    NEXT: "every click ranked from the state before its basket",
    IN: "every click ranked from the state before itself, earlier clicks of its basket included",
}
_GROUPS: Final = {"all": None, "known": True, "unknown": False}
"""Users by whether the bundle was trained on them."""


@dataclass(frozen=True)
class Row:
    """A row of one data set against a reference; figures are means over seeds."""

    dataset: str
    row: str
    view: str
    users: str
    reference: str
    figures: Difference
    seeds: int


def read_rows(folders: Mapping[str, Sequence[Path]], rows: Sequence[str]) -> list[Row]:
    """The rows of each data set whose runs are complete; a click's gain is averaged over seeds."""
    read = []
    for dataset, runs in folders.items():
        done = [run for run in runs if (run / ABOUT).is_file()]
        if not done:
            continue
        users, is_known = np.load(done[0] / "users.npy"), np.load(done[0] / "known.npy")
        for view in (NEXT, IN):
            means = {row: _mean(done, row, view) for row in rows}
            for row in rows:
                for reference in REFERENCES:
                    read += [
                        Row(dataset, row, view, group, reference, figures, len(done))
                        for group, figures in _differences(
                            means.get(row), means.get(reference), users, is_known
                        ).items()
                    ]
    return read


def _mean(runs: Sequence[Path], row: str, view: str) -> NDArray[np.float64] | None:
    files = [gains_file(run, row, view) for run in runs]
    if not all(file.is_file() for file in files):
        return None
    mean: NDArray[np.float64] = np.mean([np.load(file) for file in files], axis=0)
    return mean


def _differences(
    values: NDArray[np.float64] | None,
    references: NDArray[np.float64] | None,
    users: NDArray[np.int64],
    is_known: NDArray[np.bool_],
) -> dict[str, Difference]:
    if values is None or references is None:
        return {}
    groups = {}
    for group, known in _GROUPS.items():
        chosen = np.ones(len(users), bool) if known is None else is_known == known
        if chosen.any() and not (known is not None and chosen.all()):
            groups[group] = compare(values[chosen], references[chosen], users[chosen])
    return groups


def write_results(folder: Path, read: Sequence[Row]) -> Path:
    """Writes results.csv."""
    path = folder / "results.csv"
    lines: list[dict[str, Any]] = [
        {
            "dataset": row.dataset,
            "row": row.row,
            "view": row.view,
            "users": row.users,
            "ndcg@10": f"{row.figures.value:.6f}",
            "reference": row.reference,
            "reference_ndcg@10": f"{row.figures.reference:.6f}",
            "relative": f"{row.figures.relative:.6f}",
            "low": f"{row.figures.low:.6f}",
            "high": f"{row.figures.high:.6f}",
            "clicks": row.figures.clicks,
            "seeds": row.seeds,
        }
        for row in read
    ]
    write_csv(path, _COLUMNS, lines)
    return path


def write_page(folder: Path, read: Sequence[Row], runs: Mapping[str, Sequence[Path]]) -> Path:
    """Writes summary.md: each data set, its rows against each reference, what was chosen."""
    sections = [
        "# What learning on the device is worth",
        "NDCG@10 over all items, every click after t2, means over seeds. Differences are relative, "
        "with the 95% interval of 2,000 bootstrap samples of the users; in bold where it leaves 0 "
        "out. Settings were chosen between t1 and t2.",
    ]
    for dataset, folders in runs.items():
        done = [run for run in folders if (run / ABOUT).is_file()]
        if not done:
            continue
        about = json.loads((done[0] / ABOUT).read_text("utf-8"))
        sections += [f"## {dataset}", _described(about)]
        for view, words in _WORDS.items():
            table = _table([row for row in read if row.dataset == dataset and row.view == view])
            if table:
                sections += [f"{words.capitalize()}:", table]
        sections.append(_chosen(done))
    path = folder / "summary.md"
    write_whole(path, "\n\n".join(sections) + "\n")
    return path


def _described(about: dict[str, Any]) -> str:
    cut = about["identity"]["cut"]
    words = (
        "The bundle is cut by time."
        if cut == "time"
        else "The bundle is cut by position: it knows what other users clicked later."
    )
    return (
        f"{about['clicks']:,} clicks of {about['users']:,} users ({about['known_users']:.0%} known "
        f"to the bundle), {about['items']:,} items; {about['unknown_items']:,} clicks on items "
        f"that the bundle does not know are not ranked. {words}"
    )


def _table(read: Sequence[Row]) -> str:
    overall = [row for row in read if row.users == "all"]
    names = list(dict.fromkeys(row.row for row in overall))
    references = [name for name in REFERENCES if any(row.reference == name for row in overall)]
    lines = []
    for name in names:
        by_reference = {row.reference: row.figures for row in overall if row.row == name}
        value = next(iter(by_reference.values())).value
        cells = [
            shown(by_reference[reference]) if reference in by_reference else ""
            for reference in references
        ]
        lines.append([name, f"{value:.4f}", *cells])
    header = ["row", "NDCG@10", *(f"against {reference}" for reference in references)]
    return markdown(header, lines) if lines else ""


def shown(figures: Difference) -> str:
    """A relative difference with its interval."""
    if figures.value == figures.reference and figures.low == figures.high:
        return "the same"
    low, high = figures.low / figures.reference, figures.high / figures.reference
    text = f"{figures.relative:+.1%} ({low:+.1%} to {high:+.1%})"
    return f"**{text}**" if figures.certain else text


def _chosen(runs: Sequence[Path]) -> str:
    lines = ["Chosen, by seed:"]
    for run in runs:
        about = json.loads((run / ABOUT).read_text("utf-8"))
        for row, words in about.get("chosen", {}).items():
            share = about.get("adopted", {}).get(row)
            used = (
                f"; the patch was in use after {share:.0%} of rounds" if share is not None else ""
            )
            lines.append(f"- {run.name}, {row}: {words}{used}")
    return "\n".join(lines)
