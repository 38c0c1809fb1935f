"""The folder of a store: who may open it, what lies in it, and how all of it is removed.

    clicks.log       clicks and lists shown (click_log.py)
    state-NAME       a state of the learner, whole or absent
    forgetting       empty, while `erase` is at work: it is finished at the next start
    .NAME.X.draft    a file that was being written when the process was killed

The lock is one on the folder itself, so that no file is needed for it, and goes when the process
ends, however it ends.
"""

import errno
import fcntl
import os
import re
import stat
from contextlib import suppress
from pathlib import Path
from typing import Final
from zlib import crc32

from shared.errors import NotForgotten, StoreInUse, StoreUnusable
from shared.whole_file import sync, write_whole

LOG_NAME: Final = "clicks.log"
FORGETTING: Final = "forgetting"
LARGEST_STATE: Final = 256 * 1024
"""Limit of a state in bytes."""
STATE_NAME: Final = re.compile(r"[a-z][a-z0-9_-]{0,31}")
_KEPT = rf"{re.escape(LOG_NAME)}|state-{STATE_NAME.pattern}"
_OURS = re.compile(rf"{_KEPT}|\.(?:{_KEPT})\.[0-9a-f]{{8}}\.draft")
_DRAFT = re.compile(rf"\.(?:{_KEPT})\.[0-9a-f]{{8}}\.draft")
_STATE_MAGIC: Final = b"DCRS\x01\x00\x00\x00"
_STATE_HEAD: Final = len(_STATE_MAGIC) + 4
_SAFE: Final = os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK
"""Neither a link nor a pipe in place of a file leads or stops a reader."""
OWNER_ONLY: Final = 0o600


class DamagedState(Exception):
    """The file of a state is not one that this program wrote."""


class StoreFolder:
    """An open, locked folder. Create it with `StoreFolder.open`."""

    def __init__(self, path: Path, handle: int) -> None:
        self.path, self._handle = path, handle

    @classmethod
    def open(cls, path: Path) -> "StoreFolder":
        """Makes the folder if it is absent, and locks it.

        Raises StoreInUse if it is locked, StoreUnusable if the path is not a folder, and OSError
        if the folder can neither be made nor read.
        """
        path = path.absolute()
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            with suppress(FileExistsError):
                path.mkdir(mode=0o700)
            handle = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        except (NotADirectoryError, FileExistsError) as error:
            raise StoreUnusable(f"{path} is not a folder, or a part of it is not") from error
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            folder = cls(path, handle)
            folder._tidy()
        except BlockingIOError as error:
            os.close(handle)
            raise StoreInUse(f"{path} is open elsewhere: one store, one process") from error
        except BaseException:
            os.close(handle)
            raise
        return folder

    @property
    def log(self) -> Path:
        """The path of the log."""
        return self.path / LOG_NAME

    def open_log(self) -> tuple[int, bool] | None:
        """A handle of the log, and whether it can be written to; None if there is no log.

        Raises StoreUnusable if it is not a file, such as a link, and OSError.
        """
        handle, writable = None, True
        try:
            try:
                handle = os.open(self.log, os.O_RDWR | _SAFE)
            except OSError as error:
                if error.errno not in (errno.EROFS, errno.EACCES, errno.EPERM):
                    raise
                handle, writable = os.open(self.log, os.O_RDONLY | _SAFE), False
            if not stat.S_ISREG(os.fstat(handle).st_mode):
                os.close(handle)
                raise StoreUnusable(f"{LOG_NAME} is not a file")
        except FileNotFoundError:
            return None
        except OSError as error:
            if error.errno in (errno.ELOOP, errno.EISDIR, errno.ENXIO):
                raise StoreUnusable(f"{LOG_NAME} is not a file") from error
            raise
        with suppress(OSError):
            os.fchmod(handle, OWNER_ONLY)
        return handle, writable

    def write_state(self, name: str, content: bytes, *, durable: bool) -> None:
        """Writes a state whole. Raises OSError."""
        check = crc32(content, crc32(name.encode())).to_bytes(4, "little")
        document = b"".join((_STATE_MAGIC, check, content))
        write_whole(self._state(name), document, mode=OWNER_ONLY, durable=durable)

    def read_state(self, name: str) -> bytes | None:
        """A state; None if it is absent. Raises DamagedState and OSError."""
        try:
            handle = os.open(self._state(name), os.O_RDONLY | _SAFE)
        except FileNotFoundError:
            return None
        with os.fdopen(handle, "rb") as file:
            information = os.fstat(handle)
            if not stat.S_ISREG(information.st_mode):
                raise DamagedState("a state is not a file")
            if not _STATE_HEAD <= information.st_size <= _STATE_HEAD + LARGEST_STATE:
                raise DamagedState("a state has the wrong size")
            document = file.read(_STATE_HEAD + LARGEST_STATE)
        content = document[_STATE_HEAD:]
        check = int.from_bytes(document[len(_STATE_MAGIC) : _STATE_HEAD], "little")
        if document[: len(_STATE_MAGIC)] != _STATE_MAGIC:
            raise DamagedState("a state has another format")
        if check != crc32(content, crc32(name.encode())):
            raise DamagedState("a state is damaged, or has another name")
        return content

    def remove_state(self, name: str) -> None:
        """Removes a state, if it is there. Raises OSError."""
        self._state(name).unlink(missing_ok=True)

    def erase(self) -> None:
        """Removes every file of the store; other files of the folder stay.

        A process that is killed meanwhile leaves `forgetting`, and the next `open` goes on. Raises
        NotForgotten if a file is still there.
        """
        mark = self.path / FORGETTING
        with suppress(OSError):  # a full disk must not keep what is to be removed
            os.close(os.open(mark, os.O_CREAT | os.O_WRONLY | os.O_NOFOLLOW, OWNER_ONLY))
            os.fsync(self._handle)
        failures = [error for path in self._files(_OURS) for error in _removed(path)]
        if failures:
            raise NotForgotten(
                f"{len(failures)} files of the store are still there: {failures[0].strerror}"
            )
        try:
            sync(self.path)
            mark.unlink(missing_ok=True)
            sync(self.path)
        except OSError as error:
            raise NotForgotten(f"the disk did not confirm it: {error.strerror}") from error

    def close(self, *, unlock: bool = True) -> None:
        """Gives the lock back, also where a copy of the process holds the handle too; the copy
        itself must not unlock."""
        if unlock:
            with suppress(OSError):
                fcntl.flock(self._handle, fcntl.LOCK_UN)
        os.close(self._handle)

    def _tidy(self) -> None:
        """Finishes an `erase` that was cut off, removes drafts of killed processes, and makes a
        folder of the store's own readable by its owner only."""
        if (self.path / FORGETTING).exists():
            self.erase()
        with suppress(OSError):
            for path in self._files(_DRAFT):
                path.unlink()
            if all(_OURS.fullmatch(path.name) for path in self.path.iterdir()):
                os.fchmod(self._handle, 0o700)

    def _files(self, pattern: re.Pattern[str]) -> list[Path]:
        return [path for path in self.path.iterdir() if pattern.fullmatch(path.name)]

    def _state(self, name: str) -> Path:
        """The path of a state. Raises ValueError if the name is not of the fixed pattern."""
        if not STATE_NAME.fullmatch(name):
            raise ValueError("a state's name is a small letter, then small letters, digits, _ or -")
        return self.path / f"state-{name}"


def _removed(path: Path) -> list[OSError]:
    try:
        path.unlink(missing_ok=True)
    except OSError as error:
        return [error]
    return []
