"""The ONNX graphs of the device.

They take the item table as an input, so that the one table on disk is mapped into memory once and
shared by them. They know no batch: a device serves one user.

hidden   item_table (V+1, D), clicks (n,) -> hidden (n, D)
views    hidden (n, D) -> views (n, 5h (f+1))
prepare  hidden of a segment (K, D), its keys, turned_keys and values (h, K, f+1), the last click's
         query (2, h, 1, f+1) and position (1,), state (h, f+1, f)
         -> turned_query (h, 1, f), step (h, K, f), own, own_mean, own_deviation (h, 1, K+f)
rank     item_table, what was prepared, correction (h, 1, K+f), gate (), candidates (N,)
         -> scores (1, N), block_output (1, D)
carry    keys, turned_keys, values and state -> next_state (h, f+1, f)

`views` is a click's H through the block's matrices, which does not depend on its place in the
segment: a device computes it once a click and keeps it while the click counts. It holds 5h rows of
f + 1 numbers: the key and the key with its pairs turned (for RoPE) of every head, the value, and
the query and its pairs turned. The one number more is 1 beside a key, so that the inner model's
weight and bias are one matrix, the state; what the learning rate comes from beside a value; beside
a query 1 where all is one product, 0 where `attn` is wanted by itself. Places without a click hold
the views of a row of zeros. `position` is the place of the last click in the segment (from 0).

What `prepare` computes, a device computes while the correction is on its way. `own` is the last
click's row of `attn` and, beside it, all else that the inner model makes of its query; `own_mean`
and `own_deviation` are those of Eq. 14, times P and Q. Where there is a readout, what it adds to O
is there too, `near` (1, D). `gate` is 1 with a correction and 0 without, which gives the
uncorrected scores to the last bit.

A projected GCN shifts the user state and adds to the scores of the items it names: all that is
prepared is `user` (1, D), and `rank` takes shift (1, D), higher and lower digits of the named items
(n, 1) and residuals (1, n), all zero without a correction, and gives scores alone.

Everything is here once more that `TTTBlock` does for many rows, for one row and in as few operators
as ONNX Runtime has for it: it is they that take the time, not the arithmetic.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional

from cloud_service.recommender.export.graphs import OPSET, export_module
from cloud_service.recommender.models.projected import item_numbers
from cloud_service.recommender.models.scn import REACH, SCN, Readout
from cloud_service.recommender.models.ttt import EPS, HeadNorm, TTTBlock
from shared.views import SEGMENT_VIEWS


class HiddenGraph(nn.Module):
    """Clicks to their rows of H."""

    def __init__(self, scn: SCN) -> None:
        super().__init__()
        self.input_norm = scn.input_norm

    def forward(self, item_table: Tensor, clicks: Tensor) -> Tensor:
        out: Tensor = self.input_norm(functional.embedding(clicks, item_table))
        return out


class ViewsGraph(nn.Module):
    """Rows of H to views, all in one product.

    RoPE's turned pairs are rows of it, not features that are taken apart and put together.
    """

    maps: Tensor
    constants: Tensor

    def __init__(self, scn: SCN) -> None:
        super().__init__()
        block, s = scn.block, scn.settings
        rate, query = block.inner_lr, block.query.detach()
        key, value = block.key.detach(), block.value.detach()
        rows = torch.stack((key, _turned(key), value, query, _turned(query)))
        maps = functional.pad(rows.unflatten(1, (s.heads, -1)), (0, 0, 0, 1))  # (5, h, f + 1, D)
        constants = torch.zeros(maps.shape[:-1])
        constants[0, :, -1] = 1.0
        # A value less the inner norm's bias: what is left of it in the inner gradient.
        constants[2, :, :-1] = -block.inner_norm.bias.detach()
        maps[2, :, -1] = rate.weight.detach().squeeze(1)
        constants[2, :, -1] = rate.bias.detach()[:, 0]
        constants[3, :, -1] = float(_follows(scn))
        self.register_buffer("maps", maps.flatten(0, 2))
        self.register_buffer("constants", constants.flatten())

    def forward(self, hidden: Tensor) -> Tensor:
        return functional.linear(hidden, self.maps, self.constants)


class _Steps(NamedTuple):
    """What the clicks of a segment do to the inner model."""

    key: Float[Tensor, "heads k f+1"]
    direction: Float[Tensor, "heads k f"]
    pace: Float[Tensor, "heads k 1"]
    """Direction times pace is gradient times learning rate, but for 1 / f."""


class _Block(nn.Module):
    """What `prepare` and `carry` share."""

    turn: Tensor
    cos: Tensor
    sin: Tensor
    gamma: Tensor
    centred: Tensor

    def __init__(self, scn: SCN) -> None:
        super().__init__()
        self.scn, block = scn, scn.block
        f = scn.settings.head_dim
        beside = torch.ones(len(block.cos), 1)
        cos, sin = torch.cat((block.cos, beside), 1), torch.cat((block.sin, 0 * beside), 1)
        self.register_buffer("turn", torch.stack((cos, sin))[:, None])  # (2, 1, K, f + 1)
        # Of the keys' own shape: half the time of a product that spreads over heads, and a sum.
        heads = scn.settings.heads
        self.register_buffer("cos", cos.repeat(heads, 1, 1))
        self.register_buffer("sin", sin.repeat(heads, 1, 1))
        # `HeadNorm.loss_gradient`'s `inner` less its mean: times gamma and centred in one product.
        gamma = block.inner_norm.weight.detach()
        self.register_buffer("gamma", gamma[:, None].repeat(1, len(cos), 1))
        self.register_buffer("centred", gamma.unsqueeze(-1) * (torch.eye(f) - 1 / f))

    def steps(self, keys: Tensor, turned_keys: Tensor, values: Tensor, state: Tensor) -> _Steps:
        """Keys as RoPE turns them, and inner gradients."""
        key = keys * self.cos + turned_keys * self.sin
        before = key @ state
        normal, _, inverse = torch.native_layer_norm(before, before.shape[-1:], None, None, EPS)
        inner = (normal * self.gamma + (key - values)[..., :-1]) @ self.centred
        # The mean of `normal` is 0: what was taken from `inner` does not count here.
        direction = inner - normal * (inner * normal).mean(-1, keepdim=True)
        return _Steps(key, direction, torch.sigmoid(values[..., -1:]) * inverse)


class PrepareGraph(_Block):
    """Views and the carried state to all of a ranking that waits for neither correction nor
    candidates.

    Only the last click's row of `attn` and `b` reaches a score, so only that row is computed.
    """

    reach: Tensor
    scale: Tensor

    def __init__(self, scn: SCN) -> None:
        super().__init__(scn)
        block = scn.block
        self.outputs = ["user"] if _follows(scn) else ["turned_query", "step", "own"]
        self.outputs += ["own_mean", "own_deviation"] if _matched(scn) else []
        if scn.readout is not None and not _follows(scn):
            self.outputs.append("near")
        # How far the step of each click moves the row of the last one.
        scale = block.token_scale().detach()[:, None, None] * block.inner_lr.largest
        self.register_buffer("scale", scale)  # (K, 1, 1)
        self.register_buffer("reach", scale * block.tril.unsqueeze(-1))  # (K, K, 1)
        self.moments = _Moments(scn)

    def forward(
        self,
        hidden: Tensor,
        keys: Tensor,
        turned_keys: Tensor,
        values: Tensor,
        query: Tensor,
        position: Tensor,
        state: Tensor,
    ) -> tuple[Tensor, ...]:
        block, readout = self.scn.block, self.scn.readout
        key, direction, pace = self.steps(keys, turned_keys, values, state)
        past = direction * (pace * _picked(self.reach, position))  # (h, K, f)
        asked = (query * _picked(self.turn, position, axis=2)).sum(0)  # (h, 1, f + 1)
        plain = asked[..., :-1]
        near = [] if readout is None else [_near(readout, hidden, position)]
        if _follows(self.scn):
            output = _left(block, plain, asked @ (state - key.transpose(1, 2) @ past))
            return (self.scn.user_state(_read_out(readout, output, near)),)
        attn = (asked @ key.transpose(1, 2)) * _picked(block.tril, position)
        bias = state[:, -1:] - past.sum(1, keepdim=True)
        step = past
        if not block.mask_correction:
            step = direction * (pace * _picked(self.scale, position))
        start = asked @ state + bias
        own = torch.cat((attn, start), -1)
        moments = self.moments.of(torch.cat((attn, bias), -1)) if _matched(self.scn) else ()
        return plain, step, own, *moments, *near


class RankGraph(nn.Module):
    """What was prepared, a correction and candidates to scores."""

    def __init__(self, scn: SCN) -> None:
        super().__init__()
        self.scn, self.moments = scn, _Moments(scn)

    def forward(
        self,
        item_table: Tensor,
        prepared: dict[str, Tensor],
        correction: Tensor,
        gate: Tensor,
        candidates: Tensor,
    ) -> tuple[Tensor, ...]:
        scn, s = self.scn, self.scn.settings
        items = functional.embedding(candidates, item_table)
        items = items if scn.target is None else scn.target(items)
        corrected, shift = scn.block.corrected, s.fusion == "shift"
        own = prepared["own"]
        if "own_mean" in prepared:
            matched = self.moments.match(
                correction, prepared["own_mean"], prepared["own_deviation"]
            )
            own = own + gate * matched
        attn, start = own.split([s.segment, s.head_dim], dim=-1)
        if shift:
            of_attn, of_user = correction.split([s.segment, s.head_dim], dim=-1)
            attn = attn + gate * of_attn if "attn" in corrected else attn
        output = _left(scn.block, prepared["turned_query"], start - attn @ prepared["step"])
        if "near" in prepared:
            output = _read_out(scn.readout, output, [prepared["near"]])
        user = scn.user_state(output)
        if shift and "bias" in corrected:
            user = user + gate * of_user.reshape(1, -1)
        return _product(user, items), output


class FollowGraph(nn.Module):
    """As `RankGraph`, where all that a correction does is to add to user state and scores."""

    def forward(
        self,
        item_table: Tensor,
        user: Tensor,
        shift: Tensor,
        higher: Tensor,
        lower: Tensor,
        residuals: Tensor,
        candidates: Tensor,
    ) -> Tensor:
        items = functional.embedding(candidates, item_table)
        # A row for each named item: compared the other way it takes three times as long.
        of_item = (candidates == item_numbers(higher, lower)).float()  # (n, N)
        scores = _product(user + shift, items)
        return _operator("Gemm", (residuals, of_item, scores), {}, scores.shape)


class CarryGraph(_Block):
    """A full segment to the carried state of the next one."""

    def forward(self, keys: Tensor, turned_keys: Tensor, values: Tensor, state: Tensor) -> Tensor:
        key, direction, pace = self.steps(keys, turned_keys, values, state)
        block = self.scn.block
        scale = block.token_scale()[-1] * block.inner_lr.largest
        return state - key.transpose(1, 2) @ (direction * (pace * scale))


class _Moments(nn.Module):
    """Eq. 14 for the last click's row of `attn` and of `b` side by side, (h, 1, K + f): what is
    over the one or the other is a product with a matrix of two blocks.

    P or Q is in `mean` and `deviation`; it is 0 for a value that no correction reaches.
    """

    average: Tensor
    centre: Tensor
    variance: Tensor
    share: Tensor

    def __init__(self, scn: SCN) -> None:
        super().__init__()
        block, widths = scn.block, (scn.settings.segment, scn.settings.head_dim)
        shares = {"attn": block.fusion_attn, "bias": block.fusion_bias}
        each = [shares[name].detach() * (name in block.corrected) for name in ("attn", "bias")]
        ones = [torch.ones(width, width) for width in widths]
        average = torch.block_diag(*(part / len(part) for part in ones))
        share = torch.cat([one.expand(width) for one, width in zip(each, widths, strict=True)])
        self.register_buffer("average", average)
        self.register_buffer("centre", torch.eye(sum(widths)) - average)
        # The sample variance; of a single number it is 0.
        self.register_buffer(
            "variance", torch.block_diag(*(part / max(len(part) - 1, 1) for part in ones))
        )
        self.register_buffer("share", share)

    def of(self, own: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and deviation that a correction is to have."""
        return own @ (self.average * self.share), self._deviation(own @ self.centre) * self.share

    def match(self, correction: Tensor, mean: Tensor, deviation: Tensor) -> Tensor:
        """`match_moments`."""
        centred = correction @ self.centre
        return centred * (deviation / (self._deviation(centred) + EPS)) + mean

    def _deviation(self, centred: Tensor) -> Tensor:
        return (centred * centred @ self.variance).sqrt()


