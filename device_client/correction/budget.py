"""The tolerance budget: how long after H a rerank may wait for the correction."""

import math
from dataclasses import dataclass

DEFAULT_BUDGET_MS = 4.21
"""The paper's tolerance (CoCorrRec, Table 5)."""


@dataclass(frozen=True, slots=True)
class Budget:
    """`tolerance_ms` counts from H; a request is given up after `request_timeout_s`."""

    tolerance_ms: float = DEFAULT_BUDGET_MS
    request_timeout_s: float = 2.0

    def __post_init__(self) -> None:
        if not (math.isfinite(self.tolerance_ms) and self.tolerance_ms >= 0):
            raise ValueError(f"the tolerance must be 0 ms or more, got {self.tolerance_ms}")
        if not (math.isfinite(self.request_timeout_s) and self.request_timeout_s > 0):
            raise ValueError(f"the request timeout must be over 0 s, got {self.request_timeout_s}")

    def deadline_ns(self, hidden_ready_ns: int) -> int:
        """The moment after which a rerank no longer waits."""
        return hidden_ready_ns + int(self.tolerance_ms * 1e6)
