"""What the tables of figures of every page are made of: result files, Markdown, spreads."""

import json
from collections.abc import Iterable, Sequence
from functools import cache
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parent.parent
RESULTS = ROOT / "benchmarks" / "results"

Row = Sequence[str]


@cache
def result(name: str) -> Any:
    """A file of benchmarks/results, by its name without the ending."""
    return json.loads((RESULTS / f"{name}.json").read_text("utf-8"))


def markdown(header: Row, rows: Iterable[Row]) -> str:
    """A table in Markdown, ending with a newline."""
    lines = [header, ["---"] * len(header), *rows]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def spread(figure: Any, digits: str) -> str:
    """A median and its quartiles."""
    low, high = figure["quartiles"]
    return f"{figure['median']:{digits}} ({low:{digits}} to {high:{digits}})"
