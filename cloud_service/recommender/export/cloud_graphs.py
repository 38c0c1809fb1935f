"""The ONNX graphs of the cloud.

gcn      hidden (B, K, D) -> attn (B, h, K, K), bias (B, h, K, f)
gcn_row  hidden (B, K, D) -> attn (B, h, K), bias (B, h, f)

The paper's GCN is here once more in as few operators as ONNX Runtime has for it: 18 and 27 in place
of the 64 and 81 that the exporter makes of the module, which took a third of a correction's time.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

from cloud_service.recommender.export.graphs import OPSET, export_module
from cloud_service.recommender.models.gcn import GCN, Correcting, CorrectionNetwork


def export_cloud_graphs(gcn: Correcting) -> dict[str, bytes]:
    """The cloud's graphs: `gcn` and `gcn_row`, as ONNX bytes."""
    s = gcn.settings
    gcn = gcn.eval().cpu()
    hidden = {"hidden": torch.ones(3, s.segment, s.dim)}
    batch = {"hidden": {0: torch.export.Dim("batch", min=1)}}
    graphs: dict[str, nn.Module] = (
        {"gcn": _GRUGraph(gcn), "gcn_row": _GRURowGraph(gcn)}
        if isinstance(gcn, GCN)
        else {"gcn": _Graph(gcn), "gcn_row": _RowGraph(gcn)}
    )
    return {
        name: export_module(graph, hidden, ["attn", "bias"], batch)
        for name, graph in graphs.items()
    }


class _Graph(nn.Module):
    """H to the full correction."""

    def __init__(self, gcn: Correcting) -> None:
        super().__init__()
        self.gcn = gcn

    def forward(self, hidden: Tensor) -> tuple[Tensor, Tensor]:
        attn, bias = self.gcn(hidden)
        return attn, bias


class _RowGraph(_Graph):
    """H to the compact correction."""

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
        first = hidden.transpose(0, 1)
        if self.causal:
            return self.attn.rows(first) * self.reach, self.bias.rows(first)
        clicks = _clicks(hidden)
        return self.attn.matrix(first, clicks), self.bias.matrix(first, clicks)


class _GRURowGraph(_GRUGraph):
    """H to the compact correction of the paper's GCN."""

    def __init__(self, gcn: GCN) -> None:
        super().__init__(gcn)
        # Row n: what a row of `attn` reaches after n clicks.
        reach = functional.pad(gcn.tril, (0, 0, 1, 0)) if self.causal else gcn.tril
        self.register_buffer("reach", reach[:, None])

    def forward(self, hidden: Tensor) -> tuple[Tensor, ...]:
        first, clicks = hidden.transpose(0, 1), _clicks(hidden)
        if self.causal:
            reach = self.reach.index_select(0, clicks)
            return self.attn.row(first, clicks) * reach, self.bias.row(first, clicks)
        places = torch.arange(1, hidden.shape[1] + 1, dtype=torch.int32)
        pick = (clicks[:, None] == places).to(hidden.dtype)[:, None, :, None]
        attn, bias = self.attn.matrix(first, clicks), self.bias.matrix(first, clicks)
        return (attn * pick).sum(2), (bias * pick).sum(2)


class _Network(nn.Module):
    """A `CorrectionNetwork`, whose GRU is one operator of ONNX. It takes H steps first, (K, B, D),
    and how many steps count for each."""

    taken: Tensor
    kept: Tensor
    biases: Tensor

    def __init__(self, network: CorrectionNetwork) -> None:
        super().__init__()
        self.network = network
        gru = {name: _gates(weights) for name, weights in network.gru.named_parameters()}
        self.register_buffer("taken", gru["weight_ih_l0"])
        self.register_buffer("kept", gru["weight_hh_l0"])
        self.register_buffer("biases", torch.cat((gru["bias_ih_l0"], gru["bias_hh_l0"]), dim=1))

    def rows(self, first: Tensor) -> Tensor:
        """Row t from step t, (B, h, K, width), of a network that gives a row a step."""
        n = self.network
        out: Tensor = n.fc3(n.mixed(self._gru(first, None)[0]))
        return out.view(n.segment, -1, n.heads, n.width).permute(1, 2, 0, 3)

    def row(self, first: Tensor, clicks: Tensor) -> Tensor:
        """The last click's row alone, (B, h, width)."""
        return self._last(first, clicks).view(-1, self.network.heads, self.network.width)

    def matrix(self, first: Tensor, clicks: Tensor) -> Tensor:
        """(B, h, K, width), of a network that gives all rows at the last click."""
        n = self.network
        return self._last(first, clicks).view(-1, n.heads, n.segment, n.width)

    def _last(self, first: Tensor, clicks: Tensor) -> Tensor:
        n = self.network
        out: Tensor = n.fc3(n.mixed(self._gru(first, clicks)[1]).squeeze(0))
        return out

    def _gru(self, first: Tensor, clicks: Tensor | None) -> Sequence[Tensor]:
        """All states (K, 1, B, D), and those after so many clicks (1, B, D)."""
        k, batch, dim = first.shape
        return torch.onnx.ops.symbolic_multi_out(
            "GRU",
            (first, self.taken, self.kept, self.biases, clicks),
            {"hidden_size": dim, "linear_before_reset": 1},
            dtypes=(first.dtype, first.dtype),
            shapes=((k, 1, batch, dim), (1, batch, dim)),
            version=OPSET,
        )


def _gates(weights: Tensor) -> Tensor:
    """Torch's order of the gates, r z n, as ONNX's, z r n, of its one direction."""
    reset, update, new = weights.detach().chunk(3)
    return torch.cat((update, reset, new))[None]


def _clicks(hidden: Tensor) -> Tensor:
    """How many clicks each H (B, K, D) holds, (B,): the place of its last row that is not zero."""
    places = torch.arange(1, hidden.shape[1] + 1, dtype=hidden.dtype)
    return (hidden.abs().sum(2).sign() * places).amax(1).to(torch.int32)
