"""The wire format: H up, the correction down, as raw little-endian numbers (shared/WIRE.md).

Everything a payload can get wrong is found here, on both sides, before anything is computed.
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
"""A correction at every place of the segment, or at the last click alone; in float32, or with H and
correction in float16."""


class Layout(NamedTuple):
    """How H and the correction of one form travel."""

    hidden_type: str
    correction_type: str
    row: bool
    """The last click's row alone: the compact form."""
    half: bool
    """In float16."""


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
"""No number on the wire is larger: sums of squares of larger ones overflow float32."""

VERSION_HEADER: Final = "model-version"
"""Names the model version an answer was computed with."""


class FullCorrection(NamedTuple):
    """Both corrections at every place of the segment, before Eq. 14."""

    attn: Array
    """(heads, K, K)"""
    bias: Array
    """(heads, K, f)"""


class RowCorrection(NamedTuple):
    """The rows of the last click: all of a correction that reaches a score."""

    attn: Array
    """(heads, K)"""
    bias: Array
    """(heads, f)"""


DEADLINE_HEADER: Final = "correction-deadline"
"""Milliseconds after which the device has no use for the answer; it counts from the head."""


CHECK_HEADER: Final = "correction-check"
"""Says which H an answer is for, and that its bytes are the ones sent; see `check_of`."""


def check_of(hidden: bytes | bytearray | memoryview, correction: bytes) -> str:
    """CRC-32 of H and then of the correction, as 8 hex digits: one microsecond each."""
    return f"{zlib.crc32(correction, zlib.crc32(hidden)):08x}"


def correction_path(version: str) -> str:
    """Where a model version's corrections are asked for."""
    return f"/v1/models/{version}/correction"


class Wire:
    """Encodes and decodes the payloads of one model's shape, in float32 or, `half`, in float16.

    Arrays are float32 either way; float16 holds 3 digits, and no number over 65,504.
    """

    def __init__(self, settings: ModelSettings, *, half: bool = False) -> None:
        self.settings = settings
        self.number = HALF if half else FLOAT
        """How a number travels."""
        h, k, f = settings.heads, settings.segment, settings.head_dim
        self.hidden_bytes = settings.hidden_bytes // (2 if half else 1)
        self.correction_bytes = settings.correction_bytes // (2 if half else 1)
        self.row_bytes = settings.row_bytes // (2 if half else 1)
        self._hidden_shape = (k, settings.dim)
        self._full_shapes = (h, k, k), (h, k, f)
        self._row_shapes = (h, k), (h, f)
        self._full_cut, self._row_cut = h * k * k, h * k

    def answer_bytes(self, form: Form) -> int:
        """Bytes of a correction in this form, whose precision is this wire's."""
        return self.row_bytes if FORMS[form].row else self.correction_bytes

    def encode_hidden(self, hidden: Array) -> bytes:
        """H of (1..K, dim), padded with zero rows at the end, as bytes.

        Raises WrongLength for another shape, NotFinite and EmptyHidden as `decode_hidden` does.
        """
        rows, dim = hidden.shape
        if dim != self._hidden_shape[1] or not 1 <= rows <= self._hidden_shape[0]:
            raise WrongLength(f"H is {hidden.shape}, this model takes up to {self._hidden_shape}")
        padded = np.zeros(self._hidden_shape, np.float32)
        padded[:rows] = hidden
        check_hidden(padded)
        return self._bytes(padded)

    def decode_hidden(self, body: bytes | bytearray | memoryview) -> Array:
        """H (K, dim); in float32 a read-only view on `body`.

        Raises WrongLength, NotFinite, or EmptyHidden where every row is zero.
        """
        _check_length(len(body), self.hidden_bytes, "H")
        hidden = self._numbers(body).reshape(self._hidden_shape)
        check_hidden(hidden)
        return hidden

    @staticmethod
    def are_sound(hidden: Array) -> bool:
        """Whether `check_hidden` would pass every H of (B, K, dim): one look tells nearly all."""
        flat = hidden.reshape(len(hidden), -1)
        squares = np.einsum("bi,bi->b", flat, flat)
        return bool(squares.min() > 0.0 and squares.max() <= LARGEST)  # NaN compares as false

    def encode_full(self, correction: FullCorrection) -> bytes:
        """The full form: `attn`, then `bias`."""
        return self._encode(correction, self._full_shapes)

    def encode_row(self, correction: RowCorrection) -> bytes:
        """The compact form: the last click's row of `attn`, then of `bias`."""
        return self._encode(correction, self._row_shapes)

    def decode_full(self, body: bytes | bytearray | memoryview) -> FullCorrection:
        """In float32 views on `body`. Raises WrongLength or NotFinite."""
        return FullCorrection(*_parts(self._full(body), self._full_cut, self._full_shapes))

    def decode_row(self, body: bytes | bytearray | memoryview) -> RowCorrection:
        """In float32 views on `body`. Raises WrongLength or NotFinite."""
        floats = self._checked(body, self.row_bytes, "a correction in the row form")
        return RowCorrection(*_parts(floats, self._row_cut, self._row_shapes))

    def decode_row_at(self, body: bytes | bytearray | memoryview, place: int) -> RowCorrection:
        """Of the full form the row of a last click at `place`; all of it is checked.

        Raises WrongLength or NotFinite.
        """
        floats = self._full(body)
        # Two views by their strides: slices of slices take three times as long.
        (h, k, _), (_, _, f) = self._full_shapes
        attn = np.ndarray((h, k), FLOAT, floats, 4 * place * k, (4 * k * k, 4))
        at = 4 * (self._full_cut + place * f)
        return RowCorrection(attn, np.ndarray((h, f), FLOAT, floats, at, (4 * k * f, 4)))

    def _encode(self, arrays: tuple[Array, Array], shapes: tuple[tuple[int, ...], ...]) -> bytes:
        for array, shape in zip(arrays, shapes, strict=True):
            if array.shape != shape:
                raise WrongLength(f"a part of the correction is {array.shape}, not {shape}")
            _check_finite(array)
        return b"".join(self._bytes(array) for array in arrays)

    def _bytes(self, array: Array) -> bytes:
        narrow = narrowed(array, self.number)
        if narrow is None:
            raise NotFinite("a number is too large for float16")
        return narrow.tobytes()

    def _numbers(self, body: bytes | bytearray | memoryview) -> Array:
        if self.number is FLOAT:
            return np.frombuffer(body, FLOAT)
        return np.frombuffer(body, HALF).astype(np.float32)

    def _full(self, body: bytes | bytearray | memoryview) -> Array:
        return self._checked(body, self.correction_bytes, "a correction in the full form")

    def _checked(self, body: bytes | bytearray | memoryview, size: int, what: str) -> Array:
        """The numbers of a correction. Raises WrongLength or NotFinite."""
        _check_length(len(body), size, what)
        floats = self._numbers(body)
        _check_finite(floats)
        return floats


