"""Creates and reads the admin token in the store, for a cloud without CLOUD_ADMIN_TOKEN.

Only the owner of the store can read the file, and everyone who can read it may administer the
cloud. No address gives that right.
"""

import errno
import os
import secrets
import stat
from pathlib import Path
from typing import ClassVar, Final

from shared.errors import RecommendationError
from shared.whole_file import write_whole

TOKEN_FILE: Final = "admin-token"
"""Name of the file in the store."""
TOKEN_LENGTH: Final = 8
"""Least number of characters of a token."""
_LARGEST: Final = 4096
_OTHERS: Final = stat.S_IRWXG | stat.S_IRWXO


def is_plain(token: bytes) -> bool:
    """Returns whether a token can be sent in a header: visible ASCII only."""
    return all(0x21 <= character <= 0x7E for character in token)


class AdminTokenError(RecommendationError):
    """The token file is unsafe or invalid."""

    code: ClassVar[str] = "admin-token"
    title: ClassVar[str] = "The admin token cannot be used"


def read_or_create_token(store: Path) -> str:
    """Returns the token of the store; creates it if there is none.

    Raises AdminTokenError if others can read the file or if it holds no valid token, and OSError
    if the file can be neither read nor written.
    """
    token = read_token(store)
    if token is None:
        _create(store / TOKEN_FILE)
        token = read_token(store)
    if token is None:
        raise AdminTokenError(f"{store / TOKEN_FILE} was removed while it was made: start again")
    return token


def read_token(store: Path) -> str | None:
    """Returns the token of the store, or None. Raises like `read_or_create_token`."""
    path = store / TOKEN_FILE
    try:
        file = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except FileNotFoundError:
        return None
    except OSError as error:
        if error.errno == errno.ELOOP:
            raise AdminTokenError(f"{path} is a link: put the file itself there") from None
        raise
    with os.fdopen(file, "rb") as opened:
        status = os.fstat(file)
        if not stat.S_ISREG(status.st_mode):
            raise AdminTokenError(f"{path} is no file: remove it, and serve makes a new token")
        if status.st_mode & _OTHERS:
            raise AdminTokenError(
                f"{path} is open to other users (mode {stat.S_IMODE(status.st_mode):04o}): remove "
                f"it, and serve makes a new token, or, if nobody has read it, chmod 600 {path}"
            )
        token = opened.read(_LARGEST + 1).strip()
    if not TOKEN_LENGTH <= len(token) <= _LARGEST or not is_plain(token):
        raise AdminTokenError(
            f"{path} holds no token of {TOKEN_LENGTH} or more visible ASCII characters: remove "
            "it, and serve makes a new one"
        )
    return token.decode("ascii")


def _create(path: Path) -> None:
    """Writes a new token atomically; other users can never read the file.

    The final name is a link to a complete draft: if two processes start at the same time, both use
    the token of the first.
    """
    token = secrets.token_urlsafe(32) + "\n"
    write_whole(path, token, mode=0o600, replace=False)