def _left(
    block: TTTBlock, query: Float[Tensor, "heads 1 f"], inner: Float[Tensor, "heads 1 f"]
) -> Float[Tensor, "1 dim"]:
    """O of one click, from what the inner model makes of its query."""
    merged = query + _head_norm(block.inner_norm, inner)
    out: Tensor = block.post_norm(merged.view(1, -1)) @ block.output.T
    return out


def _head_norm(norm: HeadNorm, x: Float[Tensor, "heads 1 f"]) -> Float[Tensor, "heads 1 f"]:
    """`HeadNorm` as one operator: ONNX Runtime's LayerNorm takes a weight for each head."""
    parts = x, norm.weight.unsqueeze(1), norm.bias.unsqueeze(1)
    return _operator("LayerNormalization", parts, {"axis": -1, "epsilon": EPS}, x.shape)


def _near(
    readout: Readout, hidden: Float[Tensor, "k dim"], position: Int[Tensor, " 1"]
) -> Float[Tensor, "1 dim"]:
    """The last click and the convolution over the last ones, which a readout adds to O."""
    padded = functional.pad(hidden, (0, 0, REACH - 1, 0))
    rows = padded[position + torch.arange(REACH)]
    weight, bias = readout.convolution.weight.squeeze(1).T, readout.convolution.bias
    assert bias is not None
    return rows[-1:] + functional.silu((rows * weight).sum(0, keepdim=True) + bias)


