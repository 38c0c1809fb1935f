"""Prints quantiles of the time between two clicks of a user within a session.

The table in device_client/simulate/pauses.py was made from MovieLens 100K with this. A gap of 0 s
is left out (several clicks were stored at once, so it says nothing), and so is one of 30 minutes
or more (the user left and came back: another session).

example:
  python scripts/pause_quantiles.py ../shared/data/ml100k.csv.gz
"""

import csv
import gzip
import sys
from collections import defaultdict
from pathlib import Path

import numpy as np

SESSION_S = 30 * 60
LEVELS = np.linspace(0, 1, 21)


def main() -> int:
    """Prints the quantiles of the log named on the command line, in seconds."""
    if len(sys.argv) != 2:
        print(__doc__, file=sys.stderr)
        return 2
    gaps, every = session_gaps(Path(sys.argv[1]))
    if not gaps.size:
        print("no two clicks of a user are within a session of each other", file=sys.stderr)
        return 1
    print(f"# {gaps.size:,} of {every:,} gaps are within a session and not 0 s")
    print(", ".join(f"{gap:g}" for gap in np.quantile(gaps, LEVELS, method="inverted_cdf")))
    return 0


def session_gaps(path: Path) -> tuple[np.ndarray, int]:
    """The gaps within sessions, in seconds, and how many gaps there are in all.

    `path` is a CSV, gzip or plain, with the columns user_id and timestamp (Unix seconds).
    """
    opened = gzip.open if path.suffix == ".gz" else open
    times: dict[str, list[float]] = defaultdict(list)
    with opened(path, "rt", encoding="utf-8", newline="") as file:
        for row in csv.DictReader(file):
            times[row["user_id"]].append(float(row["timestamp"]))
    gaps = np.concatenate([np.diff(np.sort(moments)) for moments in times.values()])
    return gaps[(gaps > 0) & (gaps < SESSION_S)], gaps.size


if __name__ == "__main__":
    sys.exit(main())
