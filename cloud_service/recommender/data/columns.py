"""Finds the columns of user, item and time in a header, by our names or by well-known ones.

The names of well-known sets (MovieLens, RetailRocket, H&M, REES46, Amazon's reviews, RecBole's
atomic files) are recognised if the choice is unambiguous; any other name is given with
`columns="user=NAME,item=NAME,time=NAME"`. A required column's own name is never reinterpreted.
"""

import difflib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final

from cloud_service.recommender.data.column_names import KEYS

KNOWN: Final[Mapping[str, tuple[tuple[str, ...], ...]]] = MappingProxyType(
    {
        "user_id": (
            ("user_id",),
            ("userid", "visitorid", "customer_id", "reviewerid", "user", "uid"),
        ),
        # Amazon's reviews of 2023 have both: `parent_asin` names the product, `asin` its variant.
        "item_id": (
            ("item_id",),
            ("parent_asin",),
            ("itemid", "movieid", "movie_id", "article_id", "product_id", "asin", "item", "iid"),
        ),
        "timestamp": (("timestamp",), ("t_dat", "event_time", "unixreviewtime", "time")),
        "title": (("title",), ("prod_name", "movie_title", "product_name", "item_name", "name")),
        "agreed": (("agreed",),),
    }
)
"""Known names in lower case, `_` for blanks, without RecBole's types; earlier groups win."""

_HINTS: Final[Mapping[str, tuple[str, ...]]] = MappingProxyType(
    {
        "user_id": ("user", "usr", "member", "customer", "client", "visitor", "account", "buyer"),
        "item_id": ("item", "product", "sku", "movie", "article", "book", "track", "video"),
        "timestamp": ("time", "timestamp", "ts", "date", "datetime"),
        "title": ("title", "name"),
        "agreed": ("agreed", "consent"),
    }
)
"""Words in a column's name that suggest its use; used in error messages only."""

_SHOWN: Final = 12
_TIME: Final = re.compile(r"\d{8,}(\.\d+)?|\d{4}-\d\d-\d\d([ T].*)?")
_NUMBER: Final = re.compile(r"-?\d+(\.\d*)?")
_TAOBAO: Final = frozenset(("pv", "buy", "cart", "fav"))


@dataclass(frozen=True)
class Choice:
    """The required columns of a header: found, missing and ambiguous ones.

    Attributes:
        header: the column names of the file, stripped of blanks.
        columns: position in the header of each required column that was found.
        missing: required columns that were not found.
        doubtful: required columns with several candidates, and these candidates.
        header_names: names that the user gave, by the column they stand for.
    """

    header: tuple[str, ...]
    columns: Mapping[str, int]
    missing: tuple[str, ...]
    doubtful: Mapping[str, tuple[str, ...]]
    header_names: Mapping[str, str]

    @property
    def complete(self) -> bool:
        """Whether every required column was found exactly once."""
        return not self.missing and not self.doubtful

    def ordered(self, required: Sequence[str]) -> list[str]:
        """The columns that were found: the required ones in their order, then the optional ones."""
        return [*required, *(name for name in self.columns if name not in required)]

    def description(self) -> str:
        """Says which columns are read under another name; "" if none is."""
        names = {name: self.header[index] for name, index in self.columns.items()}
        renamed = {name: header_name for name, header_name in names.items() if header_name != name}
        if not renamed:
            return ""
        noun = "column" if len(renamed) == 1 else "columns"
        return f"{noun} {_listed(list(renamed.values()))} read as {_listed(list(renamed))}"


def choose_columns(
    header: Sequence[str],
    required: Sequence[str],
    header_names: Mapping[str, str],
    optional: Sequence[str] = (),
) -> Choice:
    """Finds the required columns: by the given names, by their own, or by well-known names.

    Columns of `optional` are found by their own name only, and are not missed; one that is there
    twice is doubtful.
    """
    names = [name.strip(" \t\r\n\ufeff\u00a0") for name in header]
    reserved = {header_names.get(name, name) for name in required}
    at: dict[str, int] = {}
    missing: list[str] = []
    doubtful: dict[str, tuple[str, ...]] = {}
    plain = {_plain(name) for name in names}
    of_the_day = plain & {"date", "day"}  # beside it, `time` is half a time
    for name in required:
        header_name = header_names.get(name, name)
        if name not in header_names and name in header_names.values():
            header_name = ""  # the user gave this name to another column
        near = [index for index, candidate in enumerate(names) if candidate == header_name]
        for group in () if name in header_names else KNOWN[name]:
            near = near or [
                index
                for index, candidate in enumerate(names)
                if candidate not in reserved
                and _plain(candidate) in group
                and not (of_the_day and name == "timestamp" and _plain(candidate) == "time")
            ]
        if len(near) == 1:
            at[name] = near[0]
        elif near:
            doubtful[name] = tuple(names[index] for index in near)
        else:
            missing.append(name)
    for name in optional:
        same = [index for index, candidate in enumerate(names) if candidate == name]
        if len(same) > 1:
            doubtful[name] = tuple(names[index] for index in same)
        elif same and same[0] not in at.values():
            at[name] = same[0]
    return Choice(tuple(names), at, tuple(missing), doubtful, header_names)


