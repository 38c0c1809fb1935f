"""Describes the failures of a link in outcomes and in the log.

Nothing here runs without a failure. Neither H nor a token is ever logged.
"""

import logging
from collections.abc import Callable
from contextlib import suppress

from device_client.correction.sockets import Address
from shared.outcomes import Outcome
from shared.problems import Problem

_log = logging.getLogger("device_client.correction.link")

QUIET_S = 60.0
"""Shortest time between two log messages of one kind, in seconds."""
_LONGEST = 200


class Trouble:
    """Keeps the reason of a link's last failure and logs failures without repetition.

    Logs the first failure and every new reason (WARNING), a pause (WARNING) and the recovery
    (INFO), each at most once in `QUIET_S`.
    """

    def __init__(self, clock: Callable[[], float], address: Address) -> None:
        self._clock, self._cloud = clock, address.header
        self.reason = ""
        """Why the last call failed; empty after a success."""
        self._quiet_until: dict[str, float] = {}

    def began(self, outcome: Outcome, reason: str, pause_s: float) -> None:
        """Records a failed call; `pause_s`: length of the pause that follows, 0 for none."""
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
        """Records the first success after failures."""
        self.reason = ""
        self._say(logging.INFO, "end", "corrections from %s are back", self._cloud)

    def paused(self, left_s: float, failures: int) -> str:
        """Why a call was not made, as a sentence."""
        times = "a failure" if failures == 1 else f"{failures} failures"
        return f"calls are paused for {left_s:.1f} s after {times}: {self.reason}"

    def _say(self, level: int, event: str, message: str, *details: object) -> None:
        clock_s = self._clock()
        if clock_s < self._quiet_until.get(event, clock_s):
            return
        self._quiet_until[event] = clock_s + QUIET_S
        with suppress(Exception):  # a failing log handler must not fail a ranking
            _log.log(level, message, *details)


def refusal(status: int, body: bytes) -> str:
    """Describes an error answer: its status and its problem document, if it has one."""
    try:
        problem = Problem.model_validate_json(body)
    except ValueError:
        return f"the cloud answered {status}"
    text = f"the cloud answered {status} {problem.code}: {problem.title}: {problem.detail}"
    text = "".join(character if character.isprintable() else " " for character in text)
    return text if len(text) <= _LONGEST else text[: _LONGEST - 1] + "…"
