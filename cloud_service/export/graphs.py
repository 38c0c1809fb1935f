"""The ONNX graphs of a model: three for the device, two for the cloud.

The device's graphs take the item table as an input, so that the one table on disk is mapped into
memory once and shared by them. They know no batch: a device serves one user.

hidden   item_table (V+1, D), clicks (K,) -> hidden (K, D)
rank     item_table, hidden, position (), attn (h, K), bias (h, f), gate (),
         inner_weight (h, f, f), inner_bias (h, 1, f), candidates (N,)
         -> scores (N,), block_output (D,)
carry    hidden, inner_weight, inner_bias -> next_weight, next_bias
gcn      hidden (B, K, D) -> attn (B, h, K, K), bias (B, h, K, f)
gcn_row  hidden (B, K, D) -> attn (B, h, K), bias (B, h, f)

`position` is the place of the last click in the segment (from 0), `gate` is 1 with a correction
and 0 without, which gives the uncorrected scores to the last bit.
"""

import io
import logging
import warnings
from collections.abc import Mapping, Sequence
from typing import Any

import onnx
import torch
from torch import Tensor, nn

from cloud_service.models.gcn import Correcting
from cloud_service.models.scn import SCN
from cloud_service.models.ttt import Correction, State

OPSET = 20

# It says at every export that torchvision, which no graph here uses, is not installed.
logging.getLogger("torch.onnx._internal.exporter._registration").setLevel(logging.ERROR)


class HiddenGraph(nn.Module):
    """Clicks to H."""

    def __init__(self, scn: SCN) -> None:
        super().__init__()
        self.input_norm = scn.input_norm

    def forward(self, item_table: Tensor, clicks: Tensor) -> Tensor:
        out: Tensor = self.input_norm(item_table[clicks])
        return out


class RankGraph(nn.Module):
    """H, correction row, carried state and candidates to scores.

    Only the last click's row of `attn` and `b` reaches a score, so only that row is computed.
    """

    def __init__(self, scn: SCN) -> None:
        super().__init__()
        self.block, self.output_norm, self.target = scn.block, scn.output_norm, scn.target
        self.shifted = scn.settings.fusion == "shift"

    def forward(
        self,
        item_table: Tensor,
        hidden: Tensor,
        position: Tensor,
        attn: Tensor,
        bias: Tensor,
        gate: Tensor,
        inner_weight: Tensor,
        inner_bias: Tensor,
        candidates: Tensor,
    ) -> tuple[Tensor, Tensor]:
        output = self._block_output(
            hidden, position, attn, bias, gate, State(inner_weight, inner_bias)
        )
        items = item_table[candidates]
        items = items if self.target is None else self.target(items)
        user = self.output_norm(output)
        if self.shifted:
            user = user + gate * bias.flatten()
        return items @ user, output

    def _block_output(
        self,
        hidden: Tensor,
        position: Tensor,
        attn_correction: Tensor,
        bias_correction: Tensor,
        gate: Tensor,
        state: State,
    ) -> Tensor:
        block = self.block
        terms = block.terms(hidden, state)
        query = terms.query[:, position]  # (h, f)
        step = terms.lr.unsqueeze(-1) * terms.gradient  # (h, K, f)
        seen = block.tril[position]  # (K,)
        scale = block.token_scale()[position]
        attn = (terms.key @ query.unsqueeze(-1)).squeeze(-1) * seen  # (h, K)
        bias = state.bias.squeeze(1) - scale * (seen.unsqueeze(-1) * step).sum(1)  # (h, f)
        attn, bias = block.fuse(attn, bias, Correction(attn_correction, bias_correction), gate)
        if block.mask_correction:
            attn = attn * seen
        moved = (attn.unsqueeze(-1) * step).sum(1)
        inner = (query.unsqueeze(1) @ state.weight).squeeze(1) - scale * moved + bias
        merged = query + block.inner_norm(inner.unsqueeze(1)).squeeze(1)
        out: Tensor = block.output @ block.post_norm(merged.flatten())
        return out


