"""The file of a log on the disk: appended to, or replaced whole."""

import os
from contextlib import suppress
from pathlib import Path
from typing import Final

from device_client.learning.click_log import FORMAT, HEAD_BYTES, LogContent, format_of, read_log
from device_client.learning.store_folder import OWNER_ONLY, StoreFolder
from shared.errors import StoreTooNew
from shared.whole_file import whole_path

_ACCESS: Final = os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC


class LogFile:
    """A log open for appending at byte `size`; what lies behind that was never written whole."""

    def __init__(self, handle: int, size: int) -> None:
        self._handle, self.size = handle, size

    @classmethod
    def replace(cls, path: Path, content: bytes, *, durable: bool) -> "LogFile":
        """A new file in the place of `path`. Raises OSError, with the old one as it was."""
        handle = None
        try:
            with whole_path(path, mode=OWNER_ONLY, durable=durable) as draft:
                handle = os.open(draft, _ACCESS)
                _write(handle, content, 0)
        except BaseException:
            if handle is not None:
                os.close(handle)
            raise
        return cls(handle, len(content))

    def append(self, records: bytes, *, durable: bool) -> None:
        """Writes records at the end; with `durable`, waits until they are on the disk.

        Raises OSError, with `size` as it was: the next call writes over what was written by half.
        """
        _write(self._handle, records, self.size)
        if durable:
            os.fsync(self._handle)
        self.size += len(records)

    def cut(self) -> None:
        """Removes what lies behind `size`. Raises OSError."""
        os.ftruncate(self._handle, self.size)

    def is_removed(self) -> bool:
        """Whether the file has no name any more: what is appended to it would be lost."""
        return os.fstat(self._handle).st_nlink == 0

    def close(self) -> None:
        """Closes the file."""
        os.close(self._handle)


def _write(handle: int, content: bytes, at: int) -> None:
    """Writes all of `content`; a disk that is nearly full takes only a part at first."""
    written = 0
    while written < len(content):
        written += os.pwrite(handle, content[written:] if written else content, at + written)


def load_log(folder: StoreFolder, max_bytes: int) -> tuple[LogFile | None, LogContent]:
    """The log of a folder and its content; no file if it must be written anew before it grows.

    Reads `max_bytes` at most, the newest. Raises StoreTooNew, StoreUnusable and OSError.
    """
    opened = folder.open_log()
    if opened is None:
        return None, LogContent()
    handle, is_writable = opened
    log = LogFile(handle, os.fstat(handle).st_size)
    try:
        version = format_of(os.pread(handle, HEAD_BYTES, 0))
        if version is not None and version > FORMAT:
            raise StoreTooNew(f"the log has format {version}, and this program reads {FORMAT}")
        skipped = max(log.size - max_bytes, 0)
        content = read_log(os.pread(handle, log.size - skipped, skipped), is_tail=skipped > 0)
        if is_writable and not skipped and not content.damaged_bytes and content.size:
            log.size = content.size
            if content.torn_bytes:
                with suppress(OSError):  # the next record is written over it
                    log.cut()
            return log, content
    except BaseException:
        log.close()
        raise
    log.close()
    return None, content
