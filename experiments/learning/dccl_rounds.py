"""DCCL's rounds on a log: devices' patches (DCCL-e), the distilled backbone (DCCL-m), and again.

The last click of each user tests, the one before validates, as in the paper. Decay, junctions and
beta are chosen by the validation click; a test click is ranked once per row.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from itertools import product
from typing import Any, Final

import numpy as np
import torch
from jaxtyping import Float
from numpy.typing import NDArray
from torch import Tensor

from cloud_service.recommender.data.clicks import Split, ranges
from cloud_service.recommender.learning.basis import BasisSettings, fit_basis, refit_basis
from cloud_service.recommender.learning.distill import DistillSettings, distill
from cloud_service.recommender.learning.events import Events, Int64, events_of
from cloud_service.recommender.learning.metapatches import learn_metapatches, patch_shifts
from cloud_service.recommender.learning.patch import MetapatchBasis
from cloud_service.recommender.learning.ranking import event_ranks
from cloud_service.recommender.models.scn import SCN
from cloud_service.recommender.ranking.metrics import (
    NEGATIVES,
    Ranks,
    ranks,
    sample_negatives,
    unseen_counts,
)
from shared.errors import DataError
from shared.learning import JUNCTIONS, Junction, PatchSettings

Say = Callable[[str], None]
PLACES: Final[dict[str, tuple[Junction, ...]]] = {
    "junction 1": ("hidden",),
    "junction 2": ("output",),
    "junction 3": ("state",),
    "all junctions": JUNCTIONS,
}


_UNPATCHED: Final = 1e-6
"""Patches times this teach what the unpatched backbone says: a control for the distillation."""


@dataclass(frozen=True)
class DCCLSettings:
    """What is tried, and how long is trained.

    Attributes:
        users: devices are those of so many random users; None for all.
        places: names of `PLACES` that are tried.
        learning_rates, decays, betas: chosen from by the validation click.
        most: events of an epoch, of basis and distillation.
    """

    users: int | None = None
    rounds: int = 3
    size: int = 16
    window: int = 30
    steps: int = 10
    negatives: int = 200
    places: tuple[str, ...] = tuple(PLACES)
    learning_rates: tuple[float, ...] = (0.03, 0.1)
    decays: tuple[float, ...] = (0.1, 1.0)
    betas: tuple[float, ...] = (0.3, 1.0, 3.0)
    basis_epochs: int = 1
    distill_epochs: int = 1
    distill_rate: float = 3e-4
    most: int = 20_000
    seed: int = 0


@dataclass(frozen=True, eq=False)
class Ranked:
    """A row: each user's test click among all items and among 100 sampled ones.

    Attributes:
        validation: NDCG@10 of the validation clicks, all items.
        chosen: settings that validation chose.
    """

    name: str
    validation: float
    all: Ranks
    sampled: Ranks
    chosen: dict[str, Any]


def gains(target_ranks: Ranks, cutoff: int = 10) -> NDArray[np.float64]:
    """NDCG of each user."""
    rank = target_ranks.pessimistic
    return np.where(rank <= cutoff, 1.0 / np.log2(1.0 + rank), 0.0)


@dataclass(frozen=True, eq=False)
class World:
    """The devices of a log under one backbone, and the negatives of their test clicks.

    Attributes:
        rows: of the devices' users in the log, (users,).
        negatives: (users, 100) item numbers.
    """

    scn: SCN
    events: Events
    rows: Int64
    negatives: NDArray[np.int32]

    @property
    def tests(self) -> Int64:
        """The test click of each user."""
        return self.events.offsets[1:] - 1

    @property
    def validations(self) -> Int64:
        """The validation click of each user."""
        return self.events.offsets[1:] - 2

    @property
    def training(self) -> Int64:
        """All other clicks."""
        return ranges(self.events.offsets[:-1], self.validations)

    def under(self, scn: SCN) -> "World":
        """The same devices under another backbone."""
        events = self.events
        states = events_of(scn, events.items, events.offsets, seen_left_out=events.seen_left_out)
        return replace(self, scn=scn, events=states)

    def validate(self, shift: Float[Tensor, "users dim"] | None = None) -> float:
        """NDCG@10 of the validation clicks among all items."""
        return float(gains(self._ranks(self.validations, shift)).mean())

    def ranked(
        self,
        name: str,
        validation: float,
        shift: Float[Tensor, "users dim"] | None = None,
        **chosen: object,
    ) -> Ranked:
        """A row of the table; `shift` moves each user's state before the test click."""
        events = self.events
        states = events.states[self.tests] if shift is None else events.states[self.tests] + shift
        targets = events.items[self.tests]
        candidates = np.concatenate([targets[:, None], self.negatives], axis=1).astype(np.int64)
        vectors = events.table[torch.from_numpy(candidates)]
        scores = (vectors @ states.unsqueeze(-1)).squeeze(-1)
        return Ranked(
            name, validation, self._ranks(self.tests, shift), ranks(scores.numpy(), 0), chosen
        )

    def _ranks(self, moments: Int64, shift: Tensor | None) -> Ranks:
        targets = self.events.items[moments].astype(np.int64)
        return event_ranks(self.events, moments, targets, shift)


