"""`device-client rerank`: prints one user's ranking with and without the correction."""

import argparse
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from device_client.bundle import Bundle, newest_bundle
from device_client.cloud import HISTORY, Cloud
from device_client.correction.budget import Budget
from device_client.correction.link import CorrectionLink
from device_client.items import shown
from device_client.ranking import Ranking
from device_client.session import Session
from shared.errors import InvalidRequest, UnknownItem

_TITLES = "without the correction", "with it"
_WIDEST, _NARROWEST = 44, 22
_SCORE = 8
_REST = 36
"""Width of a line without the two names: ranks, scores and rank change, in columns."""
_SHOWN = 10
"""Largest number of clicks, or unknown candidates, that are shown."""
_LONGEST_LIST = 1000


@dataclass(frozen=True)
class _Asked:
    """Clicks and candidates of one ranking, as rows of the item table."""

    bundle: Bundle
    clicks: list[int]
    candidates: NDArray[np.int64]
    unknown: list[str]
    """Candidates that are not in the catalogue of the model."""


def rerank_one(
    options: argparse.Namespace, budget: Budget, progress: Callable[[str, int, int], None]
) -> int:
    """Prints the served ranking beside the local one."""
    _check(options)
    if options.offline:
        request, link = _offline(options), None
    else:
        with Cloud(options.url) as cloud:
            bundle = Bundle.open(cloud.pull(options.bundles, options.model, progress))
            request = _online(options, bundle, cloud)
        link = CorrectionLink.to(options.url, bundle, budget=budget)
    with Session(request.bundle, link, budget) as session:
        session.preload_rows(request.clicks[:-1], ask=False)
        session.click_row(request.clicks[-1])
        served = session.rerank_rows(request.candidates)
        answer = session.settle(budget.request_timeout_s) if link else None
        correction = answer.correction if answer else None
        local = session.score_rows(request.candidates)
        corrected = None
        if correction is not None:
            corrected = session.score_rows(request.candidates, correction)
    _print_clicks(request)
    _print_rankings(options.top, request, local, corrected)
    _print_outcome(served, budget)
    return 0


def _check(options: argparse.Namespace) -> None:
    """Raises InvalidRequest if the options contradict each other or are out of range."""
    if options.top < 1 or not 1 <= options.count <= _LONGEST_LIST:
        raise InvalidRequest(f"--top is at least 1, and --count from 1 to {_LONGEST_LIST:,}")
    if options.user is not None and options.user < 0:
        raise InvalidRequest(f"--user counts held-out users from 0, got {options.user}")
    if options.offline and not options.clicks:
        raise InvalidRequest("--offline needs --clicks: held-out users are asked of the cloud")


def _offline(options: argparse.Namespace) -> _Asked:
    bundle = Bundle.open(newest_bundle(options.bundles, options.model))
    clicks = _clicked(bundle, options.clicks)
    if options.candidates:
        return _Asked(bundle, clicks, *_listed(bundle, options.candidates))
    return _Asked(bundle, clicks, np.arange(1, bundle.manifest.items + 1), [])


def _online(options: argparse.Namespace, bundle: Bundle, cloud: Cloud) -> _Asked:
    if options.clicks:
        clicks = _clicked(bundle, options.clicks)
    else:
        clicks = _clicks_of(options.user, bundle, cloud)
    if options.candidates:
        return _Asked(bundle, clicks, *_listed(bundle, options.candidates))
    (rows,) = cloud.candidate_rows(bundle.version, [clicks[-HISTORY:]], options.count)
    return _Asked(bundle, clicks, rows, [])


def _clicked(bundle: Bundle, ids: Sequence[str]) -> list[int]:
    """Rows of the known clicks; prints the unknown ones. Raises UnknownItem if all are."""
    rows = bundle.rows(ids)
    unknown = [item for item, row in zip(ids, rows, strict=True) if not row]
    if len(unknown) == len(ids):
        raise UnknownItem(
            f"none of the clicks is in the catalogue of {bundle.version}, whose ids are like "
            f"{shown(bundle.item_id(1))}: {_few(unknown)}"
        )
    if unknown:
        print(f"clicks left out, which model {bundle.version} does not know: {_few(unknown)}")
    return [int(row) for row in rows if row]


def _listed(bundle: Bundle, ids: Sequence[str]) -> tuple[NDArray[np.int64], list[str]]:
    rows = bundle.rows(ids)
    return rows, [item for item, row in zip(ids, rows, strict=True) if not row]


