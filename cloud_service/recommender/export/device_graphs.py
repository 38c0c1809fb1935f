"""The ONNX graphs of the device. shared/GRAPHS.md has inputs, outputs and the order of calls.

hidden   item_table (V+1, D), clicks (n,) -> hidden (n, D)
views    hidden (n, D) -> views (n, 5h (f+1)), the query, key and value projections
prepare  hidden of a segment (K, D), its keys, turned_keys and values (h, K, f+1), the last click's
         query (2, h, 1, f+1) and position (1,), state (h, f+1, f)
         -> turned_query (h, 1, f), step (h, K, f), own, own_mean, own_deviation (h, 1, K+f),
         near (1, D); or user (1, D) alone
rank     item_table, the outputs of prepare, correction (h, 1, K+f), gate (), candidates (N,)
         -> scores (1, N), block_output (1, D);
         or item_table, user, shift (1, D), higher, lower (n, 1), residuals (1, n), candidates
         -> scores (1, N)
carry    keys, turned_keys, values and state -> next_state (h, f+1, f)

With an inner step and a projected GCN `prepare` is another graph: `device_windows.py`.

The item table is an input, so that the file on disk is mapped into memory once for all graphs.
There is no batch axis: a device serves one user. `PUBLISHED_NAMES` maps the names used here to
those of inputs in published graphs, which must not change.
"""

from collections.abc import Mapping
from typing import Final

import torch
from torch import Tensor

from cloud_service.recommender.export.device_layers import is_additive
from cloud_service.recommender.export.device_modules import (
    AdditiveRankGraph,
    CarryGraph,
    HiddenGraph,
    PrepareGraph,
    ProjectionGraph,
    RankGraph,
)
from cloud_service.recommender.export.device_windows import WindowsGraph
from cloud_service.recommender.export.graphs import export_module
from cloud_service.recommender.models.scn import SCN
from shared.model import ModelSettings

PUBLISHED_NAMES: Final = {
    "rotated_keys": "turned_keys",
    "item_high": "higher",
    "item_low": "lower",
}
"""Names of inputs in the graphs of published bundles, where they differ from the code's."""


def export_device_graphs(scn: SCN) -> dict[str, bytes]:
    """Exports `hidden`, `views`, `prepare`, `carry` and `rank` as ONNX bytes, by name."""
    s = scn.settings
    k, h, f = s.segment, s.heads, s.head_dim
    scn = scn.eval().cpu()
    prepare = WindowsGraph(scn) if s.keeps_windows else PrepareGraph(scn)
    state = torch.zeros(h, f + 1, f)
    segment = {name: torch.zeros(h, k, f + 1) for name in ("keys", "rotated_keys", "values")}
    last_click = {name: rows[:, :1].clone() for name, rows in segment.items()}
    prepare_inputs = {
        "hidden": torch.zeros(k, s.dim),
        **(last_click if s.keeps_windows else segment),
        "query": torch.zeros(2, h, 1, f + 1),
        "position": torch.tensor([k - 1]),
        **(window_states(s) if s.keeps_windows else {"state": state}),
    }
    table, table_axes = _item_table(scn)
    click_axes = {0: torch.export.Dim("clicks", min=1)}
    graphs = {
        "hidden": export_module(
            HiddenGraph(scn),
            {"item_table": table, "clicks": torch.zeros(7, dtype=torch.int64)},
            ["hidden"],
            {"item_table": table_axes, "clicks": click_axes},
        ),
        "views": export_module(
            ProjectionGraph(scn),
            {"hidden": torch.zeros(7, s.dim)},
            ["views"],
            {"hidden": click_axes},
        ),
        "prepare": export_module(prepare, prepare_inputs, prepare.outputs, {}, PUBLISHED_NAMES),
        "carry": export_module(
            CarryGraph(scn), segment | {"state": state}, ["next_state"], {}, PUBLISHED_NAMES
        ),
    }
    if is_additive(scn):
        return graphs | {"rank": _export_additive_rank(scn)}
    with torch.no_grad():
        prepared = dict(zip(prepare.outputs, prepare(**prepare_inputs), strict=True))
    return graphs | {"rank": _export_rank(scn, prepared)}


def window_states(s: ModelSettings) -> dict[str, Tensor]:
    """Examples of the inner states that a device keeps of every window."""
    b = s.clicks_per_update
    states = torch.zeros(s.heads * b, s.head_dim + 1, s.window_rounds * s.head_dim)
    return {"states": states} | ({"taken": states.clone()} if b > 1 else {})


def _export_rank(scn: SCN, prepared: Mapping[str, Tensor]) -> bytes:
    """The `rank` graph of a correction that acts inside the block."""
    s = scn.settings
    table, table_axes = _item_table(scn)
    candidates, candidate_axes = _candidates()
    return export_module(
        RankGraph(scn),
        {
            "item_table": table,
            "prepared": prepared,
            "correction": torch.zeros(s.heads, 1, s.segment + s.head_dim),
            "gate": torch.tensor(0.0),
            "candidates": candidates,
        },
        ["scores", "block_output"],
        {
            "item_table": table_axes,
            "candidates": candidate_axes,
            "prepared": dict.fromkeys(prepared),
        },
    )


def _export_additive_rank(scn: SCN) -> bytes:
    """The `rank` graph of a projected model."""
    s = scn.settings
    table, table_axes = _item_table(scn)
    candidates, candidate_axes = _candidates()
    column = torch.zeros(s.boosted_items, 1)
    return export_module(
        AdditiveRankGraph(),
        {
            "item_table": table,
            "user": torch.zeros(1, s.dim),
            "shift": torch.zeros(1, s.dim),
            "item_high": column,
            "item_low": column.clone(),
            "residuals": column.T,
            "candidates": candidates,
        },
        ["scores"],
        {"item_table": table_axes, "candidates": candidate_axes},
        PUBLISHED_NAMES,
    )


def _item_table(scn: SCN) -> tuple[Tensor, dict[int, torch.export.Dim]]:
    """An example of the item table, and its open axis."""
    return torch.zeros(scn.items + 1, scn.settings.dim), {0: torch.export.Dim("items", min=2)}


def _candidates() -> tuple[Tensor, dict[int, torch.export.Dim]]:
    """An example of candidates, and their open axis."""
    return torch.zeros(7, dtype=torch.int64), {0: torch.export.Dim("candidates", min=1)}
