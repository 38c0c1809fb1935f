"""The names of the data sets, and the files in which a folder may hold them.

Only the standard library is imported here: the service and the commands read this module at start.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

GENERATED = "synthetic"
"""The set that is generated, and has no file."""


@dataclass(frozen=True)
class NamedSet:
    """File names of a data set.

    Attributes:
        copy: file name of the log where it was not made by `fetch` but copied. Evaluations
            identify their runs by it, so that a run stays the same run however its log got there.
        copied_titles: file name of the titles beside `copy`, if there are any.
        has_titles: `fetch` writes titles, too.
    """

    copy: str
    copied_titles: str | None = None
    has_titles: bool = False


NAMED_SETS: Mapping[str, NamedSet] = MappingProxyType(
    {
        "online-retail": NamedSet(
            "online_retail.csv.gz", "online_retail_items.csv.gz", has_titles=True
        ),
        "movielens-100k": NamedSet("ml100k.csv.gz", has_titles=True),
        "movielens-1m": NamedSet("movielens-1m.csv.gz", has_titles=True),
        "movielens-1m-sasrec": NamedSet("ml1m.csv.gz"),
        "amazon-beauty": NamedSet("amazon_beauty.csv.gz"),
        "amazon-beauty-5core": NamedSet("amazon_beauty_5core.csv.gz"),
        "amazon-video-games": NamedSet("amazon_video_games.csv.gz"),
        "yelp": NamedSet("yelp_5core.csv.gz"),
    }
)
"""Every set that `cloud-service fetch` knows."""

NAMES = (GENERATED, *NAMED_SETS)
"""Every name that stands for a data set."""


@dataclass(frozen=True)
class LogFiles:
    """A named set that is there: its click log, and its titles where it has any."""

    clicks: Path
    titles: Path | None


def log_path(name: str, folder: Path) -> Path:
    """Where `fetch` puts the click log of a named set."""
    return folder / f"{name}.csv.gz"


def titles_path(name: str, folder: Path) -> Path:
    """Where `fetch` puts the titles of a named set."""
    return folder / f"{name}-items.csv.gz"


def find_files(name: str, folder: Path) -> LogFiles | None:
    """The files of a named set in a folder, or None where its log is not there.

    A log that `fetch` made comes before a copy.
    """
    if (clicks := log_path(name, folder)).is_file():
        titles = titles_path(name, folder)
        return LogFiles(clicks, titles if titles.is_file() else None)
    named = NAMED_SETS[name]
    if (clicks := folder / named.copy).is_file():
        titles = folder / (named.copied_titles or "")
        return LogFiles(clicks, titles if titles.is_file() else None)
    return None


def fetch_command(name: str, folder: Path) -> str:
    """The command that brings a named set into a folder."""
    return f"cloud-service fetch {name} --folder {folder}"


def identity(data: str) -> str:
    """What identifies a log in the recipe of a run: a file name, without its folder.

    A named set has the file name of its copies: a run on `amazon-beauty` and one on
    `../data/amazon_beauty.csv.gz` are the same run.
    """
    named = NAMED_SETS.get(data)
    return named.copy if named else Path(data).name
