"""The ONNX graphs of a model: five for the device, two for the cloud.

The device's graphs take the item table as an input, so that the one table on disk is mapped into
memory once and shared by them. They know no batch: a device serves one user.

hidden   item_table (V+1, D), clicks (n,) -> hidden (n, D)
views    hidden (n, D) -> views (n, 5D + h)
prepare  views of a segment (K, 5D + h), position (), inner_weight (h, f, f), inner_bias (h, 1, f)
         -> query (h, f), step (h, K, f), own_attn (h, K), own_bias (2, h, f)
rank     item_table, what was prepared, attn (h, K), bias (h, f), gate (), candidates (N,)
         -> scores (N,), block_output (D,)
carry    views of a segment, inner_weight, inner_bias -> next_weight, next_bias
gcn      hidden (B, K, D) -> attn (B, h, K, K), bias (B, h, K, f)
gcn_row  hidden (B, K, D) -> attn (B, h, K), bias (B, h, f)

`position` is the place of the last click in the segment (from 0), `gate` is 1 with a correction
and 0 without, which gives the uncorrected scores to the last bit. What `prepare` computes, a device
computes while the correction is on its way; for a projected GCN, which only shifts the user state,
it is `user` (D,), and `rank` gives scores alone.

`views` is a click's H through the block's matrices, which does not depend on its place in the
segment: a device computes it once a click and keeps it while the click counts. Rows of padding are
zero.
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
from cloud_service.models.ttt import Correction, State, Terms, TTTBlock

OPSET = 20

# It says at every export that torchvision, which no graph here uses, is not installed.
logging.getLogger("torch.onnx._internal.exporter._registration").setLevel(logging.ERROR)


class HiddenGraph(nn.Module):
    """Clicks to their rows of H."""

    def __init__(self, scn: SCN) -> None:
        super().__init__()
        self.input_norm = scn.input_norm

    def forward(self, item_table: Tensor, clicks: Tensor) -> Tensor:
        out: Tensor = self.input_norm(item_table[clicks])
        return out


class ViewsGraph(nn.Module):
    """Rows of H to views: key, value and query as RoPE takes them, and what rates come from.

    All in one product. RoPE's turned pairs are rows of it, not features that are taken apart and
    put together.
    """

    maps: Tensor

    def __init__(self, scn: SCN) -> None:
        super().__init__()
        key, query = scn.block.key.detach(), scn.block.query.detach()
        rates = scn.block.inner_lr.weight.detach().squeeze(1)
        views = key, _turned(key), scn.block.value.detach(), query, _turned(query), rates
        self.register_buffer("maps", torch.cat(views).T)

    def forward(self, hidden: Tensor) -> Tensor:
        return hidden @ self.maps


class PrepareGraph(nn.Module):
    """Views and the carried state to all of a ranking that waits for neither correction nor
    candidates.

    Only the last click's row of `attn` and `b` reaches a score, so only that row is computed.
    """

    def __init__(self, scn: SCN) -> None:
        super().__init__()
        self.scn = scn
        self.outputs = ["user"] if _follows(scn) else ["query", "step", "own_attn", "own_bias"]

    def forward(
        self, views: Tensor, position: Tensor, inner_weight: Tensor, inner_bias: Tensor
    ) -> tuple[Tensor, ...]:
        block, d = self.scn.block, self.scn.settings.dim
        state = State(inner_weight, inner_bias)
        key, gradient, lr = _key_terms(block, views, state)
        turned = views[position, 3 * d : 5 * d].unflatten(0, (2, block.heads, -1))
        query = turned[0] * block.cos[position] + turned[1] * block.sin[position]  # (h, f)
        seen = block.tril[position]  # (K,)
        step = block.token_scale()[position] * lr.unsqueeze(-1) * gradient  # (h, K, f)
        past = seen.unsqueeze(-1) * step
        attn = (key @ query.unsqueeze(-1)).squeeze(-1) * seen  # (h, K)
        bias = state.bias.squeeze(1) - past.sum(1)  # (h, f)
        start = (query.unsqueeze(1) @ state.weight).squeeze(1)
        if len(self.outputs) == 1:
            return (self.scn.user_state(block.leave(query, start + bias, attn, past)),)
        return query, past if block.mask_correction else step, attn, torch.stack((bias, start))


def _key_terms(block: TTTBlock, views: Tensor, state: State) -> tuple[Tensor, Tensor, Tensor]:
    """Keys, gradients (h, K, f) and learning rates (h, K) of `TTTBlock.terms`."""
    d = block.key.shape[0]
    parts = views[:, : 3 * d].unflatten(1, (3, block.heads, -1)).permute(1, 2, 0, 3)
    key = parts[0] * block.cos + parts[1] * block.sin
    gradient = block.inner_norm.loss_gradient(key @ state.weight + state.bias, parts[2] - key)
    return key, gradient, block.inner_lr.rate(views[:, 5 * d :])


class RankGraph(nn.Module):
    """What was prepared, a correction and candidates to scores."""

    def __init__(self, scn: SCN) -> None:
        super().__init__()
        self.scn = scn

    def forward(
        self,
        item_table: Tensor,
        prepared: dict[str, Tensor],
        attn: Tensor,
        bias: Tensor,
        gate: Tensor,
        candidates: Tensor,
    ) -> tuple[Tensor, ...]:
        scn, shift = self.scn, gate * bias.flatten()
        items = item_table[candidates]
        items = items if scn.target is None else scn.target(items)
        if _follows(scn):
            return (_product(items, prepared["user"] + shift),)
        own_bias, start = prepared["own_bias"]
        own = prepared["own_attn"], own_bias
        one, other = scn.block.fuse(*own, Correction(attn, bias), gate)
        output = scn.block.leave(prepared["query"], start + other, one, prepared["step"])
        user = scn.user_state(output)
        user = user + shift if scn.settings.fusion == "shift" else user
        return _product(items, user), output


def _turned(weight: Tensor) -> Tensor:
    """The rows that give `rotate_pairs` of what `weight` gives."""
    return torch.stack((-weight[1::2], weight[0::2]), dim=1).flatten(0, 1)


def _product(matrix: Tensor, vector: Tensor) -> Tensor:
    """ONNX Runtime multiplies by a vector six times as slowly as by a matrix of one column."""
    return (matrix @ vector.unsqueeze(1)).squeeze(1)


def _follows(scn: SCN) -> bool:
    """Whether a correction only shifts the user state: then the block has done before it comes."""
    return scn.settings.gcn == "projected"


class CarryGraph(nn.Module):
    """A full segment to the carried state of the next one."""

    def __init__(self, scn: SCN) -> None:
        super().__init__()
        self.block = scn.block

    def forward(
        self, views: Tensor, inner_weight: Tensor, inner_bias: Tensor
    ) -> tuple[Tensor, Tensor]:
        state = State(inner_weight, inner_bias)
        key, gradient, lr = _key_terms(self.block, views, state)
        weight, bias = self.block.carry(Terms(key, key, gradient, lr), state)
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
    """The device's graphs: `hidden`, `views`, `prepare`, `rank` and `carry`, as ONNX bytes."""
    s = scn.settings
    k, d, h, f = s.segment, s.dim, s.heads, s.head_dim
    table = torch.zeros(scn.items + 1, d)
    views = torch.zeros(k, 5 * d + h)
    weight, inner_bias = torch.zeros(h, f, f), torch.zeros(h, 1, f)
    rows = {0: torch.export.Dim("items", min=2)}
    some = {0: torch.export.Dim("candidates", min=1)}
    any_clicks = {0: torch.export.Dim("clicks", min=1)}
    scn = scn.eval().cpu()
    prepare = PrepareGraph(scn)
    before = {
        "views": views,
        "position": torch.tensor(k - 1),
        "inner_weight": weight,
        "inner_bias": inner_bias,
    }
    with torch.no_grad():
        prepared = dict(zip(prepare.outputs, prepare(**before), strict=True))
    return {
        "hidden": export_module(
            HiddenGraph(scn),
            {"item_table": table, "clicks": torch.zeros(7, dtype=torch.int64)},
            ["hidden"],
            {"item_table": rows, "clicks": any_clicks},
        ),
        "views": export_module(
            ViewsGraph(scn), {"hidden": torch.zeros(7, d)}, ["views"], {"hidden": any_clicks}
        ),
        "prepare": export_module(prepare, before, prepare.outputs, {}),
        "rank": export_module(
            RankGraph(scn),
            {
                "item_table": table,
                "prepared": prepared,
                "attn": torch.zeros(h, k),
                "bias": torch.zeros(h, f),
                "gate": torch.tensor(0.0),
                "candidates": torch.zeros(7, dtype=torch.int64),
            },
            ["scores"] if _follows(scn) else ["scores", "block_output"],
            {
                "item_table": rows,
                "candidates": some,
                "prepared": dict.fromkeys(prepared),
            },
        ),
        "carry": export_module(
            CarryGraph(scn),
            {"views": views, "inner_weight": weight, "inner_bias": inner_bias},
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
