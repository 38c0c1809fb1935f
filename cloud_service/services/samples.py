"""Samples for devices that learn: finds those that match what a device sent.

Reads the pools of a store, which may be replaced at any time: a request uses the file that it
opened to the end.
"""

import threading
from pathlib import Path
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from cloud_service.recommender.pool.inverted_lists import unit_rows
from cloud_service.recommender.pool.pool_file import Pool, open_pool
from cloud_service.services.models import ModelRegistry
from cloud_service.storage.port import VersionStore
from shared import bundle as files
from shared.errors import BundleInvalid, RecommendationError
from shared.manifest import Manifest
from shared.samples import Query, SampleForm, Samples, SampleWire

KEPT: Final = 4
"""Pools that stay open, the last ones used."""


class NoSamples(RecommendationError):
    """The version has no sample that may be handed out."""

    code = "no-samples"
    status = 404
    title = "This version has no samples for devices"


class _OpenPool(NamedTuple):
    """A pool, and what tells its file from one that has replaced it."""

    pool: Pool
    identity: tuple[int, int, int]


class SampleService:
    """Answers queries for samples. Safe to be called from several threads."""

    def __init__(
        self, store: VersionStore, models: ModelRegistry, random: np.random.Generator | None = None
    ) -> None:
        self._store, self._models = store, models
        self._random = random or np.random.default_rng()
        self._open: dict[str, _OpenPool] = {}
        self._lock = threading.Lock()

    def answer(
        self, version: str, media_type: str, body: bytes, form: SampleForm, most: int
    ) -> bytes:
        """Up to `most` samples for a query, as they are sent.

        Raises UnknownModel, RetiredModel, NoSamples, BundleInvalid, or a WireError or UnknownItem
        for a query that breaks the wire format.
        """
        self._models.check_answers(version)
        manifest = self._models.manifest(version)
        wire = SampleWire(manifest.model.dim, manifest.items)
        query = wire.decode_query(media_type, body)
        pool = self._pool(version, manifest)
        chosen = self._chosen(version, pool, query, most)
        samples = Samples(pool.sample_states(chosen), pool.rows[chosen].astype(np.int64))
        return wire.encode_samples(samples, form)

    def _chosen(self, version: str, pool: Pool, query: Query, most: int) -> NDArray[np.int64]:
        if query.states is not None:
            return pool.states.nearest(unit_rows(query.states), most)
        if query.rows is not None:
            return pool.histories.nearest(self._history(version, query.rows), most)
        with self._lock:
            return self._random.choice(len(pool), min(most, len(pool)), replace=False)

    def _history(self, version: str, rows: NDArray[np.int64]) -> NDArray[np.float32]:
        """The direction of the mean of the item vectors' directions, (1, D)."""
        path = self._models.local_path(version, files.ITEM_TABLE)
        try:
            table = np.load(path, mmap_mode="r", allow_pickle=False)
            vectors = table[rows].astype(np.float32)
        except (OSError, ValueError, IndexError) as error:
            raise BundleInvalid(f"{files.ITEM_TABLE} cannot be read") from error
        return unit_rows(unit_rows(vectors).sum(axis=0, keepdims=True))

    def _pool(self, version: str, manifest: Manifest) -> Pool:
        path = self._store.local_pool(version)
        if path is None:
            with self._lock:
                self._open.pop(version, None)
            raise NoSamples(
                f"version {version} has no samples: nobody agreed, or too few clicked alike"
            )
        try:
            return self._mapped(path, version, manifest)
        except FileNotFoundError:  # removed at this moment
            raise NoSamples(f"version {version} has no samples any more") from None
        except OSError as error:
            raise BundleInvalid(f"the pool of samples cannot be read: {error.strerror}") from error

    def _mapped(self, path: Path, version: str, manifest: Manifest) -> Pool:
        status = path.stat()
        identity = status.st_ino, status.st_mtime_ns, status.st_size
        with self._lock:
            opened = self._open.get(version)
            if opened is None or opened.identity != identity:
                pool = open_pool(path, manifest.model.dim, manifest.items)
                opened = _OpenPool(pool, identity)
            self._open.pop(version, None)
            self._open[version] = opened
            while len(self._open) > KEPT:
                del self._open[next(iter(self._open))]
        return opened.pool
