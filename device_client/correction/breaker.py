"""A circuit breaker: pauses requests after failures and retries by itself."""

from collections.abc import Callable


class Breaker:
    """Closed: calls pass. Open after `threshold` failures in a row: no call passes until the
    pause is over. Then one call at a time is tried: success closes the breaker, failure doubles
    the pause, up to `longest_s`.
    """

    def __init__(
        self,
        clock: Callable[[], float],
        *,
        threshold: int = 3,
        pause_s: float = 1.0,
        longest_s: float = 30.0,
    ) -> None:
        self._clock, self._threshold = clock, threshold
        self._first_pause, self._longest = pause_s, longest_s
        self._pause, self._until = pause_s, 0.0
        self.failures = 0
        """Number of failures since the last success."""

    @property
    def open(self) -> bool:
        """True while calls are paused."""
        return self._until > 0.0 and self._clock() < self._until

    @property
    def left_s(self) -> float:
        """Seconds until calls pass again; 0 if they pass now."""
        return max(self._until - self._clock(), 0.0) if self._until > 0.0 else 0.0

    def succeeded(self) -> None:
        """Records a successful call."""
        self.failures, self._pause, self._until = 0, self._first_pause, 0.0

    def failed(self, retry_after_s: float | None = None) -> None:
        """Records a failed call; `retry_after_s` is the pause that the cloud asked for."""
        self.failures += 1
        if retry_after_s is not None:
            self._until = self._clock() + min(max(retry_after_s, 0.0), self._longest)
        elif self.failures >= self._threshold:
            self._until = self._clock() + self._pause
            self._pause = min(2 * self._pause, self._longest)
