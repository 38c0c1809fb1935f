"""Prints quantiles of the time between two clicks of a user within a session.

The table in experiments/simulation/pauses.py was made from MovieLens 100K with this. What is
left out is said there.

example:
  python scripts/pause_quantiles.py ../shared/data/ml100k.csv.gz
"""

import sys
from pathlib import Path

import numpy as np

from experiments.simulation.pauses import session_gaps

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


if __name__ == "__main__":
    sys.exit(main())
