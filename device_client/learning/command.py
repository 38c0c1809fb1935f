"""`device-client learn`: one device's store at a terminal: what it knows, learns, and forgets."""

import argparse
import sys
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

from device_client.bundle import Bundle, newest_bundle
from device_client.cloud import Cloud
from device_client.learning.learner import Learner
from device_client.learning.store import ClickStore
from device_client.session import Session
from shared.outcomes import LearningOutcome

_LONGEST_MS = 60_000.0


def learn_one(options: argparse.Namespace, progress: Callable[[str, int, int], None]) -> int:
    """Shows a store, adds clicks to it, and learns a patch from it, or erases it."""
    if options.forget:
        ClickStore.erase(options.store)
        print(f"forgotten: {options.store} holds nothing of its user")
        return 0
    with ClickStore.open(options.store) as store:
        bundle = Bundle.open(_bundle_folder(options, progress))
        with Session(bundle, store=store) as session:
            learner = Learner(session)
            for item in options.clicks or ():
                session.click(item)
            _print_store(store, session, options.store)
            _print_learning(bundle, learner)
            outcome = _learn(learner, options.budget_ms)
    print(_words(outcome))
    return 0


def _bundle_folder(options: argparse.Namespace, progress: Callable[[str, int, int], None]) -> Path:
    if options.offline:
        return newest_bundle(options.bundles, options.model)
    with Cloud(options.url) as cloud:
        return cloud.pull(options.bundles, options.model, progress)


def _learn(learner: Learner, budget_ms: float) -> LearningOutcome | None:
    """Works until the round is over or the budget is; the outcome."""
    outcome = learner.learn(budget_ms=min(budget_ms, _LONGEST_MS))
    if outcome is LearningOutcome.OUT_OF_TIME:
        print("the budget ended before the round did: the patch in use stays", file=sys.stderr)
    return outcome


def _print_store(store: ClickStore, session: Session, folder: Path) -> None:
    clicks = store.clicks()
    print(f"store {folder}: {len(clicks):,} clicks, {len(store.lists()):,} lists shown")
    if clicks:
        first, last = (_day(time_ms) for time_ms in (clicks[0][1], clicks[-1][1]))
        print(f"  from {first} to {last}")
    if session.not_restored:
        print(f"  {session.not_restored:,} clicks on items that this model does not know")
    if store.lost_bytes:
        print(f"  {store.lost_bytes:,} bytes were damaged and left out")


def _print_learning(bundle: Bundle, learner: Learner) -> None:
    settings = bundle.manifest.learning
    if settings is None:
        print(f"model {bundle.version} ships nothing to learn")
        return
    parts = [
        f"a patch ({settings.patch.form}, {settings.patch.size} numbers)" if settings.patch else "",
        "a memory of clicked items" if settings.memory else "",
    ]
    print(f"model {bundle.version} learns {' and '.join(part for part in parts if part)}")
    in_use = "one is in use" if learner.patch is not None else "none is in use"
    stale = learner.outcomes[LearningOutcome.STALE_BUNDLE]
    print(f"  patch: {in_use}" + ", the stored one belongs to another model" * bool(stale))


def _words(outcome: LearningOutcome | None) -> str:
    if outcome is None:
        return "nothing to learn"
    return f"learned: {outcome}. {outcome.meaning}"


def _day(time_ms: int) -> str:
    try:
        return datetime.fromtimestamp(time_ms / 1000, UTC).strftime("%Y-%m-%d %H:%M UTC")
    except (OverflowError, OSError, ValueError):
        return "an impossible time"
