"""The global correction network (GCN), which runs in the cloud (CoCorrRec, Section 4.2, Eq. 13).

Two networks of the same form predict the corrections of `attn` and `b` from H. Each is a GRU over H
and a three-layer MLP without biases (released model; the paper names only the MLP).

There are three forms. `released`: the MLP emits a whole matrix at the last click. `causal`: the MLP
emits row t at every step t. `transformer`: as `causal`, from a larger network (not in the paper).
Only the row of the last click affects a score (shared/WIRE.md). All forms therefore compute that
row for every step at once, and train on every position in one pass.
"""

from abc import ABC, abstractmethod

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn
from torch.nn import functional

from cloud_service.recommender.models.transformer import CausalTransformer
from cloud_service.recommender.models.ttt import Correction
from shared.model import ModelSettings


def last_click(hidden: Float[Tensor, "batch k dim"]) -> Float[Tensor, "batch k"]:
    """One-hot over the last row of H that is not zero (the first row if all are)."""
    valid: Bool[Tensor, "batch k"] = (hidden != 0).any(-1)
    order = torch.arange(1, hidden.shape[1] + 1, device=hidden.device)
    return functional.one_hot((valid * order).argmax(-1), hidden.shape[1]).to(hidden.dtype)


class CorrectionNetwork(nn.Module):
    """Predicts one correction, (heads, K, width), from H."""

    def __init__(self, settings: ModelSettings, width: int) -> None:
        super().__init__()
        dim = settings.dim
        self.heads, self.segment, self.width = settings.heads, settings.segment, width
        self.per_row = settings.gcn == "causal"
        rows = 1 if self.per_row else settings.segment
        self.gru = nn.GRU(dim, dim, batch_first=True)
        self.fc1 = nn.Linear(dim, dim, bias=False)
        self.fc2 = nn.Linear(dim, dim, bias=False)
        self.fc3 = nn.Linear(dim, settings.heads * rows * width, bias=False)

    def features(self, hidden: Float[Tensor, "batch k dim"]) -> Float[Tensor, "batch k dim"]:
        """The input of the last layer at every step."""
        return self.mixed(self.gru(hidden)[0])

    def mixed(self, states: Float[Tensor, "*n dim"]) -> Float[Tensor, "*n dim"]:
        """The input of the last layer, from states of the GRU."""
        return functional.leaky_relu(self.fc2(functional.leaky_relu(self.fc1(states))))

    def matrix(
        self, features: Float[Tensor, "batch k dim"], last_click_mask: Float[Tensor, "batch k"]
    ) -> Float[Tensor, "batch heads k width"]:
        """The correction in the full form of the wire."""
        if self.per_row:
            return self.rows(features)
        at_last = (features * last_click_mask.unsqueeze(-1)).sum(1)
        return self.fc3(at_last).view(-1, self.heads, self.segment, self.width)

    def rows(self, features: Float[Tensor, "batch k dim"]) -> Float[Tensor, "batch heads k width"]:
        """Row t from step t: the correction of a user whose last click is t."""
        if self.per_row:
            out = self.fc3(features).unflatten(-1, (self.heads, self.width))
            return out.transpose(1, 2)
        weight = self.fc3.weight.view(self.heads, self.segment, self.width, -1)
        return torch.einsum("bkd,hkwd->bhkw", features, weight)


class Correcting(nn.Module, ABC):
    """The interface of every form of the GCN."""

    settings: ModelSettings

    @abstractmethod
    def forward(self, hidden: Float[Tensor, "batch k dim"]) -> Correction:
        """The correction in full form, for the last click of each H."""

    @abstractmethod
    def last_row(
        self, hidden: Float[Tensor, "batch k dim"]
    ) -> tuple[Float[Tensor, "batch heads k"], Float[Tensor, "batch heads f"]]:
        """The correction in compact form: only the rows of the last click."""


class Predicting(Correcting):
    """A network that is trained to correct."""

    @abstractmethod
    def rows(self, hidden: Float[Tensor, "batch k dim"]) -> Correction:
        """Row t is the correction of a user whose last click is t: all prefixes in one pass."""

    def forward(self, hidden: Float[Tensor, "batch k dim"]) -> Correction:
        """The correction in full form, for the last click of each H."""
        return self.rows(hidden)

    def last_row(
        self, hidden: Float[Tensor, "batch k dim"]
    ) -> tuple[Float[Tensor, "batch heads k"], Float[Tensor, "batch heads f"]]:
        """The correction in compact form: only the rows of the last click."""
        last_click_mask = last_click(hidden)
        attn, bias = self.rows(hidden)
        pick = last_click_mask[:, None, :, None]
        return (attn * pick).sum(2), (bias * pick).sum(2)


class GCN(Predicting):
    """The paper's GCN: one network for each correction."""

    tril: Tensor

    def __init__(self, settings: ModelSettings) -> None:
        super().__init__()
        self.settings = settings
        self.attn = CorrectionNetwork(settings, settings.segment)
        self.bias = CorrectionNetwork(settings, settings.head_dim)
        self.register_buffer(
            "tril", torch.ones(settings.segment, settings.segment).tril(), persistent=False
        )

    def forward(self, hidden: Float[Tensor, "batch k dim"]) -> Correction:
        """The correction in full form, for the last click of each H."""
        last_click_mask = last_click(hidden)
        return self._masked(
            self.attn.matrix(self.attn.features(hidden), last_click_mask),
            self.bias.matrix(self.bias.features(hidden), last_click_mask),
        )

    def rows(self, hidden: Float[Tensor, "batch k dim"]) -> Correction:
        """Row t is the correction of a user whose last click is t: all prefixes in one pass."""
        return self._masked(
            self.attn.rows(self.attn.features(hidden)),
            self.bias.rows(self.bias.features(hidden)),
        )

    def _masked(self, attn: Tensor, bias: Tensor) -> Correction:
        if self.settings.gcn == "causal":
            attn = attn * self.tril
        return Correction(attn, bias)


class TransformerGCN(Predicting):
    """A causal transformer of any size over H, one trunk for both corrections.

    Its output is initialised to zero, so that training starts from the device's own ranking.
    """

    tril: Tensor

    def __init__(self, settings: ModelSettings, *, dropout: float = 0.0) -> None:
        super().__init__()
        self.settings = settings
        width, heads, k = settings.gcn_dim, settings.heads, settings.segment
        self.widen = nn.Linear(settings.dim, width)
        self.trunk = CausalTransformer(k, width, heads, settings.gcn_layers, dropout)
        self.attn = nn.Linear(width, heads * k, bias=False)
        self.bias = nn.Linear(width, settings.dim, bias=False)
        nn.init.zeros_(self.attn.weight)
        nn.init.zeros_(self.bias.weight)
        self.register_buffer("tril", torch.ones(k, k).tril(), persistent=False)

    def rows(self, hidden: Float[Tensor, "batch k dim"]) -> Correction:
        """Row t is the correction of a user whose last click is t: all prefixes in one pass."""
        features = self.trunk(self.widen(hidden))
        attn, bias = (
            projection(features).unflatten(-1, (self.settings.heads, -1)).transpose(1, 2)
            for projection in (self.attn, self.bias)
        )
        return Correction(attn * self.tril, bias)


def gcn_of(settings: ModelSettings, *, dropout: float = 0.0) -> GCN | TransformerGCN:
    """The GCN of the form given by the settings."""
    if settings.gcn == "transformer":
        return TransformerGCN(settings, dropout=dropout)
    return GCN(settings)
