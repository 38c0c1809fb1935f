"""The teacher-fitted correction: it moves the device's ranking towards that of larger models.

Not in the paper; `projected` in the settings and on the wire. The cloud recovers the clicks from H
and scores the catalogue with its own models, the teachers. It then fits, by weighted least squares
over the items that the teachers rank best, the shift of the user state that brings the device's
scores nearest to theirs. A shift of D numbers cannot fit every item: the residuals of the very best
items are sent with it, item by item (shared/projected.py). The device only adds, so teachers can be
of any size and number, and changing them does not require training the SCN again.
"""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional

from cloud_service.recommender.models.baselines.item_knn import ItemKNN
from cloud_service.recommender.models.gcn import Correcting, last_click
from cloud_service.recommender.models.recommender import Recommender
from cloud_service.recommender.models.scn import SCN
from cloud_service.recommender.models.ttt import Correction
from shared.projected import LARGEST_CATALOGUE, join_item, split_item

RIDGE = 0.03
"""Ridge penalty of the shift, relative to the mean variance of the item embedding."""
SHARPNESS = 2.0
"""Default inverse temperature: items are weighted by the softmax of target scores times this."""
FLOOR = 0.01
"""Score of an item without neighbours, as a share of the best item's (Item-kNN teachers)."""
LEFT_OUT = -1e4
"""Target score of an item that must not be ranked."""
BOOSTED_WEIGHT = 0.1
"""Weight in the fit of an item with a residual, against 1 for the others: its score will be exact
anyway."""
_SIGNATURE = 8
"""Random projections by which the rows of H are compared with the item table."""
_STEPS = 20
"""Iterations of `solve`: more do not improve the ranking (docs/decisions.md)."""
_LEAST = 1 / 200
"""Smallest eigenvalue that `solve` resolves, relative to the norm of the matrix."""
_TINY = 1e-30
"""Keeps divisions finite."""


class ItemResiduals(NamedTuple):
    """Boosted items, and what is added to their scores on top of the shift."""

    items: Int[Tensor, "*batch n"]
    """Item numbers; 0 where there is no item."""
    residuals: Float[Tensor, "*batch n"]


class ProjectedGCN(Correcting):
    """The teachers, their weights, and the fit.

    In its corrections `bias` is the shift, and `attn` holds the boosted items as
    `pack_residuals` lays them out.
    """

    blend: Tensor
    sharpness: Tensor
    signature: Tensor

    def __init__(self, scn: SCN, teachers: Sequence[Recommender], *, seen_left_out: bool) -> None:
        """`seen_left_out`: rankings leave out clicked items, so the fit ignores them.

        Raises ValueError for a catalogue that is too large to address.
        """
        super().__init__()
        if scn.items > LARGEST_CATALOGUE:
            raise ValueError(f"a projected GCN knows at most {LARGEST_CATALOGUE:,} items")
        self.settings, self.seen_left_out = scn.settings, seen_left_out
        self._device_model = (scn,)  # in a tuple, so that its weights are not part of this module
        self.teachers = nn.ModuleList(teachers)
        self.register_buffer("blend", torch.full((1 + len(teachers),), 1 / (1 + len(teachers))))
        self.register_buffer("sharpness", torch.tensor(SHARPNESS))
        drawn = torch.randn(
            scn.settings.dim, _SIGNATURE, generator=torch.Generator().manual_seed(0)
        )
        self.register_buffer("signature", drawn, persistent=False)

    @property
    def scn(self) -> SCN:
        """The device's network."""
        return self._device_model[0]

    def clicks(self, hidden: Float[Tensor, "batch k dim"]) -> Int[Tensor, "batch k"]:
        """Recovers the item number behind each row of H; 0 where the row is zero.

        Nearest neighbours by a few random projections: comparing all D numbers would take as long
        as the whole remaining correction.
        """
        table = self.scn.input_norm(self.scn.item_embedding[1:]) @ self.signature
        against = torch.cat((table, table.square().sum(1, keepdim=True) / -2), dim=1)
        rows = functional.pad(hidden @ self.signature, (0, 1), value=1.0)
        nearness = rows @ against.T
        # Two operators in place of ArgMax, which takes ONNX Runtime twice as long.
        items = torch.arange(1, len(table) + 1, device=table.device).float()
        nearest = torch.where(nearness == nearness.amax(-1, keepdim=True), items, 0.0).amax(-1)
        return nearest.long() * (hidden != 0).any(-1)

    def scores(
        self, user: Float[Tensor, "batch dim"], clicks: Int[Tensor, "batch k"]
    ) -> list[Float[Tensor, "batch items"]]:
        """Logits of all items: those of the device, then those of each teacher."""
        logits = [user @ self.scn.catalogue().T]
        nobody = torch.zeros_like(clicks[:, 0])
        for teacher in self.teachers:
            assert isinstance(teacher, Recommender)
            scores = teacher.score_all(teacher.last_states(clicks, nobody))
            if isinstance(teacher, ItemKNN):
                share = scores.clamp_min(0) / scores.amax(1, keepdim=True).clamp_min(_TINY)
                scores = (share + FLOOR).log()
            logits.append(scores)
        return logits

    def local_state(self, hidden: Float[Tensor, "batch k dim"]) -> Float[Tensor, "batch dim"]:
        """The user state of the device, without a correction."""
        at_last = (self.scn(hidden) * last_click(hidden).unsqueeze(-1)).sum(1)
        return self.scn.user_state(at_last)

    def targets(
        self, scores: Sequence[Float[Tensor, "batch items"]], clicks: Int[Tensor, "batch k"]
    ) -> Float[Tensor, "batch items"]:
        """The scores that the device should have: the weighted sum of all models' logits."""
        pairs = zip(self.blend, scores, strict=True)
        blended = sum(weight * logits for weight, logits in pairs)
        assert isinstance(blended, Tensor)
        if self.seen_left_out:
            seen = torch.where(clicks > 0, clicks, clicks[:, :1].clamp_min(1)) - 1
            blended = blended.scatter(1, seen, LEFT_OUT)
        return blended

    def fitted(
        self, hidden: Float[Tensor, "batch k dim"], room: int | None = None
    ) -> tuple[Float[Tensor, "batch dim"], ItemResiduals]:
        """Fits the shift of the device's user state, and the residuals of the best items.

        `room` is the number of boosted items; by default all that `attn` has room for.
        """
        clicks, user = self.clicks(hidden), self.local_state(hidden)
        scores = self.scores(user, clicks)
        count = min(self.settings.projected_items, self.scn.items)
        best, index = self.targets(scores, clicks).topk(count, dim=1)
        boosted = min(self.settings.boosted_items if room is None else room, count)
        table = self.scn.catalogue()
        rows = functional.embedding(index, table)  # (batch, count, dim)
        weight = torch.ones(count, device=table.device)
        weight[:boosted] = BOOSTED_WEIGHT
        share = weight * (self.sharpness * best).softmax(1)
        share = (share / share.sum(1, keepdim=True)).unsqueeze(1)  # (batch, 1, count)
        missing = (best - scores[0].gather(1, index)).unsqueeze(-1)
        rows = rows - share @ rows
        missing = missing - share @ missing
        weighted = rows.transpose(1, 2) * share  # (batch, dim, count)
        ridge = RIDGE * table.var(0).mean() * torch.eye(table.shape[1], device=table.device)
        shift = solve(weighted @ rows + ridge, (weighted @ missing).squeeze(-1))
        residuals = (missing[:, :boosted] - rows[:, :boosted] @ shift.unsqueeze(-1)).squeeze(-1)
        ranked = best[:, :boosted] > LEFT_OUT / 2
        items = (index[:, :boosted] + 1) * ranked
        return shift, ItemResiduals(items, residuals * ranked)

    def last_row(
        self, hidden: Float[Tensor, "batch k dim"]
    ) -> tuple[Float[Tensor, "batch heads k"], Float[Tensor, "batch heads f"]]:
        """The compact correction: `attn` (batch, h, K) and `bias` (batch, h, f)."""
        s = self.settings
        shift, residuals = self.fitted(hidden)
        attn = pack_residuals(residuals, s.heads * s.segment)
        return attn.unflatten(1, (s.heads, s.segment)), shift.unflatten(1, (s.heads, s.head_dim))

    def forward(self, hidden: Float[Tensor, "batch k dim"]) -> Correction:
        """The full correction: zero except in the last click's row."""
        attn, bias = self.last_row(hidden)
        at_last = last_click(hidden)[:, None, :, None]
        return Correction(attn.unsqueeze(2) * at_last, bias.unsqueeze(2) * at_last)


