"""Lets only one worker run: a file lock in the store, and a lock in PostgreSQL if it is used.

Both locks are released when the process ends for any reason.
"""

import fcntl
import logging
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import sqlalchemy as sa

_RETRY_SECONDS: Final = 1.0
_ADVISORY_LOCK: Final = 0x64635F776F726B  # an arbitrary constant of this project
_log = logging.getLogger(__name__)


@contextmanager
def only_one_on(folder: Path) -> Iterator[None]:
    """Holds the lock of the store; the kernel releases it when the process ends."""
    with (folder / "worker.lock").open("w") as file:
        _stand_by(lambda: _try_flock(file.fileno()))
        yield


def _try_flock(handle: int) -> bool:
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


@contextmanager
def only_one_in(url: str) -> Iterator[Callable[[], None]]:
    """Holds a lock in PostgreSQL, for workers on several machines; SQLite needs none.

    Yields a function that ends the process if the connection, and with it the lock, is lost.
    """
    if url.startswith("sqlite"):
        yield lambda: None
        return
    engine = sa.create_engine(sa.make_url(url).set(drivername="postgresql+psycopg"))
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as line:
        lock_query = sa.select(sa.func.pg_try_advisory_lock(_ADVISORY_LOCK))
        _stand_by(lambda: bool(line.scalar(lock_query)))

        def check() -> None:
            try:
                line.execute(sa.select(1))
            except sa.exc.SQLAlchemyError:
                _log.error("the database went away, and the worker's lock with it: ending")
                os._exit(1)

        yield check


def _stand_by(take: Callable[[], bool]) -> None:
    if take():
        return
    _log.warning("another worker runs here: standing by")
    while not take():
        time.sleep(_RETRY_SECONDS)
