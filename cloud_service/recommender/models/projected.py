"""A GCN that brings the device's ranking near that of larger models (not in the paper).

The cloud finds the clicks behind H, lets its own models, the *teachers*, score the catalogue, and
sends the shift of the user state after which the device's scores are nearest to theirs, where it
matters: a weighted least-squares fit over the items that the teachers rank best. What 64 numbers
cannot say of the very best of them goes beside it, item by item, where `attn` travels. The device
only adds; the teachers can be as large, as many and as new as the cloud likes, and the SCN is not
retrained for them.
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

RIDGE = 0.03
"""What a shift costs, against the mean variance of the item embedding."""
SHARPNESS = 2.0
"""Where nothing was fitted: items count by the softmax of the wanted scores times this."""
FLOOR = 0.01
"""Share of the best item's score that an item nobody's neighbour is counted with."""
LEFT_OUT = -1e4
"""The wanted score of an item that is not to be ranked."""
NAMED_WEIGHT = 0.1
"""How much a named item counts in the fit, against the others: its score will be exact anyway."""
_BASE = 2048
"""Item numbers travel as two digits of this base, which float16 holds exactly."""
_SIGNATURE = 8
_STEPS = 20
"""With more of them nothing is gained on validation clicks (docs/decisions.md)."""
_LEAST = 1 / 200
"""The eigenvalues that `solve` cares for, against the matrix's size."""
_TINY = 1e-30


class Named(NamedTuple):
    """Items, and what is to be added to their scores beside the shift."""

    items: Int[Tensor, "*batch n"]
    """Their numbers, 0 where there is none."""
    residuals: Float[Tensor, "*batch n"]


class ProjectedGCN(Correcting):
    """Teachers, what each counts, and the fit.

    `bias` is the shift; `attn` holds the named items, a third of its numbers each for the higher
    digits of the items, the lower ones and the residuals.
    """

    blend: Tensor
    sharpness: Tensor
    signature: Tensor

    def __init__(self, scn: SCN, teachers: Sequence[Recommender], *, seen_left_out: bool) -> None:
        """`seen_left_out`: the shift need not care for items the user clicked before."""
        super().__init__()
        if scn.items > _BASE**2:
            raise ValueError(f"a projected GCN knows at most {_BASE**2:,} items")
        self.settings, self.seen_left_out = scn.settings, seen_left_out
        self._device_model = (scn,)  # hidden from the module tree: its weights are the device's
        self.teachers = nn.ModuleList(teachers)
        self.register_buffer("blend", torch.full((1 + len(teachers),), 1 / (1 + len(teachers))))
        self.register_buffer("sharpness", torch.tensor(SHARPNESS))
        drawn = torch.randn(
            scn.settings.dim, _SIGNATURE, generator=torch.Generator().manual_seed(0)
        )
        self.register_buffer("signature", drawn, persistent=False)

    @property
    def scn(self) -> SCN:
        """The device's half."""
        return self._device_model[0]

    def clicks(self, hidden: Float[Tensor, "batch k dim"]) -> Int[Tensor, "batch k"]:
        """The items whose H this is, 0 where a row is zero.

        Rows are compared by a few random projections: all 64 numbers would cost as much as the
        rest of the correction.
        """
        table = self.scn.input_norm(self.scn.item_embedding[1:]) @ self.signature
        against = torch.cat((table, table.square().sum(1, keepdim=True) / -2), dim=1)
        rows = functional.pad(hidden @ self.signature, (0, 1), value=1.0)
        nearness = rows @ against.T
        # ONNX Runtime's arg max takes twice as long as these two.
        numbers = torch.arange(1, len(table) + 1, device=table.device).float()
        nearest = torch.where(nearness == nearness.amax(-1, keepdim=True), numbers, 0.0).amax(-1)
        return nearest.long() * (hidden != 0).any(-1)

    def scores(
        self, user: Float[Tensor, "batch dim"], clicks: Int[Tensor, "batch k"]
    ) -> list[Float[Tensor, "batch items"]]:
        """Logits of all items: the device's, then each teacher's."""
        found = [user @ self.scn.catalogue().T]
        nobody = torch.zeros_like(clicks[:, 0])
        for teacher in self.teachers:
            assert isinstance(teacher, Recommender)
            scores = teacher.score_all(teacher.last_states(clicks, nobody))
            if isinstance(teacher, ItemKNN):
                share = scores.clamp_min(0) / scores.amax(1, keepdim=True).clamp_min(1e-30)
                scores = (share + FLOOR).log()
            found.append(scores)
        return found

    def local_state(self, hidden: Float[Tensor, "batch k dim"]) -> Float[Tensor, "batch dim"]:
        """The user state that the device has."""
        at_last = (self.scn(hidden) * last_click(hidden).unsqueeze(-1)).sum(1)
        return self.scn.user_state(at_last)

    def wanted(
        self, scores: Sequence[Float[Tensor, "batch items"]], clicks: Int[Tensor, "batch k"]
    ) -> Float[Tensor, "batch items"]:
        """The scores that the device ought to have."""
        blended = sum(weight * each for weight, each in zip(self.blend, scores, strict=True))
        assert isinstance(blended, Tensor)
        if self.seen_left_out:
            known = torch.where(clicks > 0, clicks, clicks[:, :1].clamp_min(1)) - 1
            blended = blended.scatter(1, known, LEFT_OUT)
        return blended

    def fitted(
        self, hidden: Float[Tensor, "batch k dim"], room: int | None = None
    ) -> tuple[Float[Tensor, "batch dim"], Named]:
        """What to add to the device's user state, and to the scores of the best items.

        `room` is how many of these are named, by default as many as `attn` has room for.
        """
        clicks, user = self.clicks(hidden), self.local_state(hidden)
        scores = self.scores(user, clicks)
        count = min(self.settings.projected_items, self.scn.items)
        best, index = self.wanted(scores, clicks).topk(count, dim=1)
        first = min(self.settings.named_items if room is None else room, count)
        table = self.scn.catalogue()
        rows = functional.embedding(index, table)  # (batch, count, dim)
        weight = torch.ones(count, device=table.device)
        weight[:first] = NAMED_WEIGHT
        share = weight * (self.sharpness * best).softmax(1)
        share = (share / share.sum(1, keepdim=True)).unsqueeze(1)  # (batch, 1, count)
        missing = (best - scores[0].gather(1, index)).unsqueeze(-1)
        rows = rows - share @ rows
        missing = missing - share @ missing
        weighted = rows.transpose(1, 2) * share  # (batch, dim, count)
        ridge = RIDGE * table.var(0).mean() * torch.eye(table.shape[1], device=table.device)
        shift = solve(weighted @ rows + ridge, (weighted @ missing).squeeze(-1))
        rest = (missing[:, :first] - rows[:, :first] @ shift.unsqueeze(-1)).squeeze(-1)
        ranked = best[:, :first] > LEFT_OUT / 2
        return shift, Named((index[:, :first] + 1) * ranked, rest * ranked)

    def last_row(
        self, hidden: Float[Tensor, "batch k dim"]
    ) -> tuple[Float[Tensor, "batch heads k"], Float[Tensor, "batch heads f"]]:
        """The compact form: the last click's row of each correction."""
        s = self.settings
        shift, best = self.fitted(hidden)
        attn = naming(best, s.heads * s.segment)
        return attn.unflatten(1, (s.heads, s.segment)), shift.unflatten(1, (s.heads, s.head_dim))

    def forward(self, hidden: Float[Tensor, "batch k dim"]) -> Correction:
        """The full form: zero but for the last click's row."""
        attn, bias = self.last_row(hidden)
        place = last_click(hidden)[:, None, :, None]
        return Correction(attn.unsqueeze(2) * place, bias.unsqueeze(2) * place)


