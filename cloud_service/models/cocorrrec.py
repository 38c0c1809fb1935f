"""SCN and GCN together, as they are trained and evaluated (CoCorrRec, Section 4.3)."""

from collections.abc import Sequence

import torch
from jaxtyping import Float, Int
from torch import Tensor

from cloud_service.models.gcn import Correcting, gcn_of
from cloud_service.models.projected import ProjectedGCN
from cloud_service.models.recommender import DotProduct, Recommender, at_last
from cloud_service.models.scn import SCN
from cloud_service.models.ttt import Correction, State
from shared.jobs import Ablation
from shared.model import ModelSettings

_CORRECTED = {"only-attn": "attn", "only-bias": "bias"}


class CoCorrRec(DotProduct):
    """The whole model: the device's half, the cloud's half, and the way between them."""

    def __init__(
        self,
        items: int,
        settings: ModelSettings,
        *,
        init_std: float = 0.02,
        dropout: float = 0.0,
        drop_corrections: float = 0.0,
        ablation: Ablation = "none",
        teachers: Sequence[Recommender] = (),
        seen_left_out: bool = False,
    ) -> None:
        """`drop_corrections` is the share of training sequences that go without a correction.

        `teachers` and `seen_left_out` are a projected GCN's. It is put together of models that
        are trained already (`training/stages.py`), and not trained itself.
        """
        super().__init__()
        self.settings, self.drop_corrections = settings, drop_corrections
        self.scn = SCN(items, settings, init_std=init_std, dropout=dropout)
        self.gcn: Correcting
        if settings.gcn == "projected":
            self.gcn = ProjectedGCN(self.scn, teachers, seen_left_out=seen_left_out)
        else:
            self.gcn = gcn_of(settings, dropout=dropout)
        self.items, self.length, self.carries = items, self.scn.length, self.scn.carries
        self.shuffled = ablation == "shuffled-users"
        if ablation in _CORRECTED:
            self.scn.block.corrected = frozenset({_CORRECTED[ablation]})

    def states(
        self, clicks: Int[Tensor, "batch length"], users: Int[Tensor, " batch"]
    ) -> Float[Tensor, "batch length dim"]:
        """The user state after every click, corrected (in training: most of them)."""
        if not self.training or not self.drop_corrections:
            return self(clicks)
        kept = torch.rand(len(clicks), device=clicks.device) >= self.drop_corrections
        return self(clicks, kept.to(torch.float32))

    def forward(
        self,
        clicks: Int[Tensor, "batch length"],
        gate: Float[Tensor, " batch"] | None = None,
    ) -> Float[Tensor, "batch length dim"]:
        """The user state after every click, as if it were the last: one pass for all prefixes.

        `gate` is 0 for sequences whose corrections are dropped; None corrects all of them.
        """
        hidden = self.scn.trained_hidden(clicks)
        correction = self._rows(hidden)
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
        if isinstance(self.gcn, ProjectedGCN):
            states = self.scn.last_states(clicks, users, state)
            if "bias" not in self.scn.block.corrected:
                return states
            return states + self.gcn.last_row(self._seen(hidden))[1].flatten(1)
        correction = self._rows(hidden)
        output = self.scn(hidden, correction, state=state, prefixes=True)
        return at_last(self.scn.corrected(output, correction), clicks)

    def item_vectors(self, items: Int[Tensor, "*n"]) -> Float[Tensor, "*n dim"]:
        """Items as the SCN sees candidates."""
        return self.scn.item_vectors(items)

    def catalogue(self) -> Float[Tensor, "items dim"]:
        """All items as the SCN sees candidates; row i is item i + 1."""
        return self.scn.catalogue()

    def _rows(self, hidden: Float[Tensor, "batch length dim"]) -> Correction:
        return self.gcn.rows(self._seen(hidden))

    def _seen(self, hidden: Float[Tensor, "batch length dim"]) -> Float[Tensor, "segments k dim"]:
        """The segments that the GCN reads."""
        seen = hidden.roll(1, 0) if self.shuffled else hidden
        return self.scn.segments(seen).flatten(0, 1)
