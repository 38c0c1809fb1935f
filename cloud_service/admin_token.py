"""The admin token of a cloud that was given none: made once, kept in its store for its owner alone.

Whoever may read the file may administer the cloud; no address ever may.
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
"""In the store."""
TOKEN_LENGTH: Final = 8
"""Characters of a token, at least."""
_LARGEST: Final = 4096
_OTHERS: Final = stat.S_IRWXG | stat.S_IRWXO


def is_plain(token: bytes) -> bool:
    """Whether it can stand in a header: visible ASCII alone."""
    return all(0x21 <= character <= 0x7E for character in token)


class AdminTokenError(RecommendationError):
    """A file of a token that must not be used."""

    code: ClassVar[str] = "admin-token"
    title: ClassVar[str] = "The admin token cannot be used"


def kept_token(store: Path) -> str:
    """The store's token, made now where there is none.

    Raises AdminTokenError for a file that others can read or that holds no token, and OSError
    where it can be neither read nor written.
    """
    token = read_token(store)
    if token is None:
        _make(store / TOKEN_FILE)
        token = read_token(store)
    if token is None:
        raise AdminTokenError(f"{store / TOKEN_FILE} was removed while it was made: start again")
    return token


def read_token(store: Path) -> str | None:
    """The store's token; None where it has none. Raises as `kept_token`."""
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
        found = os.fstat(file)
        if not stat.S_ISREG(found.st_mode):
            raise AdminTokenError(f"{path} is no file: remove it, and serve makes a new token")
        if found.st_mode & _OTHERS:
            raise AdminTokenError(
                f"{path} is open to other users (mode {stat.S_IMODE(found.st_mode):04o}): remove "
                f"it, and serve makes a new token, or, if nobody has read it, chmod 600 {path}"
            )
        token = opened.read(_LARGEST + 1).strip()
    if not TOKEN_LENGTH <= len(token) <= _LARGEST or not is_plain(token):
        raise AdminTokenError(
            f"{path} holds no token of {TOKEN_LENGTH} or more visible ASCII characters: remove "
            "it, and serve makes a new one"
        )
    return token.decode("ascii")


def _make(path: Path) -> None:
    """Writes a new token: whole, and never readable by others, not for a moment.

    The name comes last: of two processes that begin at once, both use what the first one wrote.
    """
    token = secrets.token_urlsafe(32) + "\n"
    write_whole(path, token, mode=0o600, replace=False)