def _read_out(
    readout: Readout | None, output: Float[Tensor, "1 dim"], near: Sequence[Tensor]
) -> Float[Tensor, "1 dim"]:
    """What becomes of O before it is the user state; `near` is there if there is a readout."""
    return output if readout is None else readout.mlp(readout.mixed(near[0], output))


def _picked(table: Tensor, position: Int[Tensor, " 1"], axis: int = 0) -> Tensor:
    """A table's entry at a place, as one operator."""
    shape = [1 if each == axis else size for each, size in enumerate(table.shape)]
    return _operator("Gather", (table, position), {"axis": axis}, shape)


def _turned(weight: Tensor) -> Tensor:
    """The rows that give `rotate_pairs` of what `weight` gives."""
    return torch.stack((-weight[1::2], weight[0::2]), dim=1).flatten(0, 1)


def _product(user: Float[Tensor, "1 dim"], items: Float[Tensor, "n dim"]) -> Float[Tensor, "1 n"]:
    """Scores in a row: as a column, or by a vector, ONNX Runtime takes longer."""
    return _operator("Gemm", (user, items), {"transB": 1}, (1, items.shape[0]))


def _operator(
    kind: str, inputs: Sequence[Tensor], attributes: dict[str, Any], shape: Sequence[int]
) -> Tensor:
    """An operator of ONNX by its name, of the first input's type."""
    out: Tensor = torch.onnx.ops.symbolic(
        kind, inputs, attributes, dtype=inputs[0].dtype, shape=shape, version=OPSET
    )
    return out


