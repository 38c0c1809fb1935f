"""`device-client rerank`: one user's ranking at a terminal, before and after the correction."""

import argparse
import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from device_client.budget import Budget
from device_client.bundle import Bundle
from device_client.cloud import HISTORY, Cloud
from device_client.link import CorrectionLink
from device_client.session import Ranking, Session
from shared.errors import BundleMissing, InvalidRequest
from shared.manifest import VERSION_PATTERN

_WIDTH = 44
_SHOWN_CLICKS = 10


def rerank_one(
    options: argparse.Namespace, budget: Budget, progress: Callable[[str, int, int], None]
) -> int:
    """Prints the ranking the device serves, and the one it would have without the cloud."""
    if options.top < 1 or not 1 <= options.count <= 1000:
        raise InvalidRequest("--top is at least 1, and --count from 1 to 1,000")
    if options.offline:
        bundle, clicks, candidates = _offline(options)
        link = None
    else:
        with Cloud(options.url) as cloud:
            bundle = Bundle.open(cloud.pull(options.bundles, options.version, progress))
            clicks = _clicks(options, bundle, cloud)
            candidates = _candidates(options, bundle, cloud, clicks)
        link = CorrectionLink.to(options.url, bundle, budget=budget)
    with Session(bundle, link, budget) as session:
        session.preload(clicks[:-1])
        session.click(clicks[-1])
        served = session.rerank(candidates)
        answer = session.settle(budget.request_timeout_s) if link else None
        correction = answer.correction if answer else None
        local = np.argsort(-session.scores(candidates), kind="stable")
        corrected = np.argsort(-session.scores(candidates, correction), kind="stable")
    _print(options.top, bundle, clicks, candidates, local, corrected if correction else None)
    _print_outcome(served, budget)
    return 0


def _offline(options: argparse.Namespace) -> tuple[Bundle, list[int], NDArray[np.int64]]:
    if not options.clicks:
        raise InvalidRequest("--offline needs --clicks: held-out users are asked of the cloud")
    bundle = Bundle.open(_newest(options.bundles, options.version))
    clicks = [bundle.index(item) for item in options.clicks]
    if options.candidates:
        numbers = np.array([bundle.index(item) for item in options.candidates], np.int64)
    else:
        numbers = np.arange(1, bundle.manifest.items + 1)
    return bundle, clicks, numbers


def _newest(folder: Path, version: str) -> Path:
    if version != "production":
        return folder / version
    found = [p for p in folder.glob("*") if re.fullmatch(VERSION_PATTERN, p.name)]
    if not found:
        raise BundleMissing(f"no bundle in {folder}: run `device-client pull` while online")
    return max(found, key=lambda path: path.stat().st_mtime_ns)


def _clicks(options: argparse.Namespace, bundle: Bundle, cloud: Cloud) -> list[int]:
    if options.clicks:
        return [bundle.index(item) for item in options.clicks]
    items, offsets = cloud.replay(bundle.version)
    users = len(offsets) - 1
    if not 0 <= options.user < users:
        raise InvalidRequest(f"--user goes from 0 to {users - 1}, got {options.user}")
    return [int(item) for item in items[offsets[options.user] : offsets[options.user + 1] - 1]]


def _candidates(
    options: argparse.Namespace, bundle: Bundle, cloud: Cloud, clicks: list[int]
) -> NDArray[np.int64]:
    if options.candidates:
        return np.array([bundle.index(item) for item in options.candidates], np.int64)
    return cloud.candidates(bundle.version, [clicks[-HISTORY:]], options.count)[0]


def _print(
    top: int,
    bundle: Bundle,
    clicks: list[int],
    candidates: NDArray[np.int64],
    local: NDArray[np.int64],
    corrected: NDArray[np.int64] | None,
) -> None:
    data = bundle.manifest.data
    print(f"model {bundle.version}, trained on {data.name}{' (synthetic)' * data.synthetic}")
    print(f"clicks, the last {min(len(clicks), _SHOWN_CLICKS)} of {len(clicks)}:")
    for click in clicks[-_SHOWN_CLICKS:]:
        print(f"  {_name(bundle, click)}")
    print(f"\n{'':3} {'without the correction':{_WIDTH}} with it")
    before = {int(item): place for place, item in enumerate(local)}
    for place in range(min(top, len(candidates))):
        left = _name(bundle, int(candidates[local[place]]))
        right = ""
        if corrected is not None:
            item = int(corrected[place])
            right = f"{_name(bundle, int(candidates[item]))} {_moved(before[item] - place)}"
        print(f"{place + 1:3} {left:{_WIDTH}} {right}")


def _moved(places: int) -> str:
    return f"(up {places})" if places > 0 else f"(down {-places})" if places < 0 else ""


def _name(bundle: Bundle, index: int) -> str:
    title = bundle.title(index)
    name = f"{bundle.item_id(index)} {title}" if title else bundle.item_id(index)
    name = "".join(c if c.isprintable() else "�" for c in name)  # an id may hold anything
    return name if len(name) < _WIDTH else name[: _WIDTH - 2] + "…"


def _print_outcome(served: Ranking, budget: Budget) -> None:
    outcome, times = served.outcome, served.timeline
    if outcome is None:
        return
    print(f"\nserved: {outcome}. {outcome.meaning}")
    waited = (times.ranked_ns - times.hidden_ns) / 1e6
    print(f"H to ranking {waited:.2f} ms, of a tolerance of {budget.tolerance_ms:g} ms")
    if times.received_ns:
        print(
            f"  ↑ {(times.uploaded_ns - times.sent_ns) / 1e6:.3f} ms"
            f"  ○ {(times.first_byte_ns - times.uploaded_ns) / 1e6:.3f} ms"
            f" (the GCN {times.compute_ms:.3f})"
            f"  ↓ {(times.received_ns - times.first_byte_ns) / 1e6:.3f} ms"
        )
