"""From a trained model to a version in the store."""

import io
from collections.abc import Callable
from datetime import datetime

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import save as save_arrays
from safetensors.torch import save as save_tensors

from cloud_service.recommender.data.clicks import ClickLog, Split
from cloud_service.recommender.export.cloud_graphs import export_cloud_graphs
from cloud_service.recommender.export.device_graphs import export_device_graphs
from cloud_service.recommender.export.graphs import OPSET
from cloud_service.recommender.export.learning_graphs import learning_files
from cloud_service.recommender.learning.fit import Learning
from cloud_service.recommender.models.cocorrrec import SCNAndGCN
from cloud_service.recommender.training.neighbours import fit_neighbours
from cloud_service.storage.port import StoreFile, VersionStore
from shared import bundle as names
from shared.manifest import FORMAT, LEARNING_FORMAT, FileEntry, Manifest, TrainingData, TrainingEnd


def publish(
    store: VersionStore,
    model: SCNAndGCN,
    split: Split,
    metrics: dict[str, float],
    *,
    created: datetime,
    training: TrainingEnd | None = None,
    learning: Learning | None = None,
    tick: Callable[[], None] = lambda: None,
) -> str:
    """Exports a model, writes it to the store as a new version, and gives the version's name.

    The clicks of held-out users are kept beside it for simulated devices, never in the bundle.
    The same arguments give the same version. `training` says how that of the device's network
    ended, where it is known, `learning` what devices learn. `tick` is called between steps and may
    raise. Raises UnsupportedLearning where devices cannot learn that.
    """
    log = split.log

    def describe(entries: tuple[FileEntry, ...]) -> Manifest:
        return Manifest(
            format=FORMAT if learning is None else LEARNING_FORMAT,
            model=model.settings,
            items=log.item_count,
            opset=OPSET,
            data=TrainingData(
                name=log.name,
                users=len(split.train_users),
                items=log.item_count,
                clicks=len(split.train_positions),
                synthetic=log.synthetic,
                preprocessing=f"{log.preprocessing}; {split.description}",
                seen_left_out=split.seen_left_out,
                cautions=split.cautions,
            ),
            metrics={name: round(value, 6) for name, value in metrics.items()},
            training=training,
            learning=None if learning is None else learning.settings,
            created=created,
            files=entries,
        )

    files = version_files(model, split, tick, learning)
    tick()
    version = store.publish(files, describe)
    if len(split.replay_users):
        store.write_replay(version, _replay(split))
    return version


def version_files(
    model: SCNAndGCN,
    split: Split,
    tick: Callable[[], None] = lambda: None,
    learning: Learning | None = None,
) -> dict[str, StoreFile]:
    """Every file of a version: the device's bundle, and what the cloud keeps to itself."""
    device: dict[str, bytes] = {}
    if learning is not None:
        device |= learning_files(model.scn, learning.settings, learning.amortised, learning.basis)
        tick()
    device |= {f"{name}.onnx": graph for name, graph in export_device_graphs(model.scn).items()}
    tick()
    block = model.scn.block
    state = np.concatenate(
        [block.inner_weight.detach().numpy(), block.inner_bias.detach().numpy()], axis=1
    )
    device[names.ITEM_TABLE] = _npy(model.scn.item_embedding.detach().numpy())
    device[names.INNER_STATE] = _npy(state)
    device[names.ITEM_IDS] = _npy(_identifiers(split.log))
    if split.log.titles is not None:
        device[names.TITLES] = "\n".join(
            " ".join(title.split()) for title in split.log.titles
        ).encode()
    cloud = {f"{name}.onnx": graph for name, graph in export_cloud_graphs(model.gcn).items()}
    tick()
    near = fit_neighbours(split)
    cloud[names.NEIGHBOURS] = save_arrays(
        {"ids": near.ids, "weights": near.weights, "popular": near.popular}
    )
    cloud[names.WEIGHTS] = save_tensors(
        {name: value.contiguous() for name, value in model.state_dict().items()}
    )
    return {name: StoreFile(content, "device") for name, content in device.items()} | {
        name: StoreFile(content, "cloud") for name, content in cloud.items()
    }


def _identifiers(log: ClickLog) -> NDArray[np.bytes_]:
    """Catalogue ids as UTF-8 bytes of one width, sorted, so that a device finds one by bisection.

    An id cannot end in a zero byte, which numpy pads with: `read_log` refuses such ids.
    """
    return np.array([item.encode() for item in log.item_ids])


def _npy(array: NDArray[np.generic]) -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, np.ascontiguousarray(array), allow_pickle=False)
    return buffer.getvalue()


def _replay(split: Split) -> bytes:
    """The held-out users' clicks: `items` flat int32, `offsets` int64 (users + 1)."""
    log, users = split.log, split.replay_users
    sequences = [log.sequence(int(user)) for user in users]
    offsets = np.concatenate([[0], np.cumsum([len(s) for s in sequences])]).astype(np.int64)
    buffer = io.BytesIO()
    np.savez(buffer, items=np.concatenate(sequences), offsets=offsets)
    return buffer.getvalue()
