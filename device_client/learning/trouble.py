"""What can go wrong with the store: the terms of its counts. None of them stops a ranking."""

import errno
from enum import StrEnum


class StoreTrouble(StrEnum):
    """Why something was not kept on the disk. `meaning` explains it."""

    meaning: str

    def __new__(cls, value: str, meaning: str) -> "StoreTrouble":
        """A member is its term, with the explanation as an attribute."""
        member = str.__new__(cls, value)
        member._value_ = value
        member.meaning = meaning
        return member

    DISK_FULL = "disk_full", "The disk, the quota or the limit of a file's size is reached."
    READ_ONLY = "read_only", "The folder cannot be written to, or belongs to another user."
    IO_ERROR = "io_error", "The disk or the system reported another error."
    REMOVED = "removed", "The folder or the log was removed while the store was open."
    TOO_LARGE = "too_large", "One record or state is larger than the store takes."
    DAMAGED_LOG = "damaged_log", "Bytes of the log were not what was written, and were lost."
    DAMAGED_STATE = "damaged_state", "A state was not what was written, and is absent now."
    FORKED = "forked", "The process is a copy of the one that opened the store."
    CLOSED = "closed", "The store was used after it was closed."


_BY_NUMBER = {
    errno.ENOSPC: StoreTrouble.DISK_FULL,
    errno.EDQUOT: StoreTrouble.DISK_FULL,
    errno.EFBIG: StoreTrouble.DISK_FULL,
    errno.EROFS: StoreTrouble.READ_ONLY,
    errno.EACCES: StoreTrouble.READ_ONLY,
    errno.EPERM: StoreTrouble.READ_ONLY,
    errno.ENOENT: StoreTrouble.REMOVED,
}


def trouble_of(error: OSError) -> StoreTrouble:
    """The trouble that an error of the system is."""
    return _BY_NUMBER.get(error.errno or 0, StoreTrouble.IO_ERROR)