def naming(best: Named, width: int) -> Float[Tensor, "batch row"]:
    """The row of `attn` (batch, width), all heads in one, that names these items."""
    third = width // 3
    digits = (best.items // _BASE).float(), (best.items % _BASE).float()
    parts = [functional.pad(x, (0, third - x.shape[1])) for x in (*digits, best.residuals)]
    return functional.pad(torch.cat(parts, dim=1), (0, width - 3 * third))


def named(attn: Float[Tensor, "*batch row"]) -> Named:
    """The items that a row of `attn` names: what `naming` was given."""
    third, left = divmod(attn.shape[-1], 3)
    higher, lower, residuals, _ = attn.split([third, third, third, left], dim=-1)
    return Named(item_numbers(higher, lower), residuals)


def item_numbers(higher: Float[Tensor, "*n"], lower: Float[Tensor, "*n"]) -> Int[Tensor, "*n"]:
    """Item numbers from their two digits."""
    return (higher * _BASE + lower).long()


def solve(
    matrix: Float[Tensor, "batch dim dim"], right: Float[Tensor, "batch dim"], steps: int = _STEPS
) -> Float[Tensor, "batch dim"]:
    """About x with matrix x = right, for symmetric positive matrices, by Chebyshev's iteration
    (Golub and Varga, Numerische Mathematik 1961).

    A fixed number of steps and no inner products, as conjugate gradients have them: few operators
    in an ONNX graph, and nothing in which rounding could grow.
    """
    size = matrix.square().sum((1, 2), keepdim=True).sqrt() + _TINY  # no eigenvalue is larger
    matrix, wanted = matrix / size, right.unsqueeze(-1)
    centre, reach = (1 + _LEAST) / 2, (1 - _LEAST) / 2
    before = reach / centre
    found = move = wanted / centre
    for _ in range(steps):
        now = 1 / (2 * centre / reach - before)
        move = (now * before) * move + (2 * now / reach) * (wanted - matrix @ found)
        found, before = found + move, now
    return (found / size).squeeze(-1)
