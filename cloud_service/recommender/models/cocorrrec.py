"""SCN and GCN combined, for training and evaluation (CoCorrRec, Section 4.3)."""

from collections.abc import Sequence

import torch
from jaxtyping import Float, Int
from torch import Tensor

from cloud_service.recommender.models.baselines.parts import prefixes
from cloud_service.recommender.models.gcn import Correcting, Predicting, gcn_of
from cloud_service.recommender.models.projected import ItemResiduals, ProjectedGCN, unpack_residuals
from cloud_service.recommender.models.recommender import DotProduct, Recommender, at_last
from cloud_service.recommender.models.scn import SCN
from cloud_service.recommender.models.ttt import State
from cloud_service.recommender.recipe import Ablation
from shared.model import ModelSettings

_TOGETHER = 64
"""Corrections that a projected GCN computes at once; with 1,024, each takes 2.4 times as long."""
_CORRECTED = {"only-attn": "attn", "only-bias": "bias"}


class SCNAndGCN(Recommender):
    """The device's network and the cloud's network, and the correction between them."""

    scn: SCN
    gcn: Correcting

    def __init__(self, scn: SCN, gcn: Correcting, ablation: Ablation) -> None:
        super().__init__()
        self.scn, self.gcn, self.settings = scn, gcn, scn.settings
        self.items, self.length, self.carries = scn.items, scn.length, scn.carries
        self.shuffled = ablation == "shuffled-users"
        if ablation in _CORRECTED:
            scn.block.corrected = frozenset({_CORRECTED[ablation]})

    def _seen(self, hidden: Float[Tensor, "batch length dim"]) -> Float[Tensor, "segments k dim"]:
        """The segments of H that the GCN reads."""
        seen = hidden.roll(1, 0) if self.shuffled else hidden
        return self.scn.segments(seen).flatten(0, 1)


class CoCorrRec(SCNAndGCN, DotProduct):
    """Both networks trained jointly; the GCN predicts the correction."""

    gcn: Predicting

    def __init__(
        self,
        items: int,
        settings: ModelSettings,
        *,
        init_std: float = 0.02,
        dropout: float = 0.0,
        drop_corrections: float = 0.0,
        ablation: Ablation = "none",
    ) -> None:
        """`drop_corrections` is the share of training sequences without a correction."""
        scn = SCN(items, settings, init_std=init_std, dropout=dropout)
        super().__init__(scn, gcn_of(settings, dropout=dropout), ablation)
        self.drop_corrections = drop_corrections

    def states(
        self, clicks: Int[Tensor, "batch length"], users: Int[Tensor, " batch"]
    ) -> Float[Tensor, "batch length dim"]:
        """The corrected user state after every click; in training some are not corrected."""
        if not self.training or not self.drop_corrections:
            return self(clicks)
        keeps_correction = torch.rand(len(clicks), device=clicks.device) >= self.drop_corrections
        return self(clicks, keeps_correction.to(torch.float32))

    def forward(
        self,
        clicks: Int[Tensor, "batch length"],
        gate: Float[Tensor, " batch"] | None = None,
    ) -> Float[Tensor, "batch length dim"]:
        """The user state after every click, as if it were the last: one pass for all prefixes.

        `gate` is 0 for sequences whose corrections are dropped; None corrects all of them.
        """
        hidden = self.scn.trained_hidden(clicks)
        correction = self.gcn.rows(self._seen(hidden))
        output = self.scn(hidden, correction, gate, prefixes=True)
        return self.scn.corrected(output, correction, gate)

    def last_states(
        self,
        clicks: Int[Tensor, "batch length"],
        users: Int[Tensor, " batch"],
        state: State | None = None,
    ) -> Float[Tensor, "batch dim"]:
        """The corrected user state after the last click, `state` carried from before."""
        hidden = self.scn.hidden(clicks)
        correction = self.gcn.rows(self._seen(hidden))
        output = self.scn(hidden, correction, state=state, prefixes=True)
        return at_last(self.scn.corrected(output, correction), clicks)

    def item_vectors(self, items: Int[Tensor, "*n"]) -> Float[Tensor, "*n dim"]:
        """The SCN's vectors of candidates."""
        return self.scn.item_vectors(items)

    def catalogue(self) -> Float[Tensor, "items dim"]:
        """The SCN's vectors of all items; row i is item i + 1."""
        return self.scn.catalogue()


class ProjectedCoCorrRec(SCNAndGCN):
    """An SCN and a projected GCN that corrects it, built from trained models and not trained
    itself (`training/stages.py`).

    A state is what a device scores candidates from: the user state, followed by a `row`.
    """

    gcn: ProjectedGCN

    def __init__(
        self,
        items: int,
        settings: ModelSettings,
        *,
        init_std: float = 0.02,
        ablation: Ablation = "none",
        teachers: Sequence[Recommender] = (),
        seen_left_out: bool = False,
    ) -> None:
        """`teachers` and `seen_left_out` are passed to the GCN."""
        scn = SCN(items, settings, init_std=init_std)
        gcn = ProjectedGCN(scn, teachers, seen_left_out=seen_left_out)
        super().__init__(scn, gcn, ablation)

    def states(
        self, clicks: Int[Tensor, "batch length"], users: Int[Tensor, " batch"]
    ) -> Float[Tensor, "batch length width"]:
        """The state after every click, as if it were the last."""
        owners = users.repeat_interleave(clicks.shape[1])
        return self.last_states(prefixes(clicks).flatten(0, 1), owners).unflatten(0, clicks.shape)

    def last_states(
        self, clicks: Int[Tensor, "batch length"], users: Int[Tensor, " batch"]
    ) -> Float[Tensor, "batch width"]:
        """The state after the last click."""
        row = self.row(self._seen(self.scn.hidden(clicks)))
        return torch.cat((self.scn.last_states(clicks, users), row), dim=1)

    def row(self, hidden: Float[Tensor, "n k dim"]) -> Float[Tensor, "n row"]:
        """The compact form of the correction for H: `attn` followed by `bias`."""
        rows = [self.gcn.last_row(chunk) for chunk in hidden.split(_TOGETHER)]
        values = zip(("attn", "bias"), zip(*rows, strict=True), strict=True)
        reaching = self.scn.block.corrected
        sent = [torch.cat(chunks).flatten(1) * (name in reaching) for name, chunks in values]
        return torch.cat(sent, dim=1)

    def score(
        self, states: Float[Tensor, "n width"], candidates: Int[Tensor, "n count"]
    ) -> Float[Tensor, "n count"]:
        """A score for each candidate."""
        user, (items, residuals) = self._corrected(states)
        of_item = candidates.unsqueeze(2) == items.unsqueeze(1)  # (n, count, items named)
        return self.scn.score(user, candidates) + (of_item * residuals.unsqueeze(1)).sum(2)

    def score_all(self, states: Float[Tensor, "n width"]) -> Float[Tensor, "n items"]:
        """A score for every item of the catalogue; column i is item i + 1."""
        user, (items, residuals) = self._corrected(states)
        return self.scn.score_all(user).scatter_add_(1, (items - 1).clamp_min(0), residuals)

    def _corrected(
        self, states: Float[Tensor, "n width"]
    ) -> tuple[Float[Tensor, "n dim"], ItemResiduals]:
        s = self.settings
        user, attn, bias = states.split([s.dim, s.heads * s.segment, s.dim], dim=1)
        return user + bias, unpack_residuals(attn)
