"""The patch: few numbers, trained on this device, that fit the network to its user.

A patch belongs to the bundle that it was trained with. `Patch` is what is stored, `AppliedPatch`
what the SCN adds to its user state; an all-zero patch changes no score.
"""

import struct
import zlib
from dataclasses import dataclass
from typing import Final, get_args

import numpy as np
from numpy.typing import NDArray

from device_client.bundle import Bundle
from shared import bundle as files
from shared.errors import BundleInvalid, PatchInvalid, StalePatch
from shared.learning import PatchForm, PatchSettings

Floats = NDArray[np.float32]

LARGEST: Final = 1000.0
"""No number of a patch is larger: user states are of the order of 1."""
RANK: Final = 2
"""Rank of the map that one number of a metapatch scales (shared/GRAPHS.md)."""
_MAGIC: Final = b"PATCH\x01"
_HEAD: Final = struct.Struct("<6sBB16sI")
_CHECK: Final = struct.Struct("<I")
_FORMS: Final[tuple[PatchForm, ...]] = get_args(PatchForm)


@dataclass(frozen=True, eq=False)
class Patch:
    """The numbers of a patch (P,), and the version of the bundle that they belong to.

    `adopted`: whether rankings use it.
    """

    form: PatchForm
    numbers: Floats
    version: str
    adopted: bool = True

    def to_bytes(self) -> bytes:
        """Magic, form, adopted, version, count, the numbers (little-endian), and a CRC-32."""
        form, version = _FORMS.index(self.form), self.version.encode("ascii")
        head = _HEAD.pack(_MAGIC, form, self.adopted, version, len(self.numbers))
        content = head + self.numbers.astype("<f4").tobytes()
        return content + _CHECK.pack(zlib.crc32(content))

    @classmethod
    def from_bytes(cls, content: bytes, bundle: Bundle) -> "Patch":
        """The patch of `bundle` that was stored.

        Raises StalePatch if it belongs to another bundle, PatchInvalid if it is damaged, not
        finite, too large, or not of this bundle's form and size.
        """
        settings = patch_settings(bundle)
        if settings is None:
            raise StalePatch("the bundle in use has no patch")
        size = patch_size(settings, bundle)
        if not _HEAD.size + _CHECK.size <= len(content) <= _HEAD.size + _CHECK.size + (1 << 20):
            raise PatchInvalid(f"{len(content):,} bytes are no patch")
        magic, form, adopted, version, count = _HEAD.unpack_from(content)
        body, check = content[: -_CHECK.size], content[-_CHECK.size :]
        if magic != _MAGIC or _CHECK.unpack(check) != (zlib.crc32(body),):
            raise PatchInvalid("the stored bytes are no patch, or were damaged")
        if version != bundle.version.encode("ascii"):
            raise StalePatch("the stored patch belongs to another bundle than the one in use")
        numbers = np.frombuffer(body[_HEAD.size :], "<f4").astype(np.float32)
        if (
            form >= len(_FORMS)
            or _FORMS[form] != settings.form
            or not count == len(numbers) == size
        ):
            raise PatchInvalid(f"this bundle has a {settings.form} of {size} numbers")
        if not is_sound(numbers):
            raise PatchInvalid("the stored patch has numbers that are not finite, or too large")
        return cls(settings.form, numbers, bundle.version, bool(adopted))


class AppliedPatch:
    """What a patch adds to a user state (1, D): a shift, or what a residual map makes of it."""

    def __init__(
        self, shift: Floats, matrix: Floats | None = None, corrected_share: float = 1.0
    ) -> None:
        """`shift` is (1, D); `matrix` is (D, D), transposed: added is user @ matrix + shift."""
        self._shift, self._matrix = shift, matrix
        self._share = np.float32(corrected_share)
        self._share_of_shift = shift * self._share

    def apply(self, user: Floats, out: Floats, *, corrected: bool) -> None:
        """Writes the patched user state to `out`.

        `corrected`: a correction changes it too, and only the settings' share of the patch counts.
        """
        if self._matrix is not None:
            added = user @ self._matrix + self._shift
            np.add(user, self._share * added if corrected else added, out=out)
        else:
            np.add(user, self._share_of_shift if corrected else self._shift, out=out)


class PatchedUser:
    """The user state that `rank` reads: that of `prepare`, with a patch."""

    def __init__(self, user: Floats) -> None:
        """`user` (1, D) is what `prepare` writes to."""
        self._user = user
        self.state: Floats = user.copy()
        """(1, D)"""
        self._patch: AppliedPatch | None = None
        self._is_corrected = False

    def write(self, patch: AppliedPatch | None, *, corrected: bool) -> None:
        """Writes the state anew, after `prepare`."""
        self._patch, self._is_corrected = patch, corrected
        if patch is None:
            self.state[...] = self._user
        else:
            patch.apply(self._user, self.state, corrected=corrected)

    def update(self, patch: AppliedPatch | None, *, corrected: bool) -> None:
        """Writes it anew if the patch is another one, or counts differently."""
        if patch is not self._patch or corrected != self._is_corrected:
            self.write(patch, corrected=corrected)


class Basis:
    """The basis of a metapatch at the user state: what its few numbers scale (GRAPHS.md)."""

    def __init__(self, bundle: Bundle, settings: PatchSettings) -> None:
        """Raises BundleInvalid where the file is not that of the settings."""
        d = bundle.manifest.model.dim
        shape = len(settings.junctions), settings.size, 2 * RANK + 1, d
        try:
            basis = np.load(bundle.graph(files.BASIS), allow_pickle=False)
        except (OSError, ValueError) as error:
            raise BundleInvalid(f"{files.BASIS} is not a numpy array: {error}") from error
        if basis.shape != shape or basis.dtype != np.float32 or not np.isfinite(basis).all():
            raise BundleInvalid(f"{files.BASIS} holds {basis.dtype} {basis.shape}, not {shape}")
        self._down = np.ascontiguousarray(basis[0, :, :RANK]).reshape(-1, d)
        self._up = np.ascontiguousarray(basis[0, :, RANK : 2 * RANK]).reshape(-1, d)
        self._bias: Floats = np.ascontiguousarray(basis[0, :, 2 * RANK])

    def map(self, numbers: Floats) -> tuple[Floats, Floats]:
        """The transposed matrix (D, D) and the bias (1, D) of a patch."""
        scale = np.repeat(numbers, RANK)[:, None]
        return self._down.T @ (self._up * scale), (numbers @ self._bias)[None]


def patch_settings(bundle: Bundle) -> PatchSettings | None:
    """The patch that a bundle's device learns; None without one."""
    learning = bundle.manifest.learning
    return None if learning is None else learning.patch


def patch_size(settings: PatchSettings, bundle: Bundle) -> int:
    """P, how many numbers its device learns."""
    return bundle.manifest.model.dim if settings.form == "shift" else settings.size


def is_sound(numbers: Floats) -> bool:
    """Whether all numbers are finite and not too large."""
    return bool(np.isfinite(numbers).all() and (np.abs(numbers) <= LARGEST).all())
