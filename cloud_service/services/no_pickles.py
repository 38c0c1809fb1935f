"""Stops DBOS from reading pickles, by replacing a private part of it.

Even with another serialiser, DBOS unpickles a database row that is marked as a pickle. Anyone who
can write to the database could run code that way. This project never writes pickles.
"""

from importlib.metadata import version
from typing import Any, ClassVar, Final

from dbos import DBOSPortableJSONSerializer

from shared.errors import RecommendationError

TESTED: Final = "3.4"
"""The minor version that pyproject.toml pins and that the tests use."""


class UnknownDBOS(RecommendationError):
    """The installed DBOS reads pickles in a way that this project cannot prevent."""

    code: ClassVar[str] = "unknown-dbos"
    title: ClassVar[str] = "This version of DBOS cannot be used"


class PickleRefused(ValueError):
    """A database row contains a pickle."""


def _refuse(_: object, __: str) -> Any:
    raise PickleRefused("a row of the database holds a pickle: it is not read")


def refuse_pickles() -> None:
    """Replaces the pickle reader of DBOS, and checks with a pickle that DBOS calls the new one.

    Raises UnknownDBOS otherwise. No setting turns this off, because it is a security measure.
    """
    try:
        from dbos import _serialization as serialization

        serialization.DefaultSerializer.deserialize = _refuse  # type: ignore[assignment, method-assign]
        name = serialization.DBOSDefaultSerializer.name()
        serialization.deserialize_value("gASVAAAAAAAAAE4u", name, DBOSPortableJSONSerializer())
    except PickleRefused:
        return
    except (ImportError, AttributeError, TypeError, ValueError):
        pass
    raise UnknownDBOS(
        f"dbos {version('dbos')} reads pickles in a way that this program does not know, and so "
        f"cannot refuse: install dbos {TESTED} (constraints.txt)"
    )
