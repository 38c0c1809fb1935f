"""The data sets that go by a name, and `load`, the one way to a click log.

Nothing is downloaded unless `fetch` is called. An archive is used only if its sha256 is the
pinned one. The hashes were not taken from the publishers, who sign nothing (GroupLens has an MD5
beside each archive, UCI nothing): they are the values that several independent public
repositories state for these files, and the counts of the converted log are checked as well.
"""

import difflib
import gzip
import zipfile
import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

import polars as pl

from cloud_service.recommender.data import synthetic
from cloud_service.recommender.data.clicks import MIN_SPLIT, ClickLog
from cloud_service.recommender.data.download import Progress, download, sha256_of
from cloud_service.recommender.data.log import match_titles, read_log, read_titles
from cloud_service.recommender.data.prepare import prepare
from cloud_service.recommender.data.publishers import (
    Converted,
    movielens_1m,
    movielens_100k,
    online_retail,
)
from cloud_service.recommender.data.table import FORMATS, format_of
from cloud_service.recommender.recipe import Repeats, Ties
from shared.errors import DataError
from shared.whole_file import whole_file


@dataclass(frozen=True)
class Source:
    """A data set of a publisher.

    Attributes:
        words: what it is and who made it; opens the preprocessing of its log.
        licence: what one may do with it, in short.
        page: where the publisher describes it.
        url: of the archive; `archive` is its file name here.
        sha256: of the archive, in hex.
        max_bytes: no archive is larger.
        counts: clicks, users and items of the converted log.
        ordered: the publisher's file has clicks that share a time in the order they were made.
        convert: from the archive to clicks and titles.
    """

    name: str
    words: str
    licence: str
    page: str
    url: str
    archive: str
    sha256: str
    max_bytes: int
    counts: tuple[int, int, int]
    convert: Callable[[zipfile.ZipFile], Converted]
    ordered: bool = False


_MOVIELENS_LICENCE = (
    "research use; cite Harper and Konstan, 2015; no redistribution and no commercial use without "
    "permission"
)

SOURCES: Mapping[str, Source] = MappingProxyType(
    {
        source.name: source
        for source in (
            Source(
                name="online-retail",
                words="Online Retail (D. Chen, 2015, UCI id 352): sales of a UK gift shop, each "
                "invoice line a click; without lines that have no customer, cancellations, "
                "quantities or prices not above zero, and codes that are no product",
                licence="CC BY 4.0; attribute D. Chen, 2015, doi 10.24432/C5BW33",
                page="https://archive.ics.uci.edu/dataset/352/online+retail",
                url="https://archive.ics.uci.edu/static/public/352/online+retail.zip",
                archive="online-retail.zip",
                sha256="f5385cbb54bbebf7196389109c6b0621faab0c304e3702548165e71c84aede8b",
                max_bytes=32_000_000,
                counts=(396_337, 4_334, 3_659),
                convert=online_retail,
                ordered=True,
            ),
            Source(
                name="movielens-100k",
                words="MovieLens 100K (GroupLens): film ratings, each a click",
                licence=_MOVIELENS_LICENCE,
                page="https://grouplens.org/datasets/movielens/100k/",
                url="https://files.grouplens.org/datasets/movielens/ml-100k.zip",
                archive="ml-100k.zip",
                sha256="50d2a982c66986937beb9ffb3aa76efe955bf3d5c6b761f4e3a7cd717c6a3229",
                max_bytes=8_000_000,
                counts=(100_000, 943, 1_682),
                convert=movielens_100k,
            ),
            Source(
                name="movielens-1m",
                words="MovieLens 1M (GroupLens): film ratings, each a click",
                licence=_MOVIELENS_LICENCE,
                page="https://grouplens.org/datasets/movielens/1m/",
                url="https://files.grouplens.org/datasets/movielens/ml-1m.zip",
                archive="ml-1m.zip",
                sha256="a6898adb50b9ca05aa231689da44c217cb524e7ebd39d264c56e2832f2c54e20",
                max_bytes=8_000_000,
                counts=(1_000_209, 6_040, 3_706),
                convert=movielens_1m,
            ),
        )
    }
)

NAMES = (synthetic.NAME, *SOURCES)
"""Every name that `load` knows."""


def log_path(name: str, folder: Path) -> Path:
    """Where `fetch` puts the click log of a named set."""
    return folder / f"{name}.csv.gz"


def items_file(name: str, folder: Path) -> Path:
    """Where `fetch` puts the titles of a named set."""
    return folder / f"{name}-items.csv.gz"


