"""How many cases the tests draw that ask for whatever there is."""

import os
from typing import Any

from hypothesis import settings


def drawn(variable: str, count: int, **more: Any) -> settings:
    """So many, the same each time; or as many others as the environment variable says."""
    asked = int(os.environ.get(variable, "0"))
    return settings(
        max_examples=asked or count, derandomize=not asked, database=None, deadline=None, **more
    )
