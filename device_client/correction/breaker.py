"""Leaving a failing cloud alone for a while, and trying again without being told."""

from collections.abc import Callable


class Breaker:
    """Closed: calls pass. Open after `threshold` failures in a row: none does until a pause is
    over, then one call at a time tries; success closes it, failure doubles the pause.
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
        """Calls that failed since one was answered well."""

    @property
    def open(self) -> bool:
        """Whether calls are paused at this moment."""
        return self._until > 0.0 and self._clock() < self._until

    @property
    def left_s(self) -> float:
        """Seconds until calls pass again; 0 where they do."""
        return max(self._until - self._clock(), 0.0) if self._until > 0.0 else 0.0

    def succeeded(self) -> None:
        """A call was answered well."""
        self.failures, self._pause, self._until = 0, self._first_pause, 0.0

    def failed(self, retry_after_s: float | None = None) -> None:
        """A call failed; `retry_after_s` is how long the cloud itself asked to be left alone."""
        self.failures += 1
        if retry_after_s is not None:
            self._until = self._clock() + min(max(retry_after_s, 0.0), self._longest)
        elif self.failures >= self._threshold:
            self._until = self._clock() + self._pause
            self._pause = min(2 * self._pause, self._longest)
