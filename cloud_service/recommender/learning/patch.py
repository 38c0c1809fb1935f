"""Patches: small sets of numbers that fit the device's network to one user.

`shift` is added to the user state. `metapatch` (DCCL, KDD 2021) is a residual map x + A x + b at
one or several junctions of the SCN; A and b are products of a basis, which the cloud learns and
ships, and of few numbers, which the device learns (theta = Theta theta-hat). An all-zero patch
changes nothing, to the last bit.
"""

from typing import Final, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor, nn

from cloud_service.recommender.models.scn import SCN
from shared.learning import JUNCTIONS, Junction

RANK: Final = 2
"""Rank of the map that one number of a metapatch scales."""


class ResidualMap(NamedTuple):
    """x to x + A x + b."""

    matrix: Float[Tensor, "*batch dim dim"]
    bias: Float[Tensor, "*batch dim"]

    def apply(self, x: Float[Tensor, "*batch n dim"]) -> Float[Tensor, "*batch n dim"]:
        """The mapped rows."""
        return x + x @ self.matrix.transpose(-1, -2) + self.bias.unsqueeze(-2)


class MetapatchBasis(nn.Module):
    """The basis Theta: for each junction and number a map of rank `RANK` and a bias."""

    def __init__(self, dim: int, size: int, junctions: tuple[Junction, ...] = ("state",)) -> None:
        """`size` is the number of numbers that a device learns."""
        super().__init__()
        unknown = set(junctions) - set(JUNCTIONS)
        if unknown or not junctions:
            raise ValueError(f"junctions are one or more of {', '.join(JUNCTIONS)}")
        self.junctions, self.size, self.dim = junctions, size, dim
        count = len(junctions)
        self.down = nn.Parameter(torch.randn(count, size, RANK, dim) / dim**0.5)
        self.up = nn.Parameter(torch.randn(count, size, dim, RANK) * 0.1 / dim**0.5)
        self.bias = nn.Parameter(torch.randn(count, size, dim) * 0.1)

    def maps(self, patch: Float[Tensor, "*batch size"]) -> dict[Junction, ResidualMap]:
        """The residual map of each junction for a patch."""
        maps: dict[Junction, ResidualMap] = {}
        for at, junction in enumerate(self.junctions):
            down = self.down[at].flatten(0, 1)  # (size * RANK, D)
            up = self.up[at].transpose(0, 1).flatten(1)  # (D, size * RANK)
            scale = patch.repeat_interleave(RANK, dim=-1).unsqueeze(-2)  # (*batch, 1, size * RANK)
            maps[junction] = ResidualMap((up * scale) @ down, patch @ self.bias[at])
        return maps


class PatchedSCN(nn.Module):
    """User states of an SCN with residual maps at its junctions (history `window`, one segment).

    H on the wire stays the unpatched one: the map of `hidden` acts on what the block reads.
    """

    def __init__(self, scn: SCN) -> None:
        super().__init__()
        if scn.carries or scn.length > scn.settings.segment:
            raise ValueError("a metapatch needs a history of one segment (window, length <= K)")
        self.scn = scn

    def forward(
        self,
        hidden: Float[Tensor, "n k dim"],
        is_last: Float[Tensor, "n k"],
        maps: dict[Junction, ResidualMap],
    ) -> Float[Tensor, "n dim"]:
        """The state after the last click of each window.

        `hidden` is H of each window, its rows after the last click zero; `is_last` is 1 at the
        last click. Maps may have a batch axis n.
        """
        scn = self.scn
        if "hidden" in maps:
            is_click = is_last.flip(-1).cumsum(-1).flip(-1).unsqueeze(-1)
            hidden = maps["hidden"].apply(hidden) * is_click
        terms = scn.block.terms(hidden, scn.block.initial_state(hidden.shape[0]))
        output = scn.block.rows(terms, scn.block.initial_state(hidden.shape[0]))
        if "output" in maps:
            output = maps["output"].apply(output)
        if scn.readout is not None:
            output = scn.readout(hidden, output)
        state = scn.user_state((output * is_last.unsqueeze(-1)).sum(-2))
        if "state" in maps:
            state = maps["state"].apply(state.unsqueeze(-2)).squeeze(-2)
        return state
