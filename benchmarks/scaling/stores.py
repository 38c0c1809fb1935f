"""Models with random weights, which cost what trained ones do, published as often and as large
as is wanted.

The graphs of an SCN and of a causal GCN know nothing of the catalogue: they are exported once, and
a catalogue is the tables beside them. A projected GCN has the catalogue in its own graphs.
"""

import io
from collections.abc import Iterator
from datetime import datetime, timedelta
from functools import cache
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.numpy import save as save_arrays

from benchmarks.served import CREATED
from cloud_service.publishing.publish import version_files
from cloud_service.recommender.data.clicks import split
from cloud_service.recommender.data.synthetic import synthetic_log
from cloud_service.recommender.export.cloud_graphs import export_cloud_graphs
from cloud_service.recommender.export.graphs import OPSET
from cloud_service.recommender.models.baselines.item_knn import ItemKNN
from cloud_service.recommender.models.cocorrrec import CoCorrRec, ProjectedCoCorrRec, SCNAndGCN
from cloud_service.recommender.training.neighbours import Counting
from cloud_service.storage.port import StoreFile
from cloud_service.storage.store import Store
from shared import bundle as files
from shared.manifest import FileEntry, Manifest, TrainingData
from shared.model import GCNForm, ModelSettings

SMALL = 500
Files = dict[str, StoreFile]


@cache
def exported(form: GCNForm) -> Files:
    """All files of a version with a small catalogue."""
    log = synthetic_log(users=300, items=SMALL, clicks_per_user=15, seed=3)
    model = _model(log.item_count, form)
    return version_files(model, split(log, seed=1))


def with_catalogue(small: Files, form: GCNForm, items: int) -> Files:
    """The files of `small` for a catalogue of `items`: other tables, ids and neighbours."""
    random, dim = np.random.default_rng(0), ModelSettings().dim
    table = random.standard_normal((items + 1, dim), dtype=np.float32)
    table[0] = 0.0
    neighbours = _neighbours(items)
    popular = np.arange(1, min(items, 2000) + 1, dtype=np.int32)
    grown = {
        files.ITEM_TABLE: _npy(table),
        files.ITEM_IDS: _npy(np.array([b"item-%08d" % index for index in range(items)])),
        files.NEIGHBOURS: save_arrays({**neighbours, "popular": popular}),
        files.WEIGHTS: save_arrays({"scn.item_embedding": table}),
    }
    if form == "projected":
        teacher = ItemKNN(
            neighbours["ids"],
            neighbours["weights"],
            np.ones(items + 1, np.int64),
            ModelSettings().length,
        )
        model = _model(items, form, teacher)
        with torch.no_grad():
            model.scn.item_embedding.copy_(torch.from_numpy(table))
        for name, graph in export_cloud_graphs(model.gcn).items():
            small = small | {f"{name}.onnx": StoreFile(graph, "cloud")}
    copied = {name: file for name, file in small.items() if name != files.TITLES}
    return copied | {name: StoreFile(content, copied[name].role) for name, content in grown.items()}


def published(store: Store, content: Files, form: GCNForm, items: int, count: int) -> Iterator[str]:
    """Publishes the same files as `count` versions, as of so many days; the names."""
    for day in range(count):
        created = CREATED + timedelta(days=day)

        def describe(entries: tuple[FileEntry, ...], created: datetime = created) -> Manifest:
            data = TrainingData(
                name="random", users=1, items=items, clicks=1, synthetic=True, preprocessing="none"
            )
            return Manifest(
                model=ModelSettings(gcn=form),
                items=items,
                opset=OPSET,
                data=data,
                metrics={},
                created=created,
                files=entries,
            )

        yield store.publish(content, describe)


def items_of(content: Files) -> int:
    """Items in the catalogue of some files."""
    table = np.load(io.BytesIO(content[files.ITEM_IDS].content), allow_pickle=False)
    return len(table)


def sizes(manifest: Manifest) -> tuple[int, int]:
    """Bytes on disk: what a device downloads, and the cloud's two graphs."""
    bundle = sum(entry.size for entry in manifest.device_files())
    graphs = (files.GCN_GRAPH, files.GCN_ROW_GRAPH)
    return bundle, sum(entry.size for entry in manifest.files if entry.name in graphs)


def _model(items: int, form: GCNForm, teacher: ItemKNN | None = None) -> SCNAndGCN:
    torch.manual_seed(7)
    length = ModelSettings().length
    settings = ModelSettings(gcn=form)
    if form == "projected":
        teachers = [teacher or ItemKNN.empty(items, length)]
        return ProjectedCoCorrRec(items, settings, init_std=0.5, teachers=teachers).eval()
    return CoCorrRec(items, settings, init_std=0.5).eval()


def _neighbours(items: int) -> dict[str, NDArray[Any]]:
    random, shape = np.random.default_rng(1), (items + 1, Counting().count)
    return {
        "ids": random.integers(1, items + 1, shape, dtype=np.int32),
        "weights": random.random(shape, np.float32),
    }


def _npy(array: NDArray[np.generic]) -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, array, allow_pickle=False)
    return buffer.getvalue()
