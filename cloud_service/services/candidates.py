"""Candidate retrieval: items that are often clicked near a user's clicks, then popular items.

It gives devices a list to rerank. It uses co-occurrence counts and no trained model.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Final, Self

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load_file

from cloud_service.services.models import ModelRegistry
from shared import bundle as files
from shared.bundle import find_items
from shared.errors import BundleInvalid, BundleMissing, UnknownItem

RECENT: Final = 10
"""Number of newest clicks that are used."""
DECAY: Final = 0.8
"""Weight of a click relative to the next newer one."""


class Retrieval:
    """The neighbour tables of one model version. Create it with `Retrieval.load`."""

    def __init__(
        self,
        ids: NDArray[np.int32],
        weights: NDArray[np.float32],
        popular: NDArray[np.int32],
    ) -> None:
        self._ids, self._weights, self._popular = ids, weights, popular
        self.items = len(ids) - 1

    @classmethod
    def load(cls, path: Path) -> Self:
        """Reads neighbours.safetensors. Raises BundleMissing or BundleInvalid."""
        try:
            arrays = load_file(path)
            ids, weights = arrays["ids"], arrays["weights"]
            popular = arrays["popular"]
        except FileNotFoundError as error:
            raise BundleMissing(f"this version has no {files.NEIGHBOURS}") from error
        except (SafetensorError, KeyError, OSError) as error:
            raise BundleInvalid(f"{files.NEIGHBOURS} cannot be read: {error}") from error
        are_tables = ids.ndim == 2 and ids.shape == weights.shape and popular.ndim == 1
        are_tables = are_tables and bool(np.isfinite(weights).all())
        if (
            not are_tables
            or len(ids) < 2
            or not (_within(ids, len(ids)) and _within(popular, len(ids)))
        ):
            raise BundleInvalid(f"{files.NEIGHBOURS} does not hold tables of neighbours")
        return cls(ids, weights, popular)

    def candidates(
        self, clicks: Sequence[int], count: int, *, exclude_clicked: bool = False
    ) -> list[int]:
        """Returns at most `count` rows, best first. `clicks` are rows, oldest first.

        Neighbours of the last RECENT clicks come first, by the decayed sum of their weights; then
        popular items. Raises UnknownItem for a row out of range.
        """
        wrong = next((c for c in clicks if not 1 <= c <= self.items), None)
        if wrong is not None:
            raise UnknownItem(f"rows go from 1 to {self.items:,}, got {wrong}")
        recent = np.asarray(clicks[-RECENT:], np.int64)
        decay = DECAY ** np.arange(len(recent) - 1, -1, -1, dtype=np.float32)
        neighbours = self._ids[recent].ravel()
        items, inverse = np.unique(neighbours, return_inverse=True)
        scores = np.bincount(inverse, (self._weights[recent] * decay[:, None]).ravel())
        # np.unique sorts and the sort is stable, so that the order of equal scores is repeatable.
        best = items[np.argsort(-scores, kind="stable")]
        best = best[best > 0]
        if exclude_clicked:
            best = best[~np.isin(best, clicks)]
        best = best[:count]
        if len(best) == count:
            return [int(item) for item in best]
        fill = self._popular[~np.isin(self._popular, best)]
        if exclude_clicked:
            fill = fill[~np.isin(fill, clicks)]
        chosen: list[int] = np.concatenate([best, fill[: count - len(best)]]).tolist()
        return chosen


class Candidates:
    """Candidate lists of all versions of a store. Keeps the last opened retrievals in memory."""

    def __init__(self, models: ModelRegistry, *, keep: int = 4) -> None:
        self._models, self._keep = models, keep
        self._open: dict[str, tuple[Retrieval, NDArray[np.bytes_], bool]] = {}

    def lists(
        self,
        version: str,
        users: Sequence[Sequence[int | str]],
        count: int,
        *,
        exclude_clicked: bool | None = None,
    ) -> list[list[str]]:
        """Returns one list of catalogue ids per user; clicks are catalogue ids, too.

        An integer is read as its decimal digits. By default, clicked items are excluded if the
        evaluation of the model excluded them. Raises UnknownItem, UnknownModel, RetiredModel or
        BundleError.
        """
        self._models.check_answers(version)
        identifiers = self._opened(version)[1]
        rows = [_rows(clicks, identifiers) for clicks in users]
        lists = self.row_lists(version, rows, count, exclude_clicked=exclude_clicked)
        return [[bytes(identifiers[row - 1]).decode() for row in chosen] for chosen in lists]

    def row_lists(
        self,
        version: str,
        users: Sequence[Sequence[int]],
        count: int,
        *,
        exclude_clicked: bool | None = None,
    ) -> list[list[int]]:
        """Like `lists`, but in rows of the item table (from 1), for clients with the bundle."""
        self._models.check_answers(version)
        retrieval, _, excluded_by_default = self._opened(version)
        exclude = excluded_by_default if exclude_clicked is None else exclude_clicked
        return [retrieval.candidates(rows, count, exclude_clicked=exclude) for rows in users]

    def _opened(self, version: str) -> tuple[Retrieval, NDArray[np.bytes_], bool]:
        opened = self._open.get(version)
        if opened is None:
            manifest = self._models.checked(version, (files.NEIGHBOURS, files.ITEM_IDS))
            identifiers = _identifiers(self._models.local_path(version, files.ITEM_IDS))
            retrieval = Retrieval.load(self._models.local_path(version, files.NEIGHBOURS))
            opened = retrieval, identifiers, manifest.data.seen_left_out
            self._open[version] = opened
            while len(self._open) > self._keep:
                self._open.pop(next(iter(self._open)), None)
        return opened


def _identifiers(path: Path) -> NDArray[np.bytes_]:
    try:
        identifiers: NDArray[np.bytes_] = np.load(path, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError) as error:
        raise BundleInvalid(f"{path.name} is not a numpy array") from error
    return identifiers


def _rows(clicks: Sequence[int | str], identifiers: NDArray[np.bytes_]) -> list[int]:
    rows: list[int] = find_items(identifiers, [str(click) for click in clicks]).tolist()
    if 0 in rows:
        wrong = str(clicks[rows.index(0)])[:64]
        raise UnknownItem(f"item {wrong!r} is not in the catalogue")
    return rows


def _within(rows: NDArray[np.int32], items: int) -> bool:
    return bool(rows.dtype == np.int32 and (rows >= 0).all() and (rows < items).all())
