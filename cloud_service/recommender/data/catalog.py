"""`fetch`, which brings a published data set here, and `load`, the one way to a click log.

Nothing is downloaded unless `fetch` is called. `sources` says where each set comes from and how
it is checked, `named_sets` where it lies.
"""

import difflib
import gzip
import hashlib
import zipfile
import zlib
from collections.abc import Callable, Mapping
from pathlib import Path

import polars as pl

from cloud_service.recommender.data import synthetic
from cloud_service.recommender.data.clicks import MIN_SPLIT, ClickLog
from cloud_service.recommender.data.download import Progress, download, sha256_of
from cloud_service.recommender.data.log import match_titles, read_log, read_titles
from cloud_service.recommender.data.named_sets import (
    GENERATED,
    LogFiles,
    fetch_command,
    find_files,
    log_path,
    titles_path,
)
from cloud_service.recommender.data.prepare import prepare
from cloud_service.recommender.data.publishers import Converted
from cloud_service.recommender.data.sources import SOURCES, Source
from cloud_service.recommender.data.table import FORMATS, format_of
from cloud_service.recommender.recipe import Repeats, Ties
from shared.errors import DataError
from shared.whole_file import whole_file


def fetch(
    name: str,
    folder: Path,
    progress: Progress | None = None,
    *,
    published: Path | None = None,
    warn: Callable[[str], None] = lambda _: None,
    sources: Mapping[str, Source] = SOURCES,
) -> Path:
    """Downloads a named set and converts it, unless the converted log is there already.

    The publisher's file is used in place of a download where `published` names it, or where it
    lies in `folder` under its name (put there by hand, say); it is left where it is. The converted
    files appear whole or not at all, the log last.

    Args:
        folder: where the converted files go.
        published: the publisher's file, downloaded by hand.
        warn: called with a sentence where the log is not the one that was published with figures.

    Returns:
        The path of the click log, a .csv.gz for `read_log`.

    Raises:
        DataError: an unknown name, no connection, a wrong hash or a wrong content; says how to
            get the file by hand.
    """
    source = _source(name, sources)
    target = log_path(name, folder)
    if target.is_file():
        return target
    try:
        folder.mkdir(parents=True, exist_ok=True)
        file = published or folder / source.archive
        by_hand = published is not None or file.is_file()
        if by_hand:
            _check_file(source, file)
        else:
            _download(source, file, folder, progress)
        converted = _convert(source, file)
        log = converted.clicks.write_csv().encode()
        _check_log(source, converted.clicks, log, warn)
        if converted.titles is not None:
            _write(converted.titles.write_csv().encode(), titles_path(name, folder))
        _write(log, target)
        if not by_hand:
            file.unlink()
    except OSError as error:
        raise DataError(f"{folder} cannot be written ({error.strerror}): check it.") from error
    return target


def load(
    name_or_path: str | Path,
    *,
    folder: Path,
    items_path: Path | None = None,
    columns: str | None = None,
    ties: Ties = "auto",
    repeats: Repeats = "once",
    max_user_clicks: int | None = None,
    min_item: int = 1,
    min_user: int = MIN_SPLIT,
    iterate: bool = False,
    sources: Mapping[str, Source] = SOURCES,
) -> ClickLog:
    """The click log of a named set or of a file, filtered and numbered (see `prepare`).

    Args:
        name_or_path: a name (`named_sets.NAMES`), or the path of a file for `read_log`.
        folder: where the named sets lie: fetched ones, or copies.
        items_path: titles, a file for `read_titles`; a fetched set has its own.
        columns: names of a file's columns, for `read_log`.

    Raises:
        DataError: an unknown name, a set not fetched yet, or a file that cannot be used.
    """
    name = str(name_or_path)
    if name == GENERATED:
        if items_path is not None or columns is not None:
            raise DataError(
                "The synthetic set has titles and columns of its own: leave the item file and the "
                "choice of columns out."
            )
        return synthetic.synthetic_log(
            min_item=min_item,
            min_user=min_user,
            iterate=iterate,
            max_user_clicks=max_user_clicks,
        )
    source = sources.get(name)
    if source is not None:
        if columns is not None:
            raise DataError(f"{name} has columns of its own: leave the choice of columns out.")
        files = _fetched(source, folder)
        path, items_path = files.clicks, items_path or files.titles
    else:
        path = Path(name_or_path)
        if not path.exists() and format_of(path) is None and len(path.parts) == 1:
            raise _unknown(name, sources, "data set or file")
        name = path.name[: -len(format_of(path) or "")] or path.name
    log = read_log(path, columns)
    titles, notes = None, list(log.notes)
    if items_path is not None:
        items = read_titles(items_path, columns)
        titles = items.titles
        notes += [*items.notes, *match_titles(items_path, titles, log.frame["item_id"])]
    in_file_order = source is not None and source.ordered
    descriptions = (source.description if source else "", log.description)
    return prepare(
        log.frame,
        name=name,
        titles=titles,
        ties=ties if ties != "auto" else "file" if in_file_order else "shuffled",
        repeats=repeats,
        max_user_clicks=max_user_clicks,
        min_item=min_item,
        min_user=min_user,
        iterate=iterate,
        source="; ".join(filter(None, descriptions)),
        cautions=notes,
    )


