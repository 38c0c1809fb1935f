"""The ONNX graphs of the device.

They take the item table as an input, so that the one table on disk is mapped into memory once and
shared by them. They know no batch: a device serves one user.

hidden   item_table (V+1, D), clicks (n,) -> hidden (n, D)
views    hidden (n, D) -> views (n, 5D + h)
prepare  hidden and views of a segment (K, 5D + h), position (), inner_weight (h, f, f),
         inner_bias (h, 1, f)
         -> query (h, 1, f), step (h, K, f), own_attn (h, 1, K), start (h, 1, f),
         attn_mean, attn_deviation, bias_mean, bias_deviation (h, 1, 1)
rank     item_table, what was prepared, attn (h, 1, K), bias (h, 1, f), gate (), candidates (N,)
         -> scores (N,), block_output (1, D)
carry    views of a segment, inner_weight, inner_bias -> next_weight, next_bias

`views` is a click's H through the block's matrices, which does not depend on its place in the
segment: a device computes it once a click and keeps it while the click counts. Rows of padding are
zero. `position` is the place of the last click in the segment (from 0). `gate` is 1 with a
correction and 0 without, which gives the uncorrected scores to the last bit.

What `prepare` computes, a device computes while the correction is on its way. Means and deviations
are there where Eq. 14 is, times P and Q; where there is a readout, what it adds to O is there too,
`near` (1, D). A projected GCN shifts the user state and adds to the scores of the items it names:
all that is prepared is `user` (1, D), and `rank` gives scores alone.

Everything is here once more that `TTTBlock` does for many rows, for one row and in as few operators
as ONNX Runtime has for it: it is they that take the time, not the arithmetic.
"""

from collections.abc import Sequence

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional

from cloud_service.export.graphs import export_module
from cloud_service.models.projected import named
from cloud_service.models.scn import REACH, SCN, Readout
from cloud_service.models.ttt import EPS, State, Terms, TTTBlock

_MOMENTS = "mean", "deviation"


class HiddenGraph(nn.Module):
    """Clicks to their rows of H."""

    def __init__(self, scn: SCN) -> None:
        super().__init__()
        self.input_norm = scn.input_norm

    def forward(self, item_table: Tensor, clicks: Tensor) -> Tensor:
        out: Tensor = self.input_norm(functional.embedding(clicks, item_table))
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

    rope: Tensor
    reach: Tensor

    def __init__(self, scn: SCN) -> None:
        super().__init__()
        self.scn, block = scn, scn.block
        self.outputs = ["user"] if _follows(scn) else ["query", "step", "own_attn", "start"]
        self.outputs += [f"{value}_{each}" for value in _matched(scn) for each in _MOMENTS]
        if scn.readout is not None and not _follows(scn):
            self.outputs.append("near")
        self.register_buffer("rope", torch.stack((block.cos, block.sin), 1)[:, :, None, None])
        # How far the step of each click moves the row of the last one.
        scale = block.token_scale().detach().unsqueeze(1)
        self.register_buffer("reach", (scale * block.tril).unsqueeze(-1))  # (K, K, 1)

    def forward(
        self,
        hidden: Tensor,
        views: Tensor,
        position: Tensor,
        inner_weight: Tensor,
        inner_bias: Tensor,
    ) -> tuple[Tensor, ...]:
        block, readout = self.scn.block, self.scn.readout
        state = State(inner_weight, inner_bias)
        key, gradient, rate, queries = _terms(block, views, state)
        turned = queries[position].unflatten(0, (2, block.heads, 1, -1))
        query = (turned * self.rope[position]).sum(0)  # (h, 1, f)
        past = self.reach[position] * rate * gradient  # (h, K, f)
        attn = query @ key.transpose(1, 2)  # (h, 1, K)
        start = query @ state.weight
        near = [] if readout is None else [_near(readout, hidden, position)]
        if _follows(self.scn):
            # b's own sum over the steps is that of `attn` with ones in its place.
            output = _left(block, query, start + state.bias - (attn + 1) @ past)
            return (self.scn.user_state(_read_out(readout, output, near)),)
        own_attn = attn * block.tril[position]
        own_bias = state.bias - past.sum(1, keepdim=True)
        step = past
        if not block.mask_correction:
            step = block.token_scale()[position] * rate * gradient
        own = {"attn": (own_attn, block.fusion_attn), "bias": (own_bias, block.fusion_bias)}
        moments = [part for value in _matched(self.scn) for part in _moments(*own[value])]
        return query, step, own_attn, start + own_bias, *moments, *near


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
        scn = self.scn
        items = functional.embedding(candidates, item_table)
        items = items if scn.target is None else scn.target(items)
        if _follows(scn):
            user = prepared["user"] + gate * bias.view(1, -1)
            best, residuals = named(attn.view(-1))
            # A row for each named item: compared the other way it takes three times as long.
            of_item = (candidates == best.unsqueeze(1)).float()  # (named, N)
            added = (gate * residuals).view(1, -1) @ of_item
            return ((_product(items, user) + added).squeeze(0),)
        own_attn, start = prepared["own_attn"], prepared["start"]
        if "attn_mean" in prepared:
            matched = _match(attn, prepared["attn_mean"], prepared["attn_deviation"])
            own_attn = own_attn + gate * matched
        elif "attn" in scn.block.corrected and scn.settings.fusion == "shift":
            own_attn = own_attn + gate * attn
        if "bias_mean" in prepared:
            matched = _match(bias, prepared["bias_mean"], prepared["bias_deviation"])
            start = start + gate * matched
        output = _left(scn.block, prepared["query"], start - own_attn @ prepared["step"])
        if "near" in prepared:
            output = _read_out(scn.readout, output, [prepared["near"]])
        user = scn.user_state(output)
        if "bias" in scn.block.corrected and scn.settings.fusion == "shift":
            user = user + gate * bias.view(1, -1)
        return _product(items, user), output


