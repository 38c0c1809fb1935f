"""DBOS reads no pickle here.

With another serialiser given, DBOS still unpickles a row that says it is a pickle. Whoever can
write to the database could run code with one; nothing of this project is written so.
"""

from importlib.metadata import version
from typing import Any, ClassVar, Final

from dbos import DBOSPortableJSONSerializer

from shared.errors import RecommendationError

TESTED: Final = "3.4"
"""The minor version that pyproject.toml pins and the tests run with."""


class UnknownDBOS(RecommendationError):
    """This DBOS is not the one that the project was written for."""

    code: ClassVar[str] = "unknown-dbos"
    title: ClassVar[str] = "This version of DBOS cannot be used"


class PickleRefused(ValueError):
    """A row of the database holds a pickle."""


def _refuse(_: object, __: str) -> Any:
    raise PickleRefused("a row of the database holds a pickle: it is not read")


def refuse_pickles() -> None:
    """Replaces DBOS's reader of pickles, and makes sure that it is the one DBOS calls.

    Raises UnknownDBOS where it is not. There is no switch: without this, jobs are not served.
    """
    try:
        from dbos import _serialization as parts

        parts.DefaultSerializer.deserialize = _refuse  # type: ignore[assignment, method-assign]
        name = parts.DBOSDefaultSerializer.name()
        parts.deserialize_value("gASVAAAAAAAAAE4u", name, DBOSPortableJSONSerializer())
    except PickleRefused:
        return
    except (ImportError, AttributeError, TypeError, ValueError):
        pass
    raise UnknownDBOS(
        f"dbos {version('dbos')} reads pickles in a way that this program does not know, and so "
        f"cannot refuse: install dbos {TESTED} (constraints.txt)"
    )
