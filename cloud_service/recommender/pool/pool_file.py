"""The file of a pool: arrays in the format of safetensors, mapped into memory and never unpickled.

The cloud keeps it to itself. No array holds a user or a time, and the order of the samples is
random, or that of the lists they are found by.
"""

import json
import mmap
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, Final

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import save

from cloud_service.recommender.pool.inverted_lists import Lists
from shared.errors import BundleInvalid

FORMAT: Final = 1
_HEADER_LIMIT: Final = 1 << 16
_TYPES: Final[dict[str, np.dtype[Any]]] = {
    "F32": np.dtype("<f4"),
    "U32": np.dtype("<u4"),
    "I64": np.dtype("<i8"),
}
_DTYPES: Final[dict[str, str]] = {
    "lengths": "F32",
    "rows": "U32",
    **{
        f"{kind}_{name}": dtype
        for kind in ("state", "history")
        for name, dtype in (
            ("units", "F32"), ("order", "U32"), ("centres", "F32"), ("offsets", "I64")
        )
    },
}  # fmt: skip
"""The arrays of the file and their types. `state_*` and `history_*` are the fields of Lists."""


@dataclass(frozen=True, eq=False)
class Pool:
    """The samples of a model version that may be handed out.

    Attributes:
        states: directions of the user states, in the order of the samples.
        lengths: length of each sample's state, (n,) float32: a state is direction times length.
        rows: the clicked item of each sample, a row of the item table, (n,) uint32.
        histories: directions of the samples' histories: the mean of the directions of the item
            vectors of the clicks before. They are matched with, and never handed out.
        sample_users: least users behind each sample.
        radius: the cosine distance within which they are.
    """

    states: Lists
    lengths: NDArray[np.float32]
    rows: NDArray[np.uint32]
    histories: Lists
    sample_users: int
    radius: float

    def __len__(self) -> int:
        return len(self.rows)

    def sample_states(self, samples: NDArray[np.int64]) -> NDArray[np.float32]:
        """The user states of some samples, (m, D)."""
        states: NDArray[np.float32] = self.states.units[samples] * self.lengths[samples, None]
        return states


def pool_bytes(pool: Pool) -> bytes:
    """Encodes a pool."""
    arrays = {"lengths": pool.lengths, "rows": pool.rows}
    for kind, lists in (("state", pool.states), ("history", pool.histories)):
        arrays |= {f"{kind}_{name}": array for name, array in lists._asdict().items()}
    settings = {"format": FORMAT, "sample_users": pool.sample_users, "radius": pool.radius}
    # One entry alone: the library writes several in an order that changes from run to run.
    return save(
        {name: np.ascontiguousarray(array) for name, array in arrays.items()},
        {"pool": json.dumps(settings)},
    )


def open_pool(path: Path, dim: int, items: int) -> Pool:
    """Maps a pool of a model with `dim` and `items` into memory.

    Sizes, types and row numbers are checked first. Raises BundleInvalid, which names the fault,
    and OSError.
    """
    with path.open("rb") as file:
        try:
            arrays, settings = _mapped(file)
            pool = _pool(arrays, settings)
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
            raise BundleInvalid(f"the pool of samples cannot be read: {error}") from error
    count = len(pool.rows)
    for lists in (pool.states, pool.histories):
        _check_lists(lists, count, dim)
    if pool.lengths.shape != (count,) or not bool(np.isfinite(pool.lengths).all()):
        raise BundleInvalid("the pool of samples has lengths that are none")
    if count and not 1 <= int(pool.rows.min()) <= int(pool.rows.max()) <= items:
        raise BundleInvalid("the pool of samples has items that the model lacks")
    if not np.array_equal(pool.states.order, np.arange(count)):
        raise BundleInvalid("the samples of the pool are not in the order of their states")
    return pool


def _mapped(file: BinaryIO) -> tuple[dict[str, NDArray[Any]], dict[str, Any]]:
    """The arrays and the settings of a file of safetensors. Raises ValueError or KeyError."""
    view = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    header_bytes = int.from_bytes(view[:8], "little")
    if not 2 <= header_bytes <= min(_HEADER_LIMIT, len(view) - 8):
        raise ValueError("its header has an impossible size")
    header = json.loads(view[8 : 8 + header_bytes])
    settings = json.loads(header.pop("__metadata__")["pool"])
    if settings["format"] != FORMAT or header.keys() != _DTYPES.keys():
        raise ValueError("it has another format")
    arrays, used = {}, 0
    for name, entry in sorted(header.items(), key=lambda item: item[1]["data_offsets"]):
        begin, end = entry["data_offsets"]
        dtype, shape = _TYPES[entry["dtype"]], tuple(entry["shape"])
        size = dtype.itemsize * int(np.prod(shape, dtype=object))
        if entry["dtype"] != _DTYPES[name] or begin != used or end - begin != size:
            raise ValueError(f"{name} is not as its header says")
        used, at = end, 8 + header_bytes + begin
        if at + size > len(view):
            raise ValueError("it ends too early")
        arrays[name] = np.frombuffer(view, dtype, size // dtype.itemsize, at).reshape(shape)
    if 8 + header_bytes + used != len(view):
        raise ValueError("it has more bytes than its header says")
    return arrays, settings


def _pool(arrays: dict[str, NDArray[Any]], settings: dict[str, Any]) -> Pool:
    states, histories = (
        Lists(*(arrays[f"{kind}_{field}"] for field in Lists._fields))
        for kind in ("state", "history")
    )
    return Pool(
        states,
        arrays["lengths"],
        arrays["rows"],
        histories,
        int(settings["sample_users"]),
        float(settings["radius"]),
    )


def _check_lists(lists: Lists, count: int, dim: int) -> None:
    """Raises BundleInvalid unless the arrays fit each other and the model."""
    offsets = lists.offsets
    shapes_fit = (
        lists.units.shape == (count, dim)
        and lists.order.shape == (count,)
        and lists.centres.ndim == 2
        and lists.centres.shape[1] == dim
        and offsets.shape == (len(lists.centres) + 1,)
    )
    if not shapes_fit:
        raise BundleInvalid("the pool of samples does not fit its model")
    covers = not len(lists.centres) or int(offsets[-1]) == count
    if offsets[0] != 0 or (np.diff(offsets) < 0).any() or not covers:
        raise BundleInvalid("the lists of the pool do not hold its samples")
    if count and not np.array_equal(np.sort(lists.order), np.arange(count)):
        raise BundleInvalid("the lists of the pool hold a sample twice")
    finite = np.isfinite(lists.centres).all() and all(
        bool(np.isfinite(lists.units[at : at + 65536]).all()) for at in range(0, count, 65536)
    )
    if not finite:
        raise BundleInvalid("the pool of samples has numbers that are not finite")
