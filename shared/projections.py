"""The query, key and value projections of one click, as the `views` graph returns them.

shared/GRAPHS.md says what each number is. In the published graphs the projections are called
`views`, and the rotated keys `turned_keys`: these names are part of bundles already in stores.
"""

from typing import Any, Final

from numpy.typing import NDArray

SEGMENT_PROJECTIONS: Final = "keys", "turned_keys", "values"
"""Inputs of `prepare` and `carry` that hold a row for every click of the segment."""


def split_projections(projections: NDArray[Any], heads: int) -> tuple[NDArray[Any], NDArray[Any]]:
    """Splits the output of `views`, (n, 5h (f+1)), into what the segment keeps and the queries.

    Returns keys, rotated keys and values (3, h, n, f+1), and the query and rotated query
    (2, h, n, f+1). Both are views of the same memory.
    """
    by_head = projections.reshape(len(projections), 5, heads, -1).transpose(1, 2, 0, 3)
    return by_head[: len(SEGMENT_PROJECTIONS)], by_head[len(SEGMENT_PROJECTIONS) :]
