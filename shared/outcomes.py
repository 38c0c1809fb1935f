"""How the correction of a rerank, and a round of learning, can end: the terms of every count and
report."""

from enum import StrEnum
from typing import Self


class Term(StrEnum):
    """A term with its explanation, `meaning`."""

    meaning: str

    def __new__(cls, value: str, meaning: str) -> Self:
        """A member is its term, with the explanation as an attribute."""
        member = str.__new__(cls, value)
        member._value_ = value
        member.meaning = meaning
        return member


class Outcome(Term):
    """The result of one request for a correction, or why there was none. `meaning` explains it."""

    APPLIED = "applied", "The correction for these very clicks was applied."
    STALE = "stale", "Only a correction for earlier clicks was at hand; it is not applied."
    LATE = (
        "late",
        "The correction had not arrived when the budget ran out; it may serve the next rerank of "
        "the same clicks.",
    )
    TIMEOUT = "timeout", "The request gave no answer within the request timeout."
    REFUSED = "refused", "The cloud answered with an error status or shed the request."
    BAD_PAYLOAD = "bad_payload", "The answer broke the wire format."
    WRONG_MODEL = (
        "wrong_model",
        "The cloud does not serve this model version, or answered for another.",
    )
    OFFLINE = (
        "offline",
        "No cloud is configured, it could not be reached, or calls are paused after repeated "
        "failures.",
    )
    UNKNOWN_CANDIDATES = (
        "unknown_candidates",
        "The model knows none of the candidates, so there was nothing to rank.",
    )


class LearningOutcome(Term):
    """How a call of the device's learner ended. `meaning` explains it."""

    IMPROVED = (
        "improved",
        "The new patch ranks the newest own clicks better than what was there, and is used.",
    )
    KEPT = (
        "kept",
        "The new patch ranks the newest own clicks no better: the old one stays, or none if that "
        "ranks them better.",
    )
    TOO_FEW = "too_few", "There are too few own clicks to learn from."
    OUT_OF_TIME = "out_of_time", "The budget ended first; the next call goes on from there."
    DIVERGED = "diverged", "The new patch is not finite, or far too large; it is not used."
    STALE_BUNDLE = (
        "stale_bundle",
        "The stored patch belongs to another bundle: it is not used, and learned again.",
    )
