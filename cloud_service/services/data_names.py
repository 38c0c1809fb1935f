"""The data a job may name: a named set, or a file that lies in the cloud's data folder.

A name from outside is compared with what is there and never becomes part of a path.
"""

from pathlib import Path

from shared.errors import DataError

GENERATED = "synthetic"
FETCHED = ("online-retail", "movielens-100k", "movielens-1m")
"""With `GENERATED`, the catalog's `NAMES`, without the dataframe library behind them."""
_SHOWN = 20


def resolve_data(data: str, items: str | None, folder: Path) -> tuple[str, str | None]:
    """What a job names as it is to be opened: a named set as it is, a file as its path.

    Raises DataError for what is not there, with the command that fetches it or with what there is.
    """
    if data == GENERATED and items is not None:
        raise DataError(f"the {GENERATED} set has titles of its own: leave the item file out")
    path = data if data == GENERATED else _fetched(data, folder) or _file(data, folder)
    return path, None if items is None else _file(items, folder)


def files_of(name: str, folder: Path) -> tuple[Path, Path]:
    """Where `cloud-service fetch` puts the clicks and the titles of a named set."""
    return folder / f"{name}.csv.gz", folder / f"{name}-items.csv.gz"


def _fetched(name: str, folder: Path) -> str | None:
    """A named set that is there; None for any other name. Raises DataError."""
    if name not in FETCHED:
        return None
    clicks, titles = files_of(name, folder)
    command = f"`cloud-service fetch {name} --folder {folder}`"
    if not clicks.is_file():
        raise DataError(f"{name} has not been fetched yet: {command} fetches it, then submit again")
    if not titles.is_file():
        raise DataError(
            f"{name} is there, but its titles are not ({titles.name}): remove {clicks.name}, and "
            f"{command} fetches both anew"
        )
    return name


def _file(name: str, folder: Path) -> str:
    files = listed(folder)
    if name in files:
        return str(files[name])
    shown = ", ".join(sorted(files)[:_SHOWN]) or "none"
    raise DataError(
        f"there is no data set or file {name[:128]!r}: sets are {GENERATED}, {', '.join(FETCHED)}; "
        f"files in the data folder: {shown}"
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
