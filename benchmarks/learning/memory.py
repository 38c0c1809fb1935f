"""Memory of a process whose learner works, in kilobytes, as JSON on one line. Linux only.

    python -m benchmarks.learning.memory BUNDLE

`private` are its own pages (RssAnon) after each round; buffers of a round stay for the next one.
`peaks` are of all its pages (VmHWM, set back before the learner is made), code that is mapped from
files among them.
"""

import json
import sys
from pathlib import Path

import numpy as np

from device_client.bundle import Bundle
from device_client.learning.learner import Learner
from device_client.session import Session

_STATUS, _CLEAR = Path("/proc/self/status"), Path("/proc/self/clear_refs")
ROUNDS = 10
CLICKS = 75


def main() -> None:
    """Prints the peaks above the session without a learner, and the memory after the rounds."""
    bundle = Bundle.open(Path(sys.argv[1]))
    session, rows = Session(bundle), np.random.default_rng(0)
    candidates = rows.integers(1, bundle.manifest.items + 1, 100)
    np.asarray(bundle.item_table).sum()  # the table is in memory before

    def click(times: int) -> None:
        for row in rows.integers(1, bundle.manifest.items + 1, times):
            session.click_row(int(row))
            session.rerank_rows(candidates)

    click(CLICKS)
    _CLEAR.write_text("5")
    before, own_before = _kilobytes("VmRSS"), _kilobytes("RssAnon")
    learner = Learner(session)
    opened = _kilobytes("RssAnon") - own_before
    click(CLICKS)
    private: list[int] = []
    peaks: list[int] = []
    for _ in range(ROUNDS):
        click(1)
        learner.learn(1e6)
        private.append(_kilobytes("RssAnon") - own_before)
        peaks.append(_kilobytes("VmHWM") - before)
    print(json.dumps({"opened": opened, "private": private, "peaks": peaks}))


def _kilobytes(name: str) -> int:
    for line in _STATUS.read_text("ascii").splitlines():
        if line.startswith(f"{name}:"):
            return int(line.split()[1])
    raise RuntimeError(f"{_STATUS} does not say {name}: this benchmark needs Linux")


if __name__ == "__main__":
    main()