def fetch(
    name: str,
    folder: Path,
    progress: Progress | None = None,
    *,
    sources: Mapping[str, Source] = SOURCES,
) -> Path:
    """Downloads a named set and converts it, unless the converted log is there already.

    An archive that lies in `folder` under its name (put there by hand, say) is used in place of a
    download, and left there. The converted files appear whole or not at all, the log last.

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
        archive = folder / source.archive
        by_hand = archive.is_file()
        if by_hand:
            _check_hash(source, archive)
        else:
            download(
                source.url,
                archive,
                sha256=source.sha256,
                max_bytes=source.max_bytes,
                advice=f"download it by hand, put it at {archive} and fetch again, or use "
                "--data PATH with a click log of your own.",
                progress=progress,
            )
        converted = _convert(source, archive)
        _write(converted.titles, items_file(name, folder))
        _write(converted.clicks, target)
        if not by_hand:
            archive.unlink()
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
        name_or_path: one of `NAMES`, or the path of a file for `read_log`.
        folder: where `fetch` put the named sets.
        items_path: titles, a file for `read_titles`; a fetched set has its own.
        columns: names of a file's columns, for `read_log`.

    Raises:
        DataError: an unknown name, a set not fetched yet, or a file that cannot be used.
    """
    name = str(name_or_path)
    if name == synthetic.NAME:
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
    ordered = name in sources and sources[name].ordered
    if name in sources:
        if columns is not None:
            raise DataError(f"{name} has columns of its own: leave the choice of columns out.")
        path, words = _fetched(sources[name], folder), sources[name].words
        own = items_file(name, folder)
        items_path = items_path or (own if own.is_file() else None)
    else:
        path, words = Path(name_or_path), ""
        if not path.exists() and format_of(path) is None and len(path.parts) == 1:
            raise _unknown(name, sources, "data set or file")
        name = path.name[: -len(format_of(path) or "")] or path.name
    log = read_log(path, columns)
    titles, notes = None, list(log.notes)
    words = "; ".join(word for word in (words, log.words) if word)
    if items_path is not None:
        items = read_titles(items_path, columns)
        titles = items.titles
        notes += [*items.notes, *match_titles(items_path, titles, log.frame["item_id"])]
    return prepare(
        log.frame,
        name=name,
        titles=titles,
        ties=ties if ties != "auto" else "file" if ordered else "shuffled",
        repeats=repeats,
        max_user_clicks=max_user_clicks,
        min_item=min_item,
        min_user=min_user,
        iterate=iterate,
        source=words,
        cautions=notes,
    )


def _source(name: str, sources: Mapping[str, Source]) -> Source:
    if name == synthetic.NAME:
        raise DataError("The synthetic set is generated: there is nothing to fetch, load it.")
    if name not in sources:
        raise _unknown(name, sources, "data set")
    return sources[name]


def _unknown(name: str, sources: Mapping[str, Source], what: str) -> DataError:
    names = (synthetic.NAME, *sources)
    near = difflib.get_close_matches(name.lower(), names, n=1, cutoff=0.4)
    hint = f"did you mean {near[0]!r}? " if near else ""
    return DataError(
        f"There is no {what} {name!r}: {hint}Give one of {', '.join(names)}, or the path of a "
        f"file ({', '.join(FORMATS)})."
    )


def _fetched(source: Source, folder: Path) -> Path:
    path = log_path(source.name, folder)
    if not path.is_file():
        raise DataError(
            f"{source.name} is not in {folder} yet: fetch it first (from {source.url}; licence: "
            f"{source.licence}), or use --data PATH with a click log of your own."
        )
    return path


def _check_hash(source: Source, archive: Path) -> None:
    if archive.stat().st_size > source.max_bytes or sha256_of(archive) != source.sha256:
        raise DataError(
            f"{archive} is not the published archive (its sha256 is not {source.sha256}): remove "
            f"it and fetch again, or download {source.url} anew."
        )


def _convert(source: Source, archive: Path) -> Converted:
    try:
        with zipfile.ZipFile(archive) as opened:
            converted = source.convert(opened)
    except (
        zipfile.BadZipFile,
        zlib.error,
        pl.exceptions.PolarsError,
        EOFError,
        IndexError,
    ) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise DataError(
            f"{archive} cannot be converted ({reason}): remove it and fetch again."
        ) from error
    clicks = converted.clicks
    counts = (clicks.height, clicks["user_id"].n_unique(), clicks["item_id"].n_unique())
    if counts != source.counts:
        shown = "{:,} clicks, {:,} users and {:,} items"
        raise DataError(
            f"{source.name} came out as {shown.format(*counts)}, not the published "
            f"{shown.format(*source.counts)}: the publisher changed it, and it is not used."
        )
    return converted


def _write(frame: pl.DataFrame, path: Path) -> None:
    # No time and no name in the gzip header: the same clicks are the same bytes.
    with (
        whole_file(path) as file,
        gzip.GzipFile(filename="", mode="wb", fileobj=file, mtime=0) as packed,
    ):
        packed.write(frame.write_csv().encode())
