"""What a device runs for one new click, as files that a process without PyTorch can follow."""

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

Arrays = dict[str, NDArray[np.generic]]

PLAN, ARRAYS = "plan.json", "arrays.npz"
TABLE, NOTHING = "item_table.npy", "nothing.onnx"
"""Beside the folders of all plans: the item table, and a graph that does nothing."""


@dataclass(frozen=True)
class Call:
    """One run of one graph.

    Attributes:
        graph: its name.
        inputs: which array goes into an input, where it is not the one of the same name.
        after: which array is overwritten with which output once the graph has run.
        row: which row of those arrays alone; None for all of them.
        query: where the graph gives views, of which of its clicks the query is the ranking's;
            they are laid out as `prepare` takes them (`export/device_graphs.py`).
        slides: the arrays whose clicks all move one place down before, as in a window.
    """

    graph: str
    inputs: dict[str, str] = field(default_factory=dict)
    after: dict[str, str] = field(default_factory=dict)
    row: int | None = None
    query: int | None = None
    slides: tuple[str, ...] = ()


@dataclass(frozen=True, eq=False)
class Plan:
    """The runs that one new click costs, in order, with all they need but the item table.

    Attributes:
        fresh: the array of item numbers whose last place that is not 0 is the new click.
    """

    calls: tuple[Call, ...]
    graphs: dict[str, bytes]
    arrays: Arrays
    fresh: str

    def write(self, folder: Path) -> None:
        """Puts all of it into a new folder."""
        folder.mkdir()
        for name, graph in self.graphs.items():
            (folder / f"{name}.onnx").write_bytes(graph)
        np.savez(folder / ARRAYS, **self.arrays)  # type: ignore[arg-type]
        plan = {"calls": [asdict(call) for call in self.calls], "fresh": self.fresh}
        (folder / PLAN).write_text(json.dumps(plan), "utf-8")


def read_calls(folder: Path) -> tuple[list[Call], str]:
    """The calls of a plan that was written, and its `fresh`."""
    plan = json.loads((folder / PLAN).read_text("utf-8"))
    return [Call(**call) for call in plan["calls"]], plan["fresh"]
