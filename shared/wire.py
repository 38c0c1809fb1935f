"""The wire format: H up, the correction down, as raw little-endian numbers (shared/WIRE.md).

Both sides check every payload here, before they compute anything with it.
"""

import zlib
from typing import Any, Final, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from shared.errors import EmptyHidden, NotFinite, WrongLength
from shared.model import ModelSettings

Array = NDArray[np.float32]

FLOAT: Final = np.dtype("<f4")
HALF: Final = np.dtype("<f2")

Form = Literal["full", "row", "full-half", "row-half"]
"""`full`: a correction for every click of the segment; `row`: for the last click only. `-half`: H
and the correction travel in float16, otherwise in float32."""


class Layout(NamedTuple):
    """How H and the correction of one form travel."""

    hidden_type: str
    correction_type: str
    row: bool
    """The compact form: the last click's row only."""
    half: bool
    """H and the correction travel in float16."""


HIDDEN_TYPE: Final = "application/octet-stream"
FULL_TYPE: Final = "application/octet-stream"
ROW_TYPE: Final = "application/vnd.device-cloud.correction-row"
HALF_HIDDEN_TYPE: Final = "application/vnd.device-cloud.hidden-half"
HALF_FULL_TYPE: Final = "application/vnd.device-cloud.correction-half"
HALF_ROW_TYPE: Final = "application/vnd.device-cloud.correction-row-half"

FORMS: Final[dict[Form, Layout]] = {
    "full": Layout(HIDDEN_TYPE, FULL_TYPE, row=False, half=False),
    "row": Layout(HIDDEN_TYPE, ROW_TYPE, row=True, half=False),
    "full-half": Layout(HALF_HIDDEN_TYPE, HALF_FULL_TYPE, row=False, half=True),
    "row-half": Layout(HALF_HIDDEN_TYPE, HALF_ROW_TYPE, row=True, half=True),
}

LARGEST: Final = 1e15
"""Largest absolute value on the wire: sums of squares of larger ones overflow float32."""

VERSION_HEADER: Final = "model-version"
"""Header with the model version that computed the answer."""


class FullCorrection(NamedTuple):
    """Both corrections for every click of the segment, before Eq. 14 of CoCorrRec."""

    attn: Array
    """(heads, K, K)"""
    bias: Array
    """(heads, K, f)"""


class RowCorrection(NamedTuple):
    """The rows of the last click, the only ones that change a score."""

    attn: Array
    """(heads, K)"""
    bias: Array
    """(heads, f)"""


DEADLINE_HEADER: Final = "correction-deadline"
"""Header: milliseconds, from the arrival of the request head, after which the answer is useless."""


CHECK_HEADER: Final = "correction-check"
"""Header with the checksum of H and the correction; see `check_of`."""


def check_of(hidden: bytes | bytearray | memoryview, correction: bytes) -> str:
    """CRC-32 of H followed by the correction, as 8 hex digits. Takes about 1 µs for each."""
    return f"{zlib.crc32(correction, zlib.crc32(hidden)):08x}"


def correction_path(version: str) -> str:
    """The URL path for corrections of a model version."""
    return f"/v1/models/{version}/correction"