def advice(choice: Choice, required: Sequence[str]) -> str:
    """Says what is wrong with a header and what to do; the text follows the file's name."""
    if choice.doubtful:
        name, twins = next(iter(choice.doubtful.items()))
        if len(set(twins)) == 1:
            return f"has the column {twins[0]} twice: keep one of them."
        return (
            f"has no column {name} but several that may be it ({', '.join(twins)}): "
            f"{_option(choice, required, {}) or f'rename one of them to {name}'}."
        )
    lost = [choice.header_names.get(name, name) for name in choice.missing]
    opening = f"has no column{'s' * (len(lost) > 1)} {_listed(lost)}"
    if not choice.columns and (line := _data_line(choice.header, required)):
        return (
            f"{opening}: the first line must name the columns, and it is {_shown(choice.header)}; "
            f"{line}."
        )
    opening += f": it has {_shown(choice.header)}"
    if len(choice.header) == 1:
        return (
            f"{opening}, parted by no comma, tab, semicolon or vertical bar; part the columns with "
            "commas."
        )
    if "timestamp" in choice.missing and {"date", "time"} <= set(map(_plain, choice.header)):
        return (
            f"{opening}; make one column timestamp of the date and the time, such as "
            "2024-05-31T18:30:00Z."
        )
    near = _proposals(choice)
    if option := _option(choice, required, near):
        return f"{opening}; {option}."
    steps = [f"{header_name!r} to {name}" for name, header_name in near.items()]
    if steps:
        return f"{opening}; rename {_listed(steps)}."
    return f"{opening}; name the columns {_listed(list(required))} in the first line."


def data_for_names(choice: Choice, required: Sequence[str]) -> str:
    """Says that the first line is data if its `timestamp` column is named like a time; else ""."""
    index = choice.columns.get("timestamp")
    if index is None or not _TIME.fullmatch(choice.header[index]):
        return ""
    return (
        f"has a first line that is a row and names no columns, {_shown(choice.header)}: "
        f"{_data_line(choice.header, required) or 'add a line of names before it'}."
    )


def _shown(names: Sequence[str]) -> str:
    return ", ".join(repr(name[:60]) for name in names[:_SHOWN]) + (
        ", ..." if len(names) > _SHOWN else ""
    )


def _listed(names: Sequence[str]) -> str:
    return " and ".join([", ".join(names[:-1])] * (len(names) > 1) + [names[-1]])


def _plain(name: str) -> str:
    """A name in lower case, without blanks and without RecBole's type ("item_id:token")."""
    return re.sub(r"[\s-]+", "_", name.strip().lower().partition(":")[0])


def _option(choice: Choice, required: Sequence[str], near: Mapping[str, str]) -> str:
    """Suggests a `--columns` option; "" if the command has none."""
    if set(required) != set(KEYS.values()):
        return ""
    names = {name: choice.header[index] for name, index in choice.columns.items()} | dict(near)
    assignments = ",".join(f"{key}={names.get(name, 'NAME')}" for key, name in KEYS.items())
    quoted = f'"{assignments}"' if " " in assignments else assignments
    return f"say which is which with --columns {quoted}"


def _proposals(choice: Choice) -> dict[str, str]:
    """The only unused column whose name suggests each missing one, where there is exactly one."""
    used = set(choice.columns.values())
    free = [name for index, name in enumerate(choice.header) if index not in used and name]
    near: dict[str, str] = {}
    for name in choice.missing:
        pointed = [
            candidate
            for candidate in free
            if candidate not in near.values() and _points(candidate, name)
        ]
        if len(pointed) == 1:
            near[name] = pointed[0]
    return near


def _points(header_name: str, name: str) -> bool:
    """Whether a column's name suggests the use `name`, by a word in it or by similar spelling."""
    plain = _plain(re.sub(r"(?<=[a-z])(?=[A-Z])", "_", header_name))
    if any(token in _HINTS[name] for token in re.split(r"[^a-z0-9]+", plain)):
        return True
    return bool(difflib.get_close_matches(plain, [name], n=1, cutoff=0.75))


def _data_line(header: Sequence[str], required: Sequence[str]) -> str:
    """Says what to do if the first line is data; "" if it names columns."""
    numeric = [name for name in header if _NUMBER.fullmatch(name)]
    if any("::" in name for name in header):
        return (
            "fields between double colons, as MovieLens has them, are not read: fetch the set by "
            "its name, or write it as CSV with a header"
        )
    if len(header) == 5 and header[3] in _TAOBAO:
        return (
            "add the line user_id,item_id,category_id,behavior,timestamp (the columns of Taobao's "
            "UserBehavior.csv) before it"
        )
    if len(numeric) < 2:
        return ""
    if len(header) == 4 and len(numeric) == 4 and header[2] in {"1", "2", "3", "4", "5"}:
        return (
            "add a line with the names user_id, item_id, rating and timestamp (the columns of "
            "MovieLens' u.data) before it, or fetch movielens-100k by its name"
        )
    if len(header) == len(required):
        return (
            f"add the line {','.join(required)} (in the order of your columns, and parted as they "
            "are) before it"
        )
    return (
        f"add a line of {len(header)} names before it, parted as your columns are, with "
        f"{_listed(list(required))} for those that are these"
    )
