"""Plans the requests of simulated devices: clicks of held-out users and candidate lists.

Every profile replays the same requests, so that rankings can be compared. The rankings with and
without the correction are computed beforehand, over an unshaped connection.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from device_client.cloud import HISTORY, Cloud
from device_client.correction.link import CorrectionLink
from device_client.scn import Graphs
from device_client.session import Session
from experiments.simulation.quality import Compared, Rank
from shared.wire import Form


@dataclass(slots=True)
class Request:
    """One click of a held-out user and the rerank after it."""

    click: int
    """The item clicked now."""
    target: int
    """The item this user clicked next."""
    candidates: NDArray[np.int64]
    local: Rank = None
    """Rank of the target without the correction, from 0; None: not among the candidates."""
    corrected: Rank = None
    """Rank of the target with the correction, from 0."""


@dataclass(slots=True)
class Visit:
    """One user's requests in the order of the clicks, after `earlier` clicks."""

    user: int
    earlier: list[int]
    requests: list[Request] = field(default_factory=list)


def plan_visits(
    cloud: Cloud,
    version: str,
    *,
    request_count: int,
    longest: int,
    candidates: int,
    seed: int,
    skip: int = 0,
    progress: Callable[[int, int], None],
) -> list[Visit]:
    """Plans at least `wanted` requests of random held-out users, or all if there are fewer.

    A visit is at most the last `longest` clicks of a user; earlier clicks are the device's
    history. The users of the first `skip` requests come last: simulations that share
    the load skip what the others play. Raises CloudError, and ValueError without any request.
    """
    items, offsets = cloud.replay(version)
    visits, histories, total = [], [], 0
    for user in _order(offsets, longest, skip, seed):
        if total >= request_count:
            break
        clicks = [int(item) for item in items[offsets[user] : offsets[user + 1]]]
        steps = range(max(0, len(clicks) - 1 - longest), len(clicks) - 1)
        none = np.empty(0, np.int64)
        visits.append(
            Visit(
                user,
                clicks[: steps.start],
                [Request(clicks[at], clicks[at + 1], none) for at in steps],
            )
        )
        histories += [clicks[max(0, at + 1 - HISTORY) : at + 1] for at in steps]
        total += len(steps)
    if not total:
        raise ValueError(
            f"version {version} has no held-out user with two clicks to replay: train one with "
            "--holdout-users 0.1"
        )
    lists = cloud.candidate_rows(version, histories, candidates, progress)
    for request, listed in zip((r for v in visits for r in v.requests), lists, strict=True):
        request.candidates = listed
    return visits


def _order(offsets: NDArray[np.int64], longest: int, skip: int, seed: int) -> list[int]:
    """Shuffles the users and moves those of the first `skip` requests to the end."""
    users = np.random.default_rng(seed).permutation(len(offsets) - 1)
    requests = np.clip(np.diff(offsets)[users] - 1, 0, longest)
    before = np.cumsum(requests) - requests
    if not requests.any():
        return []
    first_user = int(np.argmax(before >= skip % int(requests.sum())))
    return [int(user) for user in np.roll(users, -first_user)]


def compared(visits: Sequence[Visit]) -> list[Compared]:
    """Ranks of the next click of every request, with and without the correction."""
    return [
        Compared(visit.user, len(visit.earlier) + index, request.corrected, request.local)
        for visit in visits
        for index, request in enumerate(visit.requests)
    ]


def rank_beforehand(
    visits: list[Visit], graphs: Graphs, url: str, form: Form, progress: Callable[[int, int], None]
) -> None:
    """Fills in `local` and `corrected` of every request, with corrections in `form`.

    Raises RuntimeError if a correction does not come even without a budget.
    """
    total, done = sum(len(visit.requests) for visit in visits), 0
    link = CorrectionLink.to(url, graphs.bundle, form=form)
    try:
        for visit in visits:
            session = Session(graphs, link)
            session.preload_rows(visit.earlier, ask=False)
            for request in visit.requests:
                session.click_row(request.click)
                answer = session.settle()
                if answer is None or answer.correction is None:
                    outcome = answer.outcome if answer else "nothing"
                    raise RuntimeError(f"the cloud gives no corrections: {outcome}")
                listed = request.candidates
                request.local = place_of(request.target, listed, session.score_rows(listed))
                request.corrected = place_of(
                    request.target, listed, session.score_rows(listed, answer.correction)
                )
                done += 1
            progress(done, total)
    finally:
        link.close()


def place_of(target: int, candidates: NDArray[np.int64], scores: NDArray[np.float32]) -> Rank:
    """Rank of `target` by score, from 0, after all ties; None: not a candidate."""
    at = np.flatnonzero(candidates == target)
    if not len(at):
        return None
    return int((scores >= scores[at[0]]).sum()) - 1