def _follows(scn: SCN) -> bool:
    """Whether a correction only adds to user state and scores: then the block has done before it
    comes."""
    return scn.settings.gcn == "projected"


def _matched(scn: SCN) -> bool:
    """Whether Eq. 14 fits a correction to the inner values."""
    return scn.settings.fusion == "moments" and bool(scn.block.corrected)


def export_device_graphs(scn: SCN) -> dict[str, bytes]:
    """The device's graphs: `hidden`, `views`, `prepare`, `rank` and `carry`, as ONNX bytes."""
    s = scn.settings
    k, d, h, f = s.segment, s.dim, s.heads, s.head_dim
    table = torch.zeros(scn.items + 1, d)
    rows = {0: torch.export.Dim("items", min=2)}
    some = {0: torch.export.Dim("candidates", min=1)}
    any_clicks = {0: torch.export.Dim("clicks", min=1)}
    scn = scn.eval().cpu()
    prepare = PrepareGraph(scn)
    state = torch.zeros(h, f + 1, f)
    segment = {name: torch.zeros(h, k, f + 1) for name in SEGMENT_VIEWS}
    before = {
        "hidden": torch.zeros(k, d),
        **segment,
        "query": torch.zeros(2, h, 1, f + 1),
        "position": torch.tensor([k - 1]),
        "state": state,
    }
    graphs = {
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
        "carry": export_module(CarryGraph(scn), segment | {"state": state}, ["next_state"], {}),
    }
    listed = {"item_table": rows, "candidates": some}
    candidates = torch.zeros(7, dtype=torch.int64)
    if _follows(scn):
        digits = torch.zeros(s.named_items, 1)
        graphs["rank"] = export_module(
            FollowGraph(),
            {
                "item_table": table,
                "user": torch.zeros(1, d),
                "shift": torch.zeros(1, d),
                "higher": digits,
                "lower": digits.clone(),
                "residuals": digits.T,
                "candidates": candidates,
            },
            ["scores"],
            listed,
        )
        return graphs
    with torch.no_grad():
        prepared = dict(zip(prepare.outputs, prepare(**before), strict=True))
    graphs["rank"] = export_module(
        RankGraph(scn),
        {
            "item_table": table,
            "prepared": prepared,
            "correction": torch.zeros(h, 1, k + f),
            "gate": torch.tensor(0.0),
            "candidates": candidates,
        },
        ["scores", "block_output"],
        listed | {"prepared": dict.fromkeys(prepared)},
    )
    return graphs