def _parts(
    floats: Array, cut: int, shapes: tuple[tuple[int, ...], tuple[int, ...]]
) -> tuple[Array, Array]:
    return floats[:cut].reshape(shapes[0]), floats[cut:].reshape(shapes[1])


def narrowed(array: Array, number: np.dtype[Any]) -> NDArray[Any] | None:
    """Finite `array` as `number`, FLOAT or HALF; None where float16 cannot hold it."""
    if number is FLOAT:
        return np.ascontiguousarray(array, FLOAT)
    with np.errstate(over="ignore"):
        narrow = np.ascontiguousarray(array, HALF)
    return narrow if np.isfinite(narrow).all() else None


def _check_length(got: int, want: int, what: str) -> None:
    if got != want:
        raise WrongLength(f"{what} is {want} bytes for this model, got {got}")


def all_finite(array: Array) -> bool:
    """Whether every number is finite and at most LARGEST in size."""
    if _square(array) <= LARGEST:  # one pass, which tells nearly all
        return True
    return bool(np.abs(array).max() <= LARGEST)  # NaN compares as false


def _square(array: Array) -> float:
    # Not `dot`, which warns where a sum overflows: to keep it from that costs more than the sum.
    return float(np.vdot(array, array))


def _check_finite(array: Array) -> None:
    if not all_finite(array):
        raise NotFinite(f"every number must be finite, and at most {LARGEST:g} in size")


def check_hidden(hidden: Array) -> None:
    """Raises NotFinite, or EmptyHidden where every row is zero."""
    if 0.0 < _square(hidden) <= LARGEST:  # one pass: sound, and not empty
        return
    _check_finite(hidden)
    if not hidden.any():
        raise EmptyHidden("every row of H is zero: send it after the first click")
