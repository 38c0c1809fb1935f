"""Fetches samples of other users' clicks from the cloud, for a device that learns (CoDA).

samples = fetch_samples(url, bundle, token, Query(states=states))  # .states (n, D), .rows (n,)

A query tells the cloud what H tells it, too: what the user clicked. The device asks only if its
app allows it.
"""

from http import HTTPStatus

from device_client.bundle import Bundle
from device_client.correction.http_answer import BadAnswer
from device_client.correction.received import retry_seconds
from device_client.correction.sockets import Connect
from device_client.correction.trouble import refusal
from device_client.learning.exchange import RawAnswer, exchange
from shared.errors import RecommendationError, WrongModel
from shared.problems import Problem
from shared.samples import (
    CHECK_HEADER,
    COUNT_HEADER,
    DEFAULT_FORM,
    MOST_SAMPLES,
    SAMPLE_TYPES,
    Query,
    SampleForm,
    Samples,
    SampleWire,
    check_of,
    samples_path,
)
from shared.wire import VERSION_HEADER

TIMEOUT_S = 10.0
_LONGEST = 64
"""Characters of a header that a message repeats."""


class SamplesUnavailable(RecommendationError):
    """The device gets no samples, for whatever reason; it learns without them.

    Attributes:
        problem: code of the cloud's problem document, such as `no-samples`; empty if it sent none.
        retry_after_s: seconds after which the cloud wants to be asked again, if it says so.
    """

    code = "samples-unavailable"
    title = "The device gets no samples"

    def __init__(self, reason: str, problem: str = "", retry_after_s: float | None = None) -> None:
        super().__init__(reason)
        self.problem, self.retry_after_s = problem, retry_after_s


def fetch_samples(
    url: str,
    bundle: Bundle,
    token: str,
    query: Query | None = None,
    *,
    most: int = MOST_SAMPLES,
    form: SampleForm = DEFAULT_FORM,
    timeout_s: float = TIMEOUT_S,
    connect: Connect | None = None,
) -> Samples:
    """Up to `most` samples of the bundle's model: near to `query`, or random ones without.

    Reads at most the bytes of so many samples, within `timeout_s`. Returns states (n, D) float32
    and rows (n,) int64, n at least 1, which belong to this bundle alone. Raises SamplesUnavailable
    and nothing else.
    """
    try:
        if not 1 <= most <= MOST_SAMPLES:
            raise ValueError(f"a query is for 1 to {MOST_SAMPLES} samples")
        wire = SampleWire(bundle.manifest.model.dim, bundle.manifest.items)
        media_type, body = wire.encode_query(query or Query())
        headers = {
            "Accept": SAMPLE_TYPES[form],
            "Authorization": f"Bearer {token}",
            "Content-Type": media_type,
            COUNT_HEADER: str(most),
        }
        limit, path = most * wire.sample_bytes(form), samples_path(bundle.version)
        answer = exchange(
            url, path, headers, body, body_limit=limit, timeout_s=timeout_s, connect=connect
        )
        if answer.status != HTTPStatus.OK:
            raise _refused(answer)
        _check_head(answer, bundle.version, form, body)
        return wire.decode_samples(answer.body, form, most)
    except SamplesUnavailable:
        raise
    except (RecommendationError, BadAnswer, OSError, ValueError, TypeError, KeyError) as error:
        reason = str(error) or type(error).__name__
        raise SamplesUnavailable(f"no samples: {reason}") from error


def _check_head(answer: RawAnswer, version: str, form: SampleForm, query: bytes) -> None:
    """Raises SamplesUnavailable or WrongModel unless the answer is one to this query."""
    answered = answer.headers.get(VERSION_HEADER, "")
    if answered != version:
        raise WrongModel(
            f"samples of model {version} were asked for, and these are of "
            f"{_shown(answered) or 'a model that is not named'}"
        )
    media_type = answer.headers.get("content-type", "")
    if media_type != SAMPLE_TYPES[form]:
        raise SamplesUnavailable(
            f"no samples: the answer is {_shown(media_type) or 'of no type'}, not "
            f"{SAMPLE_TYPES[form]}"
        )
    if answer.headers.get(CHECK_HEADER, "") != check_of(query, answer.body):
        raise SamplesUnavailable(
            "no samples: the answer is for another query, or not as it was sent"
        )


def _refused(answer: RawAnswer) -> SamplesUnavailable:
    try:
        problem = Problem.model_validate_json(answer.body).code[:_LONGEST]
    except ValueError:
        problem = ""
    return SamplesUnavailable(
        refusal(answer.status, answer.body),
        problem,
        retry_seconds(answer.headers.get("retry-after", "")),
    )


def _shown(text: str) -> str:
    return "".join(c if c.isprintable() else " " for c in text[:_LONGEST])
