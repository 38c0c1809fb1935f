"""The one way to write a file, or a folder, so that a reader sees the old one or the new one.

The content goes into a draft beside its place, reaches the disk, and takes the place by a rename.
A process that is killed, or a disk that is full, leaves what was there before.
"""

import fcntl
import os
import secrets
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Final

STALE_SECONDS: Final = 60.0
"""A draft of this age that no process holds was left by one that was killed."""


@contextmanager
def whole_path(
    path: Path, *, mode: int = 0o644, durable: bool = True, replace: bool = True
) -> Iterator[Path]:
    """The path of an empty draft that takes the place of `path` when the block ends well.

    Args:
        mode: the permissions; the draft never has others.
        durable: whether it also survives a loss of power, at the cost of two waits for the disk.
            Without, it is only for what is written again within seconds.
        replace: whether it takes the place of a file that is there; else that one stays.

    Raises OSError, with `path` as it was.
    """
    _sweep(path)
    draft = path.with_name(f".{path.name}.{secrets.token_hex(4)}.draft")
    flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    handle = os.open(draft, flags, mode)
    try:
        fcntl.flock(handle, fcntl.LOCK_SH)  # tells other processes that somebody writes it
        os.fchmod(handle, mode)  # whatever the umask is
        yield draft
        if durable:
            os.fsync(handle)
        if replace:
            put_in_place(draft, path, durable=durable)
        else:
            with suppress(FileExistsError):
                os.link(draft, path, follow_symlinks=False)
                sync(path.parent)
    finally:
        os.close(handle)
        draft.unlink(missing_ok=True)


@contextmanager
def whole_file(
    path: Path, *, mode: int = 0o644, durable: bool = True, replace: bool = True
) -> Iterator[IO[bytes]]:
    """A file to write that takes the place of `path` when the block ends well: `whole_path`."""
    with (
        whole_path(path, mode=mode, durable=durable, replace=replace) as draft,
        draft.open("wb") as file,
    ):
        yield file


def write_whole(
    path: Path,
    content: bytes | str,
    *,
    mode: int = 0o644,
    durable: bool = True,
    replace: bool = True,
) -> None:
    """Writes a file at once; text as UTF-8. Like `whole_file`."""
    data = content.encode("utf-8") if isinstance(content, str) else content
    with whole_file(path, mode=mode, durable=durable, replace=replace) as file:
        file.write(data)


def put_in_place(draft: Path, path: Path, *, durable: bool = True) -> None:
    """Renames a draft, a file or a folder whose content is on the disk, to `path`."""
    draft.replace(path)
    if durable:
        sync(path.parent)


def write_durable(path: Path, content: bytes) -> None:
    """Writes a file of a draft folder: it is on the disk before the folder is put in place."""
    with path.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())


def sync(path: Path) -> None:
    """Waits until a file, or the entries of a folder, are on the disk."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _sweep(path: Path) -> None:
    """Removes drafts of this file that processes left when they were killed."""
    for draft in path.parent.glob(f".{path.name}.*.draft"):
        with suppress(OSError):  # put in place, or swept by another, at this moment
            if time.time() - draft.stat().st_mtime > STALE_SECONDS and not is_held(draft):
                draft.unlink()


def is_held(draft: Path) -> bool:
    """Whether a process that lives is writing a draft, a file or a folder that it has locked."""
    handle = os.open(draft, os.O_RDONLY)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(handle)
    return False
