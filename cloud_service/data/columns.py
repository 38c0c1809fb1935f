"""Which column of a file is the user's, the item's, the time's: by our names or by known ones.

The names of well-known sets are understood where only one reading is possible; any other name is
given with `columns="user=NAME,item=NAME,time=NAME"`. A name that is wanted itself is never
proposed for another column.
"""

import difflib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Final

from shared.errors import DataError

KNOWN: Final[Mapping[str, tuple[tuple[str, ...], ...]]] = MappingProxyType(
    {
        "user_id": (("userid", "visitorid", "customer_id", "reviewerid", "user", "uid"),),
        # Amazon's reviews of 2023 have both: `parent_asin` names the product, `asin` its variant.
        "item_id": (
            ("parent_asin",),
            ("itemid", "movieid", "movie_id", "article_id", "product_id", "asin", "item", "iid"),
        ),
        "timestamp": (("t_dat", "event_time", "unixreviewtime", "time"),),
        "title": (("prod_name", "movie_title", "item_name", "name"),),
    }
)
"""Names of MovieLens, RetailRocket, H&M, REES46, Amazon and RecBole's atomic files, in lower case
and without RecBole's types; groups earlier in a row win over later ones."""

OPTION: Final = MappingProxyType({"user": "user_id", "item": "item_id", "time": "timestamp"})
"""What `columns` calls them, and what they are called here."""


@dataclass(frozen=True)
class Choice:
    """Which column of a file each wanted column is, and what was made of other names."""

    names: Mapping[str, str]
    notes: tuple[str, ...]


def parse_columns(text: str) -> dict[str, str]:
    """The mapping of an option `user=NAME,item=NAME,time=NAME`; not all three need be named.

    Raises DataError.
    """
    mapping: dict[str, str] = {}
    for part in text.split(","):
        role, sign, name = (piece.strip() for piece in part.partition("="))
        if not sign or not name or role not in OPTION:
            raise DataError(
                f"columns: {part.strip()!r} is none of user=NAME, item=NAME, time=NAME: give "
                "columns=user=NAME,item=NAME,time=NAME with the names of the file's first line."
            )
        if OPTION[role] in mapping or name in mapping.values():
            raise DataError(f"columns: {part.strip()!r} names a column twice: name each once.")
        mapping[OPTION[role]] = name
    return mapping


def choose_columns(
    path: Path, header: Sequence[str], wanted: Sequence[str], given: Mapping[str, str]
) -> Choice:
    """The column of each wanted one: as given, by its own name, or by a known one.

    Raises DataError that names every column that is missing, there twice or not clear.
    """
    names: dict[str, str] = {}
    notes, missing = [], []
    for role in wanted:
        if role in given:
            if given[role] not in header:
                raise DataError(f"{path} has no column {given[role]!r}: it has {_shown(header)}.")
            names[role] = given[role]
        elif role in header:
            names[role] = role
        else:
            known = _known(role, header, (*wanted, *given.values()))
            if len(known) == 1:
                names[role] = known[0]
                notes.append(f"the column {known[0]!r} is read as {role}")
            else:
                missing.append(role)
    if missing:
        raise DataError(_missing(path, header, wanted, missing, names))
    twice = [name for name in names.values() if list(header).count(name) > 1]
    if twice:
        raise DataError(f"{path} has the column {twice[0]} twice: keep one of them.")
    return Choice(names, tuple(notes))


def _known(role: str, header: Sequence[str], taken: Sequence[str]) -> list[str]:
    """Columns of the first group of known names that has any."""
    free = {name: _plain(name) for name in header if name not in taken}
    for group in ((role,), *KNOWN[role]):
        matches = [name for name, plain in free.items() if plain in group]
        if matches:
            return matches
    return []


def _plain(name: str) -> str:
    """A name without case, blanks and RecBole's type ("item_id:token")."""
    return re.sub(r"[\s-]+", "_", name.strip().lower().partition(":")[0])


def _missing(
    path: Path,
    header: Sequence[str],
    wanted: Sequence[str],
    missing: Sequence[str],
    names: Mapping[str, str],
) -> str:
    what = f"no column {missing[0]}" if len(missing) == 1 else f"no columns {' and '.join(missing)}"
    if not any(re.search(r"[^\W\d]", name) for name in header):
        return (
            f"{path} has {what}: the first line must name the columns, and it is {_shown(header)}; "
            f"add the line {','.join(wanted)} (in the order of your columns) before it."
        )
    free = [name for name in header if name not in wanted and name not in names.values()]
    likely: dict[str, str] = {}
    for role in missing:
        near = _near(role, [name for name in free if name not in likely.values()])
        if near is not None:
            likely[role] = near
    option = ",".join(
        f"{short}={names.get(role) or likely.get(role) or 'NAME'}"
        for short, role in OPTION.items()
        if role in wanted
    )
    hint = (
        f"say which is which with --columns {option}"
        if "timestamp" in wanted
        else (
            "rename " + " and ".join(f"{name!r} to {role}" for role, name in likely.items())
            if likely
            else f"name the columns {' and '.join(wanted)}"
        )
    )
    return f"{path} has {what}: it has {_shown(header)}; {hint}."


def _near(role: str, free: Sequence[str]) -> str | None:
    """The free column whose name is nearest to the wanted one's, if any is near."""
    candidates = {_plain(name): name for name in free}
    targets = (role, *(name for group in KNOWN[role] for name in group))
    for target in targets:
        near = difflib.get_close_matches(target, candidates, n=1, cutoff=0.75)
        if near:
            return candidates[near[0]]
    return None


def _shown(header: Sequence[str]) -> str:
    more = ", ..." if len(header) > 12 else ""
    return ", ".join(repr(name) for name in header[:12]) + more