def _clicks_of(user: int, bundle: Bundle, cloud: Cloud) -> list[int]:
    items, offsets = cloud.replay(bundle.version)
    users = len(offsets) - 1
    if user >= users:
        has = f"has {users:,} held-out users: --user goes from 0 to {users - 1}"
        raise InvalidRequest(f"model {bundle.version} {has if users else 'has none'}, got {user}")
    clicks = items[offsets[user] : offsets[user + 1] - 1]
    if not len(clicks):
        raise InvalidRequest(f"--user {user} has one click alone, the one to be guessed")
    return [int(item) for item in clicks]


def _print_clicks(request: _Asked) -> None:
    data, clicks = request.bundle.manifest.data, request.clicks
    print(
        f"model {request.bundle.version}, trained on {data.name}{' (synthetic)' * data.synthetic}"
    )
    print(f"clicks, the last {min(len(clicks), _SHOWN)} of {len(clicks)}:")
    for click in clicks[-_SHOWN:]:
        print(f"  {_name(request.bundle, click)}")


def _print_rankings(
    top: int, request: _Asked, local: NDArray[np.float32], corrected: NDArray[np.float32] | None
) -> None:
    """Both rankings side by side, each item beside its own score."""
    width = _name_width()
    best = _order(local)
    beside = best if corrected is None else _order(corrected)
    before = {int(at): position for position, at in enumerate(best)}
    known_count = len(request.candidates) - len(request.unknown)
    without, with_it = (f"{title:{width}} {'score':>{_SCORE}}" for title in _TITLES)
    print(f"\n{'':3} {without}   {'' if corrected is None else with_it}".rstrip())
    for position in range(min(top, known_count)):
        local_entry = _entry(request, int(best[position]), local, width)
        right = ""
        if corrected is not None:
            at = int(beside[position])
            right = f"{_entry(request, at, corrected, width)} {_rank_change(before[at] - position)}"
        print(f"{position + 1:3} {local_entry}   {right}".rstrip())
    if request.unknown:
        print(f"unknown to this model, so not ranked: {_few(request.unknown)}")


def _order(scores: NDArray[np.float32]) -> NDArray[np.int64]:
    order: NDArray[np.int64] = np.argsort(-scores, kind="stable")
    return order


def _entry(request: _Asked, at: int, scores: NDArray[np.float32], width: int) -> str:
    name = _name(request.bundle, int(request.candidates[at]), width)
    return f"{name:{width}} {float(scores[at]):{_SCORE}.4f}"


def _name_width() -> int:
    """Width of a name, in columns, such that a line with two names fits the terminal."""
    return min(max((shutil.get_terminal_size().columns - _REST) // 2, _NARROWEST), _WIDEST)


def _rank_change(positions: int) -> str:
    return f"(up {positions})" if positions > 0 else f"(down {-positions})" if positions < 0 else ""


def _name(bundle: Bundle, row: int, width: int = _WIDEST) -> str:
    title = bundle.title(row)
    return _fit(f"{bundle.item_id(row)} {title}" if title else bundle.item_id(row), width)


def _fit(name: str, width: int = _WIDEST) -> str:
    name = "".join(c if c.isprintable() else "�" for c in name)  # an id may hold anything
    return name if len(name) <= width else name[: width - 1] + "…"


def _few(ids: Sequence[str]) -> str:
    more = f" and {len(ids) - _SHOWN} more" if len(ids) > _SHOWN else ""
    return ", ".join(_fit(item) for item in ids[:_SHOWN]) + more


def _print_outcome(served: Ranking, budget: Budget) -> None:
    outcome, times = served.outcome, served.timeline
    if outcome is None:
        return
    print(f"\nserved: {outcome}. {outcome.meaning}")
    if served.reason:
        print(f"why: {served.reason}")
    waited = (times.ranked_ns - times.hidden_ns) / 1e6
    print(f"H to ranking {waited:.2f} ms, of a tolerance of {budget.tolerance_ms:g} ms")
    if times.received_ns:
        print(
            f"  ↑ {(times.uploaded_ns - times.sent_ns) / 1e6:.3f} ms"
            f"  ○ {(times.first_byte_ns - times.uploaded_ns) / 1e6:.3f} ms"
            f" (the GCN {times.compute_ms:.3f})"
            f"  ↓ {(times.received_ns - times.first_byte_ns) / 1e6:.3f} ms"
        )
