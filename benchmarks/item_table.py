"""What a smaller item table costs: float16, and int8 with a scale for each of its columns.

The table is nearly all of a bundle. For every projected run of `cloud-service evaluate` on the logs
given: NDCG@10 over all items on the test click with a device whose table is rounded, without and
with corrections by a cloud that has the exact one. And the time of what reads the table on ONNX
Runtime with one thread: 100 candidates looked up and multiplied by the user state.

    python -m benchmarks.item_table FOLDER --data LOG.csv.gz [--data ...]

FOLDER is the --out folder of the evaluation, LOG its data.
"""

import copy
import statistics
import time
from typing import Any, Final

import numpy as np
import onnxruntime as ort
import torch
from torch import Tensor, nn

from benchmarks.machine import keep
from benchmarks.runs import corrected_runs, runs_parser
from cloud_service.recommender.data.clicks import Split
from cloud_service.recommender.export.graphs import export_module
from cloud_service.recommender.models.cocorrrec import ProjectedCoCorrRec
from cloud_service.recommender.models.scn import SCN
from cloud_service.recommender.ranking.evaluate import clicked_before, ranks_over_all, user_states
from cloud_service.recommender.ranking.significance import bootstrap, per_user
from cloud_service.runtime import open_session

KINDS: Final = {"float32": 4, "float16": 2, "int8": 1}
"""Bytes of a number."""
CANDIDATES: Final = 100
ROUNDS: Final = 2000
METRIC: Final = "ndcg@10"


def main() -> None:
    """Measures every projected run of the folder on the logs given, and the look-ups."""
    options = runs_parser(__doc__).parse_args()
    quality: dict[str, Any] = {}
    for run in corrected_runs(options.folder, options.data, options.seed):
        if run.recipe.teachers == "item-knn":
            quality[run.name] = measure(run.model, run.parts)
            _show(run.name, quality[run.name])
    times = look_ups()
    for form, (low, median, high) in times.items():
        print(f"{form:8} {CANDIDATES} candidates: {median:.1f} µs ({low:.1f} to {high:.1f})")
    ratios = {
        f"{name}: {form} {ranking} / float32": {
            "value": row[form][ranking] / row["float32"][ranking]
        }
        for name, row in quality.items()
        for form in ("float16", "int8")
        for ranking in ("local", "corrected")
    }
    ratios |= {
        f"look-up: {form} / float32": {"value": times[form][1] / times["float32"][1]}
        for form in ("float16", "int8")
    }
    keep("item_table", {"quality": quality, "look_up_us": times}, ratios)


@torch.no_grad()
def measure(model: ProjectedCoCorrRec, dataset: Split) -> dict[str, Any]:
    """Figures of one run, by how the device's table is kept."""
    at = dataset.test_positions
    full_gains: dict[str, Any] = {}
    summary: dict[str, Any] = {"users": len(at)}
    for form in KINDS:
        scn = with_table(model.scn, form)
        gains = {
            "local": _gains(scn, dataset),
            "corrected": _gains(_corrected(model, scn), dataset),
        }
        full_gains = full_gains or gains
        lows, highs = bootstrap(
            np.stack([gains[ranking] - full_gains[ranking] for ranking in gains], axis=1)
        )
        summary[form] = {ranking: float(values.mean()) for ranking, values in gains.items()} | {
            "difference": {
                ranking: [float(low), float(high)]
                for ranking, low, high in zip(gains, lows, highs, strict=True)
            },
            "table_bytes": KINDS[form] * scn.item_embedding.numel(),
        }
    return summary


def _gains(model: SCN | ProjectedCoCorrRec, dataset: Split) -> Any:
    """Each user's NDCG@10."""
    at, items = dataset.test_positions, dataset.log.items
    states = user_states(model, items, dataset.starts, at, np.zeros_like(at))
    targets = items[at].astype(np.int64)
    return per_user(ranks_over_all(model, states, targets, clicked_before(dataset, at)), METRIC)


def _corrected(model: ProjectedCoCorrRec, scn: SCN) -> ProjectedCoCorrRec:
    """`model` with another device; the cloud goes on knowing the exact table."""
    with_copy = copy.copy(model)
    with_copy._modules = dict(model._modules)
    with_copy.scn = scn
    return with_copy


def with_table(scn: SCN, form: str) -> SCN:
    """The SCN as it is after its table was rounded to `kind`."""
    quantised = copy.deepcopy(scn)
    table = quantised.item_embedding.data
    if form == "float16":
        table.copy_(table.half().float())
    elif form == "int8":
        scale = table.abs().amax(0) / 127
        table.copy_((table / scale).round().clamp(-127, 127) * scale)
    return quantised


class _LookUp(nn.Module):
    """Candidates of a table times a user state."""

    scale: Tensor

    def __init__(self, form: str, dim: int) -> None:
        super().__init__()
        self._kind = form
        self.register_buffer("scale", torch.rand(1, dim) / 127)

    def forward(self, table: Tensor, user: Tensor, candidates: Tensor) -> Tensor:
        rows = table[candidates].float()
        user = user * self.scale if self._kind == "int8" else user
        return rows @ user.T


def look_ups(items: int = 20_000, dim: int = 64) -> dict[str, list[float]]:
    """Quartiles of µs of a look-up and product, by kind, the kinds taking turns."""
    random = np.random.default_rng(0)
    user = random.normal(size=(1, dim)).astype(np.float32)
    candidates = random.integers(1, items, CANDIDATES)
    runs = {}
    for form in KINDS:
        dtype = getattr(torch, form)
        table = torch.randint(-127, 128, (items, dim)).to(dtype)
        inputs = {
            "table": table,
            "user": torch.from_numpy(user),
            "candidates": torch.from_numpy(candidates),
        }
        listed = {"table": {}, "user": {}, "candidates": {0: torch.export.Dim("count")}}
        session = open_session(export_module(_LookUp(form, dim), inputs, ["scores"], listed))
        binding = session.io_binding()
        binding.bind_ortvalue_input("table", ort.OrtValue.ortvalue_from_numpy(table.numpy()))
        binding.bind_cpu_input("user", user)
        binding.bind_cpu_input("candidates", candidates)
        binding.bind_output("scores")
        runs[form] = session, binding
    times: dict[str, list[float]] = {form: [] for form in KINDS}
    for _ in range(ROUNDS):
        for form, (session, binding) in runs.items():
            begun = time.perf_counter_ns()
            session.run_with_iobinding(binding)
            times[form].append((time.perf_counter_ns() - begun) / 1e3)
    return {form: statistics.quantiles(samples, n=4) for form, samples in times.items()}


def _show(name: str, row: dict[str, Any]) -> None:
    print(f"{name}: {row['users']:,} users, NDCG@10 over all items")
    for form in KINDS:
        figures = row[form]
        phrases = []
        for ranking in ("local", "corrected"):
            low, high = figures["difference"][ranking]
            phrases.append(f"{ranking} {figures[ranking]:.5f} ({low:+.5f} to {high:+.5f})")
        print(f"  {form:8} {figures['table_bytes'] / 1e6:6.2f} MB  {'  '.join(phrases)}")


if __name__ == "__main__":
    main()