def _source(name: str, sources: Mapping[str, Source]) -> Source:
    if name == GENERATED:
        raise DataError("The synthetic set is generated: there is nothing to fetch, load it.")
    if name not in sources:
        raise _unknown(name, sources, "data set")
    return sources[name]


def _unknown(name: str, sources: Mapping[str, Source], noun: str) -> DataError:
    names = (GENERATED, *sources)
    near = difflib.get_close_matches(name.lower(), names, n=1, cutoff=0.4)
    hint = f"did you mean {near[0]!r}? " if near else ""
    return DataError(
        f"There is no {noun} {name!r}: {hint}Give one of {', '.join(names)}, or the path of a "
        f"file ({', '.join(FORMATS)})."
    )


def _fetched(source: Source, folder: Path) -> LogFiles:
    files = find_files(source.name, folder)
    if files is None:
        raise DataError(
            f"{source.name} is not in {folder}: `{fetch_command(source.name, folder)}` fetches it "
            f"(licence: {source.licence}); or use --data PATH with a click log of your own."
        )
    return files


def _download(source: Source, file: Path, folder: Path, progress: Progress | None) -> None:
    if source.url is None:
        raise DataError(
            f"{source.name} is handed out only after an agreement: accept it at {source.page}, "
            f"download the archive, then `{fetch_command(source.name, folder)} --from PATH`."
        )
    download(
        source.url,
        file,
        sha256=source.sha256,
        max_bytes=source.max_bytes,
        advice=f"download it by hand, put it at {file} and fetch again, or use "
        "--data PATH with a click log of your own.",
        progress=progress,
    )


def _check_file(source: Source, file: Path) -> None:
    if not file.is_file():
        raise DataError(f"There is no file {file}: check the path.")
    if source.sha256 is None:
        return  # the converted log is checked
    if file.stat().st_size > source.max_bytes or sha256_of(file) != source.sha256:
        raise DataError(
            f"{file} is not the published archive (its sha256 is not {source.sha256}): remove "
            f"it and fetch again, or download {source.url} anew."
        )


def _convert(source: Source, file: Path) -> Converted:
    try:
        return source.convert(file)
    except (
        zipfile.BadZipFile,
        zlib.error,
        pl.exceptions.PolarsError,
        EOFError,
        IndexError,
    ) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise DataError(
            f"{file} cannot be converted ({reason}): remove it and fetch again."
        ) from error


def _check_log(
    source: Source, clicks: pl.DataFrame, log: bytes, warn: Callable[[str], None]
) -> None:
    """Compares a converted log with the published one. Raises DataError, or warns of editions."""
    counts = (clicks.height, clicks["user_id"].n_unique(), clicks["item_id"].n_unique())
    if counts != source.counts:
        shown = "{:,} clicks, {:,} users and {:,} items"
        difference = f"{shown.format(*counts)}, not the published {shown.format(*source.counts)}"
    elif source.log_sha256 not in (None, digest := hashlib.sha256(log).hexdigest()):
        difference = f"a log with the sha256 {digest}, not {source.log_sha256}"
    else:
        return
    if not source.editions:
        raise DataError(
            f"{source.name} came out as {difference}: the publisher changed it, and it is not used."
        )
    warn(
        f"{source.name} came out as {difference}: it is another edition, and figures measured on "
        "it are not comparable with the published ones"
    )


def _write(content: bytes, path: Path) -> None:
    # No time and no name in the gzip header: the same clicks are the same bytes.
    with (
        whole_file(path) as file,
        gzip.GzipFile(filename="", mode="wb", fileobj=file, mtime=0) as packed,
    ):
        packed.write(content)
