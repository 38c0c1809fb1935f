"""One device with one bundle, in a process of its own that has nothing but the device's software.

    python -m benchmarks.scaling.device FOLDER COUNT

Prints JSON: how long the bundle took to open, when its files had to come from the disk and when
they were in the page cache, how long until the first ranking, times of `COUNT` clicks and reranks
of 100, all in ms, and by how many bytes the process grew over what it had after its imports.
"""

import json
import os
import sys
import time
from pathlib import Path

import numpy as np

from benchmarks.processes import memory
from device_client.bundle import Bundle
from device_client.session import Session

CANDIDATES = 100


def forget(folder: Path) -> None:
    """Takes a folder's files out of the page cache, as after a restart. They must be on disk."""
    for path in folder.iterdir():
        handle = os.open(path, os.O_RDONLY)
        try:
            os.posix_fadvise(handle, 0, 0, os.POSIX_FADV_DONTNEED)
        finally:
            os.close(handle)


def measure(folder: Path, count: int) -> dict[str, object]:
    """All figures of one bundle."""
    before = memory()
    forget(folder)
    begun = time.perf_counter()
    bundle = Bundle.open(folder)
    opened = time.perf_counter()
    random = np.random.default_rng(0)
    clicks = random.integers(1, bundle.manifest.items + 1, count + 1)
    lists = random.integers(1, bundle.manifest.items + 1, (count + 1, CANDIDATES))
    session = Session(bundle)
    session.click_row(int(clicks[0]))
    session.rerank_rows(lists[0])
    began = time.perf_counter()
    grown = {"first": memory().less(before)._asdict()}
    hidden, ranked = [], []
    for click, listed in zip(clicks[1:], lists[1:], strict=True):
        session.click_row(int(click))
        timeline = session.rerank_rows(listed).timeline
        hidden.append((timeline.hidden_ns - timeline.clicked_ns) / 1e6)
        ranked.append((timeline.ranked_ns - timeline.reranked_ns) / 1e6)
    grown["used"] = memory().less(before)._asdict()
    opened_again = time.perf_counter()
    Bundle.open(folder)
    return {
        "open_cold": (opened - begun) * 1e3,
        "open_again": (time.perf_counter() - opened_again) * 1e3,
        "first_ranking": (began - opened) * 1e3,
        "click": hidden,
        "rerank": ranked,
        "memory": grown,
        "imports": before._asdict(),
    }


if __name__ == "__main__":
    print(json.dumps(measure(Path(sys.argv[1]), int(sys.argv[2]))))