class CarryGraph(nn.Module):
    """A full segment to the carried state of the next one."""

    def __init__(self, scn: SCN) -> None:
        super().__init__()
        self.block = scn.block

    def forward(
        self, hidden: Tensor, inner_weight: Tensor, inner_bias: Tensor
    ) -> tuple[Tensor, Tensor]:
        state = State(inner_weight, inner_bias)
        weight, bias = self.block.carry(self.block.terms(hidden, state), state)
        return weight, bias


class GCNGraph(nn.Module):
    """H to the full correction."""

    def __init__(self, gcn: Correcting) -> None:
        super().__init__()
        self.gcn = gcn

    def forward(self, hidden: Tensor) -> tuple[Tensor, Tensor]:
        attn, bias = self.gcn(hidden)
        return attn, bias


class GCNRowGraph(GCNGraph):
    """H to the compact correction."""

    def forward(self, hidden: Tensor) -> tuple[Tensor, Tensor]:
        out: tuple[Tensor, Tensor] = self.gcn.last_row(hidden)
        return out


def export_device_graphs(scn: SCN) -> dict[str, bytes]:
    """The device's graphs: `hidden`, `rank` and `carry`, as ONNX bytes."""
    s = scn.settings
    k, d, h, f = s.segment, s.dim, s.heads, s.head_dim
    table = torch.zeros(scn.items + 1, d)
    hidden = torch.zeros(k, d)
    weight, inner_bias = torch.zeros(h, f, f), torch.zeros(h, 1, f)
    rows = {0: torch.export.Dim("items", min=2)}
    some = {0: torch.export.Dim("candidates", min=1)}
    scn = scn.eval().cpu()
    return {
        "hidden": export_module(
            HiddenGraph(scn),
            {"item_table": table, "clicks": torch.zeros(k, dtype=torch.int64)},
            ["hidden"],
            {"item_table": rows},
        ),
        "rank": export_module(
            RankGraph(scn),
            {
                "item_table": table,
                "hidden": hidden,
                "position": torch.tensor(k - 1),
                "attn": torch.zeros(h, k),
                "bias": torch.zeros(h, f),
                "gate": torch.tensor(0.0),
                "inner_weight": weight,
                "inner_bias": inner_bias,
                "candidates": torch.zeros(7, dtype=torch.int64),
            },
            ["scores", "block_output"],
            {"item_table": rows, "candidates": some},
        ),
        "carry": export_module(
            CarryGraph(scn),
            {"hidden": hidden, "inner_weight": weight, "inner_bias": inner_bias},
            ["next_weight", "next_bias"],
            {},
        ),
    }


def export_cloud_graphs(gcn: Correcting) -> dict[str, bytes]:
    """The cloud's graphs: `gcn` and `gcn_row`, as ONNX bytes."""
    s = gcn.settings
    gcn = gcn.eval().cpu()
    hidden = {"hidden": torch.ones(3, s.segment, s.dim)}
    batch = {"hidden": {0: torch.export.Dim("batch", min=1)}}
    return {
        "gcn": export_module(GCNGraph(gcn), hidden, ["attn", "bias"], batch),
        "gcn_row": export_module(GCNRowGraph(gcn), hidden, ["attn", "bias"], batch),
    }


def export_module(
    module: nn.Module,
    inputs: Mapping[str, Tensor | Mapping[str, Tensor]],
    outputs: Sequence[str],
    dynamic: Mapping[str, Mapping[Any, Any]],
) -> bytes:
    """One module as a checked ONNX model of a single file.

    `inputs` are examples of what `forward` takes, by name; those in a mapping of their own become
    inputs of the graph by their own names.
    """
    names = [
        name
        for key, value in inputs.items()
        for name in (value if isinstance(value, Mapping) else [key])
    ]
    # The exporter compiles a loop for every GRU; what one leaves in the cache breaks the next.
    torch.compiler.reset()
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")  # the exporter's own deprecations are not ours to mend
        program = torch.onnx.export(
            module.eval(),
            (),
            kwargs=dict(inputs),
            input_names=names,
            output_names=list(outputs),
            dynamic_shapes={name: dynamic.get(name) for name in inputs},
            dynamo=True,
            opset_version=OPSET,
            optimize=True,
            verbose=False,
        )
    assert program is not None  # with dynamo=True and no file there always is one
    buffer = io.BytesIO()
    onnx.save(program.model_proto, buffer)
    onnx.checker.check_model(buffer.getvalue())
    return buffer.getvalue()
