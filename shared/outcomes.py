"""How the correction of a rerank can end: the terms of every count and report."""

from enum import StrEnum


class Outcome(StrEnum):
    """The result of one request for a correction, or why there was none. `meaning` explains it."""

    meaning: str

    def __new__(cls, value: str, meaning: str) -> "Outcome":
        """A member is its term, with the explanation as an attribute."""
        member = str.__new__(cls, value)
        member._value_ = value
        member.meaning = meaning
        return member

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
