"""SCN and GCN together, as they are trained and evaluated (CoCorrRec, Section 4.3)."""

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from torch.nn import functional

from cloud_service.models.gcn import GCN
from cloud_service.models.scn import SCN
from cloud_service.models.ttt import Correction, State
from shared.model import ModelSettings


class CoCorrRec(nn.Module):
    """The whole model: the device's half, the cloud's half, and the way between them."""

    def __init__(self, items: int, settings: ModelSettings, *, init_std: float = 0.02) -> None:
        super().__init__()
        self.settings = settings
        self.scn = SCN(items, settings, init_std=init_std)
        self.gcn = GCN(settings)

    def forward(
        self,
        clicks: Int[Tensor, "batch length"],
        gate: Float[Tensor, " batch"] | None = None,
        *,
        dropout: float = 0.0,
    ) -> Float[Tensor, "batch length dim"]:
        """The user state after every click, as if it were the last: one pass for all prefixes.

        `gate` is 0 for sequences whose corrections are dropped; None corrects all of them.
        """
        hidden = functional.dropout(self.scn.hidden(clicks), dropout, self.training)
        correction = self._rows(hidden)
        output = self.scn(hidden, correction, gate, prefixes=True)
        return self.scn.user_state(output)

    def last_state(
        self,
        clicks: Int[Tensor, "batch length"],
        *,
        corrected: bool,
        state: State | None = None,
    ) -> Float[Tensor, "batch dim"]:
        """The user state after the last click that is not padding, with or without correction."""
        hidden = self.scn.hidden(clicks)
        correction = self._rows(hidden) if corrected else None
        output = self.scn(hidden, correction, state=state, prefixes=True)
        last = (clicks > 0).sum(1) - 1
        return self.scn.user_state(output[torch.arange(len(last), device=last.device), last])

    def _rows(self, hidden: Float[Tensor, "batch length dim"]) -> Correction:
        return self.gcn.rows(self.scn.segments(hidden).flatten(0, 1))


def softmax_loss(
    model: CoCorrRec, users: Float[Tensor, "n dim"], targets: Int[Tensor, " n"]
) -> Float[Tensor, ""]:
    """Cross-entropy over the whole catalogue: the paper's loss (Eq. 12 and 16)."""
    return functional.cross_entropy(model.scn.score_all(users), targets - 1)


def sampled_bce_loss(
    model: CoCorrRec,
    users: Float[Tensor, "n dim"],
    targets: Int[Tensor, " n"],
    negatives: Int[Tensor, "n count"],
) -> Float[Tensor, ""]:
    """Binary cross-entropy of one positive and `count` sampled negatives: the released code's."""
    candidates = torch.cat((targets[:, None], negatives), dim=1)
    scores = model.scn.score(users, candidates)
    wanted: Bool[Tensor, "n all"] = torch.arange(scores.shape[1], device=scores.device) == 0
    return functional.binary_cross_entropy_with_logits(
        scores, wanted.to(scores.dtype).expand_as(scores)
    )
