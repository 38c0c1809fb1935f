"""Resolves the data that a job names: a named data set, or a file in the cloud's data folder.

A name from a request is compared with the existing names; it never becomes part of a path.
"""

from pathlib import Path

from cloud_service.recommender.data.named_sets import (
    GENERATED,
    NAMED_SETS,
    NAMES,
    fetch_command,
    find_files,
    log_path,
    titles_path,
)
from shared.errors import DataError

_SHOWN = 20


def resolve_data(data: str, items: str | None, folder: Path) -> tuple[str, str | None]:
    """Returns `data` and `items` as `load` takes them: a named set unchanged, a file as its path.

    Raises DataError if a name is unknown or its file is absent; the error says what to do.
    """
    if data == GENERATED and items is not None:
        raise DataError(f"the {GENERATED} set has titles of its own: leave the item file out")
    log = data if data == GENERATED else _fetched(data, folder) or _file(data, folder)
    return log, None if items is None else _file(items, folder)


def _fetched(name: str, folder: Path) -> str | None:
    """Returns a named set that exists, or None for another name. Raises DataError."""
    if name not in NAMED_SETS:
        return None
    files, command = find_files(name, folder), f"`{fetch_command(name, folder)}`"
    if files is None:
        raise DataError(f"{name} has not been fetched yet: {command} fetches it, then submit again")
    fetched = files.clicks == log_path(name, folder)
    if fetched and NAMED_SETS[name].has_titles and files.titles is None:
        raise DataError(
            f"{name} is there, but its titles are not ({titles_path(name, folder).name}): remove "
            f"{files.clicks.name}, and {command} fetches both anew"
        )
    return name


def _file(name: str, folder: Path) -> str:
    files = listed(folder)
    if name in files:
        return str(files[name])
    shown = ", ".join(sorted(files)[:_SHOWN]) or "none"
    raise DataError(
        f"there is no data set or file {name[:128]!r}: sets are {', '.join(NAMES)}; "
        f"files in the data folder: {shown}"
    )


def listed(folder: Path) -> dict[str, Path]:
    """Returns the files of the data folder by name, without drafts and hidden files."""
    if not folder.is_dir():
        return {}
    return {
        path.name: path
        for path in folder.iterdir()
        if not path.name.startswith(".") and path.is_file()
    }
