"""The wire format of samples: what a device sends to get some, and the samples (shared/WIRE.md).

A sample is a user state before a click, D numbers, and the clicked item, a row of the item table.
Both sides check every payload here, before they compute anything with it.
"""

import zlib
from typing import Final, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from shared.errors import (
    NotAcceptable,
    NotFinite,
    UnknownItem,
    WireError,
    WrongLength,
    WrongMediaType,
)
from shared.wire import FLOAT, HALF, LARGEST

Floats = NDArray[np.float32]
Int64 = NDArray[np.int64]

ROW: Final = np.dtype("<u4")
_CODE: Final = np.dtype("i1")
_LARGEST_CODE: Final = 127

MOST_SAMPLES: Final = 200
"""Samples of an answer, at most; so many if a device does not say how many."""
MOST_STATES: Final = 8
"""User states of a query, at most."""
MOST_ROWS: Final = 64
"""Clicked rows of a query, at most."""

STATES_TYPE: Final = "application/vnd.device-cloud.query-states"
ROWS_TYPE: Final = "application/vnd.device-cloud.query-rows"
RANDOM_TYPE: Final = "application/vnd.device-cloud.query-random"
QUERY_TYPES: Final = (STATES_TYPE, ROWS_TYPE, RANDOM_TYPE)

SampleForm = Literal["half", "int8"]
"""How the states of an answer travel: float16, or int8 with a scale for each state."""
SAMPLE_TYPES: Final[dict[SampleForm, str]] = {
    "half": "application/vnd.device-cloud.samples-half",
    "int8": "application/vnd.device-cloud.samples-int8",
}
DEFAULT_FORM: Final[SampleForm] = "int8"
"""The smaller one. What protects users is the pool, not the precision (docs/how-to)."""

COUNT_HEADER: Final = "sample-count"
"""Header of a query: how many samples it wants."""
CHECK_HEADER: Final = "sample-check"
"""Header of an answer: CRC-32 of the query followed by the answer; see `check_of`."""


class WrongQueryType(WrongMediaType):
    title = "A query for samples holds states, rows or nothing"


class NoSuchForm(NotAcceptable):
    title = "Samples travel in two forms, and this is neither"


class BadCount(WireError):
    code = "bad-count"
    title = "The number of samples is out of range"


class Query(NamedTuple):
    """What samples are to be near to; with neither states nor rows they are random.

    Attributes:
        states: user states, (1 to MOST_STATES, D) float32.
        rows: rows of the items that were clicked last, (1 to MOST_ROWS,) int64, oldest first.
    """

    states: Floats | None = None
    rows: Int64 | None = None


class Samples(NamedTuple):
    """Samples of one model version.

    Attributes:
        states: user states before a click, (n, D) float32.
        rows: the clicked items, rows of the item table, (n,) int64.
    """

    states: Floats
    rows: Int64


def samples_path(version: str) -> str:
    """The URL path for samples of a model version."""
    return f"/v1/models/{version}/samples"


def check_of(query: bytes, answer: bytes) -> str:
    """CRC-32 of a query followed by its answer, as 8 hex digits."""
    return f"{zlib.crc32(answer, zlib.crc32(query)):08x}"


