"""The ONNX graphs of the cloud.

gcn      hidden (B, K, D) -> attn (B, h, K, K), bias (B, h, K, f)
gcn_row  hidden (B, K, D) -> attn (B, h, K), bias (B, h, f)

The paper's GCN is re-implemented with as few ONNX operators as possible: 18 and 27, where the
exporter makes 64 and 81 of the module. A correction takes two thirds of the time.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

from cloud_service.recommender.export.graphs import OPSET, export_module
from cloud_service.recommender.models.gcn import GCN, Correcting, CorrectionNetwork


def export_cloud_graphs(gcn: Correcting) -> dict[str, bytes]:
    """Exports `gcn` and `gcn_row` as ONNX bytes, by name."""
    s = gcn.settings
    gcn = gcn.eval().cpu()
    hidden = {"hidden": torch.ones(3, s.segment, s.dim)}
    batch = {"hidden": {0: torch.export.Dim("batch", min=1)}}
    graphs: dict[str, nn.Module] = (
        {"gcn": _GRUGraph(gcn), "gcn_row": _GRURowGraph(gcn)}
        if isinstance(gcn, GCN)
        else {"gcn": _FullGraph(gcn), "gcn_row": _RowGraph(gcn)}
    )
    return {
        name: export_module(graph, hidden, ["attn", "bias"], batch)
        for name, graph in graphs.items()
    }


class _FullGraph(nn.Module):
    """H to the full correction, of any GCN."""

    def __init__(self, gcn: Correcting) -> None:
        super().__init__()
        self.gcn = gcn

    def forward(self, hidden: Tensor) -> tuple[Tensor, Tensor]:
        attn, bias = self.gcn(hidden)
        return attn, bias


class _RowGraph(_FullGraph):
    """H to the compact correction, of any GCN."""

    def forward(self, hidden: Tensor) -> tuple[Tensor, Tensor]:
        out: tuple[Tensor, Tensor] = self.gcn.last_row(hidden)
        return out


class _GRUGraph(nn.Module):
    """H to the full correction of the paper's GCN."""

    reach: Tensor

    def __init__(self, gcn: GCN) -> None:
        super().__init__()
        self.causal = gcn.settings.gcn == "causal"
        self.attn, self.bias = _Network(gcn.attn), _Network(gcn.bias)
        self.register_buffer("reach", gcn.tril)

    def forward(self, hidden: Tensor) -> tuple[Tensor, ...]:
        steps = hidden.transpose(0, 1)
        if self.causal:
            return self.attn.rows(steps) * self.reach, self.bias.rows(steps)
        clicks = _count_clicks(hidden)
        return self.attn.matrix(steps, clicks), self.bias.matrix(steps, clicks)


class _GRURowGraph(_GRUGraph):
    """H to the compact correction of the paper's GCN."""

    def __init__(self, gcn: GCN) -> None:
        super().__init__(gcn)
        # Row n masks a row of `attn` after n clicks.
        reach = functional.pad(gcn.tril, (0, 0, 1, 0)) if self.causal else gcn.tril
        self.register_buffer("reach", reach[:, None])

    def forward(self, hidden: Tensor) -> tuple[Tensor, ...]:
        steps, clicks = hidden.transpose(0, 1), _count_clicks(hidden)
        if self.causal:
            reach = self.reach.index_select(0, clicks)
            return self.attn.row(steps, clicks) * reach, self.bias.row(steps, clicks)
        counts = torch.arange(1, hidden.shape[1] + 1, dtype=torch.int32)
        is_last = (clicks[:, None] == counts).to(hidden.dtype)[:, None, :, None]
        attn, bias = self.attn.matrix(steps, clicks), self.bias.matrix(steps, clicks)
        return (attn * is_last).sum(2), (bias * is_last).sum(2)


class _Network(nn.Module):
    """A `CorrectionNetwork` with its GRU as one ONNX operator.

    Inputs are `steps`, which is H with the step axis first (K, B, D), and `clicks`, the number of
    valid steps of each H (B,).
    """

    taken: Tensor
    """(1, 3D, D) weights of the input."""
    kept: Tensor
    """(1, 3D, D) weights of the previous step's state."""
    biases: Tensor
    """(1, 6D) biases of both."""

    def __init__(self, network: CorrectionNetwork) -> None:
        super().__init__()
        self.network = network
        gru = {name: _gates(weights) for name, weights in network.gru.named_parameters()}
        self.register_buffer("taken", gru["weight_ih_l0"])
        self.register_buffer("kept", gru["weight_hh_l0"])
        self.register_buffer("biases", torch.cat((gru["bias_ih_l0"], gru["bias_hh_l0"]), dim=1))

    def rows(self, steps: Tensor) -> Tensor:
        """All rows, (B, h, K, width), of a network that computes row t from step t."""
        n = self.network
        out: Tensor = n.fc3(n.mixed(self._gru(steps, None)[0]))
        return out.view(n.segment, -1, n.heads, n.width).permute(1, 2, 0, 3)

    def row(self, steps: Tensor, clicks: Tensor) -> Tensor:
        """The last click's row, (B, h, width), of the same network."""
        return self._at_last_click(steps, clicks).view(-1, self.network.heads, self.network.width)

    def matrix(self, steps: Tensor, clicks: Tensor) -> Tensor:
        """All rows, (B, h, K, width), of a network that computes them from the last step."""
        n = self.network
        return self._at_last_click(steps, clicks).view(-1, n.heads, n.segment, n.width)

    def _at_last_click(self, steps: Tensor, clicks: Tensor) -> Tensor:
        n = self.network
        out: Tensor = n.fc3(n.mixed(self._gru(steps, clicks)[1]).squeeze(0))
        return out

    def _gru(self, steps: Tensor, clicks: Tensor | None) -> Sequence[Tensor]:
        """The states after every step (K, 1, B, D), and after the last valid one (1, B, D)."""
        k, batch, dim = steps.shape
        return torch.onnx.ops.symbolic_multi_out(
            "GRU",
            (steps, self.taken, self.kept, self.biases, clicks),
            {"hidden_size": dim, "linear_before_reset": 1},
            dtypes=(steps.dtype, steps.dtype),
            shapes=((k, 1, batch, dim), (1, batch, dim)),
            version=OPSET,
        )


def _gates(weights: Tensor) -> Tensor:
    """Reorders gates from r z n (torch) to z r n (ONNX), and adds the axis of directions."""
    reset, update, new = weights.detach().chunk(3)
    return torch.cat((update, reset, new))[None]


def _count_clicks(hidden: Tensor) -> Tensor:
    """The number of clicks in each H, (B, K, D) to (B,): the last row that is not zero, from 1."""
    counts = torch.arange(1, hidden.shape[1] + 1, dtype=hidden.dtype)
    return (hidden.abs().sum(2).sign() * counts).amax(1).to(torch.int32)
