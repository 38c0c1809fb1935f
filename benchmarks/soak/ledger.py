"""The ledger of a soak: what devices sent, what the proxy did to it, what the cloud counted."""

import json
import math
import re
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

NORMAL: Final = {
    200: "applied",
    404: "wrong_model",
    410: "wrong_model",
    503: "refused",
    504: "refused",
}
"""What an answer that is passed on as it is makes of a request."""
ANYTIME: Final = frozenset({"timeout", "session_ended"})
"""How a request may end whatever is done to its answer: it is given up, or its session ends."""
BROKEN: Final = frozenset({"offline", "asked_again"})
DAMAGED: Final = frozenset({"bad_payload"})
UNHARMED: Final = frozenset({"passed", "delay", "jitter", "loss", "drip"})
ENDS: Final[dict[str, frozenset[str]]] = {
    "no answer of the cloud": BROKEN,
    "reset": BROKEN,
    "half-open": frozenset(),
    "cut, closed": BROKEN,
    "cut, reset": BROKEN,
    "corruption": DAMAGED,
    "duplicate": DAMAGED,
    "another's answer": DAMAGED | {"refused", "wrong_model"},
}
"""How a request may end by what was done to its answer."""
WHOLE: Final = UNHARMED | {"duplicate"}
"""After these an answer may count as it is; after `corruption` only its status may."""
STATUS_OF: Final = {
    "row": 200,
    "full": 200,
    "overloaded": 503,
    "too-many-connections": 503,
    "deadline-passed": 504,
    "retired-model": 410,
    "unknown-model": 404,
}
_COUNTER: Final = re.compile(r'^cloud_corrections_total\{outcome="([^"]+)"\} ([0-9.e+]+)$', re.M)
T_95: Final = 2.306
"""Student's t for a two-sided 95% interval with BLOCKS - 2 degrees of freedom."""
BLOCKS: Final = 10


def may_end(fault: str, status: int, outcome: str) -> bool:
    """Whether a request whose answer had `status` and met `fault` may have ended so."""
    allowed = ANYTIME | ENDS.get(fault, frozenset())
    if fault in WHOLE or (fault == "corruption" and status != 200):
        allowed |= {NORMAL.get(status, "refused")}
    return outcome in allowed


@dataclass
class Life:
    """One cloud process, from its start to its end."""

    answered_before: Counter[int]
    """By the proxy, when it began."""
    looked: Counter[int] = field(default_factory=Counter)
    """By the proxy, at the last look at the cloud's counters."""
    counted: Counter[str] = field(default_factory=Counter)
    """By the cloud, at that look."""

    def differences(self) -> dict[str, int]:
        """Cloud's counters less the proxy's by status: all 0 where the ledger balances."""
        cloud: Counter[int] = Counter()
        for outcome, count in self.counted.items():
            cloud[STATUS_OF.get(outcome, -1)] += count
        proxy = self.looked - self.answered_before
        return {str(s): cloud[s] - proxy[s] for s in {*cloud, *proxy} if cloud[s] != proxy[s]}


def counters(page: str) -> Counter[str]:
    """The cloud's counters of corrections, by outcome."""
    return Counter({name: int(float(count)) for name, count in _COUNTER.findall(page)})


def joined(folder: Path) -> dict[str, Any]:
    """Both sides' lines of requests, matched one by one.

    `by fault`: how requests ended by what the proxy did. `unmatched`: lines that only one side
    has. `unexplained`: ends that the fault does not explain.
    """
    told: dict[tuple[str, ...], tuple[str, str]] = {}
    for line in (folder / "proxy").read_text().splitlines():
        host, port, time, index, status, fault = line.split(" ", 5)
        told[host, port, time, index] = fault, status
    ends: dict[str, Counter[str]] = {}
    unmatched: list[str] = []
    unexplained: list[str] = []
    for path in sorted(folder.glob("requests-*")):
        for line in path.read_text().splitlines():
            *place, outcome = line.split()
            fault, status = told.pop(tuple(place), ("", ""))
            if not fault:
                unmatched.append(line)
                continue
            ends.setdefault(fault, Counter())[outcome] += 1
            if not may_end(fault, int(status), outcome):
                unexplained.append(f"{line}: {fault}, {status}")
    return {
        "by fault": {fault: dict(values) for fault, values in sorted(ends.items())},
        "sent, not seen by the proxy": unmatched,
        "seen by the proxy, not sent": [" ".join(request_key) for request_key in told],
        "unexplained": unexplained,
    }


def devices(folder: Path) -> tuple[Counter[str], list[str], list[str]]:
    """All devices' counts, what should never have been raised, and corrections that were wrong."""
    ledger: Counter[str] = Counter()
    faults: list[str] = []
    differ: list[str] = []
    for path in sorted(folder.glob("ledger-*.json")):
        values = json.loads(path.read_text())
        ledger.update(values["ledger"])
        faults += values["faults"]
        differ += values["differ"]
    return ledger, faults, differ


def excess(folder: Path, alone: Callable[[str], bool]) -> dict[str, Any]:
    """By how much rankings came after their budget and a local ranking's time, in ms; and a bare
    wait of 4.21 ms in the same threads after its end. `alone` says which devices are meant."""
    over: list[float] = []
    pauses: list[float] = []
    pauses_by_kind = {"pause": pauses, "difference": []}
    for path in sorted(folder.glob("rankings-*")):
        if not alone(path.name.removeprefix("rankings-")):
            continue
        for line in path.read_text().splitlines():
            outcome, _, late, _, _ = line.split()
            pauses_by_kind.get(outcome, over).append(float(late) / 1e3)
    return {"rankings": _spread(np.array(over)), "bare waits": _spread(np.array(pauses))}


def _spread(values: NDArray[np.float64]) -> dict[str, float]:
    if not len(values):
        return {"count": 0}
    levels = {"median": 0.5, "p99": 0.99, "p99.9": 0.999, "p99.99": 0.9999}
    spread = {name: float(np.quantile(values, level)) for name, level in levels.items()}
    over = {f"over {ms} ms": int((values > ms).sum()) for ms in (0, 1, 10, 100)}
    return {"count": len(values)} | spread | {"max": float(values.max())} | over


def slope(times: Sequence[float], values: Sequence[float]) -> dict[str, float]:
    """Change an hour, with a 95% interval, by least squares on the means of ten blocks in time:
    neighbouring samples are not independent, means of blocks nearly are."""
    x = np.array([block.mean() for block in np.array_split(np.array(times) / 3600, BLOCKS)])
    y = np.array([block.mean() for block in np.array_split(np.array(values, np.float64), BLOCKS)])
    centred = x - x.mean()
    spread = float((centred**2).sum())
    rise = float((centred * y).sum()) / spread
    residuals = y - y.mean() - rise * centred
    wide = T_95 * math.sqrt(float((residuals**2).sum()) / (BLOCKS - 2) / spread)
    return {"an hour": rise, "low": rise - wide, "high": rise + wide, "mean": float(y.mean())}