class Wire:
    """Encodes and decodes the payloads of one model, in float32 or, with `half`, in float16.

    Arrays are float32 in both cases. float16 has 3 significant digits and a maximum of 65,504.
    """

    def __init__(self, settings: ModelSettings, *, half: bool = False) -> None:
        self.settings = settings
        self.wire_dtype = HALF if half else FLOAT
        """The type of every number in a body."""
        h, k, f = settings.heads, settings.segment, settings.head_dim
        self.hidden_bytes = settings.hidden_bytes // (2 if half else 1)
        self.correction_bytes = settings.correction_bytes // (2 if half else 1)
        self.row_bytes = settings.row_bytes // (2 if half else 1)
        self._hidden_shape = (k, settings.dim)
        self._full_shapes = (h, k, k), (h, k, f)
        self._row_shapes = (h, k), (h, f)
        self._full_attn_size, self._row_attn_size = h * k * k, h * k

    def answer_bytes(self, form: Form) -> int:
        """Bytes of a correction, full or compact, in the precision of this wire."""
        return self.row_bytes if FORMS[form].row else self.correction_bytes

    def encode_hidden(self, hidden: Array) -> bytes:
        """Encodes H, (1..K, dim), padded with zero rows at the end.

        Raises WrongLength for another shape; NotFinite and EmptyHidden as `decode_hidden` does.
        """
        rows, dim = hidden.shape
        if dim != self._hidden_shape[1] or not 1 <= rows <= self._hidden_shape[0]:
            raise WrongLength(f"H is {hidden.shape}, this model takes up to {self._hidden_shape}")
        padded = np.zeros(self._hidden_shape, np.float32)
        padded[:rows] = hidden
        check_hidden(padded)
        return self._bytes(padded)

    def decode_hidden(self, body: bytes | bytearray | memoryview) -> Array:
        """Decodes H, (K, dim); in float32 it is a read-only view of `body`.

        Raises WrongLength, NotFinite, or EmptyHidden if every row is zero.
        """
        _check_length(len(body), self.hidden_bytes, "H")
        hidden = self._floats(body).reshape(self._hidden_shape)
        check_hidden(hidden)
        return hidden

    @staticmethod
    def are_sound(hidden: Array) -> bool:
        """Whether `check_hidden` would accept every H of (B, K, dim): a fast test in one pass.

        May be False for H with very large but valid numbers; then check each by itself.
        """
        flat = hidden.reshape(len(hidden), -1)
        squares = np.einsum("bi,bi->b", flat, flat)
        return bool(squares.min() > 0.0 and squares.max() <= LARGEST)  # NaN compares as false

    def encode_full(self, correction: FullCorrection) -> bytes:
        """Encodes the full form: `attn`, then `bias`."""
        return self._encode(correction, self._full_shapes)

    def encode_row(self, correction: RowCorrection) -> bytes:
        """Encodes the compact form: the last click's row of `attn`, then of `bias`."""
        return self._encode(correction, self._row_shapes)

    def decode_full(self, body: bytes | bytearray | memoryview) -> FullCorrection:
        """Decodes to arrays, in float32 views of `body`. Raises WrongLength or NotFinite."""
        return FullCorrection(
            *_reshape_pair(self._full(body), self._full_attn_size, self._full_shapes)
        )

    def decode_row(self, body: bytes | bytearray | memoryview) -> RowCorrection:
        """Decodes to arrays, in float32 views of `body`. Raises WrongLength or NotFinite."""
        floats = self._checked(body, self.row_bytes, "a correction in the row form")
        return RowCorrection(*_reshape_pair(floats, self._row_attn_size, self._row_shapes))

    def decode_row_at(self, body: bytes | bytearray | memoryview, position: int) -> RowCorrection:
        """Decodes the row of a full correction for a last click at `position` (from 0).

        Checks the whole correction. Raises WrongLength or NotFinite.
        """
        floats = self._full(body)
        # Two views made from strides: slicing twice takes three times as long.
        (h, k, _), (_, _, f) = self._full_shapes
        attn = np.ndarray((h, k), FLOAT, floats, 4 * position * k, (4 * k * k, 4))
        at = 4 * (self._full_attn_size + position * f)
        return RowCorrection(attn, np.ndarray((h, f), FLOAT, floats, at, (4 * k * f, 4)))

    def _encode(self, arrays: tuple[Array, Array], shapes: tuple[tuple[int, ...], ...]) -> bytes:
        for array, shape in zip(arrays, shapes, strict=True):
            if array.shape != shape:
                raise WrongLength(f"a part of the correction is {array.shape}, not {shape}")
            _check_finite(array)
        return b"".join(self._bytes(array) for array in arrays)

    def _bytes(self, array: Array) -> bytes:
        narrow = narrowed(array, self.wire_dtype)
        if narrow is None:
            raise NotFinite("a number is too large for float16")
        return narrow.tobytes()

    def _floats(self, body: bytes | bytearray | memoryview) -> Array:
        if self.wire_dtype is FLOAT:
            return np.frombuffer(body, FLOAT)
        return np.frombuffer(body, HALF).astype(np.float32)

    def _full(self, body: bytes | bytearray | memoryview) -> Array:
        return self._checked(body, self.correction_bytes, "a correction in the full form")

    def _checked(self, body: bytes | bytearray | memoryview, size: int, payload: str) -> Array:
        """The checked numbers of a correction. Raises WrongLength or NotFinite."""
        _check_length(len(body), size, payload)
        floats = self._floats(body)
        _check_finite(floats)
        return floats


def _reshape_pair(
    floats: Array, attn_size: int, shapes: tuple[tuple[int, ...], tuple[int, ...]]
) -> tuple[Array, Array]:
    return floats[:attn_size].reshape(shapes[0]), floats[attn_size:].reshape(shapes[1])


def narrowed(array: Array, wire_dtype: np.dtype[Any]) -> NDArray[Any] | None:
    """Converts a finite `array` to FLOAT or HALF; None if a number is too large for float16."""
    if wire_dtype is FLOAT:
        return np.ascontiguousarray(array, FLOAT)
    with np.errstate(over="ignore"):
        narrow = np.ascontiguousarray(array, HALF)
    return narrow if np.isfinite(narrow).all() else None


def _check_length(got: int, want: int, payload: str) -> None:
    if got != want:
        raise WrongLength(f"{payload} is {want} bytes for this model, got {got}")


def all_finite(array: Array) -> bool:
    """Whether every number is finite and at most LARGEST in absolute value."""
    if _sum_of_squares(array) <= LARGEST:  # one pass is enough for nearly every array
        return True
    return bool(np.abs(array).max() <= LARGEST)  # NaN compares as false


def _sum_of_squares(array: Array) -> float:
    # Not `dot`: it warns when a sum overflows, and suppressing that costs more than the sum.
    return float(np.vdot(array, array))


def _check_finite(array: Array) -> None:
    if not all_finite(array):
        raise NotFinite(f"every number must be finite, and at most {LARGEST:g} in size")


def check_hidden(hidden: Array) -> None:
    """Raises NotFinite, or EmptyHidden if every row is zero."""
    if 0.0 < _sum_of_squares(hidden) <= LARGEST:  # one pass: finite, and not all zero
        return
    _check_finite(hidden)
    if not hidden.any():
        raise EmptyHidden("every row of H is zero: send it after the first click")
