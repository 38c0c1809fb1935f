"""A click's views: what the device's `views` graph gives, and how `prepare` and `carry` take it.

What is in them: `cloud_service/recommender/export/device_graphs.py`.
"""

from typing import Any, Final

from numpy.typing import NDArray

SEGMENT_VIEWS: Final = "keys", "turned_keys", "values"
"""What a segment keeps of every click; the query of its last one comes beside them."""


def cut_views(views: NDArray[Any], heads: int) -> tuple[NDArray[Any], NDArray[Any]]:
    """Of views (n, 5h (f+1)) what a segment keeps (3, h, n, f+1) and the queries (2, h, n, f+1).

    Both look at the same memory.
    """
    parts = views.reshape(len(views), 5, heads, -1).transpose(1, 2, 0, 3)
    return parts[: len(SEGMENT_VIEWS)], parts[len(SEGMENT_VIEWS) :]