def world_of(split: Split, scn: SCN, settings: DCCLSettings) -> World:
    """The devices of a split's users who have enough items left to sample negatives from.

    Raises DataError where there is none.
    """
    log = split.log
    users = split.train_users[unseen_counts(log)[split.train_users] >= NEGATIVES]
    if not len(users):
        raise DataError(f"No user of {log.name} has {NEGATIVES} items left to sample from.")
    random = np.random.default_rng(settings.seed)
    rows = np.sort(random.permutation(users)[: settings.users])
    items = log.items[ranges(log.offsets[rows], log.offsets[rows + 1])]
    offsets = np.concatenate([[0], np.cumsum(log.lengths[rows])]).astype(np.int64)
    events = events_of(scn, items, offsets, seen_left_out=split.seen_left_out)
    negatives = sample_negatives(log, rows, seed=settings.seed)
    return World(scn, events, rows, negatives)


@dataclass(frozen=True, eq=False)
class _Devices:
    """A basis, what devices learned with it before the validation click, and how good that is."""

    basis: MetapatchBasis
    patches: Float[Tensor, "users size"]
    learned_with: PatchSettings
    validation: float


def dccl_rows(world: World, settings: DCCLSettings, say: Say) -> list[Ranked]:
    """All rows of the table."""
    rows: list[Ranked] = []

    def add(row: Ranked) -> None:
        rows.append(row)
        test = gains(row.all).mean()
        say(f"{row.name}: validation {row.validation:.4f}, test {test:.4f} {row.chosen}")

    add(world.ranked("backbone", world.validate()))
    tried: dict[str, _Devices] = {}
    for name in settings.places:
        basis, _ = fit_basis(
            world.scn, world.events, world.training, _basis(settings, PLACES[name]),
            seed=settings.seed,
        )  # fmt: skip
        tried[name] = _learned(world, basis, settings)
        add(_devices_row(world, tried[name], settings, f"DCCL-e round 1, {name}"))
    place = max(tried, key=lambda name: tried[name].validation)
    devices, betas = tried[place], settings.betas
    for turn in range(1, settings.rounds + 1):
        if turn > 1:
            basis = refit_basis(
                world.scn, devices.basis, world.events, world.training, devices.patches,
                _basis(settings, PLACES[place]), seed=settings.seed,
            )  # fmt: skip
            devices = _learned(world, basis, settings)
            add(_devices_row(world, devices, settings, f"DCCL-e round {turn}, {place}"))
        if turn == 1:
            trained_on = _distilled(world, devices, settings, 0.0, turn)
            add(trained_on.ranked("trained on, no teacher", trained_on.validate(), beta=0.0))
        worlds = {beta: _distilled(world, devices, settings, beta, turn) for beta in betas}
        qualities = {beta: made.validate() for beta, made in worlds.items()}
        beta = max(qualities, key=qualities.__getitem__)
        if turn == 1:
            itself = replace(devices, patches=_UNPATCHED * devices.patches)
            control = _distilled(world, itself, settings, beta, turn)
            add(control.ranked("distilled from itself", control.validate(), beta=beta))
        world = worlds[beta]
        add(world.ranked(f"DCCL-m round {turn}", qualities[beta], beta=beta))
        betas = (beta,)
    return rows


def _basis(settings: DCCLSettings, junctions: tuple[Junction, ...]) -> BasisSettings:
    return BasisSettings(settings.size, junctions, epochs=settings.basis_epochs, most=settings.most)


def _learned(world: World, basis: MetapatchBasis, settings: DCCLSettings) -> _Devices:
    """What devices learn from their training clicks, by the settings that validate best."""
    tried = []
    for rate, decay in product(settings.learning_rates, settings.decays):
        patch = PatchSettings(
            form="metapatch", size=basis.size, junctions=basis.junctions, window=settings.window,
            steps=settings.steps, negatives=settings.negatives, decay=decay, learning_rate=rate,
        )  # fmt: skip
        patches = learn_metapatches(
            world.scn, basis, world.events, world.validations, patch, seed=settings.seed
        )
        shift = patch_shifts(world.scn, basis, world.events, world.validations, patches)
        tried.append(_Devices(basis, patches, patch, world.validate(shift)))
    return max(tried, key=lambda devices: devices.validation)


def _devices_row(world: World, devices: _Devices, settings: DCCLSettings, name: str) -> Ranked:
    """Devices learn again, the validation click among their own, and rank the test click."""
    patch = devices.learned_with
    patches = learn_metapatches(
        world.scn, devices.basis, world.events, world.tests, patch, seed=settings.seed
    )
    shift = patch_shifts(world.scn, devices.basis, world.events, world.tests, patches)
    return world.ranked(
        name, devices.validation, shift, decay=patch.decay, learning_rate=patch.learning_rate
    )


def _distilled(
    world: World, devices: _Devices, settings: DCCLSettings, beta: float, turn: int
) -> World:
    scn, _ = distill(
        world.scn, devices.basis, world.events, world.training, devices.patches,
        DistillSettings(
            beta=beta, epochs=settings.distill_epochs, most=settings.most,
            rate=settings.distill_rate,
        ),
        turn=turn, seed=settings.seed,
    )  # fmt: skip
    return world.under(scn)
