"""The data a job may name: a named set, or a file that lies in the cloud's data folder.

A name from outside is compared with what is there and never becomes part of a path.
"""

from pathlib import Path

from shared.errors import DataError

NAMED_SETS = ("synthetic", "online-retail", "movielens-100k", "movielens-1m")
"""`cloud_service.data.catalog.NAMES`, without the dataframe library behind it."""
_SHOWN = 20


def resolve(name: str, folder: Path) -> str:
    """A named set as it is, a file's name as its path. Raises DataError, which lists both."""
    if name in NAMED_SETS:
        return name
    files = listed(folder)
    if name in files:
        return str(files[name])
    shown = ", ".join(sorted(files)[:_SHOWN]) or "none"
    raise DataError(
        f"there is no data set or file {name[:128]!r}: sets are {', '.join(NAMED_SETS)}; files in "
        f"the data folder: {shown}"
    )


def listed(folder: Path) -> dict[str, Path]:
    """The files of the data folder by name; drafts and hidden files are left out."""
    if not folder.is_dir():
        return {}
    return {
        path.name: path
        for path in folder.iterdir()
        if not path.name.startswith(".") and path.is_file()
    }