class CarryGraph(nn.Module):
    """A full segment to the carried state of the next one."""

    def __init__(self, scn: SCN) -> None:
        super().__init__()
        self.block = scn.block

    def forward(
        self, views: Tensor, inner_weight: Tensor, inner_bias: Tensor
    ) -> tuple[Tensor, Tensor]:
        state = State(inner_weight, inner_bias)
        key, gradient, rate, _ = _terms(self.block, views, state)
        weight, bias = self.block.carry(Terms(key, key, gradient, rate.squeeze(-1)), state)
        return weight, bias


def _terms(block: TTTBlock, views: Tensor, state: State) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """`TTTBlock.terms`: keys and gradients (h, K, f), learning rates (h, K, 1), and of the queries
    what they are made of (K, 2D).
    """
    d, heads, norm = block.key.shape[0], block.heads, block.inner_norm
    plain, turned, value, queries, gate = views.split([d, d, d, 2 * d, heads], dim=1)
    keys = plain * block.cos.repeat(1, heads) + turned * block.sin.repeat(1, heads)
    missing, key = (x.unflatten(1, (heads, -1)).transpose(0, 1) for x in (keys - value, keys))
    # `HeadNorm.loss_gradient`, from a LayerNorm that gives one over the deviation too.
    before = key @ state.weight + state.bias
    normal, _, inverse = torch.native_layer_norm(before, before.shape[-1:], None, None, EPS)
    gamma, beta = norm.weight.unsqueeze(1), norm.bias.unsqueeze(1)
    inner = (normal * gamma + (missing + beta)) * gamma
    projection = (inner * normal).mean(-1, keepdim=True)
    gradient = (inner - inner.mean(-1, keepdim=True) - normal * projection) * inverse
    return key, gradient, block.inner_lr.rate(gate).unsqueeze(-1), queries


def _left(
    block: TTTBlock, query: Float[Tensor, "heads 1 f"], inner: Float[Tensor, "heads 1 f"]
) -> Float[Tensor, "1 dim"]:
    """O of one click, from what the inner model makes of its query."""
    merged = query + block.inner_norm(inner)
    out: Tensor = block.post_norm(merged.view(1, -1)) @ block.output.T
    return out


def _near(
    readout: Readout, hidden: Float[Tensor, "k dim"], position: Int[Tensor, ""]
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


def _moments(value: Tensor, share: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and deviation (h, 1, 1) that Eq. 14 gives to a value's correction, times P or Q."""
    mean = value.mean(-1, keepdim=True)
    return mean * share, _deviation(value - mean, share)


def _match(correction: Tensor, mean: Tensor, deviation: Tensor) -> Tensor:
    """`match_moments` with moments worked out before."""
    centred = correction - correction.mean(-1, keepdim=True)
    return centred * (deviation / (_deviation(centred) + EPS)) + mean


def _deviation(centred: Tensor, share: Tensor | float = 1.0) -> Tensor:
    """A share of the sample deviation along the last axis; of a single number 0."""
    scale = share * max(centred.shape[-1] - 1, 1) ** -0.5
    return torch.linalg.vector_norm(centred, dim=-1, keepdim=True) * scale


def _turned(weight: Tensor) -> Tensor:
    """The rows that give `rotate_pairs` of what `weight` gives."""
    return torch.stack((-weight[1::2], weight[0::2]), dim=1).flatten(0, 1)


def _product(items: Float[Tensor, "n dim"], user: Float[Tensor, "1 dim"]) -> Float[Tensor, " n"]:
    """ONNX Runtime multiplies by a vector six times as slowly as by a matrix of one column."""
    return (items @ user.view(-1, 1)).squeeze(1)


def _follows(scn: SCN) -> bool:
    """Whether a correction only adds to user state and scores: then the block has done before it
    comes."""
    return scn.settings.gcn == "projected"


def _matched(scn: SCN) -> list[str]:
    """The inner values that Eq. 14 corrects."""
    moments = scn.settings.fusion == "moments"
    return [value for value in ("attn", "bias") if moments and value in scn.block.corrected]


def export_device_graphs(scn: SCN) -> dict[str, bytes]:
    """The device's graphs: `hidden`, `views`, `prepare`, `rank` and `carry`, as ONNX bytes."""
    s = scn.settings
    k, d, h, f = s.segment, s.dim, s.heads, s.head_dim
    table = torch.zeros(scn.items + 1, d)
    views = torch.zeros(k, s.views_width)
    weight, inner_bias = torch.zeros(h, f, f), torch.zeros(h, 1, f)
    rows = {0: torch.export.Dim("items", min=2)}
    some = {0: torch.export.Dim("candidates", min=1)}
    any_clicks = {0: torch.export.Dim("clicks", min=1)}
    scn = scn.eval().cpu()
    prepare = PrepareGraph(scn)
    before = {
        "hidden": torch.zeros(k, d),
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
                "attn": torch.zeros(h, 1, k),
                "bias": torch.zeros(h, 1, f),
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
