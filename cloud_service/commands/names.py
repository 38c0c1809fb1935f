"""Resolves short names on the command line: the first characters of an id, or `latest`."""

from collections.abc import Sequence

from shared.errors import InvalidRequest

SHORT = 8
"""Number of characters of an id that lists show."""
LATEST = "latest"


def pick(text: str, ids: Sequence[str], noun: str) -> str:
    """Returns the id that `text` names: a whole id, its first characters, or `latest`.

    Args:
        text: what the user typed.
        ids: all ids, newest first.
        noun: what an id names, for error messages: "job".

    Raises InvalidRequest if no id or more than one id matches.
    """
    if text == LATEST:
        if not ids:
            raise InvalidRequest(f"there is no {noun} yet")
        return ids[0]
    matches = (
        [text]
        if text in ids
        else [candidate for candidate in ids if text and candidate.startswith(text)]
    )
    if len(matches) == 1:
        return matches[0]
    if matches:
        shown = ", ".join(matches[:5]) + (", ..." if len(matches) > 5 else "")
        raise InvalidRequest(f"more than one {noun} begins with {text!r}: {shown}")
    newest = ", ".join(candidate[:SHORT] for candidate in ids[:5]) or "none"
    raise InvalidRequest(f"no {noun} begins with {text[:64]!r}; the newest: {newest}")
