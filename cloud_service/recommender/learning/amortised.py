"""The amortised patch: a network of the cloud that maps a long history to a shift in one pass.

It needs no gradient on the device, as DUET's (WWW 2023) does not. It reads, for each half-life, the
sum of the clicked items' vectors, and that sum divided by the number of clicks, and the user state.
"""

from typing import Final

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn

from cloud_service.recommender.learning.events import Events, Int64
from cloud_service.recommender.learning.ranking import TOGETHER, cross_entropy
from shared.learning import HALF_LIVES

FEW: Final = 5.0
"""Added to the number of clicks that a sum is divided by."""
_WIDTH: Final = 256
_RATE, _WEIGHT_DECAY, _BATCH = 1e-3, 1e-2, 512
_EPOCHS: Final = 10
_PATIENCE: Final = 2
_MOST: Final = 150_000
"""Events that one epoch reads."""
_VALIDATED: Final = 8000
_LEAST_PLACE: Final = 2


class AmortisedPatch(nn.Module):
    """Sums of clicked items' vectors, their number and the user state to a shift."""

    scale: Tensor

    def __init__(self, dim: int, width: int = _WIDTH) -> None:
        super().__init__()
        read = (2 * len(HALF_LIVES) + 1) * dim + 1
        self.register_buffer("scale", torch.ones(read))
        self.first, self.second = nn.Linear(read, width), nn.Linear(width, dim)
        nn.init.zeros_(self.second.weight)
        nn.init.zeros_(self.second.bias)

    def forward(
        self,
        sums: Float[Tensor, "n lives dim"],
        count: Float[Tensor, "n 1"],
        state: Float[Tensor, "n dim"],
    ) -> Float[Tensor, "n dim"]:
        """The shift (n, D)."""
        out: Tensor = self.second(
            nn.functional.gelu(self.first(self.features(sums, count, state) / self.scale))
        )
        return out

    @staticmethod
    def features(
        sums: Float[Tensor, "n lives dim"],
        count: Float[Tensor, "n 1"],
        state: Float[Tensor, "n dim"],
    ) -> Float[Tensor, "n read"]:
        """What the network reads, before it is scaled."""
        flat = sums.flatten(1)
        return torch.cat([flat, flat / (count + FEW), (count + 1).log(), state], 1)


def history_sums(events: Events) -> Float[Tensor, "n lives dim"]:
    """For each half-life, the decayed sum of the vectors of the items clicked before each event."""
    decays = torch.tensor([0.5 ** (1 / life) for life in HALF_LIVES]).view(1, -1, 1)
    lives, dim = decays.shape[1], events.table.shape[1]
    running = torch.zeros(len(events.offsets) - 1, lives, dim)
    sums = torch.zeros(len(events), lives, dim)
    for turn in events.in_turn():
        users = events.users[turn]
        sums[turn] = running[users]
        running[users] = decays * running[users] + events.table[events.targets[turn]].unsqueeze(1)
    return sums


@torch.no_grad()
def amortised_shifts(
    network: AmortisedPatch, events: Events, sums: Float[Tensor, "n lives dim"]
) -> Float[Tensor, "n dim"]:
    """The shift before every event."""
    counts = torch.from_numpy(events.places.astype(np.float32)).unsqueeze(1)
    parts = [
        network(sums[at : at + 4096], counts[at : at + 4096], events.states[at : at + 4096])
        for at in range(0, len(events), 4096)
    ]
    return torch.cat(parts) if parts else torch.zeros(0, events.table.shape[1])


def fit_amortised(events: Events, chosen: Int64, *, seed: int = 0) -> AmortisedPatch:
    """Trains the network on some events, the SCN frozen; a tenth of the users validate it.

    A network that never validates better than no patch stays at zero.
    """
    torch.manual_seed(seed)
    random = np.random.default_rng(seed)
    chosen = chosen[events.places[chosen] >= _LEAST_PLACE]
    is_validated = events.users[chosen] % 10 == 0
    training, validated = chosen[~is_validated], random.permutation(chosen[is_validated])
    validated = np.sort(validated[:_VALIDATED])
    sums = history_sums(events)
    counts = torch.from_numpy(events.places.astype(np.float32)).unsqueeze(1)
    network = AmortisedPatch(events.table.shape[1])
    sample = random.permutation(training)[:_VALIDATED]
    read = network.features(sums[sample], counts[sample], events.states[sample])
    network.scale.copy_(read.std(0) + 1e-6)
    optimiser = torch.optim.AdamW(network.parameters(), lr=_RATE, weight_decay=_WEIGHT_DECAY)

    def loss_of(part: Int64) -> Tensor:
        shift = network(sums[part], counts[part], events.states[part])
        return cross_entropy(events, part, events.states[part] + shift)

    @torch.no_grad()
    def validate() -> float:
        parts = [validated[at : at + TOGETHER] for at in range(0, len(validated), TOGETHER)]
        losses = [float(loss_of(part)) * len(part) for part in parts]
        return sum(losses) / max(len(validated), 1)

    best, weights, bad = validate(), _copied(network), 0
    for _ in range(_EPOCHS):
        order = random.permutation(training)[:_MOST]
        for at in range(0, len(order), _BATCH):
            optimiser.zero_grad()
            loss_of(order[at : at + _BATCH]).backward()  # type: ignore[no-untyped-call]
            optimiser.step()
        loss = validate()
        if loss < best:
            best, weights, bad = loss, _copied(network), 0
        else:
            bad += 1
        if bad == _PATIENCE:
            break
    network.load_state_dict(weights)
    return network.eval()


def _copied(network: nn.Module) -> dict[str, Tensor]:
    return {name: value.detach().clone() for name, value in network.state_dict().items()}