class SampleWire:
    """Encodes and decodes queries and samples of a model with width `dim` and `items` items."""

    def __init__(self, dim: int, items: int) -> None:
        self._dim, self._items = dim, items

    def sample_bytes(self, form: SampleForm) -> int:
        """Bytes of one sample in an answer."""
        state = self._dim * HALF.itemsize if form == "half" else self._dim + FLOAT.itemsize
        return state + ROW.itemsize

    def encode_query(self, query: Query) -> tuple[str, bytes]:
        """The media type and the body of a query. Raises as `decode_query`."""
        if query.states is not None and query.rows is not None:
            raise WrongQueryType("a query has states or rows, not both")
        if query.states is not None:
            with np.errstate(over="ignore"):
                body = np.ascontiguousarray(query.states, HALF).tobytes()
            media_type = STATES_TYPE
        elif query.rows is not None:
            rows = np.asarray(query.rows, np.int64)
            self._check_rows(rows)
            media_type, body = ROWS_TYPE, rows.astype(ROW).tobytes()
        else:
            media_type, body = RANDOM_TYPE, b""
        self.decode_query(media_type, body)
        return media_type, body

    def decode_query(self, media_type: str, body: bytes) -> Query:
        """Decodes a query.

        Raises WrongQueryType, WrongLength, NotFinite, or UnknownItem for a row out of range.
        """
        if media_type == RANDOM_TYPE:
            if body:
                raise WrongLength(f"a query for random samples has no body, got {len(body)} bytes")
            return Query()
        if media_type == STATES_TYPE:
            size = HALF.itemsize * self._dim
            _check_multiple(len(body), size, MOST_STATES, "states")
            states = np.frombuffer(body, HALF).astype(np.float32).reshape(-1, self._dim)
            if not np.isfinite(states).all() or not states.any(axis=1).all():
                raise NotFinite("every number of a state must be finite, and no state all zero")
            return Query(states=states)
        if media_type == ROWS_TYPE:
            _check_multiple(len(body), ROW.itemsize, MOST_ROWS, "rows")
            rows = np.frombuffer(body, ROW).astype(np.int64)
            self._check_rows(rows)
            return Query(rows=rows)
        raise WrongQueryType(f"a query is one of {', '.join(QUERY_TYPES)}")

    def encode_samples(self, samples: Samples, form: SampleForm) -> bytes:
        """Encodes samples: all states, in int8 their scales, then all rows. Raises NotFinite."""
        states, rows = samples.states, samples.rows.astype(ROW).tobytes()
        if not _are_sound(states):
            raise NotFinite("a state of the pool is not finite")
        if form == "half":
            with np.errstate(over="ignore"):
                narrow = np.ascontiguousarray(states, HALF)
            if not np.isfinite(narrow).all():
                raise NotFinite("a number of a state is too large for float16")
            return b"".join((narrow.tobytes(), rows))
        largest = np.abs(states).max(axis=1, initial=0.0, keepdims=True)
        scales = (largest / np.float32(_LARGEST_CODE)).astype(FLOAT)
        codes = np.rint(states / np.where(scales > 0.0, scales, np.float32(1.0)))
        return b"".join((codes.astype(_CODE).tobytes(), scales.tobytes(), rows))

    def decode_samples(self, body: bytes, form: SampleForm, most: int = MOST_SAMPLES) -> Samples:
        """Decodes 1 to `most` samples.

        Raises WrongLength, NotFinite, or UnknownItem for a row out of range.
        """
        _check_multiple(len(body), self.sample_bytes(form), most, "samples")
        count = len(body) // self.sample_bytes(form)
        numbers = count * self._dim
        if form == "half":
            states = np.frombuffer(body, HALF, numbers).astype(np.float32)
            states = states.reshape(count, self._dim)
        else:
            codes = np.frombuffer(body, _CODE, numbers).astype(np.float32)
            scales = np.frombuffer(body, FLOAT, count, numbers)
            if not _are_sound(scales) or (scales < 0).any():
                raise NotFinite("the scale of a state is not a finite number above zero")
            states = codes.reshape(count, self._dim) * scales[:, None]
        if not _are_sound(states):
            raise NotFinite(f"every number must be finite, and at most {LARGEST:g} in size")
        rows = np.frombuffer(body, ROW, count, len(body) - count * ROW.itemsize).astype(np.int64)
        self._check_rows(rows)
        return Samples(states, rows)

    def _check_rows(self, rows: Int64) -> None:
        if len(rows) and not 1 <= int(rows.min()) <= int(rows.max()) <= self._items:
            raise UnknownItem(f"rows go from 1 to {self._items:,}")


def _check_multiple(length: int, size: int, most: int, payload: str) -> None:
    if not length or length % size or length > most * size:
        raise WrongLength(f"1 to {most} {payload} of {size} bytes each, got {length} bytes")


def _are_sound(numbers: Floats) -> bool:
    """Whether every number is finite and at most LARGEST in absolute value."""
    return bool((np.abs(numbers) <= LARGEST).all())  # NaN compares as false