def pack_residuals(boosted: ItemResiduals, width: int) -> Float[Tensor, "batch row"]:
    """Lays boosted items out as `attn` (batch, width), with the heads one after the other.

    The same layout as `shared.projected.ProjectedCorrection.pack`, in operators that can be traced.
    """
    third = width // 3
    item_high, item_low = split_item(boosted.items)
    columns = item_high.float(), item_low.float(), boosted.residuals
    padded = [functional.pad(column, (0, third - column.shape[1])) for column in columns]
    return functional.pad(torch.cat(padded, dim=1), (0, width - 3 * third))


def unpack_residuals(attn: Float[Tensor, "*batch row"]) -> ItemResiduals:
    """Reads boosted items from `attn`: the inverse of `pack_residuals`."""
    third, unused = divmod(attn.shape[-1], 3)
    item_high, item_low, residuals, _ = attn.split([third, third, third, unused], dim=-1)
    return ItemResiduals(join_item(item_high, item_low).long(), residuals)


def solve(
    matrix: Float[Tensor, "batch dim dim"], right: Float[Tensor, "batch dim"], steps: int = _STEPS
) -> Float[Tensor, "batch dim"]:
    """Approximates x in matrix x = right, for symmetric positive definite matrices.

    Chebyshev iteration (Golub and Varga, Numerische Mathematik 1961). Unlike conjugate gradients it
    has a fixed number of steps and no inner products: few operators in an ONNX graph, and no
    division by a quantity that rounding may have made zero.
    """
    norm = matrix.square().sum((1, 2), keepdim=True).sqrt() + _TINY  # no eigenvalue is larger
    matrix, target = matrix / norm, right.unsqueeze(-1)
    centre, half_width = (1 + _LEAST) / 2, (1 - _LEAST) / 2  # of the interval of eigenvalues
    previous_rho = half_width / centre
    solution = update = target / centre
    for _ in range(steps):
        rho = 1 / (2 * centre / half_width - previous_rho)
        update = (rho * previous_rho) * update + (2 * rho / half_width) * (
            target - matrix @ solution
        )
        solution, previous_rho = solution + update, rho
    return (solution / norm).squeeze(-1)
