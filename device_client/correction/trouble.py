"""What a link says of its failures: in words, to whoever asks, and now and then to the log.

Nothing here runs while all goes well. Neither H nor a token ever comes here.
"""

import logging
from collections.abc import Callable
from contextlib import suppress

from device_client.correction.sockets import Address
from shared.outcomes import Outcome
from shared.problems import Problem

_log = logging.getLogger("device_client.correction.link")

QUIET_S = 60.0
"""A link says nothing of the same kind twice within so many seconds."""
_LONGEST = 200


class Trouble:
    """The failures of one link: the reason of the last one, and what the log was told of them.

    The log hears of the first failure and of other reasons (WARNING), of a pause (WARNING) and of
    the end of it all (INFO), each at most once in `QUIET_S`.
    """

    def __init__(self, clock: Callable[[], float], address: Address) -> None:
        self._clock, self._cloud = clock, address.header
        self.reason = ""
        """Why the last call failed; empty where it did not."""
        self._quiet_until: dict[str, float] = {}

    def began(self, outcome: Outcome, reason: str, pause_s: float) -> None:
        """A call failed; `pause_s`: how long the cloud will now be left alone, 0: not at all."""
        is_new, self.reason = reason != self.reason, reason
        if is_new:
            self._say(
                logging.WARNING, "failure",
                "no corrections from %s (%s: %s): rankings are the device's own",
                self._cloud, outcome, reason,
            )  # fmt: skip
        if pause_s > 0:
            self._say(
                logging.WARNING, "pause",
                "calls to %s are paused for %.1f s: %s", self._cloud, pause_s, reason,
            )  # fmt: skip

    def ended(self) -> None:
        """A call was answered well after some that were not."""
        self.reason = ""
        self._say(logging.INFO, "end", "corrections from %s are back", self._cloud)

    def paused(self, left_s: float, failures: int) -> str:
        """Why a call was not made, in words."""
        times = "a failure" if failures == 1 else f"{failures} failures"
        return f"calls are paused for {left_s:.1f} s after {times}: {self.reason}"

    def _say(self, level: int, event: str, message: str, *details: object) -> None:
        clock_s = self._clock()
        if clock_s < self._quiet_until.get(event, clock_s):
            return
        self._quiet_until[event] = clock_s + QUIET_S
        with suppress(Exception):  # a ranking does not fail because a log does
            _log.log(level, message, *details)


def refusal(status: int, body: bytes) -> str:
    """The status of an answer and, where it has a problem document, what that says."""
    try:
        problem = Problem.model_validate_json(body)
    except ValueError:
        return f"the cloud answered {status}"
    text = f"the cloud answered {status} {problem.code}: {problem.title}: {problem.detail}"
    text = "".join(character if character.isprintable() else " " for character in text)
    return text if len(text) <= _LONGEST else text[: _LONGEST - 1] + "…"
