"""Short names on the command line: the first characters of an id, or `latest`."""

from collections.abc import Sequence

from shared.errors import InvalidRequest

SHORT = 8
"""Characters of an id that lists show."""
LATEST = "latest"


def pick(text: str, ids: Sequence[str], noun: str) -> str:
    """The id that `text` names: all of it, its first characters, or `latest` for the first.

    Args:
        ids: the newest first.
        what: an id in words, for errors: "job".

    Raises InvalidRequest where no id or more than one begins so.
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
    known = ", ".join(candidate[:SHORT] for candidate in ids[:5]) or "none"
    raise InvalidRequest(f"no {noun} begins with {text[:64]!r}; the newest: {known}")
