"""Trains the basis of a metapatch in the cloud, the SCN frozen (DCCL, KDD 2021).

`fit_basis` has no device's patch yet: a metapatch of each user is a free parameter, trained with
the basis. `refit_basis` is DCCL's second step: the devices' patches, through an auxiliary encoder
of patch and profile, stand in for the devices' models while the basis is trained.
"""

from collections.abc import Callable, Iterator
from copy import deepcopy
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn

from cloud_service.recommender.learning.events import Events, Int64
from cloud_service.recommender.learning.metapatches import patched_states
from cloud_service.recommender.learning.patch import MetapatchBasis
from cloud_service.recommender.learning.ranking import cross_entropy
from cloud_service.recommender.models.scn import SCN
from shared.learning import Junction


@dataclass(frozen=True)
class BasisSettings:
    """How a basis is trained.

    Attributes:
        size: numbers that a device learns.
        decay: L2 of a user's numbers, as on the device.
        rate, patch_rate: Adam's learning rates of the basis and of the users' numbers.
        most: events that one epoch reads.
    """

    size: int = 16
    junctions: tuple[Junction, ...] = ("state",)
    decay: float = 0.1
    rate: float = 1e-3
    patch_rate: float = 0.03
    epochs: int = 3
    batch: int = 256
    most: int = 50_000


class AuxiliaryEncoder(nn.Module):
    """U(theta-hat, u) = U1 tanh(U2 theta-hat + U3 u), of a metapatch and a user's profile u."""

    def __init__(self, size: int, dim: int, width: int = 64) -> None:
        super().__init__()
        self.output = nn.Linear(width, size, bias=False)
        self.patch = nn.Linear(size, width, bias=False)
        self.profile = nn.Linear(dim, width, bias=False)

    def forward(
        self, patches: Float[Tensor, "n size"], profiles: Float[Tensor, "n dim"]
    ) -> Float[Tensor, "n size"]:
        """The metapatch that stands in for a device's."""
        out: Tensor = self.output(torch.tanh(self.patch(patches) + self.profile(profiles)))
        return out


def fit_basis(
    scn: SCN, events: Events, chosen: Int64, settings: BasisSettings, *, seed: int = 0
) -> tuple[MetapatchBasis, Float[Tensor, "users size"]]:
    """Trains basis and users' metapatches together on some events. The SCN is not changed.

    Returns the basis and the metapatch of each user of `events`, zero for one without an event.
    """
    torch.manual_seed(seed)
    basis = MetapatchBasis(events.table.shape[1], settings.size, settings.junctions)
    users = nn.Embedding(len(events.offsets) - 1, settings.size, sparse=True)
    nn.init.zeros_(users.weight)
    # Dense Adam would move a user by old moments at every step that the user has no event in.
    optimisers = (
        torch.optim.Adam(basis.parameters(), lr=settings.rate),
        torch.optim.SparseAdam(list(users.parameters()), lr=settings.patch_rate),
    )

    def patches_of(part: Int64) -> Tensor:
        patches: Tensor = users(torch.from_numpy(events.users[part]))
        return patches

    _train(scn, basis, events, chosen, patches_of, optimisers, settings, seed)
    return basis.eval(), users.weight.detach().clone()


def refit_basis(
    scn: SCN,
    basis: MetapatchBasis,
    events: Events,
    chosen: Int64,
    patches: Float[Tensor, "users size"],
    settings: BasisSettings,
    *,
    seed: int = 0,
) -> MetapatchBasis:
    """Trains a copy of a basis with the devices' patches through an auxiliary encoder.

    A user's profile is the mean vector of the items of the user's `chosen` events: logs have no
    other. Devices learn anew with the basis; the encoder stays in the cloud.
    """
    torch.manual_seed(seed)
    trained = deepcopy(basis).train()
    encoder = AuxiliaryEncoder(basis.size, basis.dim)
    profiles = user_profiles(events, chosen)
    optimisers = (
        torch.optim.Adam([*trained.parameters(), *encoder.parameters()], lr=settings.rate),
    )

    def patches_of(part: Int64) -> Tensor:
        users = torch.from_numpy(events.users[part])
        encoded: Tensor = encoder(patches[users], profiles[users])
        return encoded

    _train(scn, trained, events, chosen, patches_of, optimisers, settings, seed)
    return trained.eval()


def user_profiles(events: Events, chosen: Int64) -> Float[Tensor, "users dim"]:
    """The mean vector of the items of each user's chosen events; zero for a user without one."""
    users = torch.from_numpy(events.users[chosen])
    count = len(events.offsets) - 1
    sums = torch.zeros(count, events.table.shape[1])
    sums.index_add_(0, users, events.table[events.targets[chosen]])
    return sums / torch.bincount(users, minlength=count).clamp_min(1).unsqueeze(1)


def batches(
    chosen: Int64, random: np.random.Generator, *, epochs: int, batch: int, most: int
) -> Iterator[Int64]:
    """Events in random batches, at most so many an epoch."""
    for _ in range(epochs):
        order = random.permutation(chosen)[:most]
        for at in range(0, len(order), batch):
            yield order[at : at + batch]


def _train(
    scn: SCN,
    basis: MetapatchBasis,
    events: Events,
    chosen: Int64,
    patches_of: Callable[[Int64], Tensor],
    optimisers: tuple[torch.optim.Optimizer, ...],
    settings: BasisSettings,
    seed: int,
) -> None:
    """Cross-entropy over the items that rankings show, and L2 of the users' numbers."""
    frozen = deepcopy(scn).eval().requires_grad_(requires_grad=False)
    random = np.random.default_rng(seed)
    chosen = chosen[events.places[chosen] > 0]
    for part in batches(
        chosen, random, epochs=settings.epochs, batch=settings.batch, most=settings.most
    ):
        patches = patches_of(part)
        loss = cross_entropy(events, part, patched_states(frozen, basis, events, part, patches))
        loss = loss + 0.5 * settings.decay * patches.square().sum(1).mean()
        for optimiser in optimisers:
            optimiser.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        for optimiser in optimisers:
            optimiser.step()
