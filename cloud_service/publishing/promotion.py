"""Which aliases a new version takes over: `production`, and the alias of its log.

The alias of a log belongs to models of that log. `production` goes to the first model there is,
and then to models of its own log. Whoever holds an alias gives it up to a model that ranks no
worse; a person may decide otherwise (`always`, `never`, `cloud-service models promote`).
"""

from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass

from cloud_service.services.job import Promotion
from cloud_service.storage.port import PRODUCTION, VersionStore
from cloud_service.storage.store import log_alias
from shared.errors import RecommendationError


@dataclass(frozen=True)
class Verdict:
    """Whether a new version may take the place of another, and why, in words."""

    promoted: bool
    reason: str


Judge = Callable[[str, str], Verdict]
"""Compares a new version with the one that an alias points at."""


def promote(store: VersionStore, version: str, rule: Promotion, judge: Judge) -> str:
    """Points what a new version may take over at it, and says in words what became of it.

    Called again after it was cut off, it ends the same. Raises a BundleError where the version is
    damaged.
    """
    sentences = [f"published version {version}", *_trained(store, version)]
    if rule == "never":
        return "; ".join([*sentences, f"not promoted, as asked: {_by_hand(version, [PRODUCTION])}"])
    log_name = log_alias(store.manifest(version).data.name)
    aliases = [PRODUCTION, log_name]
    other_log = _log_of(store, store.production())
    if rule == "better" and other_log not in (None, log_name):
        aliases.remove(PRODUCTION)
        sentences.append(
            f"{PRODUCTION} stays with version {store.production()}, a model of another log "
            f"({other_log}): devices get this one as {log_name}"
        )
    current = {alias: store.pointed_at(alias) for alias in aliases}
    rivals = {old for old in current.values() if old is not None and old != version}
    verdicts = {old: judge(version, old) for old in rivals if rule == "better"}
    worse = [old for old, verdict in verdicts.items() if not verdict.promoted]
    held = [alias for alias in aliases if current[alias] in worse]
    promoted = [alias for alias in aliases if alias not in held]
    for alias in promoted:
        store.promote(version, alias)
    return "; ".join([*sentences, *_became(version, promoted, held, verdicts.values())])


def _became(
    version: str, promoted: Sequence[str], held: Sequence[str], verdicts: Collection[Verdict]
) -> Iterator[str]:
    if promoted:
        yield f"{' and '.join(promoted)} {'points' if len(promoted) == 1 else 'point'} at it now"
    yield from (verdict.reason for verdict in verdicts if verdict.promoted)
    if held:
        yield f"not promoted to {' and '.join(held)}"
        yield from (verdict.reason for verdict in verdicts if not verdict.promoted)
        yield _by_hand(version, held)


def _trained(store: VersionStore, version: str) -> list[str]:
    training = store.manifest(version).training
    if training is None or not training.limit:
        return []
    return [
        f"training ended after {training.limit} while validation still improved, so the network is "
        "under-trained and what its correction is worth cannot be told: give it more epochs or "
        "minutes"
    ]


def _log_of(store: VersionStore, version: str | None) -> str | None:
    """The alias of the log that a version was trained on; None where nothing can be said."""
    try:
        return None if version is None else log_alias(store.manifest(version).data.name)
    except RecommendationError:
        return None


def _by_hand(version: str, aliases: Sequence[str]) -> str:
    options = ["" if alias == PRODUCTION else f" --alias {alias}" for alias in aliases]
    commands = " and ".join(
        f"`cloud-service models promote {version}{option}`" for option in options
    )
    return f"{commands} {'promotes' if len(options) == 1 else 'promote'} it by hand"
